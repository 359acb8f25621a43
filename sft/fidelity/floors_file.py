"""A floor from elsewhere: completions of the held-out prompts that some other system wrote, read from a file.

A row has ``completion`` and, to say which prompt it answers, ``prompt`` (text, or messages [{role, content}, ...]) or
the prompt's ``id``; ``finished`` (false: cut at a length limit) may stand beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.demonstrations.cells import Cells
from sft.demonstrations.demonstration import HeldOut, Message
from sft.demonstrations.file_rows import Broken, rows_of
from sft.errors import DemonstrationsError, Problem, SourceError
from sft.fidelity.scorecard import SYSTEMS
from sft.runs.records import Completion, kind_of

__all__ = ["FROM_ELSEWHERE", "Elsewhere", "read"]

#: What the floor is in plain words.
FROM_ELSEWHERE = "completions from elsewhere"
#: Its name where the file's own would not do: one that names no file, or another system.
OTHERWISE = "G"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
_TAKEN = {name.casefold() for name in (*SYSTEMS, "expert")}

Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a file says. ``name``: of the floor; ``by_prompt`` and ``by_id``: (completion, finished) of each row."""

    path: str
    name: str
    by_prompt: Mapping[Prompt, tuple[str, bool]]
    by_id: Mapping[str, tuple[str, bool]]

    def completions(self, items: Sequence[HeldOut]) -> dict[str, Completion]:
        """Held-out id -> completion, as far as the file has one: by the prompt, else by the prompt's id.

        A prompt without a system message is also that of an item with one. Raises ``SourceError`` where the file
        answers none of ``items``.
        """
        found: dict[str, Completion] = {}
        for item in items:
            spoken = tuple(turn for turn in item.prompt if turn.role not in ("tools", "system", "thought"))
            one = self.by_prompt.get(item.prompt) or self.by_prompt.get(spoken) or self.by_id.get(item.id)
            if one is not None:
                found[item.id] = Completion(item.id, one[0], one[1])
        if not found:
            raise SourceError(
                f"fidelity.floors_from: {self.path}: answers none of the {len(items)} held-out prompts; give each row "
                "the prompt as the demonstrations have it, or its id"
            )
        return found


def read(path: str) -> Elsewhere:
    """Every row of the file at ``path``.

    Raises ``DemonstrationsError`` with every row that cannot be read, names no prompt, or names one a second time;
    ``SourceError`` for a file that is empty or unusable as a whole.
    """
    try:
        return _read(path, Path(path).expanduser())
    except SourceError as error:
        raise SourceError(f"fidelity.floors_from: {error}") from None


def _read(path: str, file: Path) -> Elsewhere:
    problems: list[Problem] = []
    known: dict[Prompt | str, int] = {}
    by_prompt: dict[Prompt, tuple[str, bool]] = {}
    by_id: dict[str, tuple[str, bool]] = {}
    rows = 0
    for line, row in rows_of(file):
        rows += 1
        before = len(problems)
        fault = _fault(problems, path, line)
        prompt, name, text, finished = _row(row, fault)
        for key, what in ((prompt, "prompt"), (name, "id")):
            if key and known.setdefault(key, line) != line:
                fault(what, f"was on line {known[key]} already", "keep one completion for each prompt")
                break
        if len(problems) > before:
            continue
        if prompt:
            by_prompt[prompt] = (text, finished)
        if name:
            by_id[name] = (text, finished)
    if problems:
        bad = len({problem.line for problem in problems})
        raise DemonstrationsError(problems, f"fidelity.floors_from: {bad} of {rows} rows cannot be used")
    stem = file.stem
    usable = _NAME.fullmatch(stem) is not None and stem.casefold() not in _TAKEN
    return Elsewhere(path, stem if usable else OTHERWISE, by_prompt, by_id)


def _fault(problems: list[Problem], path: str, line: int) -> Callable[[str, str, str], None]:
    return lambda field, message, remedy: problems.append(Problem(path, line, field, message, remedy))


def _row(row: Any, fault: Callable[[str, str, str], None]) -> tuple[Prompt, str, str, bool]:
    """Prompt (empty where there is none), id ("" where there is none), completion, whether it is finished."""
    if isinstance(row, Broken):
        fault(row.field, row.message, row.remedy)
        return (), "", "", True
    if not isinstance(row, dict):
        fault("", f"is {kind_of(row)}, not an object with columns", "write the row as an object")
        return (), "", "", True
    cells = Cells(row, fault)
    name = cells.optional("id", scalar=True)
    prompt: Prompt = ()
    if row.get("prompt") is not None or not name:
        asked = row.get("prompt")
        prompt = cells.messages("prompt", "") if isinstance(asked, list) else cells.plain(cells.text("prompt"), "")
    text = row.get("completion")
    if not isinstance(text, str):
        what = f"is {kind_of(text)}" if "completion" in row else "is missing"
        fault("completion", what, 'write what the system answered, "" where it wrote nothing')
        text = ""
    finished = row.get("finished", True)
    return prompt, name, text, finished not in (False, "false", "False", "0", 0)
