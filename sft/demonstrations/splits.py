"""Which demonstrations are trained on and which are held out, so that nothing held out can have leaked.

A prompt group goes to one split by the hash of its name and the seed: the same in every process, in
any order of rows, and unchanged when rows are appended. What cannot be grouped by name, prompts that nearly
repeat each other, is looked for afterwards: a leak is refused with the offending pairs, or its training row is
left out and counted.

What counts as one prompt, one group and near has changed, and a run is what the rule of its time made of its rows:
``split.json`` names the rule. v3: what nobody sees is no difference, another value in a slot is one, and groups that
share a row are one. Those before it (v2, not named) knew nothing of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations import columns, few_groups
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.near_duplicates import find_near
from sft.demonstrations.shingles import Boilerplate, boilerplate_of
from sft.errors import SplitError
from sft.runs.hashes import Digest, fingerprint

__all__ = [
    "RULE", "Leak", "Splits", "assign", "check_manifest", "data_digest", "deduplicate", "find_leaks", "leak_error",
    "refuse_learned", "split_digest", "to_manifest", "together", "without_leaks",
]  # fmt: skip

NAMES = ("train", "validation", "test")
RULE, RULE_BEFORE = "v3", "v2"

I64 = NDArray[np.int64]
Parts = Mapping[str, Sequence[Demonstration]]


@dataclass(frozen=True, slots=True)
class Splits:
    """Three sets of demonstrations that share no prompt and no group; train and test are not empty.

    ``validation`` may be empty, when there is nothing to choose a checkpoint on. ``rule``: by which they were made; of
    those by an earlier one it was seen then that they share no prompt, as prompts were told apart then. ``times``: id
    of a training row -> how often an epoch goes through it, where that is more than once. ``replay``: what is learned
    beside the demonstrations and belongs to no split. Raises ``SplitError``.
    """

    train: tuple[Demonstration, ...]
    validation: tuple[Demonstration, ...]
    test: tuple[Demonstration, ...]
    rule: str = RULE
    times: Mapping[str, int] = field(default_factory=dict)
    replay: tuple[Demonstration, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if not getattr(self, name):
                raise SplitError(f"the {name} split is empty; it needs at least one demonstration")
        homes: dict[str, str] = {}
        for name in NAMES:
            for demonstration in getattr(self, name):
                prompt = f"prompt {demonstration.key}" if self.rule == RULE else f"prompt {demonstration.prompt!r}"
                for key in (prompt, f"group {demonstration.group}"):
                    if homes.setdefault(key, name) != name:
                        raise SplitError(
                            f"{demonstration.address}: its {key.partition(' ')[0]} is in {homes[key]} and in {name}; "
                            "each may be in one split only"
                        )

    @property
    def parts(self) -> dict[str, tuple[Demonstration, ...]]:
        """Split name -> its demonstrations."""
        return {name: getattr(self, name) for name in NAMES}


def assign(
    demonstrations: Sequence[Demonstration], *, validation: float, test: float, seed: int
) -> dict[str, Sequence[Demonstration]]:
    """Every demonstration in the split of its group. ``validation`` and ``test``: shares of all groups.

    A group's split depends on its name and the seed alone, so small sets miss the shares by chance.
    Raises ``SplitError`` when a split that was asked for stays empty.
    """

    def home(group: str, seed: int) -> str:
        place = _place(group, seed)
        return "test" if place < test else "validation" if place < test + validation else "train"

    groups = columns.labels(demonstrations, "group")
    _, firsts, group_of = np.unique(groups, return_index=True, return_inverse=True)
    names = columns.group_names(columns.picked(demonstrations, firsts))
    homes = np.fromiter((NAMES.index(home(group, seed)) for group in names), dtype=np.int8, count=len(firsts))[group_of]
    parts = {name: columns.picked(demonstrations, homes == number) for number, name in enumerate(NAMES)}
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    if empty := [name for name, share in shares.items() if share > 0 and not parts[name]]:
        raise SplitError(few_groups.refusal(demonstrations, shares, empty, home))
    return parts


def _place(group: str, seed: int) -> float:
    """Where the group falls between 0 and 1."""
    digest = hashlib.blake2b(f"{seed}\x00{group}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def together(demonstrations: Sequence[Demonstration]) -> Sequence[Demonstration]:
    """All of them, in which groups that have a row in common are one, named as the first of their names.

    Otherwise the order of the file would say in which of its groups, and so in which split, a repeated row stays. A
    row that is a dialogue counts as a whole: hundreds that open with one greeting have no row in common.
    """
    if all(columns.groups_are_keys(demonstrations)):  # rows that are equal have one prompt, and so one group
        return demonstrations
    whole = np.flatnonzero(columns.ends_row(demonstrations))  # the last turn of its row
    contents = columns.labels(demonstrations, "content")[whole]
    whole = whole[np.bincount(contents)[contents] > 1] if len(whole) else whole
    known: dict[int, str] = {}
    root: dict[str, str] = {}

    def first_of(group: str) -> str:
        while (other := root.get(group, group)) != group:
            group = other
        return group

    repeated = columns.picked(demonstrations, whole)
    for content, group in zip(columns.labels(repeated, "content").tolist(), columns.group_names(repeated), strict=True):
        one, other = sorted((first_of(known.setdefault(content, group)), first_of(group)))
        if one != other:
            root[other] = one
    return columns.renamed(demonstrations, {group: first_of(group) for group in root}) if root else demonstrations


def deduplicate(demonstrations: Sequence[Demonstration]) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """(one of each, the repetitions): same prompt, completion, references and expert, word for word.

    The first is kept, or of several groups the one of the first name, so that the order of rows decides no split.
    """
    contents = columns.labels(demonstrations, "content")
    _, firsts, counts = np.unique(contents, return_index=True, return_counts=True)
    several = np.flatnonzero(counts[contents] > 1) if len(contents) else contents
    groups = columns.group_names(columns.picked(demonstrations, several))
    best: dict[int, tuple[int, int, str]] = {}  # content -> the first place, the place of the one kept, its group
    repeated = []
    for place, group in zip(several.tolist(), groups, strict=True):
        first, kept, name = best.setdefault(int(contents[place]), (place, place, group))
        if place == kept:
            continue
        if group < name:
            best[int(contents[place])] = (first, place, group)
            kept, place = place, kept
        repeated.append(place)
    places = np.sort(firsts)
    if moved := {first: kept for first, kept, _ in best.values() if first != kept}:
        places = np.array([moved.get(place, place) for place in places.tolist()])
    return columns.picked(demonstrations, places), columns.picked(demonstrations, np.array(repeated, dtype=np.int64))


# -- leaks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leak:
    """A demonstration that gives a held-out one away.

    ``source`` is in the split named ``source_split`` (train, or validation for a test prompt), ``held_out`` in
    ``split``; both are "" for files that were not split here. ``kind``: same prompt, same group or near-duplicate;
    ``similarity``: 1 for the first two.
    """

    source: Demonstration
    held_out: Demonstration
    source_split: str
    split: str
    kind: str
    similarity: float

    def __str__(self) -> str:
        near = f" ({self.similarity:.0%} alike)" if self.kind == "near-duplicate" else ""
        source, held_out = (
            f"{d.address} ({split})" if split else d.address
            for d, split in ((self.source, self.source_split), (self.held_out, self.split))
        )
        return f"{source} and {held_out}: {self.kind}{near}"


def find_leaks(parts: Parts, *, threshold: float = 0.8) -> list[Leak]:
    """Every training demonstration, and every validation one, whose prompt is held out further down.

    ``threshold``: word-shingle Jaccard similarity from which prompts are near-duplicates (see ``near_duplicates``).
    At most one leak per demonstration, the plainest kind first.
    """
    everyone = columns.joined([parts[name] for name in NAMES])
    keys, groups = columns.labels(everyone, "key"), columns.labels(everyone, "group")
    split_of = np.repeat(np.arange(len(NAMES)), [len(parts[name]) for name in NAMES])
    # What all prompts say is no sign of a leak; a small split alone could not tell what that is.
    everything = columns.PromptTexts(columns.picked(everyone, _of_each(keys, np.arange(len(keys)))[1]))
    boilerplate = boilerplate_of(everything)
    leaks: list[Leak] = []
    for index, source_split in enumerate(NAMES[:-1]):
        source = np.flatnonzero(split_of == index)
        # Test before validation: a prompt that stands in both is a leak of the one that judges.
        held = np.concatenate([np.flatnonzero(split_of == later) for later in range(len(NAMES) - 1, index, -1)])
        if not len(held):
            continue
        pairs, kinds = _repeated(source, held, keys, groups)
        near, found = _near(source[pairs < 0], held, keys, everyone, boilerplate, threshold)
        places = np.concatenate([source[pairs >= 0], near])
        of = np.concatenate([pairs[pairs >= 0], np.array([other for other, _ in found], dtype=np.int64)])
        similarities = [1.0] * int((pairs >= 0).sum()) + [similarity for _, similarity in found]
        named = [_KINDS[kind] for kind in kinds[pairs >= 0].tolist()] + ["near-duplicate"] * len(near)
        leaks += [
            Leak(d, other, source_split, NAMES[split_of[place]], kind, similarity)
            for d, other, place, kind, similarity in zip(
                columns.picked(everyone, places), columns.picked(everyone, of), of, named, similarities, strict=True
            )
        ]
    return leaks


#: Why a demonstration gives a held-out one away, the plainest first; else it is a near-duplicate.
_KINDS = ("same prompt", "same group")


def _of_each(values: I64, places: I64) -> tuple[I64, I64]:
    """(the first, the last) of ``places`` for each of ``values`` there, in the order of the first."""
    _, firsts = np.unique(values[places], return_index=True)
    _, lasts = np.unique(values[places][::-1], return_index=True)
    order = np.argsort(firsts)
    return places[firsts[order]], places[::-1][lasts[order]]


def _near(
    source: I64, held: I64, keys: I64, everyone: Sequence[Demonstration], boilerplate: Boilerplate, threshold: float
) -> tuple[I64, list[tuple[int, float]]]:
    """Those of ``source`` whose prompt nearly repeats one of ``held``, and for each the place of that and how alike.

    One comparison per prompt, not per row: completions do not leak prompts.
    """
    firsts, lasts = _of_each(keys, source)
    chosen, _ = _of_each(keys, held)
    texts, others = (columns.PromptTexts(columns.picked(everyone, places)) for places in (lasts, chosen))
    found = {
        int(keys[firsts[pair.row]]): (int(chosen[pair.other]), pair.similarity)
        for pair in find_near(texts, others, threshold, corpus=boilerplate)
    }
    known = np.isin(keys[source], np.fromiter(found, dtype=np.int64, count=len(found)))
    near = source[known]
    return near, [found[key] for key in keys[near].tolist()]


def _repeated(source: I64, held: I64, keys: I64, groups: I64) -> tuple[I64, NDArray[np.int8]]:
    """For each of ``source`` the first of ``held`` with its prompt, or else with its group, or -1; and which it is."""
    pairs, kinds = np.full(len(source), -1, dtype=np.int64), np.zeros(len(source), dtype=np.int8)
    for kind, values in ((1, groups), (0, keys)):  # the plainest last, so that it stays
        known, firsts = np.unique(values[held], return_index=True)
        place = np.minimum(np.searchsorted(known, values[source]), len(known) - 1)
        same = known[place] == values[source]
        pairs[same], kinds[same] = held[firsts[place[same]]], kind
    return pairs, kinds


def refuse_learned(train: Iterable[Demonstration], held_out: Iterable[Demonstration], name: str) -> None:
    """Raise ``SplitError`` where a clone made elsewhere learned, from the file ``name``, what it would be judged on.

    Near-duplicates are measured, not refused: such a clone cannot be trained again.
    """
    learned, asked = list(train), list(held_out)
    both = [*learned, *asked]
    keys, groups = columns.labels(both, "key"), columns.labels(both, "group")
    source, held = np.arange(len(learned)), np.arange(len(learned), len(both))
    pairs, kinds = _repeated(source, held, keys, groups) if asked else (source - len(both), source)
    leaks = [
        Leak(both[place], both[pairs[place]], "", "", _KINDS[kinds[place]], 1.0) for place in np.flatnonzero(pairs >= 0)
    ]
    if leaks:
        remedy = (
            "a clone is judged on what it did not learn from; leave these prompts out of the file that it is judged "
            "on, or name the training file that was used"
        )
        raise leak_error(leaks, of=f" of {name}", remedy=remedy)


#: The ways out where a recipe splits the demonstrations.
_MEND = (
    "set split.near_duplicates to remove to leave them out of training (counted in the ledger), give rows that belong "
    "together one group, or mend the files"
)


def leak_error(leaks: Sequence[Leak], *, shown: int = 10, of: str = "", remedy: str = _MEND) -> SplitError:
    """The refusal: how many, the first pairs, and the ways out."""
    lines = [f"  {leak}" for leak in leaks[:shown]]
    if 0 < shown < len(leaks):
        lines.append(f"  ... and {len(leaks) - shown} more")
    what = f"{len(leaks)} demonstration{'s' if len(leaks) != 1 else ''}{of} would give held-out prompts away"
    return SplitError("\n".join([f"{what}:", *lines, remedy]) if lines else f"{what}; {remedy}")


def without_leaks(parts: Parts, leaks: Iterable[Leak]) -> tuple[dict[str, Sequence[Demonstration]], int]:
    """The parts without the demonstrations that leak, and how many were left out. Test is never touched.

    Whether one leaks depends on its prompt and its group alone, so all that have both are gone.
    """
    gone: dict[str, set[tuple[str, str]]] = {name: set() for name in NAMES}
    for leak in leaks:
        gone[leak.source_split].add((leak.source.key, leak.source.group))
    kept: dict[str, Sequence[Demonstration]] = {}
    for name in NAMES:
        kept[name] = parts[name]
        if gone[name]:
            leaks_here = (pair in gone[name] for pair in columns.keys_and_groups(parts[name]))
            kept[name] = columns.picked(parts[name], ~np.fromiter(leaks_here, dtype=bool, count=len(parts[name])))
    return kept, sum(len(parts[name]) - len(kept[name]) for name in NAMES)


# -- the record -------------------------------------------------------------------------------------------


def to_manifest(splits: Splits, **facts: Any) -> dict[str, Any]:
    """What ``split.json`` records: ``facts`` (seed, shares), rule, counts, and the ids of every split, sorted."""
    ids = {name: sorted(d.id for d in part) for name, part in splits.parts.items()}
    return {
        **facts,
        **({"rule": splits.rule} if splits.rule != RULE_BEFORE else {}),
        **({"times": dict(sorted(splits.times.items()))} if splits.times else {}),
        **({"replay": sorted(d.id for d in splits.replay)} if splits.replay else {}),
        "counts": {name: len(part) for name, part in ids.items()},
        "data_hash": data_digest(splits.parts),
        "ids": ids,
    }


def data_digest(parts: Parts) -> Digest:
    """One hash of all demonstrations, whatever their order: of ids and contents.

    Two rules came before: of ids alone, and, where a clone of elsewhere was judged, of contents in order.
    """
    every = [d for part in parts.values() for d in part]
    return Digest.by(
        "v2",
        fingerprint(sorted(f"{d.id} {d.content_hash}" for d in every)),
        {
            "v1": lambda: fingerprint(sorted(d.id for d in every)),
            "v1 elsewhere": lambda: fingerprint(
                [[d.to_dict(content_only=True) for d in parts.get(name, ())] for name in ("train", "test")]
            ),
        },
    )


def split_digest(split: Mapping[str, Any], data: Digest) -> Digest:
    """One hash of ``split.json`` as a whole; in it stands the hash of the ``data``, by whichever rule.

    An earlier rule of splitting has left the same split where nothing in it bears on what has changed since.
    """
    before = {name: value for name, value in split.items() if name != "rule"}

    def by(known: str, facts: Mapping[str, Any] = before) -> str:
        return fingerprint({**facts, "data_hash": known})

    earlier = {"v1": lambda: by(data.by_rule("v1"))}
    if "rule" not in split:
        return Digest.by(RULE_BEFORE, by(data.value), earlier)
    return Digest.by(RULE, by(data.value, split), {RULE_BEFORE: lambda: by(data.value), **earlier})


def check_manifest(recorded: Mapping[str, Any], splits: Splits) -> None:
    """Raise ``SplitError`` saying what differs, unless ``splits`` is the split on record."""
    present = to_manifest(splits)["ids"]
    known = recorded.get("ids")
    if known == present:
        return
    if not isinstance(known, Mapping) or not all(isinstance(known.get(name), list) for name in NAMES):
        raise SplitError("split.json: holds no split; restore it from a copy, or start a new run")
    before = {i: name for name in NAMES for i in known[name]}
    after = {i: name for name in NAMES for i in present[name]}
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    moved = [i for i in after.keys() & before.keys() if after[i] != before[i]]
    changes = [
        f"1 demonstration {one}" if len(group) == 1 else f"{len(group)} demonstrations {many}"
        for group, one, many in (
            (added, "was added", "were added"),
            (removed, "is gone", "are gone"),
            (moved, "changed sides", "changed sides"),
        )
        if group
    ] or ["rows were repeated or lost"]
    raise SplitError(
        f"split.json: the split is not the one on record ({', '.join(changes)}); "
        "use the data it was made from, or start a new run"
    )
