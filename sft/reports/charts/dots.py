"""Values as dots on one scale, their intervals as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sft.reports.charts.marks import (
    CHARACTER,
    FIGURE_CHARACTER,
    NARROW,
    STRONG_CHARACTER,
    Axis,
    Entry,
    box,
    capped,
    circle,
    clamped,
    legend,
    number,
    picture,
    rounded_out,
    rule,
    text,
    ticks,
    wrapped,
)

__all__ = ["Dot", "Mark", "dots"]


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of :func:`dots`: a value with its interval (None: it has none). ``shown``: the number in words.

    ``ghost``: a second value to compare with, drawn hollow. ``group``: a heading above the first row that has it.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    shown: str
    kind: str = "other"
    strong: bool = False
    ghost: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that matters on its own, drawn as a dashed line across all rows of :func:`dots`."""

    value: float
    words: str


def dots(
    rows: Sequence[Dot],
    *,
    key: str,
    title: str,
    width: int,
    axis: str,
    signed: bool = False,
    include: Sequence[float] = (0.0,),
    marks: Sequence[Mark] = (),
    unit: str = "",
    entries: Sequence[Entry] = (),
) -> str:
    """Values as dots on one scale, intervals as bars. The scale reaches ``include``; ``signed`` marks 0 with a line.

    ``unit`` follows the numbers of the scale; ``entries`` are its legend. Raises ``ValueError`` without rows.
    """
    if not rows:
        raise ValueError("a picture of dots needs at least one row")
    narrow = width < NARROW
    wanted = 4 if narrow else 6
    ends = [end for row in rows for end in (row.value, row.low, row.high, row.ghost) if end is not None]
    ends += [*include, *(mark.value for mark in marks)]
    low, high = rounded_out(min(ends), max(*ends, min(ends) + 1e-9), wanted)
    value_width = max(len(row.shown) for row in rows) * FIGURE_CHARACTER + 4
    label_width = min(250.0, max(len(r.label) * (STRONG_CHARACTER if r.strong else CHARACTER) for r in rows))
    x = Axis(
        low, high, 8.0 if narrow else label_width + 22, max(width - 10 if narrow else width - value_width - 18, 0.0)
    )
    head, y = legend(entries, 8.0, width, 8.0) if entries else ([], -6.0)
    named: list[tuple[Mark, float]] = []
    for mark in marks:
        y += 18
        named.append((mark, y))
        head.append(text(clamped(x(mark.value), mark.words, 0, width), y + 4, mark.words, "tick halo", "middle"))
    y += 12
    above = y
    lit: list[str] = []
    parts: list[str] = []
    middles: list[float] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            parts.append(text(8 if narrow else 10, y + 21, group, "strong halo"))
            y += 32
        character = STRONG_CHARACTER if row.strong else CHARACTER
        beside = width - 24 - len(row.shown) * (STRONG_CHARACTER if row.strong else FIGURE_CHARACTER)
        lines = wrapped(row.label, beside if narrow else label_width, character)
        height = 17 * len(lines) + 34 if narrow else max(17 * len(lines) + 14, 38)
        if row.strong:
            lit.append(box(0, y, width, height, "lit"))
        role = "strong" if row.strong else ""
        first = y + 19 if narrow else y + height / 2 - 17 * (len(lines) - 1) / 2 + 4.5
        parts += [text(8 if narrow else 10, first + 17 * i, line, role) for i, line in enumerate(lines)]
        middle = y + height - 13 if narrow else y + height / 2
        parts.append(text(width - 8, first if narrow else middle + 4.5, row.shown, f"{role} figure", anchor="end"))
        middles.append(middle)
        if row.low is not None and row.high is not None:
            parts += capped(x(row.low), x(row.high), middle, row.kind)
        if row.ghost is not None:
            parts.append(circle(x(row.ghost), middle, 5.5, "ghost kind-expert"))
        parts.append(circle(x(row.value), middle, 6 if row.strong else 4.5, f"dot kind-{row.kind}"))
        y += height + 2
    # On a phone the labels stand above their track, so lines are drawn along the tracks only.
    spans = [(m - 9, m + 9) for m in middles] if narrow else [(above - 2, y + 2)]
    grid = [rule(x(tick), a, x(tick), b, "grid") for tick in ticks(low, high, wanted) for a, b in spans]
    if signed:
        grid += [rule(x(0), a - 1, x(0), b + 1, "zero") for a, b in spans]
    for mark, row_of in named:
        along = [(row_of + 8, above + 2), *spans] if narrow else [(row_of + 8, y + 2)]
        grid += [rule(x(mark.value), a, x(mark.value), b, "mark") for a, b in along]
    scale, bottom = _scale(x, ticks(low, high, wanted), y, axis, unit, width)
    said = "; ".join(f"{row.label}: {row.shown}" for row in rows)
    said += "".join(f"; line at {number(mark.value)}{unit}: {mark.words}" for mark in marks)
    # Highlights lie under the grid, the grid under the dots.
    return picture(key, width, bottom, title, f"{said}.", [*lit, *grid, *head, *parts, *scale])


def _scale(x: Axis, at: Sequence[float], y: float, axis: str, unit: str, width: int) -> tuple[list[str], float]:
    """Numbers at ``at`` below the line ``y``, what they count below them, and where that ends."""
    lines = wrapped(axis, width, 6.2)
    scale = [text(x(tick), y + 18, number(tick) + unit, "tick", "middle") for tick in at]
    for place, line in enumerate(lines):
        middle = clamped((x.start + x.end) / 2, line, 0, width, 6.2)
        scale.append(text(middle, y + 36 + 16 * place, line, "tick", "middle"))
    return scale, y + 42 + 16 * (len(lines) - 1)
