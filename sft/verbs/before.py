"""Before anything is trained: what is in the demonstrations, and what a fit will take."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from sft.errors import UserError
from sft.verbs.quiet import quiet
from sft.verbs.recipe_given import Given, Settings, reference_of, refresh, resolved_of, settings_of

if TYPE_CHECKING:
    from sft.demonstrations.audit import Audit
    from sft.recipes import Recipe
    from sft.training.plan.parts import Plan

__all__ = ["check", "plan"]


def check(
    *targets: str | PathLike[str],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    settings: Settings = (),
    rejected: str | PathLike[str] | None = None,
) -> Audit:
    """What is in files of demonstrations, or what a recipe makes of them; needs no torch and no model.

    ``targets``: a recipe; or files of demonstrations, folders, patterns, ``data:NAME``, ``hub:OWNER/NAME``.
    ``columns``: field of a demonstration -> the file's own column, or several in braces: ``"{question}\\n{context}"``.
    ``settings``: overrides of a recipe. ``rejected``: a file for the rows that cannot become demonstrations.
    Findings are no errors: ``audit.demand()`` raises what would stop a run. Raises ``SourceError``, ``RecipeError``.
    """
    from sft.demonstrations.check import check_demonstrations

    if not targets:
        raise UserError("sft.check: of what? Name a file of demonstrations, or a recipe")
    named = [fspath(one) for one in targets]
    refresh(*named)
    return check_demonstrations(
        named,
        format=format,
        columns=columns,
        encoding=encoding,
        overrides=settings_of(settings),
        rejected=None if rejected is None else Path(rejected),
        refuse=_refuse_what_training_would,
    )


def _refuse_what_training_would(recipe: Recipe) -> None:
    """Raise what ``sft train`` would say of the recipe; the trainer is asked only about what it alone knows."""
    from sft.recipes.requirements import refuse_unfit

    refresh(*recipe.demonstrations.paths)
    refuse_unfit(recipe)
    if recipe.training.model_extra or recipe.adapter.model_extra or recipe.adapter.method == "qlora":
        from sft.training.constructing import refuse_what_the_engine_refuses

        refuse_what_the_engine_refuses(recipe)


def plan(recipe: Given, *, settings: Settings = (), probe: bool = True) -> Plan:
    """Rows, tokens, steps, memory (bytes), time (seconds) and disk that fitting ``recipe`` takes on this machine.

    Without ``probe`` no weights are read: memory is computed, and there is no time. Raises ``UserError``.
    """
    resolved = resolved_of(recipe, settings)
    with quiet(), reference_of(recipe) as reference:
        from sft.training.plan import command

        return command.plan(resolved.recipe, reference, settings_of(settings), probe=probe)
