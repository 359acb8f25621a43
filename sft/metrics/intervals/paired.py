"""Tests of paired scores: McNemar's, the sign-flip randomisation test, and Holm's correction for several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sft.metrics.estimate import Estimate
from sft.metrics.intervals.samples import Clusters, checked, codes_of
from sft.metrics.intervals.shares import clustered_wilson

__all__ = ["EXACT_CLUSTERS", "FLIPS", "holm", "mcnemar_mid_p", "share_difference", "sign_flip"]

#: Sign-flip draws where the exact test is out of reach.
FLIPS = 9_999
#: Up to this many clusters the sign-flip test enumerates all 2**n sign patterns.
EXACT_CLUSTERS = 13


def mcnemar_mid_p(only_first: int, only_second: int, *, one_sided: bool = False) -> float:
    """Mid-p McNemar test of paired 0/1 scores (Fagerland, Lydersen & Laake 2013).

    Takes the two discordant counts: pairs that only the first, only the second system got right. Two-sided
    unless ``one_sided``: then small when the first has more. Pairs count as independent; where they come
    in clusters, give their differences to :func:`sign_flip`.
    """
    trials = only_first + only_second
    if trials == 0:
        return 1.0
    fewer = only_second if one_sided else min(only_first, only_second)
    below = special.bdtr(fewer - 1, trials, 0.5) if fewer else 0.0
    half = 0.5 * float(below + special.bdtr(fewer, trials, 0.5))
    return half if one_sided else min(1.0, 2 * half)


def share_difference(ones: ArrayLike, others: ArrayLike, clusters: Clusters | None = None) -> Estimate:
    """Share of 0/1 ``ones`` minus that of ``others``, paired, both of shape (n,), with a 95 % interval.

    Newcombe's (1998) hybrid score method 10: from Wilson's ends of both shares, which keep a width where all agree, and
    their correlation. The ends allow for ``clusters``; without them (one cluster) there is no interval.
    """
    first, second = checked(ones), checked(others)
    one, other = clustered_wilson(first, clusters), clustered_wilson(second, clusters)
    value, n = one.value - other.value, first.size
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value, None, None, one.level, one.method, n)
    both, neither = float(first @ second), float((1 - first) @ (1 - second))
    only_first, only_second = float(first.sum()) - both, float(second.sum()) - both
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    product = both * neither - only_first * only_second
    if product > 0:
        product = max(product - n / 2, 0.0)
    phi = product / margins**0.5 if margins else 0.0

    def reach(near: float, far: float) -> float:
        return float(max(near**2 - 2 * phi * near * far + far**2, 0.0) ** 0.5)

    low = value - reach(one.value - one.low, other.high - other.value)
    high = value + reach(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high, one.level, "Newcombe's method 10 from Wilson's ends", n)


def sign_flip(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    two_sided: bool = False,
    seed: int = 0,
    draws: int = FLIPS,
) -> float:
    """Randomisation test that the mean of paired ``differences``, shape (n,), is above 0 (``two_sided``: not 0).

    Under the null each cluster's sum is as likely with the other sign (Fisher 1935, section 21). Exact up to
    13 clusters, else p = (b + 1) / (m + 1) with m seeded draws (Phipson & Smyth 2010), so p is never 0.
    """
    vector = checked(differences)
    codes, count = codes_of(clusters, vector.size)
    sums = np.bincount(codes, weights=vector, minlength=count)
    seen = abs(float(sums.sum())) if two_sided else float(sums.sum())
    # Sign patterns that tie with what was seen count as extreme; rounding must not decide that.
    threshold = seen - 1e-9 * float(np.abs(sums).sum())

    def extreme(signs: NDArray[np.int8]) -> int:
        totals = signs.astype(np.float64) @ sums
        return int(np.sum((np.abs(totals) if two_sided else totals) >= threshold))

    if count <= EXACT_CLUSTERS:
        return extreme(_patterns(count)) / 2**count
    block = max(1, 1_000_000 // count)  # about 8 MB of them at once, and kept as 1
    found = sum(extreme(_signs(count, min(block, draws - start), seed, start)) for start in range(0, draws, block))
    return (found + 1) / (draws + 1)


@lru_cache(maxsize=4)
def _patterns(count: int) -> NDArray[np.int8]:
    """Every pattern of signs, shape (2**count, count)."""
    return np.array(list(product((1, -1), repeat=count)), dtype=np.int8)


@lru_cache(maxsize=128)
def _signs(count: int, rows: int, seed: int, start: int) -> NDArray[np.int8]:
    """Random signs, shape (rows, count); kept because every floor is tested with the same ones, 10,000 prompts too."""
    generator = np.random.default_rng([seed, start])
    return (2 * generator.integers(0, 2, size=(rows, count)) - 1).astype(np.int8)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: reject where they are at most the level."""
    m = len(p_values)
    adjusted, running = [0.0] * m, 0.0
    for step, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - step) * p_values[index]))
        adjusted[index] = running
    return adjusted
