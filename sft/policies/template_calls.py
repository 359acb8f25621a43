"""How a chat template writes calls of functions, learned from probes, and the reading of calls that a model wrote.

A call is handed to the template as transformers does; what it then writes is read back in one of five forms, whatever
stands around them. A form is used only if it reads back what the template wrote:

    object   the call is one JSON object: {"name": ..., "arguments": ...} (Hermes, Qwen, Llama, Mistral)
    named    the name, then the arguments as a JSON object (DeepSeek, gpt-oss, Kimi)
    bare     the name, then an object with names unquoted and texts in marks of its own (Gemma 4)
    pairs    the name, then each argument's name and value (Qwen3-Coder, GLM, MiniMax)
    python   name(argument=value), as Python has it (LFM2, Llama 4)
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from sft.demonstrations.messages import Call

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PROBE", "TOOLS", "CallForm", "common_beginning", "learn_calls", "opens_thought", "without_prompt"]

_REFUSALS = (TemplateError, TypeError, ValueError)
_NAMES, _KEYS, _VALUES = ("zqfirstqz", "zqsecondqz"), ("zqkeyqz", "zqotherqz"), ("zqvalueqz", "zqanyqz")
_WORDS = "zqwordsqz"
#: Functions that a template is asked to list.
TOOLS = [
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
_ONE = Call(_NAMES[0], json.dumps({_KEYS[0]: _VALUES[0]}))
_TWO = Call(_NAMES[1], json.dumps(dict(zip(_KEYS, _VALUES, strict=True))))
_ARGUMENTS = ("arguments", "parameters")
#: What a prompt may end with that a template does not write before every completion: a thought, opened or empty.
_BLOCK = re.compile(r"(?:</?[^<>]*(?:think|THINK|channel)[^<>]*>(?:thought)?\s*|\[/?THINK\]\s*){1,2}$")
_EMPTY = re.compile(r"^(<think>\s*)?(</think>\s*)?")
#: A thought that is opened and closed with nothing in it, with what opens the answer behind it.
_NO_THOUGHT = re.compile(r"<[^<>/]*(?:think|THINK)[^<>]*>\s*<[^<>]*(?:think|THINK)[^<>]*>\s*(?=[^<>]*<[^<>]*>[^<>]*$)")


@dataclass(frozen=True, slots=True)
class CallForm:
    """How calls are handed to a template, and how it writes them.

    ``as_text``: it wants arguments as JSON text. ``named_ids``: it writes a call's id in place of its name.
    ``lists_tools``: it writes the functions that could be called; ``results``: what they gave back; ``words``: what is
    said before a call; ``several``: more than one call in a turn.
    ``kind``: see above; ``opens``: what it writes before the first call; ``before``: what stands right before a name;
    ``parts``: what it writes around arguments, by the kind. ``tail``: all it writes after the last call, end of turn
    included.
    """

    as_text: bool
    named_ids: bool
    kind: str
    opens: str
    before: str
    parts: tuple[str, ...]
    tail: str
    lists_tools: bool = False
    results: bool = False
    words: bool = False
    several: bool = False

    def handed(self, call: Call, number: int) -> dict[str, Any]:
        """``call``, the ``number``-th of its conversation, as transformers wants it."""
        return _handed(call, number, as_text=self.as_text, named_ids=self.named_ids)

    def read(self, text: str, tools: Sequence[Any] = ()) -> tuple[str, list[Call]]:
        """(words, calls) of what a model wrote; no calls where none can be read in the template's form.

        ``tools``: the functions that could be called, whose schemas tell text from other values.
        """
        opener = self.opens.strip()
        marks = opener or self.before
        place = text.find(marks) if marks else len(text) - len(text.lstrip())
        if place < 0:
            return text, []
        calls, at = list[Call](), place + len(opener)
        while (found := self._next(text, at, tools)) is not None:
            more, at = found
            calls += more
        return (text[:place].rstrip(), calls) if calls else (text, [])

    def _next(self, text: str, at: int, tools: Sequence[Any]) -> tuple[list[Call], int] | None:
        """The calls that begin at ``at`` or after it, and where they end; None where there are none."""
        if self.kind == "object":
            return _object(text, at, anywhere=bool(self.opens.strip()))
        if self.kind == "python":
            return _python(text, at)
        start = text.find(self.before, at)
        if start < 0:
            return None
        start += len(self.before)
        if self.kind == "pairs":
            return _pairs_at(text, start, self.parts, tools)
        middle = re.compile(self.parts[0]).search(text, start)
        if middle is None:
            return None
        read = _decoded if self.kind == "named" else _bare(self.parts[1])
        value, end = read(text, middle.end())
        call = _call(text[start : middle.start()], value) if isinstance(value, dict) else None
        return ([call], end) if call else None


def _handed(call: Call, number: int, *, as_text: bool, named_ids: bool) -> dict[str, Any]:
    arguments = call.arguments if as_text else call.values
    # Mistral wants nine letters and digits; Kimi writes the id where others write the name.
    key = f"functions.{call.name}:{number}" if named_ids else f"call{number:05d}"
    return {"id": key, "type": "function", "function": {"name": call.name, "arguments": arguments}}


#: A turn that calls one of :data:`TOOLS`.
PROBE = {"content": "", "tool_calls": [_handed(_ONE, 0, as_text=False, named_ids=False)]}


# -- reading --------------------------------------------------------------------------------------------------


def _call(name: str, arguments: Any) -> Call | None:
    try:
        return Call(name.strip(), json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError):
        return None


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at ``start`` and where it ends; (None, start) where there is none."""
    while start < len(text) and text[start].isspace():
        start += 1
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start


