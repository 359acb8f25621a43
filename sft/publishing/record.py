"""The record of a run as it is published: the recipe as it was written, and what of it is another there.

Paths of this machine say nothing to anybody else and stand there by their last names, and each place where that was
done is told, in the plan and in the record itself. Nothing else is changed: what may not be seen is refused
(``screening``), and remarks of the recipe are published, or left out as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sft.errors import PublishError
from sft.publishing.places import known_places
from sft.runs.private import shortened, texts_in
from sft.runs.run import Run

__all__ = ["Told", "remarks", "told", "without_remarks"]

#: Sections of the manifest that say something of the clone; sessions are command lines of this machine.
_TOLD = (
    "recipe", "data", "split", "base", "start", "template", "seeds", "versions", "looks", "launch", "changes",
    "training",
)  # fmt: skip
#: A text that is a path as a whole, or an option's value that is one.
_PATH = re.compile(
    r"(?P<option>(?:[\w.-]+=)?)(?P<path>(?:~|\.\.)?/[^\s]*|(?:~|\.\.)?/[^\n]*/[^\n]*|[A-Za-z]:[\\/][^\n]*)"
)


@dataclass(frozen=True, slots=True)
class Told:
    """``value``: sections of the manifest; ``rewritten``: where it is not as on record, for a plan and for readers."""

    value: dict[str, Any]
    rewritten: tuple[str, ...]


def told(run: Run, *, with_remarks: bool = True) -> Told:
    """What the manifest of ``run`` says of the clone, paths of this machine by their last names.

    ``with_remarks``: whether the recipe's comments stand in it. Raises ``PublishError`` as :func:`without_remarks`.
    """
    manifest = run.manifest
    value = {key: manifest[key] for key in _TOLD if key in manifest}
    places = known_places(run)
    found: list[str] = []
    written = (value.get("recipe") or {}).get("written")
    if isinstance(written, str):
        text = written if with_remarks else without_remarks(written)
        if text != written:
            found.append(f"recipe: its {len(remarks(written))} comments are left out")
        paths = sorted(
            {one for one in texts_in(value["recipe"].get("resolved")) if _is_path(one)}, key=len, reverse=True
        )
        cut = str(shortened(text, [*places, *paths]))
        found += _changed_lines(text, cut)
        value["recipe"] = value["recipe"] | {"written": cut}
    return Told({key: _cut(part, key, places, found) for key, part in value.items()}, tuple(found))


def _changed_lines(before: str, after: str) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(before.split("\n"), after.split("\n"), strict=False), start=1):
        if one != other:
            yield f"recipe line {number}: a path of this machine by its last name, {_shown(other)}"


def _shown(line: str) -> str:
    line = line.strip()
    return line if len(line) <= 80 else f"{line[:79]}\N{HORIZONTAL ELLIPSIS}"


def _is_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None and len(re.split(r"[/\\]+", text.strip("/\\"))) > 1


def _cut(value: Any, where: str, places: Sequence[str], found: list[str]) -> Any:
    """``value`` with its paths by their last names; each change is added to ``found``."""
    if isinstance(value, str):
        if where == "recipe.written":
            return value
        match = _PATH.fullmatch(value)
        cut = f"{match['option']}{Path(match['path']).name}" if match and _is_path(value) else shortened(value, places)
        if cut != value:
            found.append(f"{where}: a path of this machine by its last name, {_shown(cut)}")
        return cut
    if isinstance(value, Mapping):
        return {str(key): _cut(part, f"{where}.{key}", places, found) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(part, where, places, found) for part in value]
    return value


# -- remarks --------------------------------------------------------------------------------------------------


def remarks(text: str) -> list[tuple[int, str]]:
    """Every comment of the recipe ``text``: its line, 1-based, and itself."""
    return [(1 + text.count("\n", 0, start), text[start:end].strip()) for start, end in _places(text)]


def without_remarks(text: str) -> str:
    """The recipe ``text`` without its comments, the same values in it. Raises ``PublishError`` where that cannot be."""
    kept, at = "", 0
    for start, end in _places(text):
        kept += text[at:start].rstrip(" \t")
        at = end
    kept += text[at:]
    if list(_values(kept)) != list(_values(text)):
        raise PublishError("recipe: its comments cannot be told from its values; publish it with them")
    return kept


def _places(text: str) -> list[tuple[int, int]]:
    """Where every comment begins and ends: a ``#`` between the parser's tokens, up to the end of the line."""
    spans = list[tuple[int, int]]()
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            start, end = token.start_mark.index, token.end_mark.index
            if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
                head = text.find("\n", start)  # behind the mark of a block a comment may stand, and in the block none
                mark = text.find("#", start, head)
                spans += [(start, mark), (head, end)] if 0 <= mark < head else [(start, end)]
            elif end > start:
                spans.append((start, end))
    except yaml.YAMLError:
        return []
    found, at = [], 0
    for start, end in [*spans, (len(text), len(text))]:
        found += [(at + one.start(), at + one.end()) for one in re.finditer(r"#[^\n]*", text[at:start])]
        at = max(at, end)
    return found


def _values(text: str) -> Iterator[tuple[str, str]]:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        yield type(event).__name__, str(getattr(event, "value", ""))
