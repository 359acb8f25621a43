"""Statistics a sceptic accepts: intervals, tests and power, as pure arithmetic on arrays.

Scores of prompts that share a source are not independent, so everything here takes ``clusters``:
one label per value, equal labels for values that belong together, ``None`` for "each on its own".
Nothing here knows what the numbers mean, and every draw takes a seed.

Measured coverage of a nominal 95 % (20 clusters of 5, intra-cluster correlation 0.5): clustered t 94 %,
the naive standard error 76 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = [
    "DRAWS",
    "VISIBLE",
    "Interval",
    "StepInterval",
    "cluster_bootstrap",
    "clustered_t",
    "clustered_wilson",
    "holm",
    "kaplan_meier",
    "mcnemar_mid_p",
    "sign_flip",
    "smallest_visible_gain",
    "standard_error",
    "wilson",
]

Floats = NDArray[np.float64]
#: One label per value; an array of numbers is read faster than a sequence of anything else.
Clusters = Sequence[Hashable] | NDArray[np.integer]

#: Bootstrap draws.
DRAWS = 2_000
#: Sign-flip draws where the exact test is out of reach.
FLIPS = 9_999
#: Up to this many clusters the sign-flip test enumerates all 2**n sign patterns.
EXACT_CLUSTERS = 13
#: Normal quantiles for one-sided 5 % and 80 % power: 1.645 + 0.842.
VISIBLE = 2.487


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval; ``low`` and ``high`` are None when none can be had (``method``: why)."""

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    n: int


@dataclass(frozen=True, slots=True)
class StepInterval:
    """One step of a survival curve: the share still alive after ``time``, with its interval."""

    time: int
    share: float
    low: float
    high: float
    at_risk: int


def _values(values: ArrayLike) -> Floats:
    """``values`` as a float vector, shape (n,). Raises ``ValueError`` when empty or not finite."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"values must be a vector with something in it, not shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("values must be finite")
    return vector


def _codes(clusters: Clusters | None, n: int) -> tuple[NDArray[np.intp], int]:
    """Cluster labels as integers 0..G-1 in order of first appearance, and G."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} cluster labels")
    if isinstance(clusters, np.ndarray):
        kinds, inverse = np.unique(clusters, return_inverse=True)
        return inverse, kinds.size
    seen: dict[Hashable, int] = {}
    codes = np.fromiter((seen.setdefault(label, len(seen)) for label in clusters), dtype=np.intp, count=n)
    return codes, len(seen)


