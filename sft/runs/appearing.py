"""What is exported appears whole or not at all: it is made in a folder beside it, and renamed at the end."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sft.errors import RunError
from sft.runs.atomic_files import sync_folder
from sft.runs.system_errors import sentences

__all__ = ["appear", "making", "refuse_taken"]


def refuse_taken(path: Path, *, empty_folder_serves: bool = False) -> None:
    """Raise ``RunError`` where ``path`` is something already: nothing is ever overwritten."""
    if not path.exists() and not path.is_symlink():
        return
    if empty_folder_serves and path.is_dir():
        if not any(path.iterdir()):
            return
        raise RunError(f"{path}: is there already; name a new or empty folder")
    raise RunError(f"{path}: is there already; name a new one")


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
        _hold(held, path)
        try:
            with sentences(path):
                _emptied(scratch)
                yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(held)


def appear(made: Path, path: Path) -> None:
    """Rename ``made``, which is complete, to ``path``."""
    made.rename(path)
    sync_folder(path.parent)


def _hold(folder: int, path: Path) -> None:
    """Keep others from the same folder; the system lets go of it when its holder dies."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"{path}: is being written by another process; wait for it, or name another") from None
    except OSError:
        return  # a file system without locks: nothing to hold


def _emptied(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
