"""Verbs that make a clone: demo, run, train, plan, preview. What is heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from sft.cli.door import as_json
from sft.cli.printing import print_run
from sft.verbs.quiet import quiet


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
    said = {one.partition("=")[0] for one in options.set}
    options.set = [*(one for one in _SMALLER if one.partition("=")[0] not in said), *options.set]
    options.output = folder / "r0"
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
    from sft.verbs import fit

    print_run(options, fit.run(options.recipe, profile=options.profile, **_how(options)))


def train(options: argparse.Namespace) -> None:
    """The first half of a run."""
    from sft.runs.processes import is_main
    from sft.verbs import fit

    one = fit.train(options.recipe, **_how(options))
    if options.json and is_main():
        print(as_json(one.fit_to_dict()))
    elif one.fitted is not None and is_main():
        loss, before = one.fitted.eval_loss, one.loss_before
        said = "" if loss is None else f", validation loss {loss:.4f}"
        if loss is not None and before is not None:
            said += f", before the first {before:.4f}"
            if loss >= before:
                said += " (the fit has made it no better: lower training.learning_rate)"
        print(f"{one.path}: {one.fitted.steps} steps{said}; measure it with: sft evaluate {one.path}")


def _how(options: argparse.Namespace) -> dict[str, Any]:
    """What ``run`` and ``train`` are told beside the recipe."""
    names = ("output", "resume", "keep_going", "allow_change")
    return {"settings": options.set} | {name: getattr(options, name) for name in names}


def preview(options: argparse.Namespace) -> None:
    """The first rows as the model will see them."""
    from sft.demonstrations.selection import gather
    from sft.verbs.recipe_given import resolved_of

    resolved = resolved_of(options.recipe, options.set)
    with quiet():
        gathered = gather(resolved.recipe, keep_going=True)
        from sft.policies.policy import load_renderer
        from sft.policies.rendered import preview as drawn
        from sft.recipes.sources import source_of

        renderer = load_renderer(source_of(gathered.recipe.model), gathered.recipe)
        rows = renderer.render_all(gathered.splits.train[: options.rows])[0]
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(drawn(rows, renderer.tokenizer, color=color))
    target = shlex.join([options.recipe, *(word for one in options.set for word in ("--set", one))])
    if left := gathered.ledger.left_out(target):
        print(left)


def plan(options: argparse.Namespace) -> None:
    """What a fit will take, before it does."""
    from sft.verbs import before

    made = before.plan(options.recipe, settings=options.set, probe=options.probe)
    print(as_json(made.to_dict()) if options.json else made.to_text())
