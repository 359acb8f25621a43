"""Intervals of a share: Wilson's, alone and under clusters, and Kaplan and Meier's of what is still alive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sft.metrics.estimate import Estimate
from sft.metrics.intervals.samples import ONE_CLUSTER, Clusters, checked, codes_of, cr2

__all__ = ["StepInterval", "clustered_wilson", "kaplan_meier", "wilson"]


@dataclass(frozen=True, slots=True)
class StepInterval:
    """One step of a survival curve: the share still alive after ``time``, with its interval."""

    time: int
    share: float
    low: float
    high: float
    at_risk: int


def wilson(hits: float, n: float, level: float = 0.95) -> Estimate:
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
    return Estimate(share, low, high, level, "Wilson", int(n))


def clustered_wilson(outcomes: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Estimate:
    """Wilson's interval for 0/1 ``outcomes``, shape (n,), at the sample size the clusters leave.

    The effective size is n / max(1, design effect), the design effect being the clustered variance over
    the independent one, times the squared ratio of the t quantiles with n - 1 and with the clusters' degrees of
    freedom, because the design effect is an estimate too (Korn & Graubard 1998): without it 20 unequal
    clusters cover 91 %. Where all outcomes agree it is the number of clusters.
    """
    vector = checked(outcomes)
    if not np.isin(vector, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    codes, count = codes_of(clusters, vector.size)
    n, share = vector.size, float(vector.mean())
    if count == n:
        return wilson(float(vector.sum()), n, level)
    if count < 2:
        return Estimate(share, None, None, level, ONE_CLUSTER, n)
    if 0 < share < 1:
        variance, freedom = cr2(vector[:, None], codes, count)
        design = float(variance[0, 0]) / (share * (1 - share) / (n - 1))
        independent, clustered = special.stdtrit([n - 1, freedom], 0.5 + level / 2)
        effective = n / max(1.0, design) * float(independent / clustered) ** 2
    else:
        effective = float(count)
    bounds = wilson(share * effective, effective, level)
    return Estimate(share, bounds.low, bounds.high, level, f"Wilson, {count} clusters", n)


def kaplan_meier(
    times: Sequence[int], events: Sequence[bool], level: float = 0.95, limit: int | None = None
) -> list[StepInterval]:
    """Survival curve (Kaplan & Meier 1958), one step per time 1, 2, ... while anyone is at risk.

    ``times``: when each case ended, from 1. ``events``: True where it ended by the event, False where it
    was only watched until then. Estimate: Greenwood's (1926) variance on the log(-log) scale, which stays
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
