"""A guardrail is written in one way wherever it is shown: in the verdict, the report, the terminal and the card."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_run
from known_scorecards import judged, known, planted

from sft.fidelity.conventions import GUARDRAIL_LIMITS, LENGTH_LIMITS
from sft.fidelity.guardrails import (
    LENGTH,
    VERBATIM,
    prompts_to_settle,
    settled_in_words,
    state_of,
    unseen,
    written,
)
from sft.fidelity.scorecard import RUNGS, Guardrail, Scorecard
from sft.fidelity.stored import read_scorecard
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.publishing.card_facts import tables
from sft.reports.report import render
from sft.reports.terminal import to_text
from sft.runs.run import Run, write_json

RAILS = (
    (Guardrail("empty", known(0.125, 0.1, 0.15), 0.01, "red", "no word"), "12.5 % [10.0, 15.0]", "1 %"),
    (Guardrail(VERBATIM, known(0.02, 0.01, 0.03), 0.005, "red", "word for word"), "2.0 % [1.0, 3.0]", "0.5 %"),
    (Guardrail("wordiness", known(2.5, 2.0, 3.0), 2.0, "red", "words for one"), "2.500 [2.000, 3.000]", "2"),
)


@pytest.mark.parametrize(("rail", "measured", "limit"), RAILS, ids=["share", "copies", "not ours"])
def test_value_and_limit_are_in_one_unit(rail: Guardrail, measured: str, limit: str) -> None:
    assert written(rail) == (measured, limit)
    (reason,) = (said for said in judged(planted(guardrails=(rail,))).reasons if said.startswith(rail.name))
    assert reason == f"{rail.name}: {measured}, the limit is {limit}; {rail.meaning}"


def test_wherever_a_guardrail_is_shown_it_is_the_same(tmp_path: Path) -> None:
    """A limit of half a per cent was "0%" in the verdict, and one that is no share was a share in the terminal."""
    run = make_run(tmp_path / "run", prompts=40)
    card: Scorecard = read_scorecard(run)
    with Run.open(run.path, writing=True) as one:
        write_json(one.scorecard_path, card.to_dict() | {"guardrails": [planted_rail(rail) for rail, _, _ in RAILS]})
        one.update_manifest(files={})
    render(Run.open(run.path))
    report, card = run.report_md_path.read_text(encoding="utf-8"), read_scorecard(Run.open(run.path))
    (rows,) = (table.rows for table in tables(card) if table.title == "Guardrails")
    for (rail, measured, limit), row in zip(RAILS, rows, strict=True):
        assert row[1:3] == (measured, limit)
        assert f"red: {rail.name} {measured}; " in to_text(card)
        assert f"| over the limit | {measured} | {limit}" in report.replace("\\", "")


def planted_rail(rail: Guardrail) -> dict[str, object]:
    return planted(guardrails=(rail,)).to_dict()["guardrails"][0]


@pytest.mark.parametrize("name", GUARDRAIL_LIMITS)
def test_an_interval_that_ends_at_the_limit_is_not_beyond_it(name: str) -> None:
    limit = GUARDRAIL_LIMITS[name]
    assert state_of(known(2 * limit, limit + 1e-9, 3 * limit), limit) == "red"
    assert state_of(known(2 * limit, limit, 3 * limit), limit) == "amber"
    assert state_of(known(limit / 2, 0, limit), limit) == "green"
    assert state_of(known(limit / 2, 0, limit + 1e-9), limit) == "amber"
    assert state_of(Estimate(3 * limit, None, None, 0.95, "no interval: one cluster only", 100), limit) == "amber"


def test_a_length_has_a_limit_on_either_side() -> None:
    least, most = LENGTH_LIMITS
    states = [state_of(known(v, v - 0.05, v + 0.05), most, least) for v in (0.61, 0.78, 1.0, 1.24, 1.4)]
    assert states == ["red", "amber", "green", "amber", "red"]
    rail = Guardrail(LENGTH, known(0.61, 0.55, 0.67), most, "red", "characters", least, caps=False)
    assert written(rail) == ("0.61 [0.55, 0.67]", "0.8 to 1.25")


def test_a_red_length_is_said_and_caps_no_rung_but_the_top_one() -> None:
    """A lead in chrF pays for a wrong length already; a text two fifths too short can still be the expert's manner."""
    least, most = LENGTH_LIMITS
    rail = Guardrail(LENGTH, known(0.61, 0.55, 0.67), most, "red", "characters", least, caps=False)
    verdict = judged(planted(guardrails=(rail,), closure=None))
    assert verdict.rung == "learned from the demonstrations"
    assert verdict.sentence.endswith("Beyond its limits: length, 0.61 [0.55, 0.67].")
    assert any(reason.startswith("length: 0.61 [0.55, 0.67], the limit is 0.8 to 1.25") for reason in verdict.reasons)


def test_eight_of_150_that_do_not_stop_take_no_clone_down() -> None:
    """5.3 % [2.7, 10.2] against a limit of 5 % took a clone that was far ahead down to "imitates"."""
    value = intervals.wilson(8, 150)
    settled = prompts_to_settle(value, 0.05, share=True)
    rail = Guardrail("not stopping", value, 0.05, state_of(value, 0.05), "cut at the limit", settled_by=settled)
    verdict = judged(planted(guardrails=(rail,), closure=None))
    assert rail.state == "amber" and verdict.rung == "learned from the demonstrations"
    assert "Not settled by these prompts: not stopping (about 16,000 prompts would settle it)." in verdict.sentence
    assert any("5.3 % [2.7, 10.2], the limit is 5 %; not settled" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("hits", "n", "limit"), [(0, 100, 0.01), (0, 30, 0.05), (1, 30, 0.05), (8, 100, 0.05)])
