"""What is in a set of demonstrations, before anything is trained on it: counts, lengths, repetitions, leaks.

Needs no tokenizer: lengths are in words and characters. Every finding says what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sft.demonstrations import Demonstration
from sft.errors import DemonstrationsError, SplitError
from sft.formats import Reading
from sft.splits import Leak, deduplicate, leak_error

__all__ = ["Audit", "Conflict", "Lengths", "audit"]

QUANTILES = (0, 50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Quantiles (percent -> value) of one kind of text, in ``words`` and ``characters``."""

    words: dict[str, int]
    characters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Conflict:
    """One prompt with different completions. ``experts``: how many named experts wrote them."""

    where: tuple[str, ...]
    completions: tuple[str, ...]
    experts: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings. ``duplicates``: rows that repeat another word for word; ``splits``: split name -> count.

    ``undivided``: why no split could be made, if none could. ``examples`` of conflicts are the first few.
    """

    path: str
    format: str
    rows: int
    demonstrations: int
    unrolled: int
    rejected: int
    problems: tuple[str, ...]
    ignored_columns: tuple[str, ...]
    prompts: int
    groups: int
    experts: dict[str, int]
    prompt_lengths: Lengths | None
    completion_lengths: Lengths | None
    duplicates: int
    conflicts: int
    conflict_examples: tuple[Conflict, ...]
    splits: dict[str, int]
    undivided: str
    leaks: tuple[Leak, ...]
    leaks_refused: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; leaks as the addresses of their pairs."""
        value = {name: getattr(self, name) for name in self.__slots__ if name != "leaks"}
        value["prompt_lengths"] = self.prompt_lengths and asdict(self.prompt_lengths)
        value["completion_lengths"] = self.completion_lengths and asdict(self.completion_lengths)
        value["conflict_examples"] = [asdict(conflict) for conflict in self.conflict_examples]
        value["leaks"] = [
            {
                "source": leak.source.address,
                "source_split": leak.source_split,
                "held_out": leak.held_out.address,
                "split": leak.split,
                "kind": leak.kind,
                "similarity": leak.similarity,
            }
            for leak in self.leaks
        ]
        return value

    def to_text(self) -> str:
        """For a person: aligned lines, then each finding with what to do."""
        rows: list[tuple[str, str]] = [
            (self.path, self.format.replace("_", "/")),
            ("rows", f"{self.rows:,}" + (f", of them {self.rejected:,} rejected" if self.rejected else "")),
            ("demonstrations", f"{self.demonstrations:,}" + _unrolled(self.unrolled)),
            ("prompts", f"{self.prompts:,} different, in {self.groups:,} group{'s' if self.groups != 1 else ''}"),
        ]
        if set(self.experts) - {""}:
            named = [f"{name or '(none named)'} {count:,}" for name, count in list(self.experts.items())[:6]]
            rows.append(("experts", ", ".join(named) + (" ..." if len(self.experts) > 6 else "")))
        for name, lengths in (("prompt", self.prompt_lengths), ("completion", self.completion_lengths)):
            if lengths is not None:
                rows += [(f"{name} words", _quantiles(lengths.words)), ("  characters", _quantiles(lengths.characters))]
        if self.splits:
            rows.append(("split", ", ".join(f"{name} {count:,}" for name, count in self.splits.items())))
        width = max(len(name) for name, _ in rows[1:])
        lines = [f"{rows[0][0]} ({rows[0][1]})", *(f"  {name:<{width}}  {text}" for name, text in rows[1:])]
        return "\n".join([*lines, *(f"\n{text}" for text in self._findings())])

    def _findings(self) -> list[str]:
        found = []
        if self.ignored_columns:
            found.append(
                f"Columns that no demonstration uses: {', '.join(self.ignored_columns)}. "
                "If one of them matters, name it under demonstrations.columns."
            )
        if self.duplicates:
            rows = "row repeats" if self.duplicates == 1 else "rows repeat"
            found.append(
                f"{self.duplicates:,} {rows} another word for word; a run leaves repetitions out unless "
                "demonstrations.duplicates is keep."
            )
        if self.conflicts:
            shown = "".join(
                f"\n  {', '.join(c.where[:3])}: " + " | ".join(_short(text) for text in c.completions[:3])
                for c in self.conflict_examples
            )
            prompts = "prompt has" if self.conflicts == 1 else "prompts have"
            found.append(
                f"{self.conflicts:,} {prompts} different completions. The clone learns a mixture; if they are by "
                f"different experts, choose one with demonstrations.expert.{shown}"
            )
        if self.undivided:
            found.append(self.undivided)
        if self.leaks:
            shown = "".join(f"\n  {leak}" for leak in self.leaks[:5])
            more = f"\n  ... and {len(self.leaks) - 5:,} more" if len(self.leaks) > 5 else ""
            fate = "A run refuses them" if self.leaks_refused else "A run leaves them out of training"
            rows = "demonstration" if len(self.leaks) == 1 else "demonstrations"
            found.append(
                f"{len(self.leaks):,} {rows} would give held-out prompts away. {fate} "
                f"(split.near_duplicates).{shown}{more}"
            )
        if self.demonstrations and not (self.duplicates or self.conflicts or self.leaks or self.undivided):
            found.append("Nothing to mend." if not self.rejected else "Nothing else to mend.")
        return found


