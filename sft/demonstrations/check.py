"""``sft check``: the contract, the ledger, duplicates, conflicts and leaks of a file or a recipe, without torch.

Needs no tokenizer: lengths are in words and characters. Every finding says what to do about it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sft import recipes
from sft.demonstrations import conflicts, few_groups, formats, headlines, selection, splits, thoughts
from sft.demonstrations.both_sides import OnBothSides
from sft.demonstrations.conflicts import Handling, SeveralAnswers
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.formats import Reading
from sft.demonstrations.splits import Leak
from sft.demonstrations.template_marks import TemplateMarks
from sft.errors import SourceError, SplitError
from sft.recipes import Recipe
from sft.recipes.requirements import refuse_unfit

__all__ = ["NO_MODEL", "Audit", "Lengths", "audit", "check_demonstrations"]

#: Stands for the model in the recipe around a file that is checked by itself.
NO_MODEL = "not-needed"
#: Percent -> what it is called.
QUANTILES = {0: "shortest", 50: "median", 90: "90 %", 99: "99 %", 100: "longest"}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Quantiles (percent -> value) of one kind of text, in ``words`` and ``characters``."""

    words: dict[str, int]
    characters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was read, and the findings. ``duplicates``: rows that repeat another word for word.

    ``splits``: split name -> count; ``undivided``: why no split could be made, if none could. ``several``: prompts
    with different completions. ``both_sides``: completions that stand in training and are held out too.
    ``few_groups``: why there are few groups, where there are.
    ``headline``: which score the completions ask for, where it is another than the recipe's. ``recipe``: what was
    checked, or the defaults around a file, whose model is :data:`NO_MODEL`. ``train``: what would be trained on, if the
    demonstrations can be divided. ``thinking``: completions with a thought before them.
    """

    path: str
    reading: Reading = field(repr=False)
    recipe: Recipe | None = field(repr=False)
    train: tuple[Demonstration, ...] = field(repr=False)
    prompts: int
    groups: int
    experts: dict[str, int]
    prompt_lengths: Lengths | None
    completion_lengths: Lengths | None
    duplicates: int
    several: SeveralAnswers
    handling: Handling
    both_sides: OnBothSides | None
    template_marks: TemplateMarks
    few_groups: str
    splits: dict[str, int]
    undivided: str
    leaks: tuple[Leak, ...]
    leaks_refused: bool
    headline: str = ""
    thinking: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; leaks as the addresses of their pairs."""
        read = self.reading
        return {
            "path": self.path,
            "format": read.format,
            "rows": read.rows,
            "demonstrations": len(read.demonstrations),
            "unrolled": read.unrolled,
            "rejected": len(read.rejected),
            "problems": tuple(map(str, read.problems)),
            "ignored_columns": read.ignored,
            "notes": read.notes,
            **{name: getattr(self, name) for name in self.__slots__[4:]},
            "prompt_lengths": self.prompt_lengths and asdict(self.prompt_lengths),
            "completion_lengths": self.completion_lengths and asdict(self.completion_lengths),
            "several": asdict(self.several),
            "conflicts": self.several.conflicts,
            "handling": asdict(self.handling),
            "both_sides": self.both_sides and self.both_sides.to_dict(),
            "template_marks": self.template_marks.to_dict(),
            "leaks": [
                {
                    "source": leak.source.address,
                    "source_split": leak.source_split,
                    "held_out": leak.held_out.address,
                    "split": leak.split,
                    "kind": leak.kind,
                    "similarity": leak.similarity,
                }
                for leak in self.leaks
            ],
        }

    def to_text(self) -> str:
        """For a person: aligned lines, then each finding with what to do."""
        read = self.reading
        rejected = f", of them {len(read.rejected):,} rejected" if read.rejected else ""
        more = "more than rows because every expert turn of a dialogue is one"
        unrolled = f", {read.unrolled:,} {more}" if read.unrolled else ""
        rows: list[tuple[str, str]] = [
            ("rows", f"{read.rows:,}{rejected}"),
            ("demonstrations", f"{len(read.demonstrations):,}{unrolled}"),
            ("prompts", f"{self.prompts:,} different, in {self.groups:,} group{'s' if self.groups != 1 else ''}"),
        ]
        if set(self.experts) - {""}:
            named = [f"{name or '(none named)'} {count:,}" for name, count in list(self.experts.items())[:6]]
            more = f", and {len(self.experts) - 6:,} more" if len(self.experts) > 6 else ""
            rows.append(("experts", ", ".join(named) + more))
        for name, lengths in (("prompt", self.prompt_lengths), ("completion", self.completion_lengths)):
            if lengths is not None:
                rows += [(f"{name} words", _quantiles(lengths.words)), ("  characters", _quantiles(lengths.characters))]
        if self.thinking:
            mode = self.recipe.demonstrations.thoughts if self.recipe else None
            becomes = f"; {mode}: {thoughts.MODES[mode]}" if mode else ""
            rows.append(("thoughts", f"before {self.thinking:,} completions{becomes}"))
        if self.splits:
            rows.append(("split", ", ".join(f"{name} {count:,}" for name, count in self.splits.items())))
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{self.path} ({read.format.replace('_', '/')})",
            *(f"  {name:<{width}}  {text}" for name, text in rows),
        ]
        return "\n".join([*lines, *(f"\n{text}" for text in self._findings())])

    def _findings(self) -> list[str]:
        found = list(self.reading.notes)
        if self.reading.ignored:
            found.append(
                f"Columns that no demonstration uses: {', '.join(self.reading.ignored)}. "
                "If one of them matters, name it under demonstrations.columns (expert: who wrote the completion; "
                "group: what must stay in one split)."
            )
        if self.duplicates:
            rows = "row repeats" if self.duplicates == 1 else "rows repeat"
            found.append(
                f"{self.duplicates:,} {rows} another word for word; a run leaves repetitions out unless "
                "demonstrations.duplicates is keep."
            )
        found += self.several.in_words(self.handling, self.experts)
        if self.headline:
            found.append(self.headline)
        found += self.template_marks.in_words()
        if self.undivided or self.few_groups:
            groups = f"{self.groups:,} group{'s are' if self.groups != 1 else ' is'} few, and intervals are as wide as"
            found.append(self.undivided or f"{groups} if there were no more prompts: {self.few_groups}.")
        if self.leaks:
            shown = "".join(f"\n  {leak}" for leak in self.leaks[:5])
            more = f"\n  ... and {len(self.leaks) - 5:,} more" if len(self.leaks) > 5 else ""
            fate = "A run refuses them" if self.leaks_refused else "A run leaves them out of training"
            rows = "demonstration" if len(self.leaks) == 1 else "demonstrations"
            found.append(
                f"{len(self.leaks):,} {rows} would give held-out prompts away. {fate} "
                f"(split.near_duplicates).{shown}{more}"
            )
        if self.both_sides is not None and self.both_sides.count:
            found.append(str(self.both_sides))
        if self.reading.demonstrations and not self._is_faulty():
            found.append("Nothing to mend." if not self.reading.rejected else "Nothing else to mend.")
        return found

    def _is_faulty(self) -> bool:
        """Whether anything was found that somebody should look at."""
        mixed = self.handling.expert is None and self.several.conflicts
        shared = self.both_sides is not None and self.both_sides.count
        marks = self.template_marks.in_words()
        return bool(self.duplicates or mixed or self.leaks or self.undivided or self.few_groups or shared or marks)

    def demand(self, *, keep_going: bool = False) -> None:
        """Raise what would stop a run: rejected rows (unless ``keep_going``), no possible split, refused leaks."""
        if not keep_going:
            self.reading.demand()
        if self.undivided:
            raise SplitError(self.undivided)
        if self.leaks and self.leaks_refused:
            raise splits.leak_error(self.leaks, shown=0)


