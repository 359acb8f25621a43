"""From a recipe's name or path to a :class:`Recipe`, or to every problem it has at once.

:func:`resolve` also says where each value came from: a line of the recipe, ``--set``, or a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sft.errors import Problem, RecipeError
from sft.recipes import documents, packages, shelf, wording
from sft.recipes.complaints import Complaint
from sft.recipes.documents import Location, Node
from sft.recipes.fields import Adapter, Recipe, Training, section_keys
from sft.recipes.forwarded import unknown_key

__all__ = ["Resolved", "as_of_now", "load", "load_recorded", "parse", "resolve"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe with the origin of every value.

    ``origins``: dotted key -> ``"default"``, ``"recipe:LINE"`` or ``"--set"``, for every key of
    :meth:`Recipe.to_dict`. ``written``: the recipe's text as its author wrote it. ``path``: where it is.
    """

    recipe: Recipe
    origins: Mapping[str, str] = field(repr=False)
    path: str = ""
    written: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Every value, nested by section; see :meth:`Recipe.to_dict`."""
        return self.recipe.to_dict()

    def to_text(self) -> str:
        """A table: every key, its value as YAML, where it came from."""
        rows = [
            (".".join(loc), documents.as_yaml(value), self.origins[".".join(loc)])
            for loc, value in _leaves(self.recipe.to_dict())
        ]
        wide, wider = max(len(key) for key, _, _ in rows), min(48, max(len(value) for _, value, _ in rows))
        return "\n".join(f"{key:{wide}}  {value:{wider}}  {origin}" for key, value, origin in rows)

    def to_yaml(self) -> str:
        """The resolved recipe as a recipe: loading it gives an equal one, whatever the defaults become."""
        return documents.dump(self.recipe.to_dict())


def load(reference: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe at a path, or the shipped one of that name, with ``--set`` overrides applied.

    ``overrides``: texts such as ``training.learning_rate=1.0e-4``; the value is read as YAML.
    Raises :class:`~sft.errors.RecipeError` with every problem of the file and the overrides.
    """
    return resolve(reference, overrides).recipe


def resolve(reference: str | Path, overrides: Iterable[str] = (), *, to_follow: bool = False) -> Resolved:
    """Like :func:`load`, with the origin of every value.

    ``to_follow``: whether it is to be fitted here, and not only read: what it needs must then be installed.
    """
    path = shelf.find(reference)
    try:
        with path.open("rb") as file:
            data = file.read(documents.LARGEST + 1)
    except OSError as error:
        raise RecipeError(
            [Problem(str(path), None, "", f"cannot be read ({error.strerror})", "check the file and its rights")]
        ) from None
    text, problems = documents.decode(data, str(path))
    if problems:
        raise RecipeError(problems)
    return parse(text, str(path), overrides, to_follow=to_follow)


def load_recorded(path: Path) -> Recipe:
    """The resolved recipe at ``path``, which a run was made with. Raises as :func:`load` does.

    Keys handed on to the trainer that the release of then took, and this one refuses, are left out: what they did is
    done, and whoever measures, talks to or publishes the clone does not do it again.
    """
    try:
        return load(path)
    except RecipeError as error:
        fields = [problem.field.split(".") for problem in error.problems]
        own = {"training": Training.model_fields, "adapter": Adapter.model_fields}
        if not all(len(field) == 2 and field[0] in own and field[1] not in own[field[0]] for field in fields):
            raise
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for section, key in fields:
            values[section].pop(key, None)
        return parse(yaml.safe_dump(values, allow_unicode=True), str(path)).recipe


def parse(text: str, path: str = "recipe", overrides: Iterable[str] = (), *, to_follow: bool = False) -> Resolved:
    """A recipe from its text; ``path`` is what problems are addressed to. Raises ``RecipeError``."""
    document = documents.read(text, path)
    if document.root is None:
        raise RecipeError(document.problems)  # no recipe at all, or only half of one: no more can be said
    root = document.root
    problems, bad = list(document.problems), set(document.bad)
    _fill_empty_sections(root)
    _override(root, overrides, problems, bad)
    recipe, complaints = _validate(root.plain(), bad)
    if recipe is not None and to_follow:
        complaints += packages.complaints(recipe)
    for complaint in complaints:
        problems.append(_address(complaint, root, path))
    if problems or recipe is None:
        own = [problem for problem in problems if problem.path == path]
        given = [problem for problem in problems if problem.path != path]
        raise RecipeError(sorted(own, key=lambda p: p.line or 0) + given)
    origins = {".".join(loc): _origin(loc, root) for loc, _ in _leaves(recipe.to_dict())}
    return Resolved(recipe, origins, path, text)


def as_of_now(values: Mapping[str, Any]) -> dict[str, Any]:
    """Resolved ``values`` of an earlier release as this one would write them: keys it did not know at their defaults.

    Values that are no recipe any more come back as they are.
    """
    try:
        return Recipe.model_validate(values).to_dict()
    except ValidationError:
        return dict(values)


