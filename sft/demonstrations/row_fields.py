"""One row -> its demonstrations: each cell in the form a demonstration needs, or complained about."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sft.demonstrations.demonstration import Demonstration, Message, Origin, Source, prompt_key, text_fault
from sft.demonstrations.file_rows import Broken
from sft.errors import Problem
from sft.runs.records import kind_of

__all__ = ["LAYOUTS", "OPTIONAL", "Cells", "RowReader"]

#: Layout -> the columns a row of it must have.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
}
OPTIONAL = ("system", "expert", "group", "references")
#: A row in which it is true is not to be trained on (correction sheets, see ``probes.examples``).
MARK = "held_out"
#: What a gathering says of how a row came about.
GATHERED = "gathered"
_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_FAULT_REMEDIES = {
    "is blank": "write one or remove the row",
    "holds a lone": "replace the broken character (half of an emoji)",
    "must be text": "write it as text",
}


#: A prompt, and what the expert wrote.
Pair = tuple[tuple[Message, ...], str]


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
        return self._sound(column, self.row[column])

    def optional(self, column: str, *, scalar: bool = False) -> str:
        """The cell as text, ``""`` where it is absent, null or blank; ``scalar`` takes numbers too."""
        value = self.row.get(column)
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return ""
        if scalar and type(value) in (int, float):
            value = str(int(value) if value == value // 1 else value)
        return self._sound(column, value)

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
        read = [self._message(f"{column}[{place}]", each) for place, each in enumerate(value, 1)]
        turns = [turn for turn in read if turn is not None]
        if system and turns and turns[0].role == "system":
            self.fault(column, "starts with a system message beside the system column", "keep one of them")
            return ()
        if len(turns) < len(read):
            return ()
        return (Message("system", system), *turns) if system else tuple(turns)

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
        content = self._sound(f"{where}.{said}", value.get(said))
        return Message(mapped, content) if mapped and content else None

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


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


class RowReader:
    """Builds the demonstrations of one row after another of one file."""

    def __init__(self, file: str, layout: str, names: Mapping[str, str], *, held_out: bool) -> None:
        self.file = file
        self.held_out = held_out
        self.layout = layout
        self.names = names
        own = {"alpaca": ("instruction", "input", "output", "history")}.get(layout, LAYOUTS[layout])
        self.used = {names.get(column, column) for column in (*own, *OPTIONAL)} | {MARK, GATHERED}
        self._of_pairs = layout == "prompt_completion"
        self._beside = frozenset(names[column] for column in OPTIONAL)

    def plain(self, line: int, row: Any) -> Demonstration | None:
        """The demonstration of a row that is two sound texts, perhaps with texts beside them: most rows of most files.

        None for all others, which :meth:`demonstrations` looks at closely; for these it would give the same.
        """
        if not self._of_pairs or type(row) is not dict or MARK in row or GATHERED in row:
            return None
        prompt, completion = row.get(self.names["prompt"]), row.get(self.names["completion"])
        if type(prompt) is not str or type(completion) is not str or text_fault(prompt) or text_fault(completion):
            return None
        system = group = expert = ""
        if not self._beside.isdisjoint(row):
            if row.get(self.names["references"]) is not None:
                return None
            found = [row.get(self.names[column]) for column in ("system", "group", "expert")]
            beside = ["" if value is None else value for value in found]
            if any(type(value) is not str or (value and text_fault(value)) for value in beside):
                return None
            system, group, expert = beside
        source = Source(self.file, line)
        return Demonstration.of_sound_text(prompt, completion, system=system, group=group, expert=expert, source=source)

    def demonstrations(self, line: int, row: Any, faults: list[Problem]) -> list[Demonstration]:
        """The row's demonstrations; every complaint is appended to ``faults`` (then the list is void)."""

        def fault(field: str, message: str, remedy: str) -> None:
            faults.append(Problem(self.file, line, field, message, remedy))

        if isinstance(row, Broken):
            fault(row.field, row.message, row.remedy)
            return []
        if not isinstance(row, dict):
            fault("", f"is {kind_of(row)}, not an object with columns", "write the row as an object")
            return []
        if not self.held_out and str(row.get(MARK)).strip().lower() == "true":
            named = isinstance(run := row.get("run"), str) and run.strip()
            where = f"held out in {run}" if named else f"marked as held out ('{MARK}': true)"
            fault(
                "",
                f"is {where}; who trains on it can no longer be judged on it",
                "leave the row out, or name the file as split.test, which is not trained on; to train on it all the "
                f"same, take '{MARK}' out of the row and judge the clone on other prompts",
            )
            return []
        values = Cells(row, fault)
        system = values.optional(self.names["system"])
        expert = values.optional(self.names["expert"], scalar=True)
        group = values.optional(self.names["group"], scalar=True)
        references = values.references(self.names["references"], parse=self.file.lower().endswith((".csv", ".tsv")))
        column = self.names["prompt"] if self._of_pairs else LAYOUTS[self.layout][0]
        if self._of_pairs:
            pairs = self._pair(values, system)
        elif self.layout == "alpaca":
            pairs = self._alpaca(values, system)
        else:
            pairs, opener = self._dialogue(values, column, system)
            group = group or opener
        if references and len(pairs) > 1:
            message = f"cannot belong to all {len(pairs)} expert turns of a dialogue"
            fault(self.names["references"], message, "write one row per turn")
        origin = self._origin(row.get(GATHERED), fault)
        if faults:
            return []
        source = Source(self.file, line)
        try:
            return [
                Demonstration(prompt, completion, "", group, expert, source, references, origin)
                for prompt, completion in pairs
            ]
        except ValueError as error:
            message = str(error).removeprefix("prompt ")
            fault(column, message, "put the turns in order: system, user, assistant, ..., user")
            return []

    def _origin(self, gathered: Any, fault: Callable[[str, str, str], None]) -> Origin | None:
        if not gathered:
            return None
        try:
            return Origin.from_dict(gathered if isinstance(gathered, dict) else {})
        except ValueError as error:
            fault(GATHERED, f"is not what a gathering wrote ({error})", f"take '{GATHERED}' out of the row")
            return None

    def _pair(self, values: Cells, system: str) -> list[Pair]:
        column = self.names["prompt"]
        if isinstance(values.row.get(column), list):
            prompt = values.messages(column, system)
        else:
            prompt = values.plain(values.text(column), system)
        column = self.names["completion"]
        if not isinstance(values.row.get(column), list):
            return [(prompt, values.text(column))]
        written = values.messages(column, "")
        if [message.role for message in written] != ["assistant"]:
            if written:
                values.fault(column, "must be text or one assistant message", "write what the expert wrote")
            return []
        return [(prompt, written[0].content)]

    def _alpaca(self, values: Cells, system: str) -> list[Pair]:
        instruction = values.text("instruction")
        given = values.optional("input")
        if values.row.get("history"):
            values.fault("history", "holds earlier turns, which Alpaca rows cannot say", "write the row as messages")
        prompt = values.plain(f"{instruction}\n\n{given}" if given and instruction else instruction, system)
        return [(prompt, values.text("output"))]

    def _dialogue(self, values: Cells, column: str, system: str) -> tuple[list[Pair], str]:
        """One (prompt, completion) per expert turn, and the group: the key of the dialogue's opening."""
        dialogue = values.messages(column, system)
        if not dialogue:
            return [], ""
        start = 1 if dialogue[0].role == "system" else 0
        for place, message in enumerate(dialogue[start:]):
            if message.role != ("assistant" if place % 2 else "user"):
                values.fault(
                    column,
                    f"message {start + place + 1} is the {message.role}'s, where the "
                    f"{'assistant' if place % 2 else 'user'}'s must stand",
                    "let user and assistant take turns, the user first, a system message before them",
                )
                return [], ""
        if len(dialogue) - start < 2 or dialogue[-1].role != "assistant":
            remedy = "add what the expert wrote, or cut the last turn"
            values.fault(column, "does not end with an expert's turn", remedy)
            return [], ""
        opener = prompt_key(dialogue[: start + 1])
        return [(dialogue[:at], dialogue[at].content) for at in range(start + 1, len(dialogue), 2)], opener
