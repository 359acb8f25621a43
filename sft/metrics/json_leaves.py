"""How alike two JSON texts are: the share of their values that agree, leaf by leaf.

A text is what it says and not how it is written: the order of keys and white space are nothing, ``1`` is ``1.0``, and
``"1"`` is neither. A call of a tool, in any of the forms below, is its name and its arguments, and with another name
nothing of it agrees:

- ``{"name": ..., "arguments": {...}}``, or ``parameters``; arguments may be a JSON text of their own;
- ``{"type": "function", "id": ..., "function": {...}}``, the id left aside, for it is drawn (OpenAI);
- either inside ``<tool_call>`` and ``</tool_call>``, once or several times (Hermes, Qwen); words beside them are aside.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sft.metrics.text import nfc

__all__ = ["NotJson", "calls", "json_leaves", "parsed"]

#: Lists are aligned up to so many pairs of leaves of the two texts, and compared place by place beyond: half a second.
_PAIRS = 250_000
#: Values nested deeper than this are compared whole.
_DEPTH = 50

_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_PARTS_OF_A_CALL = {"name", "arguments", "parameters", "id", "type"}


class NotJson(ValueError):
    """A text that is no JSON value."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a tool."""

    name: str
    arguments: Any


def json_leaves(prediction: str, reference: str) -> float:
    """Share of leaves that agree, in points: 200 · agreeing / (leaves of the one + leaves of the other).

    A missing, an additional and a wrong leaf all count; an empty object or list is a leaf. Elements of lists are
    aligned so that most leaves agree, in order. A prediction that is no JSON gets 0. Raises :class:`NotJson` for a
    reference that is none.
    """
    expected = parsed(reference)
    try:
        found = parsed(prediction)
    except NotJson:
        return 0.0
    ours, theirs = _leaves(found), _leaves(expected)
    return 200.0 * _agreeing(found, expected, align=ours * theirs <= _PAIRS) / (ours + theirs)


def parsed(text: str) -> Any:
    """The value that ``text`` writes, calls of tools made alike. Raises :class:`NotJson`."""
    if blocks := _TAGGED.findall(text):
        values = [_value(block) for block in blocks]
        return values[0] if len(values) == 1 else values
    return _value(text)


def calls(text: str) -> bool:
    """Whether ``text`` holds a call of a tool in its tags."""
    return _TAGGED.search(text) is not None


def _value(text: str) -> Any:
    try:
        return _with_calls(json.loads(text, parse_constant=_refuse), 0)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def _refuse(constant: str) -> None:
    raise NotJson(f"{constant} is no JSON number")


def _with_calls(value: Any, depth: int) -> Any:
    """``value`` with every call of a tool as a :class:`_Call`, and strings in NFC."""
    if depth > _DEPTH:
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        return nfc(value)
    if isinstance(value, list):
        return [_with_calls(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    call = value.get("function") if value.get("type") == "function" else value
    if isinstance(call, dict) and isinstance(call.get("name"), str) and call.keys() <= _PARTS_OF_A_CALL:
        given = [name for name in ("arguments", "parameters") if name in call]
        if len(given) == 1:
            return _Call(nfc(call["name"]), _with_calls(_arguments(call[given[0]]), depth + 1))
    return {nfc(key): _with_calls(item, depth + 1) for key, item in value.items()}


def _arguments(given: Any) -> Any:
    """Arguments of a call, which OpenAI writes as a JSON text."""
    if not isinstance(given, str):
        return given
    try:
        found = json.loads(given, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return given
    return found if isinstance(found, dict) else given


def _leaves(value: Any) -> int:
    if isinstance(value, _Call):
        return 1 + _leaves(value.arguments)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(1, sum(_leaves(item) for item in inner))


def _agreeing(one: Any, other: Any, *, align: bool) -> int:
    """How many leaves of ``one`` stand in ``other`` too, in the same place."""
    if isinstance(one, _Call) and isinstance(other, _Call):
        return 1 + _agreeing(one.arguments, other.arguments, align=align) if one.name == other.name else 0
    if isinstance(one, dict) and isinstance(other, dict) and one and other:
        return sum(_agreeing(one[key], other[key], align=align) for key in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list) and one and other:
        if align:
            return _aligned(one, other)
        return sum(_agreeing(a, b, align=False) for a, b in zip(one, other, strict=False))
    if isinstance(one, bool) or isinstance(other, bool):  # to Python, True is 1
        return int(one is other)
    return int(one == other)


def _aligned(one: list[Any], other: list[Any]) -> int:
    """As many leaves as can agree when elements are paired in order, some left out: an alignment by weight."""
    best = [0] * (len(other) + 1)
    for a in one:
        before, best = best, [0]
        for place, b in enumerate(other):
            best.append(max(before[place + 1], best[place], before[place] + _agreeing(a, b, align=True)))
    return best[-1]
