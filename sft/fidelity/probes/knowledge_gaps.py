"""Where the prompt tells the base model nothing about what the expert wrote.

Looked at is whether reading its own prompt makes a training completion, as a whole, likelier to the base model than
reading somebody else's. Where it does not, the cause stays open: the expert may have drawn on something that is not in
the prompt, or the model may not understand it. And where it does, single facts may still be told by no prompt, for in
the sum over a completion one copied word outweighs two that were made up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.fidelity.probes import Absent
from sft.fidelity.scorecard import KnowledgeGap, KnowledgeGaps
from sft.metrics.intervals import estimates
from sft.runs.records import PromptValue

__all__ = ["EXAMPLES", "knowledge_gaps"]

#: How many of the worst are shown.
EXAMPLES = 10


def knowledge_gaps(values: Sequence[PromptValue], train: Sequence[Demonstration], *, seed: int = 0) -> KnowledgeGaps:
    """Training completions that the base finds no likelier after their own prompt than after others'.

    ``bits`` is gained per byte of the completion by reading its prompt, a mean over completions; intervals are
    clustered by the demonstrations' groups. ``seed`` is here because every probe takes one; nothing is drawn.
    A value whose demonstration is not in ``train``, or that was compared with no other prompt, is not looked at.
    Raises ``Absent`` where nothing is left.
    """
    by_id = {demonstration.id: demonstration for demonstration in reversed(train)}
    known = [value for value in values if value.id in by_id and value.others and value.bytes]
    if not known:
        raise Absent("how much the prompts tell the base model about the training completions was not measured")
    labels = [by_id[value.id].group for value in known]
    flags = [value.own_nats >= value.other_nats for value in known]
    bits = [(value.other_nats - value.own_nats) / math.log(2) / value.bytes for value in known]
    worst = sorted((told, value.id) for told, flag, value in zip(bits, flags, known, strict=True) if flag)
    return KnowledgeGaps(
        looked_at=len(known),
        flagged=sum(flags),
        share=estimates.share(flags, labels),
        bits=estimates.mean(bits, labels),
        examples=tuple(_gap(by_id[key], told) for told, key in worst[:EXAMPLES]),
    )


def _gap(demonstration: Demonstration, bits: float) -> KnowledgeGap:
    prompt = prompt_text(demonstration.prompt)
    return KnowledgeGap(demonstration.id, demonstration.address, prompt, demonstration.completion, bits)
