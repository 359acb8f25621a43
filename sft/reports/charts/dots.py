"""Values as dots on one scale, their intervals as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sft.reports.charts.marks import (
    Axis,
    Entry,
    capped,
    circle,
    labelled,
    legend,
    near,
    number,
    picture,
    plot,
    rounded_out,
    scale,
    upright,
    words,
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


#: Height of a line of words above the rows, in pixels, as the style sheet has it.
_NOTE = 18


def dots(
    rows: Sequence[Dot],
    *,
    key: str,
    title: str,
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
    ends = [end for row in rows for end in (row.value, row.low, row.high, row.ghost) if end is not None]
    ends += [*include, *(mark.value for mark in marks)]
    low, high = rounded_out(min(ends), max(ends))
    x = Axis(low, high)
    labels = labelled(low, high, lambda tick: number(tick) + unit)
    top = str(_NOTE * len(marks))
    lines = [upright(place, top, "100%", "grid") for place, _ in labels]
    if signed:
        lines.append(upright(x(0), top, "100%", "zero"))
    lines += [upright(x(m.value), str(_NOTE * n), "100%", "mark") for n, m in enumerate(marks, start=1)]
    parts = [f'<svg class="lines">{"".join(lines)}</svg>', *(near(x(mark.value), mark.words, "tick") for mark in marks)]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            parts.append(f'<div class="group">{words(group)}</div>')
        parts.append(_row(row, x))
    drawn = [f'<div class="rows">{"".join(parts)}</div>', scale(labels), f'<div class="axis">{words(axis)}</div>']
    said = "; ".join(f"{row.label}: {row.shown}" for row in rows)
    said += "".join(f"; line at {number(mark.value)}{unit}: {mark.words}" for mark in marks)
    return picture(key, title, f"{said}.", [legend(entries), plot(drawn, labels, "beside")])


def _row(row: Dot, x: Axis) -> str:
    """Label, marks and number of one row: side by side on a desk, the marks below the words on a phone."""
    parts = capped(x(row.low), x(row.high), 10) if row.low is not None and row.high is not None else []
    if row.ghost is not None:
        parts.append(circle(x(row.ghost), "10", 5.5, "ghost kind-expert"))
    parts.append(circle(x(row.value), "10", 6 if row.strong else 4.5, "dot"))
    return (
        f'<div class="row{" lit" if row.strong else ""}">{words(row.label)}'
        f'<svg class="track kind-{row.kind}">{"".join(parts)}</svg>{words(row.shown, "shown")}</div>'
    )
