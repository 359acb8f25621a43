"""A comparison for a reader: as text, and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from sft.fidelity.comparison import NOTE, Comparison, Contender
from sft.fidelity.conventions import LEVEL
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Dot
from sft.reports.names import metric_name
from sft.reports.text import figure, in_groups, shown
from sft.runs.visible import plain

__all__ = ["aligned", "to_html", "to_text"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns two spaces apart."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def to_text(comparison: Comparison) -> str:
    """Two tables for a terminal, and the notes."""
    name = metric_name(comparison.headline)
    rows = [["run", name, "over best shortcut", "bits/byte", "stops", "looks", "verdict"]]
    rows += [[*_cells(one), str(one.looks), one.rung] for one in comparison.contenders]
    pairs = [["pair", f"{name}, difference", "bits/byte, difference", "p", "p (Holm)", "verdict"]]
    pairs += [
        [
            f"{pair.first} - {pair.second}",
            figure(pair.difference, signed=True),
            _bits(pair.bits, signed=True),
            f"{pair.p_value:.4f}",
            f"{pair.adjusted:.4f}",
            pair.words,
        ]
        for pair in comparison.pairs
    ]
    floors = list(dict.fromkeys(f"{one.gain.floor}: {one.shortcut}" for one in comparison.contenders))
    about = f"{comparison.n} held-out prompts{_groups(comparison)}, the same for all; in brackets: 95 % intervals"
    return "\n".join([about, "", *aligned(rows), *floors, "", *aligned(pairs), "", *comparison.notes, NOTE])


def to_html(comparison: Comparison) -> str:
    """One page that loads nothing and runs no script."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("sft.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "plain": plain, "shown": shown}
    return environment.get_template("compare.html.j2").render(
        comparison=comparison,
        headline=metric_name(comparison.headline),
        groups=_groups(comparison),
        pictures={"scores": Markup(_scores(comparison)), "differences": Markup(_differences(comparison))},
        title=comparison.title,
        sentence=comparison.sentence,
        level=LEVEL,
        note=NOTE,
    )


def _scores(comparison: Comparison) -> str:
    ahead = {pair.closer for pair in comparison.pairs} - {""}
    ranked = sorted(comparison.contenders, key=lambda one: -one.score.value)
    dots = [
        Dot(c.name, c.score.value, c.score.low, c.score.high, figure(c.score), "tuned", strong=c.name in ahead)
        for c in ranked
    ]
    axis = f"{metric_name(comparison.headline)} of the clone, points"
    return charts.dots(dots, key="scores", title="How close each clone comes", axis=axis)


def _differences(comparison: Comparison) -> str:
    dots = [
        Dot(
            f"{pair.first} \N{MINUS SIGN} {pair.second}",
            pair.difference.value,
            pair.difference.low,
            pair.difference.high,
            figure(pair.difference, signed=True),
            "tuned" if pair.closer else "other",
            strong=bool(pair.closer),
        )
        for pair in comparison.pairs
    ]
    axis = f"difference in {metric_name(comparison.headline)} points: right of 0 the first is closer to the expert"
    return charts.dots(dots, key="differences", title="Differences between the clones", axis=axis, signed=True)


def _groups(comparison: Comparison) -> str:
    return in_groups(comparison.n, comparison.clusters)


def _bits(estimate: Estimate | None, *, signed: bool = False) -> str:
    return figure(estimate, "bits", signed=signed)


def _cells(one: Contender) -> list[str]:
    """Name, score, gain with the shortcut's name, bits per byte, stop rate."""
    gain = f"{figure(one.gain.estimate, signed=True)} ({one.gain.floor})"
    return [one.name, figure(one.score), gain, _bits(one.bits), figure(one.stop_rate, "share")]