def _of_object(value: Any) -> Call | None:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None
    given = next((inner[key] for key in _ARGUMENTS if isinstance(inner.get(key), dict)), None)
    return _call(inner["name"], given) if given is not None else None


def _object(text: str, at: int, *, anywhere: bool) -> tuple[list[Call], int] | None:
    """The next JSON object that is a call; ``anywhere``: whether other text may stand before it."""
    start = text.find("{", at)
    if not anywhere and text[at:start].strip(" \n\t[,;"):
        return None
    while start >= 0:
        value, end = _decoded(text, start)
        if call := _of_object(value):
            return [call], end
        start = text.find("{", start + 1 if value is None else end) if anywhere else -1
    return None


def _pairs_at(text: str, start: int, parts: tuple[str, ...], tools: Sequence[Any]) -> tuple[list[Call], int] | None:
    behind, key, between, close = map(re.escape, parts)
    between = between.replace("true", "(?:true|false)")  # DeepSeek says whether a value is a text
    head = re.compile(rf"\s*([^\s<>{{}}\"]+)\s*{behind}").match(text, start)
    if head is None:
        return None
    name, end = head[1], head.end()
    types = next((_types(tool) for tool in tools if _function(tool).get("name") == name), {})
    pair = re.compile(rf"\s*{key}(.+?)({between})(.*?){close}", re.DOTALL)
    given: dict[str, Any] = {}
    while found := pair.match(text, end):
        said = "string" if "true" in parts[2] and "true" in found[2] else types.get(found[1])
        given[found[1]] = _typed(found[3], said)
        end = found.end()
    call = _call(name, given)
    return ([call], end) if call else None


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


def _bare(quote: str) -> Callable[[str, int], tuple[Any, int]]:
    """A reader of objects whose names are unquoted and whose texts stand between two ``quote``."""

    def read(text: str, start: int) -> tuple[Any, int]:
        pieces = text[start:].split(quote)
        names = re.compile(r"([{,]\s*)([^\s{}\[\],:\"]+)\s*:")
        # Every second piece is a text; what is between them is JSON but for the names.
        made = "".join(
            json.dumps(piece) if place % 2 else names.sub(r'\1"\2":', piece) for place, piece in enumerate(pieces)
        )
        value, end = _decoded(made, 0)
        # Whatever follows is looked through again from here for a further call.
        return value, start + (1 if isinstance(value, dict) else 0) * max(1, min(end, len(text) - start))

    return read


