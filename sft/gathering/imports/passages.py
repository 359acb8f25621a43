"""The rule of documents: title -> text, beginning -> rest, or heading -> section."""

from __future__ import annotations

import re

from sft.gathering.records import Piece

__all__ = ["DOCUMENT_COMPLETION", "DOCUMENT_GROUP", "DOCUMENT_PROMPT", "pieces", "title_of"]

DOCUMENT_PROMPT = "the title, with the heading of a section where there are two; without a title the first paragraph"
DOCUMENT_COMPLETION = "what stands below it, to the next heading or to the end"
DOCUMENT_GROUP = "a document"

_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*$")
_UNDERLINED = re.compile(r"(?m)^([^\s#>*+|-][^\n]{0,120})\n(=+|-{3,})[ \t]*$")
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")


def _blocks(text: str) -> list[tuple[int, str, str]]:
    """(level, heading, what stands below it) of Markdown; what stands above the first heading has level 0."""
    text = _UNDERLINED.sub(lambda found: f"{'#' if found[2][0] == '=' else '##'} {found[1]}", text)
    blocks: list[tuple[int, str, list[str]]] = [(0, "", [])]
    fence = ""
    for line in text.split("\n"):
        if found := _FENCE.match(line):
            fence = found[1][:3] if not fence else "" if found[1].startswith(fence) else fence
        heading = _HEADING.fullmatch(line) if not fence else None
        if heading:
            blocks.append((len(heading[1]), heading[2].strip(), []))
        else:
            blocks[-1][2].append(line)
    return [(level, heading, "\n".join(lines).strip()) for level, heading, lines in blocks]


def title_of(text: str) -> tuple[str, str]:
    """The title of Markdown, where its first heading begins it, and the rest; of other texts "" and all."""
    blocks = _blocks(text)
    if len(blocks) > 1 and not blocks[0][2] and (blocks[1][0] == 1 or all(level > 1 for level, _, _ in blocks[2:])):
        rest = [blocks[1][2]] + [f"{'#' * level} {heading}\n\n{below}" for level, heading, below in blocks[2:]]
        return blocks[1][1], "\n\n".join(part for part in rest if part.strip()).strip()
    return "", text.strip()


def pieces(text: str, rule: str, *, title: str = "") -> tuple[Piece, ...]:
    """The pairs of one document, of Markdown or plain text, by ``rule``; none where it has nothing to begin with.

    ``title``: where it is known from elsewhere. "auto": by headings where there are two, else by the title, else by
    the beginning.
    """
    text = text.replace("\r\n", "\n").strip()
    own, rest = title_of(text)
    if own and (not title or own == title):
        title, text = own, rest
    sections = [block for block in _blocks(text) if block[2]]
    headed = [block for block in sections if block[1]]
    if rule == "heading" or (rule == "auto" and len(headed) > 1):
        above = [Piece(title, below) for level, _, below in sections if level == 0 and title]
        return (*above, *(Piece(f"{title}\n\n{heading}".strip(), below) for _, heading, below in headed))
    if title and rule in ("auto", "title"):
        return (Piece(title, text),) if text else ()
    if rule == "title":
        return ()
    beginning, _, rest = text.partition("\n\n")
    return (Piece(beginning.strip(), rest.strip()),) if rest.strip() else ()
