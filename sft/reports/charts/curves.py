"""Curves over a common x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sft.reports.charts.marks import (
    NARROW,
    STRONG_CHARACTER,
    Axis,
    Entry,
    circle,
    clamped,
    legend,
    number,
    picture,
    px,
    rounded_out,
    rule,
    text,
    ticks,
)

__all__ = ["Line", "curves"]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``points`` (x, y), ``band`` (x, low, high) around it, a ``mark`` (x, y, words) on it.

    ``steps`` holds a value until the next; ``beads`` shows the measured points.
    """

    label: str
    points: Sequence[tuple[float, float]]
    kind: str
    band: Sequence[tuple[float, float, float]] = ()
    mark: tuple[float, float, str] | None = None
    steps: bool = False
    beads: bool = False


def curves(
    lines: Sequence[Line],
    *,
    key: str,
    title: str,
    description: str,
    width: int,
    x_axis: str,
    y_axis: str = "",
    percent: bool = False,
    signed: bool = False,
    parts_of: Sequence[float] = (),
) -> str:
    """Curves over a common x. ``percent``: y is a share, drawn from 0 to 100 %. ``signed``: 0 is marked with a line.

    ``parts_of``: x is a share too, and these are its ticks. Raises ``ValueError`` when no curve has a point.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise ValueError("a picture of curves needs at least one point")
    narrow = width < NARROW
    if parts_of or signed:
        ys += [end for line in lines for _, *ends in line.band for end in ends]
    ys += [0.0] if signed else []
    low, high = (0.0, 1.0) if percent else rounded_out(min(ys), max(ys), 4)
    x_low, x_high = min(xs), max(xs)
    if x_high == x_low:
        x_low, x_high = x_low - 1, x_high + 1
    left = 44.0
    parts, row = legend([Entry(line.label, line.kind) for line in lines], left, width, 13.0)
    if y_axis:
        row += 22
        parts.append(text(0, row + 4, y_axis, "tick"))
    height, top = (240 if narrow else 280), row + 21
    x = Axis(x_low, x_high, left, width - (18 if parts_of else 14))
    y = Axis(low, high, top + height, top)
    for tick in ticks(low, high, 5):
        words = f"{100 * tick:.0f} %" if percent else number(tick)
        parts += [rule(left, y(tick), x.end, y(tick), "zero" if signed and tick == 0 else "grid")]
        parts += [text(left - 8, y(tick) + 4, words, "tick", "end")]
    for tick in parts_of or ticks(x_low, x_high, 4 if narrow else 7, whole=True):
        words = f"{100 * tick:.0f} %" if parts_of else number(tick)
        parts += [rule(x(tick), y.start, x(tick), y.start + 5, "grid")]
        parts += [text(x(tick), y.start + 19, words, "tick", "middle")]
    parts.append(text((left + x.end) / 2, y.start + 38, x_axis, "tick", "middle"))
    marks: list[str] = []
    for line in lines:
        if line.band:
            band = list(line.band)
            upper = _path([(x(a), y(c)) for a, _, c in band], steps=line.steps)
            lower = _path([(x(a), y(b)) for a, b, _ in band], steps=line.steps, backwards=True)
            parts.append(f'<path d="M{upper}L{lower}Z" class="band kind-{line.kind}"/>')
        drawn = [(x(a), y(b)) for a, b in line.points]
        if len(drawn) > 1:
            parts.append(f'<path d="M{_path(drawn, steps=line.steps)}" class="curve kind-{line.kind}"/>')
        if line.beads or len(drawn) == 1:
            parts += [circle(a, b, 3, f"bead kind-{line.kind}") for a, b in drawn]
        if line.mark:
            a, b, words = line.mark
            marks.append(circle(x(a), y(b), 7, f"ring kind-{line.kind}"))
            below = y(b) + 26
            above = below > y.start - 4
            at = clamped(x(a), words, left, x.end, STRONG_CHARACTER)
            marks.append(text(at, y(b) - 14 if above else below, words, "strong halo", "middle"))
    return picture(key, width, y.start + 44, title, description, [*parts, *marks])


def _path(points: Sequence[tuple[float, float]], *, steps: bool, backwards: bool = False) -> str:
    """Coordinates for a path's ``d``; a step keeps its height until the next x."""
    full: list[tuple[float, float]] = []
    for a, b in points:
        if steps and full:
            full.append((a, full[-1][1]))
        full.append((a, b))
    if backwards:
        full.reverse()
    return "L".join(f"{px(a)} {px(b)}" for a, b in full)
