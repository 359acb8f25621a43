"""Pictures are well-formed, to scale, inside their frame, and speak to those who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.reports.charts import (
    CHARACTER,
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

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS = (800, 342)
HOSTILE = '</title></svg><script>alert("x")</script>&\'"'

finite = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(svg: str) -> ElementTree.Element:
    """The picture as XML, checked for what every picture owes its reader."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    names = (root.get("aria-labelledby") or "").split()
    assert [part.get("id") for part in (root[0], root[1])] == names
    assert (root[0].tag, root[1].tag) == (f"{SVG}title", f"{SVG}desc")
    assert root[0].text
    assert root[1].text
    seen = "".join(part.text or "" for part in marked(root, "text", "title"))
    assert "".join(seen.split()) == "".join(root[0].text.split()), "the title is there for eyes too"
    assert root.find(f".//{SVG}script") is None
    return root


def marked(root: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    return [part for part in root.iter(SVG + tag) if name in (part.get("class") or "").split()]


def number(part: ElementTree.Element, name: str) -> float:
    value = float(part.get(name, "nan"))
    assert math.isfinite(value)
    return value


def words(root: ElementTree.Element) -> list[str]:
    return [part.text or "" for part in root.iter(f"{SVG}text")]


def inside(root: ElementTree.Element) -> None:
    """Every shape lies inside the frame, and so does text as wide as it is reckoned to be."""
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for part in root.iter():
        for name, limit in (("x1", width), ("x2", width), ("cx", width), ("x", width), ("y1", height), ("cy", height)):
            if part.get(name) is not None:
                assert -0.1 <= number(part, name) <= limit + 0.1, (part.tag, part.attrib)
        if part.tag == f"{SVG}rect":
            assert number(part, "x") + number(part, "width") <= width + 0.1
        if part.tag == f"{SVG}text" and part.get("class", "").split()[1:] != ["tick"]:
            reach = len(part.text or "") * CHARACTER
            at = number(part, "x")
            start = {"end": at - reach, "middle": at - reach / 2}.get(part.get("text-anchor", ""), at)
            assert start >= -4, part.text
            assert start + reach <= width + 4, part.text


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


@pytest.mark.parametrize("width", WIDTHS)
def test_dots_and_intervals_are_to_scale(width: int) -> None:
    rows = [row("a", 50, 40, 60, strong=True), row("b", 10, 5, 15), row("c", 30, None, None)]
    root = parsed(dots(rows, key="k", title="Title", width=width, axis="points"))
    inside(root)
    at = [number(dot, "cx") for dot in marked(root, "circle", "dot")]
    assert at[0] - at[2] == pytest.approx(at[2] - at[1], abs=0.2), "30 lies midway between 10 and 50"
    spans = [(number(bar, "x1"), number(bar, "x2")) for bar in marked(root, "line", "interval")]
    assert len(spans) == 2, "a row without an interval has no bar"
    assert sum(spans[0]) / 2 == pytest.approx(at[0], abs=0.1)
    assert spans[0][1] - spans[0][0] == pytest.approx(2 * (spans[1][1] - spans[1][0]), abs=0.3)
    assert len(marked(root, "rect", "lit")) == 1
    assert (root[1].text or "").startswith("a: 50.0; b: 10.0")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("values", [(-5.0, 3.0), (2.0, 9.0), (-8.0, -1.0), (0.0, 0.0)])
def test_gains_show_where_zero_is(width: int, values: tuple[float, float]) -> None:
    rows = [row("over base", value, value - 2, value + 2) for value in values]
    root = parsed(dots(rows, key="k", title="T", width=width, axis="points", signed=True))
    inside(root)
    zero = number(marked(root, "line", "zero")[0], "x1")
    for value, dot in zip(values, marked(root, "circle", "dot"), strict=True):
        side = number(dot, "cx") - zero
        assert abs(side) < 0.2 if value == 0 else math.copysign(1, side) == math.copysign(1, value)


@pytest.mark.parametrize("width", WIDTHS)
def test_long_labels_are_wrapped_and_nothing_is_lost(width: int) -> None:
    label = "one constant completion, the most typical of the training set"
    root = parsed(dots([row(label, 1, 0, 2)], key="k", title="T", width=width, axis="points"))
    inside(root)
    assert label in " ".join(words(root))


@pytest.mark.parametrize("width", WIDTHS)
def test_dots_can_be_grouped_marked_and_compared(width: int) -> None:
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
            width=width,
            axis="AUC",
            include=(0.4, 1.0),
            marks=marks,
            unit=" %",
            entries=[Entry("clone", "tuned", "dot"), Entry("experts", "expert", "ghost")],
        )
    )
    inside(root)
    said = words(root)
    assert said.count("by distance") == said.count("by length") == 1, "a heading for each group"
    assert {"guessing", "limit", "clone", "experts", "1 %"} <= set(said)
    drawn_dots = [dot for dot in marked(root, "circle", "dot") if "sample" not in (dot.get("class") or "").split()]
    at = [number(dot, "cx") for dot in drawn_dots]
    lines = {number(line, "x1") for line in marked(root, "line", "mark")}
    assert lines == {at[1], at[2]}, "the lines stand at 0.5 and 0.6"
    ghosts = [g for g in marked(root, "circle", "ghost") if "sample" not in (g.get("class") or "").split()]
    assert [number(ghost, "cx") for ghost in ghosts] == [at[1]]
    assert "line at 0.5 %: guessing" in (root[1].text or "")


