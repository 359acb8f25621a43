"""Before anything is trained: what is in the demonstrations, and what a fit will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.demonstrations.audit import NO_MODEL, Audit
from sft.errors import UserError
from sft.verbs.quiet import quiet
from sft.verbs.recipe_given import Given, Settings, reference_of, refresh, resolved_of, settings_of

if TYPE_CHECKING:
    from sft.fidelity.findings import KnowledgeGaps
    from sft.recipes import Recipe
    from sft.training.plan.parts import Plan

__all__ = ["AuditWithGaps", "check", "plan"]


@dataclass(frozen=True, slots=True)
class AuditWithGaps(Audit):
    """What was read, the findings, and, where the base model was asked, what it knows of the completions.

    ``gaps``: what training completions say that neither their prompts nor the base model tell; None where that was not
    asked, or something stops a run, which then has nothing to train on.
    """

    gaps: KnowledgeGaps | None = None

    def to_text(self) -> str:
        """For a person: aligned lines, each finding with what to do, and then the gaps."""
        text = Audit.to_text(self)
        return text if self.gaps is None else f"{text}\n\n{self.gaps_to_text()}"

    def gaps_to_text(self) -> str:
        """The sentence about gaps and the worst completions, what is marked between two brackets; "" without any."""
        from sft.reports.sections.knowledge_gaps import gaps_text

        return "" if self.gaps is None else gaps_text(self.gaps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; leaks as the addresses of their pairs."""
        found = Audit.to_dict(self)
        if self.gaps is not None:
            from sft.reports.sections.knowledge_gaps import gaps_sentence

            found["gaps"] = {"sentence": gaps_sentence(self.gaps), **asdict(self.gaps)}
        return found


def check(
    *targets: str | PathLike[str],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    settings: Settings = (),
    rejected: str | PathLike[str] | None = None,
    keep_going: bool = False,
    gaps: bool = False,
) -> AuditWithGaps:
    """What is in files of demonstrations, or what a recipe makes of them; no model is read unless ``gaps`` asks for it.

    ``targets``: a recipe; or files of demonstrations, folders, patterns, ``data:NAME``, ``hub:OWNER/NAME``.
    ``columns``: field of a demonstration -> the file's own column, or several in braces: ``"{question}\\n{context}"``.
    ``settings``: overrides of a recipe. ``rejected``: a file for the rows that cannot become demonstrations.
    ``gaps``: load the recipe's base model and ask it which figures, names and rare words of the training completions
    neither their prompts nor that model tell; ``keep_going``: though some rows cannot become demonstrations.
    Findings are no errors: ``audit.demand()`` raises what would stop a run. Raises ``SourceError``, ``RecipeError``.
    """
    from sft.demonstrations.check import check_demonstrations

    if not targets:
        raise UserError("sft.check: of what? Name a file of demonstrations, or a recipe")
    named = [fspath(one) for one in targets]
    refresh(*named)
    found = check_demonstrations(
        named,
        format=format,
        columns=columns,
        encoding=encoding,
        overrides=settings_of(settings),
        rejected=None if rejected is None else Path(rejected),
        refuse=_refuse_what_training_would,
    )
    known = _gaps(found, keep_going=keep_going) if gaps else None
    return AuditWithGaps(**{one.name: getattr(found, one.name) for one in fields(found)}, gaps=known)


def _gaps(found: Audit, *, keep_going: bool) -> KnowledgeGaps | None:
    """What the base model makes of the training completions; None where something would stop a run."""
    if found.recipe is None or found.recipe.model.name == NO_MODEL:
        raise UserError(f"{found.path}: --gaps asks a base model; check a recipe, which names one")
    try:
        found.demand(keep_going=keep_going)
    except UserError:
        return None
    with quiet():
        from sft.evaluation.gaps_of_base import gaps_of_base

        return gaps_of_base(found.recipe, found.train)


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
