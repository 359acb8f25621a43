"""Turns with one policy: ``sft chat``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sft.demonstrations.demonstration import Demonstration, Message
from sft.demonstrations.stored import load_recipe, load_splits
from sft.errors import UserError
from sft.recipes.sources import source_of
from sft.runs.run import Run, demand_trained

if TYPE_CHECKING:
    from sft.policies.policy import Policy


__all__ = ["Conversation", "converse"]


class Conversation:
    """Turns with one policy, which sees all of them, and the ``system`` message before them, until it begins anew.

    ``why_none``: why there is no system message, where that needs a word.
    """

    def __init__(self, policy: Policy, max_new_tokens: int, system: str = "", why_none: str = "") -> None:
        self._policy = policy
        self._max_new_tokens = max_new_tokens
        self._turns: tuple[Message, ...] = ()
        self.system = system
        self.why_none = why_none

    def begin(self, *, system: str) -> None:
        """Begin anew, with this system message ("": none). Raises ``UserError`` for what is no message."""
        if system:
            _message("system", system)
        self._turns, self.system, self.why_none = (), system, ""

    def say(self, text: str, hand_on: Callable[[str], None]) -> str:
        """Answer ``text``, in pieces as they are written; returns a remark if the answer is cut or empty, or nothing.

        Raises ``UserError``, with the conversation as it was, where the context is full or the template refuses the
        turns. ``KeyboardInterrupt`` ends the answer, and what was written of it stays in the conversation.
        """
        from sft.policies.generation import stream
        from sft.policies.weights import context_length

        head = (Message("system", self.system),) if self.system else ()
        turns = (*self._turns, _message("user", text))
        ids = self._policy.renderer.prompt_ids((*head, *turns))
        context = context_length(self._policy.model.config)
        room = self._max_new_tokens if context is None else context - len(ids)
        if room < 1:
            raise UserError(
                f"the conversation is {len(ids)} tokens long with this message, and the model's context ends at "
                f"{context}; it was not sent: begin anew with /new, or send a shorter one"
            )
        pieces: list[str] = []

        def keep(piece: str) -> None:
            pieces.append(piece)
            hand_on(piece)

        try:
            answer, finished = stream(self._policy, ids, max_new_tokens=min(room, self._max_new_tokens), hand_on=keep)
        except KeyboardInterrupt:
            self._keep(turns, "".join(pieces))
            raise
        self._keep(turns, answer)
        if finished:
            return "" if answer.strip() else "(the answer is empty; neither it nor the message is remembered)"
        if room <= self._max_new_tokens:
            return f"(the answer is cut: the model's context of {context} tokens is full; /new begins anew)"
        return f"(the answer is cut at {self._max_new_tokens} tokens: --max-new-tokens)"

    def _keep(self, turns: tuple[Message, ...], answer: str) -> None:
        """The turns and what was answered; a question without any answer is forgotten, for roles take turns."""
        if answer.strip():
            self._turns = (*turns, Message("assistant", answer))


def _message(role: str, text: str) -> Message:
    try:
        return Message(role, text)
    except ValueError as error:
        raise UserError(f"{error}; it was not sent: write it otherwise") from None


def converse(run: Run, *, base: bool = False, max_new_tokens: int = 256) -> Conversation:
    """Load the run's clone (or its base model) to talk to, as its demonstrations did: with their system message.

    There is none where they have none, or several. Raises ``RunError`` when the run is not trained.
    """
    from sft.policies.policy import load_policy, load_renderer

    tuned = None if base else demand_trained(run)
    system, why_none = _system_of(load_splits(run).train)
    model = load_recipe(run).model
    base_model = source_of(model)
    renderer = load_renderer(base_model, model.template)
    policy = load_policy(base_model, renderer, dtype=model.dtype, tuned=tuned)
    return Conversation(policy, max_new_tokens, system, why_none)


def _system_of(demonstrations: Sequence[Demonstration]) -> tuple[str, str]:
    """The system message that all have, and otherwise why there is none."""
    found = {d.prompt[0].content if d.prompt[0].role == "system" else "" for d in demonstrations}
    if len(found) < 2:
        return next(iter(found), ""), ""
    without = "some have none" if "" in found else "no two alike" if len(found) == len(demonstrations) else "several"
    return "", f" (the demonstrations differ in it: {without}; /system TEXT sets one)"
