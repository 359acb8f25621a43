"""A prompt that is made of several columns, as ``demonstrations.columns.prompt`` may have it: a template of places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["PromptTemplate", "is_template"]

_PART = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}|[{}]")
_BETWEEN = re.compile(r"(\n{2,})")


def is_template(name: str) -> bool:
    """Whether ``name`` is a template of columns rather than the name of one."""
    return "{" in name or "}" in name


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Paragraphs of words and places, a place being the name of a column in braces; ``{{`` and ``}}`` are braces.

    ``paragraphs``: (what stands before it, its parts) each, where a part is (words, "") or ("", column). ``columns``:
    those of the places, in the order in which they stand, each as often as it stands.
    """

    paragraphs: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    columns: tuple[str, ...]

    @classmethod
    @lru_cache(maxsize=32)
    def read(cls, text: str) -> PromptTemplate:
        """The template that ``text`` is; raises ``ValueError`` with what is wrong and what to do, "; " between."""
        before, paragraphs, columns = "", list[tuple[str, tuple[tuple[str, str], ...]]](), list[str]()
        for number, words in enumerate(_BETWEEN.split(text)):
            if number % 2:
                before = words
            else:
                parts = _parts(words)
                columns += [column for _, column in parts if column]
                paragraphs.append((before, tuple(parts)))
        if not columns:
            raise ValueError("names no column; write the name of each in braces, {question}")
        if r"\n" in text:
            raise ValueError(
                r"holds a backslash and an n, where a new line was meant; write it in double quotes: "
                f'"{text[:60]}"'
            )
        return cls(tuple(paragraphs), tuple(columns))

    def filled(self, cells: Mapping[str, str]) -> str:
        """The prompt with the text of each column in its places, word for word; "" where all of them are blank.

        A paragraph goes where all of its places are blank, its words and the blank line before it too.
        """
        found = ""
        for before, parts in self.paragraphs:
            places = [column for _, column in parts if column]
            if places and not any(cells[column].strip() for column in places):
                continue
            found += (before if found else "") + "".join(cells[column] if column else words for words, column in parts)
        return found if any(cells[column].strip() for column in self.columns) else ""


def _parts(paragraph: str) -> list[tuple[str, str]]:
    parts, words, end = list[tuple[str, str]](), "", 0
    for match in _PART.finditer(paragraph):
        words += paragraph[end : match.start()]
        end = match.end()
        column = (match[1] or "").strip()
        if match[0] in ("{{", "}}"):
            words += match[0][0]
        elif match[1] is None:
            raise ValueError(f"has a {match[0]} that belongs to no column; write {match[0] * 2} for the sign itself")
        elif not column:
            raise ValueError("has a place without a name, {}; write a column's name in it")
        else:
            parts += [(words, ""), ("", column)] if words else [("", column)]
            words = ""
    words += paragraph[end:]
    return [*parts, (words, "")] if words else parts
