"""YAML text into a tree that remembers its lines, refusing what YAML 1.1 would quietly misread.

PyYAML reads ``2e-5`` as text, ``no`` as false, ``010`` as eight, ``1:30`` as ninety, and keeps the last of
two equal keys. Here each of these is a :class:`~sft.errors.Problem` with its line and what to write
instead. The tree is built from parser events, so nothing is ever constructed: no tags, no anchors, no
aliases (hence no "billion laughs"), no recursion.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sft.errors import Problem
from sft.runs.tokens import token_lines

__all__ = [
    "LARGEST",
    "Document",
    "Location",
    "Node",
    "as_yaml",
    "decode",
    "dump",
    "number_as_yaml",
    "read",
    "read_value",
]

LARGEST = 64 * 1024  # bytes; a recipe is a page of text
_DEEPEST = 8

Location = tuple[str, ...]

_YAML_1_1_BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_EXPONENT = re.compile(r"([-+]?)(\d[\d_]*)?(\.[\d_]*)?[eE]([-+]?)(\d+)")
_TOKEN_REMEDY = (
    "remove it, and revoke it if this file was ever shared: recipes are published with their runs, "
    "and `hf auth login` keeps tokens where they belong"
)


@dataclass(slots=True)
class Node:
    """One value with where it was written. ``value``: plain YAML scalar, list or dict of nodes."""

    value: Any
    origin: str
    line: int | None = None

    def plain(self) -> Any:
        """The value without its lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(slots=True)
class Document:
    """What was read: the tree (None when there is none), every problem, and where values were given up.

    ``whole``: whether reading came to the end; what stands behind a broken bracket is unknown, not missing.
    """

    root: Node | None = None
    whole: bool = True
    problems: list[Problem] = field(default_factory=list)
    bad: set[Location] = field(default_factory=set)


@dataclass(slots=True)
class _Frame:
    node: Node
    loc: Location
    key: str | None = None
    key_line: int = 0
    keep: bool = True


class _GiveUp(Exception):
    """The rest of the text cannot be read; the problem has been recorded."""


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


def read(text: str, path: str) -> Document:
    """Read a whole recipe; never raises. Lines are 1-based."""
    document = Document()
    for line in token_lines(text):
        document.problems.append(Problem(path, line, "", "holds what looks like an access token", _TOKEN_REMEDY))
    if document.problems:
        document.whole = False
        return document  # nothing of a file with a secret in it is to be repeated in a message
    _build(document, text, path, base=(), origin="recipe")
    if document.root is None and not document.problems:
        document.problems.append(
            Problem(path, None, "", "is empty", "start from a copy: `sft recipes` lists what is shipped")
        )
    elif document.root is not None and not isinstance(document.root.value, dict):
        document.problems.append(
            Problem(path, document.root.line, "", "is not a mapping of sections", "write `model:` and so on")
        )
        document.root = None
    return document


def read_value(text: str, path: str, loc: Location) -> Document:
    """Read one YAML value given on the command line for the key at ``loc``; lines are left out."""
    document = Document()
    if token_lines(text):
        document.problems.append(
            Problem(path, None, ".".join(loc), "holds what looks like an access token", _TOKEN_REMEDY)
        )
        return document
    _build(document, text, path, base=loc, origin="--set")
    if document.root is None and not document.problems:
        document.root = Node(None, "--set")
    return document


def _build(document: Document, text: str, path: str, *, base: Location, origin: str) -> None:
    from_file = origin == "recipe"

    def complain(line: int | None, loc: Location, message: str, remedy: str) -> None:
        document.problems.append(Problem(path, line if from_file else None, ".".join(loc), message, remedy))

    try:
        _assemble(document, yaml.parse(text, Loader=yaml.SafeLoader), complain, base, origin)
    except _GiveUp:
        document.root, document.whole = None, False
    except yaml.YAMLError as error:
        line, message, remedy = _syntax(error, text)
        complain(line, base, message, remedy)
        document.root, document.whole = None, False


