"""Verbs that make a clone: demo, run, train, plan, preview. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from sft.cli.printing import print_report, quiet
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.recipes import Resolved
    from sft.runs.run import Run


__all__ = ["demo", "plan", "preview", "run", "train"]


def demo(options: argparse.Namespace) -> None:
    """The shipped recipe, from nothing or from where it was."""
    options.recipe, options.resume, options.keep_going, options.allow_change = "demo", True, False, False
    run(options)


def run(options: argparse.Namespace) -> None:
    """Check, split, train, evaluate, report."""
    from sft.runs.processes import is_main, say
    from sft.training.fit import fit

    resolved = resolved_recipe(options)
    folder = _folder(options, resolved)
    if options.verb == "run" and not options.resume:
        say(resolved.to_text())
    with quiet(), _begun(options, resolved, folder) as one:
        fit(one, resolved.recipe, resume=options.resume)
        from sft.evaluation.evaluate import evaluate_clone

        card = evaluate_clone(one, resolved.recipe, profile=options.profile)
        if is_main():
            print_report(one, card)


def train(options: argparse.Namespace) -> None:
    """The first half of a run."""
    from sft.runs.processes import is_main, say
    from sft.training.fit import fit

    resolved = resolved_recipe(options)
    folder = _folder(options, resolved)
    if not options.resume:
        say(resolved.to_text())
    with quiet(), _begun(options, resolved, folder) as one:
        fitted = fit(one, resolved.recipe, resume=options.resume)
        if fitted is not None and is_main():
            loss = "" if fitted.eval_loss is None else f", validation loss {fitted.eval_loss:.4f}"
            print(f"{folder}: {fitted.steps} steps{loss}; measure it with: sft evaluate {folder}")


def preview(options: argparse.Namespace) -> None:
    """The first rows as the model will see them."""
    from sft.demonstrations.selection import gather

    resolved = resolved_recipe(options)
    with quiet():
        gathered = gather(resolved.recipe, keep_going=True)
        from sft.policies.policy import load_renderer
        from sft.policies.preview import preview as drawn
        from sft.recipes.sources import source_of

        model = resolved.recipe.model
        renderer = load_renderer(source_of(model), model.template)
        rows = renderer.render_all(gathered.splits.train[: options.rows])[0]
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(drawn(rows, renderer.tokenizer, color=color))


def plan(options: argparse.Namespace) -> None:
    """What a fit will take, before it does."""
    from sft.training.plan import command

    resolved = resolved_recipe(options)
    with quiet():
        made = command.plan(resolved.recipe, options.recipe, options.set, probe=options.probe)
    print(json.dumps(made.to_dict(), ensure_ascii=False) if options.json else made.to_text())


def resolved_recipe(options: argparse.Namespace) -> Resolved:
    from sft import recipes

    return recipes.resolve(options.recipe, options.set, to_follow=True)


def _folder(options: argparse.Namespace, resolved: Resolved) -> Path:
    return options.output or Path("runs") / (resolved.recipe.name or Path(options.recipe).stem)


def _begun(options: argparse.Namespace, resolved: Resolved, folder: Path) -> AbstractContextManager[Run]:
    """The run that the options begin, or go on with."""
    from sft.training.start import begin

    if options.allow_change and not options.resume:
        raise UserError("--allow-change: goes with --resume, for a new run has nothing to change from")
    return begin(
        resolved,
        folder,
        resume=options.resume,
        keep_going=options.keep_going,
        allow_change=options.allow_change,
    )