def _cr2(values: Floats, codes: NDArray[np.intp], count: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of the mean, ``count`` >= 2 clusters.

    CR2 of Bell & McCaffrey (2002). For a mean it has a closed form: with h_g = n_g / n the share of
    cluster g and e_g its summed residual, V = sum_g e_g^2 / (1 - h_g) / n^2, and Satterthwaite's degrees
    of freedom under independence are 1 / (sum h^2 + (sum q)^2 - sum q^2), q_g = h_g^2 / (1 - h_g).
    With clusters of one this is the textbook t, with clusters of one size it has G - 1 degrees of freedom.
    """
    n = values.size
    residuals = np.bincount(codes, weights=values - values.mean(), minlength=count)
    shares = np.bincount(codes, minlength=count) / n
    variance = float(np.sum(residuals**2 / (1 - shares))) / n**2
    leverage = shares**2 / (1 - shares)
    freedom = 1 / float(np.sum(shares**2) + np.sum(leverage) ** 2 - np.sum(leverage**2))
    return math.sqrt(variance), freedom


def standard_error(values: ArrayLike, clusters: Clusters | None = None) -> float | None:
    """Cluster-robust standard error of the mean (CR2); None with fewer than two clusters."""
    vector = _values(values)
    codes, count = _codes(clusters, vector.size)
    return None if count < 2 else _cr2(vector, codes, count)[0]


def clustered_t(values: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Interval:
    """Student-t interval of the mean of ``values``, shape (n,), robust to clusters.

    Give it paired differences and it is the interval of a gain. CR2 variance with Bell & McCaffrey's
    degrees of freedom, so few or unequal clusters widen it. One cluster gives no interval.
    Raises ``ValueError`` when empty, not finite, or labelled with another number of clusters.
    """
    vector = _values(values)
    codes, count = _codes(clusters, vector.size)
    mean = float(vector.mean())
    if count < 2:
        return Interval(mean, None, None, level, "no interval: one cluster only", vector.size)
    error, freedom = _cr2(vector, codes, count)
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    method = "t" if count == vector.size else f"clustered t, {count} clusters"
    if np.ptp(vector) == 0:
        method += "; all alike, so the width says nothing"
    return Interval(mean, mean - half, mean + half, level, method, vector.size)


def wilson(hits: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927): 20 of 20 gives [0.84, 1.00], never zero width.

    ``hits`` and ``n`` may be fractional (effective sample sizes).
    Raises ``ValueError`` unless 0 <= hits <= n and n > 0.
    """
    if not 0 <= hits <= n or n <= 0:
        raise ValueError(f"{hits} hits of {n} is not a share")
    z = float(special.ndtri(0.5 + level / 2))
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return Interval(share, low, high, level, "Wilson", int(n))


def clustered_wilson(outcomes: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Interval:
    """Wilson's interval for 0/1 ``outcomes``, shape (n,), at the sample size the clusters leave.

    The effective size is n / max(1, design effect), the design effect being the clustered variance over
    the independent one (Korn & Graubard 1998); where all outcomes agree it is the number of clusters.
    """
    vector = _values(outcomes)
    if not np.isin(vector, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    codes, count = _codes(clusters, vector.size)
    n, share = vector.size, float(vector.mean())
    if count == n:
        return wilson(float(vector.sum()), n, level)
    if count < 2:
        return Interval(share, None, None, level, "no interval: one cluster only", n)
    if 0 < share < 1:
        design = _cr2(vector, codes, count)[0] ** 2 / (share * (1 - share) / (n - 1))
        effective = n / max(1.0, design)
    else:
        effective = float(count)
    bounds = wilson(share * effective, effective, level)
    return Interval(share, bounds.low, bounds.high, level, f"Wilson, {count} clusters", n)


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p McNemar test of paired 0/1 scores (Fagerland, Lydersen & Laake 2013).

    Takes the two discordant counts: pairs that only the first, only the second system got right.
    """
    trials = only_first + only_second
    if trials == 0:
        return 1.0
    smaller = min(only_first, only_second)
    below = special.bdtr(smaller - 1, trials, 0.5) if smaller else 0.0
    half = 0.5 * float(below + special.bdtr(smaller, trials, 0.5))
    return min(1.0, 2 * half)


def sign_flip(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
    draws: int = FLIPS,
) -> float:
    """One-sided randomisation test that the mean of paired ``differences``, shape (n,), is above 0.

    Under the null each cluster's sum is as likely with the other sign. Exact up to 13 clusters, else
    p = (b + 1) / (m + 1) with m seeded draws (Phipson & Smyth 2010), so p is never 0.
    """
    vector = _values(differences)
    codes, count = _codes(clusters, vector.size)
    sums = np.bincount(codes, weights=vector, minlength=count)
    # Sign patterns that tie with what was seen count as extreme; rounding must not decide that.
    threshold = float(sums.sum()) - 1e-9 * float(np.abs(sums).sum())
    if count <= EXACT_CLUSTERS:
        signs = np.array(list(product((1.0, -1.0), repeat=count)))
        return float(np.mean(signs @ sums >= threshold))
    extreme = 0
    for start in range(0, draws, _block(count)):
        signs = _signs(count, min(_block(count), draws - start), seed, start)
        extreme += int(np.sum(signs @ sums >= threshold))
    return (extreme + 1) / (draws + 1)


def _block(count: int) -> int:
    """Draws held at once: about 8 MB of them."""
    return max(1, 1_000_000 // count)


@lru_cache(maxsize=4)
def _signs(count: int, rows: int, seed: int, start: int) -> Floats:
    """Random signs, shape (rows, count); kept because every floor is tested with the same ones."""
    generator = np.random.default_rng([seed, start])
    return 2 * generator.integers(0, 2, size=(rows, count)).astype(np.float64) - 1


@lru_cache(maxsize=4)
def _weights(count: int, rows: int, seed: int, start: int) -> Floats:
    """How often each cluster is redrawn, shape (rows, count); kept for the next figure of the table."""
    drawn = np.random.default_rng([seed, start]).integers(0, count, size=(rows, count))
    flat = (drawn + count * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * count).reshape(rows, count).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: reject where they are at most the level."""
    m = len(p_values)
    adjusted, running = [0.0] * m, 0.0
    for step, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - step) * p_values[index]))
        adjusted[index] = running
    return adjusted


