"""What sentences are made of: which way an interval points, how large a difference is."""

from __future__ import annotations

from collections.abc import Sequence

from sft.metrics.estimate import Estimate
from sft.reports.text import figure

__all__ = ["apart", "away", "hundredfold", "listed", "rate", "side", "turned"]


def side(estimate: Estimate | None, of: float = 0.0) -> int:
    """1 where the interval lies above ``of``, -1 below it, 0 where it contains it or there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return 0
    return int(estimate.low > of) - int(estimate.high < of)


def apart(one: Estimate | None, other: Estimate | None) -> int:
    """1 where the whole interval of ``one`` lies above that of ``other``, -1 below, 0 where that is not shown."""
    if one is None or other is None or None in (one.low, one.high, other.low, other.high):
        return 0
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None
    return int(one.low > other.high) - int(one.high < other.low)


def turned(estimate: Estimate) -> Estimate:
    """The same difference, taken the other way round."""
    low = None if estimate.high is None else -estimate.high
    high = None if estimate.low is None else -estimate.low
    return Estimate(-estimate.value, low, high, estimate.level, estimate.method, estimate.n)


def away(estimate: Estimate, style: str = "points") -> str:
    """The size of a difference whose direction the sentence tells."""
    return figure(estimate if estimate.value >= 0 else turned(estimate), style)


def hundredfold(estimate: Estimate) -> Estimate:
    """A share as a number of percentage points."""
    ends = [None if end is None else 100 * end for end in (estimate.low, estimate.high)]
    return Estimate(100 * estimate.value, ends[0], ends[1], estimate.level, estimate.method, estimate.n)


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def rate(share: float) -> str:
    """A share that is no measurement, in whole per cent."""
    return f"{100 * share:.0f} %"
