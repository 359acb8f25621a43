"""Which columns of a file are meant, by what a recipe calls them, by the layout that they make, or by a near miss."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from sft.demonstrations.file_rows import Broken
from sft.demonstrations.message_keys import in_yaml, key_names
from sft.demonstrations.row_fields import LAYOUTS, OPTIONAL, WITH_TEXT
from sft.errors import SourceError
from sft.recipes.prompt_template import PromptTemplate, is_template

__all__ = ["COLUMNS", "FORMATS", "layouts_of", "missing", "named", "recognised"]

#: Where a recipe names the columns of its only file; ``%s``: their names.
COLUMNS = "demonstrations.columns: %s"
FORMATS = ("auto", *LAYOUTS, "columns")
#: What a caller may call otherwise; role and content are keys of messages and no columns.
_NAMEABLE = ("prompt", "completion", "input", "messages", *OPTIONAL)
#: What others call them: used only to suggest a name, never to guess one.
_KNOWN_AS = {
    "prompt": ("instruction", "question", "query", "source", "text", "input", "context"),
    "completion": ("answer", "response", "output", "target", "reply", "label", "chosen", "summary"),
    "input": ("context", "input", "passage", "document"),
    "system": ("systeminstruction", "system_instruction", "system_prompt", "systemprompt", "system_message"),
}
#: Rows among which a line of names is looked for, and words from which on a name is none.
_HEAD, _A_TEXT = 20, 4
#: Keys of messages that are read without being named.
_MESSAGE_KEYS = ({"role", "content"}, {"from", "value"})


def named(name: str, format: str, columns: Mapping[str, str]) -> dict[str, str]:
    """What each column of ours is called in the file ``name``. Raises ``SourceError`` where that cannot be meant."""
    if format not in FORMATS:
        raise SourceError(f"{name}: format '{format}' is unknown{_near(format, FORMATS)}")
    for key, column in columns.items():
        if key not in (*_NAMEABLE, "role", "content"):
            raise SourceError(f"{name}: columns cannot name '{key}'{_near(key, _NAMEABLE)}")
        if not isinstance(column, str):
            raise SourceError(f"{name}: columns names '{key}' as {column!r}; write the column's name as text")
    if is_template(columns.get("completion", "")):
        raise SourceError(f"{name}: columns makes the completion of several columns; name the one the expert wrote")
    if format not in ("auto", "columns", "prompt_completion") and {"prompt", "completion"} & set(columns):
        raise SourceError(f"{name}: columns names a prompt or completion; set format to 'columns', not '{format}'")
    found = {key: columns.get(key, key) for key in _NAMEABLE}
    if is_template(found["prompt"]):
        try:
            PromptTemplate.read(found["prompt"])
        except ValueError as error:
            raise SourceError(f"{name}: columns.prompt {error}") from None
    return found | {"conversations": columns.get("messages", "conversations")}


def layouts_of(format: str, columns: Mapping[str, str], *, general: bool = False) -> list[str]:
    """The layouts that rows may have, the likeliest first; those of ``general`` rows may be text."""
    if "messages" in columns:
        return ["sharegpt" if format == "sharegpt" else "messages"]
    if format == "columns" or {"prompt", "completion"} & set(columns):
        return ["prompt_completion"]
    return list(WITH_TEXT if general else LAYOUTS) if format == "auto" else [format]


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else f"; use one of {', '.join(known)}"


def recognised(
    name: str, rows: Iterator[tuple[int, Any]], layouts: Sequence[str], names: Mapping[str, str], place: str
) -> tuple[str, dict[str, None], Iterator[tuple[int, Any]]]:
    """The first layout whose columns some row has; the rows read so far are put back. Raises ``SourceError``.

    ``place``: where the columns are named, see :data:`COLUMNS`.
    """
    passed: list[tuple[int, Any]] = []
    found: dict[str, None] = {}
    needed = {layout: _needed(layout, names) for layout in layouts}
    for line, row in rows:
        passed.append((line, row))
        if isinstance(row, dict):
            found |= dict.fromkeys(row)
            for layout in layouts:
                if all(column in row for column in needed[layout]):
                    return layout, found, chain(passed, rows)
    for line, row in passed[:_HEAD]:
        cells = _cells_of(row)
        if any(all(column in cells for column in needed[layout]) for layout in layouts):
            if line == 1:
                raise SourceError(f"{name}: holds a table and no JSON; let its name end in .csv or .tsv")
            raise SourceError(f"{name}:{line}: names the columns, where line 1 must; remove the lines above it")
    if not found:  # nothing but broken rows: each has its own complaint
        return layouts[0], found, iter(passed)
    first = next(row for _, row in passed if isinstance(row, dict))
    wrong = missing(needed[layouts[0]], found)
    raise SourceError(f"{name}: {wrong}; {_how_to_name(layouts, names, found, first, place)}")


def _cells_of(row: Any) -> list[str]:
    """The cells of a row of text, read or not, without what may stand around them."""
    if isinstance(row, Broken):
        return [cell.strip(' "\t') for cell in re.split(r"[,;\t|]", row.raw)]
    return [cell.strip() for cell in row.values() if isinstance(cell, str)] if isinstance(row, dict) else []


def _needed(layout: str, names: Mapping[str, str]) -> list[str]:
    """The columns that a row of ``layout`` must have, by their names in the file."""
    called = [names.get(column, column) for column in WITH_TEXT[layout]]
    if layout == "prompt_completion" and is_template(names["prompt"]):
        called[:1] = dict.fromkeys(PromptTemplate.read(names["prompt"]).columns)
    return called


def missing(needed: Sequence[str], found: Iterable[str]) -> str:
    """Which of the columns ``needed`` no row has, and what is there instead, as half a sentence."""
    columns = list(found)
    shown = ", ".join(f"'{column}'" for column in columns[:12]) + (", ..." if len(columns) > 12 else "")
    shown = shown.encode("utf-8", "backslashreplace").decode("utf-8")
    absent = [column for column in needed if column not in columns]
    if not absent:
        *others, last = map(repr, needed)
        both = f"both {others[0]}" if len(others) == 1 else ", ".join(others)
        return f"no row has {both} and {last} (columns found: {shown})"
    near = [f"'{close[0]}' for '{column}'" for column in absent if (close := _closest(column, columns, needed))]
    hint = f", nearest: {', '.join(near)}" if near else ""
    return f"no row has {' or '.join(repr(each) for each in absent)} (columns found: {shown}{hint})"


def _closest(column: str, columns: Sequence[str], taken: Sequence[str]) -> list[str]:
    free = [each for each in columns if each not in taken]
    lowered = {each.lower(): each for each in reversed(free)}
    for known in (column, *_KNOWN_AS.get(column, ())):
        if known in lowered:
            return [lowered[known]]
    return difflib.get_close_matches(column, free, 1)


def _how_to_name(
    layouts: Sequence[str], names: Mapping[str, str], found: Iterable[str], row: Mapping[str, Any], place: str
) -> str:
    """What to do where no row has the columns that are needed: ``row`` is the first of those that there are."""
    columns = list(found)
    if is_template(template := names["prompt"]):
        places = PromptTemplate.read(template).columns
        wrong = [f"'{column}' in place {place}" for place, column in enumerate(places, 1) if column not in columns]
        if wrong:
            return f"mend {' and '.join(wrong)} of the template in demonstrations.columns.prompt, or of --column"
    if len(columns) == 1 and all(column in columns[0] for column in _needed(layouts[0], names)):
        return "part the columns by ',', ';', '|' or a tab"
    inside = next((column for column, cell in row.items() if _holds(cell, layouts, names)), None)
    if inside is not None and (answer := _answer_beside(row, inside)):
        return (
            f"write the messages within {inside!r} as a column prompt, and what the expert answered, from {answer!r}, "
            "as a column completion"
        )
    if inside is not None:
        return f"the columns stand within {inside!r}: write what is in it as the row"
    if any(len(column.split()) >= _A_TEXT for column in columns):
        return "line 1 is taken for the names of the columns: where it is a row, write a line of names above it"
    dialogues = [column for column, cell in row.items() if _is_dialogue(cell)]
    dialogue = dialogues[0] if dialogues else None
    answered = _closest("completion", dialogues, ["prompt"]) if "prompt" in dialogues else []
    if answered and layouts[0] == "prompt_completion":  # of two answers to a prompt the one that is preferred
        return _in_words({"completion": answered[0]}, place)
    if len(dialogues) == 2 and layouts[0] == "prompt_completion" and "chosen" not in dialogues:
        return _in_words({"prompt": dialogues[0], "completion": dialogues[1]}, place)
    if dialogue is not None and layouts[0] not in ("alpaca",):
        return _in_words(_names_of_dialogue(dialogue, row[dialogue][0]) | _system_in(columns), place)
    if layouts[0] != "prompt_completion":
        if layouts[0] in ("messages", "sharegpt") and names["messages"] != "messages":
            return f"mend demonstrations.columns.messages, '{names['messages']}'"
        return f"format '{layouts[0]}' needs {' and '.join(LAYOUTS[layouts[0]])}"
    if _is_texts(row.get(columns[0])) and len(columns) == 1:
        return f"{columns[0]!r} is a list of texts: write it as messages, [{{role, content}}, ...]"
    guess = {
        key: (_closest(key, columns, ()) or ["YOUR_COLUMN"])[0] if key not in columns else key
        for key in ("prompt", "completion")
    }
    if place == COLUMNS and all(key == column for key, column in guess.items()):
        return "the columns have the usual names: leave theirs out of demonstrations.columns, or of --column"
    taken = list(guess.values())
    about = [column for column in _KNOWN_AS["input"] if column in columns and column not in taken]
    beside = ({"input": about[0]} if about else {}) | _system_in(columns)
    return _in_words({"prompt": guess["prompt"], **beside, **guess}, place)


def _system_in(columns: Sequence[str]) -> dict[str, str]:
    """How a column of system messages is named, where there is one that is called otherwise."""
    named = next((column for column in columns if column.lower() in _KNOWN_AS["system"]), "")
    return {"system": named} if named else {}


def _in_words(guess: Mapping[str, str], place: str) -> str:
    shown = ", ".join(f"{key}: {in_yaml(column)}" for key, column in guess.items())
    named = f"name your columns in the recipe, {place.replace('%s', f'{{{shown}}}')}"
    options = " ".join(f"--column {shlex.quote(f'{key}={column}')}" for key, column in guess.items())
    return f"{named}; to `sft check`, {options}" if place == COLUMNS else named


def _holds(cell: Any, layouts: Sequence[str], names: Mapping[str, str]) -> bool:
    """Whether a cell is an object that has the columns of a row."""
    return isinstance(cell, dict) and any(all(key in cell for key in _needed(one, names)) for one in layouts)


def _answer_beside(row: Mapping[str, Any], inside: str) -> str:
    """The column with the answer to the messages within the column ``inside``, where those end before it; else ""."""
    turns = row[inside].get("messages")
    if not (_is_dialogue(turns) and isinstance(turns[-1], dict) and turns[-1].get("role") != "assistant"):
        return ""
    others = [column for column, cell in row.items() if column != inside and isinstance(cell, dict | list) and cell]
    return next((column for column in others if not column.startswith(("non_", "rejected"))), "")


def _is_texts(cell: Any) -> bool:
    return isinstance(cell, list) and bool(cell) and all(isinstance(each, str) for each in cell)


def _is_dialogue(cell: Any) -> bool:
    return isinstance(cell, list) and bool(cell) and isinstance(cell[0], dict)


def _names_of_dialogue(column: str, message: Mapping[str, Any]) -> dict[str, str]:
    """How the column of a dialogue is named, and the keys of its messages where they are others than ours."""
    return {"messages": column} | ({} if any(keys <= set(message) for keys in _MESSAGE_KEYS) else key_names(message))