def cluster_bootstrap(
    columns: Sequence[ArrayLike],
    statistic: Callable[[Floats], Floats],
    clusters: Clusters | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Percentile interval of a corpus figure, whole clusters redrawn with replacement.

    ``columns``: k vectors of shape (n,). ``statistic`` maps their sums, shape (m, k), to m figures, shape
    (m,): for sum(nats) / sum(bytes) it is ``lambda s: s[:, 0] / s[:, 1]``. Same seed, same resamples, so
    two systems measured with one seed are redrawn together.
    """
    matrix = np.stack([_values(column) for column in columns], axis=1)
    n = matrix.shape[0]
    codes, count = _codes(clusters, n)
    sums = np.stack([np.bincount(codes, weights=c, minlength=count) for c in matrix.T], axis=1)
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    if count < 2:
        return Interval(value, None, None, level, "no interval: one cluster only", n)
    figures = []
    for start in range(0, draws, _block(count)):
        weights = _weights(count, min(_block(count), draws - start), seed, start)
        figures.append(statistic(weights @ sums))
    low, high = np.quantile(np.concatenate(figures), [0.5 - level / 2, 0.5 + level / 2])
    method = f"bootstrap over {count} clusters, {draws} draws, seed {seed}"
    return Interval(value, float(low), float(high), level, method, n)


def smallest_visible_gain(differences: ArrayLike, clusters: Clusters | None = None) -> float | None:
    """The gain a one-sided 5 % test would have seen with probability 80 %: 2.487 standard errors.

    With clusters of one that is 2.487 SD / sqrt(n). None with fewer than two clusters.
    """
    error = standard_error(differences, clusters)
    return None if error is None else VISIBLE * error


def kaplan_meier(
    times: Sequence[int], events: Sequence[bool], level: float = 0.95, limit: int | None = None
) -> list[StepInterval]:
    """Survival curve (Kaplan & Meier 1958), one step per time 1, 2, ... while anyone is at risk.

    ``times``: when each case ended, from 1. ``events``: True where it ended by the event, False where it
    was only watched until then. Interval: Greenwood's (1926) variance on the log(-log) scale, which stays
    inside [0, 1]; where the curve stands at 1 or 0, Wilson's over those at risk, so the width is never zero.
    ``limit`` ends the curve early.
    """
    ends = np.asarray(times, dtype=np.int64)
    happened = np.asarray(events, dtype=bool)
    if ends.ndim != 1 or ends.shape != happened.shape or not ends.size or ends.min() < 1:
        raise ValueError("times must be whole numbers from 1, with one event flag each")
    last = int(ends.max()) if limit is None else min(limit, int(ends.max()))
    deaths = np.bincount(ends[happened], minlength=last + 1)
    leaving = np.bincount(ends, minlength=last + 1)
    z = float(special.ndtri(0.5 + level / 2))
    steps: list[StepInterval] = []
    share, greenwood, at_risk, risk_then = 1.0, 0.0, int(ends.size), int(ends.size)
    for time in range(1, last + 1):
        died = int(deaths[time])
        risk_then = at_risk
        if died:
            share *= 1 - died / at_risk
            greenwood += died / (at_risk * (at_risk - died)) if at_risk > died else 0.0
        if 0 < share < 1:
            spread = z * math.sqrt(greenwood) / abs(math.log(share))
            low, high = share ** math.exp(spread), share ** math.exp(-spread)
        else:
            bounds = wilson(share * risk_then, risk_then, level)
            low, high = bounds.low or 0.0, 1.0 if bounds.high is None else bounds.high
        steps.append(StepInterval(time, share, low, high, risk_then))
        at_risk -= int(leaving[time])
    return steps
