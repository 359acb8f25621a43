"""What a recipe may say of single sources: how their columns are called, and how much of them is taken."""

from __future__ import annotations

from pydantic import Field

from sft.recipes import data_rules
from sft.recipes.section import Section, Text

__all__ = ["Columns"]


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
