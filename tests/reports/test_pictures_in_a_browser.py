"""Pictures in a real browser: drawn once, they are readable on the smallest phone, on a phone and on a desk.

The page tells where its words stand and in which colours: no words leave their picture, none stand on others, nothing
makes the page scroll sideways, and words and marks are dark enough on light, and light enough on dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import factories
import pytest
from browser import Browser, browser, installed
from planted_runs import planted

from sft.fidelity.compare import compare_runs
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
    track,
)
from sft.reports.compare_page import to_html
from sft.reports.report import render

pytestmark = pytest.mark.skipif(not installed(), reason="no Chromium is installed here (apt-get install chromium)")

WIDTHS = (320, 390, 700, 800, 1280)
#: Pixels by which boxes may touch from above, where a box is as high as its font allows, whatever the letters; and
#: pixels between words on one line.
SLACK, GAP = 1.5, 3

#: Where every word of a picture stands, how large, how bold, in which colour and on which. A font may leave any room
#: above and below its letters (Noto Sans a third of them, DejaVu Sans a sixth), and none of it is a word.
WORDS = """
[...document.querySelectorAll('.picture')].flatMap((picture, number) => {
  const walker = document.createTreeWalker(picture, NodeFilter.SHOW_TEXT), found = [];
  for (let node; (node = walker.nextNode());) {
    if (!node.data.trim()) continue;
    const holder = node.parentElement, style = getComputedStyle(holder), range = document.createRange();
    range.selectNodeContents(node);
    const svg = holder instanceof SVGElement;
    let behind = holder;
    while (behind && getComputedStyle(behind).backgroundColor == 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const size = parseFloat(style.fontSize);
    for (const box of svg ? [holder.getBoundingClientRect()] : range.getClientRects()) {
      const empty = Math.max(0, box.height - 1.17 * size) / 2;
      found.push({picture: number, words: node.data, left: box.left, top: box.top + empty, right: box.right,
        bottom: box.bottom - empty, size, weight: +style.fontWeight,
        colour: svg ? style.fill : style.color, behind: getComputedStyle(behind).backgroundColor});
    }
  }
  return found;
})
"""
#: The frames of the pictures, and the colours of their marks with what lies behind.
FRAMES = """
[...document.querySelectorAll('.picture')].map(picture => {
  const box = picture.getBoundingClientRect();
  return {title: picture.querySelector('.title').textContent, left: box.left, top: box.top, right: box.right,
    bottom: box.bottom, inner: picture.scrollWidth - picture.clientWidth};
})
"""
MARKS = """
[...document.querySelectorAll('.picture :is(.dot, .curve, .interval, .whisker, .bar, .patch, .share, .ghost, .ring)')]
  .filter(mark => getComputedStyle(mark).opacity == 1).map(mark => {
    const style = getComputedStyle(mark), role = mark.getAttribute('class');
    let behind = mark.parentElement;
    while (getComputedStyle(behind).backgroundColor == 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const lines = /curve|interval|whisker|ghost|ring/.test(role);
    return {role, colour: lines ? style.stroke : role.includes('share') ? style.backgroundColor : style.fill,
      behind: getComputedStyle(behind).backgroundColor, wide: mark.getBoundingClientRect().width};
  })
"""

#: Words that the page had to break in the middle: pieces between spaces and hyphens that lie on two lines.
BROKEN = """
[...document.querySelectorAll('.picture')].flatMap(picture => {
  const walker = document.createTreeWalker(picture, NodeFilter.SHOW_TEXT), found = [];
  for (let node; (node = walker.nextNode());)
    for (const piece of node.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, piece.index);
      range.setEnd(node, piece.index + piece[0].length);
      if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(piece[0]);
    }
  return found;
})
"""
#: For each plot of rows: where the lines of its grid stand, where the ticks of its scale, and their labels' middles.
GRIDS = """
[...document.querySelectorAll('.beside')].map(plot => {
  const middle = part => { const box = part.getBoundingClientRect(); return (box.left + box.right) / 2; };
  const all = selector => [...plot.querySelectorAll(selector)].map(middle);
  const shares = [...plot.querySelectorAll('.lines .grid')].map(line => line.x1.baseVal.valueInSpecifiedUnits / 100);
  return {shares, lines: all('.lines .grid'), ticks: all('.scale line'), labels: all('.scale text'),
    tracks: [...plot.querySelectorAll('.track')].map(track => track.getBoundingClientRect())
      .map(box => [box.left, box.width])};
})
"""

#: How far bands and curves go beyond the area that they are drawn in, in pixels; above 0 they lie on words.
BEYOND = """
[...document.querySelectorAll('.area')].flatMap(area => {
  const box = area.getBoundingClientRect();
  return [...area.querySelectorAll('.band, .curve')].map(mark => {
    const own = mark.getBoundingClientRect();
    return Math.max(box.left - own.left, box.top - own.top, own.right - box.right, own.bottom - box.bottom);
  });
})
"""

LONG = "one constant completion, the most typical of the training set, said at length"
UNBROKEN = "a" * 30 + "@" + "b" * 40 + ".example"


def hard() -> list[str]:
    """Pictures of what is hard to place: long words and labels, values at the ends, large and small numbers."""
    rows = [
        Dot(LONG, 99.9, 99, 100, "99.9 [99.0, 100.0]", "tuned", strong=True, group="by something that takes a line"),
        Dot(UNBROKEN, -100, -100, -90, "no interval: too few groups of prompts", "base", ghost=100, group="by name"),
        Dot("b", 0, None, None, "0.0", "held", group="by name"),
    ]
    marks = [Mark(-100, "at the left end of the scale"), Mark(100, "at the right end"), Mark(95, "near it: 95")]
    entries = [Entry(LONG, "tuned", "dot"), Entry(UNBROKEN, "expert", "ghost"), Entry("short", "base")]
    steep = Line(LONG, [(0, 0.001), (100_000, 0.009)], "tuned", mark=(100_000, 0.001, "lowest: 0.001 at 100000"))
    held = Line(UNBROKEN, [(5, 0.004), (99_000, 0.002)], "held", mark=(5, 0.004, "lowest: 0.004 at step 5"), beads=True)
    wide = [(0.0, 1.0, 9.0), (40.0, -7.0, 2.0)]
    banded = (
        Line(LONG, [(0, 5.0), (40, 1.0)], "tuned", band=wide, beads=True),
        Line("law", [(0, 5.0), (90, 0.9)], "base"),
    )
    sure = Series("the clone", [(0.0, 1.0, 0.9, 1.0), (1.0, 0.0, 0.0, 0.2)], "tuned")
    ends = Place(f"best shortcut: {LONG}", 0, "30.0 points", "other"), Place(UNBROKEN, 1, "60.0 points", "expert")
    goal = Place("80 % of the way counts as cloned", 0.8, "", "other")
    ways = [
        track(
            Place("the clone", value, f"{100 * value:.0f} % [-900, 2000] of the way, 54.9 points", "tuned", low, high),
            *ends,
            goal,
            key=f"way{number}",
            title=f"How far it is: {LONG}",
            axis=f"share of the distance, {LONG}",
        )
        for number, (value, low, high) in enumerate([(-9, -9, 20), (9, 0.2, 20), (0.5, None, None), (-0.1, -0.1, 0)])
    ]
    fates = [Share("trained", 1_234_567, "tuned"), Share(LONG, 1, "lost-filtered"), Share(UNBROKEN, 2, "held")]
    lengths = [Bars(LONG, [3, 4], "expert"), Bars("base model, zero-shot", [20, 9, 40_000], "base")]
    panels = [Panel("one", [sure]), Panel(LONG, [sure])]
    words: dict[str, Any] = {"description": "D", "x_axis": LONG, "y_axis": LONG}
    return [
        dots(rows, key="a", title=LONG, axis=LONG, signed=True, marks=marks, unit=" %", entries=entries),
        curves([steep, held], key="b", title=LONG, **words),
        curves([steep], key="c", title="T", signed=True, **words),
        curves(banded, key="band", title="T", **words),
        histograms(lengths, key="d", title="T", axis=LONG),
        shares(fates, key="e", title="T"),
        squares(panels, key="f", title="T", above="more often right than sure", below="surer than right", **words),
        *ways,
    ]


@dataclass(frozen=True)
class Shelf:
    """The browser, and the pages to look at by name."""

    window: Browser
    pages: dict[str, Path]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("pages")
    report = render(factories.make_run(folder / "docstrings", prompts=36))
    compared = folder / "compared.html"
    runs = [planted(folder / name, right) for name, right in (("good", 0.8), ("a-run-with-a-rather-long-name", 0.3))]
    compared.write_text(to_html(compare_runs(runs)), encoding="utf-8")
    style = re.search(r"<style>.*?</style>", report.read_text(encoding="utf-8"), re.DOTALL)
    assert style
    gallery = folder / "gallery.html"
    figures = "".join(f"<figure>{picture}</figure>" for picture in hard())
    gallery.write_text(f'<!doctype html><meta charset="utf-8">{style[0]}<main>{figures}</main>', encoding="utf-8")
    with browser(installed(), tmp_path_factory.mktemp("profile")) as window:
        yield Shelf(window, {"report": report, "comparison": compared, "hard": gallery})


@pytest.fixture(scope="module", params=["report", "comparison", "hard"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def window(request: pytest.FixtureRequest, shelf: Shelf, name: str, width: int) -> Browser:
    shelf.window.show(shelf.pages[name], width, dark=request.param)
    assert shelf.window.tell("innerWidth") == width
    return shelf.window


def test_nothing_is_cut_nor_makes_the_page_scroll_sideways(window: Browser, width: int) -> None:
    assert window.tell("document.scrollingElement.scrollWidth") <= width
    frames = window.tell(FRAMES)
    assert frames
    for frame in frames:
        assert frame["left"] >= 0 and frame["right"] <= width and frame["inner"] <= 0, frame
        assert frame["right"] - frame["left"] >= min(width - 40, 800) - 1, "as wide as the page allows"
    for word in window.tell(WORDS):
        frame = frames[word["picture"]]
        assert word["left"] >= frame["left"] - SLACK and word["right"] <= frame["right"] + SLACK, word
        assert word["top"] >= frame["top"] - SLACK and word["bottom"] <= frame["bottom"] + SLACK, word
        assert word["size"] >= 12, word


def test_bands_and_curves_lie_where_they_are_drawn(window: Browser, name: str) -> None:
    beyond = window.tell(BEYOND)
    assert beyond or name == "comparison"
    assert max(beyond, default=0) <= SLACK


def test_no_two_labels_of_a_picture_stand_on_each_other(window: Browser) -> None:
    words = window.tell(WORDS)
    assert len(words) > 15
    for one, other in combinations(words, 2):
        if one["picture"] == other["picture"]:
            across = min(one["right"], other["right"]) - max(one["left"], other["left"])
            down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
            assert across <= -GAP or down <= SLACK, (one, other)


def test_no_word_is_broken_but_one_that_no_line_could_hold(window: Browser) -> None:
    assert set(window.tell(BROKEN)) <= {UNBROKEN, f"{UNBROKEN}:"}


def test_the_scale_stands_under_the_lines_that_it_names(window: Browser) -> None:
    grids = window.tell(GRIDS)
    assert grids
    for grid in grids:
        assert len(grid["lines"]) > 1
        assert grid["ticks"] == pytest.approx(grid["lines"], abs=0.5)
        assert grid["labels"] == pytest.approx(grid["lines"], abs=1)
        for left, wide in grid["tracks"]:
            assert [left + share * wide for share in grid["shares"]] == pytest.approx(grid["lines"], abs=0.5)


def luminance(colour: str) -> float:
    """Relative luminance of an opaque ``rgb(...)`` (WCAG 2.2)."""
    found = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert found, colour
    parts = [int(part) / 255 for part in found.groups()]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, behind: str) -> float:
    dark, light = sorted((luminance(colour), luminance(behind)))
    return (light + 0.05) / (dark + 0.05)


def test_words_and_marks_stand_out_from_what_is_behind_them(window: Browser) -> None:
    for word in window.tell(WORDS):
        large = word["size"] >= 24 or (word["size"] >= 18.66 and word["weight"] >= 700)
        assert contrast(word["colour"], word["behind"]) >= (3 if large else 4.5), word
    marks = window.tell(MARKS)
    assert marks
    for mark in marks:
        assert contrast(mark["colour"], mark["behind"]) >= 3, mark
        assert mark["wide"] >= 2.9 or "share" not in mark["role"], "even the smallest share can be seen"


def test_the_scheme_is_the_readers(shelf: Shelf) -> None:
    papers = []
    for dark in (False, True):
        shelf.window.show(shelf.pages["report"], 390, dark=dark)
        papers.append(luminance(shelf.window.tell("getComputedStyle(document.body).backgroundColor")))
    assert papers[0] > 0.9 and papers[1] < 0.05


def test_a_plot_is_stretched_and_its_words_are_not(shelf: Shelf) -> None:
    """The same drawing: marks move apart as the page grows, letters stay as they are."""
    seen = {}
    for width in (320, 1280):
        shelf.window.show(shelf.pages["report"], width, dark=False)
        ends = "[...document.querySelectorAll('.area')].map(area => area.getBoundingClientRect().width)"
        seen[width] = shelf.window.tell(ends), {word["size"] for word in shelf.window.tell(WORDS)}
    assert all(wide / small > 2 for small, wide in zip(seen[320][0], seen[1280][0], strict=True))
    assert seen[320][1] == seen[1280][1]
