"""What every statistic starts from: checked values, clusters as numbers, and the CR2 covariance of means."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ONE_CLUSTER", "Clusters", "Floats", "checked", "codes_of", "cr2"]

Floats = NDArray[np.float64]
#: One label per value; an array of numbers is read faster than a sequence of anything else.
Clusters = Sequence[Hashable] | NDArray[np.integer]

#: Method of an interval that cannot be had.
ONE_CLUSTER = "no interval: one cluster only"


def checked(values: ArrayLike) -> Floats:
    """``values`` as a float vector, shape (n,). Raises ``ValueError`` when empty or not finite."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"values must be a vector with something in it, not shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("values must be finite")
    return vector


def codes_of(clusters: Clusters | None, n: int) -> tuple[NDArray[np.intp], int]:
    """Cluster labels as integers 0..G-1, shape (n,), and G. Raises ``ValueError`` unless there are n labels."""
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


def cr2(columns: Floats, codes: NDArray[np.intp], count: int) -> tuple[Floats, float]:
    """Covariance, shape (k, k), and degrees of freedom of the means of ``columns``, shape (n, k); ``count`` >= 2.

    CR2 of Bell & McCaffrey (2002). For a mean it has a closed form: with h_g = n_g / n the share of
    cluster g and e_g its summed residuals, V = sum_g e_g e_g' / (1 - h_g) / n^2, and Satterthwaite's degrees
    of freedom under independence are 1 / (sum h^2 + (sum q)^2 - sum q^2), q_g = h_g^2 / (1 - h_g).
    They depend on the sizes of the clusters only, so one number serves every column and every contrast.
    With clusters of one this is the textbook t, with clusters of one size it has G - 1 degrees of freedom.
    """
    n = columns.shape[0]
    centred = columns - columns.mean(axis=0)
    residuals = np.stack([np.bincount(codes, weights=c, minlength=count) for c in centred.T], axis=1)
    shares = np.bincount(codes, minlength=count) / n
    covariance = (residuals / (1 - shares)[:, None]).T @ residuals / n**2
    leverage = shares**2 / (1 - shares)
    freedom = 1 / float(np.sum(shares**2) + np.sum(leverage) ** 2 - np.sum(leverage**2))
    return covariance, freedom
