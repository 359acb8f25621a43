"""Files of a run that are whole or not there: atomic writes, and JSON lines that survive a crash.

A process may die, and a disk fill up, between any two bytes. :func:`write_text` leaves the old file or
the new one, never half of either; :func:`append_jsonl` loses at most the row it was writing, and
:func:`read_jsonl` knows how to read what is left. Every failure is a ``RunError`` of one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sft.errors import RunError

__all__ = [
    "Appender",
    "append_jsonl",
    "finite",
    "open_append",
    "read_json",
    "read_jsonl",
    "sentences",
    "sync_folder",
    "weights_hash",
    "write_json",
    "write_jsonl",
    "write_text",
]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` so that it is there whole or not at all, also after a power cut.

    Raises ``RunError`` (disk full, folder read-only, ...); the old file, if any, is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with sentences(path):
        try:
            with temporary.open("xb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; numbers that are not finite become null."""
    write_text(path, _dumps(value, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` one a line, atomically."""
    write_text(path, "".join(map(_line, rows)))


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

    def append(self, row: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append one row and flush it; ``sync`` waits until the disk has it. Raises ``RunError``."""
        with sentences(self.path):
            end = os.fstat(self._descriptor).st_size
            remaining = memoryview(_line(row).encode("utf-8"))
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
    rows: list[dict[str, Any]] = []
    with sentences(path, reading=True), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _parsed(line)
            if row is not None:
                rows.append(row)
            elif line.endswith(b"\n"):
                raise RunError(
                    f"{path}:{number}: this line is no JSON object; restore the file, or delete it to redo that step"
                )
    return rows


def read_json(path: Path) -> Any:
    """The value in ``path``; raises ``RunError`` when it is missing, cut short or no JSON."""
    with sentences(path, reading=True):
        raw = path.read_bytes()
    try:
        return json.loads(raw)
    except ValueError as error:
        where = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RunError(
            f"{path}{where}: the file is cut short or damaged; restore it from a copy, "
            "or redo that step in a new run folder"
        ) from None


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
    with suppress(ValueError):
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
    if not last:
        return
    if _parsed(last) is not None:
        os.write(descriptor, b"\n")
    else:
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


def weights_hash(folder: Path) -> str:
    """One hash of the weights in ``folder``: its safetensors files, or the ``.bin`` files where there are none."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        with sentences(path, reading=True), path.open("rb") as file:
            whole.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()} {path.name}\n".encode())
    return whole.hexdigest()[:32]


def sync_folder(folder: Path) -> None:
    """Make a new or renamed entry of ``folder`` survive a power cut, where folders can be synced."""
    with suppress(OSError):  # some network file systems cannot; a folder may be unreadable yet writable
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def sentences(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a ``RunError`` of one sentence."""
    try:
        yield
    except OSError as error:
        verb = "read" if reading else "written"
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                why = "the disk is full; free some space and try again (a run goes on with --resume)"
            case errno.EFBIG:
                why = "the file is larger than the disk or `ulimit -f` allows; raise the limit, or name another disk"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                why = "no permission, or a read-only disk; name another folder, or change its permissions"
            case errno.ENOENT:
                why = "it is not there; check the folder's name, or redo the step that writes it"
            case _:
                why = f"{error.strerror or type(error).__name__}; check the disk and the folder's name"
        raise RunError(f"{path} cannot be {verb}: {why}") from error
