"""Files of a run that are whole or not there: atomic writes, and JSON lines that survive a crash.

A process may die, and a disk fill up, between any two bytes. :func:`write_text` leaves the old file or
the new one, never half of either; :func:`append_jsonl` loses at most the row it was writing, and
:func:`read_jsonl` knows how to read what is left. Every failure is a ``RunError`` of one sentence.
What is exported is made in a folder beside its place (:func:`making`) and renamed at the end (:func:`appear`).
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

from sft.errors import RunError
from sft.runs.machine import sentences

#: ``.NAME.PROCESS-RANDOM.tmp``; of so many characters of the name.
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?:(?P<process>\d+)-)?[0-9a-f]{8}\.tmp", re.DOTALL)
_NAMED = 100
#: A temporary file that does not say whose it is counts as left behind after an hour.
_OLD_SECONDS = 3600


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write UTF-8 ``text``, whole or in pieces, so that ``path`` is there whole or not at all, also after a power cut.

    Raises ``RunError`` (disk full, folder read-only, ...); the old file, if any, is then untouched. A device or a
    pipe is written into as it stands, for nothing can be put in its place.
    """
    pieces = [text] if isinstance(text, str) else text
    with sentences(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as device:
                device.writelines(piece.encode("utf-8") for piece in pieces)
            return
        clear_temporaries(path.parent, path.name)
        temporary = path.with_name(f".{path.name[:_NAMED]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                hold(file)
                file.writelines(piece.encode("utf-8") for piece in pieces)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def clear_temporaries(folder: Path, name: str = "", *, alone: bool = False) -> None:
    """Remove what a killed process was writing into ``folder``, files and folders (only those for ``name``, if given).

    ``alone``: nobody else can be writing there, so that also goes what says of no process that it is its own.

    A file of a process that lives is left alone: its name says which process writes it, and that process holds a lock
    on it, which also tells where the folder is shared with another machine. What cannot be removed stays.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and name[:_NAMED] in ("", found["name"]) and not _is_being_written(entry, found["process"], alone):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()


def _is_being_written(entry: os.DirEntry[str], process: str | None, alone: bool) -> bool:
    """Whether the process that made the temporary file ``entry`` may still live."""
    if process is None:  # of a release that wrote no number and held no lock
        return not alone and time.time() - entry.stat().st_mtime < _OLD_SECONDS
    if int(process) != os.getpid():
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, OverflowError):
            pass
        except PermissionError:  # somebody else's
            return True
        else:
            return True
    opened = os.open(entry.path, os.O_RDONLY)
    try:
        return not hold(opened)
    finally:
        os.close(opened)


def hold(file: IO[Any] | int) -> bool:
    """Lock an open file or folder for this process; False where another one holds it.

    The system lets go of it when its holder dies. True on file systems without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def locked(folder: Path) -> IO[str]:
    """The open lock file of ``folder``, held by this process; ``RunError`` where another holds it."""
    with sentences(folder):
        file = (folder / ".lock").open("a+", encoding="ascii")
    if not hold(file):
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunError(
            f"{folder} is being written by another process{holder and f' ({holder})'}; "
            "wait for it to end, or name another folder"
        )
    with suppress(OSError):  # on a full disk the lock holds all the same, only namelessly
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def let_go(lock: IO[str]) -> None:
    """Release what :func:`locked` holds."""
    with suppress(OSError):  # unlock rather than close only: a forked child shares the open file
        fcntl.flock(lock, fcntl.LOCK_UN)
    with suppress(OSError):
        lock.close()


class Held:
    """A folder that may be held for writing: the lock of :func:`locked`, let go of at the end of a ``with`` block."""

    _lock: IO[str] | None

    def close(self) -> None:
        """Let go of the lock; harmless when none is held."""
        if self._lock is not None:
            let_go(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; numbers that are not finite become null."""
    write_text(path, _dumps(value, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` one a line, atomically."""
    write_text(path, map(_line, rows))


def append_jsonl(path: Path, row: Mapping[str, Any], *, sync: bool = False) -> None:
    """Append one row and flush it; ``sync`` waits until the disk has it. Mends a torn last line first.

    Raises ``RunError``; nothing of the row is then left in the file.
    """
    with open_append(path) as rows:
        rows.append(row, sync=sync)


class Appender:
    """A file of JSON lines that is open for appending; see :func:`open_append`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def append(self, *rows: Mapping[str, Any], sync: bool = False) -> None:
        """Append rows, all or none, and flush them; ``sync`` waits until the disk has them. Raises ``RunError``."""
        with sentences(self.path):
            end = os.fstat(self._descriptor).st_size
            remaining = memoryview("".join(map(_line, rows)).encode("utf-8"))
            try:
                while remaining:
                    remaining = remaining[os.write(self._descriptor, remaining) :]
                if sync:
                    os.fsync(self._descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, end)
                raise


@contextmanager
def open_append(path: Path) -> Iterator[Appender]:
    """Open a file of JSON lines for appending; a torn last line, left by a crash, is cut off first.

    Raises ``RunError``. Rows appended through it reach the operating system one by one, so a killed
    process loses none of them.
    """
    with sentences(path):
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        with sentences(path):
            if new:
                sync_folder(path.parent)
            else:
                _mend(path, descriptor)
        yield Appender(path, descriptor)
    finally:
        os.close(descriptor)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every row of ``path``. A last line torn by a crash is left out; any other bad line is an error.

    Raises ``RunError`` with the line's number. Lines end at ``\\n`` only: U+2028 inside a completion is text.
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """As :func:`read_jsonl`, one after another, each with the number of its line."""
    refuse_endless(path)
    with sentences(path, reading=True), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _parsed(line)
            if row is not None:
                yield number, row
            elif line.endswith(b"\n"):
                raise RunError(
                    f"{path}:{number}: this line is no JSON object; restore the file, or delete it to redo that step"
                )


def read_json(path: Path) -> Any:
    """The value in ``path``; raises ``RunError`` when it is missing, cut short, no JSON, or a device or a pipe."""
    with sentences(path, reading=True):
        refuse_endless(path)
        raw = path.read_bytes()
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # the second of thousands of brackets
        where = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RunError(
            f"{path}{where}: the file is cut short or damaged; restore it from a copy, "
            "or redo that step in a new run folder"
        ) from None


def refuse_endless(path: Path) -> None:
    """Raise ``RunError`` where ``path`` is, or leads to, a device or a pipe, which may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RunError(f"{path}: is a device or a pipe, or a link to one; put a file in its place")


def _dumps(value: Any, **style: Any) -> str:
    """JSON as readable UTF-8; half of a surrogate pair, which UTF-8 cannot hold, stays an escape."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, **style)
    except (TypeError, ValueError):  # rarely: a nan, or a mapping that is no dict
        text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, **style)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def _line(row: Mapping[str, Any]) -> str:
    return _dumps(row, separators=(",", ":")) + "\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The row in ``line``, or None. A complete object without its newline counts: no prefix of it parses."""
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
        if isinstance(row, dict):
            return row
    return None


def _mend(path: Path, descriptor: int) -> None:
    """Make ``path`` end with a whole line: finish one that only lacks its newline, cut off a torn one."""
    with path.open("rb") as readable:
        size = readable.seek(0, os.SEEK_END)
        start, tail = size, b""
        while start and b"\n" not in tail:  # the last line may be long; read back in blocks
            block = min(start, 65536)
            start -= block
            readable.seek(start)
            tail = readable.read(block) + tail
    last = tail.rpartition(b"\n")[2]
    if _parsed(last) is not None:
        os.write(descriptor, b"\n")
    elif last:
        os.ftruncate(descriptor, size - len(last))


def finite(value: Any) -> Any:
    """``value`` as JSON can hold it: mappings with text keys, lists, and null for nan and infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def sync_folder(folder: Path) -> None:
    """Make a new or renamed entry of ``folder`` survive a power cut, where folders can be synced."""
    with suppress(OSError):  # some network file systems cannot; a folder may be unreadable yet writable
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_taken(path: Path, *, empty_folder_serves: bool = False) -> None:
    """Raise ``RunError`` where ``path`` is something already: nothing is ever overwritten."""
    if not path.exists() and not path.is_symlink():
        return
    folder_serves = empty_folder_serves and path.is_dir()
    if not (folder_serves and not any(path.iterdir())):
        raise RunError(f"{path}: is there already; name a new {'or empty folder' if folder_serves else 'one'}")


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Inside, an empty folder beside ``path`` to write into; at the end it is gone with what is still in it.

    Gone also with what an earlier process left that was killed. Raises ``RunError`` where it cannot be written, or
    another process writes the same ``path``.
    """
    scratch = path.with_name(f".{path.name}.partial")
    with sentences(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(exist_ok=True)
        held = os.open(scratch, os.O_RDONLY)
    try:
        if not hold(held):  # whose holder lives
            raise RunError(f"{path}: is being written by another process; wait for it, or name another")
        try:
            with sentences(path):
                for left in scratch.iterdir():
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
                yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(held)


@contextmanager
def scratch_in(folder: Path, name: str) -> Iterator[Path]:
    """Inside, an empty folder in ``folder`` that is this process's own, and gone at the end.

    After a kill the next command that opens ``folder`` clears it (:func:`clear_temporaries`). Raises ``RunError`` where
    it cannot be made.
    """
    place = folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    with sentences(place):
        place.mkdir()
        held = os.open(place, os.O_RDONLY)
    try:
        hold(held)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def appear(made: Path, path: Path) -> None:
    """Rename ``made``, which is complete, to ``path``."""
    made.rename(path)
    sync_folder(path.parent)
