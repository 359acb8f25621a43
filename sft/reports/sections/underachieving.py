"""Right answers by a checker, beside the base model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft.fidelity.conventions import beyond_chance
from sft.fidelity.findings import BesideBase, Underachieving
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.names import system_name
from sft.reports.sections.parts import (
    DASH,
    KINDS,
    Grid,
    Part,
    Quotation,
    Row,
    absent,
    dot,
)
from sft.reports.text import chance, figure
from sft.runs.visible import prompt_named

__all__ = ["pictures", "underachieving_part", "underachieving_sentence"]


def underachieving_part(card: Scorecard) -> Part:
    """Answers that the base model had right and the clone has not."""
    heading, part = "Right answers, beside the base model\u2019s", card.underachieving
    if part is None:
        return Part("underachieving", heading, absent=absent(card, "underachieving"))
    rows = [
        Row(system_name(s, card.names), (figure(e, "share"), DASH, DASH, DASH), s == "tuned")
        for s, e in part.right.items()
    ]
    for one in part.beside:
        counts = (str(one.lost), str(one.won), chance(one.p_value))
        rows.append(
            Row(
                f"the clone minus {system_name(one.base, card.names)}",
                (figure(one.difference, "share", signed=True), *counts),
            )
        )
    columns = (
        ("System", ""),
        ("right", ""),
        ("lost", "only that base model was right"),
        ("won", "only the clone was right"),
        ("p", "Holm-adjusted over the base models"),
    )
    samples = tuple(
        Quotation(
            prompt_named(lost.id, lost.prompt),
            (
                ("prompt", lost.prompt, "other"),
                ("the expert", lost.expert, "expert"),
                (
                    f"{system_name(lost.system, card.names) if lost.system else 'the base model'}: right",
                    lost.base,
                    "base",
                ),
                ("the clone: wrong", lost.tuned, "tuned"),
            ),
        )
        for lost in part.examples
    )
    reading = (
        "The share of completions that the checker finds right. A clone to the left of the base model is right less "
        "often on these prompts; the p in the table says how often chance alone would set one of them so far apart "
        "(Holm-adjusted)."
    )
    return Part(
        "underachieving",
        heading,
        (underachieving_sentence(part, card.names),),
        reading if part.right else "",
        (Grid("Right answers", columns, tuple(rows)),),
        samples,
        "Prompts that a base model had right and the clone has not",
        (f"Checked by {part.checker}",),
    )


def underachieving_sentence(part: Underachieving, names: Mapping[str, str] | None = None) -> str:
    """Whether the clone is right more or less often than each base model, beyond chance."""
    start = f"The clone is right on {figure(part.right['tuned'], 'share')}. " if "tuned" in part.right else ""
    return start + " ".join(_beside_sentence(part, one, names) for one in part.beside)


def _beside_sentence(part: Underachieving, one: BesideBase, names: Mapping[str, str] | None) -> str:
    rate = f" ({figure(part.right[one.base], 'share')})" if one.base in part.right else ""
    counts = f"it lost {one.lost} that this one had right and won {one.won} ({chance(one.p_value, sign=True)})"
    start = f"Beside the {system_name(one.base, names)}{rate}, {counts}"
    if beyond_chance(one.p_value) and one.difference.value != 0:
        less = "less" if one.difference.value < 0 else "more"
        return f"{start}, so it is right {less} often than that base model."
    return f"{start}, which is not shown to be more than chance."


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
