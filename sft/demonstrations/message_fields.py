"""What a message says about itself: ``{role, content, ...}`` in the forms people bring -> :class:`Message`.

Read are OpenAI's form, Anthropic's, ShareGPT's (``from``, ``value``) and Hermes' (calls and results in tags). Every
other key of a message is counted, and the reading names it; one that changes what the message means is complained
about. An assistant's turn that is marked as none to learn (``weight: 0``, ``train: false``) comes back as one that is
not ``supervised``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.demonstrations import tool_calls
from sft.demonstrations.message_keys import (
    CALL_PARTS,
    CALLS,
    KNOWN,
    MARKS,
    MAYBE_MARKS,
    REFUSED,
    ROLES,
    SAID_AS,
    THOUGHTS,
    how_to_name,
)
from sft.demonstrations.message_order import Fault, Turn, head_and_turns, joined, with_results, without_hermes
from sft.demonstrations.message_parts import AS_CALLS, Parts, read_parts
from sft.demonstrations.messages import Message, text_fault
from sft.demonstrations.thoughts import BrokenThought, sole, untagged
from sft.demonstrations.tool_calls import NoCall
from sft.runs.records import kind_of

__all__ = ["MessageReader", "MessageRules"]


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
        otherwise = self.system if system is not None else ""
        head, turns = head_and_turns(column, found, system or "", tools, counted, otherwise=otherwise)
        head, turns, told = without_hermes(column, head, turns, counted, drops_nulls=self._drops_nulls)
        self.rewritten += told
        if self._rules.neighbours == "join":
            turns = joined(column, turns, counted)
        turns = turns if faults else with_results(column, turns, counted)
        self.unlearned += sum(not turn.message.supervised for turn in turns) if not faults else 0
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

    def _turns(self, where: str, place: int, value: Any, fault: Fault) -> Iterator[Turn]:
        """The turn that ``value`` is: one, or none where it is blank or wrong, or several results in one."""
        if not isinstance(value, dict):
            fault(where, f"is {kind_of(value)}, not a message", "write {role, content}")
            return
        spoken, said = self._keys_of(value)
        if spoken not in value and value.get("type") in CALL_PARTS:
            fault(where, f"is no message of somebody's, but a {value['type']!r} by itself", AS_CALLS)
            return
        if spoken not in value:
            fault(where, f"has no {spoken!r} (its keys are {', '.join(map(repr, value))})", how_to_name(value))
            return
        role = self._role(where, value[spoken], fault)
        if said not in value and role != "system" and not any(value.get(key) for key in CALLS):
            keys = ", ".join(map(repr, value)) or "nothing"
            named = how_to_name(value) if any(value.get(key) for key in SAID_AS) else "add it"
            fault(f"{where}.{said}", "is missing", f"{named} (the message has {keys})")
            return
        parts = self._content(f"{where}.{said}", role, value.get(said), fault)
        self._look_at_keys(where, role, value, {spoken, said}, fault)
        if not role or parts is None:
            return
        content, thought = parts.text, parts.thought
        if role not in ("assistant", "call"):
            self._supervised(where, role, value, fault)
            if thought:
                remedy = "take it out: only the expert's thoughts are kept"
                fault(f"{where}.{said}", f"holds a thought in a turn of the {role}", remedy)
                return
        if role == "tools":
            yield from (Turn(listed, place) for listed in self.tools(where, content, fault))
        elif role == "tool":
            name = self._text(f"{where}.name", value.get("name"), fault)
            ids = (str(value["tool_call_id"]),) if value.get("tool_call_id") else ()
            for result in tool_calls.results(content):
                yield from self._result(f"{where}.{said}", place, result, ids, fault, name=name)
        elif role in ("assistant", "call"):
            yield from self._assistant(where, place, role, parts, value, fault)
        elif parts.results:
            yield from self._after_results(f"{where}.{said}", place, parts, fault)
        elif content.strip() or role != "system":
            if fault_of := text_fault(content):
                self._complain(f"{where}.{said}", fault_of, fault)
            else:
                yield Turn(Message(role, content), place)
        if role == "system" and value.get("tools"):
            yield from (Turn(listed, place) for listed in self.tools(f"{where}.tools", value["tools"], fault))

    def _result(
        self, where: str, place: int, result: str, ids: tuple[str, ...], fault: Fault, *, name: str = ""
    ) -> Iterator[Turn]:
        """What a call gave back as a turn; one that shows nothing is an empty one."""
        fault_of = text_fault(result)
        if fault_of and not fault_of.startswith("is blank"):
            self._complain(where, fault_of, fault)
        else:
            yield Turn(Message("tool", "" if fault_of else result, name=name), place, ids)

    def _after_results(self, where: str, place: int, parts: Parts, fault: Fault) -> Iterator[Turn]:
        """A turn of the user that holds what calls gave back: those as turns of their own, then what the user says."""
        for key, result in parts.results:
            yield from self._result(where, place, result, (key,), fault)
        if parts.text.strip():
            if fault_of := text_fault(parts.text):
                self._complain(where, fault_of, fault)
            else:
                yield Turn(Message("user", parts.text), place)

    def _assistant(
        self, where: str, place: int, role: str, parts: Parts, value: Mapping[str, Any], fault: Fault
    ) -> Iterator[Turn]:
        """The turn of an expert."""
        said, content, given = self._keys_of(value)[1], parts.text, parts.thought
        supervised = self._supervised(where, role, value, fault)
        named = {key: value[key] for key in CALLS if value.get(key)} | ({said: parts.calls} if parts.calls else {})
        try:
            calls = tool_calls.read_alike({"": content} if role == "call" else named, drops_nulls=self._drops_nulls)
            inline, content = sole(content if role == "assistant" else "")
        except NoCall as error:
            fault(where, f"holds a call that {error}", error.remedy)
            return
        except BrokenThought as error:
            fault(where, str(error), error.remedy)
            return
        thought = self._thought(where, (given, inline), value, fault)
        if thought is None:
            return
        if not calls and (fault_of := text_fault(content)):
            what = "is blank after its thought" if thought and fault_of.startswith("is blank") else fault_of
            self._complain(where if thought else f"{where}.{said}", what, fault)
            return
        content = content if content.strip() else ""
        made = Message("assistant", content, thought, tuple(call.call for call in calls), supervised=supervised)
        yield Turn(made, place, tuple(call.id for call in calls))

    def _thought(self, where: str, inside: Sequence[str], value: Mapping[str, Any], fault: Fault) -> str | None:
        """The one thought of a message, which may stand in several places; "" for none, None after a complaint."""
        beside = [untagged(self._text(f"{where}.{key}", value.get(key), fault)) for key in THOUGHTS]
        found = [each for each in (*inside, *beside) if each.strip()]
        if not found:
            return ""
        if len({each.strip() for each in found}) > 1:
            fault(where, "has two thoughts that differ", "keep one of them, or make them one")
        elif "<think>" in found[0] or "</think>" in found[0]:
            fault(where, "has a thought that holds <think> or </think>", "take the tags out")
        elif fault_of := text_fault(found[0]):
            self._complain(where, fault_of, fault)
        else:
            return found[0]
        return None

    def _keys_of(self, value: Mapping[str, Any]) -> tuple[str, str]:
        """Under which names a message has its role and its content."""
        spoken = self._rules.role or ("from" if "from" in value and "role" not in value else "role")
        other = "value" if spoken == "from" else "content"
        return spoken, self._rules.content or next((key for key in ("content", "value") if key in value), other)

    def _role(self, where: str, role: Any, fault: Fault) -> str:
        if isinstance(role, str) or type(role) is int:
            mapped = self._rules.roles.get(str(role)) or ROLES.get(str(role).strip().lower())
            if mapped:
                return mapped
        fault(where, f"has the unknown role {role!r}", f"use one of {KNOWN}, or name it in demonstrations.roles")
        return ""

    def _content(self, where: str, role: str, value: Any, fault: Fault) -> Parts | None:
        """What a content says, which is text or a list of parts; None after a complaint."""
        if isinstance(value, list) and role not in ("tools", "call") and (role != "tool" or _are_parts(value)):
            parts = read_parts(where, role, value, fault)
            self.unread += parts.unread if parts is not None else Counter()
            return parts
        if value is None and role in ("assistant", "system", "tool"):
            return Parts()
        if role in ("tool", "call", "tools") and isinstance(value, dict | list):
            value = json.dumps(value, ensure_ascii=False)
        if isinstance(value, str):
            if value.strip() and (fault_of := text_fault(value)):
                self._complain(where, fault_of, fault)
                return None
            return Parts([value])
        self._complain(where, text_fault(value), fault)
        return None

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
            elif str(key).lower().startswith(MAYBE_MARKS) and given in (0, 1):
                fault(
                    f"{where}.{key}",
                    "seems to say whether the turn is learned, in a way that is not known here",
                    "write weight: 0 for a turn to read only, else take it out",
                )
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
                continue
            said[key] = bool(mark)
        if len(set(said.values())) > 1:
            fault(where, f"contradicts itself: {' and '.join(said)} differ", "keep one of them")
        if role not in ("assistant", "call") and any(said.values()):
            key = next(key for key, mark in said.items() if mark)
            fault(f"{where}.{key}", f"marks a turn of the {role} to be learned", "take it out: only the expert's are")
        return all(said.values())

    def _text(self, where: str, value: Any, fault: Fault) -> str:
        """A text beside the content; "" where there is none, or after a complaint."""
        if not value or (isinstance(value, str) and not value.strip()):
            return ""
        if not isinstance(value, str):
            fault(where, f"is {kind_of(value)}, not text", "write it as text")
            return ""
        if fault_of := text_fault(value):
            self._complain(where, fault_of, fault)
            return ""
        return value

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

    def tools(self, where: str, value: Any, fault: Fault) -> list[Message]:
        """The functions in ``value`` as a turn, or none."""
        try:
            text = tool_calls.tools(value, drops_nulls=self._drops_nulls) if value else ""
        except NoCall as error:
            fault(where, f"lists tools, and {error}", error.remedy)
            return []
        return [Message("tools", text)] if text else []


def _are_parts(value: Sequence[Any]) -> bool:
    """Whether a list that a tool gave back is a content in parts, and no result that is a list."""
    return all(isinstance(part, str) or (isinstance(part, dict) and ({"type", "text"} & part.keys())) for part in value)
