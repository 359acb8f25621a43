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
from dataclasses import dataclass, field, replace
from typing import Any

from sft.demonstrations import few_groups
from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.demonstrations.near_duplicates import find_near
from sft.errors import SplitError
from sft.runs.hashes import Digest, fingerprint

__all__ = [
    "RULE", "Leak", "Splits", "assign", "check_manifest", "data_digest", "deduplicate", "find_leaks", "leak_error",
    "refuse_learned", "split_digest", "to_manifest", "together", "without_leaks",
]  # fmt: skip

NAMES = ("train", "validation", "test")
RULE, RULE_BEFORE = "v3", "v2"

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
) -> dict[str, list[Demonstration]]:
    """Every demonstration in the split of its group. ``validation`` and ``test``: shares of all groups.

    A group's split depends on its name and the seed alone, so small sets miss the shares by chance.
    Raises ``SplitError`` when a split that was asked for stays empty.
    """

    def home(group: str, seed: int) -> str:
        place = _place(group, seed)
        return "test" if place < test else "validation" if place < test + validation else "train"

    parts: dict[str, list[Demonstration]] = {name: [] for name in NAMES}
    homes: dict[str, str] = {}
    for demonstration in demonstrations:
        group = demonstration.group
        if group not in homes:
            homes[group] = home(group, seed)
        parts[homes[group]].append(demonstration)
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    if empty := [name for name, share in shares.items() if share > 0 and not parts[name]]:
        raise SplitError(few_groups.refusal(demonstrations, shares, empty, home))
    return parts


def _place(group: str, seed: int) -> float:
    """Where the group falls between 0 and 1."""
    digest = hashlib.blake2b(f"{seed}\x00{group}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _content(d: Demonstration) -> tuple[Any, ...]:
    return d.prompt, d.completion, d.expert, d.references, d.thought


def together(demonstrations: Sequence[Demonstration]) -> list[Demonstration]:
    """All of them, in which groups that have a row in common are one, named as the first of their names.

    Otherwise the order of the file would say in which of its groups, and so in which split, a repeated row stays. A
    row that is a dialogue counts as a whole: hundreds that open with one greeting have no row in common.
    """
    if all(d.group == d.key for d in demonstrations):  # rows that are equal have one prompt, and so one group
        return list(demonstrations)
    known: dict[tuple[Any, ...], str] = {}
    root: dict[str, str] = {}

    def first_of(group: str) -> str:
        while (other := root.get(group, group)) != group:
            group = other
        return group

    for d, after in zip(demonstrations, [*demonstrations[1:], None], strict=True):
        if after is None or after.source is None or after.source != d.source:  # the last turn of its row
            one, other = sorted((first_of(known.setdefault(_content(d), d.group)), first_of(d.group)))
            if one != other:
                root[other] = one
    return [replace(d, group=first_of(d.group)) if d.group in root else d for d in demonstrations]


def deduplicate(demonstrations: Sequence[Demonstration]) -> tuple[list[Demonstration], list[Demonstration]]:
    """(one of each, the repetitions): same prompt, completion, references and expert, word for word.

    The first is kept, or of several groups the one of the first name, so that the order of rows decides no split.
    """
    places: dict[tuple[Any, ...], int] = {}
    kept: list[Demonstration] = []
    repeated: list[Demonstration] = []
    for d in demonstrations:
        place = places.setdefault(_content(d), len(kept))
        if place == len(kept):
            kept.append(d)
        elif d.group < kept[place].group:
            repeated.append(kept[place])
            kept[place] = d
        else:
            repeated.append(d)
    return kept, repeated


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
    leaks: list[Leak] = []
    # What all prompts say is no sign of a leak; a small split alone could not tell what that is.
    everything = list({d.key: prompt_text(d.prompt) for name in NAMES for d in parts[name]}.values())
    for index, source_split in enumerate(NAMES[:-1]):
        held = [(d, name) for name in reversed(NAMES[index + 1 :]) for d in parts[name]]
        if not held:
            continue
        exact = _repeated(parts[source_split], held, source_split)
        leaks += exact
        gone = {id(leak.source) for leak in exact}
        rest = [d for d in parts[source_split] if id(d) not in gone]
        # One comparison per prompt, not per row: completions do not leak prompts.
        texts = {d.key: prompt_text(d.prompt) for d in rest}
        chosen = list({d.key: (d, name) for d, name in reversed(held)}.values())
        others = [prompt_text(d.prompt) for d, _ in chosen]
        keys, near = list(texts), find_near(list(texts.values()), others, threshold, corpus=everything)
        found = {keys[pair.row]: pair for pair in near}
        for d in rest:
            if (pair := found.get(d.key)) is not None:
                other, name = chosen[pair.other]
                leaks.append(Leak(d, other, source_split, name, "near-duplicate", pair.similarity))
    return leaks


def _repeated(
    source: Iterable[Demonstration], held_out: Sequence[tuple[Demonstration, str]], source_split: str
) -> list[Leak]:
    """Demonstrations of ``source`` whose prompt or group is among the ``held_out`` ones, each with its split."""
    known: dict[tuple[str, str], tuple[Demonstration, str]] = {}
    for d, split in reversed(held_out):
        known["same prompt", d.key] = known["same group", d.group] = (d, split)
    leaks = []
    for d in source:
        kind = next((kind for kind in (("same prompt", d.key), ("same group", d.group)) if kind in known), None)
        if kind is not None:
            leaks.append(Leak(d, known[kind][0], source_split, known[kind][1], kind[0], 1.0))
    return leaks


def refuse_learned(train: Iterable[Demonstration], held_out: Iterable[Demonstration], name: str) -> None:
    """Raise ``SplitError`` where a clone made elsewhere learned, from the file ``name``, what it would be judged on.

    Near-duplicates are measured, not refused: such a clone cannot be trained again.
    """
    if leaks := _repeated(train, [(d, "") for d in held_out], ""):
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


def without_leaks(parts: Parts, leaks: Iterable[Leak]) -> tuple[dict[str, list[Demonstration]], int]:
    """The parts without the demonstrations that leak, and how many were left out. Test is never touched."""
    gone = {id(leak.source) for leak in leaks}
    kept = {name: [d for d in parts[name] if id(d) not in gone] for name in NAMES}
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
