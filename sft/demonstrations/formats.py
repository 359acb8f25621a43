"""Rows of a file -> :class:`Demonstration`, with every complaint at its file and line.

Four layouts are understood, and any columns the caller names:

    prompt_completion   prompt (text, or messages), completion (text, or one assistant message)
    alpaca              instruction, input (may be blank), output
    messages            messages: [{role, content}, ...]
    sharegpt            conversations: [{from, value}, ...]; human, gpt and system

Beside any of them: ``system``, ``expert``, ``group`` and ``references``, where a column has that name.
Beside a prompt or an instruction: ``history``, the turns before, in pairs.
A dialogue becomes one demonstration per expert turn, all in one group. Nothing is dropped without a word:
``rows - len(rejected) + unrolled == len(demonstrations)``.
"""

from __future__ import annotations

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
from sft.demonstrations.naming import COLUMNS, FORMATS, layouts_of, missing, named, recognised
from sft.demonstrations.row_fields import OPTIONAL, RowReader
from sft.demonstrations.sources import files_of
from sft.demonstrations.table import DemonstrationTable, Scratch
from sft.demonstrations.text_files import unpacked_suffix
from sft.errors import DemonstrationsError, Problem, SourceError
from sft.runs.atomic_files import write_text

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Reading",
    "Rejected",
    "joined",
    "no_collection",
    "read",
    "read_source",
    "write_rejected",
]


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
    lacking: str = ""
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
    place: str = COLUMNS,
    general: bool = False,
    into: Scratch | None = None,
) -> Reading:
    """Read one file. ``columns``: what a recipe says of its columns, by name (``recipes.Columns``).

    ``name``: what addresses call the file, where it is not the path (a shipped set, a hub id). ``held_out``: nobody
    is to be trained on it, so rows that say of themselves that they are held out are welcome; elsewhere each is bad.
    ``encoding``: how a text file is written that is not UTF-8. ``rules``: what the recipe says of messages. ``place``:
    where in a recipe this file's columns are named, ``%s`` for their names. ``general``: rows are learned beside
    demonstrations, and may be plain text. ``into``: where demonstrations are put that may be too many for memory; they
    come back as a table of it.

    Raises ``SourceError`` (one sentence) for a file that is unusable as a whole: missing, empty, not UTF-8,
    of an unknown kind, or without the columns that ``format`` needs in any row.
    Bad rows do not raise: they come back in ``problems`` and ``rejected``.
    """
    name = os.fspath(path) if name is None else name
    columns = columns or {}
    names = named(name, format, columns)
    notes: list[str] = []
    rows = rows_of(Path(path), encoding, notes)
    layout, found, rows = recognised(name, rows, layouts_of(format, columns, general=general), names, place)
    asked = [names[key] for key in ("input", *OPTIONAL) if key in columns]
    reader = _reader(name, Path(path), layout, columns, names, rules, held_out=held_out)
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
    lacking = _lacking(name, asked, seen, columns) if count > len(rejected) else ""
    if rules is not None and rules.system in seen:
        raise SourceError(
            f"{name}: demonstrations.system is the message itself, and {rules.system!r} is a column; write it as "
            f"demonstrations.columns: {{system: {rules.system}}}"
        )
    return Reading(
        demonstrations=tuple(demonstrations) if into is None else into.since(first),
        rejected=tuple(rejected),
        rows=count,
        unrolled=unrolled,
        format=layout,
        ignored=tuple(column for column in seen if column not in reader.used),
        notes=(*(f"{name}: {note}." for note in notes), *reader.notes()),
        lacking=lacking,
    )


def _reader(
    name: str,
    path: Path,
    layout: str,
    columns: Mapping[str, str],
    names: Mapping[str, str],
    rules: MessageRules | None,
    *,
    held_out: bool,
) -> RowReader:
    return RowReader(
        name,
        layout,
        names,
        held_out=held_out,
        rules=replace(rules or MessageRules({}), role=columns.get("role", ""), content=columns.get("content", "")),
        cells_are_text=unpacked_suffix(path) in (".csv", ".tsv"),
        has_input="input" in columns or layout == "alpaca",
    )


def _lacking(name: str, asked: Iterable[str], seen: Mapping[str, None], columns: Mapping[str, str]) -> str:
    """What is said of a column of references that no row has; for other columns it is raised as ``SourceError``."""
    said = ""
    for column in asked:
        if column not in seen:
            said = (
                f"{name}: {missing([column], seen)}; mend demonstrations.columns in the recipe, or what --column names"
            )
            if column != columns.get("references"):
                raise SourceError(said)
    return said


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
        lacking=readings[0].lacking if readings and all(r.lacking for r in readings) else "",
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