# Curves


def drawn(lines: Sequence[Line], width: int, **more: Any) -> ElementTree.Element:
    root = parsed(curves(lines, key="k", title="T", description="D", width=width, x_axis="step", **more))
    inside(root)
    return root


@pytest.mark.parametrize("width", WIDTHS)
def test_curves_mark_the_best_and_name_every_line(width: int) -> None:
    held = Line("validation", [(10, 2.0), (20, 1.0), (30, 1.5)], "tuned", mark=(20, 1.0, "lowest: 1.000"), beads=True)
    root = drawn([Line("training", [(5, 3.0), (30, 0.5)], "other"), held], width)
    assert {"training", "validation", "lowest: 1.000", "step"} <= set(words(root))
    ring = marked(root, "circle", "ring")[0]
    beads = marked(root, "circle", "bead")
    assert (ring.get("cx"), ring.get("cy")) == (beads[1].get("cx"), beads[1].get("cy"))
    assert number(beads[1], "cy") > number(beads[2], "cy") > number(beads[0], "cy"), "lower loss lies lower"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_share_keeps_its_height_until_the_next_step(width: int) -> None:
    line = Line("clone", [(0, 1.0), (4, 0.5)], "tuned", band=[(0, 1, 1), (4, 0.4, 0.6)], steps=True)
    root = drawn([line], width, percent=True)
    path = next(part.get("d", "") for part in marked(root, "path", "curve"))
    first, corner, last = [tuple(map(float, point.split())) for point in path[1:].split("L")]
    assert corner == (last[0], first[1])
    assert {"0 %", "100 %"} <= set(words(root))
    assert len(marked(root, "path", "band")) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_a_curve_over_shares_keeps_its_band_inside_and_shows_zero(width: int) -> None:
    points = [(0.0, 6.0), (0.25, 3.0), (0.5, 1.0), (0.75, -0.5)]
    line = Line("behind", points, "tuned", band=[(x, y - 2, y + 2) for x, y in points], beads=True)
    root = drawn([line], width, signed=True, parts_of=[x for x, _ in points], y_axis="points")
    assert {"0 %", "25 %", "50 %", "75 %", "points"} <= set(words(root))
    zero = number(marked(root, "line", "zero")[0], "y1")
    heights = [number(bead, "cy") for bead in marked(root, "circle", "bead")]
    assert [y < zero for y in heights] == [True, True, True, False]
    band = marked(root, "path", "band")[0].get("d", "").strip("MZ").split("L")
    top, bottom = (pick(float(p.split()[1]) for p in band) for pick in (min, max))
    assert top < min(heights)
    assert max(heights) < bottom <= number(marked(root, "line", "grid")[0], "y1") + 0.1


@pytest.mark.parametrize("points", [[(7, 1.5)], [(0, 2.0), (1, 2.0)]])
def test_one_point_or_a_flat_line_still_has_axes(points: list[tuple[float, float]]) -> None:
    root = drawn([Line("training", points, "other")], 342)
    assert len(marked(root, "circle", "bead")) == (len(points) == 1)


