"""How much more plain text surprises it than the base model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sft.fidelity.conventions import GUARDRAIL_LIMITS
from sft.fidelity.findings import Forgetting
from sft.fidelity.guardrails import state_of
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Mark
from sft.reports.sections.parts import (
    Grid,
    Part,
    Row,
    absent,
    away,
    dot,
    rate,
    side,
)
from sft.reports.text import figure

__all__ = ["forgetting_part", "forgetting_sentence", "pictures"]


def forgetting_part(card: Scorecard) -> Part:
    """Plain control texts under both policies."""
    heading = "Plain text"
    if not card.forgetting:
        return Part("forgetting", heading, absent=absent(card, "forgetting"))
    rows = tuple(
        Row(
            part.text,
            (
                str(part.windows),
                figure(part.base, "bits"),
                figure(part.tuned, "bits"),
                figure(part.rise, "share", signed=True),
            ),
        )
        for part in card.forgetting
    )
    columns = (
        ("Text", ""),
        ("windows", ""),
        ("base model", "bits per byte"),
        ("the clone", "bits per byte"),
        ("rise", "the clone over the base model"),
    )
    reading = (
        "How much more surprised the clone is than the base model by text that has nothing to do with the expert. "
        "Right of the zero line it is more surprised; beyond the dashed line a guardrail turns red."
    )
    grid = Grid("Control texts", columns, rows)
    return Part("forgetting", heading, (forgetting_sentence(card.forgetting),), reading, (grid,))


def forgetting_sentence(parts: Sequence[Forgetting]) -> str:
    """How much more the clone is surprised by plain text than the base model, on the text where that is most."""
    if not parts:
        return ""
    worst = max(parts, key=lambda part: part.rise.value)
    limit = GUARDRAIL_LIMITS["forgetting"]
    name = f"{worst.text}, the worst of {len(parts)}" if len(parts) > 1 else worst.text
    start = f"On plain text that the expert did not write ({name})"
    if side(worst.rise) < 0:
        return f"{start} it is surprised by {away(worst.rise, 'share')} less than the base model."
    if side(worst.rise) == 0:
        rise = figure(worst.rise, "share", signed=True)
        return f"{start} it is not shown to be more surprised than the base model ({rise})."
    rise = f"it is surprised by {away(worst.rise, 'share')} more than the base model"
    where = {
        "red": f", over the limit of {rate(limit)}",
        "amber": f"; whether that is over the limit of {rate(limit)} is not settled",
        "green": f", within the limit of {rate(limit)}",
    }[state_of(worst.rise, limit)]
    return f"{start} {rise}{where}."


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    if card.forgetting:
        limit = GUARDRAIL_LIMITS["forgetting"]
        yield (
            "forgetting",
            charts.dots(
                [dot(part.text, part.rise, "tuned", style="share", signed=True) for part in card.forgetting],
                key="forgetting",
                title="How much more surprised it is by plain text than the base model",
                axis="rise of bits per byte over the base model's",
                signed=True,
                unit=" %",
                marks=[Mark(100 * limit, f"limit: {100 * limit:.0f} %")],
            ),
        )
