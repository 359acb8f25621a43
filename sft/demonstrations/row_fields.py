"""One row -> its demonstrations: each cell in the form a demonstration needs, or complained about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from sft.demonstrations.cells import MEDIA, TOOLS, Cells, listed_in
from sft.demonstrations.demonstration import Demonstration, Message, Origin, Source, text_fault
from sft.demonstrations.file_rows import Broken
from sft.demonstrations.history import HISTORY, earlier_turns
from sft.demonstrations.message_fields import MessageReader, MessageRules
from sft.demonstrations.message_keys import MARKS
from sft.demonstrations.messages import opening, out_of_order, prompt_key
from sft.demonstrations.plain_text import PlainText
from sft.demonstrations.unrolled import unrolled
from sft.errors import Problem
from sft.recipes.prompt_template import PromptTemplate, is_template
from sft.runs.records import kind_of

__all__ = ["LAYOUTS", "OPTIONAL", "WITH_TEXT", "RowReader"]

#: Layout -> the columns a row of it must have.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
}
#: The same, and of rows that are general text.
WITH_TEXT = {**LAYOUTS, "text": ("text",)}
OPTIONAL = ("system", "expert", "group", "references")
#: A row in which it is true is not to be trained on (correction sheets, see ``probes.examples``).
MARK = "held_out"
_YES = ("true", "1", "1.0", "yes")
#: What a gathering says of how a row came about.
GATHERED = "gathered"
#: What KTO's rows say of a completion; words and numbers under this name are another thing's labels.
LABEL = "label"
_UNPLAIN = frozenset((*TOOLS, *MEDIA, *MARKS, HISTORY, LABEL))


#: A prompt, and what the expert wrote, as the turn that it is.
Pair = tuple[tuple[Message, ...], Message]


class RowReader:
    """Builds the demonstrations of one row after another of one file."""

    def __init__(
        self,
        file: str,
        layout: str,
        names: Mapping[str, str],
        *,
        held_out: bool,
        rules: MessageRules | None = None,
        cells_are_text: bool = False,
        has_input: bool = False,
    ) -> None:
        self.file = file
        self.held_out = held_out
        self.layout = layout
        self.names = names
        self.cells_are_text = cells_are_text
        self.has_input = has_input
        self.blank: Counter[str] = Counter()
        self.template = PromptTemplate.read(names["prompt"]) if is_template(names["prompt"]) else None
        own = {"alpaca": ("instruction", "input", "output", "history")}.get(layout, WITH_TEXT[layout])
        self.used = {names.get(column, column) for column in (*own, *OPTIONAL)} | {MARK, GATHERED}
        self.used |= {*(self.template.columns if self.template else ()), *([names["input"]] if has_input else [])}
        if layout != "alpaca":
            self.used |= {*TOOLS}
        self.reader = MessageReader(rules, drops_nulls=file.startswith("hub:") or file.lower().endswith(".parquet"))
        self._of_pairs = layout == "prompt_completion"
        self._is_plain = self._of_pairs and self.template is None and not has_input
        self._beside = frozenset(names[column] for column in OPTIONAL)

    def notes(self) -> tuple[str, ...]:
        """Sentences on what was passed over, or left blank."""
        left = [f"{{{column}}} in {count:,} rows" for column, count in self.blank.items() if count]
        if not left:
            return self.reader.notes()
        blank = f"{self.file}: blank in the prompt's template are {', '.join(left)}; paragraphs of nothing else go."
        return (blank, *self.reader.notes())

    def plain(self, line: int, row: Any) -> Demonstration | None:
        """The demonstration of a row that is two sound texts, perhaps with texts beside them: most rows of most files.

        None for all others, which :meth:`demonstrations` looks at closely; for these it would give the same.
        """
        if not self._is_plain or type(row) is not dict or MARK in row or GATHERED in row:
            return None
        prompt, completion = row.get(self.names["prompt"]), row.get(self.names["completion"])
        if type(prompt) is not str or type(completion) is not str or text_fault(prompt) or text_fault(completion):
            return None
        if "<think" in completion or "</think" in completion or not _UNPLAIN.isdisjoint(row):
            return None
        system = group = expert = ""
        if not self._beside.isdisjoint(row):
            if row.get(self.names["references"]) is not None:
                return None
            found = [row.get(self.names[column]) for column in ("system", "group", "expert")]
            beside = ["" if value is None else value for value in found]
            if any(type(value) is not str or (value and text_fault(value)) for value in beside):
                return None
            if any(value != value.strip() for value in beside[1:]):
                return None
            system, group, expert = beside
        system = system or self.reader.system
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
            are_messages = isinstance(row, list) and row and isinstance(row[0], dict)
            remedy = 'write it as {"messages": [...]}' if are_messages else "write the row as an object"
            fault("", f"is {kind_of(row)}, not an object with columns", remedy)
            return []
        if not self.held_out and str(row.get(MARK)).strip().lower() in _YES:
            named = isinstance(run := row.get("run"), str) and run.strip()
            where = f"held out in {run}" if named else f"marked as held out ('{MARK}': true)"
            fault(
                "",
                f"is {where}; who trains on it can no longer be judged on it",
                "leave the row out, or name the file as split.test, which is not trained on; to train on it all the "
                f"same, take '{MARK}' out of the row and judge the clone on other prompts",
            )
            return []
        marks = [key for key in MARKS if key in row and key not in self.used and _says_no(row[key])]
        if row.get(LABEL) is False and LABEL not in self.used:
            marks.append(LABEL)
        if marks and not self.held_out:
            remedy = "remove the row, or give the column another name if it says something else"
            fault(marks[0], f"is {row[marks[0]]!r}, which marks the row as none to learn", remedy)
            return []
        values = Cells(row, fault, self.reader, self.blank)
        for media in MEDIA:
            if row.get(media) and not isinstance(row[media], str):
                remedy = "describe it in words, or leave the row out: demonstrations are text"
                fault(media, "is no text, and what was said about it cannot be learned without it", remedy)
        if self.layout == "text":
            page = values.text("text")
            return [] if faults else [PlainText.of(page, Source(self.file, line))]
        system = values.system(self.names["system"])
        expert = values.optional(self.names["expert"], scalar=True)
        group = values.optional(self.names["group"], scalar=True)
        references = values.references(self.names["references"], parse=self.cells_are_text)
        before: tuple[Message, ...] = ()
        if (self._of_pairs or self.layout == "alpaca") and HISTORY not in self._beside:
            before = earlier_turns(row.get(HISTORY), fault)
        column = self.names["prompt"] if self._of_pairs else self.names.get(first := WITH_TEXT[self.layout][0], first)
        if self._of_pairs:
            pairs = self._pair(values, system)
        elif self.layout == "alpaca":
            pairs = self._alpaca(values, system)
        else:
            pairs = self._dialogue(values, column, system)
        if before and pairs and not faults:
            pairs = self._after(before, pairs, fault)
        if pairs and (
            before or self.layout in ("messages", "sharegpt") or (pairs[0][0][:1] and pairs[0][0][0].role == "tools")
        ):
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
        if self.template is not None:
            prompt = (*values.tools(), *values.plain(values.filled(self.template), system))
        elif isinstance(_as_messages(values.row.get(column)), list):
            prompt = values.messages(column, system)
            if self.has_input and values.optional(self.names["input"]):
                values.fault(
                    self.names["input"], "cannot follow a prompt that is messages", "write it into the last one"
                )
        else:
            prompt = (*values.tools(), *values.plain(self._with_input(values, values.text(column)), system))
        if isinstance(_as_messages(values.row.get(written)), list):
            turns = values.messages(written, None, tools=False)
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

    def _with_input(self, values: Cells, asked: str) -> str:
        """What is asked, and after a blank line what it is about, where the row says so."""
        given = values.optional(self.names["input"], scalar=True) if self.has_input else ""
        return f"{asked}\n\n{given}" if asked and given else asked

    def _alpaca(self, values: Cells, system: str) -> list[Pair]:
        instruction = self._with_input(values, values.text("instruction"))
        prompt = values.plain(instruction, system)
        turn = values.spoken("output")
        return [(prompt, turn)] if turn else []

    def _after(
        self, before: tuple[Message, ...], pairs: list[Pair], fault: Callable[[str, str, str], None]
    ) -> list[Pair]:
        """``pairs`` of a row whose one user's turn goes on from the turns ``before``, whose answers are learned too."""
        (prompt, turn), *others = pairs
        if others or [one.role for one in prompt if one.role not in ("system", "tools")] != ["user"]:
            fault(HISTORY, "stands beside a prompt that is messages", "write the turns before into the messages")
            return []
        self.used.add(HISTORY)
        whole = (*prompt[:-1], *before, prompt[-1], turn)
        places = range(len(prompt), len(whole), 2)
        return [(whole[:place], whole[place]) for place in places]

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
            if place and dialogue[place - 1].calls:
                remedy = "put what the call gave back, a message of the role tool, between the call and this"
            if dialogue[place].role == "tool":
                remedy = "put what a call gave back behind the turn that calls"
            # Tools and a system message may stand in columns of their own.
            beside = max(0, len(dialogue) - len(listed_in(values.row[column])))
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


def _says_no(mark: Any) -> bool:
    """Whether a mark says that its row is not to be learned; in a table it is text."""
    return mark in (0, False) or (isinstance(mark, str) and mark.strip().lower() in ("0", "0.0", "false"))


def _as_messages(cell: Any) -> Any:
    """``cell`` as the list of messages that it is; a text of a prompt or completion stays one, JSON or not."""
    return cell if isinstance(cell, str) else listed_in(cell)
