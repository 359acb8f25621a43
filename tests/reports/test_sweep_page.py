"""The page of a sweep: a reader sees which settings were chosen, by how much, and which were not fitted to the end."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from report_pages import Page

from sft.recipes.grid import Swept, Tried
from sft.reports.sweep_page import picture, to_html, to_text


def tried(rate: str, state: str, loss: float | None, steps: int) -> Tried:
    return Tried(f"trial-{rate}", {"training.learning_rate": rate}, state, loss, steps, ())


SWEPT = Swept(
    (
        tried("1.0e-3", "stopped early", 2.31, 4),
        tried("1.0e-4", "whole", 2.1234, 16),
        tried("3.0e-4", "whole", 2.2, 16),
        tried("1.0e+3", "failed", None, 0),
    ),
    "trial-1.0e-4",
    40,
)


def lines_of(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [part for part in root.iter() if name in (part.get("class") or "").split()]


def said(part: ElementTree.Element) -> str:
    return " ".join(text.strip() for text in part.itertext() if text.strip())


def test_the_picture_says_what_was_chosen_and_what_was_ended_early() -> None:
    root = ElementTree.fromstring(picture(SWEPT))
    rows = [(said(row), "lit" in (row.get("class") or "").split()) for row in lines_of(root, "row")]
    assert rows == [
        ("learning_rate 1.0e-4 2.1234, chosen", True),
        ("learning_rate 3.0e-4 2.2000", False),
        ("learning_rate 1.0e-3 2.3100 until step 4", False),
    ]
    assert [said(group) for group in lines_of(root, "group")] == ["fitted to the end", "ended early"]
    assert said(lines_of(root, "axis")[0]) == "lowest validation loss (nats per token): further left is better"
    assert "line at 2.1234: chosen: 2.1234" in (root[1].text or "")


def test_differences_are_seen_and_lie_where_the_scale_has_them() -> None:
    """The scale began at 0, and losses of 2.12 and 2.20 lay on each other."""
    root = ElementTree.fromstring(picture(SWEPT))
    places = [float((dot.get("cx") or "").removesuffix("%")) for dot in lines_of(root, "dot")]
    assert places == sorted(places) and places[1] - places[0] > 15 and places[2] - places[1] > 20
    (line,) = lines_of(root, "mark")
    assert float((line.get("x1") or "").removesuffix("%")) == places[0]
    same = replace(SWEPT, tried=tuple(replace(one, loss=2.0) for one in SWEPT.tried))
    assert len({dot.get("cx") for dot in lines_of(ElementTree.fromstring(picture(same)), "dot")}) == 1


def test_the_page_is_whole_and_names_what_has_no_loss() -> None:
    page = Page(to_html(SWEPT))
    text = " ".join(" ".join(page.text).split())
    assert page.headings[:2] == ["Which settings?", "The validation loss of each"] and page.references == []
    assert "1 without a loss is in the table alone." in text
    alone = Page(to_html(replace(SWEPT, tried=SWEPT.tried[:3])))
    assert "in the table alone" not in " ".join(alone.text)
    assert re.search(r"Chosen: learning_rate 1\.0e-4; its validation loss is 2\.1234 .* 0\.0766 from", to_text(SWEPT))
