"""What the prompts tell of the completions."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.scorecard import (
    KnowledgeGaps,
    Scorecard,
)
from sft.reports import charts
from sft.reports.charts import Share
from sft.reports.sections.parts import (
    Part,
    Quotation,
    absent,
)
from sft.reports.text import figure, grouped

__all__ = ["gaps_part", "gaps_sentence", "pictures"]


def gaps_part(card: Scorecard) -> Part:
    """Whether prompts tell the base model anything of their completions."""
    heading, part = "What the prompts tell of the completions", card.gaps
    if part is None:
        return Part("gaps", heading, absent=absent(card, "gaps"))
    samples = tuple(
        Quotation(
            f"{gap.address}: reading the prompt gives {gap.bits:+.3f} bits per byte".replace("-", "\N{MINUS SIGN}"),
            (("prompt", gap.prompt, "other"), ("the expert", gap.completion, "expert")),
        )
        for gap in part.examples
    )
    reading = (
        "For each training completion looked at: does the base model find it likelier after its own prompt than after "
        "somebody else\u2019s? Where it does not, nothing in the prompt helped the model to the whole of it; single "
        "facts can be missing elsewhere, too."
    )
    note = f"Reading its prompt gives the base model {figure(part.bits, 'bits')} bits per byte of a completion on "
    return Part(
        "gaps",
        heading,
        (gaps_sentence(part),),
        reading if part.looked_at else "",
        samples=samples,
        samples_label="Where the prompt helps least: can you tell from it what the expert wrote?",
        notes=(note + "average.",) if part.flagged else (),
    )


def gaps_sentence(part: KnowledgeGaps) -> str:
    """For how many completions the prompt tells the base model nothing, taken as a whole.

    Why is not said, for no figure shows it: the expert may have drawn on something else, or the model may not
    understand the prompt. And a sum over a completion hides single facts: one copied word outweighs two made up.
    """
    if not part.flagged:
        return (
            f"Reading its prompt makes each of the {grouped(part.looked_at)} training completions looked at likelier "
            f"to the base model, by {figure(part.bits, 'bits')} bits per byte on average. That is of completions as "
            "a whole: single facts in them may still be told by no prompt."
        )
    return (
        f"{grouped(part.flagged)} of the {grouped(part.looked_at)} training completions looked at "
        f"({figure(part.share, 'share')}) are no likelier to the base model, as a whole, once it has read their "
        "prompts. Whether the expert drew on something else or the model does not understand the prompt, this does "
        "not tell."
    )


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    gaps = card.gaps
    if gaps is not None and gaps.looked_at:
        parts = [
            Share("the prompt helps the base model", gaps.looked_at - gaps.flagged, "expert"),
            Share("it does not", gaps.flagged, "base"),
        ]
        title = "Training completions for which the prompt tells the model something"
        yield "gaps", charts.shares(parts, key="gaps", title=title)
