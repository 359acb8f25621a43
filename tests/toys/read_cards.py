"""A model card read as programs read it: its figures, held to a scorecard, and its outline."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sft.fidelity.scorecard import Scorecard
from sft.publishing.card_facts import metadata_of, picture, tables
from sft.reports.text import cell

#: Figures of the card, by (table, row, column), as they are written there.
Figures = dict[tuple[str, str, str], str]


def figures_of(card: Scorecard) -> Figures:
    """What a card has to say for this scorecard: every cell of its tables, its metadata, the verdict, the picture."""
    found: Figures = {
        (table.title, cell(row[0]), cell(column)): cell(text)
        for table in tables(card)
        for row in table.rows
        for column, text in zip(table.columns[1:], row[1:], strict=True)
    }
    found |= {("model-index", one["name"], one["type"]): str(one["value"]) for one in metadata_of(card)}
    found["Verdict", "", ""] = cell(card.verdict.rung)
    if drawn := picture(card):
        found["Picture", "", ""] = drawn
    return found


def figures_on(text: str) -> Figures:
    """The figures that the card ``text`` shows, keyed as by :func:`figures_of`. Fails for what is no card."""
    head, body = _parted(text)
    found: Figures = {}
    for one in head.get("model-index") or ():
        for result in one.get("results") or ():
            for metric in result.get("metrics") or ():
                found["model-index", str(metric.get("name")), str(metric.get("type"))] = str(metric.get("value"))
    if verdict := re.search(r"^\*\*Verdict: (.+?)\.\*\*", body, re.MULTILINE):
        found["Verdict", "", ""] = verdict[1]
    section = re.search(r"^## Fidelity$(.*?)^## ", body + "\n## ", re.MULTILINE | re.DOTALL)
    title = ""
    columns: list[str] = []
    for line in section[1].split("\n") if section else ():
        if line.startswith("### "):
            title, columns = line.removeprefix("### "), []
        elif line.startswith("| ") and title:
            cells = [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
            if columns:
                found |= {(title, cells[0], c): t for c, t in zip(columns[1:], cells[1:], strict=False)}
            else:
                columns = cells
    if section and (drawn := re.search(r"^```text\n(.*?)\n```$", section[1], re.MULTILINE | re.DOTALL)):
        found["Picture", "", ""] = drawn[1]
    return found


def disagreements(text: str, card: Scorecard) -> list[str]:
    """Every figure of the card ``text`` that is not the scorecard's, as a sentence; empty where they agree."""
    shown, known = figures_on(text), figures_of(card)
    apart = [key for key in {**known, **shown} if shown.get(key) != known.get(key)]
    return [_sentence(key, shown.get(key), known.get(key)) for key in apart]


def _sentence(key: tuple[str, str, str], shown: str | None, known: str | None) -> str:
    where = ", ".join(part for part in key if part)
    if shown is None:
        return f"the card lacks a figure of the scorecard ({where}: {known})"
    if known is None:
        return f"the card has a figure that the scorecard has not ({where}: {shown})"
    if key[0] == "Picture":
        return "the card's picture is not the scorecard's"
    return f"the card says {shown} where the scorecard says {known} ({where})"


def _parted(text: str) -> tuple[dict[str, Any], str]:
    """Metadata and body of a card."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match is not None, "no metadata between two lines of ---"
    return yaml.safe_load(match[1]), text[match.end() :]


def outline(text: str) -> list[str]:
    """What a reader's program makes of the body of the card ``text``: headings, fences, and tables with their columns.

    By CommonMark: a fence ends with at least as many backticks and nothing else, and nothing in it is markup.
    """
    found, fence = [], ""
    for line in _parted(text)[1].split("\n"):
        marks = re.match(r"`{3,}", line)
        if fence:
            if marks and len(marks[0]) >= len(fence) and not line.strip("`"):
                fence = ""
        elif marks:
            fence = marks[0]
            found.append("fence")
        elif re.match(r"#+ ", line):
            found.append("# the name" if line.startswith("# ") else line)
        elif line.startswith("|"):
            bars = re.findall(r"(?<!\\)\|", line)
            found.append(f"row of {len(bars) - 1}")
        elif re.match(r"\s*(?:-|\*|>|\d+\.|---+|===+|<)(?: |$)", line):
            found.append(line.split()[0])
    assert not fence
    return found
