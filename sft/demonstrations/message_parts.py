"""A content in parts: text, thoughts, calls and results, as OpenAI's and Anthropic's files have them.

Anthropic's form has a call among the parts of the assistant's turn (``tool_use``) and its result among those of the
user's next (``tool_result``). Both have one exact place in ours: calls end a turn, and results stand before what the
user then says. Where parts stand in another order, one of them would change its place, and that is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft.demonstrations.message_keys import CALL_PARTS, TEXT_PARTS, THOUGHT_PARTS
from sft.demonstrations.message_order import Fault
from sft.runs.records import kind_of

__all__ = ["AS_CALLS", "Parts", "read_parts"]

_AS_TEXT = "describe it in words, or leave the row out: demonstrations are text"
AS_CALLS = "write the call as tool_calls, and what it gave back as a message of the role tool"
#: Keys of the parts of Gemini and Bedrock, which have no type -> what they are.
_GEMINI = {"functionCall": "function_call", "functionResponse": "function_call_output", "inlineData": "image",
           "fileData": "file", "executableCode": "executable_code",
           "toolUse": "function_call", "toolResult": "function_call_output"}  # fmt: skip
_SNAKES = {"function_call": "function_call", "function_response": "function_call_output", "inline_data": "image"}
_USED = {
    "text": {"text"},
    "thought": {"text", "thought", *THOUGHT_PARTS},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "content"},
}


@dataclass(slots=True)
class Parts:
    """What the parts of one content say. ``calls``: as they stand there; ``results``: (id of the call, text) each.

    ``unread``: keys of parts that nobody reads -> how often they say something.
    """

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def text(self) -> str:
        """All that is said, a part a line."""
        return "\n".join(self.texts)

    @property
    def thought(self) -> str:
        """All that is thought, a part a line."""
        return "\n".join(self.thoughts)


def read_parts(where: str, role: str, parts: Sequence[Any], fault: Fault) -> Parts | None:
    """The ``parts`` of the content at ``where`` in a turn of ``role`` ("": of one unknown); None after a complaint."""
    made = Parts()
    for place, part in enumerate(parts, 1):
        kind = part.get("type", _untyped(part)) if isinstance(part, dict) else None
        if isinstance(part, str):
            kind, part = "text", {"text": part}
        kind = "text" if kind in TEXT_PARTS else "thought" if kind in THOUGHT_PARTS else kind
        at = f"{where}[{place}]"
        if not (isinstance(part, dict) and _taken(made, at, role, kind, part, fault)):
            if not isinstance(part, dict):
                fault(at, f"is {kind_of(part)}, not a part", _AS_TEXT)
            return None
        for key, given in part.items():
            if key not in ("type", *_USED[str(kind)]) and given not in (None, "", [], {}):
                made.unread[key] += 1
    return made


def _untyped(part: dict[str, Any]) -> str:
    """What a part is that does not say it: Gemini's are told by their keys."""
    if part.get("thought") is True:
        return "thought"
    return next((kind for key, kind in (*_GEMINI.items(), *_SNAKES.items()) if part.get(key)), "text")


def _taken(made: Parts, at: str, role: str, kind: Any, part: dict[str, Any], fault: Fault) -> bool:
    """Put ``part`` into ``made``; False after a complaint."""
    if kind == "text" and isinstance(text := part.get("text"), str):
        if made.calls and text.strip():
            fault(at, f"has words behind a call ({text[:40]!r})", "end the turn with its calls")
            return False
        made.texts.append(text)
        return True
    if kind == "thought" and isinstance(thought := _thought(part), str):
        if thought.strip() and (made.calls or any(text.strip() for text in made.texts)):
            fault(at, "is a thought behind what was said", "put it before the words, or leave it out")
            return False
        made.thoughts.append(thought)
        return True
    if kind == "tool_use" and role in ("assistant", ""):
        made.calls.append(part)
        return True
    if kind == "tool_result" and role in ("user", ""):
        return _result(made, at, part, fault)
    what = f"is a part of type {part.get('type', kind)!r}"
    if kind in ("tool_use", "tool_result"):
        whose = "assistant" if kind == "tool_use" else "user"
        fault(at, f"{what} in a turn of the {role}", f"put it into the {whose}'s turn")
    else:
        remedy = "write its text" if kind == "text" else AS_CALLS if kind in CALL_PARTS else _AS_TEXT
        fault(at, what, "take it out: nobody can read it" if kind == "redacted_thinking" else remedy)
    return False


def _thought(part: dict[str, Any]) -> Any:
    return next((part[key] for key in (*THOUGHT_PARTS, "text") if part.get(key)), "" if "text" in part else None)


def _result(made: Parts, at: str, part: dict[str, Any], fault: Fault) -> bool:
    """Put what a call gave back into ``made``; False after a complaint."""
    if any(text.strip() for text in made.texts):
        fault(at, "is a result behind words of the user", "put results first, then what the user says")
        return False
    content, key = part.get("content"), part.get("tool_use_id")
    if not isinstance(key, str) or not key.strip():
        fault(f"{at}.tool_use_id", "is missing", "name the call that it answers")
        return False
    if isinstance(content, list):
        inner = read_parts(f"{at}.content", "tool", content, fault)
        if inner is None:
            return False
        if inner.thoughts:
            fault(f"{at}.content", "holds a thought", "take it out: only the expert's thoughts are kept")
            return False
        made.unread += inner.unread
        content = inner.text
    if content is not None and not isinstance(content, str):
        fault(f"{at}.content", f"is {kind_of(content)}, not text", "write it as text")
        return False
    made.results.append((key, content or ""))
    return True
