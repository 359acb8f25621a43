"""Pictures for a report, drawn by hand as SVG: dots with interval bars, curves, histograms, shares.

No plotting library, no fonts, no script: a picture is a string of SVG that takes its colours from the
page's style sheet (classes ``kind-...``), so it follows light and dark. Every picture carries a title and
a description for readers who hear it. ``width`` is in CSS pixels and text keeps its size: draw once for a
desk and once for a phone rather than shrink one into the other.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bars", "Dot", "Line", "Share", "curves", "dots", "histograms", "shares", "ticks"]

#: Narrower than this, labels stand above what they name instead of beside it.
NARROW = 520
#: Width of an average character of the page's 13 pixel type; pictures cannot measure text.
CHARACTER = 6.9


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of :func:`dots`: a value with its interval (None: it has none). ``shown``: the number in words."""

    label: str
    value: float
    low: float | None
    high: float | None
    shown: str
    kind: str = "other"
    strong: bool = False


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


@dataclass(frozen=True, slots=True)
class Bars:
    """One row of :func:`histograms`: whole numbers, drawn as a distribution."""

    label: str
    values: Sequence[int]
    kind: str


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a whole in :func:`shares`."""

    label: str
    count: int
    kind: str


def ticks(low: float, high: float, wanted: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside ``[low, high]``, about ``wanted`` of them.

    ``whole``: whole numbers only, for an axis that counts.

    Raises ``ValueError`` unless ``low < high`` and both are finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"an axis needs two different finite ends, not {low} and {high}")
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9)]
    step = next((s for s in steps if s == int(s)), 1.0) if whole else steps[0]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [0.0 if k == 0 else round(k * step, 12) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Maps values to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _rounded_out(low: float, high: float, wanted: int = 5) -> tuple[float, float]:
    """The smallest range of whole ticks around ``[low, high]``."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    marks = ticks(low, high, wanted)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _number(value: float) -> str:
    """A tick's label: no trailing zeros, a true minus sign."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, words: str, role: str = "", anchor: str = "start") -> str:
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_px(x)}" y="{_px(y)}" class="t {role}"{side}>{escape(words)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, role: str) -> str:
    return f'<line x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}" class="{role}"/>'


def _box(x: float, y: float, width: float, height: float, role: str) -> str:
    return f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(max(width, 0))}" height="{_px(height)}" class="{role}"/>'


def _picture(key: str, width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    name = f"{key}-{width:.0f}"
    return (
        f'<svg class="picture" role="img" aria-labelledby="{name}-t {name}-d" width="{_px(width)}" '
        f'viewBox="0 0 {_px(width)} {_px(height)}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _wrapped(words: str, pixels: float) -> list[str]:
    return textwrap.wrap(words, max(int(pixels / CHARACTER), 8)) or [""]


def dots(rows: Sequence[Dot], *, key: str, title: str, width: int, axis: str, signed: bool = False) -> str:
    """Values as dots on one scale, intervals as bars. The scale starts at 0; ``signed`` marks 0 with a line.

    Raises ``ValueError`` without rows.
    """
    if not rows:
        raise ValueError("a picture of dots needs at least one row")
    narrow = width < NARROW
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    low, high = _rounded_out(min(*ends, 0.0), max(*ends, 1e-9), 4 if narrow else 6)
    value_width = max(len(row.shown) for row in rows) * CHARACTER + 4
    label_width = width - value_width - 8 if narrow else min(250, max(len(r.label) for r in rows) * CHARACTER)
    left = 8.0 if narrow else label_width + 22
    x = _Axis(low, high, left, width - 10 if narrow else width - value_width - 18)
    marked = ticks(low, high, 4 if narrow else 6)
    parts: list[str] = []
    middles: list[float] = []
    y = 6.0
    for row in rows:
        lines = _wrapped(row.label, label_width)
        height = 17 * len(lines) + 34 if narrow else max(17 * len(lines) + 14, 38)
        if row.strong:
            parts.append(_box(0, y, width, height, "lit"))
        role = "strong" if row.strong else ""
        first = y + 19 if narrow else y + height / 2 - 17 * (len(lines) - 1) / 2 + 4.5
        parts += [_text(8 if narrow else 10, first + 17 * i, line, role) for i, line in enumerate(lines)]
        middle = y + height - 13 if narrow else y + height / 2
        parts.append(_text(width - 8, first if narrow else middle + 4.5, row.shown, f"{role} figure", anchor="end"))
        middles.append(middle)
        if row.low is not None and row.high is not None:
            parts.append(_rule(x(row.low), middle, x(row.high), middle, f"interval kind-{row.kind}"))
            for end in (row.low, row.high):
                parts.append(_rule(x(end), middle - 5, x(end), middle + 5, f"whisker kind-{row.kind}"))
        parts.append(
            f'<circle cx="{_px(x(row.value))}" cy="{_px(middle)}" r="{6 if row.strong else 4.5}" '
            f'class="dot kind-{row.kind}"/>'
        )
        y += height + 2
    # On a phone the labels stand above their track, so lines are drawn along the tracks only.
    spans = [(m - 9, m + 9) for m in middles] if narrow else [(4.0, y + 2)]
    grid = [_rule(x(tick), a, x(tick), b, "grid") for tick in marked for a, b in spans]
    if signed:
        grid += [_rule(x(0), a - 1, x(0), b + 1, "zero") for a, b in spans]
    marks = [_text(x(tick), y + 18, _number(tick), "tick", "middle") for tick in marked]
    marks.append(_text((x.start + x.end) / 2, y + 36, axis, "tick", "middle"))
    said = "; ".join(f"{row.label}: {row.shown}" for row in rows)
    # Highlights lie under the grid, the grid under the dots.
    lit = [part for part in parts if 'class="lit"' in part]
    rest = [part for part in parts if 'class="lit"' not in part]
    return _picture(key, width, y + 42, title, f"{said}.", [*lit, *grid, *rest, *marks])


def curves(
    lines: Sequence[Line],
    *,
    key: str,
    title: str,
    description: str,
    width: int,
    x_axis: str,
    percent: bool = False,
) -> str:
    """Curves over a common x. ``percent``: y is a share, drawn from 0 to 100 %.

    Raises ``ValueError`` when no curve has a point.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise ValueError("a picture of curves needs at least one point")
    narrow = width < NARROW
    low, high = (0.0, 1.0) if percent else _rounded_out(min(ys), max(ys), 4)
    x_low, x_high = min(xs), max(xs)
    if x_high == x_low:
        x_low, x_high = x_low - 1, x_high + 1
    left = 44.0
    legend, at, row = [], left, 13.0
    for line in lines:
        wide = 31 + len(line.label) * CHARACTER
        if at > left and at + wide > width:
            at, row = left, row + 20
        legend.append(_rule(at, row, at + 24, row, f"curve kind-{line.kind}"))
        legend.append(_text(at + 31, row + 4.5, line.label))
        at += wide + 22
    height, top = (240 if narrow else 280), row + 21
    x = _Axis(x_low, x_high, left, width - 14)
    y = _Axis(low, high, top + height, top)
    parts = legend
    for tick in ticks(low, high, 5):
        words = f"{100 * tick:.0f} %" if percent else _number(tick)
        parts += [_rule(left, y(tick), x.end, y(tick), "grid")]
        parts += [_text(left - 8, y(tick) + 4, words, "tick", "end")]
    for tick in ticks(x_low, x_high, 4 if narrow else 7, whole=True):
        parts += [_rule(x(tick), y.start, x(tick), y.start + 5, "grid")]
        parts += [_text(x(tick), y.start + 19, _number(tick), "tick", "middle")]
    parts.append(_text((left + x.end) / 2, y.start + 38, x_axis, "tick", "middle"))
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
            parts += [f'<circle cx="{_px(a)}" cy="{_px(b)}" r="3" class="bead kind-{line.kind}"/>' for a, b in drawn]
        if line.mark:
            a, b, words = line.mark
            marks.append(f'<circle cx="{_px(x(a))}" cy="{_px(y(b))}" r="7" class="ring kind-{line.kind}"/>')
            room = len(words) * CHARACTER / 2
            where = min(max(x(a), left + room), x.end - room)
            below = y(b) + 26
            above = below > y.start - 4
            marks.append(_text(where, y(b) - 14 if above else below, words, "strong halo", "middle"))
    return _picture(key, width, y.start + 44, title, description, [*parts, *marks])


