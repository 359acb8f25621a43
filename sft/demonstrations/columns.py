"""Columns of demonstrations, whether they are objects in a list or rows of a table on disk.

Who looks through all of a set asks here for what it compares, as numbers: equal numbers are equal keys, groups or
contents. So nothing holds a million objects, or a dictionary of them, at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, groupby
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.demonstrations.table import DRAFTED, THINKS, THOUGHT, DemonstrationTable, Scratch, Words, thinking, words_of

__all__ = [
    "DRAFTED", "THINKS", "THOUGHT", "PromptTexts", "by_expert", "completions", "ends_row", "flagged", "group_names",
    "groups_are_keys", "joined", "keys_and_groups", "labels", "mapped", "picked", "renamed", "said", "texts_at",
    "with_keys",
]  # fmt: skip

I64 = NDArray[np.int64]
Column = Literal["key", "group", "content"]


def _rough_content(d: Demonstration) -> tuple[Any, ...]:
    """What makes a row a repetition of another (completion, expert, references, thought), but the very prompt."""
    return d.key, d.completion, d.expert, d.references, d.thought


def labels(demonstrations: Sequence[Demonstration], column: Column) -> I64:
    """(n,): a number for every demonstration, the same where the column is the same; from 0 on, none left out."""
    if isinstance(demonstrations, DemonstrationTable):
        return _numbered(demonstrations.column(f"{column}s"))
    known: dict[Hashable, int] = {}
    if column == "content":
        # A prompt of hundreds of turns is looked at only where another has its key, completion, expert and so on.
        rough = Counter(map(_rough_content, demonstrations))
        keys = ((one if rough[one := _rough_content(d)] == 1 else (one, d.prompt)) for d in demonstrations)
        found = (known.setdefault(key, len(known)) for key in keys)
    else:
        found = (known.setdefault(d.key if column == "key" else d.group, len(known)) for d in demonstrations)
    return np.fromiter(found, dtype=np.int64, count=len(demonstrations))


def _numbered(pairs: NDArray[np.uint64]) -> I64:
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    new = np.zeros(len(pairs), dtype=bool)
    new[1:] = (pairs[order[1:]] != pairs[order[:-1]]).any(axis=1)
    numbers = np.empty(len(pairs), dtype=np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def joined(parts: Iterable[Sequence[Demonstration]]) -> Sequence[Demonstration]:
    """All of ``parts`` one after another; tables, which are of one scratch, as a table."""
    first, *others = [part for part in parts if len(part)] or [()]
    if isinstance(first, DemonstrationTable):
        return first.followed_by([each for each in others if isinstance(each, DemonstrationTable)])
    return list(chain(first, *others))


def picked(demonstrations: Sequence[Demonstration], places: NDArray[Any]) -> Sequence[Demonstration]:
    """Those at ``places`` (numbers in any order, or a mask of all)."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.picked(places)
    numbers = np.flatnonzero(places) if places.dtype == bool else places
    return [demonstrations[place] for place in numbers.tolist()]


def flagged(demonstrations: Sequence[Demonstration], flag: int) -> NDArray[np.bool_]:
    """(n,): which have ``THOUGHT`` (one of their own), ``THINKS`` (in their prompt) or are ``DRAFTED``."""
    if isinstance(demonstrations, DemonstrationTable):
        return (demonstrations.column("flags") & flag) > 0
    read: dict[int, Iterable[bool]] = {
        THOUGHT: (bool(d.thought) for d in demonstrations),
        THINKS: thinking(demonstrations),
        DRAFTED: (d.origin is not None and d.origin.drafted for d in demonstrations),
    }
    return np.fromiter(read[flag], dtype=bool, count=len(demonstrations))


def by_expert(demonstrations: Sequence[Demonstration]) -> tuple[I64, list[str]]:
    """(n,): the number of who wrote each, and the names that the numbers stand for."""
    if isinstance(demonstrations, DemonstrationTable):
        numbers, names = demonstrations.experts()
        return numbers.astype(np.int64), names
    known: dict[str, int] = {}
    found = (known.setdefault(d.expert, len(known)) for d in demonstrations)
    return np.fromiter(found, dtype=np.int64, count=len(demonstrations)), list(known)


def group_names(demonstrations: Sequence[Demonstration]) -> Iterator[str]:
    """The group of each."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.group_names()
    return (d.group for d in demonstrations)


def keys_and_groups(demonstrations: Sequence[Demonstration]) -> Iterator[tuple[str, str]]:
    """The key of its prompt and the group of each."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.keys_and_groups()
    return ((d.key, d.group) for d in demonstrations)


