"""Which keys and values the installed trainer takes, read from its source without importing it.

``SFTConfig`` and ``LoraConfig`` live in packages that load torch (seconds); a recipe is checked in
milliseconds. So the annotated fields of those dataclasses are read with :mod:`ast` from the files that
are installed, bases included, which also means that a recipe is held to *these* versions' names. The members of the
enumerations among their types are read in the same way; and so are the names of trackers and architectures, which are
the keys of a dictionary, and what a schedule of the learning rate can be told, which are a function's parameters.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sft.errors import SftError

__all__ = [
    "EngineField", "EngineNotReadable", "Schedule", "adapter_fields", "architectures", "class_fields", "schedules",
    "trackers", "training_fields",
]  # fmt: skip

#: Where a class is looked for first; elsewhere in its package if a release has moved it.
_HOMES = {
    "SFTConfig": "trainer/sft_config.py",
    "TrainingArguments": "training_args.py",
    "LoraConfig": "tuners/lora/config.py",
}
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
_CONTAINERS = {"list": list, "List": list, "tuple": list, "set": list, "Sequence": list, "dict": dict}
_IN_WORDS = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list", dict: "a mapping",
}  # fmt: skip
#: What the trainer itself hands to a schedule.
_HANDED = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}


class EngineNotReadable(SftError):
    """A package or class of the trainer is not installed where its fields could be read."""


@dataclass(frozen=True, slots=True)
class EngineField:
    """One field of a trainer's dataclass.

    ``annotation``: as written in the source. ``kinds``: the plain Python types it takes, empty when the
    annotation says more than can be checked here. ``choices``: the texts it takes, empty for any.
    """

    name: str
    annotation: str
    kinds: frozenset[type]
    choices: tuple[str, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` (a plain YAML value) has a type, and for text a wording, that this field takes."""
        if isinstance(value, str) and self.kinds and self.choices:
            return value in self.choices
        return not self.kinds or type(value) in self.kinds or (type(value) is int and float in self.kinds)

    @property
    def expects(self) -> str:
        """What the field takes, in words: ``a whole number or text``."""
        words = [word for kind, word in _IN_WORDS.items() if kind in self.kinds]
        if self.choices:
            words = [word for word in words if word != "text"] + ["one of " + ", ".join(self.choices)]
        return " or ".join(words) or self.annotation