def _python(text: str, at: int) -> tuple[list[Call], int] | None:
    """``[name(key=value), ...]``, as far as Python reads it."""
    start = text.find("[", at)
    if start < 0 or text[at:start].strip():
        return None
    for close in (found.end() for found in re.finditer(r"\)\s*\]", text[start:])):
        try:
            tree = ast.parse(text[start : start + close].strip(), mode="eval").body
            made = [_of_python(node) for node in tree.elts] if isinstance(tree, ast.List) else []
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if made and all(made):
            return [call for call in made if call], start + close
    return None


def _of_python(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or node.args or any(one.arg is None for one in node.keywords):
        return None
    return _call(ast.unparse(node.func), {str(one.arg): ast.literal_eval(one.value) for one in node.keywords})


# -- learning -------------------------------------------------------------------------------------------------


def learn_calls(tokenizer: PreTrainedTokenizerBase, template: str, lead: str) -> CallForm | None:
    """How ``template`` writes calls; None where it writes none, or none that can be read again.

    ``lead``: what it writes before every completion.
    """
    for named_ids in (False, True):
        for as_text in (False, True):
            found, fits = _learned(tokenizer, template, lead, as_text, named_ids)
            if found is not None:
                return found
            if fits:  # objects are what it wants, and what it makes of them cannot be read
                break
    return None


def _learned(
    tokenizer: PreTrainedTokenizerBase, template: str, lead: str, as_text: bool, named_ids: bool
) -> tuple[CallForm | None, bool]:
    """The form, and whether the template took the call as it was handed over."""

    def written(*turns: dict[str, Any], ask: bool = False) -> str:
        first = {"role": "user", "content": "zquserqz"}
        return tokenizer.apply_chat_template(
            [first, *turns], tools=TOOLS, chat_template=template, tokenize=False, add_generation_prompt=ask
        )

    def calling(*calls: Call, words: str = "") -> dict[str, Any]:
        handed = [_handed(one, number, as_text=as_text, named_ids=named_ids) for number, one in enumerate(calls)]
        return {"role": "assistant", "content": words, "tool_calls": handed}

    def rest_of(*calls: Call, words: str = "") -> str:
        try:
            return (without_prompt(written(calling(*calls, words=words)), asked) or "").removeprefix(lead)
        except _REFUSALS:
            return ""

    try:
        asked = written(ask=True)
    except _REFUSALS:
        return None, False
    one, two, both = rest_of(_ONE), rest_of(_TWO), rest_of(_ONE, _TWO)
    fits = _NAMES[0] in one and _VALUES[0] in one and not any(sign in one for sign in (f"{{'{_KEYS[0]}", '\\"'))
    shape = _shape(one, two, both) if fits else None
    if shape is None:
        return None, fits
    form = CallForm(as_text, named_ids, *shape)
    if not all(
        form.read(rest.removesuffix(form.tail), TOOLS) == ("", [call]) for rest, call in ((one, _ONE), (two, _TWO))
    ):
        return None, fits
    result = {"role": "tool", "content": "zqresultqz", "name": _NAMES[0]}
    result["tool_call_id"] = calling(_ONE)["tool_calls"][0]["id"]
    try:
        results = "zqresultqz" in written(calling(_ONE), result, ask=True)
    except _REFUSALS:
        results = False
    return replace(
        form,
        lists_tools=all(name in asked for name in _NAMES),
        results=results,
        words=form.read(rest_of(_ONE, words=_WORDS), TOOLS) == (_WORDS, [_ONE]),
        several=form.read(both, TOOLS) == ("", [_ONE, _TWO]),
    ), fits


def without_prompt(whole: str, prompt: str) -> str | None:
    """What follows ``prompt`` in ``whole``, which may lack the thought that the prompt opens, or opens and closes."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    headed = _NO_THOUGHT.sub("", prompt)  # Command R7B's closes a thought, and then opens the answer
    if headed != prompt and whole.startswith(headed):
        return whole[len(headed) :]
    stem = _BLOCK.sub("", prompt)
    return _EMPTY.sub("", whole[len(stem) :], count=1) if stem != prompt and whole.startswith(stem) else None


def opens_thought(prompt: str) -> bool:
    """Whether a prompt ends with a thought that it opens and does not close."""
    found = _BLOCK.search(prompt)
    return found is not None and not re.search(r"</|END_|channel\|>|\[/", found[0])


def common_beginning(one: str, other: str) -> str:
    """What both begin with."""
    size = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size]


def _shape(one: str, two: str, both: str) -> tuple[str, str, str, tuple[str, ...], str] | None:
    """(kind, opens, before, parts, tail) of a call with one argument, of another one with two, and of both."""
    name = one.find(_NAMES[0])
    end, key = name + len(_NAMES[0]), one.find(_KEYS[0], name)
    value = one.find(_VALUES[0], key) + len(_VALUES[0])
    if not 0 <= name < key < value:
        return None
    for start in (found.start() for found in re.finditer(r"\{", one)):
        parsed, close = _decoded(one, start)
        if parsed == {_KEYS[0]: _VALUES[0]} and start > end:
            opens, before = _marks(one[:name], both)
            # An id or a number may follow a name: digits are let through whatever they are.
            middle = re.sub(r"\d+", r"\\d+", re.escape(one[end:start]))
            return "named", opens, before, (middle,), one[close:]
        if (call := _of_object(parsed)) and call.name == _NAMES[0]:
            return ("object", one[:start], "", (), one[close:]) if call == _ONE else None
    if one[end : end + 1] == "(" and one[:name].rstrip().endswith("["):
        opens = one[:name].rstrip().removesuffix("[")
        return "python", opens, "", (), one[one.index("]", value) + 1 :]
    opens, before = _marks(one[:name], both)
    quote = one[key + len(_KEYS[0]) : value - len(_VALUES[0])].removeprefix(":").strip()
    if quote and one[value:].startswith(quote + "}") and one[end:key].rstrip().endswith("{"):
        middle = re.escape(one[end:key].rstrip().removesuffix("{")) + r"(?=\{)"
        return "bare", opens, before, (middle, quote), one[value + len(quote) + 1 :]
    pairs = _pairs(two)
    if pairs is None:
        return None
    return "pairs", opens, before, pairs, one[value:].removeprefix(pairs[-1])


def _pairs(two: str) -> tuple[str, str, str, str] | None:
    """(behind the name, before an argument's name, between it and its value, after it)."""
    places = [two.find(text) for text in (_NAMES[1], _KEYS[0], _VALUES[0], _KEYS[1], _VALUES[1])]
    if places != sorted(places) or min(places) < 0:
        return None
    middle = two[places[0] + len(_NAMES[1]) : places[1]]
    between = two[places[1] + len(_KEYS[0]) : places[2]]
    separator = two[places[2] + len(_VALUES[0]) : places[3]]
    key = common_beginning(middle[::-1], separator[::-1])[::-1].lstrip()
    key = key[max(0, key.find("<")) :]
    close = separator.removesuffix(key).strip() if key else ""
    lines = separator.removesuffix(key).rstrip() if key else ""
    return (middle.removesuffix(key).strip(), key, between, lines or close) if key and close else None


def _marks(head: str, both: str) -> tuple[str, str]:
    """(opens, before) of what stands before the first name: where there is a second call, what both have before."""
    first, second = both.find(_NAMES[0]), both.find(_NAMES[1])
    if 0 <= first < second:
        between = both[first + len(_NAMES[0]) : second]
        before = common_beginning(head[::-1], between[::-1])[::-1].lstrip()
    else:
        found = re.search(r"<[^<>]*>$|[^\s>\]|]+$|\S+\s*$", head)
        before = found[0] if found else ""
    return head.removesuffix(before), before
