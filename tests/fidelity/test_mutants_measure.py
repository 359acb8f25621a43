"""What a scorecard holds by default, the red line of copies, and that every section is its probe's own."""

from __future__ import annotations

from dataclasses import replace

import factories
import pytest
from twenty_prompts import ASKED, LIKELIER, PERFECT, SHORTCUTS, TRAIN, measured

from sft.demonstrations import conflicts
from sft.demonstrations.demonstration import held_out
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.probes import (
    calibration,
    corpus,
    expert_path,
    experts,
    forgetting,
    giveaways,
    impostors,
    knowledge_gaps,
    manner,
    memorisation,
    underachieving,
)
from sft.fidelity.score_table import ScoreTable, score_rows
from sft.runs.records import Completion


@pytest.mark.parametrize("profile", ["fast", "standard"])
def test_only_the_full_profile_measures_corpus_figures_and_the_others_say_how(profile: str) -> None:
    card = measured(PERFECT, profile=profile)
    assert not card.corpus and "--full" in card.absent["corpus"]
    assert (card.profile, card.looks, card.split) == (profile, 0, "test")


@pytest.mark.parametrize(("copies", "state"), [(0, "green"), (1, "amber"), (12, "red")])
def test_copies_are_red_where_they_are_more_than_the_experts_own_and_than_chance(copies: int, state: str) -> None:
    """One copy among 80 may be luck, which is not settled; twelve are not.

    The limit is what the held-out experts repeat: nothing here, where training has the words the other way round."""
    learned = [replace(row, completion=" ".join(reversed(row.completion.split()))) for row in TRAIN]
    tuned = PERFECT | {
        item.id: Completion(item.id, row.completion, True)
        for item, row in zip(ASKED[:copies], learned[:copies], strict=True)
    }
    seen = Observations(ASKED, {"tuned": tuned, **SHORTCUTS}, LIKELIER, train=learned)
    (guardrail,) = [g for g in measure(seen).guardrails if g.name == "verbatim copies"]
    assert (guardrail.value.value, guardrail.limit, guardrail.state) == (pytest.approx(copies / 80), 0.0, state)
    assert (guardrail.settled_by is not None) is (state == "amber")


def test_every_section_is_what_its_probe_finds_in_the_same_observations() -> None:
    """A clone of which everything was observed, by two experts a prompt: nothing is absent, mixed up or left behind."""
    rows = [factories.demonstration(number) for number in range(240)]
    asked, train = factories.answered_twice(held_out(rows[:110]), 0), rows[110:]
    seen = factories.observations(asked, train, factories.written(asked, train, 0), 0)
    card = measure(replace(seen, profile="full", signature={"decoding": "greedy"}, seed=3))
    systems, clusters = seen.completions, {item.id: item.cluster for item in asked}
    figures, signatures = corpus.corpus(asked, {s: systems[s] for s in ("tuned", "B0", "B3")}, seed=3)
    assert card.absent == {} and card.corpus == figures
    assert signatures.items() <= card.signature["metrics"].items() and card.signature["decoding"] == "greedy"
    assert card.manner == manner.manner(asked, systems, seed=3)
    assert card.experts == experts.named(asked, systems["tuned"], seed=3)
    assert card.conflicts == conflicts.conflicts(train, "keep", seed=3)
    assert card.prefix == expert_path.prefix(asked, seen.forced, systems)
    assert card.self_agreement == manner.self_agreement(asked, seen.samples, seed=3)
    told_apart = {"sampled": seen.samples[0], "greedy": systems["tuned"], "base": systems["B0"]}
    assert card.impostor == impostors.impostors(asked, told_apart, seed=3)
    assert card.giveaways == giveaways.giveaways(asked, told_apart, card.impostor, seed=3) and card.giveaways["base"]
    sure = {s: calibration.calibration(clusters, seen.token_scores[s], seed=3) for s in ("tuned", "B0")}
    assert card.calibration == sure | {"own": calibration.own(clusters, seen.own_path, seed=3)}
    assert card.memorisation == memorisation.memorisation(asked, systems["tuned"], train, seed=3)
    assert card.gaps == knowledge_gaps.knowledge_gaps(seen.prompt_values, train, seed=3)
    right = ScoreTable(asked, score_rows(asked, systems, seen.scoring), seen.scoring).right()
    assert card.underachieving == underachieving.underachieving(asked, systems, seen.checker, right, clusters)
    assert {part.saved is None for part in card.strata} == {False} and card.closure is not None
    assert set(card.lengths) == {"expert", *systems} and len(card.lengths["tuned"]) == 110
    assert [s.system for s in card.systems] == ["tuned", "B0", "B3", "R", "K", "P", "E"]
    # The red line is the worst of the control texts.
    assert card.forgetting == forgetting.forgetting(seen.control)
    essays, weather = card.forgetting
    lines = {guardrail.name: guardrail for guardrail in card.guardrails}
    assert list(lines) == [
        "not stopping",
        "empty",
        "unscored",
        "contamination",
        "verbatim copies",
        "length",
        "forgetting",
    ]
    assert lines["forgetting"].value == weather.rise and weather.rise.value > essays.rise.value
    assert "weather.txt" in lines["forgetting"].meaning and lines["contamination"].value.value == 0


def test_what_was_not_observed_is_absent_with_a_reason_and_nothing_stands_in_for_it() -> None:
    card = measured(PERFECT)
    sections = ["closure", "memorisation", "forgetting", "impostor", "gaps", "prefix", "corpus", "conflicts"]
    sections += [
        "self_agreement",
        "calibration of tuned",
        "calibration of B0",
        "underachieving",
        "experts",
        "compounding",
        "own_words",
    ]
    assert set(card.absent) == set(sections) and all(card.absent.values())
    assert (card.forgetting, card.impostor, card.prefix, card.corpus, card.experts) == ((), {}, {}, {}, ())
    assert (card.calibration, card.self_agreement, card.closure, card.memorisation) == ({}, {}, None, None)
    assert (card.gaps, card.underachieving, card.conflicts) == (None, None, None)
    assert [guardrail.name for guardrail in card.guardrails] == ["not stopping", "empty", "unscored", "length"]
    unmeasured = measured(PERFECT, {})
    assert not any("calibration" in section for section in unmeasured.absent)
    assert {part.saved for part in unmeasured.strata} == {None}


def test_what_was_observed_and_asked_for_is_said_by_name() -> None:
    """A bar that slips into the place of a signature would be written down, and judge nothing."""
    with pytest.raises(TypeError, match="positional"):
        Observations(ASKED, {"tuned": PERFECT, **SHORTCUTS}, {}, {"chrf": 50})  # type: ignore[misc]
