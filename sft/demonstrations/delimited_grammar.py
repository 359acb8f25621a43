"""How one delimited file writes its rows: header, delimiter, what a record is, and what a whole row looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sft.demonstrations.text_files import Broken, lines_of
from sft.errors import SourceError

__all__ = ["MEND_QUOTES", "QUOTE_FIRST", "SAMPLE", "Grammar", "Header", "fields", "header_of", "shown"]

#: Lines that show how a file is written.
SAMPLE = 200
QUOTE_FIRST = "write the quote right behind the delimiter"
MEND_QUOTES = 'put the cell in quotes and write each " inside it as ""'
_DELIMITERS = (",", ";", "\t", "|")
_JSON = re.compile(r'\s*(?:\{\s*"|\[\s*(?:[{\[]|$))')
#: What stands before a name and nobody sees: marks of files that were joined, zero-width spaces.
_UNSEEN = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")
_HINT = re.compile(r"sep=(.)")  # Excel's own first line


def fields(count: int) -> str:
    """So many fields, in words."""
    return f"{count} field{'s' if count != 1 else ''}"


def shown(delimiter: str, *, none: bool = False) -> str:
    """The delimiter as a sentence names it, or says that there is ``none``."""
    if delimiter == "\t":
        return "no tab" if none else "a tab"
    return f"no '{delimiter}'" if none else f"'{delimiter}'"


@dataclass(frozen=True, slots=True)
class Header:
    """``last``: the line it ends on; ``quoted``: whether it begins with a quote."""

    last: int
    names: tuple[str, ...]
    delimiter: str
    quoted: bool


def header_of(path: Path, encoding: str, usual: str) -> Header:
    """The header of ``path``. Raises ``SourceError`` where it cannot be read or names a column twice."""
    lines = [(number, line) for number, line in islice(lines_of(path, encoding), SAMPLE) if line.strip()]
    hint = _HINT.fullmatch(lines[0][1].rstrip("\r\n")) if lines else None
    lines = lines[1:] if hint else lines
    if not lines:
        return Header(0, (), usual, False)
    number, text = lines[0]
    if _JSON.match(text):
        ending = ".json" if text.lstrip().startswith("[") else ".jsonl"
        raise SourceError(f"{path}: holds JSON and no table; let its name end in {ending}")
    if "\r" in text.rstrip("\r\n"):
        raise SourceError(
            f"{path}: its lines end in carriage returns alone, as old Macs wrote them; save it again as 'CSV UTF-8', "
            f"or put line feeds in their place: tr '\\r' '\\n' < {path.name} > mended{path.suffix}"
        )
    delimiter = hint[1] if hint else next((each for each in (usual, *_DELIMITERS) if each in text), usual)
    grammar = Grammar(delimiter)
    more = iter(lines[1:])
    last = number
    while grammar.is_open(text.rstrip("\r\n")) and (following := next(more, None)) is not None:
        last = following[0]
        text += following[1]
    cells = grammar.cells(text.rstrip("\r\n"))
    if cells is None:
        raise SourceError(f"{path}:{number}: the header breaks the quoting rules; {MEND_QUOTES}")
    names = tuple(_UNSEEN.sub("", cell).strip() or f"column {place}" for place, cell in enumerate(cells, 1))
    for column in names:
        if names.count(column) > 1:
            raise SourceError(f"{path}:{number}: the header names '{column}' twice; rename one of them")
    return Header(last, names, delimiter, text.startswith('"'))


class Grammar:
    """What a record is in one file. ``sample``: its first lines; they show whether a blank follows the delimiters, and
    with the header whether every cell stands in quotes.
    """

    def __init__(self, delimiter: str, header: Header | None = None, sample: Sequence[str] = ()) -> None:
        self.delimiter = delimiter
        self.width = len(header.names) if header else 0
        between = re.escape(delimiter)
        cell = rf'(?:"(?:[^"]++|"")*+"|[^"\r\n{between}]*+)'
        self._closed = re.compile(rf"{cell}(?:{between}{cell})*+")
        self._open = re.compile(rf'(?:{cell}{between})*+"(?:[^"]++|"")*+')
        self._to_opening = re.compile(rf"(?:{cell}{between})*+")
        self._cell = re.compile(rf'(?:^|{between})(?:"((?:[^"]++|"")*+)"|([^"\r\n{between}]*+))')
        self.quoted_behind_blank = re.compile(rf'{between}[ ]+(?="(?:[^"]|"")*+"[ ]*(?:{between}|$))')
        self.begins = re.compile(rf'(?:^|{between})"')
        rows = [cells for line in sample if '"' not in line and len(cells := line.split(delimiter)) == self.width]
        self._spaced = 2 * sum(any(cell.startswith(" ") for cell in row[1:]) for row in rows) > len(sample)
        self.quoted = bool(header and header.quoted and sample and sample[0].startswith('"'))

    def is_open(self, text: str) -> bool:
        """Whether ``text`` ends within a quoted cell."""
        return '"' in text and self._closed.fullmatch(text) is None and self._open.fullmatch(text) is not None

    def cells(self, text: str) -> list[str] | None:
        """The cells of a record; None where it breaks the quoting rules."""
        if '"' not in text:
            return None if "\r" in text else text.split(self.delimiter)
        if self._closed.fullmatch(text) is None:
            return None
        return [each[2] if each[1] is None else each[1].replace('""', '"') for each in self._cell.finditer(text)]

    def opening(self, text: str) -> tuple[int, int]:
        """How many cells come before the one that ``text`` leaves open, and the place of its quote."""
        before = self._to_opening.match(text)
        place = before.end() if before else 0
        return len(self.cells(text[:place]) or ()) - 1 if place else 0, place

    def columns(self, text: str) -> int:
        """How many cells a piece of a row has at least, whatever its quotes: a delimiter before a blank is prose."""
        count = text.count(self.delimiter)
        return 1 + (count if self._spaced else count - text.count(self.delimiter + " "))

    def might_be_row(self, text: str) -> bool:
        """Whether a piece has the columns of a row, and something in two of them."""
        filled = sum(bool(cell.strip()) for cell in text.split(self.delimiter))
        return self.columns(text.rstrip("\r\n")) == self.width and filled > 1

    def opens(self, line: str) -> bool | None:
        """Whether the first quote of a line that is none of a doubled pair begins a cell; None where there is none."""
        bare = line.replace('""', "")
        place = bare.find('"')
        return None if place < 0 else place == 0 or bare[place - 1] == self.delimiter

    def is_prose(self, line: str) -> bool:
        """Whether no row of this file begins as the line does: with a blank, or without the quote that all others have
        (a doubled one is none).
        """
        quoted = line.startswith('"') and (line.startswith('"""') or not line.startswith('""'))
        return not quoted if self.quoted else line.startswith(" ") and not self._spaced

    def is_sound(self, cells: Sequence[str], lines: Sequence[str]) -> bool:
        """Whether nothing about a row is odd, as this file writes rows; ``lines``: those it stands on, if any."""
        odd = not self._spaced and any(cell.startswith(" ") for cell in cells[1:])
        return not (lines and (odd or self.is_prose(lines[0])))

    def against(self, line: str) -> int:
        """What speaks against a physical line's being a whole row, as this file writes rows: -1 where nothing does, 0
        where it has too few filled cells to be of use in any case, else 2.
        """
        text = line.rstrip("\r\n")
        cells = self.cells(text)
        if cells is None or len(cells) != self.width:
            return 2
        if sum(bool(cell.strip()) for cell in cells) < 2:
            return 2 if self.is_prose(text) else 0
        return -1 if self.is_sound(cells, [text]) else 2

    def needs_quotes(self, text: str) -> bool | None:
        """Whether a cell of the line is quoted because of what it holds; None where no cell is quoted."""
        if not self.begins.search(text) or self._closed.fullmatch(text) is None:
            return None
        quoted = [each[1] for each in self._cell.finditer(text) if each[1]]
        return any('""' in cell or self.delimiter in cell for cell in quoted)

    def fault(self, number: int, text: str) -> tuple[str, str]:
        """What is wrong with a record that breaks the rules and begins in line ``number``, and what to do."""
        well = self._closed.match(text)
        end = well.end() if well else 0
        further = text.count("\n", 0, end)
        if further:
            return f"opens a quoted cell that breaks the quoting rules in line {number + further:,}", MEND_QUOTES
        cell = text[text.rfind(self.delimiter, 0, end) + 1 : end]
        if cell.isspace() and text[end : end + 1] == '"':
            return f"has a blank before the quote at character {end + 1}", QUOTE_FIRST
        return f"breaks the quoting rules at character {end + 1}", MEND_QUOTES

    def misfit(self, text: str, count: int) -> Broken:
        """A record of another length than the header's."""
        remedy = f"quote the fields that hold {shown(self.delimiter)} or a line break"
        if not any(cell.strip() for cell in text.split(self.delimiter)[self.width :]) and count > self.width:
            remedy = f"take the {shown(self.delimiter)} at its end away"
        elif count < self.width:
            remedy = "write all of them, blank ones too, and quote a field that holds a line break"
        return Broken(text, f"has {fields(count)} where the header names {self.width}", remedy)
