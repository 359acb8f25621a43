"""From files to splits: what is read, selected, divided and looked through for leaks, each row with one fate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sft import metrics
from sft.demonstrations import formats, headlines, splits
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.sources import resolve_demonstrations
from sft.demonstrations.splits import Leak, Splits
from sft.errors import DemonstrationsError, SplitError, UserError
from sft.metrics.text import plain_words
from sft.recipes import Recipe
from sft.runs.hashes import fingerprint

__all__ = ["Division", "Gathered", "Vote", "ballots", "divide", "gather", "held_out_others", "majority", "read"]

#: Answers that are compared, and completions each is compared with, at most, to decide a vote that is tied.
_COMPARED = 16


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
    if why := headlines.refusal(recipe.fidelity.headline, (*made.validation, *made.test)):
        raise SplitError(why)
    fates = {
        "invalid": len(rejected),
        "filtered": division.filtered,
        "duplicate": division.duplicates,
        "outvoted": division.outvoted,
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
    return Gathered(made, ledger, rejected, tuple(leaks), held_out_others(division.passed_over, placed))


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


def ballots(demonstrations: Iterable[Demonstration]) -> list[list[list[Demonstration]]]:
    """Every prompt with different completions: its rows by answer, the answer given most often first.

    Answers are the same whose words are: case, white space and outer punctuation aside.
    """
    prompts: dict[str, list[Demonstration]] = {}
    for d in demonstrations:
        prompts.setdefault(d.key, []).append(d)
    found = []
    for rows in prompts.values():
        if len(rows) == 1 or len({d.completion for d in rows}) == 1:
            continue
        answers: dict[tuple[str, ...], list[Demonstration]] = {}
        for d in rows:
            answers.setdefault(plain_words(d.completion), []).append(d)
        found.append(sorted(answers.values(), key=len, reverse=True))
    return found


@dataclass(frozen=True, slots=True)
class Vote:
    """Rows in their order: those whose answer was given most often, and the others. ``tied``: prompts without one."""

    kept: list[Demonstration]
    outvoted: list[Demonstration]
    tied: int


def majority(demonstrations: Sequence[Demonstration]) -> Vote:
    """A vote on every prompt with different completions, one vote a row.

    Among answers given equally often, the one most like the prompt's other completions wins (mean chrF), as the
    medoid does in minimum-Bayes-risk decoding (Kumar & Byrne 2004); after that, the content's hash decides.
    """
    gone: set[int] = set()
    known: dict[tuple[str, str], float] = {}
    ties = 0
    for answers in ballots(demonstrations):
        tied = [same for same in answers if len(same) == len(answers[0])]
        ties += len(tied) > 1
        winner = tied[0] if len(tied) == 1 else _most_like_the_rest(tied, answers, known)
        gone.update(id(d) for same in answers if same is not winner for d in same)
    lost = [d for d in demonstrations if id(d) in gone]
    return Vote([d for d in demonstrations if id(d) not in gone], lost, ties)


def _most_like_the_rest(
    tied: list[list[Demonstration]], answers: list[list[Demonstration]], known: dict[tuple[str, str], float]
) -> list[Demonstration]:
    """Of ``tied`` the answer with the highest mean chrF; of a great many, those with the lowest hashes are compared.

    ``known``: chrF of texts in their order, which is the same both ways; answers come back from prompt to prompt.
    """

    def likeness(one: str, other: str) -> float:
        pair = (one, other) if one < other else (other, one)
        if pair not in known:
            known[pair] = metrics.chrf(*pair)
        return known[pair]

    everything = sorted((d for same in answers for d in same), key=lambda d: (d.id, d.completion))

    def rank(same: list[Demonstration]) -> tuple[float, str]:
        own = {id(d) for d in same}
        text = min(d.completion for d in same)
        rest = list(islice((d.completion for d in everything if id(d) not in own), _COMPARED))
        return -math.fsum(likeness(text, other) for other in rest) / len(rest), fingerprint(text)

    if len(tied) > _COMPARED:
        tied = sorted(tied, key=lambda same: fingerprint(min(d.completion for d in same)))[:_COMPARED]
    return min(tied, key=rank)


def read(recipe: Recipe) -> tuple[list[formats.Reading], list[formats.Reading]]:
    """The readings of the recipe's files, and of its ready-made validation and test files. Raises ``SourceError``."""
    section = recipe.demonstrations
    columns = {key: name for key, name in section.columns.model_dump().items() if name is not None}

    def one(reference: str, *, held_out: bool = False) -> formats.Reading:
        path = resolve_demonstrations(reference)
        return formats.read(path, format=section.format, columns=columns, name=reference, held_out=held_out)

    ready_made = [
        one(path, held_out=path == recipe.split.test)  # what a checkpoint is chosen on is learned from too
        for path in (recipe.split.validation, recipe.split.test)
        if isinstance(path, str)
    ]
    return [one(path) for path in section.paths], ready_made
