"""Confidence against accuracy in square panels, and the way from one place to another."""

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
    level,
    near,
    number,
    per_cent,
    picture,
    plot,
    scale,
    stretched,
    upright,
    words,
)

__all__ = ["Panel", "Place", "Series", "squares", "track"]


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y, low, high) of one policy in a :class:`Panel`, all of them shares from 0 to 1."""

    label: str
    points: Sequence[tuple[float, float, float, float]]
    kind: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One square of :func:`squares`."""

    title: str
    series: Sequence[Series]


def squares(
    panels: Sequence[Panel],
    *,
    key: str,
    title: str,
    description: str,
    x_axis: str,
    y_axis: str,
    above: str,
    below: str,
) -> str:
    """Shares against shares in squares with a diagonal: side by side on a desk, under one another on a phone.

    ``above`` and ``below``: what it means to lie on that side of the diagonal. Raises ``ValueError`` without a point.
    """
    if not any(series.points for panel in panels for series in panel.series):
        raise ValueError("a picture of panels needs at least one point")
    said = f"Above the dashed line: {above}; below it: {below}."
    parts = []
    for panel in panels:
        labels = [(place, f"{place:.0f} %") for place in _QUARTERS]
        drawing = [_square(panel), scale(labels), f'<div class="axis">{words(x_axis)}</div>']
        keys = legend([Entry(series.label, series.kind, "dot") for series in panel.series])
        above_it = "".join(f'<div class="above">{words(line)}</div>' for line in (said, y_axis))
        head = f"{words(panel.title, 'strong')}{keys}{above_it}"
        parts.append(f'<div class="panel">{head}{plot(drawing, labels, left=["100 %"])}</div>')
    return picture(key, title, description, [f'<div class="panels">{"".join(parts)}</div>'])


#: Ticks of a share, in per cent.
_QUARTERS = (0.0, 25.0, 50.0, 75.0, 100.0)


def _square(panel: Panel) -> str:
    parts = []
    for tick in _QUARTERS:
        parts.append(level(per_cent(100 - tick), 0, 100, "grid"))
        parts.append(f'<text x="-10" y="{per_cent(100 - tick)}" dy="4" class="tick down">{tick:.0f} %</text>')
    parts.append('<line x1="0" y1="100%" x2="100%" y2="0" class="mark"/>')
    for series in panel.series:
        if len(series.points) > 1:
            line = "L".join(f"{1000 * a:.0f} {1000 - 1000 * b:.0f}" for a, b, _, _ in series.points)
            parts.append(stretched([f'<path d="M{line}" class="curve thin kind-{series.kind}"/>'], 1000))
        for a, b, low, high in series.points:
            ends = per_cent(100 - 100 * low), per_cent(100 - 100 * high)
            parts.append(upright(100 * a, *ends, f"whisker kind-{series.kind}"))
            parts.append(circle(100 * a, per_cent(100 - 100 * b), 4.5, f"dot kind-{series.kind}"))
    return f'<svg class="square">{"".join(parts)}</svg>'


@dataclass(frozen=True, slots=True)
class Place:
    """A place on :func:`track`: how far along the way it lies, its interval (None: none), what is said there."""

    label: str
    value: float
    shown: str
    kind: str
    low: float | None = None
    high: float | None = None


#: The part of the way that :func:`track` shows at most; what lies beyond is cut off there.
_SHOWN = (-0.4, 1.4)


def track(here: Place, start: Place, end: Place, goal: Place, *, key: str, title: str, axis: str) -> str:
    """How far ``here`` has come on the way from ``start`` (0) to ``end`` (1), with a dashed line at ``goal``."""
    known = [value for value in (here.value, here.low, here.high) if value is not None]
    low = max(min(0.0, *known) - 0.03, _SHOWN[0]) if min(known) < 0 else 0.0
    high = min(max(1.0, *known) + 0.03, _SHOWN[1]) if max(known) > 1 else 1.0
    x = Axis(low, high)

    def at(value: float) -> float:
        return x(min(max(value, low), high))

    rail = [level("16", at(0), at(1), "rail")]
    if at(here.value) > at(0):
        rail.append(level("16", at(0), at(here.value), f"rail kind-{here.kind}"))
    if here.low is not None and here.high is not None:
        rail += ['<g class="kind-ink">', *capped(at(here.low), at(here.high), 16), "</g>"]
    rail += [circle(at(place.value), "16", 7, f"dot kind-{place.kind}") for place in (start, end)]
    rail.append(circle(at(here.value), "16", 8, f"dot kind-{here.kind}"))
    labels = labelled(low, high, lambda tick: f"{number(round(100 * tick, 6))} %")
    sides = "".join(f"<div>{words(place.label)}{words(place.shown, 'shown')}</div>" for place in (start, end))
    way = [
        f'<svg class="lines">{upright(at(goal.value), "18", "100%", "mark")}</svg>',
        near(at(goal.value), goal.label, "tick"),
        near(at(here.value), f"{here.label}: {here.shown}", "strong"),
        f'<svg class="way">{"".join(rail)}</svg>',
    ]
    below = [
        f'<div class="poles" style="margin:0 {per_cent(100 - at(1))} 0 {per_cent(at(0))}">{sides}</div>',
        scale(labels),
        f'<div class="axis">{words(axis)}</div>',
    ]
    said = "; ".join(f"{place.label}: {place.shown}" for place in (here, start, end))
    return picture(key, title, f"{said}; {goal.label}.", [plot(way, labels), plot(below, labels)])
