"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sft.demonstrations import formats, headlines, splits
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.sources import resolve_demonstrations
from sft.demonstrations.splits import Leak, Splits
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.recipes import Recipe
from sft.runs.hashes import fingerprint

__all__ = ["FATES", "Division", "Gathered", "Ledger", "divide", "gather", "held_out_others", "read"]

#: fate -> what it means, in the order a report shows them.
FATES = {
    "trained": "used to fit the policy",
    "validation": "held out to choose the checkpoint",
    "test": "held out to judge the clone",
    "invalid": "could not become a demonstration (reasons in rejected.jsonl)",
    "filtered": "left out by the recipe (another expert, or a limit on the number of rows)",
    "duplicate": "repeats another row word for word",
    "outvoted": "other experts answered this prompt differently, and more of them agree",
    "leaked": "too close to a held-out prompt, removed from training",
    "too_long": "longer than max_length; dropped rather than cut",
    "not_reached": "in the training split, but the steps ended before their turn",
}


@dataclass(frozen=True, slots=True)
class Ledger:
    """One fate per demonstration or rejected row.

    ``rows``: rows read. ``unrolled``: extra demonstrations gained from dialogues with several expert
    turns. ``fates``: fate -> count; they add up to ``rows + unrolled``, checked here.
    ``tokens``: fate -> {"prompt": n, "completion": n} for the fates that were rendered.
    """

    rows: int
    unrolled: int
    fates: dict[str, int]
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.fates) - set(FATES):
            raise ValueError(f"unknown fates: {', '.join(sorted(unknown))}")
        negative = [fate for fate, count in self.fates.items() if count < 0]
        if negative or min(self.rows, self.unrolled) < 0:
            raise ValueError(f"a ledger counts rows, which cannot be negative: {', '.join(negative) or 'rows'}")
        if strangers := set(self.tokens) - set(self.fates):
            raise ValueError(f"tokens of fates that no row has: {', '.join(sorted(strangers))}")
        total = sum(self.fates.values())
        if total != self.rows + self.unrolled:
            raise ValueError(
                f"the ledger does not add up: {self.rows} rows and {self.unrolled} unrolled turns, but {total} fates"
            )

    def moved(self, count: int, *, source: str, to: str) -> Ledger:
        """A ledger in which ``count`` rows have changed fate from ``source`` to ``to``.

        Raises ``ValueError`` if fewer than ``count`` rows had that fate. Token counts stay as they were:
        move rows before they are rendered.
        """
        fates = self.fates | {source: self.fates.get(source, 0) - count}
        fates[to] = fates.get(to, 0) + count
        return Ledger(self.rows, self.unrolled, fates, self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Ledger:
        """Inverse of :meth:`to_dict`."""
        return cls(value["rows"], value["unrolled"], dict(value["fates"]), dict(value.get("tokens", {})))


@dataclass(frozen=True, slots=True)
class Gathered:
    """Demonstrations as they will be used, with the fate of every row that was read.

    ``others``: what named experts beside the recipe's wrote for held-out prompts; each is "filtered" in the ledger.
    """

    splits: Splits
    ledger: Ledger
    rejected: tuple[formats.Rejected, ...]
    leaks: tuple[Leak, ...]
    others: tuple[Demonstration, ...] = ()


def gather(recipe: Recipe, *, keep_going: bool = False) -> Gathered:
    """Read, deduplicate, split, and look for leaks, as the recipe says.

    Raises ``DemonstrationsError`` with every problem of every file (unless ``keep_going``, which leaves those
    rows out and hands them back), ``SourceError``, or ``SplitError``, also where the headline cannot be computed.
    """
    readings, ready_made = read(recipe)
    whole = formats.joined([*readings, *ready_made])
    if whole.rejected and not keep_going:
        refused = f"{len(whole.rejected)} of {whole.rows} rows cannot become demonstrations"
        raise DemonstrationsError(whole.problems, f"{refused}; mend them, or leave them out: --keep-going")
    division = divide(recipe, readings, ready_made)
    if division.leaks and recipe.split.near_duplicates != "remove":
        raise splits.leak_error(division.leaks)
    placed, leaked = splits.without_leaks(division.parts, division.leaks)
    made = Splits(*(tuple(placed[name]) for name in splits.NAMES))
    if why := headlines.refusal(recipe.fidelity.headline, (*made.validation, *made.test)):
        raise SplitError(why)
    fates = {
        "invalid": len(whole.rejected),
        "filtered": division.filtered,
        "duplicate": division.duplicates,
        "outvoted": division.outvoted,
        "leaked": leaked,
        "trained": len(made.train),
        "validation": len(made.validation),
        "test": len(made.test),
    }
    ledger = Ledger(whole.rows, whole.unrolled, {fate: count for fate, count in fates.items() if count})
    others = held_out_others(division.passed_over, placed)
    return Gathered(made, ledger, whole.rejected, tuple(division.leaks), others)


@dataclass(frozen=True, slots=True)
class Division:
    """Demonstrations by split, leaks not yet dealt with.

    ``filtered``, ``duplicates`` and ``outvoted``: how many rows were left out on the way. ``tied``: prompts whose vote
    was. ``passed_over``: those of the filtered that named experts beside the recipe's wrote.
    """

    parts: dict[str, list[Demonstration]]
    leaks: list[Leak]
    filtered: int
    duplicates: int
    outvoted: int = 0
    tied: int = 0
    passed_over: tuple[Demonstration, ...] = ()


def divide(recipe: Recipe, readings: Sequence[formats.Reading], ready_made: Sequence[formats.Reading]) -> Division:
    """What the recipe makes of what was read: selected, without repetitions, split, and looked through for leaks.

    ``ready_made``: the readings of the validation and the test file, or nothing. Raises ``UserError`` for an
    expert who wrote nothing, ``SplitError`` for a split that stays empty.
    """
    section, split = recipe.demonstrations, recipe.split
    parts = [[d for reading in readings for d in reading.demonstrations]]
    parts += [list(reading.demonstrations) for reading in ready_made]
    passed_over = [
        d for part in parts for d in part if section.expert is not None and d.expert not in ("", section.expert)
    ]
    filtered = duplicates = outvoted = tied = 0
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
    if section.conflicts == "majority":  # what is held out keeps every answer: the clone is measured against them all
        for name in ("train", "validation"):
            vote = majority(placed[name])
            placed[name] = vote.kept
            outvoted += len(vote.outvoted)
            tied += vote.tied
    leaks = splits.find_leaks(placed, threshold=split.near_threshold)
    if split.near_duplicates == "allow":  # the same prompt on both sides is never allowed
        leaks = [leak for leak in leaks if leak.kind != "near-duplicate"]
    return Division(placed, leaks, filtered, duplicates, outvoted, tied, tuple(passed_over))


def held_out_others(
    passed_over: Iterable[Demonstration], parts: Mapping[str, Sequence[Demonstration]]
) -> tuple[Demonstration, ...]:
    """Those of ``passed_over`` that answer a prompt of the validation or test split, each once."""
    prompts = {d.prompt for name in splits.NAMES[1:] for d in parts[name]}
    return tuple(splits.deduplicate([d for d in passed_over if d.prompt in prompts])[0])


def read(recipe: Recipe) -> tuple[list[formats.Reading], list[formats.Reading]]:
    """The readings of the recipe's files, and of its ready-made validation and test files. Raises ``SourceError``."""
    section = recipe.demonstrations
    columns = {key: name for key, name in section.columns.model_dump().items() if name is not None}

    def one(reference: str, *, held_out: bool = False) -> formats.Reading:
        path = resolve_demonstrations(reference)
        return formats.read(
            path,
            format=section.format,
            columns=columns,
            name=reference,
            held_out=held_out,
            encoding=section.encoding or "",
        )

    ready_made = [
        one(path, held_out=path == recipe.split.test)  # what a checkpoint is chosen on is learned from too
        for path in (recipe.split.validation, recipe.split.test)
        if isinstance(path, str)
    ]
    return [one(path) for path in section.paths], ready_made
