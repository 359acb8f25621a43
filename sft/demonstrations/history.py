"""The column ``history``: the turns before, as pairs [what was asked, what was answered] (LLaMA-Factory, ms-swift)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sft.demonstrations.messages import Message, text_fault
from sft.demonstrations.thoughts import BrokenThought, sole
from sft.runs.records import kind_of

__all__ = ["HISTORY", "earlier_turns"]

HISTORY = "history"
_REMEDY = "write [[asked, answered], ...], each of two texts"


def earlier_turns(cell: Any, fault: Callable[[str, str, str], None]) -> tuple[Message, ...]:
    """The user's and the assistant's turns in ``cell``, oldest first; none where it holds none, or words.

    A table's cell may hold the list as JSON. Complaints go to ``fault(field, message, remedy)``.
    """
    value = cell
    if isinstance(cell, str):
        if not cell.lstrip().startswith(("[[", "[{", "[]")):
            return ()
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            fault(HISTORY, "begins as JSON and is none", "write it as json.dumps does, and not as Python prints it")
            return ()
    if not isinstance(value, list):
        return ()
    turns: list[Message] = []
    for place, pair in enumerate(value, 1):
        if not isinstance(pair, list):
            fault(HISTORY, f"holds {kind_of(pair)} as its entry {place}, which is no pair of turns", _REMEDY)
            return ()
        if len(pair) != 2:
            fault(HISTORY, f"holds {len(pair)} where its pair {place} must have two texts", _REMEDY)
            return ()
        for role, text in zip(("user", "assistant"), pair, strict=True):
            if complaint := text_fault(text):
                what = "what was asked" if role == "user" else "what was answered"
                fault(HISTORY, f"{complaint} in {what} in its pair {place}", _REMEDY)
                return ()
            if role == "user":
                turns.append(Message("user", text))
                continue
            try:
                thought, said = sole(text)
            except BrokenThought as error:
                fault(HISTORY, f"{error} in its pair {place}", error.remedy)
                return ()
            if text_fault(said):
                fault(HISTORY, f"is blank after the thought of its pair {place}", "write what was said after it")
                return ()
            turns.append(Message("assistant", said, thought))
    return tuple(turns)
