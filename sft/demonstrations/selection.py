"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from sft.demonstrations import columns, few_groups, formats, headlines, splits, thoughts
from sft.demonstrations.conflicts import majority
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.message_fields import MessageRules
from sft.demonstrations.splits import Leak, Splits
from sft.demonstrations.table import Scratch
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.recipes import Recipe
from sft.runs.hashes import fingerprint

__all__ = ["FATES", "IMPORT_FATES", "Division", "Gathered", "Ledger", "divide", "gather", "held_out_others", "read"]

#: So many demonstrations are kept as objects; of more only as much as is looked at.
IN_MEMORY = 20_000
#: fate -> what it means, in the order a report shows them.
FATES = {
    "trained": "used to fit the policy",
    "validation": "held out to choose the checkpoint",
    "test": "held out to judge the clone",
    "invalid": "could not become a demonstration (reasons in rejected.jsonl)",
    "filtered": "left out by the recipe (another expert, or a limit on the number of rows)",
    "duplicate": "repeats another row word for word",
    "outvoted": "other experts answered this prompt differently, and more of them agree",
    "drafted_left_out": "begun from a clone's text, so it is held out from nothing and measures nothing",
    "leaked": "too close to a held-out prompt, removed from training",
    "too_long": "longer than max_length; dropped rather than cut",
    "not_reached": "in the training split, but the steps ended before their turn",
}
#: The same of a record of an export, which `sft import` reads.
IMPORT_FATES = {
    "written": "became a demonstration",
    "joined": "joined to the message before it: one turn",
    "others": "somebody else's: what was answered, never a completion",
    "wordless": "holds no words of anybody's: files, calls, notices, what was deleted",
    "forwarded": "somebody else's words, passed on",
    "draft": "never sent or published",
    "automatic": "a program's words",
    "old": "from before --since",
    "unprompted": "the expert's, and nothing is known that it answers",
    "short": "fewer words than --min-words",
    "masked": "its prompt is in others' words alone, which --mask-others leaves out",
    "personal": "refused for personal data (reasons in rejected.jsonl)",
    "duplicate": "repeats another one word for word",
    "invalid": "cannot be read, or cannot become a demonstration (reasons in rejected.jsonl)",
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
        if unknown := set(self.fates) - set(FATES) - set(IMPORT_FATES):
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
        counts = (division.filtered, division.duplicates, division.outvoted, division.drafted, leaked)
        fates = dict(zip(_LEFT_OUT, counts, strict=True))
    if why := headlines.refusal(recipe.fidelity.headline, (*made.validation, *made.test)):
        raise SplitError(why)
    fates = {"invalid": len(whole.rejected), **fates}
    fates |= {"trained": len(made.train), "validation": len(made.validation), "test": len(made.test)}
    ledger = Ledger(whole.rows, whole.unrolled, {fate: count for fate, count in fates.items() if count})
    passed_over = _passed_over(recipe, [*readings, *ready_made])
    others = held_out_others(passed_over, made.parts)
    return Gathered(recipe, made, ledger, whole.rejected, tuple(leaks), others, dict(whole.commits))


_LEFT_OUT = ("filtered", "duplicate", "outvoted", "drafted_left_out", "leaked")


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
    held-out prompts whose expert began from a clone's text.
    """

    parts: dict[str, Sequence[Demonstration]]
    leaks: list[Leak]
    filtered: int
    duplicates: int
    outvoted: int = 0
    tied: int = 0
    passed_over: tuple[Demonstration, ...] = ()
    drafted: int = 0


def divide(recipe: Recipe, readings: Sequence[formats.Reading], ready_made: Sequence[formats.Reading]) -> Division:
    """What the recipe makes of what was read: selected, without repetitions, split, and looked through for leaks.

    ``ready_made``: the readings of the validation and the test file, or nothing. Raises ``UserError`` for an
    expert who wrote nothing, ``SplitError`` for a split that stays empty.
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
    leaks = splits.find_leaks(placed, threshold=split.near_threshold)
    if split.near_duplicates == "allow":  # the same prompt on both sides is never allowed
        leaks = [leak for leak in leaks if leak.kind != "near-duplicate"]
    return Division(placed, leaks, filtered, duplicates, outvoted, tied, tuple(passed_over), drafted)


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
