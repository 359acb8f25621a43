"""Checkpoints on disk: which is the newest that is whole, what is wrong with the others, and which are kept.

A checkpoint is whole when every file that it needs is there as it was written. :func:`write_list` says so: when all
processes have written their part, and the disk has it, the first process writes a list of the files with their sizes
and hashes. A checkpoint also needs the weights of another, where those are the best so far, for they become the clone.
No torch is needed to tell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import RunError
from sft.runs.atomic_files import sync_folder, write_json
from sft.runs.hashes import file_sha256
from sft.runs.machine import sentences

#: The list of a checkpoint's files, written last. Earlier releases wrote it with the number of processes alone, and
#: only where there were several.
WHOLE = "whole.json"

_NAME = re.compile(r"checkpoint-(\d+)")
_UNFINISHED = "it was not written to its end"
#: What a fit needs to go on exactly, and the files that hold it: alone, FSDP's, DeepSpeed's.
_NEEDED = {
    "no weights": ("*.safetensors", "*.bin", "pytorch_model_fsdp*", "global_step*"),
    "no optimizer": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "no schedule": ("scheduler.pt", "global_step*"),
    "no random state": ("rng_state.pth", "rng_state_*.pth"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to go on from, and why no newer one: ``(checkpoint, what is wrong with it)``, newest first.

    ``unchecked``: what could not be checked of ``path``, as a sentence; "" where everything was.
    """

    path: Path | None
    passed_over: tuple[tuple[Path, str], ...] = ()
    unchecked: str = ""

    def in_words(self) -> str:
        """One line; "" where there is nothing to say."""
        others = ", ".join(f"{path.name} ({fault})" for path, fault in self.passed_over)
        said = "; ".join(filter(None, (others and f"passed over: {others}", self.unchecked)))
        first = f"from {self.path.name}" if self.path else "no checkpoint is whole, so training begins at step 0"
        return f"{first}; {said}" if said else ""


def step_of(checkpoint: Path | None) -> int:
    """Optimizer steps done at ``checkpoint``; 0 without one."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("checkpoint-"))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in ``folder`` that is whole. Nothing is written. Raises as :func:`choose`."""
    return choose(folder).path


def choose(folder: Path) -> Choice:
    """The newest checkpoint that agrees with its list, as do the best weights so far where another holds them.

    Reads every byte of both (sha256, about a second per gigabyte), and writes nothing. Raises ``RunError`` where a
    file may not be read: it may be whole, and nobody wants to train again for want of a permission.
    """
    passed_over: list[tuple[Path, str]] = []
    for path in _checkpoints(folder):
        found = fault_of(path)
        best = None if found else _best_of(path)
        if best is not None and (worse := fault_of(best, weights_only=True)):
            found = f"it needs {best.name}, the best so far: {worse}"
        if found is None:
            return Choice(path, tuple(passed_over), _unchecked(path, best))
        passed_over.append((path, found))
    return Choice(None, tuple(passed_over))


def put_aside(choice: Choice) -> None:
    """Take away what ``choice`` passed over, for the fit writes those steps again.

    What was never whole is removed. What was is renamed to ``damaged-checkpoint-N``: somebody may want to look at it.
    Raises ``RunError``.
    """
    for path, fault in choice.passed_over:
        aside = path.with_name(f"damaged-{path.name}")
        with sentences(path):
            if fault == _UNFINISHED:
                shutil.rmtree(path)
            else:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            sync_folder(path.parent)


def rotate(folder: Path, *, limit: int | None, best: int | None) -> None:
    """Remove the oldest checkpoints until ``limit`` are left (None: keep all); the newest and the best always stay.

    Called when the newest is whole, so that at every moment one is. ``best``: the step of the best.
    """
    if limit is None or limit < 1:
        return
    found = _checkpoints(folder)
    spare = [path for path in found[1:] if step_of(path) != best]
    for path in spare[::-1][: max(0, len(found) - limit)]:
        withdraw_list(path)  # first, or a kill would leave one that looks damaged
        shutil.rmtree(path, ignore_errors=True)


# -- the list ---------------------------------------------------------------------------------------------


def withdraw_list(checkpoint: Path) -> None:
    """Take away the list before the files change: what is there is whole no more."""
    with suppress(FileNotFoundError), sentences(checkpoint):
        (checkpoint / WHOLE).unlink(missing_ok=True)


