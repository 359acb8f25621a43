"""Prompts that experts answered in different ways, and how alike their answers are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from sft import metrics
from sft.demonstrations.demonstration import Demonstration
from sft.metrics.estimate import Estimate

__all__ = ["Conflicts", "conflicts"]


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Training prompts that were answered in different ways.

    ``agreement``: chrF points of their completions against each other; ``handled``: what the recipe did.
    """

    prompts: int
    conflicting: int
    agreement: Estimate | None
    handled: str


#: Completions of one prompt that are compared with each other, drawn where there are more.
AT_MOST_EACH = 4


def conflicts(train: Sequence[Demonstration], handled: str, *, seed: int = 0, at_most: int = 1000) -> Conflicts:
    """Training prompts with more than one completion, and how alike these are.

    ``agreement``: every two demonstrations of such a prompt against each other in chrF points, a mean per prompt,
    over ``at_most`` prompts and four demonstrations of each (drawn by ``seed`` where there are more).
    ``prompts`` counts all training prompts.
    """
    by_prompt: dict[str, list[Demonstration]] = {}
    for demonstration in train:
        by_prompt.setdefault(demonstration.key, []).append(demonstration)
    conflicting = [rows for _, rows in sorted(by_prompt.items()) if len({row.completion for row in rows}) > 1]
    if not conflicting:
        return Conflicts(len(by_prompt), 0, None, handled)
    from sft.metrics.intervals import estimates  # with scipy, which takes a while

    draw = random.Random(seed)
    looked_at = draw.sample(conflicting, at_most) if len(conflicting) > at_most else conflicting
    scores, labels = [], []
    for rows in looked_at:
        rows = sorted(rows, key=lambda row: (row.id, row.completion))
        chosen = draw.sample(rows, AT_MOST_EACH) if len(rows) > AT_MOST_EACH else rows
        scores.append(fmean([metrics.chrf(a.completion, b.completion) for a, b in combinations(chosen, 2)]))
        labels.append(rows[0].group)
    return Conflicts(len(by_prompt), len(conflicting), estimates.points(scores, labels), handled)
