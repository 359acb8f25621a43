"""HTML -> Markdown: what mail, blogs and pages have of words, with their headings, lists and code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ["markdown", "soup_of"]

#: Never words: what a browser does not show.
_UNSEEN = ("script", "style", "head", "title", "noscript", "template", "iframe", "object", "svg", "form")


def soup_of(text: str) -> BeautifulSoup:
    """The document in ``text``, by the parser that neither drops nor moves what is nested deep."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(text, "html.parser")


def markdown(node: Tag) -> str:
    """The words in ``node`` as Markdown, without pictures. Raises ``RecursionError`` where it is nested too deep."""
    from markdownify import MarkdownConverter

    for unseen in node.find_all(_UNSEEN):
        unseen.decompose()
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=["img"],
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    written = converter.convert_soup(node)
    plain = "\n".join(line.rstrip() for line in written.replace("\u00a0", " ").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", plain).strip()
