"""Recipes: one YAML file per run, held to its word.

    load, resolve, parse         a recipe with overrides; with the origin of every value; from text
    load_recorded                what a run was made with, as far as it still bears on anything
    as_of_now                    what an earlier release resolved, with the keys that came since
    Recipe                       what it may say (:mod:`sft.recipes.fields`)
    training_arguments, lora_arguments   what the trainer is given
    shipped, launch_files, find, copy, shipped_folder  the recipes that come with the package
    json_schema                  for editors; ``python -m sft.recipes`` prints it

Nothing here imports the trainer: a recipe is checked in a fraction of a second.
"""

from sft.recipes.data_fields import Columns
from sft.recipes.data_rules import fault_of_path, is_encoding
from sft.recipes.fields import Adapter, Demonstrations, Fidelity, Model, Publish, Recipe, Split, Training
from sft.recipes.forwarded import lora_arguments, training_arguments
from sft.recipes.loading import (
    Resolved,
    as_of_now,
    copy,
    find,
    launch_files,
    load,
    load_recorded,
    of_files,
    parse,
    resolve,
    shipped,
    shipped_folder,
)
from sft.recipes.rules import POINTS, SHARES
from sft.recipes.schema import json_schema, schema_text

__all__ = [
    "POINTS",
    "SHARES",
    "Adapter",
    "Columns",
    "Demonstrations",
    "Fidelity",
    "Model",
    "Publish",
    "Recipe",
    "Resolved",
    "Split",
    "Training",
    "as_of_now",
    "copy",
    "fault_of_path",
    "find",
    "is_encoding",
    "json_schema",
    "launch_files",
    "load",
    "load_recorded",
    "lora_arguments",
    "of_files",
    "parse",
    "resolve",
    "schema_text",
    "shipped",
    "shipped_folder",
    "training_arguments",
]  # fmt: skip
