"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sft import formats, sources, splits
from sft.demonstrations import Demonstration, fingerprint
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.ledger import Ledger
from sft.recipes import Recipe
from sft.splits import Leak, Splits

__all__ = ["Division", "Gathered", "divide", "gather", "read"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Demonstrations as they will be used, with the fate of every row that was read."""

    splits: Splits
    ledger: Ledger
    rejected: tuple[formats.Rejected, ...]
    leaks: tuple[Leak, ...]


def gather(recipe: Recipe, *, keep_going: bool = False) -> Gathered:
    """Read, deduplicate, split, and look for leaks, as the recipe says.

    Raises ``DemonstrationsError`` with every problem of every file (unless ``keep_going``, which leaves those
    rows out and hands them back), ``SourceError`` or ``SplitError``.
    """
    readings, ready_made = read(recipe)
    everything = readings + ready_made
    rejected = tuple(row for reading in everything for row in reading.rejected)
    if rejected and not keep_going:
        rows = sum(reading.rows for reading in everything)
        raise DemonstrationsError(
            [problem for reading in everything for problem in reading.problems],
            f"{len(rejected)} of {rows} rows cannot become demonstrations; mend them, or leave them out: --keep-going",
        )
    division = divide(recipe, readings, ready_made)
    leaks = division.leaks
    if leaks and recipe.split.near_duplicates != "remove":
        raise splits.leak_error(leaks)
    placed, leaked = splits.without_leaks(division.parts, leaks)
    made = Splits(*(tuple(placed[name]) for name in splits.NAMES))
    fates = {
        "invalid": len(rejected),
        "filtered": division.filtered,
        "duplicate": division.duplicates,
        "leaked": leaked,
        "trained": len(made.train),
        "validation": len(made.validation),
        "test": len(made.test),
    }
    ledger = Ledger(
        rows=sum(reading.rows for reading in everything),
        unrolled=sum(reading.unrolled for reading in everything),
        fates={fate: count for fate, count in fates.items() if count},
    )
    return Gathered(made, ledger, rejected, tuple(leaks))


@dataclass(frozen=True, slots=True)
class Division:
    """Demonstrations by split, leaks not yet dealt with; ``filtered`` and ``duplicates``: rows left out on the way."""

    parts: dict[str, list[Demonstration]]
    leaks: list[Leak]
    filtered: int
    duplicates: int


def divide(recipe: Recipe, readings: Sequence[formats.Reading], ready_made: Sequence[formats.Reading]) -> Division:
    """What the recipe makes of what was read: selected, without repetitions, split, and looked through for leaks.

    ``ready_made``: the readings of the validation and the test file, or nothing. Raises ``UserError`` for an
    expert who wrote nothing, ``SplitError`` for a split that stays empty.
    """
    section, split = recipe.demonstrations, recipe.split
    parts = [[d for reading in readings for d in reading.demonstrations]]
    parts += [list(reading.demonstrations) for reading in ready_made]
    filtered = duplicates = 0
    for index, part in enumerate(parts):
        kept = [d for d in part if section.expert in (None, d.expert)]
        filtered += len(part) - len(kept)
        if section.expert is not None and not kept:
            known = ", ".join(sorted({d.expert for d in part} - {""})) or "none is named"
            raise UserError(f"demonstrations.expert: nothing was written by {section.expert!r}; experts are {known}")
        if section.duplicates == "drop":
            kept, repeated = splits.deduplicate(kept)
            duplicates += len(repeated)
        if section.limit is not None and index == 0 and len(kept) > section.limit:
            filtered += len(kept) - section.limit
            kept = sorted(kept, key=lambda d: fingerprint([d.id, d.key]))[: section.limit]
        parts[index] = kept
    if ready_made:
        placed = dict(zip(splits.NAMES, parts, strict=True))
    else:
        assert isinstance(split.validation, float) and isinstance(split.test, float)  # shares for both, or files
        try:
            placed = splits.assign(parts[0], validation=split.validation, test=split.test, seed=split.seed)
        except SplitError as error:
            rows = f"; {duplicates} rows repeat another word for word" if duplicates else ""
            raise SplitError(f"{error}{rows}") from None
    leaks = splits.find_leaks(placed, threshold=split.near_threshold)
    if split.near_duplicates == "allow":  # the same prompt on both sides is never allowed
        leaks = [leak for leak in leaks if leak.kind != "near-duplicate"]
    return Division(placed, leaks, filtered, duplicates)


def read(recipe: Recipe) -> tuple[list[formats.Reading], list[formats.Reading]]:
    """The readings of the recipe's files, and of its ready-made validation and test files. Raises ``SourceError``."""
    section = recipe.demonstrations
    columns = {key: name for key, name in section.columns.model_dump().items() if name is not None}

    def one(reference: str) -> formats.Reading:
        path = sources.resolve_demonstrations(reference)
        return formats.read(path, format=section.format, columns=columns, name=reference)

    held_out = [path for path in (recipe.split.validation, recipe.split.test) if isinstance(path, str)]
    return [one(path) for path in section.paths], [one(path) for path in held_out]
