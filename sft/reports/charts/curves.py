"""Curves over a common x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sft.reports.charts.marks import (
    Axis,
    Entry,
    circle,
    labelled,
    legend,
    level,
    number,
    per_cent,
    picture,
    plot,
    rounded_out,
    scale,
    stretched,
    ticks,
    words,
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
    ys += [end for line in lines for _, *ends in line.band for end in ends]
    ys += [0.0] if signed else []
    low, high = (0.0, 1.0) if percent else rounded_out(min(ys), max(ys), 4)
    x_low, x_high = min(xs), max(xs)
    if x_high == x_low:
        x_low, x_high = x_low - 1, x_high + 1
    x, y = Axis(x_low, x_high), Axis(high, low)
    down = [(tick, f"{100 * tick:.0f} %" if percent else number(tick)) for tick in ticks(low, high)]
    across = [(x(share), f"{100 * share:.0f} %") for share in parts_of] or labelled(x_low, x_high, whole=True)
    parts = []
    for tick, label in down:
        parts.append(level(per_cent(y(tick)), 0, 100, "zero" if signed and tick == 0 else "grid"))
        parts.append(f'<text x="-10" y="{per_cent(y(tick))}" dy="4" class="tick down">{escape(label)}</text>')
    parts.append(stretched([path for line in lines for path in _paths(line, x, y)], 1000))
    for line in lines:
        if line.beads or len(line.points) == 1:
            parts += [circle(x(a), per_cent(y(b)), 3, f"bead kind-{line.kind}") for a, b in line.points]
    parts += [mark for line in lines if line.mark for mark in _marked(line.mark, x, y)]
    drawing = [f'<svg class="area">{"".join(parts)}</svg>', scale(across), f'<div class="axis">{words(x_axis)}</div>']
    above = f'<div class="above">{words(y_axis)}</div>' if y_axis else ""
    keys = legend([Entry(line.label, line.kind) for line in lines])
    return picture(key, title, description, [keys, above, plot(drawing, across, left=[label for _, label in down])])


def _paths(line: Line, x: Axis, y: Axis) -> list[str]:
    """The band and the curve of ``line``, in a square of 1000 by 1000."""
    paths = []
    if line.band:
        upper = _path([(x(a), y(c)) for a, _, c in line.band], steps=line.steps)
        lower = _path([(x(a), y(b)) for a, b, _ in line.band], steps=line.steps, backwards=True)
        paths.append(f'<path d="M{upper}L{lower}Z" class="band kind-{line.kind}"/>')
    if len(line.points) > 1:
        drawn = _path([(x(a), y(b)) for a, b in line.points], steps=line.steps)
        paths.append(f'<path d="M{drawn}" class="curve kind-{line.kind}"/>')
    return paths


def _path(points: Sequence[tuple[float, float]], *, steps: bool, backwards: bool = False) -> str:
    """Coordinates for a path's ``d``, in tenths of a per cent; a step keeps its height until the next x."""
    full: list[tuple[float, float]] = []
    for a, b in points:
        if steps and full:
            full.append((a, full[-1][1]))
        full.append((a, b))
    if backwards:
        full.reverse()
    return "L".join(f"{10 * a:.0f} {10 * b:.0f}" for a, b in full)


def _marked(mark: tuple[float, float, str], x: Axis, y: Axis) -> list[str]:
    """A ring around a point, and words near it: below it, or above it where the plot ends soon."""
    at, down = per_cent(x(mark[0])), y(mark[1])
    place = f'x="{at}" y="{per_cent(down)}" dy="{26 if down < 85 else -14}" style="--x:{at}"'
    said = f'<text {place} class="near strong halo">{escape(mark[2])}</text>'
    return [circle(x(mark[0]), per_cent(down), 7, "ring"), said]
