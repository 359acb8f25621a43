"""How sure the policy is against how often it is right, on the expert's path; and how often its own words are his.

On the expert's path each token has one right answer, the expert's, so a policy that is surer than it is right there
is overconfident. On the clone's own path there is no such answer to look up: a token is a hit when it belongs to the
longest common subsequence with the reference that shares most with what was written, and another good answer has
other words. A perfectly calibrated clone is surer of its own words than they are hits, so the two are not compared.
What can be compared is the clone with itself: :func:`own_words` holds what it writes to the experts' texts and to as
many of its own samples, as if those were experts' too. A clone whose probabilities are the experts' cannot tell them
apart, so its words are as often the one's as the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.findings import Calibration, CalibrationBin, OwnWords
from sft.fidelity.probes import Absent, likelihood
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion, OwnPath, TokenScores

__all__ = ["BINS", "TOKENS_A_BIN", "calibration", "own", "own_words"]

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
    """The clone's own tokens: ``accuracy`` is how often they are the expert's, in common with the nearest reference,
    in order. Confidence minus that is no overconfidence (see the module). Raises ``Absent``.
    """
    found = [paths[key] for key in clusters if key in paths and paths[key].confidences]
    if not found:
        raise Absent("how sure the clone is of its own words was not recorded")
    return _calibration(
        [path.confidences for path in found], [path.hits for path in found], [clusters[path.id] for path in found], seed
    )


def own_words(
    held_out: Sequence[HeldOut], written: Mapping[str, Completion], samples: Sequence[Mapping[str, Completion]]
) -> OwnWords:
    """Share of the words of each text in ``written`` that belong to its longest common subsequence with the nearest
    reference, and with the nearest of as many of the clone's ``samples``; where there are fewer of the one, as many
    of the other count, in their order. Raises ``Absent`` where no prompt has a sample and a text with a word.
    """
    found, labels = [], []
    for item in held_out:
        drawn = [each[item.id].text for each in samples if item.id in each]
        count = min(len(drawn), len(item.references))
        words = metrics.words(written[item.id].text) if item.id in written else []
        if count and words:
            found.append([_shared(words, texts[:count]) for texts in (item.references, drawn)])
            labels.append(item.cluster)
    if not found:
        raise Absent("no samples were drawn from the clone that what it writes could be held to")
    expert, itself = np.array(found).T
    return OwnWords(
        expert=estimates.mean(expert, labels, (0, 1)),
        itself=estimates.mean(itself, labels, (0, 1)),
        difference=estimates.mean(expert - itself, labels, (-1, 1)),
        n=len(found),
    )


def _shared(words: Sequence[str], texts: Sequence[str]) -> float:
    return max(LCSseq.similarity(words, metrics.words(text)) for text in texts) / len(words)


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
    # Ties leave some bins without a token; numbering anew closes the gaps, so every bin has one.
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
    return estimates.scaled(replace(interval, method=interval.method + note), bounds=(0, 1))
