"""What is in a set of demonstrations, before anything is trained on it: counts, lengths, repetitions, leaks.

Needs no tokenizer: lengths are in words and characters. Every finding says what to do about it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sft.demonstrations.conflicts import Conflicts
from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.demonstrations.formats import Reading
from sft.demonstrations.splits import Leak, deduplicate, leak_error
from sft.errors import DemonstrationsError, SplitError

__all__ = ["Audit", "ConflictingPrompt", "Handling", "Lengths", "audit", "demand"]

QUANTILES = (0, 50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Quantiles (percent -> value) of one kind of text, in ``words`` and ``characters``."""

    words: dict[str, int]
    characters: dict[str, int]


@dataclass(frozen=True, slots=True)
class ConflictingPrompt:
    """One prompt with different completions. ``experts``: how many named experts wrote them.

    ``where``: the address of every row. ``writers``: for each completion, the named experts who wrote it.
    """

    prompt: str
    where: tuple[str, ...]
    completions: tuple[str, ...]
    writers: tuple[tuple[str, ...], ...]
    experts: int


@dataclass(frozen=True, slots=True)
class Handling:
    """What a recipe makes of prompts with different completions.

    ``expert``: whom it clones alone, if anyone. ``conflicts``: its ``demonstrations.conflicts``. ``outvoted``: rows
    that a majority leaves out, or would; ``tied``: prompts where no answer has more votes than another.
    ``inner``: prompts that the one expert answered in different ways. ``others``: completions of other experts for
    ``others_prompts`` held-out prompts. ``agreement``: how alike the completions are.
    """

    conflicts: str = "keep"
    expert: str | None = None
    outvoted: int = 0
    tied: int = 0
    inner: int = 0
    others: int = 0
    others_prompts: int = 0
    agreement: Conflicts | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings. ``duplicates``: rows that repeat another word for word; ``splits``: split name -> count.

    ``undivided``: why no split could be made, if none could. ``disputed``: prompts that different named experts
    answered differently. ``conflict_examples`` are the first few, the most disputed first. ``headline``: which score
    the completions ask for, where it is another than the recipe's.
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
    disputed: int
    conflict_examples: tuple[ConflictingPrompt, ...]
    handling: Handling
    splits: dict[str, int]
    undivided: str
    leaks: tuple[Leak, ...]
    leaks_refused: bool
    headline: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; leaks as the addresses of their pairs."""
        value = {name: getattr(self, name) for name in self.__slots__ if name != "leaks"}
        value["prompt_lengths"] = self.prompt_lengths and asdict(self.prompt_lengths)
        value["completion_lengths"] = self.completion_lengths and asdict(self.completion_lengths)
        value["conflict_examples"] = [asdict(conflict) for conflict in self.conflict_examples]
        value["handling"] = asdict(self.handling)
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
            more = f", and {len(self.experts) - 6:,} more" if len(self.experts) > 6 else ""
            rows.append(("experts", ", ".join(named) + more))
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
                "If one of them matters, name it under demonstrations.columns (expert: who wrote the completion; "
                "group: what must stay in one split)."
            )
        if self.duplicates:
            rows = "row repeats" if self.duplicates == 1 else "rows repeat"
            found.append(
                f"{self.duplicates:,} {rows} another word for word; a run leaves repetitions out unless "
                "demonstrations.duplicates is keep."
            )
        found += self._of_conflicts()
        if self.headline:
            found.append(self.headline)
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
        mixed = self.handling.inner if self.handling.expert is not None else self.conflicts
        if self.demonstrations and not (self.duplicates or mixed or self.leaks or self.undivided):
            found.append("Nothing to mend." if not self.rejected else "Nothing else to mend.")
        return found

    def _of_conflicts(self) -> list[str]:
        """Prompts with different completions, some of them in full, and what the recipe does or could do."""
        if not self.conflicts:
            return []
        handling = self.handling
        text = f"{self.conflicts:,} {'prompt has' if self.conflicts == 1 else 'prompts have'} different completions"
        if self.disputed:
            text += f", {'all' if self.disputed == self.conflicts else f'{self.disputed:,}'} by different experts"
        if (alike := handling.agreement) is not None and alike.agreement is not None:
            figure = alike.agreement
            interval = f" [{figure.low:.1f}, {figure.high:.1f}]" if figure.low is not None else ""
            some = f"; from {figure.n:,} of the prompts" if figure.n < self.conflicts else ""
            text += (
                f". Two answers to one prompt are {figure.value:.1f}{interval} alike on average "
                f"(chrF, 100 is the same text{some})"
            )
        shown = "".join(f"\n{_side_by_side(conflict)}" for conflict in self.conflict_examples)
        return [f"{text}.{shown}", "\n  ".join(self._ways_out())]

    def _ways_out(self) -> list[str]:
        handling = self.handling
        if handling.expert is not None:
            lines = [f"demonstrations.expert: {handling.expert} is cloned, and nobody else."]
            if handling.others:
                answers = f"{handling.others:,} answer{'s' if handling.others != 1 else ''}"
                prompts = f"{handling.others_prompts:,} held-out prompt{'s' if handling.others_prompts != 1 else ''}"
                lines.append(f"The clone is compared with the other experts' {answers} to {prompts} too.")
            if handling.inner:
                prompts = "1 prompt" if handling.inner == 1 else f"{handling.inner:,} prompts"
                lines.append(f"This expert too answered {prompts} in different ways; the clone learns a mixture there.")
            return lines
        ties = f" ({handling.tied:,} votes are tied: the answer most like the others wins)" if handling.tied else ""
        if handling.conflicts == "majority":
            return [
                "demonstrations.conflicts: majority trains on the answer that most gave to a prompt and leaves "
                f"{handling.outvoted:,} rows out{ties}. Held-out prompts keep every answer."
            ]
        lines = ["The clone learns a mixture of all answers (demonstrations.conflicts: keep). Instead,"]
        lines.append(
            "demonstrations.conflicts: majority would train on the answer that most gave to a prompt, leaving "
            f"{handling.outvoted:,} rows out{ties};"
        )
        named = [name for name in self.experts if name]
        if len(named) > 1:
            lines.append(
                f"demonstrations.expert: {named[0]} would clone one expert, and compare the clone with the others on "
                "held-out prompts."
            )
        else:
            lines.append(
                "demonstrations.columns.expert says who wrote what, if a column does: then one expert can be cloned."
            )
        return lines


def audit(
    path: str,
    reading: Reading,
    *,
    parts: Mapping[str, Sequence[Demonstration]] | None = None,
    leaks: Sequence[Leak] = (),
    leaks_refused: bool = True,
    undivided: str = "",
    handling: Handling | None = None,
    headline: str = "",
) -> Audit:
    """Look through what was read. ``parts`` and ``leaks``: the split a run would make, and what it finds in it.

    ``handling``: what the recipe makes of several experts; unless given, every answer is trained on. ``headline``: what
    there is to say of the score that the completions ask for.
    """
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
        prompt_lengths=_lengths([m.content for m in d.prompt] for d in demonstrations),
        completion_lengths=_lengths([d.completion] for d in demonstrations),
        duplicates=len(repeated),
        conflicts=len(conflicts),
        disputed=sum(conflict.experts > 1 for conflict in conflicts),
        conflict_examples=tuple({c.completions: c for c in reversed(conflicts)}.values())[:-4:-1],
        handling=handling or Handling(),
        splits={name: len(part) for name, part in (parts or {}).items()},
        undivided=undivided,
        leaks=tuple(leaks),
        leaks_refused=leaks_refused,
        headline=headline,
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


def _lengths(texts: Iterable[Sequence[str]]) -> Lengths | None:
    words, characters = array("q"), array("q")
    for parts in texts:
        words.append(len(parts[0].split()) if len(parts) == 1 else sum(len(part.split()) for part in parts))
        characters.append(sum(map(len, parts)))
    if not words:
        return None

    def quantiles(values: array[int]) -> dict[str, int]:
        found = np.percentile(np.frombuffer(values, dtype=np.int64), QUANTILES, method="higher")
        return {str(q): int(value) for q, value in zip(QUANTILES, found, strict=True)}

    return Lengths(quantiles(words), quantiles(characters))


def _conflicts(demonstrations: Sequence[Demonstration]) -> list[ConflictingPrompt]:
    """Prompts with more than one completion, the most disputed first."""
    by_prompt: dict[str, list[Demonstration]] = {}
    for d in demonstrations:
        by_prompt.setdefault(d.key, []).append(d)
    found = []
    for rows in by_prompt.values():
        if len(rows) == 1:
            continue
        written: dict[str, dict[str, None]] = {}  # references are not trained on
        for d in rows:
            written.setdefault(d.completion, {}).update({d.expert: None} if d.expert else {})
        if len(written) > 1:
            found.append(
                ConflictingPrompt(
                    prompt=prompt_text(rows[0].prompt),
                    where=tuple(d.address for d in rows),
                    completions=tuple(written),
                    writers=tuple(map(tuple, written.values())),
                    experts=len({d.expert for d in rows} - {""}),
                )
            )
    return sorted(found, key=lambda conflict: (-conflict.experts, -len(conflict.completions)))


def _side_by_side(conflict: ConflictingPrompt, answers: int = 5) -> str:
    """The prompt with its address, then a line per answer under the names of those who gave it."""
    names = [", ".join(writers[:2]) + (", ..." if len(writers) > 2 else "") for writers in conflict.writers]
    width = max(len(_short(name, 32)) for name in names[:answers])
    rows = len(conflict.where) - 1
    lines = [f"  {_short(conflict.prompt, 72)} ({conflict.where[0]} and {rows:,} more row{'s' if rows != 1 else ''})"]
    lines += [
        f"    {_short(name, 32):<{width}}{'  ' if width else ''}{_short(text, 100 - width)}"
        for name, text in list(zip(names, conflict.completions, strict=True))[:answers]
    ]
    if len(conflict.completions) > answers:
        lines.append(f"    ... and {len(conflict.completions) - answers:,} more")
    return "\n".join(lines)


def _quantiles(values: Mapping[str, int]) -> str:
    names = {"0": "shortest", "50": "median", "90": "90 %", "99": "99 %", "100": "longest"}
    return ", ".join(f"{names[q]} {value:,}" for q, value in values.items())


def _unrolled(count: int) -> str:
    return f", {count:,} more than rows because every expert turn of a dialogue is one" if count else ""


def _short(text: str, width: int = 48) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."
