"""What the training completions say that neither their prompts nor the base model tell."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sft.fidelity.conventions import SLIPS
from sft.fidelity.findings import KnowledgeGap, KnowledgeGaps
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Share
from sft.reports.sections.parts import (
    Part,
    Quotation,
    absent,
    listed,
    rate,
    side,
)
from sft.reports.text import bracketed, figure, grouped
from sft.runs.visible import beginning, plain

__all__ = ["gaps_part", "gaps_sentence", "gaps_text", "pictures"]

#: Characters of a prompt that a terminal is shown.
_SHOWN = 300


def gaps_part(card: Scorecard) -> Part:
    """Where the training completions hold what no prompt tells, marked in the worst of them."""
    heading, part = "What the prompts tell of the completions", card.gaps
    if part is None:
        return Part("gaps", heading, absent=absent(card, "gaps"))
    if not part.kinds:
        why = "an earlier version looked at completions as a whole only; `sft evaluate` looks at figures, names and "
        return Part("gaps", heading, absent=f"Not measured: {why}rare words one by one.")
    samples = tuple(
        Quotation(
            f"{gap.address}: {_surprise(gap)}",
            (("prompt", gap.prompt, "other"), ("the expert", gap.completion, "expert")),
            tuple((span.start, span.end) for span in gap.spans),
        )
        for gap in part.examples
    )
    reading = (
        "Looked at are figures, names and words that are rare in the training completions. Marked is what does not "
        "stand in the prompt, what the base model does not expect there, and what it expects hardly more after "
        "reading the prompt than after reading somebody else\u2019s."
    )
    note = (
        f"Reading its prompt gives the base model {figure(part.bits, 'bits')} bits per byte of a completion on average."
    )
    return Part(
        "gaps",
        heading,
        (gaps_sentence(part),),
        reading if part.looked_at else "",
        samples=samples,
        samples_label="What is marked: can you tell it from the prompt?",
        notes=(note,),
    )


def _surprise(gap: KnowledgeGap) -> str:
    """How far what is marked surprises the base model, before and after reading the prompt."""
    own, other = (math.fsum(bits) for bits in zip(*((s.own_bits, s.other_bits) for s in gap.spans), strict=True))
    return f"{own:.0f} bits of surprise after its own prompt, {other:.0f} after others\u2019"


def gaps_sentence(part: KnowledgeGaps) -> str:
    """In how many completions something stands that nothing tells, and whether they are more than slips.

    Why is not said, for no figure shows it: the expert may have drawn on something else, or the model may not
    understand the prompt.
    """
    if not part.flagged:
        return (
            f"In none of the {grouped(part.looked_at)} training completions looked at ({figure(part.share, 'share')}) "
            "was a figure, a name or a rare word found that neither the prompt nor the base model tells."
        )
    kinds = listed([_counted(count, kind) for kind, count in part.kinds.items() if count])
    start = (
        f"{grouped(part.flagged)} of the {grouped(part.looked_at)} training completions looked at "
        f"({figure(part.share, 'share')}) hold what neither their prompts nor the base model tell: {kinds}"
    )
    if side(part.share, SLIPS) <= 0:
        return f"{start}. That is not shown to be more than {rate(SLIPS)}, as many as can be slips of the base model."
    return (
        f"{start}. Whether the expert drew on something else or the model does not understand the prompt, this does "
        "not tell."
    )


def gaps_text(part: KnowledgeGaps) -> str:
    """The sentence and the worst completions for a terminal, what is marked between two brackets each."""
    lines = [gaps_sentence(part)]
    for gap in part.examples:
        marked = bracketed(gap.completion, [(span.start, span.end) for span in gap.spans])
        lines += ["", f"{plain(gap.address)}: {_surprise(gap)}", f"  prompt      {beginning(gap.prompt, _SHOWN)}"]
        lines.append(f"  the expert  {marked}")
    if part.examples:
        note = "is what does not stand in the prompt and surprises the base model as much after reading it as before."
        lines += ["", f"In brackets [[ ]] {note}"]
    return "\n".join(lines)


def _counted(count: int, kind: str) -> str:
    return f"{grouped(count)} {kind}{'' if count == 1 else 's'}"


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    gaps = card.gaps
    if gaps is not None and gaps.kinds and gaps.looked_at:
        parts = [
            Share("prompt and base model tell all of it", gaps.looked_at - gaps.flagged, "expert"),
            Share("something is told by neither", gaps.flagged, "base"),
        ]
        title = "Training completions in which something is told by neither the prompt nor the base model"
        yield "gaps", charts.shares(parts, key="gaps", title=title)
