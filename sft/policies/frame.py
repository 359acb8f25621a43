"""What a settled template was seen to do: the one thing that writing and reading both go by."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import TemplateError

from sft.policies.template_calls import CallForm

__all__ = ["REFUSALS", "Frame", "ThoughtForm"]

#: What a template raises that cannot write a conversation.
REFUSALS = (TemplateError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """How a template writes a thought: ``lead``, the thought, ``between``, the completion.

    ``key``: of the message that it reads it from; "" where it stands in the content. Earlier turns' are handed over
    likewise, and the template decides what to show of them. ``called``: whether it writes the same before a call.
    """

    key: str
    lead: str
    between: str
    called: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A settled template and what it was seen to do.

    ``lead``: what it writes between generation prompt and completion: white space or, where thoughts are learned,
    what stands for none. ``tail``: all it writes after a completion. ``fold_system``: it has no system turn.
    ``one_turn``: it cannot write earlier turns. ``skeleton``: everything it wrote around the probes. ``thoughts``: as
    in a recipe; ``thought``: how it writes one, None where they are off. ``calls``: how it writes a call, None where
    it cannot. ``header``: what it writes before an answer in words and not before a call, where functions are listed.
    """

    template: str
    lead: str
    tail: str
    fold_system: bool
    one_turn: bool
    skeleton: str
    thoughts: str = "off"
    thought: ThoughtForm | None = None
    calls: CallForm | None = None
    header: str = ""
