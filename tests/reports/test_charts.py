"""Pictures are well-formed, to scale, inside their frame, and speak to those who cannot see them.

How they look at which width is seen in a browser: ``test_pictures_in_a_browser.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.reports.charts import (
    Bars,
    Dot,
    Entry,
    Line,
    Mark,
    Panel,
    Place,
    Series,
    Share,
    curves,
    dots,
    histograms,
    shares,
    squares,
    ticks,
    track,
)

HOSTILE = '</title></svg><script>alert("x")</script>&\'"'

finite = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(picture: str) -> ElementTree.Element:
    """The picture as XML, checked for what every picture owes its reader."""
    root = ElementTree.fromstring(picture)
    assert root.get("role") == "img"
    names = (root.get("aria-labelledby") or "").split()
    assert [part.get("id") for part in (root[0], root[1])] == names
    assert root[0].text and root[0].get("hidden") is None, "the title is there for eyes too"
    assert root[1].text and root[1].get("hidden") == "", "the description is there for ears"
    assert root.find(".//script") is None
    return root


def marked(root: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    """The marks of one role, but for the samples of a legend."""
    samples = {id(part) for legend in root.iter() if legend.get("class") == "legend" for part in legend.iter()}
    found = [part for part in root.iter(tag) if name in (part.get("class") or "").split()]
    return [part for part in found if id(part) not in samples]


def number(part: ElementTree.Element, name: str) -> float:
    """A coordinate: per cent of the plot where it lies across, per cent or pixels where it lies down."""
    value = float(part.get(name, "nan").removesuffix("%"))
    assert math.isfinite(value)
    return value


def words(root: ElementTree.Element) -> list[str]:
    return ["".join(part.itertext()) for tag in ("text", "span") for part in root.iter(tag)]


def inside(root: ElementTree.Element) -> None:
    """Everything across is in per cent, and lies inside the plot; so does every path that is stretched."""
    for part in (part for svg in root.iter("svg") if svg.get("width") is None for part in svg.iter()):
        for name in ("x1", "x2", "cx"):
            if part.get(name, "0") != "0":
                assert (part.get(name) or "").endswith("%"), part.attrib
                assert 0 <= number(part, name) <= 100, part.attrib
        for name in ("y1", "y2", "cy", "y"):
            if part.get(name, "").endswith("%"):
                assert 0 <= number(part, name) <= 100, part.attrib
    for svg in (svg for svg in root.iter("svg") if svg.get("viewBox")):
        _, _, wide, high = map(float, (svg.get("viewBox") or "").split())
        for path in svg.iter("path"):
            for x, y in corners(path):
                assert 0 <= x <= wide and -0.1 <= y <= high + 0.1, path.attrib


def corners(path: ElementTree.Element) -> list[tuple[float, float]]:
    """Where a path of straight lines turns."""
    found, x, y = [], 0.0, 0.0
    for command, values in re.findall(r"([MLHVvz])([^MLHVvz]*)", path.get("d", "").replace("Z", "z")):
        given = [float(value) for value in values.split()]
        x = given[0] if command in "MLH" else x
        y = given[-1] if command in "MLV" else y + given[0] if command == "v" else y
        found.append((x, y))
    return found


# Ticks


@given(finite, finite, st.integers(1, 12), st.booleans())
def test_ticks_are_round_even_and_inside(a: float, b: float, wanted: int, whole: bool) -> None:
    low, high = sorted((a, b))
    if high - low < 1e-3:
        return
    marks = ticks(low, high, wanted, whole=whole)
    slack = (high - low) * 1e-6
    assert all(low - slack <= mark <= high + slack for mark in marks)
    assert len(marks) <= wanted + 1
    assert len({round(b - a, 9) for a, b in pairwise(marks)}) <= 1
    if whole:
        assert all(mark == int(mark) for mark in marks)


def test_ticks_people_would_choose() -> None:
    assert ticks(0, 60, 6) == [0, 10, 20, 30, 40, 50, 60]
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0, 15, 7) == [0, 2.5, 5, 7.5, 10, 12.5, 15]
    assert ticks(0, 15, 7, whole=True) == [0, 5, 10, 15]
    assert ticks(-3, 3, 3) == [-2, 0, 2]


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_an_axis_needs_two_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two different finite ends"):
        ticks(*ends)


# Dots


def row(label: str, value: float, low: float | None, high: float | None, strong: bool = False) -> Dot:
    return Dot(label, value, low, high, f"{value:.1f}", "tuned", strong)


def test_dots_and_intervals_are_to_scale() -> None:
    rows = [row("a", 50, 40, 60, strong=True), row("b", 10, 5, 15), row("c", 30, None, None)]
    root = parsed(dots(rows, key="k", title="Title", axis="points"))
    at = [number(dot, "cx") for dot in marked(root, "circle", "dot")]
    assert at[0] - at[2] == pytest.approx(at[2] - at[1], abs=0.2), "30 lies midway between 10 and 50"
    spans = [(number(bar, "x1"), number(bar, "x2")) for bar in marked(root, "line", "interval")]
    assert len(spans) == 2, "a row without an interval has no bar"
    assert sum(spans[0]) / 2 == pytest.approx(at[0], abs=0.1)
    assert at == [pytest.approx(100 * value / 60, abs=0.1) for value in (50, 10, 30)], "per cent of a scale to 60"
    assert spans[0][1] - spans[0][0] == pytest.approx(2 * (spans[1][1] - spans[1][0]), abs=0.3)
    assert len(marked(root, "div", "lit")) == 1
    assert (root[1].text or "").startswith("a: 50.0; b: 10.0")


@pytest.mark.parametrize("values", [(-5.0, 3.0), (2.0, 9.0), (-8.0, -1.0), (0.0, 0.0)])
def test_gains_show_where_zero_is(values: tuple[float, float]) -> None:
    rows = [row("over base", value, value - 2, value + 2) for value in values]
    root = parsed(dots(rows, key="k", title="T", axis="points", signed=True))
    zero = number(marked(root, "line", "zero")[0], "x1")
    for value, dot in zip(values, marked(root, "circle", "dot"), strict=True):
        side = number(dot, "cx") - zero
        assert abs(side) < 0.2 if value == 0 else math.copysign(1, side) == math.copysign(1, value)


def test_a_long_label_is_one_label_that_the_page_can_wrap() -> None:
    label = "one constant completion, the most typical of the training set"
    root = parsed(dots([row(label, 1, 0, 2)], key="k", title="T", axis="points"))
    assert label in words(root)


def test_dots_can_be_grouped_marked_and_compared() -> None:
    rows = [
        Dot("near", 0.7, 0.6, 0.8, "0.70", "tuned", ghost=0.5, group="by distance"),
        Dot("far", 0.5, 0.4, 0.6, "0.50", "tuned", group="by distance"),
        Dot("long", 0.6, None, None, "0.60", "tuned", group="by length"),
    ]
    marks = [Mark(0.5, "guessing"), Mark(0.6, "limit")]
    root = parsed(
        dots(
            rows,
            key="k",
            title="T",
            axis="AUC",
            include=(0.4, 1.0),
            marks=marks,
            unit=" %",
            entries=[Entry("clone", "tuned", "dot"), Entry("experts", "expert", "ghost")],
        )
    )
    said = words(root)
    assert said.count("by distance") == said.count("by length") == 1, "a heading for each group"
    assert {"guessing", "limit", "clone", "experts", "1 %"} <= set(said)
    at = [number(dot, "cx") for dot in marked(root, "circle", "dot")]
    lines = {number(line, "x1") for line in marked(root, "line", "mark")}
    assert lines == {at[1], at[2]}, "the lines stand at 0.5 and 0.6"
    assert [number(ghost, "cx") for ghost in marked(root, "circle", "ghost")] == [at[1]]
    assert "line at 0.5 %: guessing" in (root[1].text or "")


# Curves


def drawn(lines: Sequence[Line], **more: Any) -> ElementTree.Element:
    root = parsed(curves(lines, key="k", title="T", description="D", x_axis="step", **more))
    return root


def test_curves_mark_the_best_and_name_every_line() -> None:
    held = Line("validation", [(10, 2.0), (20, 1.0), (30, 1.5)], "tuned", mark=(20, 1.0, "lowest: 1.000"), beads=True)
    root = drawn([Line("training", [(5, 3.0), (30, 0.5)], "other"), held])
    assert {"training", "validation", "lowest: 1.000", "step"} <= set(words(root))
    ring = marked(root, "circle", "ring")[0]
    beads = marked(root, "circle", "bead")
    assert (ring.get("cx"), ring.get("cy")) == (beads[1].get("cx"), beads[1].get("cy"))
    assert number(beads[1], "cy") > number(beads[2], "cy") > number(beads[0], "cy"), "lower loss lies lower"


def test_a_share_keeps_its_height_until_the_next_step() -> None:
    line = Line("clone", [(0, 1.0), (4, 0.5)], "tuned", band=[(0, 1, 1), (4, 0.4, 0.6)], steps=True)
    root = drawn([line], percent=True)
    first, corner, last = corners(marked(root, "path", "curve")[0])
    assert (first, last) == ((0, 0), (1000, 500)), "in tenths of a per cent, 100 % at the top"
    assert corner == (last[0], first[1])
    assert {"0 %", "100 %"} <= set(words(root))
    assert len(marked(root, "path", "band")) == 1


def test_a_curve_over_shares_keeps_its_band_inside_and_shows_zero() -> None:
    points = [(0.0, 6.0), (0.25, 3.0), (0.5, 1.0), (0.75, -0.5)]
    line = Line("behind", points, "tuned", band=[(x, y - 2, y + 2) for x, y in points], beads=True)
    root = drawn([line], signed=True, parts_of=[x for x, _ in points], y_axis="points")
    assert {"0 %", "25 %", "50 %", "75 %", "points"} <= set(words(root))
    zero = number(marked(root, "line", "zero")[0], "y1")
    heights = [number(bead, "cy") for bead in marked(root, "circle", "bead")]
    assert [y < zero for y in heights] == [True, True, True, False]
    band = corners(marked(root, "path", "band")[0])
    top, bottom = (pick(y / 10 for _, y in band) for pick in (min, max))
    assert top < min(heights)
    assert max(heights) < bottom <= number(marked(root, "line", "grid")[0], "y1") + 0.1


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0])
def test_where_all_values_are_one_the_scale_has_no_millionths(value: float) -> None:
    root = parsed(dots([row("a", value, value, value)], key="k", title="T", axis="x", include=(value,)))
    assert not [word for word in words(root) if "e\N{MINUS SIGN}" in word]


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(0, 40), st.floats(0, 40)), min_size=1, max_size=8), st.booleans()
)
def test_every_band_lies_within_the_picture(values: list[tuple[float, float, float]], signed: bool) -> None:
    """The band of a curve over numbers went over the words above and below it: the scale was that of the points."""
    points = [(float(x), y) for x, (y, _, _) in enumerate(values)]
    band = [(float(x), y - below, y + above) for x, (y, below, above) in enumerate(values)]
    root = drawn([Line("measured", points, "tuned", band=band, beads=True), Line("law", points, "base")], signed=signed)
    heights = [height for _, height in corners(marked(root, "path", "band")[0])]
    assert min(heights) >= 0 and max(heights) <= 1000


@pytest.mark.parametrize("points", [[(7, 1.5)], [(0, 2.0), (1, 2.0)]])
def test_one_point_or_a_flat_line_still_has_axes(points: list[tuple[float, float]]) -> None:
    root = drawn([Line("training", points, "other")])
    assert len(marked(root, "circle", "bead")) == (len(points) == 1)


# Histograms and shares


def test_histograms_share_a_scale_and_say_what_is_beyond_it() -> None:
    rows = [Bars("the expert", [5, 7, 7, 9], "expert"), Bars("base model", [8, 9, 400], "base")]
    root = parsed(histograms(rows, key="k", title="T", axis="words"))
    medians = [number(part, "x1") for part in marked(root, "line", "median")]
    assert medians[0] < medians[1]
    assert "median 7" in words(root)
    assert sum("1 longer than" in text for text in words(root)) == 1
    assert len(marked(root, "path", "beyond")) == 1
    assert [number(tick, "x") for tick in root.iter("text")][:2] == [0, pytest.approx(500 / 19, abs=0.1)], (
        "19 bins of 1"
    )


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=30), min_size=1, max_size=3))
def test_any_lengths_can_be_drawn(values: list[list[int]]) -> None:
    rows = [Bars(f"system {n}", row, "other") for n, row in enumerate(values)]
    root = parsed(histograms(rows, key="k", title="T", axis="words"))
    for strip in marked(root, "svg", "strip"):
        bars = [corner for path in strip.iter("path") for corner in corners(path)]
        assert min(y for _, y in bars) == 0, "the tallest bar is as tall as its strip"
        assert all(high - y >= 1.4 for _, y in bars if (high := 64) != y), "and the smallest can be seen"
    assert len(marked(root, "line", "median")) == len(rows)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any))
def test_shares_fill_the_bar_and_show_even_the_smallest(counts: list[int]) -> None:
    root = parsed(shares([Share(f"s{n}", c, "other") for n, c in enumerate(counts)], key="k", title="T"))
    grown = [part.get("style") for part in marked(root, "i", "share")]
    assert grown == [f"flex-grow:{count}" for count in counts if count], "the page divides the bar by the counts"
    said = [re.sub("\u202f", "", label) for label in words(root)]
    assert said == [f"s{n}: {count}" for n, count in enumerate(counts) if count], "the legend says how many"
    assert f"{sum(counts)} in all" in (root[1].text or "")


# Panels and tracks


@pytest.mark.parametrize("panels", [1, 2])
def test_panels_put_calibrated_points_on_the_diagonal(panels: int) -> None:
    series = Series("clone", [(0.2, 0.2, 0.1, 0.3), (0.5, 0.5, 0.4, 0.6), (0.9, 0.6, 0.5, 0.7)], "tuned")
    root = parsed(
        squares(
            [Panel(f"panel {n}", [series]) for n in range(panels)],
            key="k",
            title="T",
            description="D",
            x_axis="sure",
            y_axis="right",
            above="modest",
            below="bold",
        )
    )
    sides = "Above the dashed line: modest; below it: bold."
    assert [words(root).count(text) for text in ("sure", "right", sides, "clone")] == [panels] * 4
    found = [(number(dot, "cx"), number(dot, "cy")) for dot in marked(root, "circle", "dot")]
    assert found == [(20, 80), (50, 50), (90, 40)] * panels, "from the left and from the top, in per cent"
    diagonals = marked(root, "line", "mark")
    assert [tuple(d.get(name) for name in ("x1", "y1", "x2", "y2")) for d in diagonals] == (
        [("0", "100%", "100%", "0")] * panels
    ), "where sureness and accuracy agree"


def way(value: float, low: float | None, high: float | None) -> ElementTree.Element:
    root = parsed(
        track(
            Place("the clone", value, "47 % [25, 69] of the way", "tuned", low, high),
            Place("best shortcut: one constant completion, the most typical of the training set", 0, "30.0", "other"),
            Place("another expert", 1, "60.0", "expert"),
            Place("80 % counts as cloned", 0.8, "", "other"),
            key="k",
            title="T",
            axis="share",
        )
    )
    return root


def test_a_track_is_to_scale() -> None:
    root = way(0.4, 0.2, 0.6)
    start, end, here = (number(dot, "cx") for dot in marked(root, "circle", "dot"))
    assert (here - start) / (end - start) == pytest.approx(0.4, abs=0.005)
    goal = number(marked(root, "line", "mark")[0], "x1")
    assert (goal - start) / (end - start) == pytest.approx(0.8, abs=0.005)
    bar = marked(root, "line", "interval")[0]
    spans = [(number(bar, name) - start) / (end - start) for name in ("x1", "x2")]
    assert spans == pytest.approx([0.2, 0.6], abs=0.005)
    assert {"0 %", "100 %", "another expert", "80 % counts as cloned", "share"} <= set(words(root))


@given(st.floats(-5, 5), st.floats(0, 9))
def test_a_track_holds_any_place_and_interval(value: float, spread: float) -> None:
    """A share of a gap can have any size; what lies beyond the frame ends at its edge."""
    root = way(value, value - spread, value + spread)
    start, end, here = (number(dot, "cx") for dot in marked(root, "circle", "dot"))
    assert start < end
    if value < 0:
        assert here <= start
    elif value > 1:
        assert here >= end - 0.1


def test_a_track_without_an_interval_has_no_bar() -> None:
    assert not marked(way(0.4, None, None), "line", "interval")


# What is refused, what is escaped


@pytest.mark.parametrize(
    "draw",
    [
        lambda: dots([], key="k", title="T", axis="a"),
        lambda: curves([Line("a", [], "b")], key="k", title="T", description="D", x_axis="x"),
        lambda: histograms([Bars("a", [], "b")], key="k", title="T", axis="a"),
        lambda: shares([Share("a", 0, "b")], key="k", title="T"),
        lambda: squares(
            [Panel("p", [Series("a", [], "b")])],
            key="k",
            title="T",
            description="D",
            x_axis="x",
            y_axis="y",
            above="a",
            below="b",
        ),
    ],
)
def test_a_picture_of_nothing_is_refused(draw: Callable[[], str]) -> None:
    with pytest.raises(ValueError, match="needs"):
        draw()


def test_words_in_pictures_are_escaped() -> None:
    pictures = [
        dots([Dot(HOSTILE, 1, 0, 2, HOSTILE)], key="k", title=HOSTILE, axis=HOSTILE),
        curves(
            [Line(HOSTILE, [(0, 1), (1, 2)], "a", mark=(0, 1, HOSTILE))],
            key="k",
            title=HOSTILE,
            description=HOSTILE,
            x_axis=HOSTILE,
        ),
        histograms([Bars(HOSTILE, [1, 2], "a")], key="k", title=HOSTILE, axis=HOSTILE),
        shares([Share(HOSTILE, 5, "a")], key="k", title=HOSTILE),
        dots(
            [Dot(HOSTILE, 1, 0, 2, HOSTILE, group=HOSTILE)],
            key="k",
            title=HOSTILE,
            axis=HOSTILE,
            unit=HOSTILE,
            marks=[Mark(1, HOSTILE)],
            entries=[Entry(HOSTILE, "a")],
        ),
        squares(
            [Panel(HOSTILE, [Series(HOSTILE, [(0.5, 0.5, 0.4, 0.6)], "a")])],
            key="k",
            title=HOSTILE,
            description=HOSTILE,
            x_axis=HOSTILE,
            y_axis=HOSTILE,
            above=HOSTILE,
            below=HOSTILE,
        ),
        track(
            *(Place(HOSTILE, value, HOSTILE, "a") for value in (0.4, 0, 1, 0.8)),
            key="k",
            title=HOSTILE,
            axis=HOSTILE,
        ),
    ]
    for picture in pictures:
        assert "<script" not in picture
        assert parsed(picture)[0].text == HOSTILE
