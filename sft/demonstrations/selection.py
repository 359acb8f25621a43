"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sft.demonstrations import columns, few_groups, formats, headlines, splits, thoughts
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.earlier import left_by, rows_before
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.message_fields import MessageRules
from sft.demonstrations.splits import Leak, Splits
from sft.demonstrations.table import Scratch
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.recipes import Recipe
from sft.runs.hashes import fingerprint

__all__ = ["Division", "Gathered", "divide", "gather", "held_out_others", "read"]

#: So many demonstrations are kept as objects; of more only as much as is looked at.
IN_MEMORY = 20_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """Demonstrations as they will be used, with the fate of every row that was read.

    ``recipe``: the one that they were gathered by, with what it left to the data decided.
    ``others``: what named experts beside the recipe's wrote for held-out prompts; each is "filtered" in the ledger.
    ``commits``: reference -> commit, of data sets of the hub.
    """

    recipe: Recipe
    splits: Splits
    ledger: Ledger
    rejected: tuple[formats.Rejected, ...]
    leaks: tuple[Leak, ...]
    others: tuple[Demonstration, ...] = ()
    commits: Mapping[str, str] = field(default_factory=dict)


def gather(
    recipe: Recipe,
    *,
    keep_going: bool = False,
    before: tuple[Splits, Ledger] | None = None,
    commits: Mapping[str, str] | None = None,
) -> Gathered:
    """Read, deduplicate, split, and look for leaks, as the recipe says.

    ``before``: what an earlier rule of splitting made of this recipe; where it was made of the same rows, they stay as
    it placed them. ``commits``: of data sets of the hub, those that the run was begun with.

    Raises ``DemonstrationsError`` with every problem of every file (unless ``keep_going``, which leaves those
    rows out and hands them back), ``SourceError``, or ``SplitError``, also where the headline cannot be computed.
    """
    readings, ready_made = read(recipe, commits=commits)
    whole = formats.joined([*readings, *ready_made])
    if whole.rejected and not keep_going:
        refused = f"{len(whole.rejected)} of {whole.rows} rows cannot become demonstrations"
        raise DemonstrationsError(whole.problems, f"{refused}; mend them, or leave them out: --keep-going")
    recipe, (readings, ready_made) = thoughts.settled(recipe, readings, ready_made)
    leaks: list[Leak] = []
    if before is not None and _of_the_same_rows(whole, *before):
        made = before[0]
        fates = {fate: count for fate, count in before[1].fates.items() if fate in _LEFT_OUT}
    else:
        division = divide(recipe, readings, ready_made)
        leaks = division.leaks
        if leaks and recipe.split.near_duplicates != "remove":
            raise splits.leak_error(leaks)
        placed, leaked = splits.without_leaks(division.parts, leaks)
        made = Splits(**{name: tuple(placed[name]) for name in splits.NAMES}, rule=splits.RULE)
        counts = (division.filtered, division.duplicates, division.outvoted, division.drafted, leaked,
                  division.held_out_before, division.learned_before)  # fmt: skip
        fates = dict(zip(_LEFT_OUT, counts, strict=True))
    if why := headlines.refusal(recipe.fidelity.headline, recipe.fidelity.bar, (*made.validation, *made.test)):
        raise SplitError(why)
    fates = {"invalid": len(whole.rejected), **fates}
    fates |= {"trained": len(made.train), "validation": len(made.validation), "test": len(made.test)}
    ledger = Ledger(whole.rows, whole.unrolled, {fate: count for fate, count in fates.items() if count})
    passed_over = _passed_over(recipe, [*readings, *ready_made])
    others = held_out_others(passed_over, made.parts)
    return Gathered(recipe, made, ledger, whole.rejected, tuple(leaks), others, dict(whole.commits))


_LEFT_OUT = (
    "filtered", "duplicate", "outvoted", "drafted_left_out", "leaked", "held_out_before", "learned_before",
)  # fmt: skip


