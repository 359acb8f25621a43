"""Whether a mean lies above 0 where values are skewed, which Student's t takes no notice of.

With many small gains and few large losses a sample often has less than its share of the losses; its mean is then
too high and its spread too small, both at once, and the t test finds a gain that is none: in 14 of 100 samples of 15
lognormal losses instead of 2.5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sft.metrics.intervals.samples import Clusters, checked, codes_of, cr2

__all__ = ["hall_p", "skewness"]

#: Scores have 0 to 100 points, so no difference is below -100.
WORST = -100.0


def skewness(values: ArrayLike, clusters: Clusters | None = None) -> float | None:
    """Third standardised moment of what the clusters of ``values``, shape (n,), add to the mean; 0 where all are alike.

    None with fewer than three clusters. Raises ``ValueError`` when empty, not finite, or labelled with another number
    of clusters.
    """
    vector = checked(values)
    codes, count = codes_of(clusters, vector.size)
    return None if count < 3 else _third_moment(vector, codes, count)


def _third_moment(vector: np.ndarray, codes: np.ndarray, count: int) -> float:
    if np.ptp(vector) == 0:
        return 0.0
    residuals = np.bincount(codes, weights=vector - vector.mean(), minlength=count)
    spread = math.sqrt(float(residuals @ residuals) / (count - 1))
    if spread == 0:
        return 0.0
    return float(np.sum((residuals / spread) ** 3)) * count / ((count - 1) * (count - 2))


def hall_p(values: ArrayLike, clusters: Clusters | None = None, *, worst: float = WORST) -> float | None:
    """One-sided p-value that the mean of ``values``, shape (n,), is above 0, corrected for skewness.

    Hall's (1992) cubic transformation of the t statistic: with u = t / sqrt(G) and the skewness g,
    h = sqrt(G) (u + g u^2 / 3 + g^2 u^3 / 27 + g / (6 G)), held to the t distribution of :func:`clustered_t`. It is
    monotone, which Johnson's (1978) quadratic is not, and costs less power where values are skewed.

    A sample cannot show a loss that it does not contain. Where all values are alike, c above 0, the p-value is the
    probability of that many clusters without a loss when losses of ``worst`` would just undo the gain,
    (worst / (worst - c)) ** G; otherwise it is the transformation's.
    None with fewer than three clusters. Raises ``ValueError`` as :func:`skewness` does.
    """
    vector = checked(values)
    codes, count = codes_of(clusters, vector.size)
    if count < 3:
        return None
    mean = float(vector.mean())
    if np.ptp(vector) == 0:
        return 1.0 if mean <= 0 else (worst / (worst - mean)) ** count
    variance, freedom = cr2(vector[:, None], codes, count)
    if variance[0, 0] == 0:
        return 1.0 if mean <= 0 else 0.0
    g = _third_moment(vector, codes, count)
    u = mean / math.sqrt(variance[0, 0]) / math.sqrt(count)
    h = math.sqrt(count) * (u + g * u**2 / 3 + g**2 * u**3 / 27 + g / (6 * count))
    return float(special.stdtr(freedom, -h))
