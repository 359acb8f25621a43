"""How a chat template writes calls of functions, learned from probes, and the reading of calls that a model wrote.

A call is handed to the template as transformers does; what it then writes is found again in three forms, whatever
stands around them:

    object   the call is one JSON object: {"name": ..., "arguments": ...} (Hermes, Qwen, Llama, Mistral)
    named    the name, then the arguments as a JSON object (DeepSeek, gpt-oss, Kimi)
    pairs    the name, then each argument's name and value (Qwen3-Coder, GLM, MiniMax)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from sft.demonstrations.messages import Call

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CallForm", "common_beginning", "learn_calls"]

_REFUSALS = (TemplateError, TypeError, ValueError)
_NAMES, _KEYS, _VALUES = ("zqfirstqz", "zqsecondqz"), ("zqkeyqz", "zqotherqz"), ("zqvalueqz", "zqanyqz")
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "zqdescriptionqz",
            "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in _KEYS}, "required": []},
        },
    }
    for name in _NAMES
]
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class CallForm:
    """How calls are handed to a template, and how it writes them.

    ``as_text``: it wants arguments as JSON text. ``named_ids``: it writes a call's id in place of its name.
    ``lists_tools``: it writes the functions that could be called. ``results``: it writes what they gave back.
    ``kind``: object, named or pairs. ``opens``: what it writes before the first call; ``before``: what stands right
    before a name; ``parts``: what it writes between a name, arguments and what follows.
    ``tail``: all it writes after the last call, end of turn included.
    """

    as_text: bool
    named_ids: bool
    lists_tools: bool
    results: bool
    kind: str
    opens: str
    before: str
    parts: tuple[str, ...]
    tail: str

    def handed(self, call: Call, number: int) -> dict[str, Any]:
        """``call``, the ``number``-th of its conversation, as transformers wants it."""
        return _handed(call, number, as_text=self.as_text, named_ids=self.named_ids)

    def read(self, text: str, tools: Sequence[Any] = ()) -> tuple[str, list[Call]]:
        """(words, calls) of what a model wrote; no calls where none can be read in the template's form.

        ``tools``: the functions that could be called, whose schemas tell text from other values.
        """
        found = list(self._found(text, tools))
        if not found:
            return text, []
        words = text[: found[0][0]]
        return words.rstrip(), [call for _, call in found]

    def _found(self, text: str, tools: Sequence[Any]) -> Iterator[tuple[int, Call]]:
        """Where what belongs to each call begins, and the call."""
        opener = self.opens.strip()
        place = text.find(opener) if opener else 0
        if place < 0 or (not opener and self.kind == "object" and not text.lstrip().startswith(("{", "["))):
            return
        first, at = place, place + len(opener)
        while True:
            one = self._object(text, at) if self.kind == "object" else self._named(text, at, tools)
            if one is None:
                return
            call, at = one
            yield first, call

    def _object(self, text: str, at: int) -> tuple[Call, int] | None:
        start = text.find("{", at)
        while start >= 0:
            value, end = _decoded(text, start)
            inner = value.get("function", value) if isinstance(value, dict) else None
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                given = next((inner[key] for key in _ARGUMENTS if isinstance(inner.get(key), dict)), None)
                if given is not None and (call := _call(inner["name"], given)):
                    return call, end
            start = text.find("{", start + 1 if value is None else end)
        return None

    def _named(self, text: str, at: int, tools: Sequence[Any]) -> tuple[Call, int] | None:
        start = text.find(self.before, at)
        if start < 0:
            return None
        start += len(self.before)
        if self.kind == "named":
            middle = re.compile(self.parts[0]).search(text, start)
            value, end = _decoded(text, middle.end()) if middle else (None, 0)
            call = _call(text[start : middle.start()], value) if middle and isinstance(value, dict) else None
            return (call, end) if call else None
        key, value_, close, over = map(re.escape, self.parts)
        head = re.compile(rf"\s*(.+?)\s*(?={key}|{over})", re.DOTALL).match(text, start)
        if head is None:
            return None
        name, end = head[1].strip(), head.end()
        types = next((_types(tool) for tool in tools if _function(tool).get("name") == name), {})
        pair = re.compile(rf"\s*{key}(.+?){value_}(.*?){close}", re.DOTALL)
        given: dict[str, Any] = {}
        while found := pair.match(text, end):
            given[found[1]] = _typed(found[2], types.get(found[1]))
            end = found.end()
        call = _call(name, given)
        return (call, end) if call else None


def _handed(call: Call, number: int, *, as_text: bool, named_ids: bool) -> dict[str, Any]:
    arguments = call.arguments if as_text else call.values
    # Mistral wants nine letters and digits; Kimi writes the id where others write the name.
    key = f"functions.{call.name}:{number}" if named_ids else f"call{number:05d}"
    return {"id": key, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _call(name: str, arguments: Any) -> Call | None:
    try:
        return Call(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except ValueError:
        return None


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at ``start`` and where it ends; (None, start) where there is none."""
    while start < len(text) and text[start].isspace():
        start += 1
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start


