"""How likely a policy finds what the expert wrote: bits per byte, what training saved, action accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import TokenScores

__all__ = [
    "IMITATION_FLOORS",
    "Clusters",
    "Scores",
    "action",
    "bits_by_id",
    "bits_per_byte",
    "imitation",
    "known",
]

#: Systems whose log loss the clone's is compared with.
IMITATION_FLOORS = ("B0", "B3")

Clusters = Mapping[str, str]
Scores = Mapping[str, Mapping[str, TokenScores]]


def known(clusters: Clusters, scores: Mapping[str, TokenScores]) -> list[TokenScores]:
    """Token scores of held-out prompts, in held-out order."""
    return [scores[key] for key in clusters if key in scores]


def bits(scores: Sequence[TokenScores], *, stop: bool = True) -> NDArray[np.float64]:
    """Bits per completion, shape (n,), with or without the stop token at its end."""
    return np.array([math.fsum(s.nats if stop else s.nats[:-1]) for s in scores]) / math.log(2)


def bits_by_id(scores: Mapping[str, TokenScores]) -> dict[str, float]:
    """Held-out id -> bits of the expert's completion, stop token included."""
    return dict(zip(scores, bits(list(scores.values())).tolist(), strict=True))


def bits_per_byte(clusters: Clusters, scores: Mapping[str, TokenScores]) -> dict[str, Estimate]:
    """Sum of bits over sum of bytes, "with_stop" and "without_stop" token; "as_given" where a sum is all there is."""
    found = known(clusters, scores)
    labels, sizes = [clusters[s.id] for s in found], [s.bytes for s in found]
    if not all(s.ranks for s in found):
        return {"as_given": estimates.ratio(bits(found), sizes, labels)}
    return {
        "with_stop": estimates.ratio(bits(found), sizes, labels),
        "without_stop": estimates.ratio(bits(found, stop=False), sizes, labels),
    }


def imitation(clusters: Clusters, scores: Scores, seed: int) -> tuple[str, Estimate | None, float | None]:
    """Bits per byte that the clone saves over the better base, on prompts both were scored on; with p.

    Returns (which base, the estimate, one-sided sign-flip p); ("", None, None) where no base was scored.
    """
    candidates: list[tuple[float, str, Estimate, float]] = []
    tuned = scores.get("tuned", {})
    for floor in IMITATION_FLOORS:
        other = scores.get(floor, {})
        ids = [key for key in clusters if key in tuned and key in other]
        if not ids:
            continue
        labels, sizes = [clusters[key] for key in ids], [tuned[key].bytes for key in ids]
        spent = bits([other[key] for key in ids])
        saved = spent - bits([tuned[key] for key in ids])
        estimate, p_value = estimates.ratio(saved, sizes, labels), intervals.sign_flip(saved, labels, seed=seed)
        candidates.append((float(spent.sum()) / sum(sizes), floor, estimate, p_value))
    if not candidates:
        return "", None, None
    _, floor, estimate, p_value = min(candidates, key=lambda c: c[0])
    return floor, estimate, p_value


def action(clusters: Clusters, scores: Mapping[str, TokenScores]) -> dict[str, Estimate]:
    """Token means, stop token included: does the policy choose what the expert chose at each step? Empty where a sum
    is all there is.

    The names are those of imitation learning (``imitation``'s behavioural cloning): top1 and top5 are
    shares, prob_true_act a probability, entropy and neglogp nats.
    """
    found = [s for s in known(clusters, scores) if s.ranks]
    if not found:
        return {}
    kinds = {cluster: code for code, cluster in enumerate(dict.fromkeys(clusters.values()))}
    labels = np.repeat([kinds[clusters[s.id]] for s in found], [len(s.nats) for s in found])
    nats = np.array([value for s in found for value in s.nats])
    ranks = np.array([rank for s in found for rank in s.ranks])
    entropies = np.array([value for s in found for value in s.entropies])
    shares = {
        "top1": (ranks < 1).astype(float),
        "top5": (ranks < 5).astype(float),
        "prob_true_act": np.exp(-nats),
    }
    means = {name: estimates.mean(values, labels, (0, 1)) for name, values in shares.items()}
    return means | {n: estimates.mean(v, labels) for n, v in (("entropy", entropies), ("neglogp", nats))}