def _path(points: Sequence[tuple[float, float]], *, steps: bool, backwards: bool = False) -> str:
    """Coordinates for a path's ``d``; a step keeps its height until the next x."""
    full: list[tuple[float, float]] = []
    for a, b in points:
        if steps and full:
            full.append((a, full[-1][1]))
        full.append((a, b))
    if backwards:
        full.reverse()
    return "L".join(f"{_px(a)} {_px(b)}" for a, b in full)


def histograms(rows: Sequence[Bars], *, key: str, title: str, width: int, axis: str) -> str:
    """Distributions under one another on one scale, the median marked; a long tail ends in one last bar.

    The scale reaches to twice the first row's largest value and past every median, or less if nothing is there.
    Raises ``ValueError`` unless every row holds a value.
    """
    if not rows or not all(row.values for row in rows):
        raise ValueError("every histogram needs at least one value")
    narrow = width < NARROW
    medians = [statistics.median(row.values) for row in rows]
    longest = max(max(row.values) for row in rows)
    limit = min(longest, math.ceil(max(2 * max(rows[0].values), *(1.5 * median for median in medians), 10)))
    step = max(math.ceil((limit + 1) / (24 if narrow else 40)), 1)
    bins = limit // step + 1
    left, strip = 8.0, 64.0
    x = _Axis(0, bins * step, left, width - 12)
    parts: list[str] = []
    y = 0.0
    for row, median in zip(rows, medians, strict=True):
        counts = [0] * bins
        for value in row.values:
            counts[min(value // step, bins - 1)] += 1
        floor, tallest = y + 26 + strip, max(counts)
        parts.append(_text(left, y + 18, row.label, "strong"))
        beyond = sum(value >= (bins - 1) * step for value in row.values) if limit < longest else 0
        words = f"median {_number(median)}" + (f", {beyond} longer than {(bins - 1) * step - 1}" if beyond else "")
        parts.append(_text(x.end, y + 18, words, "figure", "end"))
        for index, count in enumerate(counts):
            if count:
                tall = max(strip * count / tallest, 1.5)
                start = x(index * step)
                last = " beyond" if beyond and index == bins - 1 else ""
                parts.append(
                    _box(
                        start + 0.5,
                        floor - tall,
                        x(index * step + step) - start - 1,
                        tall,
                        f"bar kind-{row.kind}{last}",
                    )
                )
        parts.append(_rule(left, floor, x.end, floor, "axis"))
        at = x(min(median + 0.5 * (step == 1), bins * step))
        parts.append(_rule(at, floor - strip - 2, at, floor + 4, "median"))
        y = floor + 12
    for tick in ticks(0, bins * step, 4 if narrow else 8, whole=True):
        parts.append(_text(x(tick), y + 8, _number(tick), "tick", "middle" if tick else "start"))
    parts.append(_text((left + x.end) / 2, y + 27, axis, "tick", "middle"))
    said = "; ".join(f"{row.label}: {len(row.values)} texts of {min(row.values)} to {max(row.values)}" for row in rows)
    return _picture(key, width, y + 34, title, f"{said}.", parts)


def shares(parts: Sequence[Share], *, key: str, title: str, width: int) -> str:
    """One bar cut into its parts; a part too small to see keeps 3 pixels. Raises ``ValueError`` if all are 0."""
    present = [part for part in parts if part.count]
    total = sum(part.count for part in present)
    if not total:
        raise ValueError("a bar of shares needs a count above 0")
    gap, least = 2.0, 3.0
    room = width - gap * (len(present) - 1)
    widths = [room * part.count / total for part in present]
    short = sum(max(least - w, 0) for w in widths)
    large = sum(w for w in widths if w > least)
    drawn: list[str] = []
    at = 0.0
    for part, wide in zip(present, widths, strict=True):
        size = least if wide <= least else wide - short * wide / large
        drawn.append(_box(at, 0, size, 30, f"share kind-{part.kind}"))
        words = f"{part.count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        if size > (len(words) + 2) * CHARACTER:
            drawn.append(_text(at + size / 2, 19.5, words, "on-share strong", "middle"))
        at += size + gap
    said = ", ".join(f"{part.count} {part.label}" for part in present)
    return _picture(key, width, 30, title, f"{said}; {total} in all.", drawn)
