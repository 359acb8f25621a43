"""What every expert did: ``events.jsonl``, append-only, one event a line; everything else is derived from it.

One thread writes, and an event is on the disk before whoever caused it hears that it is. The order is that of the
numbers ``n``, never of the clock. No content of keys, no clipboard and no address of a machine is in it.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sft import __version__
from sft.demonstrations.messages import text_fault
from sft.errors import RunError
from sft.metrics.text import paired
from sft.runs.atomic_files import Appender, write_jsonl
from sft.runs.machine import sentences

__all__ = ["KINDS", "Event", "Log", "compacted", "read_events", "readable", "write_events"]

#: Kind -> what the expert, or the owner of the gathering, did.
KINDS = {
    "joined": "was added",
    "left": "was taken off",
    "opened": "saw the item",
    "draft": "wrote, and has not submitted",
    "submitted": "submitted an answer",
    "skipped": "left it to others",
    "flagged": "says that something is wrong with it",
    "cleared": "the owner cleared what was flagged",
    "reopened": "took the answer up again",
    "withdrawn": "took the answer back",
    "judged": "says whether the clone's text would have done",
    "asked": "wrote a prompt, or the user's next turn",
    "guidelines_seen": "has read a version of the guidelines",
    "closed": "the owner closed the round",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line. ``rev``: revision of the item's text by this expert; of ``closed``, the last one closed.
    ``seconds``: active ones, of this window so far.

    ``keys``: keys pressed, ``pasted``: characters that came by paste, both of this window so far. ``clone``: hash of
    the clone's text that was shown, "" where none was. ``window``: random, one a tab. ``item`` of ``asked`` is the new
    item's id and ``parent`` the item it follows. ``context``: "expert" where the expert's turn takes the clone's place
    in the dialogue from here on.
    """

    n: int
    at: str
    kind: str
    item: str = ""
    expert: str = ""
    rev: int = 0
    text: str | None = None
    reason: str = ""
    guidelines: str = ""
    seconds: float = 0.0
    wall_seconds: float = 0.0
    keys: int = 0
    pasted: int = 0
    clone: str = ""
    window: str = ""
    parent: str = ""
    context: str = ""
    sft: str = field(default=__version__)

    def to_row(self) -> dict[str, Any]:
        """JSON-ready values; what is at its default is left out, but for the version."""
        given = ((one, getattr(self, one.name)) for one in fields(self))
        return {one.name: value for one, value in given if one.name == "sft" or value != one.default}


_EVENT = TypeAdapter(Event)
#: What editors on Windows put before the first line.
_MARK = b"\xef\xbb\xbf"


def read_events(path: Path) -> list[Event]:
    """Every event in ``path``; none where there is no file. A last line torn by a crash is left out.

    Raises ``RunError`` with the line of one that is damaged, and where numbers do not rise: two histories were copied
    together then, and nobody knows which came first.
    """
    if not path.exists():
        return []
    found: list[Event] = []
    for number, line, event in _lines(path):
        if event is None:
            if not line.endswith(b"\n"):
                break
            raise RunError(
                f"{path}:{number}: is no event, or an answer that shows nothing; restore the file from a copy, or "
                f"write one without this line: sft collect {path.parent} --repair"
            )
        if found and event.n <= found[-1].n:
            raise RunError(
                f"{path}:{number}: event {event.n} comes after event {found[-1].n}, so two histories were copied "
                "together; restore the file of one of them"
            )
        found.append(event)
    return found


def readable(path: Path) -> tuple[list[Event], list[int]]:
    """The events of ``path`` that can be read and stand in their order, and the numbers of the lines left out."""
    found, passed = list[Event](), list[int]()
    for number, _, event in _lines(path):
        if event is None or (found and event.n <= found[-1].n):
            passed.append(number)
        else:
            found.append(event)
    return found, passed


def _lines(path: Path) -> Iterator[tuple[int, bytes, Event | None]]:
    """Number, bytes and event of every line that is not blank; None where it is no event."""
    with sentences(path, reading=True), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line, _event(line.removeprefix(_MARK) if number == 1 else line)


