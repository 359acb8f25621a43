"""Intervals of a mean and of a ratio of means, and the gain that a sample could have shown."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sft.metrics.estimate import Estimate
from sft.metrics.intervals.samples import ONE_CLUSTER, Clusters, checked, codes_of, cr2

__all__ = ["POWER", "VISIBLE", "clustered_t", "fieller", "smallest_visible_gain", "standard_error"]

#: The probability with which the smallest visible gain is seen.
POWER = 0.8
#: That gain in standard errors with many clusters: normal quantiles of the 95 % interval's end and of
#: 80 % power, 1.960 + 0.842. With few clusters the t distribution asks for more.
VISIBLE = 2.802


def standard_error(values: ArrayLike, clusters: Clusters | None = None) -> float | None:
    """Cluster-robust standard error of the mean (CR2); None with fewer than two clusters."""
    vector = checked(values)
    codes, count = codes_of(clusters, vector.size)
    return None if count < 2 else math.sqrt(cr2(vector[:, None], codes, count)[0][0, 0])


def clustered_t(values: ArrayLike, clusters: Clusters | None = None, level: float = 0.95) -> Estimate:
    """Student-t interval of the mean of ``values``, shape (n,), robust to clusters.

    Give it paired differences and it is the interval of a gain. CR2 variance with Bell & McCaffrey's
    degrees of freedom, so few or unequal clusters widen it. One cluster gives no interval.
    Raises ``ValueError`` when empty, not finite, or labelled with another number of clusters.
    """
    vector = checked(values)
    codes, count = codes_of(clusters, vector.size)
    mean = float(vector.mean())
    if count < 2:
        return Estimate(mean, None, None, level, ONE_CLUSTER, vector.size)
    variance, freedom = cr2(vector[:, None], codes, count)
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(variance[0, 0])
    method = "t" if count == vector.size else f"clustered t, {count} clusters"
    if np.ptp(vector) == 0:
        method += "; all alike, so the width says nothing"
    return Estimate(mean, mean - half, mean + half, level, method, vector.size)


def fieller(
    numerator: ArrayLike, denominator: ArrayLike, clusters: Clusters | None = None, level: float = 0.95
) -> Estimate:
    """Estimate of mean(``numerator``) / mean(``denominator``), paired, each of shape (n,) (Fieller 1954).

    It holds every r for which the clustered t test does not reject that ``numerator - r * denominator``
    has mean 0, so testing a share and looking whether it lies inside are one and the same. The bounds solve
    (b^2 - t^2 Vbb) r^2 - 2 (ab - t^2 Vab) r + (a^2 - t^2 Vaa) = 0, with the means a, b, their CR2
    covariance V and one t, since the degrees of freedom depend on the clusters only.
    Where the denominator's own interval contains 0 those r have no end on at least one side: no bounds.
    Raises ``ValueError`` as :func:`clustered_t` does, for two lengths, and where the denominator's mean is 0.
    """
    first, second = checked(numerator), checked(denominator)
    if first.size != second.size:
        raise ValueError(f"{first.size} numerators but {second.size} denominators; they are paired")
    columns = np.stack([first, second], axis=1)
    codes, count = codes_of(clusters, columns.shape[0])
    above, below = columns.mean(axis=0)
    if below == 0:
        raise ValueError("the denominator's mean is 0, so there is no ratio")
    value, n = float(above / below), columns.shape[0]
    if count < 2:
        return Estimate(value, None, None, level, ONE_CLUSTER, n)
    covariance, freedom = cr2(columns, codes, count)
    spread = float(special.stdtrit(freedom, 0.5 + level / 2)) ** 2 * covariance
    square = float(below**2 - spread[1, 1])
    if square <= 0:
        why = "no bounded interval: the denominator is not clearly apart from 0"
        return Estimate(value, None, None, level, why, n)
    middle = float(above * below - spread[0, 1]) / square
    # Never below 0: r = a / b always satisfies the inequality, up to rounding.
    half = math.sqrt(max(0.0, middle**2 - float(above**2 - spread[0, 0]) / square))
    method = "Fieller" if count == n else f"Fieller, {count} clusters"
    if half == 0:
        method += "; all alike, so the width says nothing"
    return Estimate(value, middle - half, middle + half, level, method, n)


def smallest_visible_gain(
    differences: ArrayLike,
    clusters: Clusters | None = None,
    *,
    level: float = 0.95,
    power: float = POWER,
    two_sided: bool = False,
) -> float | None:
    """The gain that the verdict's rule would have seen with probability ``power``, in the unit of the values.

    The rule: the two-sided t interval lies above 0. Its power at a gain of d standard errors is
    1 - F(t; df, d), F the noncentral t distribution, t the quantile of the interval, df those of CR2; this
    solves for d (Cohen 1988, ch. 2): 2.86 standard errors with 50 clusters, 2.80 (``VISIBLE``) with many.
    The sign-flip test that has to agree at 1 - ``level``, one-sided or ``two_sided``, has a smallest p of
    2**-G or 2**(1 - G) with G clusters. With fewer clusters than that takes (five at 5 %, two-sided six) it
    can never agree, and neither can one cluster have an interval: None. With just as many it asks for gains
    in every cluster, and 75 %, two-sided 65 %, is what is left of 80; two-sided, 75 % with one more and 77 % with two.
    """
    vector = checked(differences)
    codes, count = codes_of(clusters, vector.size)
    smallest_p = 2.0 ** (1 - count if two_sided else -count)
    if smallest_p > (1 - level) * (1 + 1e-9):
        return None
    variance, freedom = cr2(vector[:, None], codes, count)
    quantile = special.stdtrit(freedom, 0.5 + level / 2)
    return float(special.nctdtrinc(freedom, 1 - power, quantile)) * math.sqrt(variance[0, 0])
