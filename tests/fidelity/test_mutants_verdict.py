"""What a verdict says where it is decided by a hair, and that each of its sentences is kept for its own case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from known_scorecards import ALL, TUNED, closure, judged, known, planted

from sft.fidelity.scorecard import COMPLETIONS_ALONE, RUNGS, Gain, Guardrail, Scorecard
from sft.metrics.estimate import Estimate

NOTHING, IMITATES, LEARNED, MEETS, CLONED = RUNGS
UNKNOWN = Estimate(5.0, None, None, 0.95, "no interval: one cluster only", 300)


def gained(estimate: Estimate, p_value: float = 0.0001, visible: float | None = 2.8, floor: str = "") -> Scorecard:
    """Everything shown, but for the gain over ``floor``, or over every floor."""
    gains = (Gain(g.floor, estimate, p_value, visible) if floor in ("", g.floor) else g for g in ALL.gains)
    return planted(gains=tuple(gains), closure=None)


# -- the sentence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card, rung",
    [
        (planted(closure=None), LEARNED),
        (planted(closure=closure("undecided")), LEARNED),
        (planted(closure=None, bar={"chrf": 40.0}), MEETS),
        (ALL, CLONED),
        (planted(imitation_gain=None), COMPLETIONS_ALONE),
    ],
)
def test_the_sentence_of_one_verdict_is_not_said_of_another(card: Scorecard, rung: str) -> None:
    verdict = judged(card)
    assert verdict.rung == rung
    assert "imitates the expert" not in verdict.sentence
    assert ("hardly tells its samples" in verdict.sentence) is (rung == CLONED)
    assert ("It meets your bar" in verdict.sentence) is (rung == MEETS)


def test_the_distance_to_the_untrained_model_is_said_once() -> None:
    """Where it is itself the best shortcut, and where another one is."""
    assert judged(gained(known(4.0, 2.0, 6.0), floor="B0")).sentence.count("points closer") == 1
    other = judged(gained(known(4.0, 2.0, 6.0), floor="R")).sentence
    assert "4.0 [2.0, 6.0]" in other and "5.0 [3.0, 7.0] points closer than the untrained base" in other


@pytest.mark.parametrize(
    "estimate, says",
    [
        (known(-3.0, -5.0, -1.0), "3.0 [1.0, 5.0] chrF points further"),
        (known(0.0, -1.0, 1.0), "0.0 [-1.0, 1.0] chrF points closer"),
        (known(0.5, -0.5, 1.5), "0.5 [-0.5, 1.5] chrF points closer"),
    ],
)
def test_a_distance_has_its_direction_in_words_and_never_twice(estimate: Estimate, says: str) -> None:
    assert says in judged(gained(estimate)).sentence


@pytest.mark.parametrize(
    "visible, says",
    [
        (None, "fewer than five groups"),
        (0.0, "differ by the same on every prompt"),
        (1.0, "about 1.0 points"),
        (2.8, "about 2.8 points"),
    ],
)
def test_without_a_gain_the_power_of_the_test_is_said(visible: float | None, says: str) -> None:
    verdict = judged(gained(known(0.1, -1.0, 1.2), 0.4, visible))
    assert verdict.rung == NOTHING and says in verdict.sentence


def test_with_a_gain_what_else_is_lacking_is_said_instead_of_the_power() -> None:
    without_base = planted(gains=tuple(gain for gain in ALL.gains if gain.floor != "B0"))
    for card, says in (
        (without_base, "the untrained base model was not measured"),
        (planted(imitation_gain=known(0.0, -0.1, 0.1)), "is not shown to find the expert's own words likelier"),
    ):
        verdict = judged(card)
        assert verdict.rung == NOTHING and says in verdict.sentence and "could have seen" not in verdict.sentence


# -- the reasons ------------------------------------------------------------------------------------------------


def reasons(card: Scorecard) -> str:
    return "\n".join(judged(card).reasons)


def test_two_groups_are_not_called_one() -> None:
    """Where all scored prompts are of one group no figure has an interval, and one prompt alone is one group."""
    lone = replace(TUNED["chrf"], n=1)
    for score, said in ((UNKNOWN, True), (lone, True), (TUNED["chrf"], False), (replace(lone, n=2), False)):
        assert ("belong to one cluster" in reasons(planted(tuned=TUNED | {"chrf": score}))) is said


def test_a_gain_that_does_not_count_says_whether_interval_or_sign_flip_stands_against_it() -> None:
    assert "5.0 [0.4, 9.6] chrF points, sign-flip p = 0.062" in reasons(gained(known(5.0, 0.4, 9.6), 0.0625))
    assert "0.1 [-1.0, 1.2] chrF points, not clearly above 0" in reasons(gained(known(0.1, -1.0, 1.2), 0.4))
    assert "5.0 chrF points, not clearly above 0" in reasons(gained(UNKNOWN, 0.5, None))
    assert "gain over" not in reasons(ALL)


def test_what_the_clone_saves_in_bits_is_said_to_three_places() -> None:
    assert "0.010 [-0.102, 0.122] bits per byte" in reasons(planted(imitation_gain=known(0.01, -0.1023, 0.1223)))


def test_a_guardrail_of_shares_is_in_per_cent_and_any_other_in_its_own_unit() -> None:
    """One whose name comes after "verbatim copies" in the alphabet too."""
    copies = Guardrail("verbatim copies", known(0.125, 0.1, 0.15), 0.02, "red", "word for word")
    other = Guardrail("wordiness", known(2.5, 2.0, 3.0), 2.0, "red", "words for one of the expert's")
    said = reasons(planted(guardrails=(copies, other)))
    assert "verbatim copies: 12.5 % [10.0, 15.0], the limit is 2 %; word for word" in said
    assert "wordiness: 2.500 [2.000, 3.000], the limit is 2; words" in said


def test_a_bar_is_spoken_of_only_where_there_is_one() -> None:
    nothing = planted(imitation_gain=known(0.0, -0.1, 0.1), closure=None)
    assert "your bar" not in reasons(nothing)
    assert "your bar" in reasons(replace(nothing, bar={"chrf": 40.0}))


def test_of_several_bars_only_those_that_are_missed_are_named() -> None:
    exact = replace(UNKNOWN, value=100.0)
    bar = {"chrf": 40.0, "rouge_l": 49.0, "exact_match": 90.0}
    scores = TUNED | {"rouge_l": known(50.0, 48.0, 52.0), "exact_match": exact}
    verdict = judged(planted(closure=None, bar=bar, tuned=scores))
    assert verdict.rung == LEARNED
    missed = [reason for reason in verdict.reasons if "your bar of" in reason]
    assert len(missed) == 2 and "ROUGE-L is 50.0 [48.0, 52.0]" in missed[0] and "exact match is 100.0," in missed[1]
    # A lower bound that is just the bar clears it.
    assert judged(planted(closure=None, bar={"chrf": 42.0})).rung == MEETS


# -- cloned: the limits themselves ------------------------------------------------------------------------------


def tuned(**estimates: Estimate | None) -> dict[str, Any]:
    return {"tuned": {name: e for name, e in (TUNED | estimates).items() if e is not None}}


@pytest.mark.parametrize(
    "change, rung",
    [
        ({"closure": closure("cloned", n=250)}, CLONED),
        ({"impostor": ALL.impostor | {"sampled": known(0.56, 0.52, 0.6)}}, LEARNED),  # "below 0.60"
        ({"impostor": ALL.impostor | {"experts": known(0.45, 0.4, 0.5)}}, CLONED),
        ({"impostor": ALL.impostor | {"experts": known(0.55, 0.5, 0.6)}}, CLONED),
        (tuned(stop_rate=known(0.97, 0.95, 0.99)), CLONED),  # "must reach 95%"
        (tuned(length_ratio=known(1.0, 0.9, 1.1)), CLONED),  # "within 0.9 and 1.1"
    ],
)
def test_each_limit_is_on_the_side_that_its_sentence_says(change: dict[str, Any], rung: str) -> None:
    assert judged(planted(**change)).rung == rung


@pytest.mark.parametrize(
    "change, says",
    [
        (
            {"impostor": ALL.impostor | {"sampled": replace(UNKNOWN, value=0.5)}},
            "samples from the experts' was not",
        ),
        ({"impostor": ALL.impostor | {"experts": replace(UNKNOWN, value=0.5)}}, "one expert from another was not"),
        (
            {"impostor": ALL.impostor | {"sampled": known(0.57, 0.53, 0.61)}},
            "AUC 0.57 [0.53, 0.61], the upper bound must be below",
        ),
        (
            {"impostor": ALL.impostor | {"experts": known(0.57, 0.52, 0.62)}},
            "AUC 0.57 [0.52, 0.62] where 0.50 is expected",
        ),
        (tuned(stop_rate=None), "stops by itself not measured"),
        (tuned(stop_rate=known(0.9, 0.85, 0.94)), "stops by itself 90 % [85, 94]"),
        (tuned(stop_rate=replace(UNKNOWN, value=1.0)), "stops by itself 100 %;"),
        (tuned(length_ratio=None), "length over the expert's is not measured"),
        (tuned(length_ratio=known(1.25, 1.22, 1.28)), "length over the expert's is 1.25 [1.22, 1.28]"),
        (tuned(length_ratio=replace(UNKNOWN, value=1.0)), "length over the expert's is 1.00;"),
    ],
)
def test_what_was_not_measured_or_has_no_interval_is_no_proof_and_is_said(change: dict[str, Any], says: str) -> None:
    verdict = judged(planted(**change))
    assert verdict.rung == LEARNED
    (said,) = verdict.reasons
    assert says in said


def test_a_shortfall_is_said_only_where_it_is_shown() -> None:
    for finding, shown in (("cloned", False), ("undecided", False), ("not cloned", True)):
        assert bool(judged(planted(closure=closure(finding))).shortfall) is shown
    assert judged(planted(closure=None)).shortfall == ""