def _fill_empty_sections(root: Node) -> None:
    """``training:`` with all of its keys commented out is a section with nothing in it."""
    sections = set(section_keys()) - {""}
    for name, node in root.value.items():
        if name in sections and node.value is None:
            node.value = {}


def _override(root: Node, overrides: Iterable[str], problems: list[Problem], bad: set[Location]) -> None:
    seen: set[Location] = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        loc = tuple(key.strip().split("."))
        path = f"--set {key.strip()[:80]}"
        refusal = _refusal(loc if equals else (), seen)
        seen.add(loc)
        if refusal is not None:
            problems.append(Problem(path, None, "", *refusal))
            continue
        document = documents.read_value(text, path, loc)
        problems += [Problem(path, None, "", p.message, p.remedy) for p in document.problems]
        bad -= {known for known in bad if known[: len(loc)] == loc}  # what it replaces no longer matters
        bad |= document.bad
        if document.root is not None:
            _put(root, loc, document.root)
        else:
            bad.add(loc)


def _refusal(loc: Location, seen: set[Location]) -> tuple[str, str] | None:
    if not loc or not all(loc):
        return "is not KEY=VALUE", "write for example --set training.learning_rate=1.0e-4"
    if loc in seen:
        return "is given twice", "keep one of the two"
    if len(loc) == 1 and loc[0] in section_keys():
        return "names a whole section", f"set its keys one at a time: --set {loc[0]}.KEY=VALUE"
    return None


def _put(root: Node, loc: Location, value: Node) -> None:
    node = root
    for key in loc[:-1]:
        inner = node.value.get(key)
        if inner is None or not isinstance(inner.value, dict):
            inner = node.value[key] = Node({}, "--set")
        node = inner
    node.value[loc[-1]] = value


def _validate(values: dict[str, Any], bad: set[Location]) -> tuple[Recipe | None, list[Complaint]]:
    """The recipe, or every complaint: those of single values, then those between the values that are left.

    A value in error would hide the rules that look across keys. So it is taken out and what remains is
    judged again; complaints that involve a value in error are held back, being perhaps its consequence.
    """
    found: dict[tuple[Location, str], Complaint] = {}
    suspect = set(bad)
    for _ in range(4):
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            new = [
                complaint
                for complaint in _complaints(error, values)
                if not any(_touches(loc, known) for loc in (complaint.loc, *complaint.involves) for known in suspect)
            ]
        else:
            return (None if found or bad else recipe), list(found.values())
        before = len(suspect)
        for complaint in new:
            found.setdefault((complaint.loc, complaint.message), complaint)
            suspect.add(complaint.loc)
        if len(suspect) == before:
            break
        values = _without(values, suspect)
    return None, list(found.values())


def _touches(loc: Location, known: Location) -> bool:
    return loc[: len(known)] == known or known[: len(loc)] == loc


def _without(values: dict[str, Any], gone: set[Location], at: Location = ()) -> dict[str, Any]:
    return {
        key: _without(value, gone, (*at, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if (*at, key) not in gone
    }


def _complaints(error: ValidationError, values: dict[str, Any]) -> Iterator[Complaint]:
    """pydantic's errors as complaints of ours, one to a key."""
    keys = section_keys()
    told: set[Location] = set()
    for detail in error.errors(include_url=False):
        loc = tuple(str(part) for part in detail["loc"])
        if detail["type"] == "recipe":
            for complaint in detail["ctx"]["complaints"]:
                involves = tuple((*loc, *other) for other in complaint.involves)
                yield Complaint((*loc, *complaint.loc), complaint.message, complaint.remedy, involves)
            continue
        if detail["type"] == "extra_forbidden":
            section, key = ".".join(loc[:-1]), loc[-1]
            complaint = unknown_key(section, key, keys)
            yield Complaint(loc, complaint.message, complaint.remedy)
            continue
        loc = wording.key_of(loc)
        if loc not in told:
            told.add(loc)
            yield wording.complaint(loc, detail["type"], values)


def _address(complaint: Complaint, root: Node, path: str) -> Problem:
    """The problem with its line: that of the key, or of the nearest section above a missing one."""
    node, line, there = root, None, True
    for key in complaint.loc:
        there = isinstance(node.value, dict) and key in node.value
        if not there:
            break
        node = node.value[key]
        line = node.line if node.origin != "--set" else None
    if there and node.origin == "--set":
        return Problem(f"--set {'.'.join(complaint.loc)}", None, "", complaint.message, complaint.remedy)
    return Problem(path, line, ".".join(complaint.loc), complaint.message, complaint.remedy)


def _origin(loc: Location, root: Node) -> str:
    node, origin = root, "default"
    for key in loc:
        if not isinstance(node.value, dict):
            return origin  # a list, or a value that pydantic has filled out
        if key not in node.value:
            return "default"
        node = node.value[key]
        origin = node.origin
    return origin


def _leaves(values: Mapping[str, Any], at: Location = ()) -> Iterator[tuple[Location, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key), value
