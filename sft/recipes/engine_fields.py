"""Which keys the installed trainer takes, read from its source without importing it.

``SFTConfig`` and ``LoraConfig`` live in packages that load torch (seconds); a recipe is checked in
milliseconds. So the annotated fields of those dataclasses are read with :mod:`ast` from the files that
are installed, bases included, which also means that a recipe is held to *these* versions' names. The members of
the enumerations among their types are read in the same way; what else a value may be is in ``engine_choices``.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sft.errors import SftError

__all__ = [
    "EngineField",
    "EngineNotReadable",
    "adapter_fields",
    "class_fields",
    "source_of",
    "training_fields",
]

#: Where a class is looked for first; elsewhere in its package if a release has moved it.
_HOMES = {
    ("trl", "SFTConfig"): "trainer/sft_config.py",
    ("transformers", "TrainingArguments"): "training_args.py",
    ("peft", "LoraConfig"): "tuners/lora/config.py",
}
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
_CONTAINERS = {"list": list, "List": list, "tuple": list, "set": list, "Sequence": list, "dict": dict}
_IN_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


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
        if not self.kinds:
            return True
        if isinstance(value, str) and self.choices:
            return value in self.choices
        if isinstance(value, bool):
            return bool in self.kinds
        if isinstance(value, int) and float in self.kinds:
            return True
        return type(value) in self.kinds

    @property
    def expects(self) -> str:
        """What the field takes, in words: ``a whole number or text``."""
        words = [word for kind, word in _IN_WORDS.items() if kind in self.kinds]
        if self.choices:
            words = [word for word in words if word != "text"] + ["one of " + ", ".join(self.choices)]
        return " or ".join(words) or self.annotation


def training_fields() -> Mapping[str, EngineField]:
    """The fields of the installed ``trl.SFTConfig``, those of ``TrainingArguments`` included.

    Raises :class:`EngineNotReadable` when trl or transformers is not installed as source files.
    """
    return class_fields("trl", "SFTConfig")


def adapter_fields() -> Mapping[str, EngineField]:
    """The fields of the installed ``peft.LoraConfig``; raises :class:`EngineNotReadable`."""
    return class_fields("peft", "LoraConfig")


@lru_cache(maxsize=8)
def class_fields(package: str, class_name: str) -> Mapping[str, EngineField]:
    """Dataclass fields that ``package``'s ``class_name`` takes as keywords: name -> :class:`EngineField`.

    Follows base classes through the files' own imports; a base from the standard library ends the walk.
    Raises :class:`EngineNotReadable` when the package or the class cannot be found.
    """
    root = _package_folder(package)
    home = root / _HOMES.get((package, class_name), "")
    path = home if home.is_file() else _search(root, class_name)
    if path is None:
        raise EngineNotReadable(f"the installed {package} has no class {class_name}")
    return _fields_of(path, root, class_name)


def source_of(package: str, module: str) -> ast.Module:
    """The installed source of ``module`` (its path in the package, ``trainer_utils.py``), as a tree.

    Raises :class:`EngineNotReadable` when it is not installed as a source file.
    """
    return _parsed(_package_folder(package) / module, package)


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise EngineNotReadable(f"{package} is not installed")
    return Path(places[0])


def _search(root: Path, class_name: str) -> Path | None:
    for path in sorted(root.rglob("*.py")):
        if f"\nclass {class_name}" in path.read_text(encoding="utf-8", errors="replace"):
            return path
    return None


@lru_cache(maxsize=16)
def _parsed(path: Path, package: str) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise EngineNotReadable(f"{path.name} of the installed {package} cannot be read: {error}") from None


def _fields_of(path: Path, root: Path, class_name: str) -> dict[str, EngineField]:
    tree = _parsed(path, root.name)
    body = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name), None)
    if body is None:
        raise EngineNotReadable(f"{path.name} of the installed {root.name} has no class {class_name}")
    found: dict[str, EngineField] = {}
    for base in body.bases:
        if isinstance(base, ast.Name):
            found |= _inherited(base.id, tree, path, root)
    for statement in body.body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        name, annotation = statement.target.id, ast.unparse(statement.annotation)
        if "ClassVar" in annotation:
            continue
        if _keyword(statement.value, "init") is False:
            found.pop(name, None)
            continue
        kinds, choices = _kinds(statement.annotation)
        if str in kinds and not choices:
            choices = _members(statement.annotation, tree, path, root)
        listed = (_keyword(statement.value, "metadata") or {}).get("choices", ())
        choices = choices or tuple(choice for choice in listed if isinstance(choice, str))
        found[name] = EngineField(name, annotation, kinds, choices)
    return found


def _inherited(base: str, tree: ast.Module, path: Path, root: Path) -> dict[str, EngineField]:
    home = _home(base, tree, path, root)
    if home is None:
        # A mixin such as PushToHubMixin has no fields of its own; a base elsewhere is read where it is.
        return {}
    package = home[1].name
    return dict(class_fields(package, base)) if (package, base) in _HOMES else _fields_of(*home, base)


def _home(name: str, tree: ast.Module, path: Path, root: Path) -> tuple[Path, Path] | None:
    """The file of the class ``name`` as the file at ``path`` knows it, and its package's folder; None if not found."""
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return path, root
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names)):
            continue
        package = root.name if node.level else (node.module or "").split(".")[0]
        try:
            folder = path.parents[node.level - 1] if node.level else _package_folder(package)
        except EngineNotReadable:  # of the standard library
            return None
        parts = (node.module or "").split(".")[0 if node.level else 1 :]
        module = folder.joinpath(*parts)
        source = module.with_suffix(".py")
        found = source if source.is_file() else _search(module, name) if module.is_dir() else None
        return (found, _package_folder(package)) if found else None
    return None