def _event(line: bytes) -> Event | None:
    """The event in ``line``; None where there is none, or an answer that no page would have taken.

    Half an emoji, which an earlier page let in, is marked.
    """
    event = None
    with suppress(ValidationError):
        event = _EVENT.validate_json(line, strict=True)
    if event is None and b"\\ud" in line.lower():
        with suppress(ValueError, RecursionError):
            event = _EVENT.validate_json(paired(json.dumps(json.loads(line), ensure_ascii=False)), strict=True)
    if event is None or event.kind not in KINDS or (event.kind == "submitted" and text_fault(event.text or "")):
        return None
    with suppress(ValueError):  # leases are reckoned from it
        return event if datetime.fromisoformat(event.at).tzinfo is not None else None
    return None


def compacted(events: Sequence[Event]) -> list[Event]:
    """Without drafts that a later event of the same expert on the same item replaced; the others as they are.

    A window's time, keys and pasted characters are on its last event, so that nothing is lost of them.
    """
    last_text: dict[tuple[str, str], int] = {}
    last_of: dict[tuple[str, str, str], int] = {}
    for event in events:
        if event.text is not None:
            last_text[event.item, event.expert] = event.n
        if event.window:
            last_of[event.item, event.expert, event.window] = event.n
    kept_last = {*last_text.values(), *last_of.values()}
    return [event for event in events if event.kind != "draft" or event.n in kept_last]


#: What a transaction makes: the fields of one event or several.
Fields = dict[str, Any]
#: Looks at the state, under its lock, and says what happened; raises to refuse it.
Transaction = Callable[[], Sequence[Fields]]


class Log:
    """The thread that appends to ``events.jsonl``, open in ``file``. ``apply`` takes an event over into the state.

    :meth:`do` queues a transaction; its future is done when the events are on the disk. Transactions that wait are
    written together, with one wait for the disk. Where writing fails, nothing of them counts: ``reload`` is called to
    take the state back to what the file has, and every future of them gets the error. ``idle`` is called when nothing
    has waited for a second since the last event.
    """

    def __init__(
        self,
        file: Appender,
        *,
        last: int,
        apply: Callable[[Event], None],
        reload: Callable[[], None],
        idle: Callable[[], None],
        lock: threading.RLock,
    ) -> None:
        self._file, self._last, self._lock = file, last, lock
        self._apply, self._reload, self._idle = apply, reload, idle
        self._waiting: queue.SimpleQueue[tuple[Transaction, Future[list[Event]]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    def do(self, transaction: Transaction) -> Future[list[Event]]:
        """Queue ``transaction``."""
        future: Future[list[Event]] = Future()
        self._waiting.put((transaction, future))
        return future

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        over, dirty = False, False
        while not over:
            try:
                first = self._waiting.get(timeout=1.0 if dirty else None)
            except queue.Empty:
                with suppress(RunError):  # a full disk; it is tried again
                    self._idle()
                    dirty = False
                continue
            batch = [first]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            over = None in batch
            self._write([one for one in batch if one is not None])
            dirty = True

    def _write(self, batch: Sequence[tuple[Transaction, Future[list[Event]]]]) -> None:
        made: list[tuple[Future[list[Event]], list[Event]]] = []
        with self._lock:
            before = self._last
            for transaction, future in batch:
                try:
                    made.append((future, [self._made(fields) for fields in transaction()]))
                except Exception as error:
                    future.set_exception(error)
        try:
            self._file.append(*(event.to_row() for _, events in made for event in events), sync=True)
        except RunError as error:
            with self._lock:
                self._last = before
                self._reload()
            for future, _ in made:
                future.set_exception(error)
        else:
            for future, events in made:
                future.set_result(events)

    def _made(self, fields: Fields) -> Event:
        event = Event(n=self._last + 1, at=_now(), **fields)
        self._last = event.n
        self._apply(event)
        return event


def write_events(path: Path, events: Sequence[Event]) -> None:
    """Put ``events`` in the place of what ``path`` holds, whole or not at all."""
    write_jsonl(path, (event.to_row() for event in events))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