def test_a_legend_too_long_for_a_phone_takes_two_rows() -> None:
    lines = [Line("base model, three demonstrations", [(0, 1), (1, 2)], kind) for kind in ("a", "b")]
    rows = {part.get("y") for part in drawn(lines, 342).iter(f"{SVG}text") if part.text == lines[0].label}
    assert len(rows) == 2


# Histograms and shares


@pytest.mark.parametrize("width", WIDTHS)
def test_histograms_share_a_scale_and_say_what_is_beyond_it(width: int) -> None:
    rows = [Bars("the expert", [5, 7, 7, 9], "expert"), Bars("base model", [8, 9, 400], "base")]
    root = parsed(histograms(rows, key="k", title="T", width=width, axis="words"))
    inside(root)
    medians = [number(part, "x1") for part in marked(root, "line", "median")]
    assert medians[0] < medians[1]
    assert "median 7" in words(root)
    assert sum("1 longer than" in text for text in words(root)) == 1
    assert len(marked(root, "rect", "beyond")) == 1


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=30), min_size=1, max_size=3))
def test_any_lengths_can_be_drawn(values: list[list[int]]) -> None:
    rows = [Bars(f"system {n}", row, "other") for n, row in enumerate(values)]
    for width in WIDTHS:
        root = parsed(histograms(rows, key="k", title="T", width=width, axis="words"))
        inside(root)
        assert len(marked(root, "rect", "bar")) >= len(rows)
        assert len(marked(root, "line", "median")) == len(rows)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any))
def test_shares_fill_the_bar_and_show_even_the_smallest(counts: list[int]) -> None:
    root = parsed(shares([Share(f"s{n}", c, "other") for n, c in enumerate(counts)], key="k", title="T", width=800))
    boxes = marked(root, "rect", "share")
    assert len(boxes) == sum(count > 0 for count in counts)
    assert all(number(box, "width") >= 2.9 for box in boxes)
    assert number(boxes[-1], "x") + number(boxes[-1], "width") == pytest.approx(800, abs=0.6)
    assert f"{sum(counts)} in all" in (root[1].text or "")


def test_a_long_label_and_a_long_note_do_not_share_a_line() -> None:
    rows = [Bars("the expert", [3, 4], "expert"), Bars("base model, zero-shot", [20, 9, 400], "base")]
    root = parsed(histograms(rows, key="k", title="T", width=342, axis="words"))
    lines = {part.text: number(part, "y") for part in root.iter(f"{SVG}text")}
    note = next(words for words in lines if words and "longer than" in words)
    assert lines["base model, zero-shot"] != lines[note]


# Panels and tracks


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("panels", [1, 2])
def test_panels_put_calibrated_points_on_the_diagonal(width: int, panels: int) -> None:
    series = Series("clone", [(0.2, 0.2, 0.1, 0.3), (0.5, 0.5, 0.4, 0.6), (0.9, 0.6, 0.5, 0.7)], "tuned")
    root = parsed(
        squares(
            [Panel(f"panel {n}", [series]) for n in range(panels)],
            key="k",
            title="T",
            description="D",
            width=width,
            x_axis="sure",
            y_axis="right",
            above="modest",
            below="bold",
        )
    )
    inside(root)
    assert [words(root).count(text) for text in ("sure", "right", "modest", "bold", "clone")] == [panels] * 5
    for n, diagonal in enumerate(marked(root, "line", "mark")):
        x1, y1, x2, y2 = (number(diagonal, name) for name in ("x1", "y1", "x2", "y2"))
        assert x2 - x1 == pytest.approx(y1 - y2), "a square"
        found = [d for d in marked(root, "circle", "dot") if "sample" not in (d.get("class") or "").split()]
        below = []
        for dot in found[3 * n : 3 * n + 3]:
            wanted = y1 - (number(dot, "cx") - x1)
            below.append(number(dot, "cy") - wanted)
        assert below[:2] == pytest.approx([0, 0], abs=0.2)
        assert below[2] == pytest.approx(0.3 * (x2 - x1), abs=0.2), "surer than right lies below"


