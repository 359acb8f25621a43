"""Comparing the clones of runs that were judged on the same held-out prompts, pair by pair: no model is needed.

Differences are taken prompt by prompt, so what is hard for everybody drops out. Each pair gets a clustered t
interval and a two-sided sign-flip test; with several pairs the p-values are Holm's, because among many
comparisons one looks like a difference by luck. A verdict speaks of two checkpoints, never of two recipes.
"""

from __future__ import annotations

from sft.comparing.comparisons import LEVEL, NOTE, Comparison, Contender, Pair
from sft.comparing.pairing import compare

__all__ = ["LEVEL", "NOTE", "Comparison", "Contender", "Pair", "compare"]
