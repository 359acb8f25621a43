"""YAML text into values that know their lines, and back; what YAML 1.1 would quietly misread is refused.

PyYAML reads ``2e-5`` as text, ``no`` as false, ``010`` as eight, ``1:30`` as ninety, and keeps the last of
two equal keys. Here each of these is a :class:`~sft.errors.Problem` with its line and what to write
instead. The parser's events are read and no object is ever constructed from them: no tags, no anchors, no
aliases (hence no "billion laughs"), and few levels. What comes before a mistake in the syntax is complained of too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from sft.errors import Problem, RecipeError
from sft.recipes.complaints import Location
from sft.runs.tokens import token_lines

__all__ = ["LARGEST", "Document", "as_yaml", "decode", "dump", "number_as_yaml", "read", "scalar"]

LARGEST = 64 * 1024  # bytes; a recipe is a page of text
_DEEPEST = 8

_TOKEN_REMEDY = (
    "remove it, and revoke it if this file was ever shared: recipes are published with their runs, "
    "and `hf auth login` keeps tokens where they belong"
)
_YAML_1_1_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_EXPONENT = re.compile(r"([-+]?)(\d[\d_]*)?(\.[\d_]*)?[eE]([-+]?)(\d+)")


_WRONG: Any = object()  # stands for a value that has been complained of


class _GiveUp(Exception):
    """The rest of the text cannot be read: the line, the place, what is wrong and what to do."""


@dataclass(slots=True)
class Document:
    """What was read: the value, the line of every key, every problem, and the keys whose values were given up.

    ``path``: what problems are addressed to. ``at``: the key whose value the text is, given with ``--set``: it and
    what is in it have no lines (None), and their address says the key.
    """

    path: str
    at: Location = ()
    value: Any = None
    lines: dict[Location, int | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    bad: set[Location] = field(default_factory=set)

    def complain(self, line: int | None, loc: Location, message: str, remedy: str) -> None:
        """Add a problem."""
        line, shown = (None, "") if self.at else (line, ".".join(loc))
        self.problems.append(Problem(self.path, line, shown, message, remedy))


def read(text: str, path: str, at: Location = ()) -> Document:
    """Read a recipe, or the value given on the command line for the key ``at``; never raises. Lines are 1-based.

    The value of a recipe is a mapping, or there is a problem.
    """
    document = Document(path, at)
    for line in token_lines(text)[: 1 if at else None]:
        document.complain(line, (), "holds what looks like an access token", _TOKEN_REMEDY)
    if not document.problems:  # nothing of a text with a secret in it is to be repeated in a message
        _YamlReader(document, yaml.parse(text, Loader=yaml.SafeLoader)).read(text)
    if document.problems and document.value is None:
        document.bad.add(at)
    elif not at and () not in document.lines:
        document.complain(None, (), "is empty", "start from a copy: `sft recipes` lists what is shipped")
    elif not at and not isinstance(document.value, dict):
        document.complain(document.lines[()], (), "is not a mapping of sections", "write `model:` and so on")
    return document


@dataclass(slots=True)
class _YamlReader:
    """Fills in a document from the parser's events."""

    document: Document
    events: Iterator[Any]

    def read(self, text: str) -> None:
        """Read all of it; what cannot be read to its end has no value."""
        document = self.document
        try:
            for event in self.events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if document.at in document.lines:
                        self.give_up(event, document.at, "starts a second document", "keep one recipe to a file")
                    document.lines[document.at] = self.line(event := next(self.events))
                    document.value = self.node(event, document.at)
        except _GiveUp:
            document.value = None
        except yaml.YAMLError as error:
            line, message, remedy = _syntax(error, text)
            document.complain(line, document.at, message, remedy)
            document.value = None
        document.value = None if document.value is _WRONG else document.value

    def line(self, event: Any) -> int | None:
        return None if self.document.at else event.start_mark.line + 1

    def give_up(self, event: Any, loc: Location, message: str, remedy: str) -> NoReturn:
        self.document.complain(self.line(event), loc, message, remedy)
        raise _GiveUp

    def until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event

    def refuse(self, event: Any, loc: Location) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            self.give_up(event, loc, "uses an anchor or alias (& or *)", "write the value out")
        if event.tag is not None:
            self.give_up(event, loc, f"carries the tag {event.tag[:40]!r}", "write the plain value")

    def node(self, event: Any, loc: Location, depth: int = 0) -> Any:
        """The value that begins with ``event``; ``_WRONG`` after a complaint that it is not what was meant."""
        self.refuse(event, loc)
        if isinstance(event, yaml.ScalarEvent):
            value, wrong = scalar(event.value, plain=event.implicit[0])
            if wrong is not None:
                self.document.complain(self.line(event), loc, *wrong)
            return value if wrong is None else _WRONG
        if depth == _DEEPEST:
            self.give_up(event, loc[:3], "is nested too deeply", "a recipe has sections and keys")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(loc, depth)
        items = []
        for place, item in enumerate(self.until(yaml.SequenceEndEvent), 1):
            # A mapping in a list has keys of its own, whose lines are kept apart.
            here = (*loc[:-1], f"{loc[-1]}[{place}]") if loc and isinstance(item, yaml.MappingStartEvent) else loc
            items.append(self.node(item, here, depth + 1))
        return _WRONG if any(item is _WRONG for item in items) else items

    def mapping(self, loc: Location, depth: int) -> dict[str, Any]:
        """The values of a mapping that has begun, but for those that have been complained of."""
        values: dict[str, Any] = {}
        seen: dict[str, int | None] = {}
        for event in self.until(yaml.MappingEndEvent):
            self.refuse(event, loc)
            if not isinstance(event, yaml.ScalarEvent):
                self.give_up(event, loc, "has a list or mapping as a key", "keys are plain words")
            key, here, line = event.value, (*loc, event.value), self.line(event)
            if key in seen:
                first = f" (first on line {seen[key]})" if key in values and line else ""
                self.document.complain(line, here, f"is given twice{first}", "keep one of the two")
                lines = dict(self.document.lines)
                self.node(next(self.events), here, depth + 1)
                self.document.lines = lines  # those of the value that counts
                continue
            seen[key] = self.document.lines[here] = line
            value = self.node(next(self.events), here, depth + 1)
            if value is _WRONG:
                self.document.bad.add(here)
            else:
                values[key] = value
        return values


