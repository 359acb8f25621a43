"""Rows of a file with the line each stands on, before anyone asks what they mean.

JSON Lines, JSON, CSV, TSV and Parquet all become ``(line, row)`` pairs, where a row is the parsed value or,
when that one row cannot be read, a :class:`Broken`. A file that cannot be read at all raises ``SourceError``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import SourceError

__all__ = ["READERS", "Broken", "rows_of"]

Rows = Iterator[tuple[int, Any]]

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00": "UTF-16 or UTF-32"}
_SPACE = re.compile(r"[ \t\n\r]*")
_QUOTED = re.compile(r'"(?:[^"]|"")*"(?=[\t\r\n]|$)')
_STRAY = re.compile(r'(?:^|(?<=\t))"(?!(?:[^"\t]|"")*"(?:[\t\r\n]|$))')
_FIELD_LIMIT = 2**31 - 1  # characters in one CSV field; the module's own limit of 131,072 is too small


@dataclass(frozen=True, slots=True)
class Broken:
    """One row that cannot be read: its raw text, what is wrong with it, and what to do."""

    raw: str
    message: str
    remedy: str
    field: str = ""


def rows_of(path: Path) -> Rows:
    """``(line, row)`` for every non-blank row; lines count from 1 (in Parquet: rows).

    Raises ``SourceError`` for a file that is missing, a directory, empty, of an unknown kind or not UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; name a file in it ({', '.join(READERS)})")
    if not path.exists():
        raise SourceError(f"{path}: there is no such file; check the path, it is read from {Path.cwd()}")
    if reader is None:
        raise SourceError(
            f"{path}: files ending in '{path.suffix}' are not understood; convert it to one of {', '.join(READERS)}"
        )
    try:
        found = False
        for line, row in reader(path):
            found = True
            yield line, row
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{path}: cannot be read ({reason}); check the file and its rights") from None
    if not found:
        raise SourceError(f"{path}: is empty; write one demonstration per row into it")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Numbered lines, decoded, cut at ``\n`` only: U+2028 and its kin may stand inside a completion."""
    with path.open("rb") as file:
        head = file.read(4)
        for mark, encoding in _BOMS.items():
            if head.startswith(mark) or (mark == b"\x00" and mark in head):
                raise SourceError(f"{path}: is {encoding}, not UTF-8; save it again as UTF-8")
        file.seek(3 if head.startswith(b"\xef\xbb\xbf") else 0)
        for number, raw in enumerate(file, 1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and error.end == len(raw):
                    yield number, raw[: error.start].decode("utf-8")  # cut inside the last character
                    continue
                raise SourceError(
                    f"{path}:{number}: is not UTF-8 (byte 0x{raw[error.start]:02x} at place "
                    f"{error.start + 1}; Latin-1 or Windows-1252?); save the file again as UTF-8"
                ) from None


class _Json:
    """A JSON decoder that notices a key written twice, and says what is wrong in our words."""

    def __init__(self) -> None:
        self.twice: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)
        self._scan = self._decoder.scan_once  # type: ignore[attr-defined]  # public, and missing in the stubs

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            self.twice.append(next(key for key in keys if keys.count(key) > 1))
        return value

    def whole(self, text: str) -> Any:
        """The one value that ``text``, without white space around it, is; or a :class:`Broken`."""
        self.twice.clear()
        try:
            value, end = self._scan(text, 0)
            if end == len(text) and not self.twice:
                return value
        except (StopIteration, ValueError, RecursionError):
            pass  # said in words by the slower way
        return self.at(text)[0]

    def at(self, text: str, start: int = 0, *, whole: bool = True) -> tuple[Any, int]:
        """The value that starts at ``start``, or a :class:`Broken`, and where it ends (-1: nobody knows)."""
        self.twice.clear()
        start = _SPACE.match(text, start).end()  # type: ignore[union-attr]
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            return Broken(text, "is nested too deep to be read", "flatten the row or remove it"), -1
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
                return Broken(
                    text,
                    f"is cut short (the JSON ends at character {len(text.rstrip())})",
                    "write the row again in full",
                ), -1
            message = f"is not JSON ({error.msg} at character {error.pos + 1})"
            return Broken(text, message, "mend or remove the row"), -1
        except ValueError:  # only a number of more digits than Python agrees to parse
            return Broken(text, "holds a number with thousands of digits", "write it as text or remove it"), -1
        rest = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if whole and rest != len(text):
            message = f"holds more than one value (a second one starts at character {rest + 1})"
            return Broken(text, message, "write one object per line"), end
        if self.twice:
            return Broken(text[start:end], "is written twice in one object", "keep one", self.twice[0]), end
        return value, end


def _json_lines(path: Path) -> Rows:
    decoder = _Json()
    first = True
    for number, line in _lines(path):
        text = line.strip(" \t\r\n")
        if not text:
            continue
        if first and text[0] == "[":
            raise SourceError(f"{path}: holds a JSON array, not one object per line; rename it to {path.stem}.json")
        if first and text == "{":
            raise SourceError(
                f"{path}: holds an object spread over several lines; write each object on one line, "
                "or an array of them into a .json file"
            )
        first = False
        yield number, decoder.whole(text)


def _json(path: Path) -> Rows:
    """An array of rows, or (as many tools write into ``.json``) one object per line."""
    text = "".join(line for _, line in _lines(path))
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        return
    if text[start] == "{":
        yield from _json_object(path, text)
        return
    if text[start] != "[":
        raise SourceError(f"{path}: does not start with '['; write the rows as one JSON array of objects")
    decoder, line, counted, place = _Json(), 1, 0, start + 1
    index = 0
    while True:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]" and index == 0:
            place += 1
            break
        row, end = decoder.at(text, place, whole=False)
        index += 1
        if end < 0:
            raise SourceError(
                f"{path}:{line}: row {index} of the array {row.message}; {row.remedy} "
                "(nothing after it can be read: JSON Lines would lose one row only)"
            )
        yield line, row
        place = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        follows = text[place : place + 1]
        place += 1
        if follows == "]":
            break
        if follows != ",":
            line += text.count("\n", counted, place)
            what = "is cut short after" if not follows else f"has {follows!r} where ',' must stand, after"
            raise SourceError(f"{path}:{line}: the array {what} row {index}; write the file again in full")
    if text[place:].strip():
        raise SourceError(f"{path}: something follows the array's closing ']'; remove it")


def _json_object(path: Path, text: str) -> Rows:
    first_line = text.lstrip(" \t\r\n").split("\n", 1)[0]
    row, end = _Json().at(first_line)
    if end >= 0 and not isinstance(row, Broken) and text.strip(" \t\r\n") != first_line.strip(" \t\r\n"):
        yield from _json_lines(path)
        return
    row, _ = _Json().at(text)
    if isinstance(row, Broken):
        raise SourceError(f"{path}: {row.message}; {row.remedy}")
    lists = [key for key, value in row.items() if isinstance(value, list)] if isinstance(row, dict) else []
    under = f" (the one under '{lists[0]}'?)" if lists else ""
    raise SourceError(f"{path}: holds one object, not an array of rows; write the array{under} on its own")


def _delimited(delimiter: str) -> Callable[[Path], Rows]:
    def with_limit(path: Path) -> Rows:
        limit = csv.field_size_limit(_FIELD_LIMIT)
        try:
            remedy = f"quote the fields that hold '{delimiter}' or a line break".replace("\t", "\\t")
            yield from _table(path, _quoted(path, delimiter), delimiter, remedy)
        finally:
            csv.field_size_limit(limit)

    return with_limit


def _table(path: Path, rows: Iterator[tuple[int, list[str] | Broken]], delimiter: str, remedy: str) -> Rows:
    """The rows below the first one, which names the columns. ``remedy``: for one of another length."""
    header: list[str] | None = None
    for line, cells in rows:
        if isinstance(cells, Broken):
            if header is None:
                raise SourceError(f"{path}:{line}: the header {cells.message.replace('quoting ', '')}; {cells.remedy}")
            yield line, cells
        elif header is None:
            header = _header(path, line, cells)
        elif len(cells) != len(header):
            message = f"has {len(cells)} fields where the header names {len(header)}"
            yield line, Broken(delimiter.join(cells), message, remedy)
        else:
            yield line, dict(zip(header, cells, strict=True))


def _quoted(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | Broken]]:
    """Fields as RFC 4180 has them: in quotes where they hold a delimiter, a quote or a line break."""
    reader = csv.reader((line for _, line in _lines(path)), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = 'put the field in quotes and write each " inside it as ""'
            yield line, Broken("", f"breaks the quoting rules ({error})", remedy)
            continue
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield line, cells


def _tabbed(path: Path) -> Rows:
    """TSV with or without quoting; without, a quote is a character like any other.

    Nothing in the file says which it is, and what is read wrongly is lost: an unquoted field that starts with a quote
    would swallow the rows up to the next one. So where some field starts with a quote and is no quoted field, both
    readings are made, and the one that understands more rows is right.
    """
    quoted = _delimited("\t")
    if _has_stray_quote(path):
        as_quoted, as_plain = (
            sum(not isinstance(row, Broken) for _, row in reading) for reading in (quoted(path), _plain(path))
        )
        if as_plain > as_quoted:
            return _plain(path)
    return quoted(path)


def _has_stray_quote(path: Path) -> bool:
    """Whether a field starts with a quote and is no quoted field of one line; never where the header is quoted."""
    header = True
    for _, line in _lines(path):
        if header and line.strip():
            if _QUOTED.match(line):
                return False
            header = False
        if '"' in line and _STRAY.search(line):
            return True
    return False


def _plain(path: Path) -> Rows:
    lines = ((number, line.removesuffix("\n").removesuffix("\r")) for number, line in _lines(path))
    rows = ((number, text.split("\t")) for number, text in lines if text.strip())
    return _table(path, rows, "\t", "write one tab between two fields, and none inside them")


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    for column in header:
        if header.count(column) > 1:
            raise SourceError(f"{path}:{line}: the header names '{column}' twice; rename one of them")
    return header


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise SourceError(f"{path}: Parquet needs pyarrow; pip install pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            _header(path, 1, list(file.schema_arrow.names))
            row = 0
            for batch in file.iter_batches(batch_size=4096):
                for values in batch.to_pylist():
                    row += 1
                    yield row, values
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: is not a Parquet file that can be read ({reason}); write it again") from None


#: file ending -> reader
READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _delimited(","),
    ".tsv": _tabbed,
    ".parquet": _parquet,
}
