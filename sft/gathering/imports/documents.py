"""Documents: a folder of Markdown, HTML or plain text, or one of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import yaml

from sft.demonstrations.demonstration import Source
from sft.demonstrations.file_kinds import BEGINNING
from sft.demonstrations.text_files import wide_encoding
from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.imports.parsing import moment, text_of
from sft.gathering.imports.passages import DOCUMENT_COMPLETION, DOCUMENT_GROUP, DOCUMENT_PROMPT, pieces
from sft.gathering.records import Importer, ImportOptions, Record, Unread, Written
from sft.gathering.source_files import SourceFiles, decoded, larger

_MARKDOWN, _PAGES, _PLAIN = ("*.md", "*.markdown", "*.mdx"), ("*.html", "*.htm", "*.xhtml"), ("*.txt", "*.text")
#: Documents that are not read, and what to save them as.
UNREAD_DOCUMENTS = (
    "*.docx",
    "*.doc",
    "*.odt",
    "*.rtf",
    "*.pdf",
    "*.epub",
    "*.pages",
    "*.rst",
    "*.org",
    "*.tex",
    "*.adoc",
)
AS_WHAT = "Markdown, HTML or plain text"
#: What a file begins with that is called text and is another program's.
_NO_TEXT = ("%PDF-", "{\\rtf")
_TOML = re.compile(r"\A\+\+\+[ \t]*\r?\n(.*?)\r?\n\+\+\+[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_CHARSET = re.compile(
    r"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)|\A<\?xml[^>]*encoding=[\"']([\w.:-]+)", re.IGNORECASE
)
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in files.matching(*UNREAD_DOCUMENTS):
        yield Unread(Source(files.address(name), 1), "is in a form that is not read", f"save it as {AS_WHAT}")
    for name in files.matching(*_MARKDOWN, *_PAGES, *_PLAIN):
        place = Source(files.address(name), 1)
        text = _decoded(files, name)
        if text is None:
            yield Unread(place, "is neither UTF-8 nor in Latin letters", "save it as UTF-8")
            continue
        if "\0" in text[:4096] or text.startswith(_NO_TEXT):
            yield Unread(place, "is no text", "take it out of the folder, or save it as text")
            continue
        try:
            yield (
                _page(place, name, text, options)
                if name in files.matching(*_PAGES)
                else _text(place, name, text, options)
            )
        except RecursionError:
            yield Unread(place, "is nested too deep to be read", "save it as plain text", text[:2000])


def _decoded(files: SourceFiles, name: str) -> str | None:
    """The text of ``name``; of a page in the encoding that it names. None for one in letters that cannot be told."""
    with files.open(name) as file:
        data = file.read()
    text = decoded(data)
    if name in files.matching(*_PAGES) and (found := _CHARSET.search(text[:2048])):
        with suppress(LookupError, ValueError):
            return data.decode(larger(found[1] or found[2]))
    with suppress(UnicodeDecodeError):
        if wide_encoding(data[:BEGINNING]) or data.decode():
            return text
    # Neither: of Windows-1252, most letters are those of ASCII.
    high = sum(byte > 127 for byte in data)
    return text if 2 * high <= sum(map(str.isascii, filter(str.isalpha, text))) else None


def _text(place: Source, name: str, text: str, options: ImportOptions) -> Written:
    front: dict[str, Any] = {}
    if found := _FRONT.match(text):
        front, text = _front(found[1]), text[found.end() :]
    elif found := _TOML.match(text):
        front, text = _front(found[1], tomllib.loads), text[found.end() :]
    drafted = front.get("draft") is True or front.get("published") is False or "_drafts" in name.split("/")
    drafted = drafted or str(front.get("status", "")).lower() == "draft"
    fate = "draft" if drafted else "" if text.strip() else "wordless"
    author = front.get("author") or front.get("authors")
    people = tuple(text_of(one) for one in (author if isinstance(author, list) else [author]) if text_of(one))
    found_pieces = pieces(text, options.rule, title=text_of(front.get("title")))
    return Written(place, people, moment(str(front.get("date", ""))), name, () if fate else found_pieces, fate=fate)


def _front(text: str, read: Callable[[str], Any] = yaml.safe_load) -> dict[str, Any]:
    """What stands above the text between two lines of dashes (Jekyll, Hugo, Obsidian), or of plus signs (Hugo);
    nothing where it cannot be read.
    """
    try:
        found = read(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _page(place: Source, name: str, text: str, options: ImportOptions) -> Written:
    soup = soup_of(text)
    title = soup.title.get_text().strip() if soup.title else ""
    body = soup.find("article") or soup.find("main") or soup.body or soup
    for frame in body.find_all(["nav", "header", "footer", "aside"]) if body.name in ("body", "[document]") else ():
        frame.decompose()
    written = markdown(body)
    first = written.partition("\n")[0]
    if first.startswith("# ") and title.startswith(
        first[2:].strip()
    ):  # "The mill - my pages": the page's own is shorter
        title = first[2:].strip()
    return Written(
        place, (), None, name, pieces(written, options.rule, title=title), fate="" if written else "wordless"
    )


IMPORTER = Importer(
    name="documents",
    about="documents (Markdown, HTML and plain text)",
    prompt=DOCUMENT_PROMPT,
    completion=DOCUMENT_COMPLETION,
    group=DOCUMENT_GROUP,
    flaws=(
        "All documents without an author are taken for the expert's.",
        "A title says little of what is written below it: no clone can know the rest.",
        "Pictures leave no words; links, lists and tables stand as Markdown.",
    ),
    recognises=lambda files: bool(files.matching(*_MARKDOWN, *_PAGES, *_PLAIN)),
    records=_records,
    needs_me=False,
)
