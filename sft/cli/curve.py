"""The verb that asks whether more demonstrations would help. What is heavy is imported inside."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from sft.cli.door import as_json
from sft.cli.printing import print_report
from sft.errors import UserError
from sft.verbs.quiet import quiet

ABOUT = """\
sft curve recipe.yaml --output curves/mine              an eighth, a quarter, half and all of the demonstrations
sft curve recipe.yaml --output curves/mine --seeds 3    three clones of each: what more would bring, with an interval

Nested subsets of the training prompts, the same recipe, the same validation prompts; it takes about twice as long as
the recipe's run, times the seeds. The same command goes on where it was. The test prompts are looked at once, at the
end, by the clone of all demonstrations: curves/mine/all is a run, and its report has the chapter."""


def add_options(one: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of ``sft curve``. ``count``: the type of whole numbers."""
    one.add_argument("--output", "-o", type=Path, help="the folder of all its runs (default: curves/NAME)")
    one.add_argument("--seeds", type=count, default=1, metavar="N",
                     help="clones of each size; a forecast needs 3 (default: 1)")  # fmt: skip
    one.add_argument("--json", action="store_true", help="print JSON")


def curve(options: argparse.Namespace) -> None:
    """Fit what is missing, measure it, and say what it comes to."""
    from sft import recipes
    from sft.runs.processes import rank_and_world

    if rank_and_world()[1] > 1:
        raise UserError("sft curve: fits its clones one after another in one process; start it without a launcher")
    resolved = recipes.resolve(options.recipe, options.set, to_follow=True)
    place = options.output or Path("curves") / (resolved.recipe.name or Path(options.recipe).stem)
    with quiet():
        from sft.fidelity.stored import read_scorecard
        from sft.gathering.subsets import Subsets
        from sft.reports.sections.size_curve import to_text

        subsets = Subsets(resolved, place, seeds=options.seeds)
        subsets.fill()
        run, found = subsets.finish()
        if options.json:
            print(as_json(found.to_dict()))
            return
        print_report(run, read_scorecard(run))
        print(f"\n{to_text(found)}")
