"""The nouns of a measurement survive the trip to disk and back, and agree with those who use them."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from pydantic import ValidationError

from sft.fidelity import advice, conventions
from sft.fidelity.findings import Example, SurvivalPoint
from sft.fidelity.scorecard import RUNGS, SYSTEMS, Gain, Guardrail, Scorecard, SystemScores, Verdict
from sft.metrics.estimate import Estimate

KNOWN = Estimate(4.9, 2.2, 7.7, 0.95, "t", 200)
UNKNOWN = Estimate(4.9, None, None, 0.95, "no interval: one cluster only", 3)
GAIN = Gain("B3", KNOWN, 0.0004, 3.1)
CARD = Scorecard(
    verdict=Verdict(RUNGS[2], "On 200 held-out prompts …", ("another expert is further",), "go on"),
    headline="chrf",
    gain=GAIN,
    gains=(GAIN, Gain("R", UNKNOWN, 0.5, None)),
    imitation_gain=KNOWN,
    imitation_floor="B0",
    systems=(SystemScores("tuned", {"chrf": KNOWN, "stop_rate": UNKNOWN}, "1 of 200 prompts unscored"),),
    bits_per_byte={"tuned": {"with_stop": KNOWN, "without_stop": KNOWN}},
    action={"tuned": {"top1": KNOWN}},
    survival={"tuned": (SurvivalPoint(1, 0.9, 0.8, 0.95), SurvivalPoint(2, 0.7, 0.6, 0.8))},
    lengths={"expert": (7, 9), "tuned": (8, 9)},
    guardrails=(Guardrail("empty", UNKNOWN, 0.01, "green", "share of completions without a word"),),
    examples=(Example("worst", "a", "写一句话", "机器学习", {"tuned": "🎉"}, {"tuned": 0.0}),),
    signature={"n": 200, "metrics": {"chrf": "beta:1"}},
    n=200,
    clusters=180,
    unscored=1,
    bar={"chrf": 60.0},
)


def test_a_scorecard_survives_json() -> None:
    written = json.dumps(CARD.to_dict(), ensure_ascii=False, allow_nan=False)
    assert Scorecard.from_dict(json.loads(written)) == CARD


def test_no_interval_stays_no_interval() -> None:
    again = Scorecard.from_dict(json.loads(json.dumps(CARD.to_dict())))
    assert again.gains[1].estimate.low is None and again.gains[1].smallest_visible is None
    without = CARD.to_dict() | {"imitation_gain": None, "imitation_floor": ""}
    assert Scorecard.from_dict(without).imitation_gain is None


@pytest.mark.parametrize(
    "damage",
    [
        {"verdict": None},
        {"gain": {"floor": "B0"}},
        {"systems": [{"system": "tuned", "scores": {"chrf": "good"}}]},
        {"survival": {"tuned": [{"token": 1.5, "share": 1, "low": 1, "high": 1}]}},
    ],
    ids=["missing", "half a gain", "not a number", "half a token"],
)
def test_a_damaged_file_is_refused(damage: dict) -> None:
    with pytest.raises(ValidationError):
        Scorecard.from_dict(CARD.to_dict() | damage)


def test_a_missing_part_is_refused() -> None:
    for name in ("verdict", "gains", "signature"):
        value = CARD.to_dict()
        del value[name]
        with pytest.raises(ValidationError, match=name):
            Scorecard.from_dict(value)


def test_a_measurement_cannot_be_retouched() -> None:
    with pytest.raises(FrozenInstanceError):
        CARD.gain.p_value = 0.01  # type: ignore[misc]


def test_every_shortcut_has_words() -> None:
    assert set(conventions.FLOORS) | {"tuned", "start", "E"} == set(SYSTEMS)
    assert set(advice._FLOOR_STEPS) == set(conventions.FLOORS)
    assert set(advice._GUARDRAIL_STEPS) == set(advice._ORDER) == {*conventions.GUARDRAIL_LIMITS, "verbatim copies"}
