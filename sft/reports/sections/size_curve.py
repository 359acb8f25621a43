"""The chapter "Would more demonstrations help?": the curve over their number, and what it foretells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sft.fidelity.scorecard import Scorecard
from sft.fidelity.size_curve import RUNS, SizeCurve, SizePoint
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Line
from sft.reports.names import metric_name
from sft.reports.sections.parts import DASH, Chapter, Grid, Part, Row, away, side
from sft.reports.text import figure, grouped

__all__ = ["NEGLIGIBLE", "pictures", "size_chapter", "size_sentences", "to_text"]

#: Share of the present bits per byte that as many demonstrations again must be able to save, for it to be worth saying.
NEGLIGIBLE = 0.01


def size_chapter(curve: SizeCurve, card: Scorecard | None = None) -> Chapter:
    """The curve, its table, and what follows. ``card``: of the clone of all demonstrations, for what else is short."""
    name = metric_name(curve.headline)
    columns = (
        ("Demonstrations", ""),
        ("bits per byte", "of the expert's completions; lower is better"),
        (name, "of greedy completions"),
        ("bits: all minus these", "paired prompt by prompt"),
        (f"{name}: all minus these", "paired prompt by prompt"),
        ("runs", ""),
    )
    rows = tuple(_row(point, point is curve.points[-1]) for point in curve.points)
    over = "prompts and runs" if curve.seeds > 1 else "prompts"
    steps = (
        "Where the recipe counts epochs, a clone of fewer demonstrations has taken fewer steps: what more of them "
        "bring and what more steps bring is one here."
    )
    note = (
        f"Judged on {curve.prompts} validation prompts, the same for all, on which checkpoints were chosen too; the "
        f"test prompts are those of the rest of this report. Intervals are over {over}."
    )
    part = Part(
        "size-curve", "The curve", size_sentences(curve, card),
        "Nested subsets of the training prompts; the dashed line is the fitted law, the band the 95 % interval of each "
        "point over prompts. Sizes are compared prompt by prompt, in the sentences and in the table.",
        (Grid("Demonstrations", columns, rows, bare=True),), notes=(note, steps),
    )  # fmt: skip
    return Chapter(
        "more-demonstrations",
        "Would more demonstrations help?",
        f"The same recipe was fitted to {'an eighth, ' if len(curve.points) > 3 else ''}a quarter, half and all of the "
        "demonstrations, and every clone was judged on the same prompts.",
        (part,),
    )


def _row(point: SizePoint, lit: bool) -> Row:
    cells = (
        figure(point.bits, "bits"),
        figure(point.score),
        DASH if point.bits_behind is None else figure(point.bits_behind, "bits", signed=True),
        DASH if point.score_behind is None else figure(point.score_behind, signed=True),
        str(len(point.runs)),
    )
    return Row(grouped(point.rows), cells, lit)


def size_sentences(curve: SizeCurve, card: Scorecard | None = None) -> tuple[str, ...]:
    """What half of the demonstrations cost, what more would bring, and what to know of it."""
    half, last, name = curve.points[-2], curve.points[-1], metric_name(curve.headline)
    found = [_halved(half, last, name)]
    if not curve.more:
        found.append(
            f"What more demonstrations would bring is not told from {curve.seeds} run{'s' * (curve.seeds > 1)} a size, "
            f"for runs differ by chance too: it takes `--seeds {RUNS}`."
        )
        return tuple(found)
    for n, told in curve.more.items():
        found.append(_more(int(n), told))
    again, limit = curve.more[str(last.rows)], NEGLIGIBLE * last.bits.value
    if again.low is not None and again.low <= 0 and again.high is not None and again.high < limit:
        found.append(
            f"More of the same would not help: as many again save less than {100 * NEGLIGIBLE:.0f} % of the bits per "
            f"byte that are left.{_instead(card)}"
        )
    return tuple(found)


def _halved(half: SizePoint, last: SizePoint, name: str) -> str:
    """What the second half of the demonstrations has brought."""
    bits, score = half.bits_behind, half.score_behind
    assert bits is not None and score is not None
    whom = f"The clone of all {grouped(last.rows)} demonstrations finds the expert\u2019s words"
    less, shown = away(bits, "bits"), figure(bits, "bits", signed=True)
    says = {
        -1: f"{whom} likelier than that of {grouped(half.rows)}: {less} bits per byte less",
        1: f"{whom} less likely than that of {grouped(half.rows)}: {less} bits per byte more",
        0: f"Which finds the expert\u2019s words likelier, the clone of {grouped(last.rows)} or that of "
        f"{grouped(half.rows)} demonstrations, is not shown ({shown} bits per byte)",
    }
    return f"{says[side(bits)]}; in {name} it is {figure(score, signed=True)} points."


def _more(n: int, told: Estimate) -> str:
    if told.low is not None and round(told.low, 3) > 0:  # as it is shown
        return f"{grouped(n)} more demonstrations would save {figure(told, 'bits')} bits per byte by the fitted curve."
    most = "" if told.high is None else f"; by the fitted curve they would save {told.high:.3f} bits per byte at most"
    return f"That {grouped(n)} more demonstrations would help is not shown{most}."


def _instead(card: Scorecard | None) -> str:
    """What else the clone may be short of, as far as it was measured."""
    if card is None or card.closure is None or card.closure.finding != "cloned":
        return ""
    return (
        " It is as close as experts are to each other, within the margin of the verdict: they do not agree better, and "
        "no number of demonstrations comes closer to all of them."
    )


def pictures(curve: SizeCurve | None) -> Iterator[tuple[str, str]]:
    """Bits per byte by the number of demonstrations, with the law that was fitted."""
    if curve is None:
        return
    points = [(float(p.rows), p.bits.value) for p in curve.points]
    band = [(float(p.rows), p.bits.low, p.bits.high) for p in curve.points
            if p.bits.low is not None and p.bits.high is not None]  # fmt: skip
    lines = [Line("measured", points, "tuned", band=band, beads=True)]
    if curve.law is not None:
        largest = curve.points[-1].rows
        reach = np.linspace(curve.points[0].rows, (2 if curve.more else 1) * largest, 40)
        lines.append(Line("fitted law", [(float(n), curve.law.at(float(n))) for n in reach], "base"))
    said = ", ".join(f"{grouped(p.rows)}: {p.bits.value:.3f}" for p in curve.points)
    yield (
        "size-curve",
        charts.curves(
            lines,
            key="size-curve",
            title="Surprise at the expert\u2019s words by number of demonstrations",
            description=f"Bits per byte by number of demonstrations. {said}.",
            x_axis="demonstrations",
            y_axis="bits per byte, lower is better",
        ),
    )


def to_text(curve: SizeCurve) -> str:
    """The same for a terminal."""
    name = metric_name(curve.headline)
    lines = [f"Bits per byte and {name} by number of demonstrations, on {curve.prompts} validation prompts:"]
    lines += [f"  {grouped(p.rows):>8}  {figure(p.bits, 'bits')}  {figure(p.score)}" for p in curve.points]
    return "\n".join([*lines, "", *size_sentences(curve)])
