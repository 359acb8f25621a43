"""Distributions of whole numbers, and a whole cut into its parts."""

from __future__ import annotations

import math
import statistics
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
    legend,
    number,
    picture,
    rule,
    text,
    ticks,
)

__all__ = ["Bars", "Share", "histograms", "shares"]


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
    x = Axis(0, bins * step, left, width - 12)
    parts: list[str] = []
    y = 0.0
    for row, median in zip(rows, medians, strict=True):
        counts = [0] * bins
        for value in row.values:
            counts[min(value // step, bins - 1)] += 1
        tallest = max(counts)
        parts.append(text(left, y + 18, row.label, "strong"))
        beyond = sum(value >= (bins - 1) * step for value in row.values) if limit < longest else 0
        words = f"median {number(median)}" + (f", {beyond} longer than {(bins - 1) * step - 1}" if beyond else "")
        if len(row.label) * STRONG_CHARACTER + len(words) * FIGURE_CHARACTER > x.end - left:
            y += 17
        parts.append(text(x.end, y + 18, words, "figure", "end"))
        floor = y + 26 + strip
        for index, count in enumerate(counts):
            if count:
                tall = max(strip * count / tallest, 1.5)
                start = x(index * step)
                role = f"bar kind-{row.kind}" + (" beyond" if beyond and index == bins - 1 else "")
                parts.append(box(start + 0.5, floor - tall, x(index * step + step) - start - 1, tall, role))
        parts.append(rule(left, floor, x.end, floor, "axis"))
        at = x(min(median + 0.5 * (step == 1), bins * step))
        parts.append(rule(at, floor - strip - 2, at, floor + 4, "median"))
        y = floor + 12
    for tick in ticks(0, bins * step, 4 if narrow else 8, whole=True):
        parts.append(text(x(tick), y + 8, number(tick), "tick", "middle" if tick else "start"))
    parts.append(text((left + x.end) / 2, y + 27, axis, "tick", "middle"))
    said = "; ".join(f"{row.label}: {len(row.values)} texts of {min(row.values)} to {max(row.values)}" for row in rows)
    return picture(key, width, y + 34, title, f"{said}.", parts)


def shares(parts: Sequence[Share], *, key: str, title: str, width: int) -> str:
    """One bar cut into its parts, with a legend; a part too small to see keeps 3 pixels.

    Raises ``ValueError`` if all are 0.
    """
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
        drawn.append(box(at, 0, size, 30, f"share kind-{part.kind}"))
        words = f"{part.count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        if size > (len(words) + 2) * CHARACTER:
            drawn.append(text(at + size / 2, 19.5, words, "on-share strong", "middle"))
        at += size + gap
    keys, row = legend([Entry(part.label, part.kind, "patch") for part in present], 0, width, 48)
    said = ", ".join(f"{part.count} {part.label}" for part in present)
    return picture(key, width, row + 10, title, f"{said}; {total} in all.", [*drawn, *keys])
