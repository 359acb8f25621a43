r"""CSV and TSV: each record decided by itself, so that a damaged one costs no other.

A quoted cell may span lines (RFC 4180), so one quote too many swallows the rows up to the next one, and a parser that
goes from quote to quote cannot tell. Here a cell that spans lines has to earn it:

- A cell stands in quotes as a whole, inner quotes doubled, or holds no quote. Where no cell of a file begins with a
  quote, quotes are characters like any other.
- A cell of several lines is a fault where lines of it are whole rows by themselves: as many cells as the header,
  written the way the file writes them. In a file of two columns half of its lines must be, in a wider one a single one.
- After a fault, reading goes on at the next physical line. Lines that rather belong to the damaged cell are faults too:
  up to the next quote, the run of lines in which those that are no whole rows weigh most, each as much as two that are.
- A file of tabs may have no quoting at all. Both readings are made, and the one with less to complain of is taken.

Every physical line that is not blank is in a row that is read, or in a :class:`Broken` with its text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sft.demonstrations.delimited_grammar import MEND_QUOTES, QUOTE_FIRST, SAMPLE, Grammar, fields, header_of, shown
from sft.demonstrations.text_files import Broken, lines_of

__all__ = ["delimited"]

Numbered = tuple[int, str]
#: The lines below the header, as often as they are asked for.
Body = Callable[[], Iterator[Numbered]]
Records = Iterator[tuple[int, list[str] | Broken]]

_TO_CLOSING = re.compile(r'(?:[^"]|"")*+"')
_SURE = 1_000  # so many whole rows more than half of the lines within one cell: it is none, whatever follows
_LONGEST = 100_000  # lines of one cell
_FAR = 40  # so many more whole rows than other lines after a fault: the rest has nothing to do with it


def delimited(path: Path, encoding: str, usual: str, notes: list[str]) -> Iterator[tuple[int, Any]]:
    """Rows below the header, which names the columns. ``usual``: the delimiter that the file's ending promises; where
    the header has another, ``notes`` gets a sentence. Raises ``SourceError`` for a header that names nothing.
    """
    header = header_of(path, encoding, usual)
    if header.delimiter != usual:
        notes.append(f"the delimiter is {shown(header.delimiter)}, for the header has {shown(usual, none=True)}")

    def body() -> Iterator[Numbered]:
        return ((number, line) for number, line in lines_of(path, encoding) if number > header.last)

    grammar = Grammar(header.delimiter, header, [line.rstrip("\r\n") for _, line in islice(body(), SAMPLE)])
    plain = header.delimiter == "\t" and not header.quoted and _is_plain(body, grammar)
    columns = tuple(name.casefold() for name in header.names)
    for line, cells in (_plain if plain else _records)(body, grammar):
        if not isinstance(cells, Broken) and tuple(cell.strip("\ufeff \t").casefold() for cell in cells) == columns:
            cells = Broken(header.delimiter.join(cells), "repeats the header", "remove the line; two files meet there")
        yield line, cells if isinstance(cells, Broken) else dict(zip(header.names, cells, strict=True))


# -- records --------------------------------------------------------------------------------------------------


class _Tape:
    """Numbered lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterator[Numbered]) -> None:
        self._lines = lines
        self._ahead: deque[Numbered] = deque()

    def take(self) -> Numbered | None:
        """The next line, which is gone then; None at the end."""
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def peek(self, place: int) -> str | None:
        """The line ``place`` lines after the next one."""
        while len(self._ahead) <= place:
            if (line := next(self._lines, None)) is None:
                return None
            self._ahead.append(line)
        return self._ahead[place][1]


def _records(body: Body, grammar: Grammar) -> Records:
    """Records of a file with quoting."""
    return _without_beginnings(_one_by_one(body, grammar), grammar)


class _Found(NamedTuple):
    """A record or a fault. ``lines``: its physical lines, where quotes may be odd in them; else nothing."""

    number: int
    lines: tuple[str, ...]
    found: list[str] | Broken


def _one_by_one(body: Body, grammar: Grammar) -> Iterator[_Found]:
    """Each record by itself, and after a fault the next physical line."""
    tape = _Tape(body())
    some_begin: bool | None = None  # whether a cell of the file begins with a quote; looked up where a quote is odd
    while (at := tape.take()) is not None:
        number, line = at
        text, further = line.rstrip("\r\n"), 0
        if not text.strip():
            continue
        found: list[str] | Broken
        if '"' not in text or some_begin is False:
            found = _unquoted(text, grammar)
        else:
            found, further = _record(number, line, tape, grammar)
            if isinstance(found, Broken) and some_begin is None:
                some_begin = any(grammar.begins.search(each) for _, each in body())
                if not some_begin:
                    found = _unquoted(text, grammar)
        lines = [text]
        if isinstance(found, list):
            lines += [taken[1] for _ in range(further) if (taken := tape.take()) is not None]
        yield _Found(number, () if some_begin is False else tuple(lines), found)
        if isinstance(found, Broken) and '"' in text and some_begin is not False:
            yield from _follows(number, text, tape, grammar)


