"""The clone beside the one that it was fitted on from: what the further fit brought, prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sft.fidelity.conventions import LEVEL
from sft.fidelity.findings import FromStart
from sft.fidelity.probes import Absent
from sft.fidelity.probes.likelihood import bits_by_id
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import TokenScores

__all__ = ["from_start"]


def from_start(
    tuned: Mapping[str, float],
    start: Mapping[str, float],
    token_scores: Mapping[str, Mapping[str, TokenScores]],
    clusters: Mapping[str, str],
    *,
    seed: int,
) -> FromStart:
    """``tuned`` and ``start``: held-out id -> headline score. Raises ``Absent`` where they share no prompt."""
    ids = [key for key in tuned if key in start]
    if not ids:
        raise Absent("this clone and the one that it was fitted on from share no scored prompt")
    differences = np.array([tuned[key] - start[key] for key in ids])
    labels = [clusters[key] for key in ids]
    return FromStart(
        estimates.mean(differences, labels),
        intervals.sign_flip(differences, labels, seed=seed, two_sided=True),
        intervals.smallest_visible_gain(differences, labels, level=1 - LEVEL, two_sided=True),
        _bits(token_scores, clusters),
    )


def _bits(scores: Mapping[str, Mapping[str, TokenScores]], clusters: Mapping[str, str]) -> Estimate | None:
    ours, theirs = scores.get("tuned", {}), scores.get("start", {})
    both = [key for key in clusters if key in ours and key in theirs]
    if not both:
        return None
    spent = [bits_by_id({key: found[key] for key in both}) for found in (ours, theirs)]
    return estimates.ratio(
        [spent[0][key] - spent[1][key] for key in both],
        [ours[key].bytes for key in both],
        [clusters[key] for key in both],
    )
