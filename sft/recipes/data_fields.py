"""What a recipe may say of single sources: how their columns are called, and how much of them is taken."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sft.recipes import data_rules
from sft.recipes.section import Count, Section, Text

__all__ = ["Columns", "FileFormat", "HeldOutFile", "Replay", "SourceEntry"]

FileFormat = Literal["auto", "prompt_completion", "alpaca", "sharegpt", "messages", "columns"]


class Columns(Section):
    """Names of the columns in files that use other names than ours."""

    prompt: Text | None = Field(
        default=None,
        description="Column with the prompt; or several, and words around them: "
        '`"{question}\\n\\n{context}"`. A paragraph goes where its columns are blank.',
    )
    input: Text | None = Field(
        default=None,
        description="Column with what the prompt is about: it follows after a blank line, as in Alpaca's rows.",
    )
    completion: Text | None = Field(default=None, description="Column with what the expert wrote.")
    messages: Text | None = Field(
        default=None, description="Column with a dialogue, a list of messages, in the place of prompt and completion."
    )
    role: Text | None = Field(default=None, description="In each message: the key that says whose turn it is.")
    content: Text | None = Field(default=None, description="In each message: the key that holds what was said.")
    system: Text | None = Field(default=None, description="Column with a system message.")
    expert: Text | None = Field(default=None, description="Column that names the expert.")
    group: Text | None = Field(default=None, description="Column whose equal values must stay in one split.")
    references: Text | None = Field(default=None, description="Column with further experts' completions.")

    _rules = data_rules.of_columns


class SourceEntry(Section):
    """One entry of ``demonstrations.path``: a source that is shaped, limited or weighed otherwise than others."""

    path: Text = Field(
        description="A file, a folder, a pattern, `hub:OWNER/NAME[@REVISION][:[SUBSET/]SPLIT]`, or `data:NAME`."
    )
    format: FileFormat | None = Field(default=None, description="Shape of its rows; empty: as of all sources.")
    columns: Columns | None = Field(default=None, description="Names of all its columns; empty: as of all sources.")
    limit: Count | None = Field(default=None, description="Use at most this many of its demonstrations, by content.")
    weight: Annotated[float, Field(gt=0, le=100)] = Field(
        default=1.0,
        description="How often each of its training rows is learned in an epoch: 3 repeats them, 0.25 leaves a quarter "
        "of them, chosen by content. What is held out is no other.",
    )

    _rules = data_rules.of_source


class HeldOutFile(Section):
    """A ready-made file of ``split.validation`` or ``split.test`` whose rows are shaped or called otherwise."""

    path: Text = Field(description="A file, or a data set of the hub: `hub:OWNER/NAME[@REVISION][:[SUBSET/]SPLIT]`.")
    format: FileFormat | None = Field(default=None, description="Shape of its rows; empty: as of the demonstrations.")
    columns: Columns | None = Field(
        default=None, description="Names of all its columns; empty: as of the demonstrations."
    )

    _rules = data_rules.of_source


class Replay(Section):
    """Rows of general use that are learned beside the demonstrations, so that the clone forgets less."""

    path: Text = Field(description="A file of general prompts and completions, or of plain text in a column `text`.")
    share: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Their share of the rows of an epoch, chosen by content."
    )
    format: FileFormat | None = Field(default=None, description="Shape of its rows; empty: recognised.")
    columns: Columns | None = Field(default=None, description="Names of its columns, where it has others.")

    _rules = data_rules.of_source
