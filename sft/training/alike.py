"""Processes on several machines fit one clone only where they stand on the same: packages, recipe, base model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sft.errors import RunError
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.hashes import differences
from sft.runs.machine import versions
from sft.runs.processes import everyones, rank_and_world

#: What differs -> what to do about it.
_REMEDIES = {
    "package": "install the same on every machine",
    "recipe": "put the recipe on a disk that all machines share",
    "base": "put the model on a disk that all machines share, or copy it to each anew",
}


def demand_alike(recipe: Recipe, base: Mapping[str, Any] | None = None) -> None:
    """Raise ``RunError``, in every process, where one stands on something else than the first. All come here.

    ``base``: what is known of the base model, which is read otherwise, by one process of each machine.
    """
    if rank_and_world()[1] == 1:
        return
    first, *others = everyones(_stands_on(recipe, base))
    for number, other in enumerate(others, 1):
        known = {name: part for name, part in first.items() if name in other}
        for name, (ours, theirs) in differences(known, other).items():
            kind, _, what = name.partition(".")
            raise RunError(
                f"process {number} has {kind} {what} as {theirs}, and the first one as {ours}; {_REMEDIES[kind]}"
            )


def _stands_on(recipe: Recipe, base: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    packages = {name: version.partition("+")[0] for name, version in versions().items() if name != "python"}
    written = {key: value for key, value in recipe.to_dict().items() if key not in ("name", "description", "publish")}
    found: dict[str, Mapping[str, Any]] = {"package": packages, "recipe": written}
    if base is not None:
        found["base"] = base
    elif os.environ.get("LOCAL_RANK", "0") == "0":
        from sft.policies.weights import identity_of

        found["base"] = identity_of(source_of(recipe.model))
    return found