def _quantiles(values: Mapping[str, int]) -> str:
    return ", ".join(f"{QUANTILES[int(q)]} {value:,}" for q, value in values.items())


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
    recipe: Recipe | None = None,
    thinking: int = 0,
) -> Audit:
    """Look through what was read. ``parts`` and ``leaks``: the split a run would make, and what it finds in it.

    ``handling``: what the recipe makes of several experts; unless given, every answer is trained on. ``headline``: what
    there is to say of the score that the completions ask for.
    """
    demonstrations = reading.demonstrations
    kept, repeated = splits.deduplicate(demonstrations)
    experts = Counter(d.expert for d in demonstrations)
    return Audit(
        path=path,
        reading=reading,
        recipe=recipe,
        train=tuple((parts or {}).get("train", ())),
        prompts=len({d.key for d in demonstrations}),
        groups=len({d.group for d in demonstrations}),
        experts=dict(sorted(experts.items(), key=lambda item: (-item[1], item[0]))),
        prompt_lengths=_lengths([m.content for m in d.prompt] for d in demonstrations),
        completion_lengths=_lengths([d.completion] for d in demonstrations),
        duplicates=len(repeated),
        several=conflicts.SeveralAnswers.among(kept),
        handling=handling or Handling(),
        template_marks=TemplateMarks.among(demonstrations),
        few_groups=few_groups.cause(kept),
        both_sides=OnBothSides.among(splits.without_leaks(parts, leaks)[0]) if parts else None,
        splits={name: len(part) for name, part in (parts or {}).items()},
        undivided=undivided,
        leaks=tuple(leaks),
        leaks_refused=leaks_refused,
        headline=headline,
        thinking=thinking,
    )


