"""One row -> its demonstrations: each cell in the form a demonstration needs, or complained about."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sft.demonstrations.demonstration import Demonstration, Message, Origin, Source, text_fault
from sft.demonstrations.file_rows import Broken
from sft.demonstrations.message_fields import MessageReader, MessageRules
from sft.demonstrations.messages import opening, out_of_order, prompt_key
from sft.demonstrations.thoughts import BrokenThought, sole
from sft.demonstrations.unrolled import unrolled
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
#: Columns of functions that could be called, and columns that no text can stand for.
_TOOLS, _MEDIA = ("tools", "functions"), ("images", "image", "videos", "audios", "audio")
_FAULT_REMEDIES = {
    "is blank": "write one or remove the row",
    "holds a lone": "replace the broken character (half of an emoji)",
    "must be text": "write it as text",
}
_UNPLAIN = frozenset((*_TOOLS, *_MEDIA))


#: A prompt, and what the expert wrote, as the turn that it is.
Pair = tuple[tuple[Message, ...], Message]


class Cells:
    """The cells of ``row``; every complaint goes to ``fault(field, message, remedy)``, and none raises."""

    __slots__ = ("fault", "reader", "row")

    def __init__(
        self, row: dict[str, Any], fault: Callable[[str, str, str], None], reader: MessageReader | None = None
    ) -> None:
        self.row = row
        self.fault = fault
        self.reader = reader or MessageReader()

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

    def tools(self) -> tuple[Message, ...]:
        """The functions that the row lists beside its text, as a turn; none where it lists none."""
        given = next((self.row[name] for name in _TOOLS if self.row.get(name)), None)
        return tuple(self.reader.tools("tools", given, self.fault))

    def messages(self, column: str, system: str, *, tools: bool = True) -> tuple[Message, ...]:
        """A list of ``{role, content}`` or ``{from, value}``, after the row's ``tools``; empty after a complaint."""
        value = self.row.get(column)
        if not isinstance(value, list) or not value:
            what = "is missing" if column not in self.row else "is empty" if value == [] else None
            message = what or f"must be a list of messages, not {kind_of(value)}"
            self.fault(column, message, "write [{role, content}, ...]")
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

    def __init__(
        self, file: str, layout: str, names: Mapping[str, str], *, held_out: bool, rules: MessageRules | None = None
    ) -> None:
        self.file = file
        self.held_out = held_out
        self.layout = layout
        self.names = names
        own = {"alpaca": ("instruction", "input", "output", "history")}.get(layout, LAYOUTS[layout])
        self.used = {names.get(column, column) for column in (*own, *OPTIONAL)} | {MARK, GATHERED}
        if layout != "alpaca":
            self.used |= {*_TOOLS}
        self.reader = MessageReader(rules, drops_nulls=file.startswith("hub:") or file.lower().endswith(".parquet"))
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
        if "think>" in completion or not _UNPLAIN.isdisjoint(row):
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
        values = Cells(row, fault, self.reader)
        for media in _MEDIA:
            if row.get(media) and not isinstance(row[media], str):
                remedy = "describe it in words, or leave the row out: demonstrations are text"
                fault(media, "is no text, and what was said about it cannot be learned without it", remedy)
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
            pairs = self._dialogue(values, column, system)
        if pairs and (self.layout in ("messages", "sharegpt") or (pairs[0][0][:1] and pairs[0][0][0].role == "tools")):
            # What is asked is the same under other tools, and may not stand on both sides of a split.
            group = group or prompt_key(opening(pairs[0][0]))
        if references and len(pairs) > 1:
            message = f"cannot belong to all {len(pairs)} expert turns of a dialogue"
            fault(self.names["references"], message, "write one row per turn")
        origin = self._origin(row.get(GATHERED), fault)
        if faults:
            return []
        source = Source(self.file, line)
        try:
            return unrolled(pairs, group=group, expert=expert, source=source, references=references, origin=origin)
        except ValueError as error:
            message = str(error).removeprefix("prompt ")
            fault(column, message, "put the turns in order: system, user, assistant, ..., user")
            return []

    def _origin(self, gathered: Any, fault: Callable[[str, str, str], None]) -> Origin | None:
        if not gathered:
            return None
        if isinstance(gathered, str):  # as tables and Parquet hold an object
            with suppress(ValueError):
                gathered = json.loads(gathered)
        try:
            return Origin.from_dict(gathered if isinstance(gathered, dict) else {})
        except ValueError as error:
            fault(GATHERED, f"is not what a gathering wrote ({error})", f"take '{GATHERED}' out of the row")
            return None

    def _pair(self, values: Cells, system: str) -> list[Pair]:
        column, written = self.names["prompt"], self.names["completion"]
        if isinstance(values.row.get(column), list):
            prompt = values.messages(column, system)
        else:
            prompt = (*values.tools(), *values.plain(values.text(column), system))
        if isinstance(values.row.get(written), list):
            turns = values.messages(written, "", tools=False)
            if not turns or not prompt:
                return []
            if turns[0].role != "assistant":
                values.fault(
                    written, "must be text or begin with an assistant's message", "write what the expert wrote"
                )
                return []
            return self._expert_turns(values, written, (*prompt, *turns), len(prompt))
        turn = values.spoken(written)
        return [(prompt, turn)] if turn else []

    def _alpaca(self, values: Cells, system: str) -> list[Pair]:
        instruction = values.text("instruction")
        given = values.optional("input")
        if values.row.get("history"):
            values.fault("history", "holds earlier turns, which Alpaca rows cannot say", "write the row as messages")
        prompt = values.plain(f"{instruction}\n\n{given}" if given and instruction else instruction, system)
        turn = values.spoken("output")
        return [(prompt, turn)] if turn else []

    def _dialogue(self, values: Cells, column: str, system: str) -> list[Pair]:
        """One (prompt, answer) per expert turn that may be learned."""
        dialogue = values.messages(column, system)
        if not dialogue:
            return []
        if found := out_of_order(dialogue):
            place, expected = found
            remedy = (
                "let user and assistant take turns, a system message before them; of several turns in a row, "
                "demonstrations.neighbours: join makes one"
            )
            if dialogue[place].role == "tool":
                remedy = "put what a call gave back behind the turn that calls"
            beside = max(0, len(dialogue) - len(values.row[column]))  # tools and system message in columns of their own
            what = f"message {place + 1 - beside} is the {dialogue[place].role}'s, where the {expected}'s must stand"
            values.fault(column, what, remedy)
            return []
        return self._expert_turns(values, column, dialogue)

    def _expert_turns(self, values: Cells, column: str, turns: tuple[Message, ...], start: int = 0) -> list[Pair]:
        """Every expert's turn from ``start`` on, after what was said before it; a greeting is no answer to anything."""
        if turns[-1].role != "assistant":
            values.fault(
                column, "does not end with an expert's turn", "add what the expert wrote, or cut the last turn"
            )
            return []
        places = [place for place in range(start, len(turns)) if turns[place].role == "assistant"]
        answers = [place for place in places if any(turn.role in ("user", "tool") for turn in turns[:place])]
        learned = [place for place in answers if turns[place].supervised]
        if not answers:
            values.fault(column, "does not end with an expert's turn that answers somebody", "add what was asked")
        elif not learned:
            values.fault(column, "marks every expert's turn as none to learn", "remove the row, or mark one with 1")
        return [(turns[:place], turns[place]) for place in learned]
