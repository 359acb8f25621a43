"""What rests on few prompts stands in no head: "29.6 % of the way closed" came from 4 prompts with two answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import factories
import pytest
from known_scorecards import closure, judged, known, planted

from sft.demonstrations.demonstration import HeldOut, held_out
from sft.fidelity import floors
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.scorecard import Scorecard, SystemScores
from sft.fidelity.stored import read_scorecard
from sft.metrics.estimate import Estimate
from sft.publishing.card_facts import picture, tables
from sft.reports.report import render
from sft.reports.sections import compounding, experts, systems
from sft.reports.terminal import to_text
from sft.runs.records import Completion
from sft.runs.run import Run, write_json


def answered_twice(n: int) -> Scorecard:
    """150 prompts of 40 words, ``n`` of them answered by a second expert, and a clone of the first who drops words."""
    train = [factories.demonstration(number) for number in range(200, 204)]
    items = [replace(item, cluster=item.id) for item in held_out(map(factories.demonstration, range(150)))]
    asked = [*map(second, items[:n]), *items[n:]]
    tuned = {i.id: Completion(i.id, " ".join(i.references[0].split()[:-1]), True) for i in asked}
    return measure(Observations(asked, {"tuned": tuned, **floors.floor_completions(train, asked)}, {}, train=train))


def second(item: HeldOut) -> HeldOut:
    other = f"{item.references[0]} So they say."
    return replace(item, references=(item.references[0], other), experts=("Ann", "Bob"))


def heads(card: Scorecard, folder: Path) -> dict[str, str]:
    """Everything before the sections: of the report, the terminal and the card."""
    run = factories.make_run(folder / "run", prompts=40)
    with Run.open(run.path, writing=True) as one:
        write_json(one.scorecard_path, card.to_dict())
        one.update_manifest(files={})
    render(Run.open(run.path))
    report = run.report_md_path.read_text(encoding="utf-8").partition("## How close does it come?")[0]
    verdict = read_scorecard(Run.open(run.path)).verdict
    said = " ".join((verdict.sentence, verdict.shortfall, *verdict.reasons, verdict.next_step))
    (lead,) = (table.note for table in tables(card) if "lead" in table.title)
    return {"report": report, "terminal": f"{to_text(card)} {said}", "card": f"{picture(card)} {lead} {said}"}


@pytest.mark.parametrize("n", [4, 29])
def test_below_thirty_prompts_with_two_answers_it_is_too_few_to_say(n: int, tmp_path: Path) -> None:
    card = answered_twice(n)
    assert card.closure is not None and card.closure.expert.n == n
    share, expert = f"{100 * card.closure.share.value:.1f} %", f"{card.closure.expert.value:.1f}"
    for place, head in heads(card, tmp_path).items():
        assert "too few to say" in head, place
        assert share not in head and f" {expert} [" not in head and "not cloned" not in head, place
    assert experts.closure_sentence(card.closure, "chrF").startswith(
        f"Too few prompts ({n}) were answered by two experts"
    )
    assert share.removesuffix(" %") in experts.closure_sentence(card.closure, "chrF")


@pytest.mark.parametrize("n", [30, 100])
def test_from_thirty_on_it_stands_there(n: int, tmp_path: Path) -> None:
    card = answered_twice(n)
    assert card.closure is not None
    expert = f"{card.closure.expert.value:.1f}"
    found = heads(card, tmp_path)
    assert not any("too few to say" in head for head in found.values())
    assert "of the way closed" in found["report"] and expert in found["terminal"] and expert in found["card"]


@pytest.mark.parametrize("n, shown", [(2, False), (29, False), (30, True)])
def test_few_prompts_with_two_answers_are_not_drawn(n: int, shown: bool) -> None:
    """The bar of two such prompts went from 0 to 98, and every other system was a dot beside it."""
    card = answered_twice(n)
    drawings = dict(systems.pictures(card))
    assert ("another expert" in drawings["systems"]) is shown and "the clone" in drawings["systems"]
    assert ("closure" in dict(experts.pictures(card))) is shown


@pytest.mark.parametrize("n, shown", [(2, False), (60, True)])
def test_of_few_prompts_no_thirds_are_shown(n: int, shown: bool) -> None:
    """Below the sentence that two prompts cannot say it stood "84.2 % [-270.1, 1869.3]"."""
    card = answered_twice(n)
    assert card.compounding is not None and (card.compounding.n >= compounding.FEW) is shown
    assert ("compounding" in dict(compounding.pictures(card))) is shown
    part = compounding.compounding_part(card)
    assert bool(part.grids) is shown and (part.meanings[0].endswith("; 30 are needed.")) is not shown


def test_what_four_prompts_decided_is_neither_a_shortfall_nor_a_reason_nor_an_advice() -> None:
    few = replace(closure("not cloned"), expert=known(57.4, 13.8, 100, 4))
    verdict = judged(planted(closure=few, systems=(SystemScores("tuned", {"chrf": known(43, 42, 44, 5)}),)))
    assert verdict.shortfall == "" and "47 %" not in " ".join(verdict.reasons)
    assert verdict.next_step.startswith(
        "have a second expert answer more of the held-out prompts: 4 were answered by two"
    )
    unbounded = replace(few, share=Estimate(0.3, None, None, 0.95, "no bounded interval", 4))
    assert "settle on one expert" not in judged(planted(closure=unbounded)).next_step


def test_the_length_stands_in_the_head(tmp_path: Path) -> None:
    found = heads(answered_twice(0), tmp_path)["report"]
    assert "| length | 0." in found and "characters written for each of the expert's" in found
