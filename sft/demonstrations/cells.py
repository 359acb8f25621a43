"""The cells of one row, each in the form a demonstration needs, or complained about."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from sft.demonstrations.message_fields import MessageReader
from sft.demonstrations.message_parts import read_parts
from sft.demonstrations.messages import Message, text_fault
from sft.demonstrations.thoughts import BrokenThought, sole
from sft.recipes.prompt_template import PromptTemplate
from sft.runs.records import kind_of

__all__ = ["MEDIA", "TOOLS", "Cells", "listed_in"]

#: Columns of functions that could be called, and columns that no text can stand for.
TOOLS, MEDIA = ("tools", "functions"), ("images", "image", "videos", "audios", "audio")
_AS_MESSAGES = "write [{role, content}, ...]"
#: How a list of objects begins as JSON, and as Python prints it.
_OF_OBJECTS, _OF_PYTHON = re.compile(r'\s*\[\s*\{\s*"'), re.compile(r"\s*\[\s*\{\s*'")
_FAULT_REMEDIES = {
    "is blank": "write one or remove the row",
    "holds a lone": "replace the broken character (half of an emoji)",
    "must be text": "write it as text",
}


class Cells:
    """The cells of ``row``; every complaint goes to ``fault(field, message, remedy)``, and none raises."""

    __slots__ = ("blank", "fault", "reader", "row")

    def __init__(
        self,
        row: dict[str, Any],
        fault: Callable[[str, str, str], None],
        reader: MessageReader | None = None,
        blank: Counter[str] | None = None,
    ) -> None:
        self.row = row
        self.fault = fault
        self.reader = reader or MessageReader()
        self.blank = Counter() if blank is None else blank

    def text(self, column: str) -> str:
        """The cell as text; complains if it is missing or no text."""
        if column not in self.row:
            self.fault(column, "is missing", f"add it (the row has {', '.join(map(repr, self.row)) or 'nothing'})")
            return ""
        return self._sound(column, self.row[column])

    def optional(self, column: str, *, scalar: bool = False) -> str:
        """The cell as text, ``""`` where it is absent, null or blank; ``scalar`` takes numbers too, and of a name no
        white space around it: whose it is, and with what it belongs together, would differ by what nobody sees.
        """
        value = self.row.get(column)
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return ""
        if scalar and type(value) in (int, float):
            value = str(int(value) if value == value // 1 else value)
        if scalar and isinstance(value, str):
            value = value.strip()
        return self._sound(column, value)

    def system(self, column: str) -> str:
        """The cell as a system message: text, parts of it, or a message that has them; "" where there is none."""
        value = self.row.get(column)
        if isinstance(value, dict):
            value = next((value[key] for key in ("parts", "content") if key in value), value)
        if not isinstance(value, list):
            return self.optional(column)
        parts = read_parts(column, "system", value, self.fault)
        if parts is None or not parts.text.strip():
            return ""
        self.reader.unread += parts.unread
        return self._sound(column, parts.text)

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
        return tuple(self._sound(column, each, f" (number {place})") for place, each in enumerate(value, 1))

    def filled(self, template: PromptTemplate) -> str:
        """The prompt that ``template`` makes of the row's cells; complains of cells that are no text, and of no words.

        Blank cells are counted in ``blank``.
        """
        texts = {}
        for place, column in enumerate(template.columns, 1):
            value = self.row.get(column)
            if isinstance(value, dict | list):
                message = f"is {kind_of(value)}, and place {place} of the prompt's template is for text"
                self.fault(column, message, "write it as text, or take the place out of the template")
                return ""
            texts[column] = self.optional(column, scalar=True)
            self.blank[column] += not texts[column]
        if not (text := template.filled(texts)):
            first, *others = texts
            message = f"is blank, and so {'is' if len(others) == 1 else 'are'} {' and '.join(map(repr, others))}"
            self.fault(first, message if others else "is blank", "write one or remove the row")
        return text

    def plain(self, text: str, system: str) -> tuple[Message, ...]:
        """A prompt of one user turn; empty (and complained about already) where the text is."""
        system = system or self.reader.system
        if not text:
            return ()
        user = Message("user", text)
        return (Message("system", system), user) if system else (user,)

    def tools(self) -> tuple[Message, ...]:
        """The functions that the row lists beside its text, as a turn; none where it lists none."""
        given = next((self.row[name] for name in TOOLS if self.row.get(name)), None)
        return tuple(self.reader.tools("tools", given, self.fault))

    def messages(self, column: str, system: str | None, *, tools: bool = True) -> tuple[Message, ...]:
        """A list of ``{role, content}`` or ``{from, value}``, after the row's ``tools``; empty after a complaint.

        One message is a list of one, and a table's cell may hold the list as JSON.
        """
        value = listed_in(self.row.get(column))
        if not isinstance(value, list) or not value:
            what = "is missing" if column not in self.row else "is empty" if value == [] else None
            message = what or f"must be a list of messages, not {kind_of(value)}"
            is_python = isinstance(value, str) and _OF_PYTHON.match(value)
            remedy = "write it as json.dumps does, and not as Python prints it" if is_python else _AS_MESSAGES
            self.fault(column, message, remedy)
            return ()
        listed = self.tools() if tools else ()
        return tuple(self.reader.messages(column, value, self.fault, system=system, tools=listed))

    def spoken(self, column: str) -> Message | None:
        """The cell as what an expert wrote, a thought that it begins with apart; None after a complaint."""
        text = self.text(column)
        try:
            thought, rest = sole(text)
        except BrokenThought as error:
            self.fault(column, str(error), error.remedy)
            return None
        if text and text_fault(rest):
            self.fault(column, "is blank after its thought", "write what was said after it")
            return None
        return Message("assistant", rest, thought) if text else None

    def _sound(self, field: str, value: Any, where: str = "") -> str:
        """``value``, where it is text of a demonstration; else "", after a complaint."""
        fault = text_fault(value)
        if not fault:
            return str(value)
        if value is None or value != value:
            empty = "null" if value is None else "NaN (an empty cell)"
            self.fault(field, f"is {empty}", "fill it in or remove the row")
        else:
            remedy = next(text for start, text in _FAULT_REMEDIES.items() if fault.startswith(start))
            self.fault(field, fault + where, remedy)
        return ""


def listed_in(value: Any) -> Any:
    """``value``, or the messages that it is: one by itself, or the JSON of several in a text."""
    if isinstance(value, dict) and not {"role", "from"}.isdisjoint(value):
        return [value]
    if isinstance(value, str) and _OF_OBJECTS.match(value):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if all(isinstance(each, dict) for each in found) else value
    return value


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None
