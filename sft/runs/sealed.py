"""The files of a run as they are read: of the shape they were written in, and with the content they were left with.

Reading goes through :func:`rows` and :func:`value`. Both refuse, in one sentence with file and line, a value of another
type (``records``), and a file that is not the one that was written: when a file is done, :func:`seal` puts its
length and sha256 into the manifest's section ``files``. A file without a seal is read as it stands; so are
those of runs that older releases made.

Seals come and go in an order that a kill cannot turn against anybody: a file loses its seal before it is written
anew, and gets it when it is whole. A file of an evaluation that goes on grows: then the part that was sealed counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sft.errors import RunError
from sft.runs.atomic_files import numbered_rows, read_json
from sft.runs.hashes import file_sha256
from sft.runs.machine import sentences
from sft.runs.records import fault_of
from sft.runs.run import Run

T = TypeVar("T")


def there(run: Run, path: Path) -> bool:
    """Whether ``path`` is among the files of ``run``. Raises ``RunError`` where it was, and is gone."""
    if path.exists():
        return True
    if path.name in run.manifest.get("files", {}):
        raise RunError(f"{path}: is gone; {_remedy(run, path)}".replace("or delete it and run", "or run"))
    return False


def rows(run: Run, path: Path) -> list[dict[str, Any]]:
    """Every row of ``path``, a file of ``run``. Raises ``RunError`` where it is missing, damaged or another."""
    return [row for _, row in _checked_rows(run, path)]


def _checked_rows(run: Run, path: Path) -> list[tuple[int, dict[str, Any]]]:
    there(run, path)
    found = list(numbered_rows(path))
    for number, row in found:
        if fault := fault_of(path.name, row):
            raise RunError(f"{path}:{number}: {fault}; {_remedy(run, path)}")
    _refuse_other(run, path)
    return found


def value(run: Run, path: Path) -> dict[str, Any]:
    """What the JSON file ``path`` of ``run`` holds. Raises as :func:`rows` does."""
    there(run, path)
    found = read_json(path)
    if fault := fault_of(path.name, found):
        raise RunError(f"{path}: {fault}; {_remedy(run, path)}")
    _refuse_other(run, path)
    return dict(found)


def made(run: Run, path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """Every row of ``path`` as what ``make`` makes of it. Raises as :func:`rows` does, also where ``make`` cannot."""
    return [_one(run, path, number, row, make) for number, row in _checked_rows(run, path)]


def _one(run: Run, path: Path, number: int, row: dict[str, Any], make: Callable[[dict[str, Any]], T]) -> T:
    try:
        return make(row)
    except ValueError as error:
        raise RunError(f"{path}:{number}: {error}; {_remedy(run, path)}") from None


# -- seals ------------------------------------------------------------------------------------------------


def seal(run: Run, paths: Iterable[Path]) -> None:
    """Put on record what is in ``paths``, as far as they are there: from now on nothing else is read from them."""
    known = dict(run.manifest.get("files", {}))
    for path in paths:
        known.pop(path.name, None)
        if path.exists():
            known[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    run.update_manifest(files=known)


def unseal(run: Run, beginnings: Iterable[str]) -> None:
    """Forget the seals of files whose name begins so, before they are written anew or removed."""
    starts, known = tuple(beginnings), run.manifest.get("files", {})
    kept = {name: one for name, one in known.items() if not name.startswith(starts)}
    if kept != known:
        run.update_manifest(files=kept)


def let_grow(run: Run, beginnings: Iterable[str]) -> None:
    """From now on rows may be added to files whose name begins so; what they hold already stays sealed.

    The seal of one that is gone goes too: it may be made again.
    """
    starts, known = tuple(beginnings), run.manifest.get("files", {})
    kept = {
        name: one | {"grows": True} if name.startswith(starts) else one
        for name, one in known.items()
        if not name.startswith(starts) or (run.path / name).exists()
    }
    if kept != known:
        run.update_manifest(files=kept)


def _refuse_other(run: Run, path: Path) -> None:
    """Raise ``RunError`` where ``path`` is not as it was sealed."""
    known = run.manifest.get("files", {}).get(path.name)
    if known is None or path.parent != run.path:
        return
    size = path.stat().st_size
    fits = size >= known["bytes"] if known.get("grows") else size == known["bytes"]
    if not fits or _sha256(path, known["bytes"]) != known["sha256"]:
        raise _altered(run, path)


def _altered(run: Run, path: Path) -> RunError:
    return RunError(f"{path}: was altered after it was written; {_remedy(run, path)}")


def _remedy(run: Run, path: Path) -> str:
    """What to do about a file that is not as it was written; each was tried (``tests/runs/test_sealed.py``)."""
    copy = "restore it from a copy"
    name = path.name
    if name in ("scores.jsonl", "scorecard.json"):
        return f"{copy}, or write it again with `sft report {run.path} --recompute`"
    begins = ("demonstrations", "others", "replay", "split", "ledger")
    if name.startswith(begins) and run.resolved_recipe_path.exists():
        return f"{copy}, or start a new run in another folder"
    if run.resolved_recipe_path.exists():
        return f"{copy}, or delete it and run `sft evaluate {run.path}`, which makes it again"
    return f"{copy}, or measure again into another folder"


def _sha256(path: Path, length: int | None = None) -> str:
    with sentences(path, reading=True):
        return file_sha256(path, length)
