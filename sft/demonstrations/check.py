"""``sft check``: the contract, the ledger, duplicates, conflicts and leaks of a file or a recipe, without torch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft import recipes
from sft.demonstrations import audit, conflicts, formats, selection, splits
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.formats import Reading
from sft.errors import SourceError, SplitError
from sft.recipes import Recipe
from sft.recipes.requirements import refuse_unfit

__all__ = ["NO_MODEL", "CheckResult", "check_demonstrations"]

#: Stands for the model in the recipe around a file that is checked by itself.
NO_MODEL = "not-needed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was read and what was found in it.

    ``recipe``: what was checked, or the defaults around a file, whose model is :data:`NO_MODEL`. ``train``: what would
    be trained on; empty where the demonstrations cannot be divided.
    """

    reading: Reading
    audit: audit.Audit
    recipe: Recipe
    train: tuple[Demonstration, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return self.audit.to_dict()

    def to_text(self) -> str:
        """For a person."""
        return self.audit.to_text()

    def demand(self, *, keep_going: bool = False) -> None:
        """Raise the ``UserError`` that would stop a run, if there is one."""
        audit.demand(self.reading, self.audit, keep_going=keep_going)


def check_demonstrations(
    target: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    rejected: Path | None = None,
    refuse: Callable[[Recipe], None] = refuse_unfit,
) -> CheckResult:
    """Check ``target``: a file of demonstrations, ``data:NAME``, or a recipe (a .yaml file or a shipped name).

    A file is divided as a recipe's defaults would. ``rejected``: where rows that cannot become
    demonstrations are written, with the reasons. ``refuse``: raises what training would say of a recipe.
    Raises ``SourceError`` or ``RecipeError``.
    """
    recipe = _recipe(target, format, columns or {}, overrides, refuse)
    collecting = gc.isenabled()
    gc.disable()  # no cycles in hundreds of thousands of rows; looking for some takes a tenth of the time
    try:
        return _looked_through(recipe, rejected)
    finally:
        if collecting:
            gc.enable()


def _looked_through(recipe: Recipe, rejected: Path | None) -> CheckResult:
    readings, ready_made = selection.read(recipe)
    reading = _joined([*readings, *ready_made])
    if rejected is not None:
        formats.write_rejected(rejected, reading.rejected)
    division, undivided = None, ""
    try:
        division = selection.divide(recipe, readings, ready_made)
    except SplitError as error:
        undivided = str(error)
    parts = None
    if division is not None:
        parts = division.parts
        if recipe.split.near_duplicates == "remove":
            parts, _ = splits.without_leaks(parts, division.leaks)
    held_out = (part for part in (recipe.split.validation, recipe.split.test) if isinstance(part, str))
    finding = audit.audit(
        ", ".join([*recipe.demonstrations.paths, *held_out]),
        reading,
        parts=parts,
        leaks=division.leaks if division else (),
        leaks_refused=recipe.split.near_duplicates != "remove",
        undivided=undivided,
        handling=_handling(recipe, reading, division, parts),
    )
    return CheckResult(reading, finding, recipe, tuple(parts["train"]) if parts else ())


def _handling(
    recipe: Recipe,
    reading: Reading,
    division: selection.Division | None,
    parts: Mapping[str, Sequence[Demonstration]] | None,
) -> audit.Handling:
    """What the recipe makes of several experts, or could make."""
    section = recipe.demonstrations
    prompts, disputed = _differing(reading.demonstrations)
    if not disputed:
        return audit.Handling(section.conflicts, section.expert)

    rows, _ = splits.deduplicate([d for d in reading.demonstrations if d.key in disputed])
    agreement = replace(conflicts.conflicts(rows, section.conflicts), prompts=prompts)
    others = selection.held_out_others(division.passed_over, parts) if division and parts else ()
    if section.expert is not None:
        return audit.Handling(
            expert=section.expert,
            inner=len(_differing(d for d in rows if d.expert == section.expert)[1]),
            others=len(others),
            others_prompts=len({d.prompt for d in others}),
            agreement=agreement,
        )
    if section.conflicts == "majority" and division is not None:
        return audit.Handling("majority", None, division.outvoted, division.tied, agreement=agreement)
    fitted = rows
    if division is not None:
        fitted = [d for name in ("train", "validation") for d in division.parts[name] if d.key in disputed]
    ballots = selection.ballots(fitted)
    return audit.Handling(
        section.conflicts,
        outvoted=sum(len(same) for answers in ballots for same in answers[1:]),
        tied=sum(len(answers) > 1 and len(answers[0]) == len(answers[1]) for answers in ballots),
        agreement=agreement,
    )


def _differing(rows: Iterable[Demonstration]) -> tuple[int, set[str]]:
    """How many prompts there are, and the keys of those that have different completions."""
    completions: dict[str, str] = {}
    differing = {d.key for d in rows if completions.setdefault(d.key, d.completion) != d.completion}
    return len(completions), differing


def _joined(readings: Sequence[Reading]) -> Reading:
    """Several files as one, in the order given."""
    return Reading(
        demonstrations=tuple(d for reading in readings for d in reading.demonstrations),
        problems=tuple(problem for reading in readings for problem in reading.problems),
        rejected=tuple(row for reading in readings for row in reading.rejected),
        rows=sum(reading.rows for reading in readings),
        unrolled=sum(reading.unrolled for reading in readings),
        format=", ".join(dict.fromkeys(reading.format for reading in readings)),
        ignored=tuple(dict.fromkeys(column for reading in readings for column in reading.ignored)),
    )


def _recipe(
    target: str,
    format: str,
    columns: Mapping[str, str],
    overrides: Sequence[str],
    refuse: Callable[[Recipe], None],
) -> Recipe:
    """The recipe named, or the defaults around one file."""
    shipped = {name for name, _, _ in recipes.shipped()}
    if target.endswith((".yaml", ".yml")) or (target in shipped and not Path(target).exists()):
        if columns or format != "auto":
            raise SourceError(f"{target}: is a recipe; set demonstrations.format and demonstrations.columns in it")
        recipe = recipes.resolve(target, overrides, to_follow=True).recipe
        refuse(recipe)
        return recipe
    if format not in formats.FORMATS:
        raise SourceError(f"--format {format}: is no format; choose one of {', '.join(formats.FORMATS)}")
    strangers = set(columns) - set(recipes.Columns.model_fields)
    if strangers:
        known = ", ".join(recipes.Columns.model_fields)
        raise SourceError(f"--column {sorted(strangers)[0]}: is no field of a demonstration; fields are {known}")
    section = recipes.Demonstrations(path=target, format=format, columns=recipes.Columns(**columns))  # type: ignore[arg-type]
    base = recipes.Recipe(model=recipes.Model(name=NO_MODEL), demonstrations=section)
    if not overrides:
        return base
    raise SourceError(f"{target}: --set changes a recipe; check the recipe that names this file instead")
