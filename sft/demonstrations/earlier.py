"""What the runs behind ``adapter.start_from`` learned and held out, and what that leaves of this recipe's rows.

A clone that goes on from another has seen what that one was fitted to. What that one held out stays out of training,
so that both can be judged on it; and what it learned from is held out from nothing here, for nobody is judged on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft.demonstrations import splits
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.stored import load_splits
from sft.errors import RunError, SplitError
from sft.recipes import Recipe
from sft.recipes.adapters import resolve_adapter
from sft.runs.run import Run

__all__ = ["EarlierRows", "left_by", "rows_before", "unknown_before"]

Parts = Mapping[str, Sequence[Demonstration]]


@dataclass(frozen=True, slots=True)
class EarlierRows:
    """Rows of all runs that led to the adapter, and what the last of them is called."""

    name: str
    learned: tuple[Demonstration, ...]
    held_out: tuple[Demonstration, ...]


def rows_before(recipe: Recipe) -> EarlierRows | None:
    """What the run of ``adapter.start_from`` and those behind it made of their rows; None where no run is known.

    Raises ``SourceError`` where there is no such adapter, ``RunError`` where a run's rows are not those it recorded.
    """
    if recipe.adapter.start_from is None:
        return None
    runs, _ = _chain(recipe.adapter.start_from)
    if not runs:
        return None
    made = [load_splits(run) for run in runs]
    learned = [d for one in made for d in (*one.train, *one.replay)]
    held_out = [d for one in made for d in (*one.validation, *one.test)]
    return EarlierRows(recipe.adapter.start_from, tuple(learned), tuple(held_out))


def unknown_before(recipe: Recipe) -> tuple[str, str]:
    """One sentence where not all rows are known that led to ``adapter.start_from``, "" where they are; and the place of
    the run that is gone, "" where none was known of."""
    name = recipe.adapter.start_from
    if name is None:
        return "", ""
    runs, gone = _chain(name)
    if not runs:
        said = (
            f"adapter.start_from: no run of {name} is known, nor what it learned: rows held out here may be among that "
            "and flatter the clone; name its run, or hold out rows that are new (split.test: FILE)."
        )
        return said, ""
    if gone:
        said = (
            f"adapter.start_from: {name} goes back to {gone}, of which no run is there: what that one learned may be "
            "held out here and flatter the clone; put its run back, or hold out rows that are new (split.test: FILE)."
        )
        return said, gone
    return "", ""


def _chain(name: str) -> tuple[list[Run], str]:
    """The runs that led to the adapter ``name``, the last first; and the first place where none is any more, or ""."""
    place, runs, seen = resolve_adapter(name).run, list[Run](), set[Path]()
    while place is not None and place.resolve() not in seen:
        seen.add(place.resolve())
        try:
            run = Run.open(place)
        except RunError:
            return runs, str(place.resolve())
        runs.append(run)
        behind = run.manifest.get("start") or {}
        if behind and not isinstance(behind.get("run"), str):
            return runs, str(behind.get("name"))
        place = run.path / behind["run"] if behind else None
    return runs, ""


def left_by(
    earlier: EarlierRows, parts: Parts, *, threshold: float, near: bool
) -> tuple[dict[str, list[Demonstration]], int, int]:
    """``parts`` as the earlier runs leave them; how many training rows they held out, and held-out rows they learned.

    ``near``: whether near-duplicates (from ``threshold`` on) count as the prompts that they are near to. Raises
    ``SplitError`` where nothing is left to train on, or to judge the clone on.
    """
    held = [d for name in splits.NAMES[1:] for d in parts[name]]
    withheld = _like(parts["train"], earlier.held_out, earlier.learned, threshold=threshold, near=near)
    learned = _like(held, earlier.learned, earlier.held_out, threshold=threshold, near=near)
    gone = withheld | learned
    kept = {name: [d for d in part if id(d) not in gone] for name, part in parts.items()}
    for name, count, what, remedy in (
        ("train", len(withheld), "held out", "bring demonstrations that it has not seen"),
        ("test", len(learned), "trained on", "hold out what it held out (the same split.seed and shares, or its files)"
         ", or rows that it has not seen"),
    ):  # fmt: skip
        if parts[name] and not kept[name]:
            raise SplitError(
                f"adapter.start_from: {earlier.name} has {what} everything that the {name} split would hold ({count} "
                f"demonstrations); {''.join(remedy)}"
            )
    return kept, len(withheld), len(learned)


def _like(
    rows: Sequence[Demonstration], known: Sequence[Demonstration], same_side: Sequence[Demonstration], *,
    threshold: float, near: bool,
) -> set[int]:  # fmt: skip
    """``id`` of those of ``rows`` that share prompt or group with a ``known`` one, or nearly; but what the earlier run
    had on the same side as here, it need not be only near to what was on the other."""
    parts = {"train": rows, "validation": known, "test": ()}
    settled = {d.key for d in same_side}
    leaks = splits.find_leaks(parts, threshold=threshold)
    return {id(one.source) for one in leaks
            if one.kind != "near-duplicate" or (near and one.source.key not in settled)}  # fmt: skip
