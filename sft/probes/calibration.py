"""How sure the policy is against how often it is right, on the expert's path and on its own.

A clone that learned to sound like someone who knew more than it does is sure of what it has no ground for:
confident incorrectness. On the expert's path each token has one right answer, the expert's. Off that path there is
none to look up, so a token counts as right when it belongs to the longest common subsequence with the reference that
shares most with what was written. That is the more lenient rule (a word in another place still counts), so
overconfidence on the clone's own path is, if anything, understated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sft import intervals
from sft.observations import OwnPath, TokenScores
from sft.probes import Absent, estimates, likelihood
from sft.scorecards import Calibration, CalibrationBin, Estimate

__all__ = ["BINS", "TOKENS_A_BIN", "calibration", "off_path", "own"]

#: Bins of equal numbers of tokens; fewer where a bin would hold less than ``TOKENS_A_BIN``.
BINS, TOKENS_A_BIN = 10, 20

Clusters = Mapping[str, str]
Floats = NDArray[np.float64]


def calibration(clusters: Clusters, scores: Mapping[str, TokenScores], *, seed: int = 0) -> Calibration:
    """On the expert's path: the probability of the likeliest token against whether it is the expert's.

    Raises ``Absent`` where confidences were not recorded.
    """
    found = [s for s in likelihood.known(clusters, scores) if s.confidences]
    if not found:
        raise Absent("how sure the policy is of each token was not recorded")
    return _calibration(
        [s.confidences for s in found],
        [[rank == 0 for rank in s.ranks] for s in found],
        [clusters[s.id] for s in found],
        seed,
    )


def own(clusters: Clusters, paths: Mapping[str, OwnPath], *, seed: int = 0) -> Calibration:
    """On the clone's own path: the probability of each token it wrote against whether a reference has it there.

    Right are the tokens in common with the nearest reference, in order (see the module). Raises ``Absent``.
    """
    found = [paths[key] for key in clusters if key in paths and paths[key].confidences]
    if not found:
        raise Absent("how sure the clone is of its own words was not recorded")
    return _calibration(
        [path.confidences for path in found], [path.hits for path in found], [clusters[path.id] for path in found], seed
    )


def off_path(clusters: Clusters, scores: Mapping[str, TokenScores], paths: Mapping[str, OwnPath]) -> Estimate:
    """Overconfidence once the clone has left the expert's path, minus that on the path, per prompt.

    Compared are the tokens that the clone wrote after the one by which it left with the same prompt's expert
    completion, over the prompts where it left and wrote on. Both sides lean against a positive figure: a hit on its
    own path is easier to have than rank 0, and a prompt where the clone left has an error on the expert's path by
    selection. So above 0, it is surer than it should be where the expert no longer leads it.
    Raises ``Absent`` where nothing of that kind was recorded, or the clone never left.
    """
    known = {s.id: s for s in likelihood.known(clusters, scores) if s.confidences}
    both = [key for key in clusters if key in known and key in paths]
    if not both:
        raise Absent("how sure the clone is of its own words was not recorded")
    differences, labels = [], []
    for key in both:
        path, forced = paths[key], known[key]
        if path.left is None or path.left + 1 >= len(path.confidences):
            continue
        after = _mean(path.confidences[path.left + 1 :]) - _mean(path.hits[path.left + 1 :])
        before = _mean(forced.confidences) - _mean([rank == 0 for rank in forced.ranks])
        differences.append(after - before)
        labels.append(clusters[key])
    if not differences:
        raise Absent("the clone never wrote on after leaving the expert's path")
    return estimates.mean(differences, labels)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _calibration(
    confidences: Sequence[Sequence[float]], right: Sequence[Sequence[bool]], clusters: Sequence[str], seed: int
) -> Calibration:
    """From the tokens of each prompt: two vectors over all tokens, clustered as the prompts are."""
    kinds = {cluster: code for code, cluster in enumerate(dict.fromkeys(clusters))}
    labels = np.repeat([kinds[cluster] for cluster in clusters], [len(tokens) for tokens in confidences])
    sure = np.array([value for tokens in confidences for value in tokens], dtype=np.float64)
    hits = np.array([flag for tokens in right for flag in tokens], dtype=np.float64)
    if sure.size != hits.size:
        raise ValueError(f"{sure.size} confidences but {hits.size} tokens")
    places = _bins(sure)
    return Calibration(
        bins=tuple(_bin(sure[places == b], hits[places == b], labels[places == b]) for b in range(places.max() + 1)),
        error=_error(sure, hits, places, labels, seed),
        confidence=estimates.mean(sure, labels, (0, 1)),
        accuracy=estimates.mean(hits, labels, (0, 1)),
        overconfidence=estimates.mean(sure - hits, labels, (-1, 1)),
    )


def _bins(sure: Floats) -> NDArray[np.intp]:
    """The bin of each token, 0 and up; equal confidences share one, so bins can be fewer and unequal."""
    wanted = max(1, min(BINS, sure.size // TOKENS_A_BIN))
    edges = np.quantile(sure, np.arange(1, wanted) / wanted, method="inverted_cdf")
    return np.unique(np.searchsorted(edges, sure), return_inverse=True)[1]


def _bin(sure: Floats, hits: Floats, labels: NDArray[np.intp]) -> CalibrationBin:
    bounds = intervals.clustered_wilson(hits, labels)
    if bounds.low is None or bounds.high is None:  # one cluster: no more than one observation
        bounds = intervals.wilson(bounds.value, 1)
    assert bounds.low is not None and bounds.high is not None
    return CalibrationBin(float(sure.mean()), float(hits.mean()), bounds.low, bounds.high, sure.size)


def _error(sure: Floats, hits: Floats, places: NDArray[np.intp], labels: NDArray[np.intp], seed: int) -> Estimate:
    """Expected calibration error (Naeini et al. 2015), whole clusters redrawn, bins as they are.

    A sum of distances cannot be negative, so noise alone makes one; ``method`` says how much independent tokens of a
    perfectly calibrated policy would show: sqrt(2 / pi) standard deviations in every bin.
    """
    gaps = [np.where(places == b, sure - hits, 0.0) for b in range(places.max() + 1)]
    interval = intervals.cluster_bootstrap(
        [*gaps, np.ones(sure.size)],
        lambda sums: np.asarray(np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]),
        labels,
        seed=seed,
    )
    noise = np.sqrt(2 / np.pi * np.bincount(places, weights=sure * (1 - sure))).sum() / sure.size
    note = f"; biased upwards: perfect calibration would show about {noise:.3f}"
    return estimates.estimate(replace(interval, method=interval.method + note), bounds=(0, 1))
