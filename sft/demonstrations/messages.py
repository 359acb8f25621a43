"""What was said before a completion: :class:`Message`, :class:`Call`, and the order in which turns may stand.

A prompt is all that the expert saw, turn by turn. Beside what people say it may begin with the functions that could
be called (role ``tools``: a JSON list) and hold what a called function gave back (role ``tool``). Its last turn may be
a ``thought`` of the expert's own that is given rather than learned (``demonstrations.thoughts: context``).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft.runs.hashes import _digest
from sft.runs.records import kind_of

__all__ = [
    "ROLES", "Call", "Message", "folded", "keyed_turn", "opening", "order_fault", "out_of_order", "prompt_key",
    "prompt_text", "refuse_text", "text_fault", "without_invisible", "written_calls",
]  # fmt: skip

ROLES = ("system", "user", "assistant", "tools", "tool", "thought")
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_quoted = json.encoder.encode_basestring
_sorted = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
#: Role of a turn -> the roles that may stand before it; "" is the beginning, tools and system message aside.
_BEFORE = {"user": ("", "assistant", "tool"), "assistant": ("", "user", "tool"), "tool": ("assistant", "tool")}
#: Beside the words of a prompt, or before them: no part of what is asked.
_ASIDE = ("tools", "thought")


def text_fault(value: object) -> str:
    """What keeps ``value`` from being a text of a demonstration, as half a sentence; ``""`` if nothing does.

    Text must be ``str``, show at least one character (white space, control and zero-width characters show
    none) and be writable as UTF-8 (a lone surrogate, half of an emoji, is not).
    """
    if not isinstance(value, str):
        return f"must be text, not {kind_of(value)}"
    visible = value.strip()
    if not visible:
        return "is blank"
    if not visible[0].isprintable() and all(unicodedata.category(c) in _UNSEEN for c in visible):
        return "is blank (only control or zero-width characters)"
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"holds a lone surrogate at character {error.start + 1}"
    return ""


def refuse_text(value: object, what: str) -> None:
    """Raise ``ValueError`` unless ``value`` is text that shows and can be written to a file."""
    if fault := text_fault(value):
        raise ValueError(f"{what} {fault}")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function. ``arguments``: a JSON object, as text. Raises ``ValueError`` for anything else."""

    name: str
    arguments: str

    def __post_init__(self) -> None:
        refuse_text(self.name, "the name of a call")
        if not isinstance(self.values, dict):
            raise ValueError(f"the arguments of {self.name} are no JSON object")

    @property
    def values(self) -> Any:
        """The arguments, parsed. Raises ``ValueError`` where they are no JSON."""
        return json.loads(self.arguments)

    def to_dict(self) -> dict[str, str]:
        """JSON-ready values."""
        return {"name": self.name, "arguments": self.arguments}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Call:
        """Inverse of :meth:`to_dict`; raises ``KeyError`` or ``ValueError`` on anything else."""
        return cls(value["name"], value["arguments"])


