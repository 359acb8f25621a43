"""The figures of the literature, over all completions at once."""

from __future__ import annotations

from collections.abc import Mapping

from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports.sections.parts import (
    Part,
    absent,
    by_system,
    listed,
)
from sft.reports.text import figure

__all__ = ["corpus_part", "corpus_sentence"]


def corpus_part(card: Scorecard) -> Part:
    """BLEU and chrF++ over all completions."""
    heading = "The figures of the literature"
    if not card.corpus:
        return Part("corpus", heading, absent=absent(card, "corpus"))
    names = list(dict.fromkeys(name for scores in card.corpus.values() for name in scores))
    sentence = corpus_sentence(card.corpus)
    grid = by_system("BLEU and chrF++ over the whole corpus", card.corpus, names, bare=True, systems=card.names)
    return Part("corpus", heading, (sentence,) if sentence else (), grids=(grid,))


def corpus_sentence(part: Mapping[str, Mapping[str, Estimate]]) -> str:
    """The literature's figures for the clone, against another expert where one is known."""
    tuned, expert = part.get("tuned", {}), part.get("E", {})
    if "bleu" not in tuned or "chrf_pp" not in tuned:
        return ""
    start = f"Over all completions at once the clone has BLEU {figure(tuned['bleu'])} and chrF++ "
    start += figure(tuned["chrf_pp"])
    equal = [(name, tuned.get(f"{name}_one_out"), expert.get(name)) for name in ("bleu", "chrf_pp")]
    if any(one is None or other is None for _, one, other in equal):
        return f"{start}."
    names = {"bleu": "BLEU", "chrf_pp": "chrF++"}
    against = listed([f"{names[name]} is {figure(one)} against {figure(other)}" for name, one, other in equal])
    return f"{start}; held to as many references as another expert, {against}."
