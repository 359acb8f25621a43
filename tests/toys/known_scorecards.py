"""Scorecards whose verdict is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sft.fidelity.conventions import FLOORS
from sft.fidelity.findings import Closure
from sft.fidelity.scorecard import UNJUDGED, Gain, Scorecard, SystemScores, Verdict
from sft.fidelity.verdict import judge
from sft.metrics.estimate import Estimate


def known(value: float, low: float, high: float, n: int = 300) -> Estimate:
    return Estimate(value, low, high, 0.95, "t", n)


def closure(finding: str, *, expert: float = 44.0, tuned: float = 43.0, n: int = 300) -> Closure:
    surplus = {"cloned": known(1.2, 0.4, 2.0), "not cloned": known(-2.1, -3.0, -1.2), "undecided": known(0.1, -1, 1)}
    share = {"cloned": known(0.93, 0.85, 1.01), "not cloned": known(0.47, 0.25, 0.69), "undecided": known(0.8, 0.6, 1)}
    return Closure(
        "B3",
        0.8,
        surplus[finding],
        share[finding],
        known(tuned, tuned - 1, tuned + 1, n),
        known(expert, expert - 1, expert + 1, n),
        0.01,
        finding,
    )


GAINS = tuple(Gain(floor, known(5.0, 3.0, 7.0), 0.0001, 2.8) for floor in FLOORS)
TUNED = {
    "chrf": known(43.0, 42.0, 44.0),
    "stop_rate": known(0.99, 0.97, 1.0),
    "length_ratio": known(1.01, 0.96, 1.06),
}
#: A clone that has everything: each test takes one thing away.
ALL = Scorecard(
    verdict=UNJUDGED,
    headline="chrf",
    gain=GAINS[0],
    gains=GAINS,
    imitation_gain=known(0.4, 0.3, 0.5),
    imitation_floor="B0",
    systems=(SystemScores("tuned", TUNED),),
    bits_per_byte={},
    action={},
    survival={},
    lengths={},
    guardrails=(),
    examples=(),
    signature={},
    n=300,
    clusters=300,
    floors=FLOORS,
    closure=closure("cloned"),
    impostor={"sampled": known(0.53, 0.49, 0.57), "experts": known(0.51, 0.46, 0.56)},
)


def planted(*, tuned: dict[str, Estimate] | None = None, **changes: Any) -> Scorecard:
    """``ALL`` with ``changes``; the best gain is that of its ``gains``. ``tuned``: all the clone's own figures."""
    if tuned is not None:
        changes["systems"] = (SystemScores("tuned", tuned),)
    if changes.get("gains"):
        changes["gain"] = min(changes["gains"], key=lambda gain: gain.estimate.value)
    return replace(ALL, **changes)


def judged(card: Scorecard, *, imitation_p: float | None = 0.0001, curve: str = "") -> Verdict:
    """The verdict on ``card``, whose imitation gain is more than chance."""
    return judge(card, imitation_p=imitation_p, curve=curve)
