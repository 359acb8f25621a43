"""One fate for every row that is read: the account of a run's demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FATES", "IMPORT_FATES", "Ledger"]

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
    "thinned": "left out of training by the weight of its source, which is below 1",
    "repeated": "one more pass over a row that is trained on, by the weight of its source",
    "replayed": "a general row, learned beside the demonstrations against forgetting",
    "spare": "a general row that the share of replay did not need",
    "held_out_before": "held out by the run whose adapter was gone on from, so it stays out of training",
    "learned_before": "the run whose adapter was gone on from was fitted to it, so nobody is judged on it",
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
    "private": "kept private where the others were published",
    "automatic": "a program's words",
    "merged": "a commit that joins two histories, whose changes stand in theirs",
    "old": "from before --since, or without a date that says it is not",
    "unprompted": "the expert's, and nothing is known that it answers",
    "short": "fewer words than --min-words",
    "masked": "its prompt is in others' words alone, which --mask-others leaves out",
    "personal": "refused for personal data (reasons in rejected.jsonl)",
    "duplicate": "repeats another one word for word",
    "invalid": "cannot be read, or cannot become a demonstration (reasons in rejected.jsonl)",
}
#: Fates of what a fit or its measuring uses.
_IN_USE = ("trained", "validation", "test", "repeated", "replayed")


@dataclass(frozen=True, slots=True)
class Ledger:
    """One fate per demonstration or rejected row.

    ``rows``: rows read. ``unrolled``: extra demonstrations gained from dialogues with several expert
    turns. ``fates``: fate -> count; they add up to ``rows + unrolled``, but for "repeated", which counts passes and no
    rows; checked here. ``tokens``: fate -> {"prompt": n, "completion": n} for the fates that were rendered.
    """

    rows: int
    unrolled: int
    fates: dict[str, int]
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """What the fates add up to: rows, turns of dialogues beyond one a row, and further passes over rows."""
        return self.rows + self.unrolled + self.fates.get("repeated", 0)

    def left_out(self, target: str) -> str:
        """One sentence: how many of the rows are neither learned nor held out, by fate, and the ``sft check`` of
        ``target`` (a recipe, with its overrides) that says why; "" where all are.
        """
        counts = {fate: n for fate in FATES if fate not in _IN_USE and (n := self.fates.get(fate, 0))}
        if not counts:
            return ""
        left, whole = sum(counts.values()), self.rows + self.unrolled
        by_fate = ", ".join(f"{count:,} {fate.replace('_', ' ')}" for fate, count in counts.items())
        verb = "is" if left == 1 else "are"
        rejected = " --rejected rejected.jsonl" if "invalid" in counts else ""
        what = f"{left:,} of {whole:,} rows {verb} neither in the fit nor held out ({by_fate})"
        return f"{what}; `sft check {target}{rejected}` says why."

    def __post_init__(self) -> None:
        if unknown := set(self.fates) - set(FATES) - set(IMPORT_FATES):
            raise ValueError(f"unknown fates: {', '.join(sorted(unknown))}")
        negative = [fate for fate, count in self.fates.items() if count < 0]
        if negative or min(self.rows, self.unrolled) < 0:
            raise ValueError(f"a ledger counts rows, which cannot be negative: {', '.join(negative) or 'rows'}")
        if strangers := set(self.tokens) - set(self.fates):
            raise ValueError(f"tokens of fates that no row has: {', '.join(sorted(strangers))}")
        total = sum(self.fates.values())
        if total != self.total:
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

    def with_passes(self, count: int) -> Ledger:
        """A ledger in which ``count`` passes over rows are "repeated": passes are no rows, and have no other fate."""
        fates = {fate: number for fate, number in self.fates.items() if fate != "repeated"}
        return Ledger(self.rows, self.unrolled, fates | ({"repeated": count} if count else {}), self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Ledger:
        """Inverse of :meth:`to_dict`."""
        return cls(value["rows"], value["unrolled"], dict(value["fates"]), dict(value.get("tokens", {})))