def _lengths(texts: Iterable[Sequence[str]]) -> Lengths | None:
    words, characters = array("q"), array("q")
    for parts in texts:
        words.append(sum(len(part.split()) for part in parts))
        characters.append(sum(map(len, parts)))
    if not words:
        return None

    def quantiles(values: array[int]) -> dict[str, int]:
        found = np.percentile(np.frombuffer(values, dtype=np.int64), list(QUANTILES), method="higher")
        return {str(q): int(value) for q, value in zip(QUANTILES, found, strict=True)}

    return Lengths(quantiles(words), quantiles(characters))


def check_demonstrations(
    target: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    encoding: str | None = None,
    rejected: Path | None = None,
    refuse: Callable[[Recipe], None] = refuse_unfit,
) -> Audit:
    """Check ``target``: a file of demonstrations, ``data:NAME``, or a recipe (a .yaml file or a shipped name).

    A file is divided as a recipe's defaults would. ``rejected``: where rows that cannot become
    demonstrations are written, with the reasons. ``refuse``: raises what training would say of a recipe.
    Raises ``SourceError`` or ``RecipeError``.
    """
    recipe = _recipe(target, format, columns or {}, encoding, overrides, refuse)
    with formats.no_collection():
        return _looked_through(recipe, rejected)


def _looked_through(recipe: Recipe, rejected: Path | None) -> Audit:
    readings, ready_made = selection.read(recipe)
    reading = formats.joined([*readings, *ready_made])
    if rejected is not None:
        formats.write_rejected(rejected, reading.rejected)
    division, parts, undivided = None, None, ""
    removed = recipe.split.near_duplicates == "remove"
    thinking = sum(bool(d.thought) for d in reading.demonstrations)
    try:
        recipe, (readings, ready_made) = thoughts.settled(recipe, readings, ready_made)
        reading = formats.joined([*readings, *ready_made])
        division = selection.divide(recipe, readings, ready_made)
        undivided = headlines.refusal(
            recipe.fidelity.headline, [d for name in ("validation", "test") for d in division.parts[name]]
        )
        parts = splits.without_leaks(division.parts, division.leaks)[0] if removed else division.parts
    except (SplitError, thoughts.Undecided) as error:
        undivided = str(error)
    held_out = (part for part in (recipe.split.validation, recipe.split.test) if isinstance(part, str))
    return audit(
        ", ".join([*recipe.demonstrations.paths, *held_out]),
        reading,
        parts=parts,
        leaks=division.leaks if division else (),
        leaks_refused=not removed,
        undivided=undivided,
        handling=_handling(recipe, reading, division, parts),
        headline=headlines.suggestion(
            [d.completion for d in reading.demonstrations], recipe.fidelity.headline, recipe.fidelity.checker
        ),
        recipe=recipe,
        thinking=thinking,
    )