def _unquoted(text: str, grammar: Grammar) -> list[str] | Broken:
    """The cells of a line in which a quote is a character like any other."""
    cells = text.split(grammar.delimiter)
    if '"' in text and (blank := grammar.quoted_behind_blank.search(text)):
        return Broken(text, f"has a blank before the quote at character {blank.end() + 1}", QUOTE_FIRST)
    if "\r" in text:
        return Broken(text, "holds a carriage return outside quotes", "write each row on a line of its own")
    return cells if len(cells) == grammar.width else grammar.misfit(text, len(cells))


def _record(number: int, first: str, tape: _Tape, grammar: Grammar) -> tuple[list[str] | Broken, int]:
    """The cells of the record that begins in line ``number``, which is ``first``, and how many lines follow in it."""
    text, lines, whole = first.rstrip("\r\n"), [first], 0
    while grammar.is_open(text):
        while True:
            line = tape.peek(len(lines) - 1)
            if line is None or whole > _SURE + len(lines) // 2 or len(lines) > _LONGEST:
                remedy = 'close it with ", and write each " inside it as ""'
                return Broken(first.rstrip("\r\n"), "opens a quoted cell that is never closed", remedy), 0
            lines.append(line)
            if '"' in line.replace('""', ""):
                break
            whole += grammar.against(line) < 0
        text = "".join(lines).rstrip("\r\n")
    cells, further = grammar.cells(text), lines[1:]
    if cells is None:
        return Broken(first.rstrip("\r\n"), *grammar.fault(number, text)), 0
    if len(cells) != grammar.width:
        return grammar.misfit(first.rstrip("\r\n"), len(cells)), 0
    if further and (alone := _whole_rows(lines, grammar)):
        message = f"opens a quoted cell of {len(lines):,} lines, {alone:,} of which would be rows by themselves"
        return Broken(first.rstrip("\r\n"), message, "close it in its own line, or quote every cell of the file"), 0
    return cells, len(further)


def _whole_rows(lines: Sequence[str], grammar: Grammar) -> int:
    """How many lines of a record would be rows by themselves, where it is taken for rows with two odd quotes; else 0.

    The first line is judged without the quote that opens the cell, the last one without the quote that closes it. It
    is no sign that they have all columns where they must: the last column's cell begins in a line that has the others.
    That they have too few speaks for the cell twice. In doubt it is a fault, but for tabs, which text hardly holds.
    """
    columns, opening = grammar.opening(lines[0])
    last = lines[-1].rstrip("\r\n")
    closing = _TO_CLOSING.match(last)
    assert closing is not None  # or the record would not end here
    before, after = last[: closing.end() - 1], last[closing.end() :]
    if grammar.quoted:
        return 0  # the next row's first quote would have broken the cell
    if before.endswith(grammar.delimiter):
        return len(lines)  # what seems to close the cell opens one
    begun, ended = lines[0][:opening] + lines[0][opening + 1 :], before + after
    inner = [grammar.against(line) < 0 for line in lines[1:-1] if line.strip()]
    whole = sum(inner) + (columns < grammar.width - 1 and grammar.might_be_row(begun))
    whole += len(grammar.cells(after) or ()) < grammar.width and grammar.against(ended) < 0
    short = (columns + grammar.columns(lines[0][opening:]) < grammar.width) + (grammar.columns(ended) < grammar.width)
    other = len(inner) - sum(inner) + 2 * short
    if grammar.delimiter == "\t":
        other += 1 + (columns + grammar.columns(lines[0][opening:]) > grammar.width)
    return whole if whole and (whole >= other or inner[:2] == [True, True] or (any(inner) and grammar.width > 2)) else 0


def _follows(number: int, text: str, tape: _Tape, grammar: Grammar) -> Iterator[_Found]:
    """The lines after the fault of line ``number``, which is ``text``, that belong to it, for all that can be told.

    A row whose quoted cell does not end with its line goes on until it has its columns. What comes then is judged by
    what speaks for and against rows of their own.
    """
    columns, opening = grammar.opening(text)
    columns += grammar.columns(text[opening:])
    if text[opening : opening + 1] != '"':
        return  # it opens none
    place = best = 0
    # Columns told from lines with a further quote: a delimiter there is none of prose.
    beside = columns if _TO_CLOSING.match(text[opening + 1 :]) else 1
    while columns < grammar.width and (line := tape.peek(place)) is not None:
        here, opens = grammar.columns(line.rstrip("\r\n")), grammar.opens(line)
        if opening > 0:
            columns += here - 1
        else:  # the first column's cell ends in a line that has all others, or begins another such cell
            beside += here - 1 if opens is False else 0
            columns = grammar.width if opens else max(here, beside)
        best = place = place + 1
    best = max(best, _run(text, opening, place, tape, grammar))
    for _ in range(best):
        taken = tape.take()
        if taken is not None and taken[1].strip():
            line = taken[1].rstrip("\r\n")
            message = f"follows the damaged row of line {number:,}, and seems to belong to it"
            yield _Found(taken[0], (line,), Broken(line, message, f"mend line {number:,}"))