def written_calls(content: str, calls: Sequence[Call]) -> str:
    """``content`` and ``calls`` as one text, each call as Hermes writes it: what is compared, shown and searched.

    Arguments stand in the order of their names, which means nothing. The model is trained on the calls as its own
    template writes them; this form is that of no template.
    """
    blocks = [
        f'<tool_call>\n{{"name": {_quoted(call.name)}, "arguments": {_sorted(call.values)}}}\n</tool_call>'
        for call in calls
    ]
    return "\n".join([content] * bool(content) + blocks)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``role`` is one of :data:`ROLES`; ``content`` is blank only beside calls, or where a tool gave nothing.

    ``thought``: what the assistant thought before it spoke, and ``calls``: the functions it then called. ``name``: of
    the function whose result a ``tool`` turn is. ``supervised``: whether the turn may be learned where it is the
    expert's; it belongs to the row that is read and not to what was said, so turns that differ in it are equal.
    """

    role: str
    content: str
    thought: str = ""
    calls: tuple[Call, ...] = ()
    name: str = ""
    supervised: bool = field(default=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is not one of {', '.join(ROLES)}")
        if self.content != "" or not (self.calls or self.role == "tool"):
            refuse_text(self.content, f"the {self.role} message")
        if self.role != "assistant" and (self.thought or self.calls):
            raise ValueError(f"the {self.role} message has thoughts or calls, which only the assistant has")
        if self.thought:
            refuse_text(self.thought, "the thought")

    @property
    def text(self) -> str:
        """What was said, with the calls as :func:`written_calls` writes them; without the thought."""
        return written_calls(self.content, self.calls) if self.calls else self.content

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: role and content, and of the others those that it has."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thought:
            found["thought"] = self.thought
        if self.calls:
            found["calls"] = [call.to_dict() for call in self.calls]
        if self.name:
            found["name"] = self.name
        return found

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Message:
        """Inverse of :meth:`to_dict`; raises ``KeyError`` or ``ValueError`` on anything else."""
        calls = tuple(map(Call.from_dict, value.get("calls", ())))
        return cls(value["role"], value["content"], value.get("thought", ""), calls, value.get("name", ""))


def out_of_order(prompt: Sequence[Message]) -> tuple[int, str] | None:
    """The place of the first turn that stands where another's should, and whose; None where all stand in order.

    Tools first, then one system message, then turns: user and assistant take turns, either may begin, and results
    follow the assistant; a thought may stand at the end.
    """
    start = 0
    for role in ("tools", "system"):
        start += start < len(prompt) and prompt[start].role == role
    last = ""
    for place in range(start, len(prompt)):
        role = prompt[place].role
        if role == "thought" and place + 1 == len(prompt) and last in ("user", "tool"):
            return None
        if last not in _BEFORE.get(role, ()):
            return place, "assistant" if last == "user" else "user"
        last = role
    return None


def order_fault(prompt: Sequence[Message]) -> str:
    """Why ``prompt`` is none, as half a sentence; "" where its turns stand in order and an answer is due."""
    if not prompt:
        return "is empty"
    if found := out_of_order(prompt):
        place, expected = found
        return (
            f"has a {prompt[place].role} message where the {expected}'s turn must stand "
            "(system first, then user and assistant in turn)"
        )
    last = prompt[-2 if prompt[-1].role == "thought" else -1].role
    return "" if last in ("user", "tool") else "must end with a user turn, or with what a call gave back"


def opening(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """How a dialogue begins, up to the first turn of the user: what its parts have in common."""
    first = next((place for place, turn in enumerate(prompt) if turn.role == "user"), len(prompt) - 1)
    return tuple(turn for turn in prompt[: first + 1] if turn.role not in _ASIDE)


def prompt_text(prompt: Sequence[Message]) -> str:
    """The prompt's words without a template: contents joined by blank lines (for search and display).

    Tools and a given thought are left out: what all prompts of a file have in common would make them all alike.
    """
    return "\n\n".join([m.text if m.calls else m.content for m in prompt if m.role not in _ASIDE])


def prompt_key(prompt: Sequence[Message]) -> str:
    """Hash of the prompt's roles and :func:`folded` words: equal for prompts that look the same.

    A given thought is left out, for what was asked is the same with another one.
    """
    return _digest(f"[{','.join([keyed_turn(m) for m in prompt if m.role != 'thought'])}]")


def keyed_turn(turn: Message) -> str:
    """What a turn is to :func:`prompt_key`."""
    return f'["{turn.role}",{_quoted(folded(turn.text if turn.calls else turn.content))}]'


def folded(text: str) -> str:
    """``text`` without what nobody sees, after NFKC, case folding and white-space collapsing."""
    if text.isascii():  # most texts: a third of the time
        plain = " ".join(text.casefold().split())
        return plain if plain.isprintable() else " ".join(without_invisible(plain).split())
    return " ".join(unicodedata.normalize("NFKC", without_invisible(text)).casefold().split())


#: What Unicode 16 calls Default_Ignorable_Code_Point (soft hyphen, joiners, direction marks, fillers, variation
#: selectors, tags), interlinear annotations, which nothing draws either, and controls that are no white space.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]+"
)


def without_invisible(text: str) -> str:
    """``text`` without soft hyphens, zero-width and direction marks, variation selectors and the like.

    Two prompts that differ in those alone look the same, and are the same wherever prompts are compared.
    """
    return _INVISIBLE.sub("", text) if _INVISIBLE.search(text) else text
