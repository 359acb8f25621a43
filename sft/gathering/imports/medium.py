"""Medium: the archive that Medium sends, with a page of HTML for each post."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft.demonstrations.demonstration import Source
from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.imports.parsing import moment
from sft.gathering.imports.passages import DOCUMENT_COMPLETION, DOCUMENT_PROMPT, pieces
from sft.gathering.records import Importer, ImportOptions, Record, Unread, Written
from sft.gathering.source_files import SourceFiles

_POST = re.compile(r"(?:.*/)?posts/[^/]+\.html", re.IGNORECASE)


def _posts(files: SourceFiles) -> list[str]:
    return [name for name in files.names if _POST.fullmatch(name) or _is_post(files, name)]


def _is_post(files: SourceFiles, name: str) -> bool:
    return name.lower().endswith(".html") and 'class="h-entry"' in files.head(name) and "p-name" in files.head(name)


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in _posts(files):
        place = Source(files.address(name), 1)
        try:
            yield _post(place, name, files.text(name), options)
        except RecursionError:
            yield Unread(place, "is nested too deep to be read", "save it as plain text")


def _post(place: Source, name: str, text: str, options: ImportOptions) -> Written:
    soup = soup_of(text)
    title = soup.select_one(".p-name") or soup.title
    body = soup.select_one("[data-field=body], .e-content")
    author, published = soup.select_one(".p-author"), soup.select_one("time.dt-published")
    called = title.get_text().strip() if title else ""
    if body is not None:
        for again in body.select(".graf--title, .graf--subtitle, figure, .section-divider"):
            if again.get_text().strip() == called or again.name != "h3":
                again.decompose()
    written = markdown(body) if body is not None else ""
    people = (author.get_text().strip(),) if author and author.get_text().strip() else ()
    at = moment(str(published.get("datetime", "")).replace("Z", "+00:00")) if published else None
    drafted = name.rpartition("/")[2].lower().startswith("draft_") or published is None
    fate = "draft" if drafted else "" if written else "wordless"
    return Written(place, people, at, name, () if fate else pieces(written, options.rule, title=called), fate=fate)


IMPORTER = Importer(
    name="medium",
    about="posts of Medium (the archive that it sends, with posts/*.html)",
    prompt=DOCUMENT_PROMPT,
    completion=DOCUMENT_COMPLETION,
    group="a post",
    flaws=(
        "What one wrote under the posts of others is a post too, and its title is how it begins.",
        "A title says little of what is written below it: no clone can know the rest.",
        "Subtitles, pictures and embedded pages are left out; links, lists and code stand as Markdown.",
    ),
    recognises=lambda files: any(_is_post(files, name) for name in files.matching("*.html")[:20]),
    records=_records,
)