def _assemble(document: Document, events: Iterator[Any], complain: Any, base: Location, origin: str) -> None:
    stack: list[_Frame] = []

    def node(value: Any, line: int) -> Node:
        return Node(value, f"recipe:{line}" if origin == "recipe" else origin, line)

    def place(child: Node, *, keep: bool = True) -> None:
        """Hang ``child`` where the parser stands; one that is not kept is remembered as bad."""
        if not stack:
            if keep:
                document.root = child
            else:
                document.bad.add(base)
            return
        frame = stack[-1]
        if isinstance(frame.node.value, list):
            if keep:
                frame.node.value.append(child)
            else:
                document.bad.add(frame.loc)
            return
        assert frame.key is not None
        if frame.keep:
            child.line, child.origin = frame.key_line, node(None, frame.key_line).origin
            if keep:
                frame.node.value[frame.key] = child
            else:
                document.bad.add((*frame.loc, frame.key))
        frame.key, frame.keep = None, True

    def here() -> Location:
        if not stack:
            return base
        return stack[-1].loc if stack[-1].key is None else (*stack[-1].loc, stack[-1].key)

    documents = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                complain(line, base, "starts a second document", "keep one recipe to a file")
                raise _GiveUp
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            complain(line, here(), "uses an anchor or alias (& or *)", "write the value out")
            raise _GiveUp
        if getattr(event, "tag", None) is not None:
            complain(line, here(), f"carries the tag {event.tag[:40]!r}", "write the plain value")
            raise _GiveUp
        wants_key = bool(stack) and isinstance(stack[-1].node.value, dict) and stack[-1].key is None
        if isinstance(event, yaml.CollectionStartEvent):
            if wants_key:
                complain(line, here(), "has a list or mapping as a key", "keys are plain words")
                raise _GiveUp
            if len(stack) >= _DEEPEST:
                complain(line, here()[:3], "is nested too deeply", "a recipe has sections and keys")
                raise _GiveUp
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            stack.append(_Frame(node(value, line), here()))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            place(done.node)
        elif isinstance(event, yaml.ScalarEvent) and wants_key:
            frame = stack[-1]
            frame.key, frame.key_line = event.value, line
            if event.value in frame.node.value or (*frame.loc, event.value) in document.bad:
                first = frame.node.value.get(event.value)
                where = f" (first on line {first.line})" if first and origin == "recipe" else ""
                complain(line, here(), f"is given twice{where}", "keep one of the two")
                frame.keep = False
        elif isinstance(event, yaml.ScalarEvent):
            found, complaint = _scalar(event.value, plain=event.implicit[0])
            if complaint is not None:
                complain(line, here(), *complaint)
            place(node(found, line), keep=complaint is None)


def _scalar(text: str, *, plain: bool) -> tuple[Any, tuple[str, str] | None]:
    """The value of a scalar, and (message, remedy) when what YAML makes of it is not what was meant."""
    strange = next((c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")), None)
    if strange is not None:
        return None, (f"holds the control character U+{ord(strange):04X}", "remove it")
    if not plain:
        return text, None
    if text.lower() in _YAML_1_1_BOOLS:
        meant = _YAML_1_1_BOOLS[text.lower()]
        return None, (f"is {text}, which YAML reads as {meant}", f'write {meant}, or "{text}" for the word')
    kind = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    digits = text.replace("_", "")
    if kind == "str" and text and (match := _EXPONENT.fullmatch(text)) and (match[2] or match[3] != "."):
        remedy = f"write {_with_point(match)}"
        if re.fullmatch(r"\d+e\d+", text):  # may be the beginning of a commit
            remedy += f', or "{text[:40]}" in quotes for a name'
        return None, (f"is {text[:40]}, which YAML reads as text", remedy)
    if kind in ("int", "float") and ":" in text:
        return None, (f"is {text[:40]}, which YAML reads in base 60", f'write "{text[:40]}" in quotes')
    if kind == "int":
        bare = digits.lstrip("+-")
        if len(bare) > 1 and bare.isdigit() and bare[0] == "0":
            return None, (f"is {text[:40]}, which YAML reads in base 8", f"write {bare.lstrip('0') or '0'}")
        if len(bare) > 20:
            return None, (f"is a number of {len(bare)} digits", "write a smaller one, or quote it if it is a name")
        return int(digits, 0), None
    if kind == "float":
        value = float(digits.replace(".inf", "inf").replace(".nan", "nan")) if _is_float(digits) else None
        if value is None or value != value or value in (float("inf"), float("-inf")):
            return None, (f"is {text[:40]}, not a finite number", "write an ordinary number")
        return value, None
    if kind == "bool":
        return text.lower() == "true", None
    if kind == "null":
        return None, None
    return text, None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        bare = _scalar(data, plain=True) == (data, None)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if bare else '"')


_Dumper.add_representer(str, _Dumper._text)


def dump(values: dict[str, Any]) -> str:
    """``values`` as YAML text, keys in their order; :func:`read` gives the same values back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def as_yaml(value: Any) -> str:
    """One value as it would be written in a recipe, on one line."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
