"""Right answers by a checker, beside the base model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft.fidelity.conventions import beyond_chance
from sft.fidelity.scorecard import (
    Scorecard,
    Underachieving,
)
from sft.reports import charts
from sft.reports.names import system_name
from sft.reports.sections.parts import (
    KINDS,
    Grid,
    Part,
    Quotation,
    Row,
    absent,
    dot,
)
from sft.reports.text import chance, figure

__all__ = ["pictures", "underachieving_part", "underachieving_sentence"]


def underachieving_part(card: Scorecard) -> Part:
    """Answers that the base model had right and the clone has not."""
    heading, part = "Right answers, beside the base model\u2019s", card.underachieving
    if part is None:
        return Part("underachieving", heading, absent=absent(card, "underachieving"))
    rows = (
        *(Row(system_name(s, card.names), (figure(e, "share"),), s == "tuned") for s, e in part.right.items()),
        Row(f"the clone minus {system_name(part.base, card.names)}", (figure(part.difference, "share", signed=True),)),
        Row("lost: only that base model was right", (str(part.lost),)),
        Row("won: only the clone was right", (str(part.won),)),
    )
    samples = tuple(
        Quotation(
            f"prompt {lost.id[:8]}",
            (
                ("prompt", lost.prompt, "other"),
                ("the expert", lost.expert, "expert"),
                (f"{system_name(part.base, card.names)}: right", lost.base, "base"),
                ("the clone: wrong", lost.tuned, "tuned"),
            ),
        )
        for lost in part.examples
    )
    reading = (
        "The share of completions that the checker finds right. A clone to the left of the base model is right less "
        "often on these prompts; the p in the table says how often chance alone would set them so far apart."
    )
    return Part(
        "underachieving",
        heading,
        (underachieving_sentence(part, card.names),),
        reading if part.right else "",
        (Grid("Right answers", (("System", ""), ("right", chance(part.p_value, sign=True))), rows),),
        samples,
        "Prompts that the base model had right and the clone has not",
        (f"Checked by {part.checker}",),
    )


def underachieving_sentence(part: Underachieving, names: Mapping[str, str] | None = None) -> str:
    """Whether the clone is right more or less often than the better base, beyond chance."""
    base = system_name(part.base, names)
    rates = [figure(part.right[name], "share") if name in part.right else "" for name in ("tuned", part.base)]
    start = (
        f"The clone is right on {rates[0]}, the better base ({base}) on {rates[1]}" if all(rates) else "Answers changed"
    )
    counts = f"it lost {part.lost} that the base model had right and won {part.won} ({chance(part.p_value, sign=True)})"
    if beyond_chance(part.p_value) and part.difference.value < 0:
        return f"{start}: {counts}, so it is right less often than that base model."
    if beyond_chance(part.p_value) and part.difference.value > 0:
        return f"{start}: {counts}, so it is right more often than that base model."
    return f"{start}: {counts}, which is not shown to be more than chance."


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    under = card.underachieving
    if under is not None and under.right:
        ranked = sorted(under.right.items(), key=lambda pair: -pair[1].value)
        rows = [
            dot(system_name(s, card.names), e, KINDS.get(s, "other"), style="share", strong=s == "tuned")
            for s, e in ranked
        ]
        yield (
            "underachieving",
            charts.dots(
                rows,
                key="underachieving",
                title="Who is right how often",
                axis="right answers by the checker",
                unit=" %",
            ),
        )
