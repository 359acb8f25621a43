"""Along the expert's path: leaving it, being put back on it, being sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sft.fidelity.scorecard import Calibration, PrefixPoint, Scorecard
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Line, Panel, Series
from sft.reports.illustrations.widths import KINDS
from sft.reports.names import metric_name, system_name

__all__ = ["drawn"]


def drawn(card: Scorecard, width: int) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    name = metric_name(card.headline)
    curves = [_survival(card, system) for system in ("tuned", "B0") if card.survival.get(system)]
    if curves:
        yield (
            "survival",
            charts.curves(
                curves,
                key="survival",
                title="Still on the expert's path",
                width=width,
                percent=True,
                description="Share of held-out completions whose first tokens the policy would have written exactly "
                "as the expert did, by number of tokens; bands are 95 % intervals.",
                x_axis="tokens into the expert's completion",
                y_axis="share of completions",
            ),
        )
    if card.prefix.get("tuned"):
        yield "prefix", _prefix(card, name, width)
    if card.calibration.keys() & {"tuned", "B0"}:
        yield "calibration", _calibration(card, width)


def _survival(card: Scorecard, system: str) -> Line:
    points = card.survival[system]
    half = next((p.token for p in points if p.share <= 0.5), None)
    at_half = next((p.share for p in points if p.token == half), 0.0)
    mark = (half, at_half, f"half have left: token {half}") if half is not None and system == "tuned" else None
    return Line(
        system_name(system),
        [(0, 1.0), *((p.token, p.share) for p in points)],
        KINDS[system],
        band=[(0, 1.0, 1.0), *((p.token, p.low, p.high) for p in points)],
        mark=mark,
        steps=True,
    )


def _band(points: Sequence[tuple[float, Estimate]]) -> list[tuple[float, float, float]]:
    return [(x, e.low, e.high) for x, e in points if e.low is not None and e.high is not None]


def _prefix(card: Scorecard, name: str, width: int) -> str:
    def line(points: Sequence[PrefixPoint], label: str, kind: str) -> Line:
        scores = [(p.share, p.score) for p in points]
        return Line(label, [(x, e.value) for x, e in scores], kind, band=_band(scores), beads=True)

    lines = [
        line(card.prefix[system], label, kind)
        for system, label, kind in (
            ("tuned", "clone, after the expert's beginning", "tuned"),
            ("own", "clone, after its own", "held"),
            ("E", "another expert", "expert"),
        )
        if card.prefix.get(system)
    ]
    said = "; ".join(
        f"{line.label}: " + ", ".join(f"{y:.1f} at {100 * x:.0f} %" for x, y in line.points) for line in lines
    )
    return charts.curves(
        lines,
        key="prefix",
        title="How closely it goes on once part of the expert's text is given",
        width=width,
        description=f"{name} of the rest of the completion, by the share given. {said}.",
        x_axis="share of the text before it",
        y_axis=f"{name} of the rest (points)",
        parts_of=[point.share for point in card.prefix["tuned"]],
    )


def _calibration(card: Scorecard, width: int) -> str:
    def series(label: str, part: Calibration, kind: str) -> Series:
        return Series(label, [(b.confidence, b.accuracy, b.low, b.high) for b in part.bins], kind)

    names = {"tuned": "the clone", "B0": "base model"}
    # The clone's own path has no place here: another good answer would count as wrong.
    led = [series(names[s], card.calibration[s], KINDS[s]) for s in ("B0", "tuned") if s in card.calibration]
    panels = [Panel("On the expert's path", led)]
    said = "; ".join(
        f"{panel.title}, {s.label}: {len(s.points)} groups of tokens, {s.points[0][1]:.0%} right at "
        f"{s.points[0][0]:.0%} sure to {s.points[-1][1]:.0%} right at {s.points[-1][0]:.0%} sure"
        for panel in panels
        for s in panel.series
        if s.points
    )
    return charts.squares(
        panels,
        key="calibration",
        title="Is it right as often as it is sure?",
        description=f"Confidence against accuracy. {said}.",
        width=width,
        x_axis="how sure it was of its token",
        y_axis="how often the token was the expert's",
        above="more often right than sure",
        below="surer than right",
    )
