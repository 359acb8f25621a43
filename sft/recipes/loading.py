"""From a recipe's name or path to a :class:`Recipe`, or to every problem it has at once; and the shipped recipes.

:func:`resolve` also says where each value came from: a line of the recipe, ``--set``, or a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sft.errors import Problem, RecipeError, SourceError
from sft.recipes import requirements, schema, yaml_text
from sft.recipes.complaints import Complaint, Location, nearest
from sft.recipes.fields import Adapter, Recipe, Training, section_keys
from sft.recipes.forwarded import unknown_key
from sft.recipes.yaml_text import Document

__all__ = [
    "Resolved", "as_of_now", "copy", "find", "launch_files", "load", "load_recorded", "parse", "resolve", "shipped",
    "shipped_folder", "write_new",
]  # fmt: skip

_PACKAGE = Path(__file__).resolve().parent.parent
_MODELINE = "# yaml-language-server:"


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
        values = {".".join(loc): yaml_text.as_yaml(value) for loc, value in _leaves(self.recipe.to_dict())}
        wide, wider = max(map(len, values)), min(48, max(map(len, values.values())))
        return "\n".join(f"{key:{wide}}  {value:{wider}}  {self.origins[key]}" for key, value in values.items())

    def to_yaml(self) -> str:
        """The resolved recipe as a recipe: loading it gives an equal one, whatever the defaults become."""
        return yaml_text.dump(self.recipe.to_dict())


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
    path = find(reference)
    try:
        with path.open("rb") as file:
            data = file.read(yaml_text.LARGEST + 1)
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})", "check the file and its rights") from None
    return parse(yaml_text.decode(data, str(path)), str(path), overrides, to_follow=to_follow)


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
    document = yaml_text.read(text, path)
    if not isinstance(document.value, dict):
        raise RecipeError(document.problems)  # no recipe at all, or only half of one: no more can be said
    for key in section_keys():
        if document.value.get(key, "") is None:  # all of the section's keys are commented out
            document.value[key] = {}
    _override(document, overrides)
    recipe, complaints = _validated(document.value, document.bad)
    if recipe is not None and to_follow:
        complaints += requirements.missing_packages(recipe)
    problems = document.problems + [_addressed(complaint, document) for complaint in complaints]
    if problems or recipe is None:
        raise RecipeError(sorted(problems, key=lambda p: (p.path != path, (p.path == path and p.line) or 0)))
    shown = {loc: f"recipe:{line}" if line is not None else "--set" for loc, line in document.lines.items()}
    origins = {".".join(loc): shown.get(loc, "default") for loc, _ in _leaves(recipe.to_dict())}
    return Resolved(recipe, origins, path, text)


def as_of_now(values: Mapping[str, Any]) -> dict[str, Any]:
    """Resolved ``values`` of an earlier release as this one would write them: keys it did not know at their defaults.

    Values that are no recipe any more come back as they are.
    """
    try:
        return Recipe.model_validate(values).to_dict()
    except ValidationError:
        return dict(values)


def _override(document: Document, overrides: Iterable[str]) -> None:
    """Put what ``--set`` gives into the document, or what is wrong with it."""
    seen: set[Location] = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        loc, path = tuple(key.strip().split(".")), f"--set {key.strip()[:80]}"
        refusal = None
        if not equals or not all(loc):
            refusal = ("is not KEY=VALUE", "write for example --set training.learning_rate=1.0e-4")
        elif loc in seen:
            refusal = ("is given twice", "keep one of the two")
        elif len(loc) == 1 and loc[0] in section_keys():
            refusal = ("names a whole section", f"set its keys one at a time: --set {loc[0]}.KEY=VALUE")
        seen.add(loc)
        if refusal is not None:
            document.problems.append(Problem(path, None, "", *refusal))
            continue
        given = yaml_text.read(text, path, loc)
        document.problems += given.problems
        # What it replaces no longer matters.
        document.bad = {known for known in document.bad if known[: len(loc)] != loc} | given.bad
        if loc not in given.bad:
            document.lines = {known: line for known, line in document.lines.items() if known[: len(loc)] != loc}
            document.lines |= given.lines | {loc: None}
            _put(document, loc, given.value)


def _put(document: Document, loc: Location, value: Any) -> None:
    values = document.value
    for depth, key in enumerate(loc[:-1], start=1):
        if not isinstance(values.get(key), dict):
            values[key] = {}
            document.lines[loc[:depth]] = None
        values = values[key]
    values[loc[-1]] = value


def _validated(values: dict[str, Any], bad: set[Location]) -> tuple[Recipe | None, list[Complaint]]:
    """The recipe, or every complaint: those of single values, then those between the values that are left.

    A value in error would hide the rules that look across keys. So it is taken out and what remains is
    judged again; complaints that involve a value in error are held back, being perhaps its consequence.
    """
    found: dict[tuple[Location, str], Complaint] = {}
    suspect = bad | {_in_full(loc) for loc in bad}
    while True:
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            new = [c for c in _complaints(error, values) if not any(_touch(c, known) for known in suspect)]
        else:
            return (None if found or bad else recipe), list(found.values())
        if not new:
            return None, list(found.values())
        for complaint in new:
            found.setdefault((complaint.loc, complaint.message), complaint)
            suspect |= {complaint.loc, _in_full(complaint.loc)}
        values = _without(values, suspect)


def _touch(complaint: Complaint, known: Location) -> bool:
    """Whether the complaint has to do with what stands at or around ``known``, or in it."""
    return any(loc[: len(known)] == known[: len(loc)] for loc in (complaint.loc, *complaint.beside))


def _in_full(loc: Location) -> Location:
    """``loc`` up to the list that it is in, if it is in one: that is left out as a whole."""
    places = [n for n, part in enumerate(loc, 1) if schema.place_in_list(part)[1] is not None]
    return (*loc[: places[0] - 1], schema.place_in_list(loc[places[0] - 1])[0]) if places else loc


def _without(values: dict[str, Any], gone: set[Location], at: Location = ()) -> dict[str, Any]:
    return {
        key: _without(value, gone, (*at, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if (*at, key) not in gone
    }


def of_files(model: str, paths: Sequence[str], **section: Any) -> Recipe:
    """The defaults around files that no recipe names. ``section``: what is said of them beside.

    Raises ``SourceError`` with the first complaint, by the option that says the same.
    """
    values = {"model": {"name": model}, "demonstrations": {"path": list(paths), **section}}
    recipe, complaints = _validated(values, set())
    if recipe is None:
        first = complaints[0]
        option = f"--column {first.loc[-1]}" if "columns" in first.loc else f"--{first.loc[-1]}"
        raise SourceError(f"{option}: {first.message}; {first.remedy}")
    return recipe


def _complaints(error: ValidationError, values: dict[str, Any]) -> Iterator[Complaint]:
    """pydantic's errors as complaints of ours, one to a key; of a choice that was not meant nothing is said."""
    found: list[tuple[Location, list[Complaint]]] = []
    for detail in error.errors(include_url=False):
        loc, kind = tuple(str(part) for part in detail["loc"]), detail["type"]
        if kind == "recipe":
            loc = schema.key_of(loc, values)
            found.append(((*loc, ""), [complaint.within(loc) for complaint in detail["ctx"]["complaints"]]))
        elif kind == "extra_forbidden":
            *inner, key = loc
            section = schema.key_of(tuple(inner), values)
            named = ".".join(schema.place_in_list(part)[0] for part in section)
            named = "demonstrations.columns" if named.endswith(".columns") else named
            found.append(((*section, key), [unknown_key(named, key).within(section)]))
        elif (loc := schema.key_of(loc, values)) not in [known for known, _ in found]:
            found.append((loc, [schema.wrong_value(loc, kind, values)]))
    apart = [_apart(loc) for loc, _ in found]
    for (_, complaints), own in zip(found, apart, strict=True):
        if not any(other[: len(own)] == own and len(other) > len(own) for other in apart):
            yield from complaints


