"""Demonstrations of large files, on disk: a sequence that makes each again when somebody asks for it.

A million demonstrations as objects hold 0.8 GB, most of it the heads of small objects. Here the words of a row stand in
a scratch file without a name, which is gone with the process, and what rows are compared by in arrays: 59 bytes a row
(hashes of its prompt and of its content, where it stands, who wrote it). ``columns`` works on those; nothing but a few
thousand rows is a Python object at a time.

The file is read by ``pread`` and not mapped, so that pages of it do not count as this process's memory. Words are kept
as ``marshal`` writes a tuple of texts, which is read again in a third of a microsecond; Arrow takes four for one row.
"""

from __future__ import annotations

import marshal
import os
import pickle
import re
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from operator import add
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import Demonstration, Message, Source, prompt_text
from sft.errors import SourceError
from sft.recipes.sources import cache_dir
from sft.runs.hashes import fingerprint

__all__ = ["DRAFTED", "THINKS", "THOUGHT", "DemonstrationTable", "Scratch", "Words", "thinking", "words_of"]

#: What a demonstration says: every turn of the prompt (calls apart), the first turn and the last one where there are
#: two (with their calls), and the completion.
Words = tuple[Sequence[str], Sequence[str], str]

#: What a row's flags say: it has a thought before its completion, a turn of its prompt has, it was begun from a draft.
THOUGHT, THINKS, DRAFTED = 1, 2, 4
_BUFFER = 1 << 20
_AT_ONCE = 2_048
_KEY = re.compile(r"[0-9a-f]{32}")


class Scratch:
    """The columns of all rows that were put in, and the file with their words. Rows are only ever added.

    ``folder``: where the file is made; the cache's, unless given, or where temporary files are if that cannot be
    written into.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file = -1
        self._pending = bytearray()
        self._written = 0
        self.keys, self.contents, self.groups = bytearray(), bytearray(), bytearray()
        self.offsets, self.sizes, self.turns = array("Q"), array("I"), array("I")
        self.files, self.lines, self.experts = array("H"), array("Q"), array("I")
        self.flags = bytearray()
        self.file_names: dict[str, int] = {}
        self.expert_names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.flags)

    def add(self, demonstrations: Sequence[Demonstration]) -> None:
        """Put in the demonstrations of one row. Raises ``SourceError`` where the scratch file cannot be written."""
        if len(demonstrations) == 1 and (words := _plain(demonstrations[0])) is not None:
            self._note(demonstrations[0], marshal.dumps(words), 0, thinks=False)
            return
        whole, start = pickle.dumps(list(demonstrations), pickle.HIGHEST_PROTOCOL), None
        for turn, (d, thinks) in enumerate(zip(demonstrations, thinking(demonstrations), strict=True), 1):
            record = whole if start is None else b""
            start = self._note(d, record, turn, thinks=thinks, start=start, size=len(whole))

    def since(self, first: int) -> DemonstrationTable:
        """All that was put in from number ``first`` on."""
        return DemonstrationTable(self, np.arange(first, len(self), dtype=np.int32))

    def _note(
        self, d: Demonstration, record: bytes, turn: int, *, thinks: bool, start: int | None = None, size: int = 0
    ) -> int:
        key = bytes.fromhex(d.key)
        self.contents += bytes.fromhex(d.id) if turn == 0 else _content(d)
        if d.group != d.key and not self.groups:
            self.groups += self.keys
        self.keys += key
        if d.group != d.key:
            self.groups += _of_group(d.group)
        elif self.groups:
            self.groups += key
        self.turns.append(turn)
        start = self._written + len(self._pending) if start is None else start
        self.offsets.append(start)
        self.sizes.append(size or len(record))
        source = d.source or Source("", 0)
        self.files.append(self.file_names.setdefault(source.file, len(self.file_names)))
        self.lines.append(source.line)
        self.experts.append(self.expert_names.setdefault(d.expert, len(self.expert_names)))
        self.flags.append(
            THOUGHT * bool(d.thought) | THINKS * thinks | DRAFTED * (d.origin is not None and d.origin.drafted)
        )
        self._pending += record
        if len(self._pending) >= _BUFFER:
            self._flush()
        return start

    def _flush(self) -> None:
        try:
            if self._file < 0:
                with _unnamed(self._folder) as file:
                    self._file = os.dup(file.fileno())
                weakref.finalize(self, os.close, self._file)
            left = memoryview(self._pending)
            while left:
                left = left[os.write(self._file, left) :]
            left.release()
        except OSError as error:
            raise SourceError(
                f"{self._folder or cache_dir() / 'scratch'}: the rows of a large file cannot be kept here while they "
                f"are looked at ({error.strerror or error}); free some space, or name another folder in SFT_CACHE"
            ) from error
        self._written += len(self._pending)
        self._pending.clear()

    def read(self, start: int, size: int) -> bytes:
        """``size`` bytes of the file from ``start`` on."""
        if start >= self._written:
            return bytes(self._pending[start - self._written : start - self._written + size])
        found = os.pread(self._file, size, start)
        return found if len(found) == size else found + bytes(self._pending[: size - len(found)])

    def column(self, name: str) -> NDArray[Any]:
        """A column as an array, without a copy: (n, 2) of ``keys``, ``contents`` and ``groups``, else (n,).

        No row can be put in while somebody holds it.
        """
        if name == "groups" and not self.groups:
            name = "keys"
        held = getattr(self, name)
        if name in ("keys", "contents", "groups"):
            return np.frombuffer(held, dtype=np.uint64).reshape(-1, 2)
        return np.frombuffer(held, dtype=np.uint8) if name == "flags" else np.frombuffer(held, dtype=held.typecode)


def _unnamed(folder: Path | None) -> IO[bytes]:
    if folder is None:
        folder = cache_dir() / "scratch"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a cache that can only be read
            return tempfile.TemporaryFile(buffering=0)
    return tempfile.TemporaryFile(buffering=0, dir=folder)


def _plain(d: Demonstration) -> tuple[str, ...] | None:
    """What a demonstration of one user turn, perhaps under a system message, is made of; None where it has more."""
    if d.references or d.thought or d.calls or d.origin is not None or len(d.prompt) > 2 or d.prompt[-1].role != "user":
        return None
    if len(d.prompt) == 2 and d.prompt[0].role != "system":
        return None
    system = d.prompt[0].content if len(d.prompt) == 2 else ""
    found = (d.prompt[-1].content, d.completion, system)
    return found if d.group == d.key else (*found, d.group)


def _content(d: Demonstration) -> bytes:
    """Hash of what makes a row a repetition. Calls count as they are written in the completion."""
    if not d.calls:
        return bytes.fromhex(d.id)
    held = d.to_dict(content_only=True)
    return bytes.fromhex(fingerprint({name: value for name, value in held.items() if name != "calls"}))


def _of_group(name: str) -> bytes:
    """A group's name in 16 bytes: the hash of a prompt as it is, any other name by a hash of its own."""
    if _KEY.fullmatch(name):
        return bytes.fromhex(name)
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, person=b"group").digest()


