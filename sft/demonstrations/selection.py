"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sft.demonstrations import columns, few_groups, formats, headlines, splits, weights
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.earlier import left_by, rows_before
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.readings import Readings, read
from sft.demonstrations.splits import Leak, Splits
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.recipes import Recipe
from sft.runs.hashes import fingerprint

__all__ = ["Division", "Gathered", "divide", "gather", "held_out_others"]


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
    found = read(recipe, commits=commits)
    if found.whole.rejected and not keep_going:
        refused = f"{len(found.whole.rejected)} of {found.whole.rows} rows cannot become demonstrations"
        raise DemonstrationsError(found.whole.problems, f"{refused}; mend them, or leave them out: --keep-going")
    recipe, found = found.settled(recipe)
    leaks: list[Leak] = []
    if before is not None and _of_the_same_rows(found.whole, *before):
        made = before[0]
        fates = {fate: count for fate, count in before[1].fates.items() if fate in _LEFT_OUT}
    else:
        division = divide(recipe, found)
        leaks = division.leaks
        if leaks and recipe.split.near_duplicates != "remove":
            raise splits.leak_error(leaks)
        placed, leaked = splits.without_leaks(division.parts, leaks)
        amounts = weights.measured_out(recipe, found, placed)
        made = Splits(
            tuple(amounts.weighed.kept),
            tuple(placed["validation"]),
            tuple(placed["test"]),
            rule=splits.RULE,
            times=amounts.weighed.times,
            replay=amounts.replayed.taken,
        )
        counts = (division.filtered, division.duplicates, division.outvoted, division.drafted, leaked,
                  division.held_out_before, division.learned_before)  # fmt: skip
        fates = dict(zip(_LEFT_OUT, counts, strict=True))
        for fate, count in amounts.fates.items():
            fates[fate] = fates.get(fate, 0) + count
    if why := headlines.refusal(recipe.fidelity.headline, recipe.fidelity.bar, (*made.validation, *made.test)):
        raise SplitError(why)
    fates = {"invalid": len(found.whole.rejected), **fates}
    fates |= {"trained": len(made.train), "validation": len(made.validation), "test": len(made.test)}
    whole = found.whole
    ledger = Ledger(whole.rows, whole.unrolled, {fate: count for fate, count in fates.items() if count})
    passed_over = _passed_over(recipe, found.demonstrations)
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


def _passed_over(recipe: Recipe, reading: formats.Reading) -> list[Demonstration]:
    """What named experts beside the one that the recipe names wrote."""
    expert = recipe.demonstrations.expert
    if expert is None:
        return []
    return [d for d in reading.demonstrations if d.expert not in ("", expert)]


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


def divide(recipe: Recipe, found: Readings) -> Division:
    """What the recipe makes of what was read: selected, without repetitions, split, and looked through for leaks.

    Raises ``UserError`` for an expert who wrote nothing, ``SplitError`` for a split that stays empty, ``RunError`` and
    ``SourceError`` for an ``adapter.start_from`` that cannot be had.
    """
    section, split = recipe.demonstrations, recipe.split
    readings, held_out = found.training, found.held_out
    parts = [columns.joined([reading.demonstrations for reading in readings])]
    parts += [reading.demonstrations for reading in held_out.values()]
    is_divided = len(held_out) < len(splits.NAMES) - 1
    passed_over = _passed_over(recipe, found.demonstrations)
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
        if index == 0 and is_divided:
            told_apart, kept = kept, splits.together(kept)
            united = kept
        if section.duplicates == "drop":
            kept, repeated = splits.deduplicate(kept)
            duplicates += len(repeated)
        if index == 0:
            within = weights.limited(kept, section.sources, readings)
            filtered += len(kept) - len(within)
            kept = within
        if section.limit is not None and index == 0 and len(kept) > section.limit:
            filtered += len(kept) - section.limit
            ranks = np.fromiter((fingerprint([d.id, d.key]).encode() for d in kept), dtype="S32", count=len(kept))
            kept = columns.picked(kept, np.argsort(ranks, kind="stable")[: section.limit])
        parts[index] = kept
    placed = dict(zip(("train", *held_out), parts, strict=True))
    if is_divided:
        shares = {name: part for name in splits.NAMES[1:] if isinstance(part := getattr(split, name), float)}
        try:
            divided = splits.assign(
                parts[0], validation=shares.get("validation", 0.0), test=shares.get("test", 0.0), seed=split.seed
            )
            placed = {name: placed[name] if name in held_out else divided[name] for name in splits.NAMES}
        except SplitError as error:
            rows = f"; {duplicates} rows repeat another word for word" if duplicates else ""
            if section.limit is not None and len(parts[0]) == section.limit:
                rows += f"; demonstrations.limit is {section.limit:,}, raise it where there are more"
            before, after = (np.unique(columns.labels(each, "group")).size for each in (told_apart, united))
            joined = few_groups.joined(told_apart) if before > 2 * after else ""
            raise SplitError(joined or f"{error}{rows}") from None
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
