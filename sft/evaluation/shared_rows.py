"""One file that several processes fill: each makes its share of the rows, nothing is made twice, nothing done is lost.

Every process appends to a file of its own; the first one takes the others' lines over, also those that an
interrupted evaluation left behind. What is on file already is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft.runs import progress
from sft.runs.atomic_files import Appender
from sft.runs.processes import rank_and_world, wait_for_everyone
from sft.runs.run import open_append, read_jsonl

__all__ = ["fill", "missing", "open_own", "settle"]


Row = dict[str, Any]


def _id(row: Row) -> Hashable:
    return str(row["id"])


def missing(path: Path, keys: Iterable[Hashable], key: Callable[[Row], Hashable] = _id) -> list[Any]:
    """Those of ``keys`` that no row of ``path`` has, in their order; ``key``: the key of a row."""
    done = {key(row) for row in read_jsonl(path)} if path.exists() else set()
    return [one for one in keys if one not in done]


def fill(
    main: Path,
    title: str,
    keys: Sequence[Hashable],
    make: Callable[[list[Any]], Iterator[Any]],
    key: Callable[[Row], Hashable] = _id,
) -> list[Row]:
    """Make the rows of ``main`` that are missing, each process its share; all of them, in order of ``keys``.

    ``make``: from keys to dataclasses, in any order. Written one by one, so a killed process loses none.
    """
    rank, world = rank_and_world()
    settle(main)
    todo = missing(main, keys, key)[rank::world]
    wait_for_everyone()  # nobody writes before everybody has seen the same list
    if todo:
        with progress.bar(len(todo), title, "prompt", shown=rank == 0) as bar, open_own(main) as file:
            for result in make(todo):
                file.append(asdict(result))
                bar.update()
    wait_for_everyone()
    settle(main)
    rows = {key(row): row for row in read_jsonl(main)} if main.exists() else {}
    return [rows[one] for one in keys if one in rows]


def open_own(main: Path) -> AbstractContextManager[Appender]:
    """This process's own part of the file ``main``, open for appending; the first process has ``main`` itself."""
    rank = rank_and_world()[0]
    return open_append(main if rank == 0 else main.with_name(f"{main.stem}.rank-{rank}.jsonl"))


def settle(main: Path) -> None:
    """Put the parts of all processes together in ``main``. All of them come here, and none writes meanwhile."""
    if rank_and_world()[0] == 0:
        for other in sorted(main.parent.glob(f"{main.stem}.rank-*.jsonl")):
            with open_append(main) as file:
                for row in read_jsonl(other):
                    file.append(row)
            other.unlink()
    wait_for_everyone()
