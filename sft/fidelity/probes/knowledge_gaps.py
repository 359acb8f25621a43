"""What the expert wrote and neither the prompt nor the base model tells: figures, names and rare words, span by span.

A sum over a completion hides single facts: one copied order number outweighs an invented date and driver. So each span
is judged by itself, by the base model alone. It is a gap where

- it does not stand in the prompt (folded), so it is no copy;
- it stays surprising after its own prompt, by :data:`SURPRISE` bits at least, also for whoever knows how often it
  stands in the other training completions: a fixed formula costs a clone next to nothing, however odd its words;
- reading its own prompt takes away less than :data:`FALL` of the surprise it has after others' prompts: what the model
  works out from its prompt (a date written otherwise) falls by more.

Completions that recur as a whole are labels or fixed answers: what they say is chosen, and no fact of its own.
The limits were chosen by planted completions under a real base model (``docs/decisions.md``). Why the prompt does not
help stays open: the expert may have drawn on something else, or the model may not understand the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sft.demonstrations.demonstration import Demonstration, folded, prompt_text
from sft.fidelity.findings import GapSpan, KnowledgeGap, KnowledgeGaps
from sft.fidelity.probes import Absent
from sft.fidelity.probes.spans import KINDS, Frequencies, Span, spans, stands_in
from sft.metrics.intervals import estimates
from sft.runs.records import PromptValue

__all__ = ["EXAMPLES", "FALL", "SURPRISE", "knowledge_gaps"]

#: How many of the worst are shown.
EXAMPLES = 10
#: Bits of a span after its own prompt from which it is surprising: one of eight things, all equally likely, has three.
#: Of a word that is no name far more is asked: nine in ten rare words of plain prose, which a writer chose and nobody
#: needed to know, have up to nineteen.
SURPRISE = {"figure": 3.0, "name": 3.0, "rare word": 20.0}
#: Share of the surprise after others' prompts that its own prompt takes away from what it tells of.
FALL = 0.25
#: Share of completions that recur as a whole from which all are taken for labels, those that do not recur too.
_LABELS = 0.5


def knowledge_gaps(values: Sequence[PromptValue], train: Sequence[Demonstration], *, seed: int = 0) -> KnowledgeGaps:
    """Spans of training completions that neither the prompt nor the base model tells.

    ``share`` is of the completions with one such span or more, ``bits`` is gained per byte of the completion by
    reading its prompt, a mean over completions; intervals are clustered by the demonstrations' groups. ``seed`` is
    here because every probe takes one; nothing is drawn.
    A value whose demonstration is not in ``train``, or that was compared with no other prompt, is not looked at.
    Raises ``Absent`` where nothing is left.
    """
    by_id = {demonstration.id: demonstration for demonstration in reversed(train)}
    measured = [value for value in values if value.id in by_id and value.others and value.bytes]
    known = [value for value in measured if value.token_ends]
    if measured and not known:
        raise Absent(
            "an earlier version measured what the prompts tell, for completions as a whole only; `sft evaluate` "
            "measures it again"
        )
    if not known:
        raise Absent("how much the prompts tell the base model about the training completions was not measured")
    frequencies = Frequencies(demonstration.completion for demonstration in train)
    found = {value.id: _gaps(value, by_id[value.id], frequencies) for value in known}
    labels = [by_id[value.id].group for value in known]
    flags = [bool(found[value.id]) for value in known]
    bits = {value.id: (value.other_nats - value.own_nats) / math.log(2) / value.bytes for value in known}
    worst = sorted((key for key, gaps in found.items() if gaps), key=lambda key: (-_told_by_nothing(found[key]), key))
    everything = [gap for gaps in found.values() for gap in gaps]
    return KnowledgeGaps(
        looked_at=len(known),
        flagged=sum(flags),
        share=estimates.share(flags, labels),
        bits=estimates.mean([bits[value.id] for value in known], labels),
        examples=tuple(_example(by_id[key], bits[key], found[key]) for key in worst[:EXAMPLES]),
        kinds={kind: sum(gap.kind == kind for gap in everything) for kind in KINDS},
    )


def _gaps(value: PromptValue, demonstration: Demonstration, frequencies: Frequencies) -> list[GapSpan]:
    text = demonstration.completion
    if frequencies.recurring >= _LABELS or frequencies.recurs(text):
        return []
    prompt = folded(prompt_text(demonstration.prompt))
    found = []
    for span in spans(text, frequencies):
        if stands_in(span, prompt):
            continue
        read = _surprise(span, value)
        own = read.own if span.kind == "rare word" else min(read.own, _bits_of(frequencies.others_share(span.text)))
        if own >= SURPRISE[span.kind] and read.own > (1 - FALL) * read.other:
            found.append(GapSpan(span.start, span.end, span.kind, read.own, read.other))
    return found


@dataclass(frozen=True, slots=True)
class _Surprise:
    """Bits of a span after its own prompt, and the mean after others'."""

    own: float
    other: float


def _surprise(span: Span, value: PromptValue) -> _Surprise:
    """Over all tokens that write a part of ``span``; of a token that reaches out of it, all of it counts."""
    own, other, begin = 0.0, 0.0, 0
    for end, mine, theirs in zip(value.token_ends, value.own_token_nats, value.other_token_nats, strict=True):
        first = begin if begin < end else end - 1  # several tokens to one character: each writes that character
        if first < span.end and end > span.start:
            own += mine
            other += theirs
        begin = end
    return _Surprise(own / math.log(2), other / math.log(2))


def _bits_of(share: float) -> float:
    return -math.log2(share) if share else math.inf


def _told_by_nothing(gaps: Sequence[GapSpan]) -> float:
    """Bits of all ``gaps`` of a completion together."""
    return math.fsum(gap.own_bits for gap in gaps)


def _example(demonstration: Demonstration, bits: float, gaps: Sequence[GapSpan]) -> KnowledgeGap:
    prompt = prompt_text(demonstration.prompt)
    return KnowledgeGap(demonstration.id, demonstration.address, prompt, demonstration.completion, bits, tuple(gaps))
