"""A recipe as Python has it: a path, a shipped name, a mapping or a :class:`~sft.recipes.Recipe`; and its overrides."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from sft.errors import UserError
from sft.recipes import Recipe, Resolved, parse, resolve, yaml_text

__all__ = ["Given", "Settings", "folder_of", "reference_of", "refresh", "resolved_of", "settings_of"]

#: A recipe: its file, a shipped name, its sections as a mapping, or the object.
Given = str | Path | Mapping[str, Any] | Recipe
#: Overrides of a recipe: ``{"training.learning_rate": 1e-4}``, or texts as ``--set`` takes them.
Settings = Mapping[str, Any] | Sequence[str]


def settings_of(given: Settings) -> list[str]:
    """``KEY=VALUE`` texts, as ``--set`` takes them."""
    if isinstance(given, str):
        raise UserError(f"settings: is the text {given!r}; give a mapping such as {{'training.learning_rate': 1e-4}}")
    if isinstance(given, Mapping):
        return [f"{key}={yaml_text.as_yaml(_plain(value))}" for key, value in given.items()]
    return list(given)


def resolved_of(recipe: Given, settings: Settings = (), *, to_follow: bool = True) -> Resolved:
    """The recipe with the origin of every value; gatherings that it names are brought up to date.

    ``to_follow``: whether it is to be fitted here, and not only read. Raises ``RecipeError`` with every problem.
    """
    overrides = settings_of(settings)
    if isinstance(recipe, str | Path):
        found = resolve(recipe, overrides, to_follow=to_follow)
    else:
        found = parse(_text_of(recipe), "recipe", overrides, to_follow=to_follow)
    refresh(*found.recipe.demonstrations.paths)
    return found


def folder_of(recipe: Given, resolved: Resolved, output: str | Path | None) -> Path:
    """The run's folder: ``output``, else runs/NAME by the recipe's name or its file's. Raises ``UserError``."""
    if output is not None:
        return Path(output)
    name = resolved.recipe.name or (Path(recipe).stem if isinstance(recipe, str | Path) else "")
    if not name:
        raise UserError("output: the recipe has no name to call the folder by; give output='runs/mine', or a name")
    return Path("runs") / name


@contextmanager
def reference_of(recipe: Given) -> Iterator[str]:
    """Inside, a path (or shipped name) that another process finds ``recipe`` at."""
    if isinstance(recipe, str | Path):
        yield str(recipe)
        return
    with tempfile.TemporaryDirectory(prefix="sft-recipe-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(_text_of(recipe), encoding="utf-8")
        yield str(file)


def _text_of(recipe: Mapping[str, Any] | Recipe) -> str:
    return yaml_text.dump(recipe.to_dict() if isinstance(recipe, Recipe) else _plain(recipe))


def _plain(value: Any) -> Any:
    """``value`` with what Python has and YAML has not in YAML's types: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, PurePath):
        return str(value)
    raise UserError(f"recipe: {str(value)[:60]!r} is a {type(value).__name__}; give text, numbers, lists or mappings")


def refresh(*paths: str) -> None:
    """Of those of ``paths`` that are gatherings, bring the demonstrations up to date with what was submitted."""
    for path in paths:
        if (Path(path) / "gathering.json").is_file():
            from sft.gathering import export

            export.refresh(Path(path))
