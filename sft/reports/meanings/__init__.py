"""What a finding means for this clone: one sentence each, made from the figures.

A sentence claims what the interval shows and no more: where it contains 0, that is what is said. Where a perfect
clone would have the same figure, the sentence judges nothing; ``tests/reports/test_planted_words.py`` holds every
judgement to a planted clone that it must find and a perfect one that it must not accuse. Functions take nouns of a scorecard
and return "" where there is nothing to speak of.
"""

from sft.reports.meanings.along import excess, on_path, own_words, prefix, survival
from sft.reports.meanings.habits import corpus, impostor, lengths, manner, self_agreement
from sft.reports.meanings.limits import forgetting, gaps, memorisation, underachieving
from sft.reports.meanings.others import closure, conflicts, experts, strata

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
    "on_path",
    "own_words",
    "prefix",
    "self_agreement",
    "strata",
    "survival",
    "underachieving",
]
