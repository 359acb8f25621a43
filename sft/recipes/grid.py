"""Values of recipe keys to be tried, every combination of them; and what became of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from sft.errors import Problem, RecipeError, UserError
from sft.recipes.complaints import nearest
from sft.recipes.loading import Resolved, resolve
from sft.runs.hashes import fingerprint

__all__ = ["Swept", "Tried", "grid_of", "recipes_of"]

#: What a combination may set: keys of these sections, but for those with the reason why not.
_SECTIONS = ("training", "adapter")
#: Combinations that are tried at most: each is a fit.
MOST = 1000
_OTHER_ROWS = "would change the validation rows, whose losses could not be compared"
_LUCK = "is luck, and the luckiest seed is no better recipe"
_MORE_LOOKS = "says when the validation loss is measured, and more looks have more luck"
_NO_CHANGE = "changes neither the fit nor its validation loss"
_EPOCHS = "training.num_train_epochs"
_NOT = {
    "training.max_length": _OTHER_ROWS,
    "training.too_long": _OTHER_ROWS,
    "training.dialogues": _OTHER_ROWS,
    "training.seed": _LUCK,
    "training.data_seed": _LUCK,
    "training.eval_strategy": "says when the validation loss is measured, and a sweep goes by that",
    "training.eval_steps": _MORE_LOOKS,
    "training.eval_on_start": _MORE_LOOKS,
    "training.eval_delay": _MORE_LOOKS,
    "training.save_steps": _NO_CHANGE,
    "training.logging_steps": _NO_CHANGE,
    "training.report_to": _NO_CHANGE,
    "training.per_device_eval_batch_size": _NO_CHANGE,
    "adapter.start_from": "says what is fitted, and each start has other rows; fit each by itself and compare them",
}


@dataclass(frozen=True, slots=True)
class Tried:
    """One combination. ``loss``: the lowest validation loss, nats per supervised token, None where there was none.

    ``state``: "whole", "stopped early" or "failed", and ``fault`` why. ``looks``: (step, loss) of every look.
    """

    run: str
    values: dict[str, str]
    state: str
    loss: float | None
    steps: int
    looks: tuple[tuple[int, float], ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    """All of them. ``chosen``: the run of the lowest loss among those fitted to their end; ``rows`` were judged on."""

    tried: tuple[Tried, ...]
    chosen: str
    rows: int


def grid_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``KEY=VALUE,VALUE...`` words as key -> values. Raises ``UserError`` for a word or key that is none to try."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, sign, text = word.partition("=")
        key, values = key.strip(), tuple(_parted(text))
        example = "--grid training.learning_rate=1.0e-4,2.0e-4"
        if not sign or not key:
            raise UserError(f"--grid {word[:80]}: is not KEY=VALUE,VALUE; write for example {example}")
        section = key.partition(".")[0]
        if section not in _SECTIONS or not all(key.split(".")[1:] or [""]):
            close = nearest(section, _SECTIONS)
            hint = f"did you mean {close}?" if close and close != section else f"write for example {example}"
            raise UserError(f"--grid {key[:80]}: only keys of training and adapter can be tried by the loss; {hint}")
        if key in _NOT:
            raise UserError(f"--grid {key}: {_NOT[key]}; leave it out")
        if key in found:
            raise UserError(f"--grid {key}: is given twice; list all its values once")
        if "" in values or len(values) < 2:
            given = len([value for value in values if value])
            raise UserError(f"--grid {word[:80]}: gives {given} value{'s' * (given != 1)}; give two or more")
        if len(set(values)) < len(values):
            raise UserError(f"--grid {key}: names {max(values, key=values.count)} twice; list each value once")
        found[key] = values
    if not found:
        raise UserError("--grid: what is to be tried? write for example --grid training.learning_rate=1.0e-4,2.0e-4")
    return found


def _parted(text: str) -> list[str]:
    """The values between commas, where brackets keep a list together."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def recipes_of(
    reference: str, overrides: Sequence[str], grid: Mapping[str, Sequence[str]]
) -> list[tuple[dict[str, str], Resolved]]:
    """Every combination with its recipe, all read before anything starts.

    Raises ``RecipeError`` with every problem of all of them, where it is one of a value of the grid by the word
    ``--grid``; and ``UserError`` where they are too many, or two of them are one recipe.
    """
    count = math.prod(map(len, grid.values()))
    if count > MOST:
        raise UserError(
            f"--grid: {count:,} combinations, each of them a fit; give fewer values, {MOST:,} at most in all"
        )
    points = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    kept = [word for word in overrides if word.partition("=")[0].strip() not in grid]
    found: list[tuple[dict[str, str], Resolved]] = []
    problems: dict[Problem, None] = {}
    for point in points:
        try:
            resolved = resolve(reference, [*kept, *(f"{k}={v}" for k, v in point.items())], to_follow=True)
        except RecipeError as error:
            problems |= dict.fromkeys(_as_given(error.problems, grid))
        else:
            found.append((point, resolved))
    if problems:
        raise RecipeError(list(problems))
    known: dict[str, dict[str, str]] = {}
    for point, resolved in found:
        if _EPOCHS in grid and resolved.recipe.training.max_steps > 0:
            raise UserError(f"--grid {_EPOCHS}: training.max_steps says when a fit ends; leave one of the two out")
        values = fingerprint(_one_zero(resolved.recipe.to_dict()))
        if (other := known.setdefault(values, point)) is not point:
            key = next(key for key in point if point[key] != other[key])
            raise UserError(f"--grid {key}: {other[key]} and {point[key]} are the same value; list it once")
    return found


def _one_zero(value: Any) -> Any:
    """``value`` with whole numbers written as such, and lists in one order: 0 and 0.0 are one setting, and layers are
    the same in any order."""
    if isinstance(value, Mapping):
        return {key: _one_zero(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return sorted((_one_zero(each) for each in value), key=repr)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_given(problems: Iterable[Problem], grid: Mapping[str, Sequence[str]]) -> Iterable[Problem]:
    """``problems`` of a combination, those of its own keys by the word that its user has typed."""
    for problem in problems:
        key = problem.path.removeprefix("--set ")
        if key == problem.path or not any(one == key or one.startswith(f"{key}.") for one in grid):
            yield problem
            continue
        remedy = "leave that value out" if problem.remedy.startswith("remove the line") else problem.remedy
        yield replace(problem, path=f"--grid {key}", remedy=remedy.replace("--set ", "--grid "))
