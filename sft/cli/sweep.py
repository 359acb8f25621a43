"""The verb that tries settings by the validation loss. What is heavy is imported inside."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from sft.cli.door import as_json
from sft.errors import UserError
from sft.verbs.quiet import quiet

ABOUT = """\
sft sweep recipe.yaml --grid training.learning_rate=1.0e-4,2.0e-4,5.0e-4 --output sweeps/mine
sft sweep recipe.yaml --grid training.learning_rate=1.0e-4,5.0e-4 --grid adapter.r=8,32

Every combination is fitted; what is worse than the median of the others at the same look at the validation rows is
ended there. Needs optuna (pip install "behavioral-cloning[sweep]"). The same command goes on where it was. The folder
has each fit as a run, the table (sweep.json), a page (sweep.html), and the chosen recipe (recipe.yaml): sft run it.
The test rows are never looked at."""


def add_options(one: argparse.ArgumentParser) -> None:
    """The options of ``sft sweep``."""
    one.add_argument("--grid", action="append", default=[], metavar="KEY=VALUE,VALUE",
                     help="values of one key of training or adapter; repeatable: every combination")  # fmt: skip
    one.add_argument("--output", "-o", type=Path, help="the folder of all its runs (default: sweeps/NAME)")
    one.add_argument("--no-pruning", action="store_false", dest="prune", help="fit every combination to its end")
    one.add_argument("--json", action="store_true", help="print JSON")


def sweep(options: argparse.Namespace) -> None:
    """Fit what is missing, and say which is best."""
    from sft.recipes.grid import grid_of, recipes_of
    from sft.runs.processes import rank_and_world

    if rank_and_world()[1] > 1:
        raise UserError("sft sweep: fits one combination after another in one process; start it without a launcher")
    combinations = recipes_of(options.recipe, options.set, grid_of(options.grid))
    recipe = combinations[0][1].recipe
    place = options.output or Path("sweeps") / (recipe.name or Path(options.recipe).stem)
    with quiet():
        from sft.reports.sweep_page import to_html, to_text
        from sft.runs.run import write_text
        from sft.training.sweep import sweep as fitted

        swept = fitted(combinations, place, prune=options.prune)
        write_text(place / "sweep.html", to_html(swept))
    if options.json:
        print(as_json(asdict(swept)))
        return
    print(f"{to_text(swept)}\n\nRecipe: {place / 'recipe.yaml'}\nPage: {place / 'sweep.html'}")