def _run(text: str, opening: int, place: int, tape: _Tape, grammar: Grammar) -> int:
    """How many of the next lines, from ``place`` on, belong to the cell that ``text`` opens at ``opening``."""
    unclosed = _TO_CLOSING.match(text[opening + 1 :]) is None
    before, _ = grammar.opening(text)
    has_all = not place and before < grammar.width - 1 and grammar.columns(text) >= grammar.width
    first, balance, most, best = place, 0, 0, 0
    while balance > most - _FAR and place < _LONGEST and (line := tape.peek(place)) is not None:
        place += 1
        if (opens := grammar.opens(line)) and not grammar.is_prose(line):
            break  # something begins here
        closes = opens is False
        against = 2 if closes or opens else grammar.against(line)
        if has_all and against <= 0 and line.strip():
            break  # the cell that opens is not the last one, and its row has all columns
        if line.strip():
            balance += against
        if balance > most or (closes and balance == most and unclosed):
            most, best = balance, place
        if closes:
            return best  # what the fault opened is closed here
    # The other columns stand on the last line of a cell in the first one, which looks like a row.
    return place if opening == 0 and first < best and has_all else best


def _without_beginnings(records: Iterator[_Found], grammar: Grammar) -> Records:
    """``records`` without those whose last line begins a cell that has lost its quote: each may be a row by itself.

    They are told by what follows: lines that are no rows, or odd ones, then one with a quote too many, and together
    they have too few cells. So rows are held back until a sound one, or a quote, is there.
    """
    held: list[_Found] = []
    for one in records:
        if isinstance(one.found, list) and (grammar.is_sound(one.found, one.lines) or len(held) > _SURE):
            yield from ((each.number, each.found) for each in held)
            held = []
        held.append(one)
        odd = _TO_CLOSING.match(one.lines[0]) if isinstance(one.found, Broken) and one.lines else None
        if odd is not None:
            before, after = one.lines[0][: odd.end() - 1], one.lines[0][odd.end() :]
            if before and not before.rstrip(" ").endswith(grammar.delimiter):
                held = list(_disowned(held, before + after, grammar))
            yield from ((each.number, each.found) for each in held)
            held = []
    yield from ((each.number, each.found) for each in held)


def _disowned(held: Sequence[_Found], rest: str, grammar: Grammar) -> Iterator[_Found]:
    """``held``, the last of which ends a cell and is ``rest`` without its quote: all from where that cell begins on are
    faults.
    """
    last, place = held[-1], len(held) - 1
    for index in range(place - 1, -1, -1):
        row = held[index]
        is_odd = isinstance(row.found, list) and not grammar.is_sound(row.found, row.lines)
        if row.lines and (is_odd or grammar.columns(rest) < grammar.width or grammar.is_prose(rest)):
            rest = "".join(line for each in held[index:place] for line in each.lines) + rest
            place = index
        elif isinstance(row.found, list):
            break
    message = f"seems to belong to a cell that is closed in line {last.number:,}"
    yield from held[:place]
    for each in held[place:]:
        if isinstance(each.found, Broken):
            yield each
            continue
        for number, line in enumerate(each.lines, each.number):
            if line.strip():
                yield _Found(number, (), Broken(line.rstrip("\r\n"), message, MEND_QUOTES))


# -- files of tabs --------------------------------------------------------------------------------------------

#: What it weighs that a line cannot be read, or is quoted as nobody does by chance; and that it just stands in quotes.
_STRONG, _WEAK = 10, 1


def _plain(body: Body, grammar: Grammar) -> Records:
    """Records of a file without quoting."""
    for number, line in body():
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        cells = text.split(grammar.delimiter)
        if '"' in text and grammar.needs_quotes(text):
            message = "is quoted, in a file whose quotes are characters like any other"
            yield number, Broken(text, message, "take its quoting away, or quote the whole file")
        elif len(cells) != grammar.width:
            message = f"has {fields(len(cells))} where the header names {grammar.width}"
            yield number, Broken(text, message, "write one tab between two fields, and none inside them")
        else:
            yield number, cells


def _is_plain(body: Body, grammar: Grammar) -> bool:
    """Whether the file is written without quoting: no cell begins with a quote, or that reading has less against it."""
    if not any(grammar.begins.search(line) for _, line in body() if '"' in line):
        return True
    quoted = sum(_STRONG * isinstance(found, Broken) for _, found in _records(body, grammar))
    plain = sum(_STRONG * isinstance(found, Broken) for _, found in _plain(body, grammar))
    plain += sum(_WEAK * (grammar.needs_quotes(line.rstrip("\r\n")) is False) for _, line in body() if '"' in line)
    return plain < quoted