def _of_the_same_rows(whole: formats.Reading, made: Splits, ledger: Ledger) -> bool:
    """Whether ``made`` and what was left out beside it are all that was read: none is gone, none has come."""
    counts = (whole.rows, whole.unrolled, len(whole.rejected))
    if counts != (ledger.rows, ledger.unrolled, ledger.fates.get("invalid", 0)):
        return False
    kept = Counter(d.content_hash for part in made.parts.values() for d in part)
    return kept <= Counter(d.content_hash for d in whole.demonstrations)


def _passed_over(recipe: Recipe, readings: Iterable[formats.Reading]) -> list[Demonstration]:
    """What named experts beside the one that the recipe names wrote."""
    expert = recipe.demonstrations.expert
    if expert is None:
        return []
    return [d for each in readings for d in each.demonstrations if d.expert not in ("", expert)]


@dataclass(frozen=True, slots=True)
class Division:
    """Demonstrations by split, leaks not yet dealt with.

    ``filtered``, ``duplicates`` and ``outvoted``: how many rows were left out on the way. ``tied``: prompts whose vote
    was. ``passed_over``: those of the filtered that named experts beside the recipe's wrote. ``drafted``: rows of
    held-out prompts whose expert began from a clone's text. ``held_out_before``, ``learned_before``: rows that the run
    of ``adapter.start_from`` had on the other side.
    """

    parts: dict[str, Sequence[Demonstration]]
    leaks: list[Leak]
    filtered: int
    duplicates: int
    outvoted: int = 0
    tied: int = 0
    passed_over: tuple[Demonstration, ...] = ()
    drafted: int = 0
    held_out_before: int = 0
    learned_before: int = 0


def divide(recipe: Recipe, readings: Sequence[formats.Reading], ready_made: Sequence[formats.Reading]) -> Division:
    """What the recipe makes of what was read: selected, without repetitions, split, and looked through for leaks.

    ``ready_made``: the readings of the validation and the test file, or nothing. Raises ``UserError`` for an
    expert who wrote nothing, ``SplitError`` for a split that stays empty, ``RunError`` and ``SourceError`` for an
    ``adapter.start_from`` that cannot be had.
    """
    section, split = recipe.demonstrations, recipe.split
    parts = [columns.joined([reading.demonstrations for reading in readings])]
    parts += [reading.demonstrations for reading in ready_made]
    passed_over = _passed_over(recipe, [*readings, *ready_made])
    filtered = duplicates = outvoted = tied = 0
    for index, part in enumerate(parts):
        kept = part
        if section.expert is not None:
            numbers, names = columns.by_expert(part)
            kept = columns.picked(part, numbers == (names.index(section.expert) if section.expert in names else -1))
        filtered += len(part) - len(kept)
        if section.expert is not None and not kept:
            known = ", ".join(sorted({names[number] for number in np.unique(numbers)} - {""})) or "none is named"
            raise UserError(f"demonstrations.expert: nothing was written by {section.expert!r}; experts are {known}")
        if index == 0 and not ready_made:
            told_apart, kept = kept, splits.together(kept)
        if section.duplicates == "drop":
            kept, repeated = splits.deduplicate(kept)
            duplicates += len(repeated)
        if section.limit is not None and index == 0 and len(kept) > section.limit:
            filtered += len(kept) - section.limit
            ranks = np.fromiter((fingerprint([d.id, d.key]).encode() for d in kept), dtype="S32", count=len(kept))
            kept = columns.picked(kept, np.argsort(ranks, kind="stable")[: section.limit])
        parts[index] = kept
    if ready_made:
        placed = dict(zip(splits.NAMES, parts, strict=True))
    else:
        assert isinstance(split.validation, float) and isinstance(split.test, float)  # shares for both, or files
        try:
            placed = splits.assign(parts[0], validation=split.validation, test=split.test, seed=split.seed)
        except SplitError as error:
            rows = f"; {duplicates} rows repeat another word for word" if duplicates else ""
            before, after = (np.unique(columns.labels(each, "group")).size for each in (told_apart, parts[0]))
            joined = before > 2 * after
            raise SplitError(few_groups.joined(told_apart) if joined else f"{error}{rows}") from None
    drafted = 0
    for name in splits.NAMES[1:]:  # a clone is not measured against its own words
        begun = columns.flagged(placed[name], columns.DRAFTED)
        drafted += int(begun.sum())
        placed[name] = columns.picked(placed[name], ~begun)
    if section.conflicts == "majority":  # what is held out keeps every answer: the clone is measured against them all
        for name in ("train", "validation"):
            vote = majority(placed[name])
            placed[name] = vote.kept
            outvoted += len(vote.outvoted)
            tied += vote.tied
    if (earlier := rows_before(recipe)) is not None:  # rows of two runs are told apart as objects
        placed = {name: list(part) for name, part in placed.items()}
    leaks = splits.find_leaks(placed, threshold=split.near_threshold)
    if split.near_duplicates == "allow":  # the same prompt on both sides is never allowed
        leaks = [leak for leak in leaks if leak.kind != "near-duplicate"]
    withheld = learned = 0
    if earlier is not None:
        leaky = {id(leak.source) for leak in leaks}
        told = {name: [d for d in part if id(d) not in leaky] for name, part in placed.items()}
        seen, withheld, learned = left_by(
            earlier, told, threshold=split.near_threshold, near=split.near_duplicates != "allow"
        )
        still = {id(d) for part in seen.values() for d in part}
        placed = {name: [d for d in part if id(d) in still or id(d) in leaky] for name, part in placed.items()}
    return Division(placed, leaks, filtered, duplicates, outvoted, tied, tuple(passed_over), drafted, withheld, learned)


