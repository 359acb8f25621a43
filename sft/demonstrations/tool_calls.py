"""Calls of functions, their results and the functions themselves, in the forms people bring.

OpenAI: ``{id, type: function, function: {name, arguments}}``, the arguments a JSON text, and the older
``function_call: {name, arguments}``. ShareGPT: a turn whose text is the call as JSON. Hermes: calls, results and
functions in tags inside the text (``<tool_call>``, ``<tool_response>``, ``<tools>``), at times in Python's notation.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sft.demonstrations.messages import Call
from sft.runs.records import kind_of

__all__ = ["NoCall", "ReadCall", "hermes_tools", "read", "results", "tagged", "tools"]

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?[\]}])\s*</tools>", re.DOTALL)
#: How the instructions begin that Hermes and Qwen put around ``<tools>``; they end with their last ``</tool_call>``.
_INSTRUCTIONS = ("You are a function calling AI model", "# Tools\n")


class NoCall(ValueError):
    """What is no call, no list of functions; ``str()``: why, as half a sentence."""


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
    try:
        made = Call(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except ValueError as error:
        raise NoCall(f"cannot be written as JSON ({error})") from None
    return ReadCall(made, str(value.get("id") or ""))


def _parsed(text: str) -> Any:
    """JSON, or the same in Python's notation, as older files of Hermes have it. Raises :class:`NoCall`."""
    try:
        return json.loads(text)
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
        value = _parsed(value)
    listed = value if isinstance(value, list) else [value]
    found = []
    for each in listed:
        if isinstance(each, str):
            each = _parsed(each)
        inner = each.get("function", each) if isinstance(each, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"].strip():
            raise NoCall("one of them has no name")
        if inner is each:
            each = {"type": "function", "function": each}
        found.append(without_nulls(each) if drops_nulls else each)
    return json.dumps(found, ensure_ascii=False) if found else ""


def results(content: str) -> list[str]:
    """The results that the text of a tool's turn holds: what stands in Hermes' tags, else all of it."""
    blocks = _RESULT.findall(content)
    return blocks if blocks and not _RESULT.sub("", content).strip() else [content]


def tagged(content: str, *, drops_nulls: bool = False) -> tuple[str, list[ReadCall]]:
    """(words, calls) of a text that ends in calls in Hermes' tags; (``content``, []) for any other text."""
    blocks = list(_CALL.finditer(content))
    if not blocks:
        return content, []
    words, rest = content[: blocks[0].start()], _CALL.sub("", content[blocks[0].start() :])
    if rest.strip():
        return content, []
    try:
        return words.strip(), read((block[1] for block in blocks), drops_nulls=drops_nulls)
    except NoCall:
        return content, []


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
