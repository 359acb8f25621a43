"""What values some keys of the trainer may have, read from its installed source without importing it.

The names of trackers are the keys of a dictionary, and what a schedule of the learning rate can be told are the
parameters of a function: neither is an enumeration, and both decide only when everything else is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sft.recipes.engine_fields import source_of

__all__ = ["Schedule", "architectures", "schedules", "trackers"]

#: What the trainer itself hands to a schedule.
_GIVEN = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}


@dataclass(frozen=True, slots=True)
class Schedule:
    """What ``lr_scheduler_kwargs`` may hold for one schedule: names it takes, those it needs, whether it takes any."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]
    open_ended: bool


@lru_cache(maxsize=1)
def trackers() -> tuple[str, ...]:
    """Names that ``report_to`` may hold. Raises ``EngineNotReadable``."""
    return tuple(_keys(source_of("transformers", "integrations/integration_utils.py"), "INTEGRATION_TO_CALLBACK"))


@lru_cache(maxsize=1)
def schedules() -> Mapping[str, Schedule]:
    """``lr_scheduler_type`` -> what it takes. Raises ``EngineNotReadable``."""
    tree = source_of("transformers", "optimization.py")
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    members = next(
        node
        for node in source_of("transformers", "trainer_utils.py").body
        if isinstance(node, ast.ClassDef) and node.name == "SchedulerType"
    )
    names = {
        line.targets[0].id: line.value.value
        for line in members.body
        if isinstance(line, ast.Assign)
        and isinstance(line.targets[0], ast.Name)
        and isinstance(line.value, ast.Constant)
    }
    found = {}
    for key, function in _items(tree, "TYPE_TO_SCHEDULER_FUNCTION"):
        if isinstance(key, ast.Attribute) and isinstance(function, ast.Name) and key.attr in names:
            found[str(names[key.attr])] = _schedule(functions[function.id])
    return found


@lru_cache(maxsize=1)
def architectures() -> frozenset[str]:
    """``model_type`` of every causal language model that needs no code of its own. Raises ``EngineNotReadable``."""
    tree = source_of("transformers", "models/auto/modeling_auto.py")
    return frozenset(_keys(tree, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"))


def _schedule(arguments: ast.arguments) -> Schedule:
    names = [argument.arg for argument in arguments.args]
    needed = names[: len(names) - len(arguments.defaults)]
    return Schedule(
        takes=tuple(name for name in names if name not in _GIVEN),
        needs=tuple(name for name in needed if name not in _GIVEN),
        open_ended=arguments.kwarg is not None,
    )


def _items(tree: ast.Module, name: str) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Keys and values of the dictionary that a module binds to ``name``, or of the pairs it is made from."""
    for statement in tree.body:
        if not (isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name):
            continue
        for node in ast.walk(statement.value):
            if isinstance(node, ast.Dict):
                yield from ((key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None)
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
                yield node.elts[0], node.elts[1]


def _keys(tree: ast.Module, name: str) -> Iterator[str]:
    for key, _ in _items(tree, name):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
