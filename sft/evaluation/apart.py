"""Thoughts and calls apart from the words around them, in what policies wrote and in how they are scored.

A completion is compared with what the expert did, which is what follows a thought, its calls in a form of their own;
and the thought is held beside the expert's. Where nobody thinks and nothing is called all stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sft.demonstrations.demonstration import HeldOut
from sft.policies.conversations import tools_of
from sft.policies.rendering import Rendered, Renderer
from sft.runs.records import Completion, TokenScores

__all__ = ["Apart"]


class Apart:
    """Reads what was written for ``items``, whose first references are ``experts`` (prompt id -> rendered)."""

    def __init__(self, renderer: Renderer, items: Sequence[HeldOut], experts: Mapping[str, Rendered]) -> None:
        self._renderer = renderer
        self._calls = any(item.calls or any(t.role in ("tools", "tool") for t in item.prompt) for item in items)
        self._tools: dict[str, list[dict[str, Any]]] = {item.id: tools_of(item.prompt) or [] for item in items}
        self._thoughts = {
            item.id: renderer.answers.thought_tokens(item.demonstration(), experts[item.id])
            for item in items
            if item.thoughts
        }
        shaped = {item.id for item in items if item.calls and item.calls[0]} | set(self._thoughts)
        #: Prompts whose first reference is words alone.
        self.plain = [item.id for item in items if item.id not in shaped]

    def completions(self, written: Iterator[Completion]) -> Iterator[Completion]:
        """What was written, the thought in a field of its own and calls as demonstrations have them."""
        if not self._calls and not self._renderer.answers.thinks:
            yield from written
            return
        stop = self._renderer.end_of_turn[-1:]
        for one in written:
            ids = [*one.ids, *stop * one.finished]
            text, thought = self._renderer.answers.read(ids, calls=self._calls, tools=self._tools[one.id])
            yield replace(one, text=text, thought=thought)

    def scores(self, found: TokenScores) -> TokenScores:
        """The scores of what follows the thought, and the thought's own beside them."""
        size = self._thoughts.get(found.id, 0)
        if not size:
            return found
        rest = {name: getattr(found, name)[size:] for name in ("nats", "ranks", "entropies", "confidences")}
        return replace(found, **rest, thought_nats=found.nats[:size])
