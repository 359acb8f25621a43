"""Reports read strictly, for the tests of reports: a page as an HTML parser sees it, Markdown with whole tables."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

from sft.reports.report import render
from sft.runs.run import Run, write_json

VOID = {"meta", "input", "br", "line", "circle", "rect", "path"}


class Page(HTMLParser):
    """A page read strictly: every element closed in order; its text, headings, and what it would load."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id names one element"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            assert not name.startswith("on"), f"a handler: {name}"
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.references.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID, f"</{tag}>"
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "title" in self.open:
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page(run: Run) -> Page:
    return Page(run.report_html_path.read_text(encoding="utf-8"))


def card(run: Run) -> dict[str, Any]:
    return json.loads(run.scorecard_path.read_text(encoding="utf-8"))


def change(run: Run, **changes: Any) -> None:
    write_json(run.scorecard_path, card(run) | changes)


def both(run: Run) -> tuple[Page, str]:
    """The re-rendered report, as page and as Markdown with well-formed tables."""
    assert render(run) == run.report_html_path
    markdown = run.report_md_path.read_text(encoding="utf-8")
    check_tables(markdown)
    return page(run), markdown


def check_tables(markdown: str) -> None:
    """Every row of a table has as many cells as its head; code blocks are left out."""
    text = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "```" not in text, "every code block is closed"
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(cells)) == 1, table
        assert len(cells) > 2, f"a table without rows: {table}"


def source_of(run: Run) -> str:
    return run.report_html_path.read_text(encoding="utf-8")
