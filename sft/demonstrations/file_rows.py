"""Rows of a file with the line each stands on, before anyone asks what they mean.

JSON Lines, JSON, CSV, TSV and Parquet all become ``(line, row)`` pairs, where a row is the parsed value or,
when that one row cannot be read, a :class:`Broken`. A file that cannot be read at all raises ``SourceError``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft.demonstrations.delimited import delimited
from sft.demonstrations.file_kinds import BEGINNING, refuse_other_kinds
from sft.demonstrations.text_files import PACKED, Broken, lines_of, unpacked_suffix
from sft.errors import SourceError

__all__ = ["READERS", "Broken", "EmptySource", "rows_of"]


class EmptySource(SourceError):
    """A file without a row."""


Rows = Iterator[tuple[int, Any]]

_SPACE = re.compile(r"[ \t\n\r]*")
#: What may stand around the value of a line: white space, the mark that a joined file began with, and RFC 7464's.
_BETWEEN = " \t\r\n\ufeff\x1e"


def rows_of(path: Path, encoding: str = "", notes: list[str] | None = None) -> Rows:
    """``(line, row)`` for every non-blank row; lines count from 1 (in Parquet: rows).

    ``encoding``: how text files are written that are not UTF-8. ``notes`` gets a sentence for what was told from the
    file and not from its name. Raises ``SourceError`` for a file that is missing, a directory, empty, of an unknown
    kind, or in another encoding.
    """
    reader = READERS.get(unpacked_suffix(path))
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; name a file in it ({', '.join(READERS)})")
    if not path.exists():
        raise SourceError(f"{path}: there is no such file; check the path, it is read from {Path.cwd()}")
    if not path.is_file():
        raise SourceError(
            f"{path}: is a pipe or a device, whose bytes come once; write them into a file, or hand them to "
            "`sft check` on standard input, which it calls -"
        )
    if reader is None:
        raise SourceError(
            f"{path}: files ending in '{unpacked_suffix(path)}' are not understood; convert it to one of "
            f"{', '.join(READERS)} (packed: {', '.join(PACKED)})"
        )
    try:
        found = False
        for line, row in reader(path, encoding, [] if notes is None else notes):
            found = True
            yield line, row
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{path}: cannot be read ({reason}); check the file and its rights") from None
    if not found:
        is_table = unpacked_suffix(path) in (".csv", ".tsv") and _has_words(path, encoding)
        what = "has no row below its header" if is_table else "is empty"
        raise EmptySource(f"{path}: {what}; write one demonstration per row into it")


def _has_words(path: Path, encoding: str) -> bool:
    return any(line.strip() for _, line in lines_of(path, encoding))


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
            if error.msg.startswith("Invalid control character"):
                message = f"holds a tab or a line break within a text (at character {error.pos + 1})"
                return Broken(text, message, "write it as \\t or \\n, as json.dumps does"), -1
            is_python = error.msg.startswith("Expecting property name") and text[error.pos : error.pos + 1] == "'"
            remedy = "write it as json.dumps does, with double quotes" if is_python else "mend or remove the row"
            return Broken(text, message, remedy), -1
        except ValueError:  # only a number of more digits than Python agrees to parse
            return Broken(text, "holds a number with thousands of digits", "write it as text or remove it"), -1
        rest = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if whole and text[rest:].strip() == ",":
            return Broken(text, "ends with a comma", "take it away, for each line is a value by itself"), end
        if whole and rest != len(text):
            message = f"holds more than one value (a second one starts at character {rest + 1})"
            return Broken(text, message, "write one object per line"), end
        if self.twice:
            return Broken(text[start:end], "is written twice in one object", "keep one", self.twice[0]), end
        return value, end


def _json_lines(path: Path, encoding: str, _: list[str]) -> Rows:
    decoder = _Json()
    first = True
    for number, line in lines_of(path, encoding):
        text = line.strip(_BETWEEN)
        if not text:
            continue
        if first and text[0] == "[" and not _is_followed(path, encoding, number, text):
            raise SourceError(f"{path}: holds a JSON array, not one object per line; rename it to {path.stem}.json")
        if first and "\r" in text:
            raise SourceError(
                f"{path}: its lines end in carriage returns alone, as old Macs wrote them; put line feeds in their "
                f"place: tr '\\r' '\\n' < {path.name} > mended{path.suffix}"
            )
        if first and text == "{":
            raise SourceError(
                f"{path}: holds an object spread over several lines; write each object on one line, "
                "or an array of them into a .json file"
            )
        first = False
        yield number, decoder.whole(text)


def _json(path: Path, encoding: str, _: list[str]) -> Rows:
    """An array of rows, or (as many tools write into ``.json``) one object per line."""
    text = "".join(line for _, line in lines_of(path, encoding))
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        return
    if text[start] == "{":
        yield from _json_object(path, text, encoding)
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
        if text[place : place + 1] == "]":
            raise SourceError(f"{path}:{line}: a comma stands before the array's closing ']'; take it away")
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


def _json_object(path: Path, text: str, encoding: str) -> Rows:
    first_line = text.lstrip(" \t\r\n").split("\n", 1)[0]
    row, end = _Json().at(first_line)
    if end >= 0 and not isinstance(row, Broken) and text.strip(" \t\r\n") != first_line.strip(" \t\r\n"):
        yield from _json_lines(path, encoding, [])
        return
    row, _ = _Json().at(text)
    if isinstance(row, Broken):
        raise SourceError(f"{path}: {row.message}; {row.remedy}")
    raise SourceError(f"{path}: holds one object, not an array of rows; {_rows_within(row)}")


def _is_followed(path: Path, encoding: str, number: int, text: str) -> bool:
    """Whether line ``number``, which is ``text``, is a list by itself with others below, and no array of all rows."""
    _, end = _Json().at(text)
    return end >= 0 and any(place > number and line.strip() for place, line in lines_of(path, encoding))


def _rows_within(whole: Any) -> str:
    """Where the rows are that one object seems to hold, as what to do."""
    values = whole if isinstance(whole, dict) else {}
    of_rows = [key for key, value in values.items() if isinstance(value, list) and isinstance((value or [0])[0], dict)]
    if len(of_rows) > 1:
        return f"write the arrays under {' and '.join(map(repr, of_rows))} into files of their own"
    if of_rows:
        return f"write the array under {of_rows[0]!r} on its own"
    lists = [key for key, value in values.items() if isinstance(value, list)]
    if len(lists) == 1:
        return f"write the array under {lists[0]!r} on its own"
    columns = [values[key] for key in lists]
    if len(columns) > 1 and len({len(value) for value in columns}) == 1:
        return "its columns are lists: write them as rows, as pandas does with to_json(orient='records', lines=True)"
    inner = [value for value in values.values() if isinstance(value, dict)]
    if len(inner) > 1 and all(len(value) == len(inner[0]) and value.keys() == inner[0].keys() for value in inner):
        if any("prompt" in value or "messages" in value for value in inner):
            return "its values are rows: write them as an array"
        return "its columns are objects: write them as rows, as pandas does with to_json(orient='records', lines=True)"
    return "write the array on its own"


def _table(usual: str) -> Callable[[Path, str, list[str]], Rows]:
    return lambda path, encoding, notes: delimited(path, encoding, usual, notes)


def _parquet(path: Path, _: str, __: list[str]) -> Rows:
    import pyarrow
    import pyarrow.parquet as parquet

    with path.open("rb") as beginning:
        head = beginning.read(BEGINNING)
    if not head.startswith(b"PAR1"):
        refuse_other_kinds(path, head)
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            if twice := [name for name in names if names.count(name) > 1]:
                raise SourceError(f"{path}: names the column '{twice[0]}' twice; rename one of them")
            row = 0
            for batch in file.iter_batches(batch_size=4096):
                for values in batch.to_pylist():
                    row += 1
                    yield row, values
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: is not a Parquet file that can be read ({reason}); write it again") from None


#: file ending -> reader
READERS: dict[str, Callable[[Path, str, list[str]], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet,
}
