"""WordPress: the export of a site (WXR, an XML file) with its posts and pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import ParseError

from sft.demonstrations.demonstration import Source
from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.imports.parsing import moment
from sft.gathering.imports.passages import DOCUMENT_COMPLETION, DOCUMENT_PROMPT, pieces
from sft.gathering.records import Importer, ImportOptions, Record, Unread, Written
from sft.gathering.source_files import SourceFiles

_SPACES = re.compile(
    r"\{http://(wordpress\.org/export|purl\.org/rss/1\.0/modules/content|purl\.org/dc/elements)/[^}]*\}"
)
_PREFIX = {"wordpress.org/export": "wp:", "purl.org/rss/1.0/modules/content": "content:", "purl.org/dc/elements": "dc:"}
_SHORTCODE = re.compile(r"\[/?(?:caption|gallery|embed|audio|video|playlist|more|vc_\w+|et_pb_\w+)\b[^\]]*\]")
_STATES = {"publish": "", "private": "private"}  # of every other one (draft, pending, future) a post is a draft


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in files.matching("*.xml"):
        if _is_wxr(files, name):
            yield from _site(files, name, options)


def _site(files: SourceFiles, name: str, options: ImportOptions) -> Iterator[Record]:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    address, number = files.address(name), 0
    authors: dict[str, str] = {}
    try:
        with files.open(name) as file:
            for _, one in iterparse(file, forbid_dtd=True):
                if not str(one.tag).endswith(("item", "author")):
                    continue
                values = {_SPACES.sub(lambda found: _PREFIX[found[1]], str(part.tag)): part.text or "" for part in one}
                if one.tag == "item":
                    number += 1
                    yield _item(Source(address, number), values, authors, options)
                elif "wp:author_login" in values:
                    authors[values["wp:author_login"]] = values.get("wp:author_display_name", "")
                one.clear()
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        said = " ".join(str(error).split())
        yield Unread(Source(address, number + 1), f"is not XML from here on ({said})", "export the site again")


def _item(place: Source, values: dict[str, str], authors: dict[str, str], options: ImportOptions) -> Record:
    login = values.get("dc:creator", "").strip()
    people = tuple(filter(None, dict.fromkeys((authors.get(login, "").strip(), login))))
    kind, state = values.get("wp:post_type", "post"), values.get("wp:status", "publish")
    at = _moment(values.get("wp:post_date", ""))
    group = values.get("wp:post_id", "") or str(place.line)
    if kind not in ("post", "page"):  # pictures, menus, revisions
        return Written(place, people, at, group, fate="wordless")
    if fate := _STATES.get(state, "draft"):
        return Written(place, people, at, group, fate=fate)
    try:
        text = markdown(soup_of(_paragraphs(_SHORTCODE.sub("", values.get("content:encoded", "")))))
    except RecursionError:
        return Unread(place, "is nested too deep to be read", "save it as plain text", dict(values))
    title = markdown(soup_of(values["title"])) if values.get("title", "").strip() else ""
    found: Any = pieces(text, options.rule, title=title)
    return Written(place, people, at, group, found, fate="" if text else "wordless")


def _paragraphs(text: str) -> str:
    """Text of the classic editor, in which an empty line is a paragraph, as HTML."""
    if re.search(r"<(?:p|div|h[1-6]|ul|ol|blockquote|pre|table)\b|<!-- wp:", text, re.IGNORECASE):
        return text
    parts = (part.replace("\n", "<br>\n") for part in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").strip()))
    return "".join(f"<p>{part}</p>" for part in parts)


def _moment(text: str) -> datetime | None:
    at = moment(text)
    return at if at and at.year > 1 else None


def _is_wxr(files: SourceFiles, name: str) -> bool:
    return "wordpress.org/export/" in files.head(name)


IMPORTER = Importer(
    name="wordpress",
    about="posts and pages of a WordPress site (its export, WXR)",
    prompt=DOCUMENT_PROMPT,
    completion=DOCUMENT_COMPLETION,
    group="a post or page",
    flaws=(
        "A title says little of what is written below it: no clone can know the rest.",
        "Drafts, and posts that are kept private, are left out.",
        "Comments, pictures and what page builders make are left out; links, lists and tables stand as Markdown.",
    ),
    recognises=lambda files: any(_is_wxr(files, name) for name in files.matching("*.xml")[:5]),
    records=_records,
)
