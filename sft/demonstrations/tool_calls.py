"""Calls of functions, their results and the functions themselves, in the forms people bring.

OpenAI: ``{id, type: function, function: {name, arguments}}``, the arguments a JSON text, and the older
``function_call: {name, arguments}``. Anthropic: ``{id, name, input}``, and functions with an ``input_schema``.
ShareGPT: a turn whose text is the call as JSON. Hermes: calls, results and functions in tags inside the text
(``<tool_call>``, ``<tool_response>``, ``<tools>``), at times in Python's notation.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sft.demonstrations.messages import Call, text_fault
from sft.runs.records import kind_of

__all__ = ["NoCall", "ReadCall", "hermes_tools", "read", "read_alike", "results", "tagged", "tools"]

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_BEGINS = re.compile(r"<tool_call>\s*[{\[]")  # prose about the tag has something else behind it
_RESULT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?[\]}])\s*</tools>", re.DOTALL)
#: How the instructions begin that Hermes and Qwen put around ``<tools>``; they end with their last ``</tool_call>``.
_INSTRUCTIONS = ("You are a function calling AI model", "# Tools\n")


_AS_OBJECT = "write {name, arguments}, the arguments as a JSON object"
_AS_LIST = "write a JSON list of functions: [{name, description, ...}]"
_AS_TAGS = "end the turn with <tool_call>{name, arguments}</tool_call>, or write the call as tool_calls"
#: Levels of arguments and schemas: what is nested deeper, templates and Python's own JSON fail on.
_DEPTH = 64


class NoCall(ValueError):
    """What is no call, no list of functions; ``str()``: why, as half a sentence; ``remedy``: what to do."""

    def __init__(self, what: str, remedy: str = _AS_OBJECT) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ReadCall:
    """A call, and the id that its result refers to, where it has one."""

    call: Call
    id: str = ""


def read(given: Iterable[Any], *, drops_nulls: bool = False) -> list[ReadCall]:
    """Every call in ``given``: calls or lists of calls, as objects or as JSON text. Raises :class:`NoCall`."""
    found = []
    for value in given:
        if isinstance(value, str):
            value = _parsed(value)
        for each in value if isinstance(value, list) else [value]:
            found.append(_one(each, drops_nulls))
    return found


def read_alike(given: Mapping[str, Any], *, drops_nulls: bool = False) -> list[ReadCall]:
    """The calls that stand under several keys of one message, and are the same ones. Raises :class:`NoCall`."""
    found = {key: read([value], drops_nulls=drops_nulls) for key, value in given.items()}
    first = next(iter(found.values()), [])
    for key, calls in found.items():
        if [one.call for one in calls] != [one.call for one in first]:
            raise NoCall(f"stands under {next(iter(found))} and is another under {key}", "keep one of them")
    return first


def _one(value: Any, drops_nulls: bool) -> ReadCall:
    if not isinstance(value, dict):
        raise NoCall(f"is {kind_of(value)}, not an object")
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    name = inner.get("name")
    given = [inner[key] for key in ("arguments", "parameters", "input") if inner.get(key) is not None]
    if not isinstance(name, str) or not name.strip():
        raise NoCall("has no name")
    arguments = given[0] if given else {}
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise NoCall(f"has {kind_of(arguments)} for its arguments, not an object")
    if drops_nulls:
        arguments = without_nulls(arguments)
    _refuse_depth(arguments)
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise NoCall(f"cannot be written as JSON ({error})") from None
    for part in (name, text):
        if fault := text_fault(part):
            raise NoCall(fault, "replace the broken character (half of an emoji)")
    return ReadCall(Call(name, text), str(value.get("id") or ""))


def _refuse_depth(value: Any) -> None:
    """Raise :class:`NoCall` for what is nested too deep."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise NoCall(f"is nested more than {_DEPTH} levels deep", "make it flatter; chat templates fail on such depths")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of ``pairs``. Raises :class:`NoCall` where a name stands twice, for one value would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NoCall(f"gives {twice!r} twice", "keep one of them")
    return made