@dataclass(frozen=True, slots=True)
class Schedule:
    """What ``lr_scheduler_kwargs`` may hold for one schedule: names it takes, those it needs, whether it takes any."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]
    open_ended: bool


def training_fields() -> Mapping[str, EngineField]:
    """The fields of the installed ``trl.SFTConfig``, and of ``TrainingArguments`` in it; see :func:`class_fields`."""
    return class_fields("trl", "SFTConfig")


def adapter_fields() -> Mapping[str, EngineField]:
    """The fields of the installed ``peft.LoraConfig``; see :func:`class_fields`."""
    return class_fields("peft", "LoraConfig")


@lru_cache(maxsize=8)
def class_fields(package: str, class_name: str) -> Mapping[str, EngineField]:
    """Dataclass fields that ``package``'s ``class_name`` takes as keywords: name -> :class:`EngineField`.

    Follows base classes through the files' own imports; a base from the standard library ends the walk.
    Raises :class:`EngineNotReadable` when the package or the class cannot be found.
    """
    root = _package_folder(package)
    if (path := _search(root, class_name)) is None:
        raise EngineNotReadable(f"the installed {package} has no class {class_name}")
    return _File(path, root).fields(class_name)


@lru_cache(maxsize=1)
def trackers() -> tuple[str, ...]:
    """Names that ``report_to`` may hold. Raises ``EngineNotReadable``."""
    return tuple(_installed("transformers", "integrations/integration_utils.py").keys("INTEGRATION_TO_CALLBACK"))


@lru_cache(maxsize=1)
def architectures() -> frozenset[str]:
    """``model_type`` of every causal language model that needs no code of its own. Raises ``EngineNotReadable``."""
    file = _installed("transformers", "models/auto/modeling_auto.py")
    return frozenset(file.keys("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"))


@lru_cache(maxsize=1)
def schedules() -> Mapping[str, Schedule]:
    """``lr_scheduler_type`` -> what it takes. Raises ``EngineNotReadable``."""
    file = _installed("transformers", "optimization.py")
    functions = {node.name: node.args for node in file.tree.body if isinstance(node, ast.FunctionDef)}
    names = _installed("transformers", "trainer_utils.py").members("SchedulerType")
    found = {}
    for key, function in file.items("TYPE_TO_SCHEDULER_FUNCTION"):
        if isinstance(key, ast.Attribute) and isinstance(function, ast.Name) and key.attr in names:
            arguments = functions[function.id]
            takes = [argument.arg for argument in arguments.args]
            needs = takes[: len(takes) - len(arguments.defaults)]
            found[names[key.attr]] = Schedule(
                takes=tuple(name for name in takes if name not in _HANDED),
                needs=tuple(name for name in needs if name not in _HANDED),
                open_ended=arguments.kwarg is not None,
            )
    return found


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise EngineNotReadable(f"{package} is not installed")
    return Path(places[0])


def _installed(package: str, module: str) -> _File:
    root = _package_folder(package)
    return _File(root / module, root)


def _search(folder: Path, class_name: str) -> Path | None:
    """The file in ``folder`` that has the class."""
    home = folder / _HOMES.get(class_name, "")
    for path in [home] if home.is_file() else sorted(folder.rglob("*.py")):
        if re.search(rf"(?m)^class {class_name}\b", path.read_text("utf-8", "replace")):
            return path
    return None


@lru_cache(maxsize=16)
def _parsed(path: Path, package: str) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise EngineNotReadable(f"{path.name} of the installed {package} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _File:
    """A source file at ``path``, in the package whose folder is ``root``."""

    path: Path
    root: Path

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.path, self.root.name)

    def body(self, class_name: str) -> ast.ClassDef | None:
        """The class that is defined here under that name."""
        return next((n for n in self.tree.body if isinstance(n, ast.ClassDef) and n.name == class_name), None)

    def home(self, class_name: str) -> _File | None:
        """The file of the class that goes by that name here; None where it is not found, or of the standard library."""
        if self.body(class_name) is not None:
            return self
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == class_name for alias in node.names):
                parts = (node.module or "").split(".")
                try:
                    root = self.root if node.level else _package_folder(parts.pop(0))
                except EngineNotReadable:
                    return None
                module = (self.path.parents[node.level - 1] if node.level else root).joinpath(*parts)
                source = module.with_suffix(".py")
                path = source if source.is_file() else _search(module, class_name) if module.is_dir() else None
                return _File(path, root) if path is not None else None
        return None

    def fields(self, class_name: str) -> dict[str, EngineField]:
        """The fields of a dataclass that is defined here, with those of its bases."""
        found: dict[str, EngineField] = {}
        if (body := self.body(class_name)) is None:
            raise EngineNotReadable(f"{self.path.name} of the installed {self.root.name} has no class {class_name}")
        for base in body.bases:
            if isinstance(base, ast.Name) and (home := self.home(base.id)) is not None:
                found |= home.fields(base.id)
        for line in body.body:
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
                continue
            name, annotation = line.target.id, ast.unparse(line.annotation)
            if "ClassVar" in annotation:
                continue
            told = {word.arg: word.value for word in line.value.keywords} if isinstance(line.value, ast.Call) else {}
            if "init" in told and _literal(told["init"]) is False:
                found.pop(name, None)
                continue
            kinds, choices = _kinds(line.annotation)
            if str in kinds and not choices:
                choices = self._enumerated(line.annotation)
            if not choices and isinstance(metadata := told.get("metadata"), ast.Dict):
                parts = {
                    getattr(key, "value", None): value
                    for key, value in zip(metadata.keys, metadata.values, strict=True)
                }
                listed = _literal(parts["choices"]) if "choices" in parts else ()
                choices = tuple(choice for choice in listed if isinstance(choice, str))
            found[name] = EngineField(name, annotation, kinds, choices)
        return found

    def _enumerated(self, annotation: ast.expr) -> tuple[str, ...]:
        """The texts of the one enumeration among an annotation's types; none where there is none, or a list."""
        parts = _alternatives(annotation)
        names = [part.id for part in parts if isinstance(part, ast.Name) and part.id not in _PLAIN]
        if len(names) != 1 or any(isinstance(part, ast.Subscript) for part in parts):
            return ()
        home = self.home(names[0])
        return tuple(home.members(names[0]).values()) if home is not None else ()

    def members(self, class_name: str) -> dict[str, str]:
        """The members of an enumeration of texts that is defined here; none of another class."""
        body = self.body(class_name)
        if body is None or not any("Enum" in ast.unparse(base) for base in body.bases):
            return {}
        lines = [line for line in body.body if isinstance(line, ast.Assign)]
        values = {ast.unparse(line.targets[0]): _literal(line.value) for line in lines}
        return {name: value for name, value in values.items() if isinstance(value, str)}

    def items(self, name: str) -> Iterator[tuple[ast.expr, ast.expr]]:
        """Keys and values of the dictionary that is bound to ``name`` here, or of the pairs it is made from."""
        for statement in self.tree.body:
            if not (isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name):
                continue
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Dict):
                    yield from ((k, value) for k, value in zip(node.keys, node.values, strict=True) if k is not None)
                elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
                    yield node.elts[0], node.elts[1]

    def keys(self, name: str) -> Iterator[str]:
        """The keys of that dictionary."""
        yield from (str(key.value) for key, _ in self.items(name) if isinstance(key, ast.Constant))


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ()


def _kinds(node: ast.expr) -> tuple[frozenset[type], tuple[str, ...]]:
    """Plain types and literal texts of an annotation; no types when any part of it cannot be checked."""
    kinds: set[type] = set()
    choices: list[str] = []
    open_ended = False
    for part in _alternatives(node):
        name = ast.unparse(part.value if isinstance(part, ast.Subscript) else part).split(".")[-1]
        if (kind := (_PLAIN | _CONTAINERS).get(name)) is not None:
            kinds.add(kind)
        elif name == "Literal" and isinstance(part, ast.Subscript):
            options = [_literal(option) for option in _elements(part)]
            kinds |= {type(option) for option in options}
            choices += [option for option in options if isinstance(option, str)]
        else:
            open_ended = True
    if str in kinds and any("[" in choice for choice in choices):
        choices = []  # a pattern such as "pissa_niter_[number of iters]", not a list of words
    return (frozenset(), ()) if open_ended and str not in kinds else (frozenset(kinds), tuple(choices))


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The types that an annotation joins."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _alternatives(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _alternatives(node.left) + _alternatives(node.right)
    name = ast.unparse(node.value).split(".")[-1] if isinstance(node, ast.Subscript) else ""
    if name in ("Optional", "Union") and isinstance(node, ast.Subscript):
        joined = [other for part in _elements(node) for other in _alternatives(part)]
        return joined + ([ast.Name("None")] if name == "Optional" else [])
    return [node]


def _elements(node: ast.Subscript) -> list[ast.expr]:
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
