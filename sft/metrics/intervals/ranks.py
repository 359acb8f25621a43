"""How well a score separates two kinds of item: the area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sft.metrics.estimate import Estimate
from sft.metrics.intervals.samples import ONE_CLUSTER, Clusters, Floats, checked, codes_of, cr2
from sft.metrics.intervals.shares import wilson

__all__ = ["auc"]


def auc(
    positive: ArrayLike,
    negative: ArrayLike,
    clusters: Clusters | None = None,
    folds: Clusters | None = None,
    *,
    level: float = 0.95,
) -> Estimate:
    """Area under the ROC curve: how often a ``positive`` score is above a ``negative`` one, ties counting half.

    Both have shape (n,), item i of each belonging to ``clusters[i]`` (one prompt, two texts). With ``folds``,
    one label per item, only scores of one fold are compared: those of two classifiers share no scale.
    Every comparison counts the same, that of an item with itself too.

    Estimate: each item's part in the area (how many negatives its positive beats, how many positives beat its
    negative; DeLong, DeLong & Clarke-Pearson 1988) summed over clusters (Obuchowski 1997) gives a CR2 variance;
    t on the logit scale, so the ends stay inside [0, 1]. A percentile bootstrap over clusters takes 2,000
    draws and covers less: 84 % where 15 prompts separate at 0.95, this 97 %
    (``benchmarks/results/statistics.md``). Where one side wins every comparison: Wilson's over the clusters.
    Raises ``ValueError`` when empty, not finite, or of different lengths.
    """
    ups, downs = checked(positive), checked(negative)
    n = ups.size
    if downs.size != n:
        raise ValueError(f"{n} positive but {downs.size} negative scores; they are paired")
    codes, count = codes_of(clusters, n)
    fold_of, number = (np.zeros(n, dtype=np.intp), 1) if folds is None else codes_of(folds, n)
    # Wins of each item's two scores, and how many comparisons its two scores take part in.
    wins, compared, total = np.empty(n), np.empty(n), 0.0
    for fold in range(number):
        inside = fold_of == fold
        beaten = _below(ups[inside], downs[inside])
        total += float(beaten.sum())
        wins[inside] = beaten + inside.sum() - _below(downs[inside], ups[inside])
        compared[inside] = 2 * inside.sum()
    comparisons = float(compared.sum()) / 2
    value = total / comparisons
    if count < 2:
        return Estimate(value, None, None, level, ONE_CLUSTER, n)
    if value in (0.0, 1.0):
        bounds = wilson(value * count, count, level)
        method = f"Wilson, {count} clusters; every comparison goes one way"
        return Estimate(value, bounds.low, bounds.high, level, method, n)
    influence = n * (wins - value * compared) / comparisons
    variance, freedom = cr2(influence[:, None], codes, count)
    centre = float(special.logit(value))
    error = math.sqrt(variance[0, 0]) / (value * (1 - value))
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    method = f"logit t of rank sums, {count} clusters"
    if half == 0:
        method += "; all alike, so the width says nothing"
    return Estimate(value, float(special.expit(centre - half)), float(special.expit(centre + half)), level, method, n)


def _below(scores: Floats, others: Floats) -> Floats:
    """How many of ``others`` are below each score, shape (n,); ties count half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2