def audit(
    path: str,
    reading: Reading,
    *,
    parts: Mapping[str, Sequence[Demonstration]] | None = None,
    leaks: Sequence[Leak] = (),
    leaks_refused: bool = True,
    undivided: str = "",
) -> Audit:
    """Look through what was read. ``parts`` and ``leaks``: the split a run would make, and what it finds in it."""
    demonstrations = reading.demonstrations
    experts: dict[str, int] = {}
    for d in demonstrations:
        experts[d.expert] = experts.get(d.expert, 0) + 1
    kept, repeated = deduplicate(demonstrations)
    conflicts = _conflicts(kept)
    return Audit(
        path=path,
        format=reading.format,
        rows=reading.rows,
        demonstrations=len(demonstrations),
        unrolled=reading.unrolled,
        rejected=len(reading.rejected),
        problems=tuple(map(str, reading.problems)),
        ignored_columns=reading.ignored,
        prompts=len({d.key for d in demonstrations}),
        groups=len({d.group for d in demonstrations}),
        experts=dict(sorted(experts.items(), key=lambda item: (-item[1], item[0]))),
        prompt_lengths=_lengths([[m.content for m in d.prompt] for d in demonstrations]),
        completion_lengths=_lengths([[d.completion] for d in demonstrations]),
        duplicates=len(repeated),
        conflicts=len(conflicts),
        conflict_examples=tuple(conflicts[:3]),
        splits={name: len(part) for name, part in (parts or {}).items()},
        undivided=undivided,
        leaks=tuple(leaks),
        leaks_refused=leaks_refused,
    )


def demand(reading: Reading, finding: Audit, *, keep_going: bool = False) -> None:
    """Raise what would stop a run: rejected rows (unless ``keep_going``), no possible split, refused leaks."""
    if reading.problems and not keep_going:
        summary = f"{finding.rejected} of {finding.rows} rows cannot become demonstrations"
        raise DemonstrationsError(reading.problems, summary)
    if finding.undivided:
        raise SplitError(finding.undivided)
    if finding.leaks and finding.leaks_refused:
        raise leak_error(finding.leaks, shown=0)


def _lengths(texts: Sequence[Sequence[str]]) -> Lengths | None:
    if not texts:
        return None
    words = np.array([sum(len(part.split()) for part in parts) for parts in texts])
    characters = np.array([sum(map(len, parts)) for parts in texts])

    def quantiles(values: np.ndarray) -> dict[str, int]:
        found = np.percentile(values, QUANTILES, method="higher")
        return {str(q): int(value) for q, value in zip(QUANTILES, found, strict=True)}

    return Lengths(quantiles(words), quantiles(characters))


def _conflicts(demonstrations: Sequence[Demonstration]) -> list[Conflict]:
    """Prompts with more than one completion, the most disputed first."""
    by_prompt: dict[str, list[Demonstration]] = {}
    for d in demonstrations:
        by_prompt.setdefault(d.key, []).append(d)
    found = []
    for rows in by_prompt.values():
        completions = dict.fromkeys(d.completion for d in rows)  # references are not trained on
        if len(completions) > 1:
            where = tuple(d.address for d in rows)
            found.append(Conflict(where, tuple(completions), len({d.expert for d in rows} - {""})))
    return sorted(found, key=lambda conflict: -len(conflict.completions))


def _quantiles(values: Mapping[str, int]) -> str:
    names = {"0": "shortest", "50": "median", "90": "90 %", "99": "99 %", "100": "longest"}
    return ", ".join(f"{names[q]} {value:,}" for q, value in values.items())


def _unrolled(count: int) -> str:
    return f", {count:,} more than rows because every expert turn of a dialogue is one" if count else ""


def _short(text: str, width: int = 48) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