def way(value: float, low: float | None, high: float | None, width: int = 800) -> ElementTree.Element:
    root = parsed(
        track(
            Place("the clone", value, "47 % [25, 69] of the way", "tuned", low, high),
            Place("best shortcut: one constant completion, the most typical of the training set", 0, "30.0", "other"),
            Place("another expert", 1, "60.0", "expert"),
            Place("80 % counts as cloned", 0.8, "", "other"),
            key="k",
            title="T",
            width=width,
            axis="share",
        )
    )
    inside(root)
    return root


@pytest.mark.parametrize("width", WIDTHS)
def test_a_track_is_to_scale(width: int) -> None:
    root = way(0.4, 0.2, 0.6, width)
    start, end, here = (number(dot, "cx") for dot in marked(root, "circle", "dot"))
    assert (here - start) / (end - start) == pytest.approx(0.4, abs=0.005)
    goal = number(marked(root, "line", "mark")[0], "x1")
    assert (goal - start) / (end - start) == pytest.approx(0.8, abs=0.005)
    bar = marked(root, "line", "interval")[0]
    spans = [(number(bar, name) - start) / (end - start) for name in ("x1", "x2")]
    assert spans == pytest.approx([0.2, 0.6], abs=0.005)
    assert {"0 %", "100 %", "another expert", "80 % counts as cloned", "share"} <= set(words(root))


@given(st.floats(-5, 5), st.floats(0, 9), st.sampled_from(WIDTHS))
def test_a_track_holds_any_place_and_interval(value: float, spread: float, width: int) -> None:
    """A share of a gap can have any size; what lies beyond the frame ends at its edge."""
    root = way(value, value - spread, value + spread, width)
    start, end, here = (number(dot, "cx") for dot in marked(root, "circle", "dot"))
    assert start < end
    if value < 0:
        assert here <= start
    elif value > 1:
        assert here >= end - 0.1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("value", [0.4, 1.21, 2.0, -2.0])
def test_the_two_ends_of_a_track_do_not_write_over_each_other(width: int, value: float) -> None:
    root = way(value, value - 0.1, value + 0.1, width)
    said = {part.text: part for part in root.iter(f"{SVG}text")}
    end = said["another expert"]
    left = number(end, "x") - len("another expert") * CHARACTER
    level = [part for part in said.values() if part.get("y") == end.get("y") and part is not end]
    assert level, "the other end's first line"
    assert all(number(part, "x") + len(part.text or "") * CHARACTER <= left + 1 for part in level)


def test_a_track_without_an_interval_has_no_bar() -> None:
    assert not marked(way(0.4, None, None), "line", "interval")


# What is refused, what is escaped


@pytest.mark.parametrize(
    "draw",
    [
        lambda: dots([], key="k", title="T", width=342, axis="a"),
        lambda: curves([Line("a", [], "b")], key="k", title="T", description="D", width=342, x_axis="x"),
        lambda: histograms([Bars("a", [], "b")], key="k", title="T", width=342, axis="a"),
        lambda: shares([Share("a", 0, "b")], key="k", title="T", width=342),
        lambda: squares(
            [Panel("p", [Series("a", [], "b")])],
            key="k",
            title="T",
            description="D",
            width=342,
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
        dots([Dot(HOSTILE, 1, 0, 2, HOSTILE)], key="k", title=HOSTILE, width=800, axis=HOSTILE),
        curves(
            [Line(HOSTILE, [(0, 1), (1, 2)], "a", mark=(0, 1, HOSTILE))],
            key="k",
            title=HOSTILE,
            description=HOSTILE,
            width=800,
            x_axis=HOSTILE,
        ),
        histograms([Bars(HOSTILE, [1, 2], "a")], key="k", title=HOSTILE, width=800, axis=HOSTILE),
        shares([Share(HOSTILE, 5, "a")], key="k", title=HOSTILE, width=800),
        dots(
            [Dot(HOSTILE, 1, 0, 2, HOSTILE, group=HOSTILE)],
            key="k",
            title=HOSTILE,
            width=342,
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
            width=800,
            x_axis=HOSTILE,
            y_axis=HOSTILE,
            above=HOSTILE,
            below=HOSTILE,
        ),
        track(
            *(Place(HOSTILE, value, HOSTILE, "a") for value in (0.4, 0, 1, 0.8)),
            key="k",
            title=HOSTILE,
            width=800,
            axis=HOSTILE,
        ),
    ]
    for picture in pictures:
        assert "<script" not in picture
        assert parsed(picture)[0].text == HOSTILE
