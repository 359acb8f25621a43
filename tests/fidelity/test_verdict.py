"""The ladder, rung by rung: each part of a rung is needed, and what is missing is said with its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from known_scorecards import ALL, TUNED, closure, judged, known, planted

from sft.fidelity.advice import next_step
from sft.fidelity.conventions import FLOORS
from sft.fidelity.findings import FromStart, KnowledgeGaps, Stratum
from sft.fidelity.scorecard import COMPLETIONS_ALONE, RUNGS, Guardrail, Scorecard
from sft.metrics.estimate import Estimate

NOTHING, IMITATES, LEARNED, MEETS, CLONED = RUNGS


def test_everything_shown_is_cloned() -> None:
    verdict = judged(ALL)
    assert verdict.rung == CLONED and verdict.reasons == () and verdict.shortfall == ""
    assert "93 % [85, 101] is closed" in verdict.sentence and "AUC 0.53 [0.49, 0.57]" in verdict.sentence
    assert verdict.sentence.endswith("Nothing here was checked for being true.")
    assert verdict.next_step.startswith("hand it on")


def test_what_was_checked_for_being_right_is_said() -> None:
    verdict = judged(replace(ALL, checked=known(-1.0, -4.0, 2.0)))
    assert verdict.rung == CLONED
    assert (
        "finds it right as often as another expert, within 5 points of a hundred (-1.0 [-4.0, 2.0])" in verdict.sentence
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"closure": closure("cloned", n=249)}, "249 prompts were answered by two experts"),
        ({"closure": closure("undecided")}, "80 % [60, 100] of the distance"),
        ({"impostor": {"experts": ALL.impostor["experts"]}}, "the clone's samples from the experts' was not measured"),
        ({"impostor": ALL.impostor | {"sampled": known(0.57, 0.53, 0.61)}}, "the upper bound must be below 0.60"),
        ({"impostor": {"sampled": ALL.impostor["sampled"]}}, "one expert from another was not measured"),
        ({"impostor": ALL.impostor | {"experts": known(0.57, 0.52, 0.62)}}, "its word is no proof"),
        ({"checked": known(-3.0, -5.1, -0.9)}, "by the checker it is right -3.0 [-5.1, -0.9] points"),
        ({"tuned": TUNED | {"stop_rate": known(0.97, 0.949, 0.99)}}, "the lower bound must reach 95%"),
        ({"tuned": TUNED | {"length_ratio": known(0.93, 0.89, 0.97)}}, "must lie within 0.9 and 1.1"),
    ],
)
def test_each_part_of_cloned_is_needed(change: dict[str, Any], reason: str) -> None:
    verdict = judged(planted(**change))
    assert verdict.rung == LEARNED
    (said,) = verdict.reasons
    assert reason in said


def test_not_cloned_is_said_beside_any_rung() -> None:
    """As in a first dry run: learned from the demonstrations, and not cloned; ROUGE-L would have declared victory."""
    for card, rung in (
        (planted(closure=closure("not cloned")), LEARNED),
        (planted(closure=closure("not cloned"), imitation_gain=known(0.0, -0.1, 0.1)), NOTHING),
    ):
        verdict = judged(card)
        assert verdict.rung == rung
        assert "falls 2.1 [1.2, 3.0] points short of 80% of the way" in verdict.shortfall
        assert "47 % [25, 69] of the distance is closed" in verdict.shortfall
    unbounded = replace(closure("not cloned"), share=Estimate(0.5, None, None, 0.95, "no bounded interval", 300))
    assert "no bounded interval" in judged(planted(closure=unbounded)).shortfall


def test_a_bar_is_for_one_expert_a_prompt() -> None:
    bar = {"chrf": 40.0}
    assert judged(planted(closure=None, bar=bar)).rung == MEETS
    assert judged(planted(closure=None, bar={"chrf": 42.5})).rung == LEARNED
    # A few prompts with two experts do not make it a set with several.
    assert judged(planted(closure=closure("cloned", n=100), bar=bar)).rung == MEETS
    several = judged(planted(closure=closure("undecided"), bar=bar))
    assert several.rung == LEARNED and "your bar was not applied" in several.reasons[-1]


@pytest.mark.parametrize("floor", FLOORS)
def test_every_floor_must_be_measured_and_beaten(floor: str) -> None:
    fewer = tuple(gain for gain in ALL.gains if gain.floor != floor)
    assert judged(planted(gains=fewer)).rung == (NOTHING if floor == "B0" else IMITATES)
    level = tuple(replace(g, estimate=known(0.1, -1, 1)) if g.floor == floor else g for g in ALL.gains)
    assert judged(planted(gains=level)).rung == (NOTHING if floor == "B0" else IMITATES)


def test_a_red_guardrail_caps_and_says_so() -> None:
    red = Guardrail("contamination", known(0.04, 0.02, 0.07), 0.01, "red", "near-duplicates left in training")
    verdict = judged(planted(guardrails=(red,)))
    assert verdict.rung == IMITATES and "red guardrail" in verdict.sentence
    assert "contamination: 4.0 % [2.0, 7.0], the limit is 1 %" in verdict.reasons[0]
    assert verdict.next_step.startswith("fix the data")


def test_a_verdict_needs_a_floor() -> None:
    with pytest.raises(ValueError, match="at least one floor"):
        judged(planted(gains=()))


# -- the one thing to do next -----------------------------------------------------------------------------------

UNDECIDED = planted(closure=closure("undecided"))
STOPPING = Guardrail("not stopping", known(0.2, 0.1, 0.3), 0.05, "red", "cut at the limit")
LEAKED = Guardrail("contamination", known(0.2, 0.1, 0.3), 0.0, "red", "near-duplicates in training")
FLAGGED = KnowledgeGaps(100, 60, known(0.6, 0.5, 0.7), known(0.1, 0, 0.2), (), {"figure": 80})
WEAK = Stratum("distance to training", "farthest third", 100, known(30, 28, 32), None, None)


def further(points: float, p: float = 0.01) -> FromStart:
    """A clone that is ``points`` closer to the expert than the one that it was fitted on from."""
    return FromStart(known(points, points - 2, points + 2), p, 2.8, None)


UNBOUNDED = Estimate(0.5, None, None, 0.95, "no bounded interval", 300)
TOLD = {"sampled": known(0.69, 0.63, 0.75), "experts": known(0.51, 0.44, 0.58)}


@pytest.mark.parametrize(
    "card, curve, rung, begins",
    [
        (planted(guardrails=(STOPPING,)), "", IMITATES, "check with `sft preview` that the stop token"),
        (planted(guardrails=(STOPPING,)), "falling", IMITATES, "train longer: the validation loss"),
        (planted(imitation_gain=None), "", COMPLETIONS_ALONE, "for a verdict, measure the policies themselves"),
        (UNDECIDED, "falling", LEARNED, "train longer"),
        (replace(UNDECIDED, gaps=FLAGGED), "", LEARNED, "look at what is marked in the training completions"),
        (UNDECIDED, "rose", LEARNED, "gather more demonstrations rather than more steps"),
        (
            replace(UNDECIDED, strata=(WEAK,)),
            "",
            LEARNED,
            "gather more demonstrations, for a start of the kind",
        ),
        (planted(closure=replace(closure("undecided"), share=UNBOUNDED)), "", LEARNED, "settle on one expert"),
        (planted(closure=closure("cloned", n=240)), "", LEARNED, "hold out more prompts that two experts answered"),
        (planted(impostor={}), "", LEARNED, "draw samples of the clone"),
        (planted(impostor=TOLD), "", LEARNED, "look at what gives it away, then gather more"),
        (planted(impostor=TOLD), "falling", LEARNED, "look at what gives it away, then train longer"),
        (planted(tuned=TUNED | {"stop_rate": known(0.9, 0.8, 0.94)}), "", LEARNED, "mend its stops"),
        (planted(tuned=TUNED | {"length_ratio": known(1.3, 1.2, 1.4)}), "", LEARNED, "mend its length"),
        (planted(impostor=ALL.impostor | {"experts": known(0.6, 0.55, 0.65)}), "", LEARNED, "settle on one expert"),
        (planted(closure=None), "", LEARNED, "have a second expert answer"),
        (planted(from_start=further(-4.0)), "", LEARNED, "go on from the clone before once more, at a lower"),
        (planted(from_start=further(-4.0), guardrails=(STOPPING,)), "", IMITATES, "go on from the clone before once"),
        (planted(from_start=further(-4.0, p=0.3), guardrails=(STOPPING,)), "", IMITATES, "check with `sft preview`"),
        (planted(from_start=further(4.0), guardrails=(STOPPING,)), "", IMITATES, "check with `sft preview`"),
        (planted(from_start=further(0.0), guardrails=(STOPPING,)), "", IMITATES, "check with `sft preview`"),
        (planted(from_start=further(-4.0), guardrails=(LEAKED,)), "", IMITATES, "fix the data"),
        (planted(from_start=further(-4.0)), "", MEETS, "hand it on"),
    ],
)
def test_the_next_step_fits_what_is_wrong(card: Scorecard, curve: str, rung: str, begins: str) -> None:
    step = next_step(rung, card, curve)
    assert step.startswith(begins) and not step.endswith(".")


def led_by(value: float) -> Scorecard:
    """A clone whose smallest gain, over RK, is too small to be seen on its 300 prompts, which show one of 2.8."""
    near = replace(ALL.gains[0], floor="RK", estimate=known(value, value - 2, value + 2), p_value=0.4)
    return planted(closure=None, gains=tuple(near if gain.floor == "RK" else gain for gain in ALL.gains))


def test_a_small_gain_asks_for_more_prompts_that_can_be_had() -> None:
    assert next_step(IMITATES, led_by(1.4)) == (
        "hold out more prompts: about 1,200 of them are needed to see a gain of 1.4, there are 300; more "
        "demonstrations may widen the gain itself"
    )


def test_prompts_that_nobody_has_are_not_asked_for() -> None:
    """A clone of 92 mails, 0.2 points before a shortcut on 23 prompts, was to hold out 11832 of them."""
    step = next_step(IMITATES, led_by(0.2))
    assert step.startswith("on these prompts the most typical answer to similar prompts did as well: train for more")
    assert "(a gain of 0.2 would take about 59,000 held-out prompts to be seen, there are 300); `sft curve`" in step


def test_a_stratum_that_is_not_clearly_weaker_is_not_blamed() -> None:
    unsure = replace(WEAK, score=known(40, 36, 44))
    assert "lowest score" not in next_step(LEARNED, replace(UNDECIDED, strata=(unsure,)))


@pytest.mark.parametrize(
    "change",
    [
        {"impostor": ALL.impostor | {"sampled": known(0.52, 0.42, 0.62)}},
        {"tuned": TUNED | {"stop_rate": known(0.98, 0.94, 1.0)}},
        {"tuned": TUNED | {"length_ratio": known(1.02, 0.88, 1.16)}},
        {"impostor": ALL.impostor | {"experts": known(0.4, 0.35, 0.45)}},
        {"closure": replace(closure("undecided"), share=known(0.9, 0.6, 1.2))},
    ],
    ids=["impostor", "stops", "length", "control", "closure"],
)
def test_intervals_that_are_only_wide_accuse_the_clone_of_nothing(change: dict[str, Any]) -> None:
    """A perfect clone's AUC stays below 0.60 in 45 % of runs at 100 prompts and in 90 % at 300. In the others it was
    told that a classifier tells it from the experts; and where the control was at fault, to mend length and stops."""
    verdict = judged(planted(**change))
    assert verdict.rung == LEARNED and verdict.reasons
    assert verdict.next_step.startswith("hold out more prompts")
    assert not any(reason.startswith("a classifier tells the clone") for reason in verdict.reasons)
