"""How much of each source is learned: its limit, its weight, and general rows beside the demonstrations.

All three choose by content, so that neither the order of rows nor further rows change what was chosen before: the rows
of a dialogue go together. What is held out is never touched by a weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.earlier import rows_before
from sft.demonstrations.plain_text import quoting
from sft.demonstrations.splits import find_leaks
from sft.errors import SplitError
from sft.runs.hashes import fingerprint

if TYPE_CHECKING:
    from sft.demonstrations.formats import Reading
    from sft.demonstrations.readings import Readings
    from sft.recipes import Recipe
    from sft.recipes.data_fields import SourceEntry

__all__ = ["Amounts", "Replayed", "Weighed", "limited", "measured_out"]


def _by_file(sources: Sequence[SourceEntry], readings: Sequence[Reading]) -> dict[str, int]:
    """File -> the number of the source that it was read for; of two the first."""
    found: dict[str, int] = {}
    for number, (_, reading) in enumerate(zip(sources, readings, strict=True)):
        for d in reading.demonstrations:
            if d.source is not None:
                found.setdefault(d.source.file, number)
    return found


def limited(
    rows: Sequence[Demonstration], sources: Sequence[SourceEntry], readings: Sequence[Reading]
) -> Sequence[Demonstration]:
    """``rows`` without those that are more than their source's limit, in the order given."""
    limits = {number: source.limit for number, source in enumerate(sources) if source.limit is not None}
    if not limits:
        return rows
    home = _by_file(sources, readings)
    ranked: dict[int, list[tuple[str, int]]] = {number: [] for number in limits}
    for place, d in enumerate(rows):
        if d.source is not None and (number := home.get(d.source.file)) in limits:
            ranked[number].append((fingerprint([d.id, d.key]), place))
    gone = {place for number, limit in limits.items() for _, place in sorted(ranked[number])[limit:]}
    return [d for place, d in enumerate(rows) if place not in gone]


@dataclass(frozen=True, slots=True)
class Weighed:
    """Training rows as weights leave them: those ``kept``, how often each is learned where that is more than once,
    and how many were left out ("thinned").
    """

    kept: Sequence[Demonstration]
    times: dict[str, int]
    thinned: int


def _weighed(rows: Sequence[Demonstration], sources: Sequence[SourceEntry], readings: Sequence[Reading]) -> Weighed:
    """Training rows by the weights of their sources.

    A weight of 2.3 goes through each row twice and through three tenths of them once more; 0.3 keeps three tenths.
    """
    weights = {number: source.weight for number, source in enumerate(sources) if source.weight != 1}
    if not weights:
        return Weighed(rows, {}, 0)
    home = _by_file(sources, readings)
    kept: list[Demonstration] = []
    times: dict[str, int] = {}
    for dialogue in _dialogues(rows):
        first = dialogue[0]
        weight = weights.get(home.get(first.source.file, -1), 1.0) if first.source is not None else 1.0
        count = int(weight) + (_place(dialogue[-1].content_hash) < weight - int(weight))
        if count:
            kept += dialogue
        if count > 1:
            times |= dict.fromkeys((d.id for d in dialogue), count)
    return Weighed(kept, times, len(rows) - len(kept))


def _dialogues(rows: Sequence[Demonstration]) -> Iterator[list[Demonstration]]:
    """The rows that were read from one line, together."""
    together: list[Demonstration] = []
    for d in rows:
        if together and (d.source is None or d.source != together[0].source):
            yield together
            together = []
        together.append(d)
    if together:
        yield together


def _place(content: str) -> float:
    """Where the row falls between 0 and 1; of nothing else that is chosen by content."""
    digest = hashlib.blake2b(f"weight\x00{content}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class Replayed:
    """General rows: those ``taken``, and how many of the file repeat another, leak, or were not needed ("spare")."""

    taken: tuple[Demonstration, ...] = ()
    repeated: int = 0
    leaked: int = 0
    spare: int = 0


def _replayed(
    recipe: Recipe,
    general: Sequence[Demonstration],
    parts: Mapping[str, Sequence[Demonstration]],
    learned: int,
) -> Replayed:
    """So many of the ``general`` rows that they are the recipe's share of an epoch, beside ``learned`` others.

    Those whose prompt is held out, or close to one that is, are never taken, whatever the recipe lets leak. Raises
    ``SplitError`` where there are too few.
    """
    section = recipe.demonstrations.replay
    if section is None:
        return Replayed()
    once = {d.content_hash: d for d in general}
    for d in parts["train"]:
        once.pop(d.content_hash, None)
    ranked = sorted(once.values(), key=lambda d: fingerprint(["replay", d.id]))
    wanted = round(section.share / (1 - section.share) * learned)
    taken: list[Demonstration] = []
    seen = 0
    while len(taken) < wanted and seen < len(ranked):  # no more than are needed are compared with what is held out
        some = ranked[seen : seen + wanted - len(taken)]
        seen += len(some)
        gone = _giving_away(some, parts, recipe.split.near_threshold)
        taken += [d for d in some if d.content_hash not in gone]
    if len(taken) < wanted:
        most = int(1000 * len(taken) / (len(taken) + learned)) / 1000
        apart = f" that repeat nothing and are not close to what is held out, of {len(general):,}"
        there = f"{len(taken):,}{apart if len(taken) < len(general) else ''}"
        remedy = f"write {most:g} or less, or name more rows" if most else "name more rows"
        raise SplitError(
            f"demonstrations.replay.share: {section.share:g} asks for {wanted:,} rows beside {learned:,}, and "
            f"{section.path} has {there}; {remedy}"
        )
    return Replayed(tuple(taken), len(general) - len(once), seen - len(taken), len(ranked) - seen)


def _giving_away(
    general: Sequence[Demonstration], parts: Mapping[str, Sequence[Demonstration]], threshold: float
) -> set[str]:
    """Contents of those of ``general`` that would give a held-out prompt or completion away."""
    held_out = {name: part for name, part in parts.items() if name != "train"}
    leaks = find_leaks({"train": general, **held_out}, threshold=threshold)
    return quoting(general, held_out) | {leak.source.content_hash for leak in leaks if leak.source_split == "train"}


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each source is learned, and which general rows beside them."""

    weighed: Weighed
    replayed: Replayed

    @property
    def fates(self) -> dict[str, int]:
        """Fate -> how many rows, or passes, have it by a weight or as general rows."""
        general = self.replayed
        return {
            "thinned": self.weighed.thinned,
            "repeated": sum(times - 1 for times in self.weighed.times.values()),
            "replayed": len(general.taken),
            "spare": general.spare,
            "duplicate": general.repeated,
            "leaked": general.leaked,
        }


def measured_out(recipe: Recipe, found: Readings, placed: Mapping[str, Sequence[Demonstration]]) -> Amounts:
    """Training rows by the weights of their sources, and general rows beside them. Raises ``SplitError``.

    ``placed``: every split's rows, without those that leak.
    """
    weighed = _weighed(placed["train"], recipe.demonstrations.sources, found.training)
    learned = len(weighed.kept) + sum(times - 1 for times in weighed.times.values())
    general = found.general.demonstrations if found.general is not None else ()
    # What a run before this one held out stays out of training, by whatever door.
    earlier = rows_before(recipe) if general else None
    held_out = {"validation": [*placed["validation"], *(earlier.held_out if earlier is not None else ())]}
    return Amounts(weighed, _replayed(recipe, general, {**placed, **held_out}, learned))
