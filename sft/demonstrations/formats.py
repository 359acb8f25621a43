"""Rows of a file -> :class:`Demonstration`, with every complaint at its file and line.

Four layouts are understood, and any columns the caller names:

    prompt_completion   prompt (text, or messages), completion (text, or one assistant message)
    alpaca              instruction, input (may be blank), output
    messages            messages: [{role, content}, ...]
    sharegpt            conversations: [{from, value}, ...]; human, gpt and system

Beside any of them: ``system``, ``expert``, ``group`` and ``references``, where a column has that name.
A dialogue becomes one demonstration per expert turn, all in one group. Nothing is dropped without a word:
``rows - len(rejected) + unrolled == len(demonstrations)``.
"""

from __future__ import annotations

import difflib
import gc
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sft.demonstrations import columns as columns_of
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.file_rows import Broken, EmptySource, rows_of
from sft.demonstrations.message_fields import MessageRules
from sft.demonstrations.row_fields import LAYOUTS, OPTIONAL, RowReader
from sft.demonstrations.sources import files_of
from sft.demonstrations.table import DemonstrationTable, Scratch
from sft.errors import DemonstrationsError, Problem, SourceError
from sft.runs.atomic_files import write_text

__all__ = ["FORMATS", "Reading", "Rejected", "joined", "no_collection", "read", "read_source", "write_rejected"]

