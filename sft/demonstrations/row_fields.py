"""One row's cells, each taken out in the form a demonstration needs, or complained about."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sft.demonstrations.demonstration import Message, text_fault
from sft.runs.records import kind_of

__all__ = ["Cells"]

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_FAULT_REMEDIES = {
    "is blank": "write one or remove the row",
    "holds a lone": "replace the broken character (half of an emoji)",
    "must be text": "write it as text",
}


class Cells:
    """The cells of ``row``; every complaint goes to ``fault(field, message, remedy)``, and none raises."""

    __slots__ = ("fault", "row")

    def __init__(self, row: dict[str, Any], fault: Callable[[str, str, str], None]) -> None:
        self.row = row
        self.fault = fault

    def text(self, column: str) -> str:
        """The cell as text; complains if it is missing or no text."""
        if column not in self.row:
            self.fault(column, "is missing", f"add it (the row has {', '.join(map(repr, self.row)) or 'nothing'})")
            return ""
        value = self.row[column]
        if fault := text_fault(value):
            self._not_text(column, value, fault)
            return ""
        return str(value)

    def optional(self, column: str, *, scalar: bool = False) -> str:
        """The cell as text, ``""`` where it is absent, null or blank; ``scalar`` takes numbers too."""
        value = self.row.get(column)
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return ""
        if scalar and type(value) in (int, float):
            value = str(int(value) if value == value // 1 else value)
        if fault := text_fault(value):
            self._not_text(column, value, fault)
            return ""
        return str(value)

    def references(self, column: str, *, parse: bool) -> tuple[str, ...]:
        """Further completions: text or a list of texts (in CSV: a JSON list)."""
        value = self.row.get(column)
        if value is None or (isinstance(value, str) and not value.strip()):
            return ()
        if isinstance(value, str):
            value = (_json_list(value) if parse else None) or [value]
        if not isinstance(value, list):
            self.fault(column, f"must be a list of texts, not {kind_of(value)}", "write it as a list")
            return ()
        for place, each in enumerate(value, 1):
            if fault := text_fault(each):
                self._not_text(column, each, f"{fault} (number {place})")
        return tuple(value)

    def plain(self, text: str, system: str) -> tuple[Message, ...]:
        """A prompt of one user turn; empty (and complained about already) where the text is."""
        if not text:
            return ()
        user = Message("user", text)
        return (Message("system", system), user) if system else (user,)

    def messages(self, column: str, system: str) -> tuple[Message, ...]:
        """A list of ``{role, content}`` or ``{from, value}``; empty after a complaint."""
        value = self.row.get(column)
        if not isinstance(value, list) or not value:
            what = "is missing" if column not in self.row else "is empty" if value == [] else None
            message = what or f"must be a list of messages, not {kind_of(value)}"
            self.fault(column, message, "write [{role, content}, ...]")
            return ()
        turns: list[Message] = []
        good = True
        for place, each in enumerate(value, 1):
            turn = self._message(f"{column}[{place}]", each)
            good = good and turn is not None
            if turn is not None:
                turns.append(turn)
        if system and turns and turns[0].role == "system":
            self.fault(column, "starts with a system message beside the system column", "keep one of them")
            good = False
        if system:
            turns.insert(0, Message("system", system))
        return tuple(turns) if good else ()

    def _message(self, where: str, value: Any) -> Message | None:
        if not isinstance(value, dict):
            self.fault(where, f"is {kind_of(value)}, not a message", "write {role, content}")
            return None
        spoken, said = ("role", "content") if "role" in value or "content" in value else ("from", "value")
        if value.get("tool_calls"):
            self.fault(where, "calls tools, which a demonstration cannot say", "write the call as text")
            return None
        role = value.get(spoken)
        mapped = _ROLES.get(role) if isinstance(role, str) else None
        if mapped is None:
            self.fault(where, f"has the unknown role {role!r}", f"use one of {', '.join(_ROLES)}")
        content = value.get(said)
        if fault := text_fault(content):
            self._not_text(f"{where}.{said}", content, fault)
            return None
        return Message(mapped, str(content)) if mapped else None

    def _not_text(self, field: str, value: Any, fault: str) -> None:
        if value is None or value != value:
            fault = f"is {'null' if value is None else 'NaN (an empty cell)'}"
            self.fault(field, fault, "fill it in or remove the row")
            return
        remedy = next(text for start, text in _FAULT_REMEDIES.items() if fault.startswith(start))
        self.fault(field, fault, remedy)


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None