def _function(tool: Any) -> dict[str, Any]:
    inner = tool.get("function", tool) if isinstance(tool, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _types(tool: Any) -> dict[str, Any]:
    """Argument -> its type in the function's schema."""
    parameters = _function(tool).get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    found = properties if isinstance(properties, dict) else {}
    return {key: value.get("type") for key, value in found.items() if isinstance(value, dict)}


def _typed(text: str, kind: Any) -> Any:
    """An argument that was written without quotes."""
    if kind == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- learning -------------------------------------------------------------------------------------------------


def learn_calls(tokenizer: PreTrainedTokenizerBase, template: str, fold_system: bool) -> CallForm | None:
    """How ``template`` writes calls; None where it writes none, or none that can be read again."""
    for named_ids in (False, True):
        for as_text in (False, True):
            found = _learned(tokenizer, template, as_text, named_ids)
            if found is not None:
                return found
    return None


def _learned(tokenizer: PreTrainedTokenizerBase, template: str, as_text: bool, named_ids: bool) -> CallForm | None:
    def written(*turns: dict[str, Any], tools: Any = _TOOLS, ask: bool = False) -> str:
        first = {"role": "user", "content": "zquserqz"}
        return tokenizer.apply_chat_template(
            [first, *turns], tools=tools, chat_template=template, tokenize=False, add_generation_prompt=ask
        )

    def calling(*calls: Call) -> dict[str, Any]:
        handed = [_handed(one, number, as_text=as_text, named_ids=named_ids) for number, one in enumerate(calls)]
        return {"role": "assistant", "content": "", "tool_calls": handed}

    one = Call(_NAMES[0], json.dumps({_KEYS[0]: _VALUES[0]}))
    two = Call(_NAMES[1], json.dumps(dict(zip(_KEYS, _VALUES, strict=True))))
    try:
        asked, whole, pair = written(ask=True), written(calling(one)), written(calling(two))
    except _REFUSALS:
        return None
    rest, more = (text[len(common_beginning(asked, text)) :] for text in (whole, pair))
    form = _form(rest, more)
    if form is None:
        return None
    kind, opens, before, parts, tail = form
    result = {
        "role": "tool",
        "content": "zqresultqz",
        "name": _NAMES[0],
        "tool_call_id": calling(one)["tool_calls"][0]["id"],
    }
    try:
        results = "zqresultqz" in written(calling(one), result, ask=True)
    except _REFUSALS:
        results = False
    lists = all(name in asked for name in _NAMES)
    return CallForm(as_text, named_ids, lists, results, kind, opens, before, parts, tail)


def _form(one: str, two: str) -> tuple[str, str, str, tuple[str, ...], str] | None:
    """(kind, opens, before, parts, tail) of a call with one argument, and of another one with two."""
    name = one.find(_NAMES[0])
    if name < 0 or any(part not in one for part in (_KEYS[0], _VALUES[0])):
        return None
    end = name + len(_NAMES[0])
    for start in (found.start() for found in re.finditer(r"\{", one)):
        value, close = _decoded(one, start)
        if value == {_KEYS[0]: _VALUES[0]} and start > end:
            before = _last_line(one[:name])
            # An id or a number may follow a name: whatever is not the same each time is let through.
            middle = re.sub(r"\d+", r"\\d+", re.escape(one[end:start]))
            return "named", one[:name].removesuffix(before), before, (middle,), one[close:]
        inner = value.get("function", value) if isinstance(value, dict) else None
        if isinstance(inner, dict) and inner.get("name") == _NAMES[0]:
            given = [inner[key] for key in _ARGUMENTS if isinstance(inner.get(key), dict)]
            return ("object", one[:start], "", (), one[close:]) if given == [{_KEYS[0]: _VALUES[0]}] else None
    return _pairs(one, two, name, end)


def _pairs(one: str, two: str, name: int, end: int) -> tuple[str, str, str, tuple[str, ...], str] | None:
    places = [two.find(text) for text in (_NAMES[1], _KEYS[0], _VALUES[0], _KEYS[1], _VALUES[1])]
    if places != sorted(places) or min(places) < 0 or "{" in two[places[0] : places[-1]]:
        return None
    middle, key_end = two[places[0] + len(_NAMES[1]) : places[1]], places[1] + len(_KEYS[0])
    between, value_end = two[key_end : places[2]], places[2] + len(_VALUES[0])
    separator = two[value_end : places[3]]
    key = common_beginning(middle[::-1], separator[::-1])[::-1].lstrip()
    close = separator.removesuffix(key).rstrip()
    value_at = one.find(_VALUES[0]) + len(_VALUES[0])
    after = one[value_at:].removeprefix(separator.removesuffix(key).rstrip())
    before = _last_line(one[:name])
    if not (key and close):
        return None
    over = after.strip().split("\n")[0].split("<|")[0] or after.strip()
    return "pairs", one[:name].removesuffix(before), before, (key, between, close, over), after


def common_beginning(one: str, other: str) -> str:
    """What both begin with."""
    size = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size]


def _last_line(text: str) -> str:
    """The end of ``text`` that marks a name: from its last token, or line, on."""
    for pattern in (r"[^\s>\]|]+$", r"\S+\s*$"):
        if found := re.search(pattern, text):
            return found[0]
    return text