def _apart(loc: Location) -> list[str]:
    """The parts of ``loc``, a place in a list as a part of its own."""
    found = []
    for part in loc:
        key, place = schema.place_in_list(part)
        found += [key] if place is None else [key, str(place)]
    return found


def _addressed(complaint: Complaint, document: Document) -> Problem:
    """The problem with its line: that of the key, or of the nearest section above a missing one."""
    loc, field, path = complaint.loc, ".".join(complaint.loc), document.path
    known = next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in document.lines), None)
    line = document.lines[known] if known is not None else None
    if known == loc and line is None:
        path, field = f"--set {field}", ""
    return Problem(path, line, field, complaint.message, complaint.remedy)


def _leaves(values: Mapping[str, Any], at: Location = ()) -> Iterator[tuple[Location, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*at, key))
        else:
            yield (*at, key), value


# -- the recipes that come with the package


def shipped_folder(kind: str, package: Path = _PACKAGE) -> Path:
    """The folder of ``"recipes"`` or ``"data"`` that came with this package.

    In a wheel they travel inside; in a checkout they stand beside the package. ``package``: its folder. Raises
    ``ValueError`` for another kind and ``FileNotFoundError`` when neither is there.
    """
    if kind not in ("recipes", "data"):
        raise ValueError(f"nothing is shipped as {kind!r}")
    for folder in (package / "_shipped" / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{kind} did not come with this installation; reinstall the package")


def shipped() -> list[tuple[str, Path, str]]:
    """Every shipped recipe: its name, its file, and the first line of its header."""
    found = []
    for path in sorted(shipped_folder("recipes").glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            comments = (line for line in file if line.startswith("#") and not line.startswith(_MODELINE))
            found.append((path.stem, path, next(comments, "").lstrip("#").strip()))
    return found


def launch_files() -> dict[str, Path]:
    """Files to start a recipe by: ``accelerate/NAME`` for ``accelerate launch --config_file``, ``launch/NAME`` for a
    cluster's own launcher.
    """
    shelf = shipped_folder("recipes")
    return {
        f"{room}/{file.stem}": file for room in ("accelerate", "launch") for file in sorted((shelf / room).glob("*.*"))
    }


def find(reference: str | Path) -> Path:
    """The recipe file that ``reference`` names: a path, or else the name of a shipped recipe.

    Those of :func:`launch_files` are found too, to show and to copy. A file wins over a shipped recipe of the same
    name; a folder does not. Raises :class:`~sft.errors.RecipeError`, with the nearest shipped name where one is close.
    """
    path, named = Path(reference).expanduser(), str(reference)
    try:
        folder = path.is_dir()
        if path.exists() and not folder:
            return path
    except (OSError, ValueError):  # too long, a loop of links, a NUL: no such file in any case
        folder = False
    known = {name: file for name, file, _ in shipped()}
    launches = launch_files()
    if (file := (known | launches).get(named)) is not None:
        return file
    shown = "".join(c if c.isprintable() else "?" for c in named)[:200] or '""'
    if folder:
        raise _refused(shown, "is a folder", "name the recipe file in it")
    close = nearest(path.stem, known) or {name.rpartition("/")[2]: name for name in launches}.get(named)
    if named.startswith(("accelerate/", "launch/")):
        close = nearest(named, launches)
    remedy = f"did you mean {close}?" if close else f"shipped are {', '.join(known)}"
    raise _refused(shown, "is neither a file nor the name of a shipped recipe", remedy)


def copy(name: str | Path, destination: str | Path) -> Path:
    """Copy a recipe to ``destination`` (a file, or a folder it keeps its name in) and return where it is.

    Nothing is overwritten, and a recipe that is shipped loses its editor line, which holds only beside its
    schema. Raises :class:`~sft.errors.RecipeError`.
    """
    source, target = find(name), Path(destination).expanduser()
    if target.is_dir():
        target = target / source.name
    text = source.read_text(encoding="utf-8")
    if source.parent == shipped_folder("recipes"):
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_MODELINE))
    return write_new(target, text)


def write_new(target: Path, text: str) -> Path:
    """Write ``text`` to a file that is not there yet, and return it. Raises :class:`~sft.errors.RecipeError`."""
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise _refused(target, "exists already", "name another file") from None
    except OSError as error:
        with suppress(OSError):  # half of it, on a full disk: what was there before is a FileExistsError
            target.unlink()
        raise _refused(target, f"cannot be written ({error.strerror})", "name another place") from None
    return target


def _refused(path: str | Path, message: str, remedy: str) -> RecipeError:
    return RecipeError([Problem(str(path), None, "", message, remedy)])