def _handling(
    recipe: Recipe,
    reading: Reading,
    division: selection.Division | None,
    parts: Mapping[str, Sequence[Demonstration]] | None,
) -> Handling:
    """What the recipe makes of several experts, or could make."""
    section = recipe.demonstrations
    prompts = conflicts.by_prompt(reading.demonstrations)
    disputed = {key for key, rows in prompts.items() if len({d.completion for d in rows}) > 1}
    if not disputed:
        return Handling(section.conflicts, section.expert)
    rows, _ = splits.deduplicate([d for d in reading.demonstrations if d.key in disputed])
    between = {key for key in disputed if len({d.expert for d in prompts[key]} - {""}) > 1}
    agreement = conflicts.conflicts([d for d in rows if d.key in between], section.conflicts)
    agreement = replace(agreement, prompts=len(prompts))
    if section.expert is not None:
        others = selection.held_out_others(division.passed_over, parts) if division and parts else ()
        return Handling(
            expert=section.expert,
            others=len(others),
            others_prompts=len({d.prompt for d in others}),
            agreement=agreement,
        )
    if section.conflicts == "majority" and division is not None:
        return Handling("majority", None, division.outvoted, division.tied, agreement=agreement)
    fitted = rows
    if division is not None:
        fitted = [d for name in ("train", "validation") for d in division.parts[name] if d.key in disputed]
    ballots = conflicts.ballots(fitted)
    return Handling(
        section.conflicts,
        outvoted=sum(len(same) for answers in ballots for same in answers[1:]),
        tied=sum(len(answers) > 1 and len(answers[0]) == len(answers[1]) for answers in ballots),
        agreement=agreement,
    )


def _recipe(
    target: str,
    format: str,
    columns: Mapping[str, str],
    encoding: str | None,
    overrides: Sequence[str],
    refuse: Callable[[Recipe], None],
) -> Recipe:
    """The recipe named, or the defaults around one file."""
    shipped = {name for name, _, _ in recipes.shipped()}
    if target.endswith((".yaml", ".yml")) or (target in shipped and not Path(target).exists()):
        if columns or encoding or format != "auto":
            raise SourceError(f"{target}: is a recipe; set format, columns and encoding under demonstrations in it")
        recipe = recipes.resolve(target, overrides, to_follow=True).recipe
        refuse(recipe)
        return recipe
    if format not in formats.FORMATS:
        raise SourceError(f"--format {format}: is no format; choose one of {', '.join(formats.FORMATS)}")
    if strangers := set(columns) - set(recipes.Columns.model_fields):
        known = ", ".join(recipes.Columns.model_fields)
        raise SourceError(f"--column {sorted(strangers)[0]}: is no field of a demonstration; fields are {known}")
    if overrides:
        raise SourceError(f"{target}: --set changes a recipe; check the recipe that names this file instead")
    if encoding and not recipes.is_encoding(encoding):
        raise SourceError(f"--encoding {encoding}: is no encoding of text; give one such as cp1252 or utf-16")
    named = recipes.Columns(**columns)
    section = recipes.Demonstrations(path=target, format=format, columns=named, encoding=encoding)  # type: ignore[arg-type]
    return recipes.Recipe(model=recipes.Model(name=NO_MODEL), demonstrations=section)
