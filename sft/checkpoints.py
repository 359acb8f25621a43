"""Checkpoints on disk: which is the last whole one, and at which step it is. No torch is needed to tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

__all__ = ["WHOLE", "latest_checkpoint", "step_of"]

#: Written into a checkpoint of several processes when every one of them has written its part.
WHOLE = "whole.json"


def latest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; ones that a crash cut short are removed.

    The first process writes ``trainer_state.json`` when its own part is done, so a checkpoint of one process is whole
    if that file is. Where there were several, each wrote its random state under its own number, and
    :data:`WHOLE` says that all have.
    """
    found = []
    for path in folder.glob("checkpoint-*"):
        if _is_whole(path):
            found.append((step_of(path), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def step_of(checkpoint: Path | None) -> int:
    """Optimizer steps done at ``checkpoint``; 0 without one."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("checkpoint-"))


def _is_whole(path: Path) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        parts = list(path.glob("rng_state_*.pth"))
        return state["global_step"] == step_of(path) and (
            not parts or json.loads((path / WHOLE).read_text(encoding="utf-8"))["processes"] == len(parts)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
