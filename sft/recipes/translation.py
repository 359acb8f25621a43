"""A configuration of Axolotl, LLaMA-Factory or TRL as a recipe, and what could not be taken along.

What means the same is taken under its name here; what has no place is told, with the reason
(:mod:`sft.recipes.foreign`). Where these trainers do otherwise than a recipe when nothing is said, what they do is
written out. Every recipe that comes out of here is one: what its rules refuse is taken out again, and told too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sft.errors import Problem, RecipeError
from sft.recipes import foreign, foreign_sources, foreign_values, yaml_text
from sft.recipes.fields import section_keys
from sft.recipes.loading import parse
from sft.runs.tokens import token_lines

__all__ = ["Translation", "translated"]

#: Trainer -> the keys that only its configurations have at the top.
_TELLING = {
    "Axolotl": ("base_model", "micro_batch_size", "sequence_len"),
    "LLaMA-Factory": ("finetuning_type", "stage", "cutoff_len", "lora_target", "dataset_dir"),
    "TRL": ("dataset_name", "use_peft", "dataset_train_split", "model_name_or_path"),
}
_PARTS = 10_000
_OTHER_STAGES = ("pt", "rm", "ppo", "dpo", "kto", "orpo", "grpo", "ipo", "simpo")


@dataclass(slots=True)
class Translation:
    """The recipe's values by dotted key, where each came from, and what was left out: (key, line, why).

    ``trainer``: whose configuration it was. ``notes``: what the recipe does though nothing was said of it.
    """

    trainer: str
    path: str
    lines: dict[str, int]
    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, source: str) -> None:
        """Take ``value`` as the recipe's ``key``."""
        self.values[key], self.origin[key] = value, source

    def leave(self, source: str, why: str) -> None:
        """Tell that ``source`` is not taken along."""
        if all(source != known for known, _ in self.left_out):
            self.left_out.append((source, why))

    def nested(self) -> dict[str, Any]:
        """The values by section, the sections in the order of a recipe."""
        found: dict[str, Any] = {}
        for section in section_keys()[""]:
            for key, value in self.values.items():
                head, _, rest = key.partition(".")
                if head == section:
                    _put(found.setdefault(section, {}), rest, value) if rest else found.update({head: value})
        return found

    def told(self) -> list[str]:
        """One line for everything that was left out, with its place, and one for every note."""
        rows = sorted(self.left_out, key=lambda row: self._line(row[0]))
        return [
            *(f"{self.path}{self._at(key)}: '{key}' is left out: {why}" for key, why in rows),
            *(f"{self.path}: {note}" for note in self.notes),
        ]

    def _line(self, key: str) -> int:
        return self.lines.get(re.split(r"[.\[]", key)[0], 0)

    def _at(self, key: str) -> str:
        line = self._line(key)
        return f":{line}" if line else ""

    def to_yaml(self) -> str:
        """The recipe as a file: what was left out as a comment at its head."""
        head = [f"# From {Path(self.path).name}, a configuration of {self.trainer}.", "#"]
        head += [f"# {line.removeprefix(f'{self.path}')}".replace("# :", "# line ", 1) for line in self.told()]
        return "\n".join([*head, ""]) + "\n" + yaml_text.dump(self.nested())


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if rest:
        _put(values.setdefault(head, {}), rest, value)
    else:
        values[head] = value


def translated(path: Path) -> Translation:
    """The configuration at ``path`` (YAML or JSON) as a recipe.

    Raises ``RecipeError`` for what is no configuration of a known trainer, or not one of supervised fine-tuning.
    """
    values, lines = _read(path)
    if all(isinstance(values.get(name), Mapping) for name in ("model", "demonstrations")):
        raise _refused(path, "is a recipe already", "check it with `sft check`")
    trainer = _trainer(values)
    if not trainer:
        raise _refused(
            path, "is no configuration of Axolotl, LLaMA-Factory or TRL",
            "these name a base_model or model_name_or_path; or start from a copy of a shipped recipe (`sft recipes`)",
        )  # fmt: skip
    for name in ("rl", "stage"):
        if str(values.get(name) or "sft") in _OTHER_STAGES:
            raise _refused(path, f"is for {name}: {values[name]}", foreign.LEFT_OUT["rl"], lines.get(name))
    given = {key: value for key, value in values.items() if not _is_unset(value)}
    made = Translation(trainer, str(path), lines)
    foreign_values.take(made, given)
    foreign_sources.take(made, given, path.parent)
    _settle(made)
    return made


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings, and the line of each. Raises ``RecipeError``."""
    try:
        with path.open("rb") as file:
            text = yaml_text.decode(file.read(yaml_text.LARGEST + 1), str(path))
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})", "check the file and its rights") from None
    if found := token_lines(text):
        raise _refused(
            path, "holds what looks like an access token", "take it out of the file, and revoke it", found[0]
        )
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(str(getattr(error, "problem", None) or type(error).__name__).split())[:120]
        raise _refused(path, f"is not YAML ({what})", "mend it there", mark.line + 1 if mark else None) from None
    if not isinstance(values, dict) or not isinstance(tree, yaml.MappingNode):
        raise _refused(path, "is no mapping of settings", "name the configuration of a trainer")
    if not _is_small(values):
        raise _refused(path, "is too large with its aliases written out", "write them out, as far as they are needed")
    lines = {str(key.value): key.start_mark.line + 1 for key, _ in tree.value}
    return {str(key): value for key, value in values.items()}, lines


def _is_small(value: Any) -> bool:
    """Whether ``value`` has at most so many parts as a page of text; aliases may stand for many more."""
    left, waiting = _PARTS, [value]
    while waiting and left:
        left -= 1
        if isinstance(one := waiting.pop(), dict | list):
            waiting += list(one.values()) if isinstance(one, dict) else one
    return bool(left)


def _trainer(values: Mapping[str, Any]) -> str:
    """Whose configuration this is: of whose telling keys it has most; "" where it has none."""
    counts = {name: sum(key in values for key in keys) for name, keys in _TELLING.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else ""


def _is_unset(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _settle(made: Translation) -> None:
    """Take out what the rules of a recipe refuse, one complaint after another, and tell it."""
    for _ in range(len(made.values) + 1):
        try:
            parse(yaml_text.dump(made.nested()), "recipe")
        except RecipeError as error:
            for problem in error.problems:
                key = next((k for k in made.values if problem.field == k or problem.field.startswith(f"{k}.")), "")
                if key in ("", "model.name", "demonstrations.path"):
                    raise _refused(Path(made.path), f"'{problem.field}' {problem.message}", problem.remedy) from None
                made.values.pop(key)
                made.leave(made.origin[key], f"{key} {problem.message}; {problem.remedy}")
        else:
            return


def _refused(path: Path, message: str, remedy: str, line: int | None = None) -> RecipeError:
    return RecipeError([Problem(str(path), line, "", message, remedy)])
