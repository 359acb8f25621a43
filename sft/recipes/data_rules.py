"""What does not go together in the sections of a recipe that say what is learned from, and what is held out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sft.recipes.complaints import Complaint, about, idle, twice
from sft.recipes.prompt_template import PromptTemplate, is_template

if TYPE_CHECKING:
    from sft.recipes.data_fields import Columns, HeldOutFile, Replay, SourceEntry
    from sft.recipes.fields import Demonstrations, Split

__all__ = ["fault_of_path", "is_encoding", "of_columns", "of_demonstrations", "of_source", "of_split"]

#: A number or a percentage, where a file could be named too.
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)")


def of_demonstrations(section: Demonstrations) -> Iterator[Complaint]:
    """What is wrong with the section."""
    for entry in (section.path,) if isinstance(section.path, str) else section.path:
        if isinstance(entry, str):
            yield from _of_path(entry)
    yield from twice("path", section.paths, "file")
    if section.replay is not None and section.replay.path in section.paths:
        message = "is a file of the demonstrations too, whose rows are held out in part"
        yield about("replay", message, "name general rows that the expert did not write", "path")
    yield from _of_format(section.format, section.columns)
    if section.encoding is not None and not is_encoding(section.encoding):
        yield about("encoding", f"is {section.encoding!r}, no encoding of text", "write one such as cp1252 or utf-16")
    if section.expert is not None and section.conflicts != "keep":
        yield idle("conflicts", "with demonstrations.expert, whom nobody outvotes", "expert")


def fault_of_path(path: str) -> str:
    """What is wrong with an address of demonstrations that no recipe holds, as a sentence; "" for nothing."""
    if not path.strip():
        return f"{path!r}: names no file; a variable of the shell may not be set"
    return next(
        (f"{one.message.removeprefix('is ')}: is no address of rows; {one.remedy}" for one in _of_path(path)), ""
    )


def _of_path(path: str) -> Iterator[Complaint]:
    if path in ("data:", "hub:") or (path.startswith("hub:") and "/" not in path.partition("@")[0].split(":")[1]):
        yield about("path", f"is {path!r}", "write data:NAME or hub:OWNER/NAME")
    if path.startswith("wheel:"):
        yield about("path", "names a wheel, which carries models", "write data:NAME or a file")


def of_source(source: SourceEntry | HeldOutFile | Replay) -> Iterator[Complaint]:
    """What is wrong with an entry of ``demonstrations.path``, a ready-made file, or ``demonstrations.replay``."""
    yield from _of_path(source.path)
    if source.format is not None:
        yield from _of_format(source.format, source.columns)


def _of_format(format: str, columns: Columns | None) -> Iterator[Complaint]:
    """What is wrong between the shape of the rows and the names of their columns, where they have some of their own."""
    if columns is None:
        return
    has_pair = columns.prompt is not None and columns.completion is not None
    if format == "columns" and not (has_pair or columns.messages):
        remedy = "give demonstrations.columns.prompt and demonstrations.columns.completion, or columns.messages"
        yield about("format", "is columns, but their names are missing", remedy, "columns")
    if columns.messages and format in ("prompt_completion", "alpaca"):
        yield about("format", f"is {format}, and columns.messages names a dialogue", "write messages", "columns")


def of_columns(columns: Columns) -> Iterator[Complaint]:
    """What is wrong with the section."""
    if columns.messages is not None:
        for key in ("prompt", "input", "completion"):
            if getattr(columns, key) is not None:
                message = "is named beside messages, which hold the prompts and completions"
                yield about(key, message, "keep one of the two", "messages")
    if columns.prompt is not None and is_template(columns.prompt):
        try:
            PromptTemplate.read(columns.prompt)
        except ValueError as error:
            message, _, remedy = str(error).partition("; ")
            yield about("prompt", message, remedy)
        if columns.input is not None:
            yield about("input", "is named beside a template", "write it into the template: {...}", "prompt")


def is_encoding(name: str) -> bool:
    """Whether Python knows text in the encoding ``name``."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True


def of_split(split: Split) -> Iterator[Complaint]:
    """What is wrong with the section."""
    validation, test = split.validation, split.test
    named = {key: _NUMBER.fullmatch(value.strip()) for key, value in split if isinstance(value, str)}
    if numbers := {key: found for key, found in named.items() if found}:
        for key, found in numbers.items():
            share = float(found[1]) / (100 if found[2] or float(found[1]) >= 1 else 1)
            remedy = f"write {share:g} without quotes" if 0 < share < 1 else "write a share, 0.1 for a tenth"
            yield about(key, f"is {found[0]!r}, the name of a file", remedy)
        return
    files = split.files
    if len(files) == 2:
        if files["validation"].path == files["test"].path:
            remedy = "hold out another file; the clone cannot be judged on what chose it"
            yield about("test", "is the validation file", remedy, "validation")
    elif (held_out := sum(part for part in (validation, test) if isinstance(part, float))) >= 1:
        message = f"and split.test hold out {held_out:g} of everything"
        remedy = "leave demonstrations to train on: the two must add up to less than 1"
        yield about("validation", message, remedy, "test")
    if len(files) == 2:
        yield idle("seed", "for ready-made files", "validation", "test")