def with_keys(demonstrations: Sequence[Demonstration], keys: Set[str]) -> Sequence[Demonstration]:
    """Those whose prompt's key is one of ``keys``."""
    if not isinstance(demonstrations, DemonstrationTable):
        return [d for d in demonstrations if d.key in keys]
    starts = np.frombuffer(b"".join(map(bytes.fromhex, sorted(keys))), dtype=np.uint64)[::2]
    perhaps = demonstrations.picked(np.isin(demonstrations.column("keys")[:, 0], starts))
    there = (key in keys for key, _ in perhaps.keys_and_groups())
    return perhaps.picked(np.fromiter(there, dtype=bool, count=len(perhaps)))


def groups_are_keys(demonstrations: Sequence[Demonstration]) -> NDArray[np.bool_]:
    """(n,): whose group is its prompt itself."""
    if isinstance(demonstrations, DemonstrationTable):
        return np.asarray((demonstrations.column("groups") == demonstrations.column("keys")).all(axis=1))
    return np.fromiter((d.group == d.key for d in demonstrations), dtype=bool, count=len(demonstrations))


def ends_row(demonstrations: Sequence[Demonstration]) -> NDArray[np.bool_]:
    """(n,): which are the last of their row of a file; what comes from no file is a row by itself."""
    last = np.ones(len(demonstrations), dtype=bool)
    if isinstance(demonstrations, DemonstrationTable):
        files, lines = demonstrations.column("files"), demonstrations.column("lines")
        last[:-1] = (files[1:] != files[:-1]) | (lines[1:] != lines[:-1]) | (lines[:-1] == 0)
        return last
    for place in range(len(demonstrations) - 1):
        source = demonstrations[place].source
        last[place] = source is None or source != demonstrations[place + 1].source
    return last


def renamed(demonstrations: Sequence[Demonstration], names: Mapping[str, str]) -> Sequence[Demonstration]:
    """The same, in groups of other names: group -> its new name."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.renamed(names)
    return [replace(d, group=names[d.group]) if d.group in names else d for d in demonstrations]


def mapped(
    parts: Iterable[Sequence[Demonstration]], made: Callable[[Demonstration], Demonstration]
) -> Iterator[Sequence[Demonstration]]:
    """What ``made`` makes of every demonstration of every part; of tables a table of a scratch file of their own."""
    scratch = Scratch()
    for part in parts:
        if isinstance(part, DemonstrationTable):
            first = len(scratch)
            for _, row in groupby(part, key=lambda d: d.source):
                scratch.add([made(d) for d in row])
            yield scratch.since(first)
        else:
            yield tuple(made(d) for d in part)


def said(demonstrations: Sequence[Demonstration]) -> Iterator[Words]:
    """What each says: see :data:`~sft.demonstrations.table.Words`."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.said()
    return map(words_of, demonstrations)


def completions(demonstrations: Sequence[Demonstration]) -> Iterator[str]:
    """The completion of each."""
    if isinstance(demonstrations, DemonstrationTable):
        return demonstrations.completions()
    return (d.completion for d in demonstrations)


class PromptTexts(Sequence[str]):
    """:func:`prompt_text` of each of ``demonstrations``, worked out where it is asked for."""

    def __init__(self, demonstrations: Sequence[Demonstration]) -> None:
        self._of = demonstrations

    def __len__(self) -> int:
        return len(self._of)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> PromptTexts: ...
    def __getitem__(self, index: int | slice) -> str | PromptTexts:
        if isinstance(index, slice):
            return PromptTexts(self._of[index])
        if isinstance(self._of, DemonstrationTable):
            return next(self._of.picked(np.array([range(len(self._of))[index]])).prompt_texts())
        return prompt_text(self._of[index].prompt)

    def __iter__(self) -> Iterator[str]:
        if isinstance(self._of, DemonstrationTable):
            return self._of.prompt_texts()
        return (prompt_text(d.prompt) for d in self._of)

    def at(self, places: NDArray[Any]) -> Iterator[str]:
        """Those at ``places``: of a dialogue's, one after another, the dialogue is read once."""
        return iter(PromptTexts(picked(self._of, places)))


def texts_at(texts: Sequence[str], places: NDArray[Any]) -> Iterator[str]:
    """Those of ``texts`` at ``places``, wherever they are kept."""
    return texts.at(places) if isinstance(texts, PromptTexts) else (texts[place] for place in places.tolist())
