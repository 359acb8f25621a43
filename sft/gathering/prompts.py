"""A file of prompts -> items. Whatever ``formats`` reads; a completion is not needed, and one that is there unseen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.demonstrations.file_rows import Broken, rows_of
from sft.errors import DemonstrationsError, Problem, SourceError
from sft.gathering.folder import HeldOutKeys
from sft.gathering.items import Item, item_id

__all__ = ["LONGEST", "Screened", "read_prompts", "screened"]

#: Characters of a prompt or an answer.
LONGEST = 200_000
#: Stands for the completion of a row that has none.
_NONE = "(none)"
#: Columns of a row -> how it is read.
_COLUMNS = {"prompt": "prompt_completion", "instruction": "alpaca", "messages": "messages",
            "conversations": "sharegpt"}  # fmt: skip


def read_prompts(path: Path, *, round: int = 0) -> tuple[list[Item], int]:
    """The items of the file at ``path``, and how many of its rows repeat another's prompt.

    Raises ``SourceError`` for a file without prompts, ``DemonstrationsError`` with every row that cannot be asked.
    """
    from sft.demonstrations.row_fields import OPTIONAL, RowReader  # with the recipes, which a page need not wait for

    names = {column: column for column in ("prompt", "completion", "input", *OPTIONAL)}
    name, faults, rows = str(path), list[Problem](), 0
    found: dict[str, Item] = {}
    layout, reader = "", None  # type: str, RowReader | None
    for line, row in rows_of(path):
        rows += 1
        if reader is None and isinstance(row, dict):
            layout = next((layout for column, layout in _COLUMNS.items() if column in row), "")
            if not layout:
                raise SourceError(
                    f"{path}: no row has a prompt (columns found: {', '.join(map(repr, list(row)[:12]))}); name the "
                    "column of what is asked 'prompt'"
                )
            reader = RowReader(name, layout, names, held_out=True, has_input=layout == "alpaca")
        if reader is None or isinstance(row, Broken) or not isinstance(row, dict):
            plain = reader or RowReader(name, "prompt_completion", names, held_out=True)
            plain.demonstrations(line, row, faults)
            continue
        own = list[Problem]()
        for made in reader.demonstrations(line, _answered(layout, row), own):
            item = _item(made, round)
            if sum(len(turn.content) for turn in item.prompt) > LONGEST:
                message = f"has more than {LONGEST:,} characters, which no page can show"
                own.append(Problem(name, line, "prompt", message, "shorten it, or leave it out"))
            known = found.setdefault(item.id, item)
            if not known.reference and item.reference:
                found[item.id] = item
        faults += own
    if faults:
        raise DemonstrationsError(faults, f"{len({p.line for p in faults})} of {rows} rows cannot be asked; mend them")
    return list(found.values()), rows - len(found)


def _answered(layout: str, row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with a stand-in for the completion that it does not need to have."""
    if layout in ("messages", "sharegpt"):
        column = "messages" if layout == "messages" else "conversations"
        turns = row.get(column)
        role, content = ("role", "content") if layout == "messages" else ("from", "value")
        if (
            isinstance(turns, list)
            and turns
            and isinstance(turns[-1], dict)
            and turns[-1].get(role) in ("user", "human")
        ):
            return row | {column: [*turns, {role: "assistant" if layout == "messages" else "gpt", content: _NONE}]}
        return row
    column = "completion" if layout == "prompt_completion" else "output"
    return row if str(row.get(column) or "").strip() else row | {column: _NONE}


def _item(made: Demonstration, round: int) -> Item:
    group = made.group if made.group != made.key else ""
    reference = "" if made.completion == _NONE else made.completion
    return Item(item_id(made.prompt, round), made.prompt, group=group, round=round, reference=reference)


@dataclass(frozen=True, slots=True)
class Screened:
    """Items that may be asked, and those that may not, with the reason in a word."""

    items: list[Item]
    refused: list[tuple[Item, str]]

    def in_words(self, keys: HeldOutKeys) -> str:
        """How many were refused and which, "" where none was."""
        if not self.refused:
            return ""
        shown = "; ".join(f"{prompt_text(one.prompt)[:60]!r} ({why})" for one, why in self.refused[:5])
        more = f"; and {len(self.refused) - 5} more" if len(self.refused) > 5 else ""
        return f"{len(self.refused)} prompts are held out in {keys.run} and are not asked: {shown}{more}"


def screened(items: Iterable[Item], keys: HeldOutKeys) -> Screened:
    """The items, without those whose prompt or group is held out, or nearly repeats what is."""
    kept, refused = list[Item](), list[tuple[Item, str]]()
    for one in items:
        if one.key in keys.keys:
            refused.append((one, "same prompt"))
        elif one.group and one.group in keys.groups:
            refused.append((one, "same group"))
        else:
            kept.append(one)
    if keys.prompts and kept:
        from sft.demonstrations.near_duplicates import find_near  # with numpy, which an expert need not wait for

        texts = [prompt_text(one.prompt) for one in kept]
        corpus = list(dict.fromkeys([*texts, *keys.prompts]))
        near = {pair.row: pair for pair in find_near(texts, list(keys.prompts), keys.threshold, corpus=corpus)}
        refused += [(kept[row], f"{pair.similarity:.0%} alike") for row, pair in near.items()]
        kept = [one for row, one in enumerate(kept) if row not in near]
    return Screened(kept, refused)
