"""What several importers read alike: JSON, tables, moments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.demonstrations.file_rows import Broken, rows_of
from sft.demonstrations.text_files import encoding_of
from sft.errors import SourceError
from sft.gathering.records import Unread
from sft.gathering.source_files import SourceFiles

__all__ = ["cells", "epoch", "moment", "parsed", "salvaged", "table", "text_of"]

#: Forms of a moment beside ISO 8601, as exports write them where their reader speaks English.
_MESSAGES = re.compile(r'"messages"\s*:\s*\[\s*|\A\s*\[\s*')
#: What is said of a file: of which line, what is wrong, and what to do.
_SAID = re.compile(r"(?:(\d+): )?(.*?)(; (.*))?", re.DOTALL)
_BETWEEN = re.compile(r"\s*,?\s*")
_FORMS = (
    "%Y-%m-%d %H:%M:%S %Z", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d-%b-%y %I:%M %p", "%d-%b-%Y %H:%M",
    "%b %d, %Y %H:%M:%S", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
)  # fmt: skip


def moment(value: object) -> datetime | None:
    """The time that ``value`` says, as its clock showed it, without a zone; None where it is no time."""
    text = str(value).strip() if isinstance(value, str) else ""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        pass
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=None)
        except ValueError:
            continue
    return None


def epoch(value: object, *, milliseconds: bool = False) -> datetime | None:
    """The time so many seconds after 1970 began, in UTC on every machine; None where ``value`` is no such number."""
    try:
        seconds = float(str(value)) / (1000 if milliseconds else 1)
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None


def text_of(value: object) -> str:
    """``value`` where it is text, stripped; else "" (null, a number, a list)."""
    return value.strip() if isinstance(value, str) else ""


def parsed(files: SourceFiles, name: str, text: str | None = None, line: int = 1) -> Any:
    """The JSON in the file, or in the one line ``text`` of it; or why it cannot be read."""
    raw = ""
    try:
        raw = files.text(name) if text is None else text
        return json.loads(raw)
    except RecursionError:
        message = "is nested too deep to be read"
    except SourceError as error:  # one file of an archive that is damaged
        message = str(error).removeprefix(f"{files.address(name)}: ").partition("; ")[0]
    except ValueError as error:
        message = f"is not JSON ({getattr(error, 'msg', None) or 'a number of thousands of digits'})"
    return Unread(Source(files.address(name), line), message, "export it again", raw[:2000])


def salvaged(files: SourceFiles, name: str, damage: Unread) -> tuple[list[list[Any]], Unread]:
    """The lists of messages in JSON that as a whole cannot be read, each up to the fault in it; and ``damage``.

    A file that is cut short, as a full disk leaves it, has all its messages but the last.
    """
    decoder, place, text = json.JSONDecoder(), 0, ""
    lists: list[list[Any]] = []
    with suppress(SourceError):
        text = files.text(name)
    while found := _MESSAGES.search(text, place):
        place = found.end()
        lists.append([])
        with suppress(ValueError, RecursionError):
            while text[place : place + 1] == "{":
                message, end = decoder.raw_decode(text, place)
                place = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
                lists[-1].append(message)
    read = sum(map(len, lists))
    said = f"{damage.message}, after {read:,} messages that were read" if read else damage.message
    return lists, replace(damage, message=said)


def table(files: SourceFiles, name: str) -> Iterator[tuple[int, dict[str, Any]] | Unread]:
    """The rows of a table (CSV, TSV, JSON, JSON Lines, Parquet) with their lines, or why one cannot be read."""
    address = files.address(name)
    with files.local(name) as path:
        try:
            encoding = "" if path.suffix.lower() == ".parquet" else encoding_of(path)
            for line, row in rows_of(path, encoding):
                if isinstance(row, Broken):
                    yield Unread(Source(address, line), row.message, row.remedy, row.raw)
                elif isinstance(row, dict):
                    yield line, row
                else:
                    yield Unread(Source(address, line), "is no row with columns", "export it again", row)
        except SourceError as error:
            said = str(error).removeprefix(f"{path}").lstrip(":").strip()
            place, message, _, remedy = _SAID.fullmatch(said).groups()  # type: ignore[union-attr]
            if "demonstrations.encoding" in (remedy or ""):
                remedy = "save it again as UTF-8"
            yield Unread(Source(address, int(place or 1)), message, remedy or "export it again")


def cells(row: dict[str, Any]) -> dict[str, str]:
    """The texts of a row by the plain form of their columns' names: ``Ticket ID`` is ``ticket id``."""
    return {str(name).strip().lower(): text_of(value) for name, value in row.items() if isinstance(value, str)}