def decode(data: bytes, path: str) -> str:
    """Bytes of a recipe file as text. Raises ``RecipeError`` where they are none."""
    line, message, remedy = None, f"is larger than {LARGEST // 1024} KiB", "give a recipe, not a data file"
    if len(data) <= LARGEST:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            hint = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{data[error.start]:02x}"
            line, message = data.count(b"\n", 0, error.start) + 1, f"is not UTF-8 text ({hint})"
            remedy = "save the file as UTF-8"
    raise RecipeError([Problem(path, line, "", message, remedy)])


def scalar(text: str, *, plain: bool) -> tuple[Any, tuple[str, str] | None]:
    """The value of a scalar, and (message, remedy) when what YAML makes of it is not what was meant."""
    strange = next((c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")), None)
    if strange is not None:
        return None, (f"holds the control character U+{ord(strange):04X}", "remove it")
    if not plain:
        return text, None
    if (meant := _YAML_1_1_BOOLS.get(text.lower())) is not None:
        return None, (f"is {text}, which YAML reads as {meant}", f'write {meant}, or "{text}" for the word')
    kind = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    shown, digits = text[:40], text.replace("_", "")
    if kind == "str" and (match := _EXPONENT.fullmatch(text)) and (match[2] or match[3] != "."):
        name = f', or "{shown}" in quotes for a name' if re.fullmatch(r"\d+e\d+", text) else ""  # perhaps of a commit
        return None, (f"is {shown}, which YAML reads as text", f"write {_with_point(match)}{name}")
    if kind in ("int", "float") and ":" in text:
        return None, (f"is {shown}, which YAML reads in base 60", f'write "{shown}" in quotes')
    if kind == "int":
        bare = digits.lstrip("+-")
        if len(bare) > 1 and bare.isdigit() and bare[0] == "0":
            return None, (f"is {shown}, which YAML reads in base 8", f"write {bare.lstrip('0') or '0'}")
        if len(bare) > 20:
            return None, (f"is a number of {len(bare)} digits", "write a smaller one, or quote it if it is a name")
        return int(digits, 0), None
    if kind == "float":
        try:
            value = float(digits)
        except ValueError:  # .inf and .nan, which Python writes otherwise
            value = float("inf")
        if value in (float("inf"), float("-inf")):
            return None, (f"is {shown}, not a finite number", "write an ordinary number")
        return value, None
    if kind == "bool":
        return text.lower() == "true", None
    return None if kind == "null" else text, None


def _with_point(match: re.Match[str]) -> str:
    """A number such as ``2e-5`` in the one spelling that YAML 1.1 reads as a number: ``2.0e-5``."""
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    if whole and not fraction and exponent_sign != "-" and int(exponent[:3]) < 16:
        return f"{sign}{whole}{'0' * int(exponent)}"
    fraction = fraction if fraction and len(fraction) > 1 else ".0"
    return f"{sign}{whole or '0'}{fraction}e{exponent_sign or '+'}{exponent}"


def number_as_yaml(text: str) -> str | None:
    """``text`` as a YAML number if a person meant one (``"2e-5"`` -> ``2.0e-5``), else None."""
    stripped = text.strip()
    if match := _EXPONENT.fullmatch(stripped):
        return _with_point(match)
    return stripped if re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)", stripped) else None


def _syntax(error: yaml.YAMLError, text: str) -> tuple[int | None, str, str]:
    """Line, message and remedy for what the parser says."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text.count("\n", 0, error.position) + 1
        return before, f"holds the character U+{ord(text[error.position]):04X}", "remove it"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else None
    lines = text.split("\n")
    around = lines[line - 1] if line and line <= len(lines) else ""
    if "\t" in around[: len(around) - len(around.lstrip())]:
        return line, "is indented with a tab", "indent with spaces"
    what = str(getattr(error, "problem", None) or error).replace("\n", " ")
    if what == "mapping values are not allowed here":
        return line, "has a colon where no key can stand", "check the indentation, and quote text that holds ': '"
    if "could not find expected ':'" in what:
        return line, "has a line without a colon", "write each setting as `key: value`"
    return line, f"is not YAML ({what[:120]})", "check indentation, brackets and quotes on and above this line"


class _Dumper(yaml.SafeDumper):
    """Writes what :func:`read` reads back: quotes where it would refuse a bare word, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def _text(self, data: str) -> yaml.ScalarNode:
        bare = scalar(data, plain=True) == (data, None)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if bare else '"')


_Dumper.add_representer(str, _Dumper._text)


def dump(values: dict[str, Any]) -> str:
    """``values`` as YAML text, keys in their order; :func:`read` gives the same values back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def as_yaml(value: Any) -> str:
    """One value as it would be written in a recipe, on one line."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