def _members(node: ast.expr, tree: ast.Module, path: Path, root: Path) -> tuple[str, ...]:
    """The texts of the one enumeration among an annotation's types; none where there is none, or where lists are."""
    parts = _alternatives(node)
    names = [part.id for part in parts if isinstance(part, ast.Name) and part.id not in _PLAIN]
    if len(names) != 1 or any(isinstance(part, ast.Subscript) for part in parts):
        return ()
    home = _home(names[0], tree, path, root)
    if home is None:
        return ()
    body = next(n for n in _parsed(home[0], home[1].name).body if isinstance(n, ast.ClassDef) and n.name == names[0])
    values = [_literal(line.value) for line in body.body if isinstance(line, ast.Assign)]
    enumeration = any("Enum" in ast.unparse(base) for base in body.bases)
    return tuple(value for value in values if isinstance(value, str)) if enumeration else ()


def _keyword(value: ast.expr | None, name: str) -> Any:
    """The keyword ``name`` of a ``field(...)`` call when it is a literal; parts that are not are left out."""
    if not isinstance(value, ast.Call):
        return None
    for keyword in value.keywords:
        if keyword.arg != name:
            continue
        if isinstance(keyword.value, ast.Dict):
            literal = {}
            for key, item in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(item, ast.List | ast.Tuple | ast.Constant):
                    literal[key.value] = _literal(item)
            return literal
        return _literal(keyword.value)
    return None


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
        if name in _PLAIN:
            kinds.add(_PLAIN[name])
        elif name in _CONTAINERS:
            kinds.add(_CONTAINERS[name])
        elif name == "Literal" and isinstance(part, ast.Subscript):
            options = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            for option in options:
                value = _literal(option)
                kinds.add(type(value))
                if isinstance(value, str):
                    choices.append(value)
        else:
            open_ended = True
    if str in kinds and any("[" in choice for choice in choices):
        choices = []  # a pattern such as "pissa_niter_[number of iters]", not a list of words
    if open_ended and str not in kinds:
        return frozenset(), ()
    return frozenset(kinds), tuple(choices)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _alternatives(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _alternatives(node.left) + _alternatives(node.right)
    if isinstance(node, ast.Subscript):
        name = ast.unparse(node.value).split(".")[-1]
        if name == "Optional":
            return [*_alternatives(node.slice), ast.Name("None")]
        if name == "Union":
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return [alternative for part in parts for alternative in _alternatives(part)]
    return [node]