def write_list(checkpoint: Path, *, processes: int) -> None:
    """Write the list of the files in ``checkpoint``, when the disk has all of them. Raises ``RunError``."""
    files = {}
    with sentences(checkpoint):
        for path in sorted(checkpoint.rglob("*")):
            if path.is_file() and path.name != WHOLE:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                name = path.relative_to(checkpoint).as_posix()
                files[name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        for path in checkpoint.rglob("*"):
            if path.is_dir():
                sync_folder(path)
    write_json(checkpoint / WHOLE, {"processes": processes, "files": files})
    sync_folder(checkpoint.parent)


def fault_of(checkpoint: Path, *, weights_only: bool = False) -> str | None:
    """What is wrong with ``checkpoint``, as a clause; None where it is whole. Raises as :func:`choose`.

    ``weights_only``: look at what a clone is made of, and not at what only a fit that goes on needs.
    """
    if not checkpoint.is_dir():
        return "it is missing"
    try:
        written = _list_of(checkpoint)
    except ValueError:
        return f"its list of files ({WHOLE}) is damaged"
    files = written.get("files")
    if files is None:
        return _fault_without_list(checkpoint, written, weights_only)
    fault = _fault_by_list(checkpoint, files, weights_only)
    return fault if fault or weights_only else _fault_of_state(checkpoint) or _lacks(checkpoint)


def _is_of_the_fit(name: str) -> bool:
    """Whether a file is of no use but to a fit that goes on."""
    return name.startswith(("optimizer", "scheduler.", "scaler.", "rng_state", "trainer_state", "training_args"))


def _fault_by_list(checkpoint: Path, files: Any, weights_only: bool) -> str | None:
    try:
        expected = {
            str(name): (int(entry["size"]), str(entry["sha256"]))
            for name, entry in files.items()
            if not (weights_only and _is_of_the_fit(name))
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"its list of files ({WHOLE}) is damaged"
    for name, (size, _) in expected.items():
        try:
            there = (checkpoint / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if there != size:
            return f"{name} is {'cut' if there < size else 'altered'}, {there} bytes of {size}"
    for name, (_, digest) in expected.items():
        try:
            if file_sha256(checkpoint / name) != digest:
                return f"{name} is altered"
        except PermissionError as error:
            raise _unreadable(checkpoint / name) from error
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _fault_of_state(checkpoint: Path) -> str | None:
    """Whether the state in it is of the step in its name: someone may have renamed it."""
    step = _state(checkpoint).get("global_step")
    return None if step == step_of(checkpoint) else f"its trainer_state.json is of step {step}"


def _lacks(checkpoint: Path, *kinds: str) -> str | None:
    """What a fit could not go on without; the engine would, silently, with another optimizer or other draws."""
    for what in kinds or _NEEDED:
        there = [path.name for pattern in _NEEDED[what] for path in checkpoint.glob(pattern)]
        if not any(what != "no weights" or not _is_of_the_fit(name) for name in there):
            return f"it holds {what}"
    return None


def parts_of(checkpoint: Path) -> tuple[str, int]:
    """Who has saved the optimizer in ``checkpoint`` (see ``processes.sharding``), and in how many parts.

    Those of DeepSpeed alone are as many as there were processes.
    """
    if any(checkpoint.glob("global_step*")):
        kind = "ZeRO-3" if any(checkpoint.glob("global_step*/zero_pp_*model_states.pt")) else "DeepSpeed"
        return kind, len(list(checkpoint.glob("global_step*/*optim_states.pt")))
    return ("" if (checkpoint / "optimizer.pt").exists() else "FSDP"), 1


# -- of earlier releases ----------------------------------------------------------------------------------


def _fault_without_list(checkpoint: Path, written: Mapping[str, Any], weights_only: bool) -> str | None:
    """What can be said of a checkpoint without a list: it was cut short, or is of a release that wrote none."""
    state = _state(checkpoint)
    carried = state.get("stateful_callbacks")
    carried = carried.get("sft") if isinstance(carried, Mapping) else None
    if not state or (isinstance(carried, Mapping) and carried.get("listed")):  # a list was to be written
        return _UNFINISHED
    parts = list(checkpoint.glob("rng_state_*.pth"))
    if parts and written.get("processes") != len(parts):
        return _UNFINISHED
    fault = _lacks(checkpoint, *(["no weights"] if weights_only else _NEEDED))
    if fault := fault or _fault_of_state(checkpoint):
        return fault
    for path in sorted(checkpoint.rglob("*")):
        if not path.is_file() or (weights_only and _is_of_the_fit(path.name)):
            continue
        try:
            whole = _is_whole_file(path)
        except PermissionError as error:
            raise _unreadable(path) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
            whole = False
        if not whole:
            return f"{path.relative_to(checkpoint).as_posix()} is cut or altered"
    return None


def _is_whole_file(path: Path) -> bool:
    """Whether what torch saved has the checksums in it, and a file of safetensors its length."""
    if path.suffix in (".pt", ".pth", ".bin"):
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    if path.suffix != ".safetensors":
        return True
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return False
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _unchecked(*checkpoints: Path | None) -> str:
    """Which of ``checkpoints`` are of an earlier release, and what that leaves open; "" where none is."""
    old = [one.name for one in checkpoints if one is not None and "files" not in _list_of(one)]
    if not old:
        return ""
    return (
        f"{' and '.join(old)}: of an earlier release, which kept no hashes, so a byte that was altered in the weights "
        "would not be noticed"
    )


# -- what is in it ----------------------------------------------------------------------------------------


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first, by their number. A copy that somebody made under another name is no checkpoint."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def _best_of(checkpoint: Path) -> Path | None:
    """The other checkpoint that holds the best weights so far; None if this one does, or none does."""
    best = _state(checkpoint).get("best_global_step")
    if not isinstance(best, int) or best in (0, step_of(checkpoint)):
        return None
    return checkpoint.with_name(f"checkpoint-{best}")


def _state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's state, or nothing where it cannot be read as such."""
    with suppress(FileNotFoundError, ValueError):
        return _json(checkpoint / "trainer_state.json")
    return {}


def _list_of(checkpoint: Path) -> dict[str, Any]:
    """What is in the list; nothing where there is none. Raises ``ValueError`` where it is damaged."""
    try:
        return _json(checkpoint / WHOLE)
    except FileNotFoundError:
        return {}


def _json(path: Path) -> dict[str, Any]:
    """The object in ``path``. Raises ``FileNotFoundError``, ``ValueError``, or ``RunError`` if it may not be read."""
    try:
        value = json.loads(path.read_bytes())
    except PermissionError as error:
        raise _unreadable(path) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object")
    return value


def _unreadable(path: Path) -> RunError:
    return RunError(f"{path} cannot be read: no permission; change its permissions, and go on with --resume")
