"""How many clones were judged on the same held-out prompts: of a run, of the runs beside it, and of those they knew.

Whoever judges several and keeps the best keeps its luck, so a verdict is held to a level that allows for all of them.
The manifest's section ``held_out`` has for each split that was judged

    prompts    the smallest hashes of its prompts, at most :data:`KEPT`: a sample that runs with other rows draw alike
               (a bottom-k sketch, Cohen & Kaplan 2007)
    clones     every clone known to be judged on these prompts so far, by the hash of its weights or of its texts

A clone is thus known to all that were judged beside it later, though its own run is moved or removed. The same weights
judged again choose nothing. Of runs in other folders nothing is known; ``sft compare`` says what those together know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sft.errors import RunError
from sft.runs.run import Run

__all__ = ["KEPT", "clones_judged", "clones_known", "same_prompts"]

#: Hashes of prompts that are kept of a held-out set.
KEPT = 64
#: Folders beside a run that are looked through.
_BESIDE = 1_000


def clones_judged(run: Run, split: str, clone: str, prompts: Iterable[str]) -> int:
    """Record that ``clone`` is judged on ``prompts`` (hashes) of ``split``; how many clones were by now, this included.

    A run beside this one counts where one of the two has at least half of its prompts in the other, by their sketches;
    one of an earlier release, without a sketch, where its ``split.json`` has the same hash.
    """
    kept: dict[str, Any] = run.manifest.get("held_out") or {}
    own = kept.get(split) or {"prompts": [], "clones": []}
    sketch = sorted({*own["prompts"], *prompts})[:KEPT]
    known = {*own["clones"], *_named(run, split), clone}  # what names none here was most likely this one
    for other in _beside(run):
        sections = (other.manifest.get("held_out") or {}).values()
        known |= {c for one in sections if same_prompts(one["prompts"], sketch) for c in one["clones"]}
        if not sections and _split_of(other) and _split_of(other) == _split_of(run):
            known |= clones_known(other, split)
    run.update_manifest(held_out=kept | {split: {"prompts": sketch, "clones": sorted(known)}})
    return len(known)


def same_prompts(first: Iterable[str], second: Iterable[str]) -> bool:
    """Whether the two sets of prompts with these sketches share half of the smaller one, or more.

    A sketch that is full holds every hash up to its largest; compared is what both hold.
    """
    sides = [sorted(first), sorted(second)]
    ends = [side[-1] for side in sides if len(side) >= KEPT]
    one, other = ({value for value in side if not ends or value <= min(ends)} for side in sides)
    return 2 * len(one & other) >= min(len(one), len(other)) > 0


def _beside(run: Run) -> Iterable[Run]:
    """The runs in the same folder."""
    here, folders = run.path.resolve(), list[Path]()
    with suppress(OSError):  # a folder that may be entered and not listed
        folders = sorted(here.parent.iterdir())[:_BESIDE]
    for folder in folders:
        if folder == here or not (folder / "manifest.json").is_file():
            continue
        try:
            yield Run.open(folder)
        except (RunError, OSError):
            continue  # what is damaged there is no matter of this run


def clones_known(run: Run, split: str) -> set[str]:
    """The clones that ``run`` knows to be judged on its ``split``; where its looks name none, it is one itself."""
    own = (run.manifest.get("held_out") or {}).get(split) or {"clones": []}
    return {*own["clones"], *_named(run, split)} or ({run.path.name} if run.times_looked(split) else set())


def _named(run: Run, split: str) -> set[str]:
    """The clones that the run's looks at ``split`` name; those of an earlier release name none."""
    return {str(look["weights"]) for look in run.looks if look.get("split") == split and look.get("weights")}


def _split_of(run: Run) -> object:
    own = run.manifest.get("split")
    return own.get("hash") if isinstance(own, Mapping) else None
