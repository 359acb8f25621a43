"""What a message says about itself: ``{role, content, ...}`` in the forms people bring -> :class:`Message`.

Read are OpenAI's form, ShareGPT's (``from``, ``value``) and Hermes' (calls and results in tags). Every other key of a
message is counted, and the reading names it; one that changes what the message means is complained about. An
assistant's turn that is marked as none to learn (``weight: 0``, ``train: false``) comes back as one that is not
``supervised``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sft.demonstrations import tool_calls
from sft.demonstrations.message_keys import (
    CALLS,
    KNOWN,
    MARKS,
    REFUSED,
    ROLES,
    SHAREGPT,
    TEXT_PARTS,
    THOUGHT_PARTS,
    THOUGHTS,
    how_to_name,
)
from sft.demonstrations.messages import Message, text_fault
from sft.demonstrations.thoughts import UnclosedThought, parted
from sft.demonstrations.tool_calls import NoCall, ReadCall
from sft.runs.records import kind_of

__all__ = ["MessageReader", "MessageRules"]

Fault = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What the recipe says of messages. ``roles``: a role of the file -> ours; ``neighbours``: "refuse" or "join".

    ``system``: the system message of prompts that have none; "" for none. ``role`` and ``content``: the keys of a
    message that say whose it is and what was said, where they are others than ours and ShareGPT's.
    """

    roles: Mapping[str, str]
    neighbours: str = "refuse"
    system: str = ""
    role: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message, its 1-based ``place`` in the list, and the ids that tie results to calls."""

    message: Message
    place: int
    ids: tuple[str, ...] = ()


class MessageReader:
    """Reads the messages of one row after another of one file. ``unread``: keys that nobody reads -> how often.

    ``drops_nulls``: whether a null in arguments and tools is an absent key, as in Parquet. ``rewritten``: how many
    system messages lost Hermes' instructions for calls, for which the template has its own. ``unlearned``: turns of
    the assistant that are marked as none to learn.
    """

    def __init__(self, rules: MessageRules | None = None, *, drops_nulls: bool = False) -> None:
        self._rules = rules or MessageRules({})
        self._drops_nulls = drops_nulls
        self.unread: Counter[str] = Counter()
        self.rewritten = self.unlearned = 0

    @property
    def system(self) -> str:
        """The system message of prompts that have none; "" for none."""
        return self._rules.system

    def messages(
        self, column: str, value: Any, fault: Fault, *, system: str | None = "", tools: Sequence[Message] = ()
    ) -> list[Message]:
        """The turns in ``value``, a list of messages; empty after a complaint.

        ``system``: a system message and ``tools``: a turn that lists functions, which stand beside them in the row;
        None where they go on from what was said before, and no system message may stand there.
        """
        faults = 0

        def counted(field: str, message: str, remedy: str) -> None:
            nonlocal faults
            faults += 1
            fault(field, message, remedy)

        found = [
            turn
            for place, each in enumerate(value, 1)
            for turn in self._turns(f"{column}[{place}]", place, each, counted)
        ]
        head, turns = self._head(column, found, system, tools, counted)
        turns = self._joined(column, self._without_hermes(head, turns), counted)
        turns = self._with_results(column, turns, counted)
        return [] if faults else [*head, *(turn.message for turn in turns)]

    def notes(self) -> tuple[str, ...]:
        """Sentences on what was passed over."""
        found = []
        if self.unlearned:
            found.append(
                f"Turns of the assistant that are marked as none to learn (weight 0): {self.unlearned:,}; they are "
                "read as what was said before, and never a completion."
            )
        if self.unread:
            keys = ", ".join(f"{key} ({count:,})" for key, count in sorted(self.unread.items()))
            found.append(f"Keys of messages that no demonstration uses, and how often they say something: {keys}.")
        if self.rewritten:
            found.append(
                f"{self.rewritten:,} system messages tell how Hermes writes calls; the tools in them are handed to the "
                "chat template, which tells it in its own words."
            )
        return tuple(found)

    # -- one message -------------------------------------------------------------------------------------------

    def _turns(self, where: str, place: int, value: Any, fault: Fault) -> Iterator[_Turn]:
        """The turn that ``value`` is: one, or none where it is blank or wrong, or several results in one."""
        if not isinstance(value, dict):
            fault(where, f"is {kind_of(value)}, not a message", "write {role, content}")
            return
        spoken, said = self._keys(value)
        if spoken not in value:
            fault(where, f"has no {spoken!r} (its keys are {', '.join(map(repr, value))})", how_to_name(value))
            return
        role = self._role(where, value[spoken], fault)
        content, thought = self._content(f"{where}.{said}", role, value.get(said), fault)
        self._look_at_keys(where, role, value, {spoken, said}, fault)
        if not role or content is None:
            return
        if role not in ("assistant", "call"):
            self._supervised(where, role, value, fault)
        if role == "tools":
            yield from (_Turn(listed, place) for listed in self.tools(where, content, fault))
        elif role == "tool":
            name = value.get("name")
            ids = (str(value["tool_call_id"]),) if value.get("tool_call_id") else ()
            for result in tool_calls.results(content):
                yield _Turn(Message("tool", result, name=name if isinstance(name, str) else ""), place, ids)
        elif role in ("assistant", "call"):
            yield from self._assistant(where, place, role, content, thought, value, fault)
        elif content.strip() or role != "system":
            if fault_of := text_fault(content):
                self._complain(f"{where}.{said}", fault_of, fault)
            else:
                yield _Turn(Message(role, content), place)
        if role == "system" and value.get("tools"):
            yield from (_Turn(listed, place) for listed in self.tools(f"{where}.tools", value["tools"], fault))

    def _assistant(
        self, where: str, place: int, role: str, content: str, thought: str, value: Mapping[str, Any], fault: Fault
    ) -> Iterator[_Turn]:
        said = self._keys(value)[1]
        supervised = self._supervised(where, role, value, fault)
        given = [value[key] for key in CALLS if value.get(key)]
        try:
            calls = tool_calls.read([content] if role == "call" else given, drops_nulls=self._drops_nulls)
        except NoCall as error:
            fault(where, f"holds a call that {error}", "write {name, arguments}, the arguments as a JSON object")
            return
        if role == "call":
            content = ""
        for key in THOUGHTS:
            other = value.get(key)
            if isinstance(other, str) and other.strip():
                thought = thought or other.strip("\n")
            elif other and not isinstance(other, str):
                fault(f"{where}.{key}", f"is {kind_of(other)}, not text", "write the thought as text")
        if not calls:
            try:
                inline, content = parted(content)
            except UnclosedThought:
                fault(where, "opens a thought with <think> and never closes it", "close it with </think>")
                return
            thought = thought or inline
            if fault_of := text_fault(content):
                what = "is blank after its thought" if thought and fault_of.startswith("is blank") else fault_of
                self._complain(where if thought else f"{where}.{said}", what, fault)
                return
        elif not content.strip():
            content = ""
        if thought and (fault_of := text_fault(thought)):
            self._complain(where, fault_of, fault)
            return
        self.unlearned += not supervised
        made = Message("assistant", content, thought, tuple(call.call for call in calls), supervised=supervised)
        yield _Turn(made, place, tuple(call.id for call in calls))

    def _keys(self, value: Mapping[str, Any]) -> tuple[str, str]:
        """The keys of a message that say whose it is and what was said."""
        if self._rules.role or self._rules.content:
            return self._rules.role or "role", self._rules.content or "content"
        return ("role", "content") if "role" in value or "content" in value or "from" not in value else SHAREGPT

    def _role(self, where: str, role: Any, fault: Fault) -> str:
        if isinstance(role, str):
            mapped = self._rules.roles.get(role) or ROLES.get(role.strip().lower())
            if mapped:
                return mapped
        fault(where, f"has the unknown role {role!r}", f"use one of {KNOWN}, or name it in demonstrations.roles")
        return ""

    def _content(self, where: str, role: str, value: Any, fault: Fault) -> tuple[str | None, str]:
        """(text, thought) of a content: text, or a list of parts; (None, "") after a complaint."""
        if isinstance(value, list) and role != "tools":
            return self._parts(where, value, fault)
        if value is None and role in ("assistant", "system", "tool"):
            return "", ""
        if role in ("tool", "call", "tools") and isinstance(value, dict | list):
            return json.dumps(value, ensure_ascii=False), ""
        if isinstance(value, str):
            if value.strip() and (fault_of := text_fault(value)):
                self._complain(where, fault_of, fault)
                return None, ""
            return value, ""
        self._complain(where, text_fault(value), fault)
        return None, ""

    def _parts(self, where: str, parts: Sequence[Any], fault: Fault) -> tuple[str | None, str]:
        texts, thoughts = [], []
        for place, part in enumerate(parts, 1):
            kind = part.get("type", "text") if isinstance(part, dict) else None
            text = part if isinstance(part, str) else None
            if kind in TEXT_PARTS:
                text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
            elif kind in THOUGHT_PARTS and isinstance(thought := part.get(kind) or part.get("text"), str):
                thoughts.append(thought)
            else:
                what = f"is a part of type {kind!r}" if kind else f"is {kind_of(part)}, not a part"
                remedy = "describe it in words, or leave the row out: demonstrations are text"
                fault(f"{where}[{place}]", what, remedy if kind not in TEXT_PARTS else "write its text")
                return None, ""
        return "\n".join(texts), "\n".join(thoughts)

    def _look_at_keys(self, where: str, role: str, value: Mapping[str, Any], read: set[str], fault: Fault) -> None:
        """Count the keys that nobody reads, and complain about those that change what the message means."""
        read = read | set(MARKS)
        if role in ("assistant", "call"):
            read |= {*CALLS, *THOUGHTS}
        if role == "tool":
            read |= {"name", "tool_call_id"}
        if role == "system":
            read |= {"tools"}
        for key, given in value.items():
            if key in read or given is None or given in ("", [], {}):
                continue
            if key in CALLS and role:
                fault(where, f"has {key} in a turn of the {role}", "put the call into the assistant's turn")
            elif key in REFUSED:
                fault(f"{where}.{key}", "changes what the message means, and cannot be kept", REFUSED[key])
            else:
                self.unread[key] += 1

    def _supervised(self, where: str, role: str, value: Mapping[str, Any], fault: Fault) -> bool:
        """Whether the turn may be learned, by the marks that it bears."""
        said: dict[str, bool] = {}
        for key in MARKS:
            mark = value.get(key)
            if mark is None:
                continue
            if not isinstance(mark, bool | int | float) or mark not in (0, 1):
                what = "a fraction of a weight" if isinstance(mark, float) and 0 < mark < 1 else repr(mark)
                fault(f"{where}.{key}", f"is {what}", "write 1 for a turn to learn, 0 for one to read only")
            said[key] = bool(mark)
        if len(set(said.values())) > 1:
            fault(where, f"contradicts itself: {' and '.join(said)} differ", "keep one of them")
        if role not in ("assistant", "call") and any(said.values()):
            key = next(key for key, mark in said.items() if mark)
            fault(f"{where}.{key}", f"marks a turn of the {role} to be learned", "take it out: only the expert's are")
        return all(said.values())

    @staticmethod
    def _complain(where: str, message: str, fault: Fault) -> None:
        remedies = {
            "is blank": "write one or remove the row",
            "holds a lone": "replace the broken character (half of an emoji)",
            "must be text, not null": "fill it in or remove the row",
            "must be text": "write it as text",
        }
        message = "is null" if message == "must be text, not null" else message
        fault(where, message, next((r for start, r in remedies.items() if message.startswith(start)), "fill it in"))

    # -- between messages --------------------------------------------------------------------------------------

    def tools(self, where: str, value: Any, fault: Fault) -> list[Message]:
        """The functions in ``value`` as a turn, or none."""
        try:
            text = tool_calls.tools(value, drops_nulls=self._drops_nulls) if value else ""
        except NoCall as error:
            fault(where, f"lists tools, and {error}", "write a JSON list of functions: [{name, description, ...}]")
            return []
        return [Message("tools", text)] if text else []

    def _head(
        self, column: str, turns: list[_Turn], system: str | None, tools: Sequence[Message], fault: Fault
    ) -> tuple[list[Message], list[_Turn]]:
        """What stands before the turns, tools first, and the turns."""
        rest = [turn for turn in turns if turn.message.role != "tools"]
        given = [*tools, *(turn.message for turn in turns if turn.message.role == "tools")]
        if len({one.content for one in given}) > 1:
            fault(column, "lists tools in two places that differ", "keep one of them")
        head = given[:1]
        first = rest[0].message if rest else None
        if first is not None and first.role == "system":
            if system:
                fault(column, "starts with a system message beside the system column", "keep one of them")
            head.append(first)
            rest = rest[1:]
        elif system is not None and (system or self._rules.system):
            head.append(Message("system", system or self._rules.system))
        return head, rest

    def _without_hermes(self, head: list[Message], turns: list[_Turn]) -> list[_Turn]:
        """The turns, with calls read from their tags where tools are in play; takes Hermes' words out of ``head``."""
        system = next((turn for turn in head if turn.role == "system"), None)
        told, rest = tool_calls.hermes_tools(system.content) if system else ("", "")
        if system is not None and told:
            self.rewritten += 1
            if not any(turn.role == "tools" for turn in head):
                head.insert(0, Message("tools", told))
            place = head.index(system)
            head[place : place + 1] = [Message("system", rest)] if rest else []
        if not (told or any(turn.role == "tools" for turn in head) or any(t.message.role == "tool" for t in turns)):
            return turns
        made = []
        for turn in turns:
            message = turn.message
            calls: list[ReadCall] = []
            if message.role == "assistant" and not message.calls:
                words, calls = tool_calls.tagged(message.content, drops_nulls=self._drops_nulls)
            if calls:
                message = replace(message, content=words, calls=tuple(call.call for call in calls))
                turn = _Turn(message, turn.place, ("",) * len(calls))
            made.append(turn)
        return made

    def _joined(self, column: str, turns: list[_Turn], fault: Fault) -> list[_Turn]:
        """Turns of one role side by side as one, where the recipe joins them."""
        if self._rules.neighbours != "join":
            return turns
        made: list[_Turn] = []
        for turn in turns:
            one, last = turn.message, made[-1].message if made else None
            if last is None or last.role != one.role or one.role not in ("user", "assistant"):
                made.append(turn)
            elif last.supervised != one.supervised:
                fault(column, f"message {turn.place} cannot be joined to the one before: one is not to be learned",
                      "mark both alike")  # fmt: skip
            elif last.calls and one.content:
                fault(column, f"message {turn.place} speaks after a call without its result", "add the result")
            else:
                content = "\n\n".join(text for text in (last.content, one.content) if text)
                thought = "\n\n".join(text for text in (last.thought, one.thought) if text)
                joined = replace(last, content=content, thought=thought, calls=(*last.calls, *one.calls))
                made[-1] = _Turn(joined, made[-1].place, (*made[-1].ids, *turn.ids))
        return made

    def _with_results(self, column: str, turns: list[_Turn], fault: Fault) -> list[_Turn]:
        """Results in the order of the calls, each under the name of its function."""
        made: list[_Turn] = []
        at = 0
        while at < len(turns):
            made.append(turns[at])
            at += 1
            results = []
            while at < len(turns) and turns[at].message.role == "tool":
                results.append(turns[at])
                at += 1
            calls, ids = made[-1].message.calls, made[-1].ids
            if calls and len(results) > len(calls):
                fault(column, f"message {results[len(calls)].place} is a result that no call asked for", "remove it")
                continue
            known = {one: place for place, one in enumerate(ids) if one}
            asked = [known.get(turn.ids[0]) if turn.ids else None for turn in results]
            if None in asked or len(set(asked)) < len(asked):  # no ids, or other ones: in the order of the calls
                strangers = [turn for turn, place in zip(results, asked, strict=True) if turn.ids and place is None]
                if known and strangers:
                    fault(column, f"message {strangers[0].place} answers a call that nobody made", "mend tool_call_id")
                asked = list(range(len(results)))
            for place, turn in sorted(zip(asked, results, strict=True), key=lambda pair: pair[0] or 0):
                name = calls[place].name if calls and place is not None else turn.message.name
                made.append(_Turn(replace(turn.message, name=name), turn.place))
        return made
