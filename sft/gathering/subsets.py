"""Would more demonstrations help? Clones of nested subsets of a recipe's training rows, judged on the same prompts.

A folder holds them: ``DIR/all``, ``DIR/half``, ... each a run; ``DIR/sizes.jsonl``, what was measured of each, from
which the curve can be had again; ``DIR/begun.json``, what it was begun with. What is there is used again, so the same
command goes on where it was. All is judged on the validation rows; the test rows are looked at once, at the end, by the
clone of all demonstrations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.earlier import rows_before
from sft.demonstrations.selection import gather
from sft.demonstrations.stored import load_splits
from sft.errors import RunError, SplitError
from sft.evaluation.evaluate import evaluate_clone, judged_by
from sft.fidelity.compare import Side
from sft.fidelity.size_curve import MeasuredSize, SizeCurve, size_curve_of
from sft.fidelity.stored import read_scorecard
from sft.gathering.fixed_parts import by_their_sources, lost_rows, recipe_of_parts, write_parts
from sft.recipes import Recipe, Resolved
from sft.runs import sealed
from sft.runs.atomic_files import append_jsonl, read_jsonl, write_json
from sft.runs.hashes import fingerprint
from sft.runs.processes import say
from sft.runs.run import Run
from sft.training.fit import fit
from sft.training.several import begun_with, data_of
from sft.training.start import begin, fetch_data

__all__ = ["Subsets"]

#: Share of the training prompts -> what its run is called, fewest first.
SHARES = {1 / 8: "an-eighth", 1 / 4: "a-quarter", 1 / 2: "half", 1.0: "all"}
#: The clone that the report is of: it has to be there, however well it is known.
LAST = SHARES[1.0]
#: A subset has this many training prompts at least; three sizes are a curve.
FEWEST, SIZES = 8, 3
_ROW = TypeAdapter(MeasuredSize)


class Subsets:
    """The runs of a curve in the folder ``place``, made one after another. Raises ``UserError``."""

    def __init__(self, resolved: Resolved, place: Path, *, seeds: int) -> None:
        self.place, self.seeds = place, seeds
        fetch_data(resolved.recipe)
        gathered = gather(resolved.recipe)
        self.recipe, self.parts = gathered.recipe, gathered.splits
        if not self.parts.validation:
            raise SplitError("split.validation: holds nothing, and the curve is measured on it; hold out a tenth")
        prompts = len({d.key for d in self.parts.train})
        self.shares = {share: name for share, name in SHARES.items() if share * prompts >= FEWEST}
        if len(self.shares) < SIZES:
            raise SplitError(
                f"{prompts} prompts are left to train on, and a curve takes {FEWEST * 4}: a quarter, half and all of "
                "them, eight at least in each; gather more first"
            )
        self._refuse_learned()
        self.facts = {"recipe": self.recipe.fingerprint(), "data": data_of(self.parts)}

    def _refuse_learned(self) -> None:
        """Raise ``SplitError`` where the clones would go on from one that has learned rows of the curve already."""
        before, ours = rows_before(self.recipe), {d.key for d in self.parts.train}
        if before is not None and (known := ours & {d.key for d in before.learned}):
            raise SplitError(
                f"adapter.start_from: {before.name} has learned {len(known)} of the {len(ours)} prompts of the curve, "
                "and a clone of fewer would know them all the same; leave start_from out, or bring demonstrations "
                "that it has not seen"
            )

    def fill(self) -> None:
        """Fit and measure what is missing, the smallest first."""
        with begun_with(self.facts, self.place, kept=("rows",)):
            known = {one.run for one in self.measured()}
            for seed in range(self.seeds):
                for share, name in self.shares.items():
                    called = f"{name}-seed-{seed}" if seed else name
                    if called in known and (called != LAST or (self.place / LAST / "manifest.json").exists()):
                        say(f"curve     reused: {called}")
                        continue
                    append_jsonl(self.place / "sizes.jsonl", asdict(self._one(called, share, seed)))

    def _one(self, called: str, share: float, seed: int) -> MeasuredSize:
        """The clone of a share of the training prompts, fitted and judged on the validation rows."""
        made = replace(self.parts, train=tuple(nested(self.parts.train, share, seed)))
        place = write_parts(self.place / "rows", made)
        resolved = recipe_of_parts(self.recipe, place, called, seed=seed, **_looks(self.recipe, share))
        folder = self.place / called
        say(f"curve     {called}: {len(made.train)} demonstrations")
        there = (folder / "manifest.json").exists()
        if there:
            self._refuse_moved(folder, resolved)
        with by_their_sources(place), begin(resolved, folder, resume=there) as run:
            if lost := lost_rows(made, load_splits(run)):
                raise RunError(
                    f"{folder}: {lost} held-out rows cannot be carried over (calls or thoughts of their own); a curve "
                    "is of plain text"
                )
            fit(run, resolved.recipe, resume=there)
            asked = judged_by(resolved.recipe, {"systems": ("tuned", "R", "K", "P")})
            evaluate_clone(run, asked, split="validation", profile="fast", purpose="curve")
            side = Side(run, called)
            keys = {prompt: item.id for prompt, item in side.items.items() if prompt in side.scores}
            return MeasuredSize(
                called,
                len(load_splits(run).train),
                seed,
                {key: side.scores[prompt] for prompt, key in keys.items()},
                {key: side.spent[prompt][0] for prompt, key in keys.items()},
                {key: side.spent[prompt][1] for prompt, key in keys.items()},
                {key: side.items[prompt].cluster for prompt, key in keys.items()},
            )

    def _refuse_moved(self, folder: Path, resolved: Resolved) -> None:
        """Raise ``RunError`` where the clone in ``folder`` was begun when the curve's folder had another name."""
        known = Path(str((Run.open(folder).resolved_recipe.get("split") or {}).get("test")))
        present = Path(str(resolved.recipe.split.test))
        if known != present and known.parent.name == present.parent.name:
            raise RunError(
                f"{self.place}: was begun as {known.parents[2]}, where its clones look for their rows; put it back "
                "there and name it so with --output, or name another folder"
            )

    def measured(self) -> list[MeasuredSize]:
        """What is on file of every clone, the latest of each. Raises ``RunError`` where a row is none."""
        path = self.place / "sizes.jsonl"
        try:
            rows = [_ROW.validate_python(row) for row in read_jsonl(path)] if path.exists() else []
            return list({one.run: one for one in rows}.values())
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
            raise RunError(
                f"{path}: {where}: is not as sft writes it; delete the file, and it is measured again"
            ) from None

    def finish(self) -> tuple[Run, SizeCurve]:
        """The curve on record, and the clone of all demonstrations judged on the test rows, once."""
        measured = [one for one in self.measured() if one.seed < self.seeds]
        largest = self.place / LAST
        with Run.open(largest, writing=True) as run:
            curve = size_curve_of(measured, self.recipe.fidelity.headline, seed=self.recipe.fidelity.seed)
            for path in (run.size_curve_path, self.place / "curve.json"):
                write_json(path, curve.to_dict())
            judged = sealed.there(run, run.scorecard_path) and read_scorecard(run).split == "test"
            if not (judged and run.times_looked("test")):  # the second alone: killed before it was scored
                with run.session():
                    evaluate_clone(run, self.recipe, purpose="report")
            return run, curve


def nested(rows: tuple[Demonstration, ...], share: float, seed: int) -> Iterator[Demonstration]:
    """The rows of a share of the prompts, chosen by content: a smaller share is part of a larger one."""
    keys = sorted({d.key for d in rows}, key=lambda key: fingerprint(["size curve", seed, key]))
    kept = set(keys[: max(1, round(share * len(keys)))])
    return (d for d in rows if d.key in kept)


def _looks(recipe: Recipe, share: float) -> dict[str, Any]:
    """As many looks at the validation rows in fewer steps, where the recipe counts them in steps of its own."""
    section = recipe.training
    if share == 1 or section.max_steps > 0 or not isinstance(section.eval_steps, int):
        return {}
    return {"eval_steps": max(1, round(section.eval_steps * share)), "save_steps": None}