def held_out_others(
    passed_over: Iterable[Demonstration], parts: Mapping[str, Sequence[Demonstration]]
) -> tuple[Demonstration, ...]:
    """Those of ``passed_over`` that answer a prompt of the validation or test split, each once."""
    passed_over = list(passed_over)
    if not passed_over:
        return ()
    prompts = {d.prompt for name in splits.NAMES[1:] for d in parts[name]}
    return tuple(splits.deduplicate([d for d in passed_over if d.prompt in prompts])[0])


def read(
    recipe: Recipe, called: Mapping[str, str] | None = None, *, commits: Mapping[str, str] | None = None
) -> tuple[list[formats.Reading], list[formats.Reading]]:
    """The readings of the recipe's files, and of its ready-made validation and test files. Raises ``SourceError``.

    ``called``: what addresses call a path that has no name of its own. ``commits``: reference -> the commit to take.
    """
    section = recipe.demonstrations
    options: dict[str, Any] = {
        "format": section.format,
        "columns": {key: name for key, name in section.columns.model_dump().items() if name is not None},
        "encoding": section.encoding or "",
        "rules": MessageRules(section.roles, section.neighbours),
    }

    scratch = Scratch()

    def one(reference: str, *, held_out: bool = False) -> formats.Reading:
        named, commit = (called or {}).get(reference), (commits or {}).get(reference, "")
        return formats.read_source(reference, name=named, commit=commit, held_out=held_out, into=scratch, **options)

    ready_made = [
        one(path, held_out=path == recipe.split.test)  # what a checkpoint is chosen on is learned from too
        for path in (recipe.split.validation, recipe.split.test)
        if isinstance(path, str)
    ]
    readings = [one(path) for path in section.paths]
    if len(scratch) > IN_MEMORY:
        return readings, ready_made
    return [_as_objects(reading) for reading in readings], [_as_objects(reading) for reading in ready_made]


def _as_objects(reading: formats.Reading) -> formats.Reading:
    return replace(reading, demonstrations=tuple(reading.demonstrations))