def _parsed(text: str) -> Any:
    """JSON, or the same in Python's notation, as older files of Hermes have it. Raises :class:`NoCall`."""
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except NoCall:
        raise
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise NoCall(f"is no JSON ({text[:40]!r})") from None


def without_nulls(value: Any) -> Any:
    """``value`` without keys that are null: in Parquet every object of a column has the keys of all of them."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def tools(value: Any, *, drops_nulls: bool = False) -> str:
    """Functions that could be called, as a JSON list in OpenAI's form; "" for none. Raises :class:`NoCall`."""
    if isinstance(value, str):
        if not value.strip():
            return ""
        value = _listed(value)
    if value is None:  # as Python prints it
        return ""
    listed = value if isinstance(value, list) else [value]
    found = []
    for each in listed:
        if isinstance(each, str):
            each = _listed(each)
        inner = each.get("function", each) if isinstance(each, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"].strip():
            raise NoCall("one of them has no name", _AS_LIST)
        if inner is each:
            each = {"type": "function", "function": _as_openai(each)}
        found.append(without_nulls(each) if drops_nulls else each)
    _refuse_depth(found)
    text = json.dumps(found, ensure_ascii=False) if found else ""
    if text and (fault := text_fault(text)):
        raise NoCall(fault, "replace the broken character (half of an emoji)")
    return text


def _listed(text: str) -> Any:
    """Functions, or one, in a text. Raises :class:`NoCall`."""
    try:
        return _parsed(text)
    except NoCall as error:
        raise NoCall(str(error), error.remedy if error.remedy != _AS_OBJECT else _AS_LIST) from None


def _as_openai(tool: dict[str, Any]) -> dict[str, Any]:
    """A function with the schema of its arguments under the name that templates read; Anthropic's has another."""
    if "parameters" in tool or not isinstance(tool.get("input_schema"), dict):
        return tool
    return {("parameters" if key == "input_schema" else key): value for key, value in tool.items()}


def results(content: str) -> list[str]:
    """The results that the text of a tool's turn holds: what stands in Hermes' tags, else all of it."""
    blocks = _RESULT.findall(content)
    return blocks if blocks and not _RESULT.sub("", content).strip() else [content]


def tagged(content: str, *, drops_nulls: bool = False) -> tuple[str, list[ReadCall]]:
    """(words, calls) of a text that ends in calls in Hermes' tags; (``content``, []) for one that has none.

    Raises :class:`NoCall` where a call begins in tags and cannot be read.
    """
    begins = _BEGINS.search(content)
    if begins is None:
        return content, []
    blocks = list(_CALL.finditer(content, begins.start()))
    rest = _CALL.sub("", content[begins.start() :]).strip()
    if "<tool_call>" in rest:
        raise NoCall("is not closed", _AS_TAGS)
    if rest:
        raise NoCall(f"has words behind it ({rest[:40]!r})", _AS_TAGS)
    return content[: begins.start()].strip(), read((block[1] for block in blocks), drops_nulls=drops_nulls)


def hermes_tools(system: str) -> tuple[str, str]:
    """(the functions in a system message that tells how Hermes calls them, what else it says); ("", "") for others."""
    begins = [place for start in _INSTRUCTIONS if (place := system.find(start)) >= 0]
    listed = _TOOLS.search(system, min(begins)) if begins else None
    if listed is None:
        return "", ""
    text = listed[1]
    try:
        found = tools(text if text.startswith("[") else [line for line in text.splitlines() if line.strip()])
    except NoCall:
        return "", ""
    end = max(system.rfind("</tool_call>") + len("</tool_call>"), listed.end())
    return found, "\n\n".join(part for part in (system[: min(begins)].strip(), system[end:].strip()) if part)