FORMATS = ("auto", *LAYOUTS, "columns")
_NAMEABLE = ("prompt", "completion", *OPTIONAL)
#: What others call them: used only to suggest a name, never to guess one.
_KNOWN_AS = {
    "prompt": ("question", "query", "instruction", "input", "source", "context", "text"),
    "completion": ("answer", "response", "output", "target", "reply", "label", "chosen", "summary"),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not become a demonstration, as it was read, and every reason why."""

    line: int
    row: Any
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading gave. ``rows``: non-blank rows read; ``unrolled``: demonstrations beyond one per row,
    from dialogues with several expert turns; ``ignored``: columns that no demonstration uses; ``notes``: sentences on
    what was told from a file rather than from its name, and on what messages say and nobody reads. ``commits``:
    (reference, commit) of data sets of the hub.
    """

    demonstrations: Sequence[Demonstration]
    rejected: tuple[Rejected, ...]
    rows: int
    unrolled: int
    format: str = "auto"
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commits: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.rows - len(self.rejected) + self.unrolled != len(self.demonstrations):
            raise ValueError(
                f"a reading must account for every row: {self.rows} rows, {len(self.rejected)} rejected, "
                f"{self.unrolled} unrolled, but {len(self.demonstrations)} demonstrations"
            )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every reason of every rejected row."""
        return tuple(chain.from_iterable(each.problems for each in self.rejected))

    def demand(self) -> Sequence[Demonstration]:
        """The demonstrations; raises ``DemonstrationsError`` with every problem if there is one."""
        if self.rejected:
            count = f"{len(self.rejected)} of {self.rows} rows cannot become demonstrations"
            raise DemonstrationsError(self.problems, count)
        return self.demonstrations


def read(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
    held_out: bool = False,
    encoding: str = "",
    rules: MessageRules | None = None,
    into: Scratch | None = None,
) -> Reading:
    """Read one file. ``columns`` maps prompt, completion, system, expert, group, references to its columns.

    ``name``: what addresses call the file, where it is not the path (a shipped set, a hub id). ``held_out``: nobody
    is to be trained on it, so rows that say of themselves that they are held out are welcome; elsewhere each is bad.
    ``encoding``: how a text file is written that is not UTF-8. ``rules``: what the recipe says of messages.
    ``into``: where demonstrations are put that may be too many for memory; they come back as a table of it.

    Raises ``SourceError`` (one sentence) for a file that is unusable as a whole: missing, empty, not UTF-8,
    of an unknown kind, or without the columns that ``format`` needs in any row.
    Bad rows do not raise: they come back in ``problems`` and ``rejected``.
    """
    name = os.fspath(path) if name is None else name
    names = _named(name, format, columns or {})
    notes: list[str] = []
    rows = rows_of(Path(path), encoding, notes)
    if columns and {"prompt", "completion"} & set(columns):
        format = "columns"
    layouts = {"columns": ["prompt_completion"], "auto": list(LAYOUTS)}.get(format, [format])
    layout, found, rows = _recognise(name, rows, layouts, names)
    asked = [names[key] for key in OPTIONAL if columns and key in columns]
    reader = RowReader(name, layout, names, held_out=held_out, rules=rules)
    demonstrations: list[Demonstration] = []
    first = len(into) if into is not None else 0
    rejected: list[Rejected] = []
    seen: dict[str, None] = dict.fromkeys(found)
    count = unrolled = 0
    with no_collection():
        for line, row in rows:
            count += 1
            if isinstance(row, dict) and not (row.keys() <= seen.keys()):
                seen |= dict.fromkeys(row)
            if (plain := reader.plain(line, row)) is not None:
                if into is None:
                    demonstrations.append(plain)
                else:
                    into.add((plain,))
                continue
            faults: list[Problem] = []
            built = reader.demonstrations(line, row, faults)
            if faults:
                raw = row.raw if isinstance(row, Broken) else row
                rejected.append(Rejected(line, raw, tuple(faults)))
            else:
                if into is None:
                    demonstrations += built
                else:
                    into.add(built)
                unrolled += len(built) - 1
    for column in asked:
        if column not in seen and count > len(rejected):
            raise SourceError(f"{name}: {_missing([column], seen)}; mend demonstrations.columns in the recipe")
    return Reading(
        demonstrations=tuple(demonstrations) if into is None else into.since(first),
        rejected=tuple(rejected),
        rows=count,
        unrolled=unrolled,
        format=layout,
        ignored=tuple(column for column in seen if column not in reader.used),
        notes=(*(f"{name}: {note}." for note in notes), *reader.reader.notes()),
    )


def read_source(reference: str, *, name: str | None = None, commit: str = "", **options: Any) -> Reading:
    """All files that ``reference`` stands for, as one reading; see ``sources.files_of``, and :func:`read` for the rest.

    Of several files some may be empty, as the shards of a cluster's job often are. ``commit``: of a data set of the
    hub, where it is settled. Raises ``SourceError``.
    """
    found = files_of(reference, commit=commit)
    if len(found.files) == 1:
        called, path = found.files[0]
        one = read(path, name=name or called, **options)
        commits = ((reference, found.commit),) if found.commit else ()
        return replace(one, notes=(*found.notes, *one.notes), commits=commits)
    readings, empty = [], []
    for called, path in found.files:
        try:
            readings.append(read(path, name=called, **options))
        except EmptySource:
            empty.append(called)
    if not readings:
        raise SourceError(f"{reference}: all {len(empty):,} files are empty; write one demonstration per row into them")
    whole = joined(readings)
    notes = [f"{reference}: {len(empty):,} of {len(found.files):,} files are empty ({empty[0]})."] if empty else []
    return replace(whole, notes=(*found.notes, *notes, *whole.notes))


def joined(readings: Sequence[Reading]) -> Reading:
    """Several files as one, in the order given."""
    whole = columns_of.joined([r.demonstrations for r in readings])
    return Reading(
        demonstrations=whole if isinstance(whole, DemonstrationTable) else tuple(whole),
        rejected=tuple(chain.from_iterable(r.rejected for r in readings)),
        rows=sum(r.rows for r in readings),
        unrolled=sum(r.unrolled for r in readings),
        format=", ".join(dict.fromkeys(r.format for r in readings)),
        ignored=tuple(dict.fromkeys(chain.from_iterable(r.ignored for r in readings))),
        notes=tuple(dict.fromkeys(chain.from_iterable(r.notes for r in readings))),
        commits=tuple(dict.fromkeys(chain.from_iterable(r.commits for r in readings))),
    )


def write_rejected(path: str | os.PathLike[str], rejected: Iterable[Rejected]) -> None:
    """Write rejected rows as JSON Lines: file, line, reasons (sentences) and the row as it was read.

    Raises ``RunError`` where that cannot be; nothing is left behind then, and what was there stays.
    """
    write_text(Path(path), map(_rejected_line, rejected))


def _rejected_line(each: Rejected) -> str:
    reasons = [f"{f'{p.field!r} ' * bool(p.field)}{p.message}; {p.remedy}" for p in each.problems]
    value = {"file": each.problems[0].path, "line": each.line, "reasons": reasons, "row": each.row}
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=repr)
        text.encode("utf-8")
    except RecursionError:
        text = json.dumps({**value, "row": "nested too deep to be written"})
    except ValueError:  # NaN, or a lone surrogate: keep the row legible rather than exact
        text = json.dumps({**value, "row": repr(each.row)})
    return text + "\n"


@contextmanager
def no_collection() -> Iterator[None]:
    """Rows and demonstrations hold no cycles: looking for some while a million are made takes a fifth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _named(name: str, format: str, columns: Mapping[str, str]) -> dict[str, str]:
    if format not in FORMATS:
        raise SourceError(f"{name}: format '{format}' is unknown{_near(format, FORMATS)}")
    for key, column in columns.items():
        if key not in _NAMEABLE:
            raise SourceError(f"{name}: columns cannot name '{key}'{_near(key, _NAMEABLE)}")
        if not isinstance(column, str):
            raise SourceError(f"{name}: columns names '{key}' as {column!r}; write the column's name as text")
    if format not in ("auto", "columns", "prompt_completion") and {"prompt", "completion"} & set(columns):
        raise SourceError(f"{name}: columns names a prompt or completion; set format to 'columns', not '{format}'")
    return {key: columns.get(key, key) for key in _NAMEABLE}


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else f"; use one of {', '.join(known)}"


def _recognise(
    name: str, rows: Iterator[tuple[int, Any]], layouts: list[str], names: Mapping[str, str]
) -> tuple[str, dict[str, None], Iterator[tuple[int, Any]]]:
    """The first layout whose columns some row has; the rows read so far are put back."""
    passed: list[tuple[int, Any]] = []
    found: dict[str, None] = {}
    for line, row in rows:
        passed.append((line, row))
        if isinstance(row, dict):
            found |= dict.fromkeys(row)
            for layout in layouts:
                if all(names.get(column, column) in row for column in LAYOUTS[layout]):
                    return layout, found, chain(passed, rows)
    if not found:  # nothing but broken rows: each has its own complaint
        return layouts[0], found, iter(passed)
    needed = [names.get(column, column) for column in LAYOUTS[layouts[0]]]
    raise SourceError(f"{name}: {_missing(needed, found)}; {_how_to_name(layouts, found)}")


def _missing(needed: Sequence[str], found: Iterable[str]) -> str:
    columns = list(found)
    shown = ", ".join(f"'{column}'" for column in columns[:12]) + (", ..." if len(columns) > 12 else "")
    shown = shown.encode("utf-8", "backslashreplace").decode("utf-8")
    absent = [column for column in needed if column not in columns]
    if not absent:
        return f"no row has both {' and '.join(repr(each) for each in needed)} (columns found: {shown})"
    near = [f"'{close[0]}' for '{column}'" for column in absent if (close := _closest(column, columns, needed))]
    hint = f", nearest: {', '.join(near)}" if near else ""
    return f"no row has {' or '.join(repr(each) for each in absent)} (columns found: {shown}{hint})"


def _closest(column: str, columns: Sequence[str], taken: Sequence[str]) -> list[str]:
    free = [each for each in columns if each not in taken]
    lowered = {each.lower(): each for each in reversed(free)}
    for known in (column, *_KNOWN_AS.get(column, ())):
        if known in lowered:
            return [lowered[known]]
    return difflib.get_close_matches(column, free, 1)


def _how_to_name(layouts: Sequence[str], found: Iterable[str]) -> str:
    columns = list(found)
    if layouts[0] != "prompt_completion":
        return f"format '{layouts[0]}' needs {' and '.join(LAYOUTS[layouts[0]])}"
    guess = {
        key: (_closest(key, columns, ()) or ["YOUR_COLUMN"])[0] if key not in columns else key
        for key in ("prompt", "completion")
    }
    return (
        "name your columns in the recipe, demonstrations.columns: "
        f"{{prompt: {guess['prompt']}, completion: {guess['completion']}}}; "
        f"to `sft check`, --column prompt={guess['prompt']} --column completion={guess['completion']}"
    )
