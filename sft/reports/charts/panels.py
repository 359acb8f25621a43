"""Confidence against accuracy in square panels, and the way from one place to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sft.reports.charts.marks import (
    NARROW,
    STRONG_CHARACTER,
    Axis,
    Entry,
    capped,
    circle,
    clamped,
    legend,
    number,
    picture,
    px,
    rule,
    text,
    ticks,
    wrapped,
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
    width: int,
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
    narrow = width < NARROW
    left, gap = 44.0, 30.0
    side = width - left - 14 if narrow else (width - 2 * left - gap - 14) / 2
    parts: list[str] = []
    start, top, bottom = 0.0, 0.0, 0.0
    for panel in panels:
        heading = wrapped(panel.title, side + left)
        parts += [text(start, top + 14 + 18 * place, line, "strong") for place, line in enumerate(heading)]
        entries = [Entry(series.label, series.kind, "dot") for series in panel.series]
        keys, row = legend(entries, start, start + left + side, top + 18 * len(heading) + 18)
        parts += [*keys, text(start, row + 26, y_axis, "tick")]
        x = Axis(0, 1, start + left, start + left + side)
        y = Axis(0, 1, row + 40 + side, row + 40)
        parts += _square(panel, x, y, above, below)
        parts.append(text((x.start + x.end) / 2, y.start + 38, x_axis, "tick", "middle"))
        bottom = max(bottom, y.start + 44)
        start, top = (0.0, bottom + 18) if narrow else (start + left + side + gap, 0.0)
    return picture(key, width, bottom, title, description, parts)


def _square(panel: Panel, x: Axis, y: Axis, above: str, below: str) -> list[str]:
    parts = []
    for tick in ticks(0, 1, 5):
        parts += [
            rule(x.start, y(tick), x.end, y(tick), "grid"),
            rule(x(tick), y.start, x(tick), y.start + 5, "grid"),
            text(x.start - 8, y(tick) + 4, f"{100 * tick:.0f} %", "tick", "end"),
            text(x(tick), y.start + 19, f"{100 * tick:.0f} %", "tick", "middle"),
        ]
    parts.append(rule(x(0), y(0), x(1), y(1), "mark"))
    parts.append(text(x.start + 8, y.end + 20, above, "tick halo"))
    parts.append(text(x.end - 8, y.start - 12, below, "tick halo", "end"))
    for series in panel.series:
        if len(series.points) > 1:
            line = "L".join(f"{px(x(a))} {px(y(b))}" for a, b, _, _ in series.points)
            parts.append(f'<path d="M{line}" class="curve thin kind-{series.kind}"/>')
        for a, b, low, high in series.points:
            parts.append(rule(x(a), y(low), x(a), y(high), f"whisker kind-{series.kind}"))
            parts.append(circle(x(a), y(b), 4.5, f"dot kind-{series.kind}"))
    return parts


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


def track(here: Place, start: Place, end: Place, goal: Place, *, key: str, title: str, width: int, axis: str) -> str:
    """How far ``here`` has come on the way from ``start`` (0) to ``end`` (1), with a dashed line at ``goal``."""
    known = [value for value in (here.value, here.low, here.high) if value is not None]
    low = max(min(0.0, *known) - 0.03, _SHOWN[0]) if min(known) < 0 else 0.0
    high = min(max(1.0, *known) + 0.03, _SHOWN[1]) if max(known) > 1 else 1.0
    x = Axis(low, high, 22.0, width - 22.0)

    def at(value: float) -> float:
        return x(min(max(value, low), high))

    parts = [text(clamped(at(goal.value), goal.label, 0, width), 16, goal.label, "tick", "middle")]
    words = f"{here.label}: {here.shown}"
    lines = wrapped(words, width, STRONG_CHARACTER)
    for row, line in enumerate(lines):
        parts.append(
            text(
                clamped(at(here.value), line, 0, width, STRONG_CHARACTER), 42 + 18 * row, line, "strong halo", "middle"
            )
        )
    rail = 42 + 18 * len(lines) + 10
    parts = [rule(at(goal.value), 22, at(goal.value), rail + 16, "mark"), *parts]
    parts.append(rule(at(0), rail, at(1), rail, "rail"))
    if at(here.value) > at(0):
        parts.append(rule(at(0), rail, at(here.value), rail, f"rail kind-{here.kind}"))
    if here.low is not None and here.high is not None:
        parts += capped(at(here.low), at(here.high), rail, "ink")
    parts += [circle(at(place.value), rail, 7, f"dot kind-{place.kind}") for place in (start, end)]
    parts.append(circle(at(here.value), rail, 8, f"dot kind-{here.kind}"))
    half = min((at(1) - at(0)) / 2, 300)
    deepest = rail
    for place, anchor in ((start, "start"), (end, "end")):
        edge = at(place.value) - 7 if anchor == "start" else at(place.value) + 7
        said = [*wrapped(place.label, half), place.shown]
        for row, line in enumerate(said):
            role = "figure" if row == len(said) - 1 else ""
            parts.append(text(edge, rail + 30 + 17 * row, line, role, anchor))
        deepest = max(deepest, rail + 30 + 17 * (len(said) - 1))
    marks = [tick for tick in ticks(low, high, 4 if width < NARROW else 6) if low <= tick <= high]
    parts.append(rule(x.start, deepest + 18, x.end, deepest + 18, "grid"))
    for tick in marks:
        parts.append(rule(x(tick), deepest + 18, x(tick), deepest + 23, "grid"))
        parts.append(text(x(tick), deepest + 38, f"{number(round(100 * tick, 6))} %", "tick", "middle"))
    parts.append(text(width / 2, deepest + 57, axis, "tick", "middle"))
    said_all = "; ".join(f"{place.label}: {place.shown}" for place in (here, start, end))
    description = f"{said_all}; {goal.label}."
    return picture(key, width, deepest + 63, title, description, parts)
