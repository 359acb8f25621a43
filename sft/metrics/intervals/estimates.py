"""Which kind of figure gets which kind of interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sft.metrics import intervals
from sft.metrics.estimate import Estimate

__all__ = ["alone", "apart", "mean", "points", "ratio", "scaled", "share"]

Floats = NDArray[np.float64]
Labels = Sequence[Hashable] | NDArray[np.integer]


def scaled(estimate: Estimate, *, scale: float = 1.0, bounds: tuple[float, float] | None = None) -> Estimate:
    """The same in another unit, its ends kept inside ``bounds``."""
    ends = [None if end is None else scale * end for end in (estimate.low, estimate.high)]
    if bounds is not None:
        ends = [None if end is None else min(max(end, bounds[0]), bounds[1]) for end in ends]
    return Estimate(scale * estimate.value, ends[0], ends[1], estimate.level, estimate.method, estimate.n)


def alone(value: float, n: int, why: str) -> Estimate:
    """A figure without an interval; ``why`` ends the sentence "no interval: ..."."""
    return Estimate(value, None, None, 0.95, f"no interval: {why}", n)


def apart(estimate: Estimate) -> Estimate:
    """The same; without an interval where it has no width, as where a handful of scores happen to be equal."""
    if estimate.low is None or estimate.low != estimate.high:
        return estimate
    return alone(estimate.value, estimate.n, "the scores are all alike, so nothing says how far others may lie")


def mean(values: ArrayLike, labels: Labels, bounds: tuple[float, float] | None = None, level: float = 0.95) -> Estimate:
    """Clustered t interval of a mean, shape (n,); paired differences give the interval of a gain."""
    return scaled(intervals.clustered_t(values, labels, level), bounds=bounds)


def points(values: Sequence[float], labels: Labels, level: float = 0.95) -> Estimate:
    """Mean of scores in points. All 0 or 100 makes it a share: Wilson, which keeps a width at the ends."""
    if set(values) <= {0.0, 100.0}:
        return scaled(intervals.clustered_wilson(np.divide(values, 100), labels, level), scale=100)
    return mean(values, labels, (0, 100), level)


def share(flags: ArrayLike, labels: Labels, level: float = 0.95) -> Estimate:
    """Share of 0/1 ``flags``, shape (n,)."""
    return intervals.clustered_wilson(flags, labels, level)


def ratio(above: ArrayLike, below: ArrayLike, labels: Labels, level: float = 0.95) -> Estimate:
    """Sum over sum, a corpus figure, by Fieller's interval: percentiles of a bootstrap cover 88 to 92 % for 95."""
    return intervals.fieller(above, below, labels, level)
