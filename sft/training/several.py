"""A folder of several fits that belong together: who writes to it, and what it was begun with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sft.demonstrations.splits import Splits
from sft.errors import RunError
from sft.runs.atomic_files import let_go, locked, read_json, write_json
from sft.runs.hashes import fingerprint
from sft.runs.machine import sentences

__all__ = ["begun_with", "data_of"]

#: What a folder was begun with -> what to call another one.
_OTHERS = {"recipe": "another recipe", "recipes": "another recipe or grid", "data": "other data"}


@contextmanager
def begun_with(
    facts: Mapping[str, Any], place: Path, *, beside: Sequence[str] = (), kept: Sequence[str] = ()
) -> Iterator[None]:
    """Inside, ``place`` is held for fits that were begun with ``facts``: a new folder, or one that is gone on with.

    Where no fit has begun when an error ends this, neither the record nor the files ``beside`` it are left, so that
    the next try, with a mended recipe, is not refused; what is ``kept`` stays, for the error may name its lines.
    Raises ``RunError`` where the folder was begun with other facts, holds something else, or is written by another
    process.
    """
    record, ours, was_there = place / "begun.json", [place / name for name in ("begun.json", *beside)], place.exists()
    if (
        was_there
        and not record.exists()
        and (not place.is_dir() or {one.name for one in place.iterdir()} - {".lock", *kept})
    ):
        raise RunError(f"{place} holds something else; name a new or empty folder")
    with sentences(place):
        place.mkdir(parents=True, exist_ok=True)
    lock = locked(place)
    try:
        if record.exists() and _fits(place):
            _hold(record, facts)
        else:
            _take_away(ours)  # what one that was killed before its first fit has left
            write_json(record, dict(facts))
        yield
    except BaseException:
        if not _fits(place):
            _take_away([*ours, *_empty(place)])
            if not was_there:
                _take_away([place / ".lock"])
                with suppress(OSError):
                    place.rmdir()
        raise
    finally:
        let_go(lock)


def _fits(place: Path) -> bool:
    return any(place.glob("*/manifest.json"))


def _empty(place: Path) -> list[Path]:
    """Folders of runs of which not even the manifest could be written: the disk was full."""
    return [one for one in place.iterdir() if one.is_dir() and {file.name for file in one.iterdir()} <= {".lock"}]


def _take_away(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _hold(record: Path, facts: Mapping[str, Any]) -> None:
    """Raise ``RunError`` where other ``facts`` stand in ``record``; what an older release did not write is no other."""
    known = read_json(record)
    if not isinstance(known, dict):
        raise RunError(f"{record}: is not as sft writes it; restore it from a copy, or name another folder")
    if others := [_OTHERS[key] for key, value in facts.items() if known.get(key, value) != value]:
        raise RunError(f"{record.parent}: was begun with {' and '.join(others)}; put it back, or name another folder")


def data_of(parts: Splits) -> str:
    """A fingerprint of what is trained on and held out, whatever the order of the rows."""
    return fingerprint([sorted(d.content_hash for d in part) for part in parts.parts.values()])
