"""Verbs that make a clone: demo, run, train, plan, preview. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sft.cli.collect import refresh
from sft.cli.printing import print_report, quiet
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.recipes import Recipe, Resolved
    from sft.runs.run import Run
    from sft.training.fitting import Fitted


def demo(options: argparse.Namespace) -> None:
    """The shipped recipe, from nothing or from where it was."""
    options.recipe, options.resume, options.keep_going, options.allow_change = "demo", True, False, False
    if options.rounds:
        _demo_rounds(options)
    else:
        run(options)


#: What two cores can fit and measure four times in a quarter of an hour.
_SMALLER = (
    "demonstrations.limit=480",
    "fidelity.max_prompts=100",
    "fidelity.profile=fast",
    "fidelity.systems=[tuned, R, K, P]",
)


def _demo_rounds(options: argparse.Namespace) -> None:
    """The demo's clone, corrected in two rounds by scripted experts, beside a control."""
    folder = Path("runs/demo-rounds") if options.output == Path("runs/demo") else options.output
    options.set, options.output = [*_SMALLER, *options.set], folder / "r0"
    run(options)
    with quiet():
        from sft.demonstrations.stored import load_recipe
        from sft.gathering.curve import put_on_record
        from sft.gathering.scripted import ROUNDS, learned, rounds_without_a_person
        from sft.reports.report import render
        from sft.reports.sections.rounds import to_text
        from sft.runs.run import Run

        first = Run.open(folder / "r0")
        for line in rounds_without_a_person(first, load_recipe(first), folder, learned):
            print(line, flush=True)
        last = Run.open(folder / f"r{ROUNDS}")
        found = put_on_record(last, (), [Run.open(folder / f"r{ROUNDS}-plain")])
    print(f"\n{to_text(found)}\n\nReport: {render(last)}")


def run(options: argparse.Namespace) -> None:
    """Check, split, train, evaluate, report."""
    from sft.runs.processes import is_main

    with _fitted(options, measured=True) as (one, recipe, _):
        from sft.evaluation.evaluate import evaluate_clone

        card = evaluate_clone(one, recipe, profile=options.profile)
        if is_main():
            print_report(one, card)


def train(options: argparse.Namespace) -> None:
    """The first half of a run."""
    from sft.runs.processes import is_main

    with _fitted(options) as (one, _, fitted):
        if fitted is not None and is_main():
            loss = "" if fitted.eval_loss is None else f", validation loss {fitted.eval_loss:.4f}"
            print(f"{one.path}: {fitted.steps} steps{loss}; measure it with: sft evaluate {one.path}")


@contextmanager
def _fitted(options: argparse.Namespace, *, measured: bool = False) -> Iterator[tuple[Run, Recipe, Fitted | None]]:
    """The run that the options begin or go on with, its recipe, and its fit; None where it was trained already.

    ``measured``: what could not measure it afterwards is refused before it is fitted.
    """
    from sft.demonstrations.thoughts import as_begun
    from sft.runs.processes import rank_and_world, say
    from sft.training.fit import fit
    from sft.training.start import begin

    resolved = _resolved(options)
    if not options.resume:
        say(resolved.to_text())
    if options.allow_change and not options.resume:
        raise UserError("--allow-change: goes with --resume, for a new run has nothing to change from")
    if measured and resolved.recipe.fidelity.engine == "vllm" and rank_and_world()[1] > 1:
        raise UserError(
            "fidelity.engine: is vllm, which one process asks; launch `sft train` with several, and then run `sft "
            "evaluate` alone"
        )
    recipe, asked = resolved.recipe, {name: getattr(options, name) for name in ("resume", "keep_going", "allow_change")}
    folder = options.output or Path("runs") / (recipe.name or Path(options.recipe).stem)
    with quiet(), begin(resolved, folder, **asked) as one:
        recipe = as_begun(one, recipe)
        yield one, recipe, fit(one, recipe, resume=options.resume)


def preview(options: argparse.Namespace) -> None:
    """The first rows as the model will see them."""
    from sft.demonstrations.selection import gather

    resolved = _resolved(options)
    with quiet():
        gathered = gather(resolved.recipe, keep_going=True)
        from sft.policies.policy import load_renderer
        from sft.policies.rendered import preview as drawn
        from sft.recipes.sources import source_of

        renderer = load_renderer(source_of(gathered.recipe.model), gathered.recipe)
        rows = renderer.render_all(gathered.splits.train[: options.rows])[0]
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(drawn(rows, renderer.tokenizer, color=color))


def plan(options: argparse.Namespace) -> None:
    """What a fit will take, before it does."""
    resolved = _resolved(options)
    with quiet():
        from sft.training.plan import command

        made = command.plan(resolved.recipe, options.recipe, options.set, probe=options.probe)
    print(json.dumps(made.to_dict(), ensure_ascii=False) if options.json else made.to_text())


def _resolved(options: argparse.Namespace) -> Resolved:
    from sft import recipes

    resolved = recipes.resolve(options.recipe, options.set, to_follow=True)
    refresh(*resolved.recipe.demonstrations.paths)
    return resolved
