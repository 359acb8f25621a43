"""Distributions of whole numbers, and a whole cut into its parts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sft.reports.charts.marks import (
    Axis,
    Entry,
    labelled,
    legend,
    level,
    number,
    picture,
    plot,
    scale,
    stretched,
    upright,
    words,
)
from sft.reports.text import grouped

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


#: Bins of a histogram at most, and its height in pixels, as the style sheet has it.
_BINS, _STRIP = 40, 64


def histograms(rows: Sequence[Bars], *, key: str, title: str, axis: str) -> str:
    """Distributions under one another on one scale, the median marked; a long tail ends in one last bar.

    The scale reaches to twice the first row's largest value and past every median, or less if nothing is there.
    Raises ``ValueError`` unless every row holds a value.
    """
    if not rows or not all(row.values for row in rows):
        raise ValueError("every histogram needs at least one value")
    medians = [statistics.median(row.values) for row in rows]
    longest = max(max(row.values) for row in rows)
    limit = min(longest, math.ceil(max(2 * max(rows[0].values), *(1.5 * median for median in medians), 10)))
    step = max(math.ceil((limit + 1) / _BINS), 1)
    bins = limit // step + 1
    x = Axis(0, bins * step)
    parts = []
    for row, median in zip(rows, medians, strict=True):
        beyond = sum(value >= (bins - 1) * step for value in row.values) if limit < longest else 0
        said = f"median {number(median)}" + (f", {beyond} longer than {(bins - 1) * step - 1}" if beyond else "")
        parts.append(f'<div class="heading">{words(row.label, "strong")}{words(said, "shown")}</div>')
        counts = [0] * bins
        for value in row.values:
            counts[min(value // step, bins - 1)] += 1
        drawn = [level("100%", 0, 100, "floor")]
        at = x(min(median + 0.5 * (step == 1), bins * step))
        drawn += [stretched(_bars(counts, row.kind, beyond > 0), _STRIP), upright(at, "-2", str(_STRIP + 4), "median")]
        parts.append(f'<svg class="strip">{"".join(drawn)}</svg>')
    labels = labelled(0, bins * step, whole=True)
    parts += [scale(labels), f'<div class="axis">{words(axis)}</div>']
    said = "; ".join(f"{row.label}: {len(row.values)} texts of {min(row.values)} to {max(row.values)}" for row in rows)
    return picture(key, title, f"{said}.", [plot(parts, labels)])


def _bars(counts: Sequence[int], kind: str, beyond: bool) -> list[str]:
    """One path of all bars, in 1000 by the strip's height; the last is another where it holds what lies beyond."""
    edges = [round(1000 * place / len(counts)) for place in range(len(counts) + 1)]
    tallest = max(counts)
    bars = [
        f"M{edges[n]} {_STRIP}v-{max(_STRIP * count / tallest, 1.5):.3g}H{edges[n + 1]}V{_STRIP}z" if count else ""
        for n, count in enumerate(counts)
    ]
    last = bars.pop() if beyond else ""
    paths = [("".join(bars), f"bar kind-{kind}"), (last, f"bar kind-{kind} beyond")]
    return [f'<path d="{path}" class="{role}"/>' for path, role in paths if path]


def shares(parts: Sequence[Share], *, key: str, title: str) -> str:
    """One bar cut into its parts, with a legend that counts them; a part too small to see keeps 3 pixels.

    Raises ``ValueError`` if all are 0.
    """
    present = [part for part in parts if part.count]
    total = sum(part.count for part in present)
    if not total:
        raise ValueError("a bar of shares needs a count above 0")
    cut = "".join(f'<i class="share kind-{part.kind}" style="flex-grow:{part.count}"></i>' for part in present)
    keys = [Entry(f"{part.label}: {grouped(part.count)}", part.kind, "patch") for part in present]
    said = ", ".join(f"{part.count} {part.label}" for part in present)
    return picture(key, title, f"{said}; {total} in all.", [f'<div class="shares">{cut}</div>', legend(keys)])
