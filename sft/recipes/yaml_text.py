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
from typing import Any

import yaml

from sft.errors import Problem
from sft.recipes.complaints import Location
from sft.runs.tokens import token_lines

__all__ = ["LARGEST", "Document", "Node", "as_yaml", "decode", "dump", "number_as_yaml", "read", "scalar"]

LARGEST = 64 * 1024  # bytes; a recipe is a page of text
_DEEPEST = 8

_TOKEN_REMEDY = (
    "remove it, and revoke it if this file was ever shared: recipes are published with their runs, "
    "and `hf auth login` keeps tokens where they belong"
)
_YAML_1_1_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_EXPONENT = re.compile(r"([-+]?)(\d[\d_]*)?(\.[\d_]*)?[eE]([-+]?)(\d+)")


@dataclass(slots=True)
class Node:
    """A YAML scalar, or a list or dict of nodes, with the line of its key; no line: it was given with ``--set``."""

    value: Any
    line: int | None = None

    def plain(self) -> Any:
        """The value without its lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _GiveUp(Exception):
    """The rest of the text cannot be read: the line, the place, what is wrong and what to do."""


@dataclass(slots=True)
class Document:
    """What was read: the tree (None when there is none), every problem, and where values were given up.

    ``path``: what problems are addressed to. ``at``: the key whose value the text is, given with ``--set``: it has
    no lines, and its address says the key.
    """

    path: str
    at: Location = ()
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    bad: set[Location] = field(default_factory=set)
    _events: Iterator[Any] = field(default_factory=lambda: iter(()), repr=False)

    def complain(self, line: int | None, loc: Location, message: str, remedy: str) -> None:
        """Add a problem."""
        line, shown = (None, "") if self.at else (line, ".".join(loc))
        self.problems.append(Problem(self.path, line, shown, message, remedy))

    def read(self, text: str) -> None:
        """Fill in what ``text`` holds. Where it cannot be read to its end, there is no tree."""
        self._events = yaml.parse(text, Loader=yaml.SafeLoader)
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if self.root is not None or self.bad:
                        raise _GiveUp(
                            self._line(event), self.at, "starts a second document", "keep one recipe to a file"
                        )
                    self.root = self._node(next(self._events), self.at)
                    if self.root is None:
                        self.bad.add(self.at)
        except _GiveUp as stop:
            self.complain(*stop.args)
            self.root = None
        except yaml.YAMLError as error:
            line, message, remedy = _syntax(error, text)
            self.complain(line, self.at, message, remedy)
            self.root = None

    def _line(self, event: Any) -> int | None:
        return None if self.at else event.start_mark.line + 1

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _refuse(self, event: Any, loc: Location) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _GiveUp(self._line(event), loc, "uses an anchor or alias (& or *)", "write the value out")
        if event.tag is not None:
            raise _GiveUp(self._line(event), loc, f"carries the tag {event.tag[:40]!r}", "write the plain value")

    def _node(self, event: Any, loc: Location, depth: int = 0) -> Node | None:
        """The value that begins with ``event``; None after a complaint that it is not what was meant."""
        self._refuse(event, loc)
        line = self._line(event)
        if isinstance(event, yaml.ScalarEvent):
            value, wrong = scalar(event.value, plain=event.implicit[0])
            if wrong is not None:
                self.complain(line, loc, *wrong)
            return Node(value, line) if wrong is None else None
        if depth == _DEEPEST:
            raise _GiveUp(line, loc[:3], "is nested too deeply", "a recipe has sections and keys")
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(item, loc, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
            return None if None in items else Node(items, line)
        return Node(self._mapping(loc, depth), line)

    def _mapping(self, loc: Location, depth: int) -> dict[str, Node]:
        values: dict[str, Node] = {}
        seen: set[str] = set()
        for event in self._until(yaml.MappingEndEvent):
            self._refuse(event, loc)
            line = self._line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _GiveUp(line, loc, "has a list or mapping as a key", "keys are plain words")
            key, here = event.value, (*loc, event.value)
            if again := key in seen:
                where = f" (first on line {values[key].line})" if key in values and line else ""
                self.complain(line, here, f"is given twice{where}", "keep one of the two")
            seen.add(key)
            node = self._node(next(self._events), here, depth + 1)
            if node is None and not again:
                self.bad.add(here)
            elif node is not None and not again:
                values[key] = Node(node.value, line)
        return values


def decode(data: bytes, path: str) -> tuple[str, list[Problem]]:
    """Bytes of a recipe file as text, or the reason why they are none."""
    if len(data) > LARGEST:
        return "", [Problem(path, None, "", f"is larger than {LARGEST // 1024} KiB", "give a recipe, not a data file")]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{data[error.start]:02x}"
        return "", [Problem(path, line, "", f"is not UTF-8 text ({hint})", "save the file as UTF-8")]


def read(text: str, path: str, at: Location = ()) -> Document:
    """Read a recipe, or the value given on the command line for the key ``at``; never raises. Lines are 1-based."""
    document = Document(path, at)
    for line in token_lines(text)[: 1 if at else None]:
        document.complain(line, (), "holds what looks like an access token", _TOKEN_REMEDY)
    if document.problems:
        return document  # nothing of a text with a secret in it is to be repeated in a message
    document.read(text)
    root = document.root
    if at and root is None and not document.problems:
        document.root = Node(None)
    elif not at and root is None and not document.problems:
        document.complain(None, (), "is empty", "start from a copy: `sft recipes` lists what is shipped")
    elif not at and root is not None and not isinstance(root.value, dict):
        document.complain(root.line, (), "is not a mapping of sections", "write `model:` and so on")
        document.root = None
    return document


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
