"""Thoughts beside completions: where a text begins with one, and what a recipe makes of those that were found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sft.demonstrations.demonstration import Demonstration, Message
from sft.errors import UserError

if TYPE_CHECKING:
    from sft.demonstrations.formats import Reading
    from sft.recipes import Recipe
    from sft.runs.run import Run

__all__ = ["MODES", "BrokenThought", "Undecided", "as_begun", "parted", "settled", "sole", "untagged"]

#: ``demonstrations.thoughts`` -> what becomes of a thought.
MODES = {"off": "left out", "keep": "learned with what follows", "context": "given with the prompt, and not learned"}
_OPENED = re.compile(r"\s*<(think|thinking)>(.*?)</\1>\s*", re.DOTALL)
_CLOSED = "\n</think>\n"


class BrokenThought(ValueError):
    """A text whose thought cannot be told from the rest; ``str()``: why, as half a sentence; ``remedy``: what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Undecided(UserError):
    """Only some completions have thoughts, and the recipe does not say what becomes of them."""


def parted(text: str) -> tuple[str, str]:
    """(thought, rest) of ``text``: what stands in the tags that it begins with, or before a line that closes one.

    The text of a model whose prompt opens the thought has the closing tag alone. Raises :class:`BrokenThought` for a
    thought without its end.
    """
    if "think" not in text:
        return "", text
    found = _OPENED.match(text)
    if found:
        return found[2].strip("\n"), text[found.end() :]
    if text.lstrip().startswith(("<think>", "<thinking>")):
        raise BrokenThought("opens a thought with <think> and never closes it", "close it with </think>")
    before, closed, after = text.partition(_CLOSED)
    return (before.strip("\n"), after.lstrip()) if closed and before.strip() else ("", text)


def sole(text: str) -> tuple[str, str]:
    """As :func:`parted`, of what an expert wrote. Raises :class:`BrokenThought` for a second thought behind it, too."""
    thought, rest = parted(text)
    if rest is not text and parted(rest)[1] is not rest:
        raise BrokenThought("begins with two thoughts, one behind the other", "make them one, in one pair of tags")
    return thought, rest


def untagged(thought: str) -> str:
    """A thought that is written apart from what follows it, without the tags that it may stand in."""
    found = _OPENED.fullmatch(thought)
    return (found[2] if found else thought).strip("\n")


def settled(recipe: Recipe, *parts: Sequence[Reading]) -> tuple[Recipe, tuple[list[Reading], ...]]:
    """The recipe with its ``thoughts`` decided by what was read, and what was read with that done to it.

    Without a word in the recipe thoughts are kept where every completion has one. Raises :class:`Undecided` where only
    some have.
    """
    from sft.demonstrations import columns  # with numpy, which whoever reads one message need not wait for

    mode = recipe.demonstrations.thoughts
    everything = columns.joined([reading.demonstrations for part in parts for reading in part])
    count = int(columns.flagged(everything, columns.THOUGHT).sum())
    if mode == "context" and count < len(everything):
        raise Undecided(
            f"demonstrations.thoughts: is context, and {len(everything) - count:,} of {len(everything):,} completions "
            "have no thought that could be given; leave those rows out, or choose keep or off"
        )
    if mode is None and 0 < count < len(everything):
        what = ", ".join(f"{name} ({meaning})" for name, meaning in MODES.items())
        raise Undecided(
            f"demonstrations.thoughts: {count:,} of {len(everything):,} completions have a thought before them, and "
            f"the others none; say what becomes of thoughts: {what}"
        )
    if mode is None and count:
        mode = "keep"
        recipe = _with_mode(recipe, mode)
    if mode == "keep" or not (count or columns.flagged(everything, columns.THINKS).any()):
        return recipe, tuple(list(part) for part in parts)
    done = columns.mapped([reading.demonstrations for part in parts for reading in part], lambda d: _without(d, mode))
    return recipe, tuple([replace(reading, demonstrations=next(done)) for reading in part] for part in parts)


def without(reading: Reading) -> Reading:
    """``reading`` without its thoughts."""
    return replace(reading, demonstrations=tuple(_without(d, None) for d in reading.demonstrations))


def as_begun(run: Run, recipe: Recipe) -> Recipe:
    """The recipe with what was decided of thoughts when ``run`` began."""
    resolved = (run.manifest.get("recipe") or {}).get("resolved") or {}
    mode = (resolved.get("demonstrations") or {}).get("thoughts")
    return recipe if mode is None else _with_mode(recipe, mode)


def _with_mode(recipe: Recipe, mode: str) -> Recipe:
    section = recipe.demonstrations.model_copy(update={"thoughts": mode})
    return recipe.model_copy(update={"demonstrations": section})


def _thinks(demonstration: Demonstration) -> bool:
    return any(turn.thought for turn in demonstration.prompt)


def _without(demonstration: Demonstration, mode: str | None) -> Demonstration:
    """The demonstration with its thought out of the completion: gone, or at the end of the prompt."""
    if not demonstration.thought and (mode == "context" or not _thinks(demonstration)):
        return demonstration
    prompt = demonstration.prompt
    if mode == "context":
        prompt = (*prompt, Message("thought", demonstration.thought))
    else:
        prompt = tuple(replace(turn, thought="") if turn.thought else turn for turn in prompt)
    return replace(demonstration, id="", prompt=prompt, thought="")