def thinking(demonstrations: Iterable[Demonstration]) -> Iterator[bool]:
    """Whether a turn of its prompt has a thought, of each; what a prompt begins with as the one before is known."""
    before: tuple[Message, ...] = ()
    found = False
    for d in demonstrations:
        known = len(before)
        if not known or d.prompt[:known] != before:
            known, found = 0, False
        found = found or any(turn.thought for turn in d.prompt[known:])
        before = d.prompt
        yield found


def words_of(d: Demonstration) -> Words:
    """What ``d`` says."""
    ends = (d.prompt[0].text, d.prompt[-1].text) if len(d.prompt) > 1 else (d.prompt[0].text,)
    return [turn.content for turn in d.prompt], ends, d.completion


class DemonstrationTable(Sequence[Demonstration]):
    """Rows of a :class:`Scratch`, in an order of their own; two of the same scratch can be put together.

    ``names``: a group -> the group that it has become a part of.
    """

    __slots__ = ("_names", "rows", "scratch")

    def __init__(self, scratch: Scratch, rows: NDArray[Any], names: Mapping[str, str] | None = None) -> None:
        self.scratch = scratch
        self.rows = rows
        self._names = dict(names or {})

    @classmethod
    def of(cls, demonstrations: Iterable[Demonstration], folder: Path | None = None) -> DemonstrationTable:
        """A table of ``demonstrations``, whose ids are hashes of their contents."""
        scratch = Scratch(folder)
        for d in demonstrations:
            scratch.add([d])
        return scratch.since(0)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Demonstration: ...
    @overload
    def __getitem__(self, index: slice) -> DemonstrationTable: ...
    def __getitem__(self, index: int | slice) -> Demonstration | DemonstrationTable:
        if isinstance(index, slice):
            return self.picked(np.arange(len(self.rows))[index])
        return next(self._made(self.rows[range(len(self.rows))[index]][None]))

    def __iter__(self) -> Iterator[Demonstration]:
        return self._made(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def picked(self, places: NDArray[Any]) -> DemonstrationTable:
        """Those at ``places`` (numbers, or a mask)."""
        return DemonstrationTable(self.scratch, self.rows[places], self._names)

    def renamed(self, names: Mapping[str, str]) -> DemonstrationTable:
        """The same rows, in groups of other names."""
        return DemonstrationTable(self.scratch, self.rows, self._names | dict(names))

    def followed_by(self, others: Sequence[DemonstrationTable]) -> DemonstrationTable:
        """One table of this and ``others``, which are of the same scratch."""
        names = self._names.copy()
        for other in others:
            names |= other._names
        return DemonstrationTable(self.scratch, np.concatenate([self.rows, *(other.rows for other in others)]), names)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the rows, in their order; see :meth:`Scratch.column`."""
        found = self.scratch.column(name)[self.rows]
        if name == "groups" and self._names:
            known = {_of_group(old): _of_group(new) for old, new in self._names.items()}
            firsts = np.frombuffer(b"".join(known), dtype=np.uint64)[::2]
            for place in np.flatnonzero(np.isin(found[:, 0], firsts)):
                if (new := known.get(found[place].tobytes())) is not None:
                    found[place] = np.frombuffer(new, dtype=np.uint64)
        return found

    def experts(self) -> tuple[NDArray[Any], list[str]]:
        """Of every row the number of its expert, and the names that the numbers stand for."""
        return self.column("experts"), list(self.scratch.expert_names)

    def group_names(self) -> Iterator[str]:
        """The group of every row."""
        if not self.scratch.groups and not self._names:
            keys = self.scratch.keys
            return (keys[16 * row : 16 * row + 16].hex() for row in self.rows.tolist())
        return (d.group for d in self)

    def keys_and_groups(self) -> Iterator[tuple[str, str]]:
        """The key of its prompt and the group of every row."""
        keys = self.scratch.keys
        if not self.scratch.groups and not self._names:
            return ((key, key) for key in (keys[16 * row : 16 * row + 16].hex() for row in self.rows.tolist()))
        return ((d.key, d.group) for d in self)

    def said(self) -> Iterator[Words]:
        """What every demonstration says, without making it."""
        for _, block in self._read(self.rows):
            for found in block:
                if isinstance(found, tuple):
                    turns = (found[2], found[0]) if found[2] else (found[0],)
                    yield turns, turns, found[1]
                else:
                    yield words_of(found)

    def completions(self) -> Iterator[str]:
        """The completion of every demonstration, without making it."""
        for _, block in self._read(self.rows):
            for found in block:
                yield found[1] if isinstance(found, tuple) else found.completion

    def prompt_texts(self) -> Iterator[str]:
        """:func:`prompt_text` of every demonstration, without making it."""
        for _, block in self._read(self.rows):
            for found in block:
                if isinstance(found, tuple):
                    yield f"{found[2]}\n\n{found[0]}" if found[2] else found[0]
                else:
                    yield prompt_text(found.prompt)

    def _made(self, rows: NDArray[Any]) -> Iterator[Demonstration]:
        scratch, files, experts = self.scratch, list(self.scratch.file_names), list(self.scratch.expert_names)
        for numbers, block in self._read(rows):
            for row, found in zip(numbers, block, strict=True):
                if isinstance(found, tuple):
                    key = scratch.keys[16 * row : 16 * row + 16].hex()
                    made = Demonstration.of_sound_text(
                        found[0],
                        found[1],
                        system=found[2],
                        group=found[3] if len(found) > 3 else key,
                        expert=experts[scratch.experts[row]],
                        source=Source(file, scratch.lines[row]) if (file := files[scratch.files[row]]) else None,
                        key=key,
                        id=scratch.contents[16 * row : 16 * row + 16].hex(),
                    )
                else:
                    made = found
                yield replace(made, group=self._names[made.group]) if made.group in self._names else made

    def _read(self, rows: NDArray[Any]) -> Iterator[tuple[list[int], list[tuple[str, ...] | Demonstration]]]:
        """Numbers of rows, some at a time, and what each is made of; what is no plain words is a demonstration."""
        scratch, load = self.scratch, marshal.loads
        columns = [scratch.column(name) for name in ("offsets", "sizes", "turns")]
        for first in range(0, len(rows), _AT_ONCE):
            numbers = rows[first : first + _AT_ONCE]
            starts, sizes, turns = (column[numbers].tolist() for column in columns)
            low, high = min(starts), max(map(add, starts, sizes))
            found: list[tuple[str, ...] | Demonstration] = []
            at_once = scratch.read(low, high - low) if high - low <= 4 * _BUFFER else None
            last, whole = -1, list[Demonstration]()
            for start, size, turn in zip(starts, sizes, turns, strict=True):
                if not turn or start != last:
                    if at_once is None:
                        record = scratch.read(start, size)
                    else:
                        record = at_once[start - low : start - low + size]
                    if not turn:
                        found.append(load(record))
                        continue
                    last, whole = start, pickle.loads(record)
                found.append(whole[turn - 1])
            yield numbers.tolist(), found
