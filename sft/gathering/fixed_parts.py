"""A recipe whose training, validation and test rows are fixed: written as files, and used as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sft import recipes
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.splits import Splits
from sft.recipes import Recipe, Resolved
from sft.runs.atomic_files import write_jsonl

__all__ = ["lost_rows", "recipe_of_parts"]


def recipe_of_parts(recipe: Recipe, place: Path, made: Splits, *, seed: int = 0, **training: Any) -> Resolved:
    """``recipe`` with ``made`` as its files, which are in the folder ``place``; its name is that of the folder.

    ``seed`` more than the recipe's; ``training``: other values of that section.
    """
    place.mkdir(parents=True, exist_ok=True)
    files = {name: place / f"{name}.jsonl" for name in ("train", "validation", "test")}
    for name, part in made.parts.items():
        write_jsonl(files[name], (_row(d) for d in part))
    values = recipe.to_dict()
    values["name"] = place.name
    section = {key: value for key, value in values["demonstrations"].items() if key not in ("columns", "limit")}
    values["demonstrations"] = section | {"path": str(files["train"]), "format": "prompt_completion"}
    values["split"] = {"validation": str(files["validation"]), "test": str(files["test"]),
                       "near_duplicates": "remove", "near_threshold": recipe.split.near_threshold}  # fmt: skip
    values["training"] |= {"seed": recipe.training.seed + seed, **training}
    return recipes.parse(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), str(place / "recipe.yaml"))


def _row(d: Demonstration) -> dict[str, Any]:
    row = d.to_dict()
    return {key: value for key, value in row.items() if key not in ("id", "source")}


def lost_rows(made: Splits, carried: Splits) -> int:
    """Test rows of ``made`` that are not those of a run that was made of its files."""
    return len({d.content_hash for d in made.test} - {d.content_hash for d in carried.test})
