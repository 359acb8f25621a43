"""Fitting a clone, and measuring it: the whole loop and its first half."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

from sft.errors import UserError
from sft.verbs.opened import OpenedRun, open_run
from sft.verbs.quiet import at_work
from sft.verbs.recipe_given import Given, Settings, folder_of, resolved_of

if TYPE_CHECKING:
    from sft.fidelity.scorecard import Scorecard
    from sft.recipes import Recipe
    from sft.runs.run import Run
    from sft.training.fitting import Fitted

__all__ = ["run", "tell_trackers", "train"]


def run(
    recipe: Given,
    *,
    settings: Settings = (),
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    keep_going: bool = False,
    allow_change: bool = False,
    profile: str | None = None,
) -> OpenedRun:
    """Check, split, train, evaluate and report as ``recipe`` says; the run, with its scorecard and its report.

    ``recipe``: a file, a shipped name (``sft recipes``), a mapping of its sections, or a ``Recipe``. ``settings``:
    overrides, ``{"training.learning_rate": 1e-4}``. ``output``: the run's folder, runs/NAME unless given. ``resume``:
    go on with the run that is there; ``allow_change``: though recipe, data, split, template or base is another.
    ``keep_going``: leave out rows that cannot become demonstrations. ``profile``: "fast", "standard" or "full"; how
    much is measured, if not as the recipe says. Raises ``UserError``: one sentence with what to do.
    """
    from sft.runs.processes import is_main

    with _fitted(
        recipe, settings, output, resume=resume, keep_going=keep_going, allow_change=allow_change, measured=True
    ) as (one, as_is, fitted):
        from sft.evaluation.evaluate import evaluate_clone
        from sft.reports.report import render

        card = evaluate_clone(one, as_is, profile=profile)
        if is_main():
            render(one)
            tell_trackers(one, card, as_is)
    return _opened(one, fitted)


def train(
    recipe: Given,
    *,
    settings: Settings = (),
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    keep_going: bool = False,
    allow_change: bool = False,
) -> OpenedRun:
    """The first half of :func:`run`: the run with its clone.

    Its ``fitted`` says how the fit ended; None where it had been fitted before.

    Raises ``UserError``: one sentence with what to do.
    """
    with _fitted(recipe, settings, output, resume=resume, keep_going=keep_going, allow_change=allow_change) as (
        one,
        _,
        fitted,
    ):
        pass
    return _opened(one, fitted)


def _opened(run: Run, fitted: Fitted | None) -> OpenedRun:
    found = open_run(run.path)
    found.fitted = fitted
    return found


def tell_trackers(run: Run, card: Scorecard, recipe: Recipe) -> None:
    """Tell the trackers of ``training.report_to`` what was measured."""
    from sft.reports.trackers import tell

    further = recipe.training.model_extra or {}
    tell(run, card, recipe.training.trackers, further.get("run_name"), further.get("project"))


@contextmanager
def _fitted(
    given: Given,
    settings: Settings,
    output: str | PathLike[str] | None,
    *,
    resume: bool,
    keep_going: bool,
    allow_change: bool,
    measured: bool = False,
) -> Iterator[tuple[Run, Recipe, Fitted | None]]:
    """The run that is begun or gone on with, its recipe, and its fit; None where it was trained already.

    ``measured``: what could not measure it afterwards is refused before it is fitted.
    """
    from sft.demonstrations.thoughts import as_begun
    from sft.runs.processes import hand_on, is_main, rank_and_world, say

    resolved = resolved_of(given, settings)
    folder = folder_of(given, resolved, None if output is None else str(output))
    with at_work():
        from sft.training.fit import fit
        from sft.training.start import begin

        if not resume:
            say(resolved.to_text())
        if allow_change and not resume:
            raise UserError("--allow-change: goes with --resume, for a new run has nothing to change from")
        if measured and resolved.recipe.fidelity.engine == "vllm" and rank_and_world()[1] > 1:
            raise UserError(
                "fidelity.engine: is vllm, which one process asks; launch `sft train` with several, and then run `sft "
                "evaluate` alone"
            )
        with begin(resolved, folder, resume=resume, keep_going=keep_going, allow_change=allow_change) as one:
            recipe = as_begun(one, resolved.recipe)
            # Each machine of a cluster looks by itself whether the run is there, and a disk may show it to one later.
            resume = bool(hand_on(resume if is_main() else None))
            yield one, recipe, fit(one, recipe, resume=resume)
