"""What a finding means for this clone: one sentence each, made from the figures.

A sentence claims what the interval shows and no more: where it contains 0, that is what is said. Functions take
nouns of a scorecard and return "" where there is nothing to speak of.
"""

from sft.meanings.along import excess, off_path, on_path, own_path, prefix, survival
from sft.meanings.habits import corpus, impostor, lengths, manner, self_agreement
from sft.meanings.limits import forgetting, gaps, memorisation, underachieving
from sft.meanings.others import closure, conflicts, experts, strata

__all__ = [
    "closure",
    "conflicts",
    "corpus",
    "excess",
    "experts",
    "forgetting",
    "gaps",
    "impostor",
    "lengths",
    "manner",
    "memorisation",
    "off_path",
    "on_path",
    "own_path",
    "prefix",
    "self_agreement",
    "strata",
    "survival",
    "underachieving",
]