def test_so_many_prompts_settle_a_rate_that_stays_what_it_is(hits: int, n: int, limit: float) -> None:
    """The number printed puts the interval on one side; a twentieth fewer does not."""
    needed = prompts_to_settle(intervals.wilson(hits, n), limit, share=True)
    assert needed is not None
    for number, states in ((needed, {"red", "green"}), (0.95 * needed, {"amber"})):
        assert state_of(intervals.wilson(hits / n * number, number), limit) in states


def test_clusters_and_other_figures_need_as_many_times_the_prompts_as_their_width_says() -> None:
    flags = [1.0] * 4 + [0.0] * 76
    alone = prompts_to_settle(estimates.share(flags, range(80)), 0.04, share=True)
    four = prompts_to_settle(estimates.share(flags, [i // 4 for i in range(80)]), 0.04, share=True)
    assert alone is not None and four is not None and 3 * alone < four < 6 * alone
    assert prompts_to_settle(known(0.9, 0.7, 1.1, 100), 0.8, share=False) == 400
    assert prompts_to_settle(known(0.05, 0.02, 0.1, 100), 0.05, share=True) is None
    assert prompts_to_settle(Estimate(0.1, None, None, 0.95, "", 9), 0.05, share=True) is None


def rates(share: float, n: int, limit: float, draws: int = 400) -> dict[str, float]:
    """How often each state comes out for a clone whose true rate is ``share``."""
    draw = random.Random(f"{share} {n}")
    states = [state_of(intervals.wilson(sum(draw.random() < share for _ in range(n)), n), limit) for _ in range(draws)]
    return {state: states.count(state) / draws for state in ("red", "amber", "green")}


@pytest.mark.parametrize("n", [30, 100, 300])
def test_planted_rates_at_below_and_above_the_limit(n: int) -> None:
    """A clone at the limit is accused in 2.5 % of the sets (Wilson's error is not quite even: up to 5), one far below
    it hardly ever, one far above it nearly always; none is shown to be inside that is not."""
    at, above = rates(0.05, n, 0.05), rates(0.15, n, 0.05)
    assert at["red"] <= 0.06 and at["green"] <= 0.06
    assert rates(0.01, n, 0.05)["red"] == 0 and above["green"] == 0
    assert above["red"] > {30: 0.25, 100: 0.85, 300: 0.99}[n]
    assert rates(0.0, n, 0.05)["green"] == (0 if n == 30 else 1)


def test_what_is_not_settled_stands_in_every_place_and_caps_nothing() -> None:
    rail = Guardrail("empty", intervals.wilson(2, 100), 0.01, "amber", "no word", settled_by=381)
    card = planted(guardrails=(rail,), closure=None)
    card = replace(card, verdict=judged(card))
    assert card.verdict.rung == RUNGS[2] and "Not settled by these prompts: empty" in card.verdict.sentence
    assert "not settled: empty 2.0 % [0.6, 7.0], the limit is 1 %; about 380 prompts would settle it" in to_text(card)
    (rows,) = (table.rows for table in tables(card) if table.title == "Guardrails")
    assert rows[0][3] == "not settled"


def test_a_fault_that_was_never_seen_stands_in_its_row_alone() -> None:
    """No 200 prompts show that fewer than 1 % of a clone's completions are empty: the verdict of most runs warned of
    what nobody had seen."""
    value = intervals.wilson(0, 200)
    settled = prompts_to_settle(value, 0.01, share=True)
    rail = Guardrail("empty", value, 0.01, state_of(value, 0.01), "no word", settled_by=settled)
    card = planted(guardrails=(rail,), closure=None)
    card = replace(card, verdict=judged(card))
    assert rail.state == "amber" and unseen(rail) and card.verdict.rung == RUNGS[2]
    assert "ettled" not in card.verdict.sentence and "empty" not in " ".join(card.verdict.reasons)
    assert "empty" not in to_text(card)
    (rows,) = (table.rows for table in tables(card) if table.title == "Guardrails")
    assert rows[0][3] == "none seen"
    assert settled_in_words(rail) == "up to 1.9 % could be hidden here; about 380 prompts without one rule it out"


@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_clone_is_told_of_empty_completions_where_there_are_some(n: int) -> None:
    """Nothing is said of a clone that leaves none empty; of one far above the limit something is, red or not settled,
    unless so few prompts show none of them."""

    def said(share: float, draws: int = 200) -> float:
        draw, heads = random.Random(f"{share} {n}"), 0
        for _ in range(draws):
            value = intervals.wilson(sum(draw.random() < share for _ in range(n)), n)
            rail = Guardrail("empty", value, 0.01, state_of(value, 0.01), "no word")
            heads += "empty" in " ".join(judged(planted(guardrails=(rail,), closure=None)).reasons)
        return heads / draws

    assert said(0) == 0
    assert said(0.001) < {30: 0.07, 100: 0.15, 300: 0.35}[n]
    assert said(0.03) > {30: 0.5, 100: 0.9, 300: 0.99}[n] and said(0.1) > 0.9


def old(rails: Sequence[dict[str, object]]) -> Scorecard:
    return Scorecard.from_dict(planted().to_dict() | {"guardrails": list(rails)})


def test_a_guardrail_of_an_older_scorecard_is_read_as_it_was_judged() -> None:
    rail = {"name": "empty", "value": planted().to_dict()["gain"]["estimate"], "limit": 0.01, "meaning": "no word"}
    card = old([rail | {"red": True}, rail | {"red": False}])
    assert [one.state for one in card.guardrails] == ["red", "green"]
    assert all(one.caps and one.least is None for one in card.guardrails)
    with pytest.raises(ValueError, match="state"):
        old([rail | {"red": "perhaps"}])
