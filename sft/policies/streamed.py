"""An answer that is still being written, its thought told from its words piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sft.policies.answers import AnswerForms

__all__ = ["HandOn", "StreamedAnswer"]

#: Called with a piece of text, and whether it is of the thought.
HandOn = Callable[[str, bool], None]


class StreamedAnswer:
    """Hands pieces on as soon as it is certain what they are.

    What is certain is asked of :meth:`AnswerForms.parted`, which parts the whole answer in the end, so what was shown
    is what is kept. ``thought`` and ``said``: what was handed on so far.
    """

    def __init__(self, answers: AnswerForms, hand_on: HandOn) -> None:
        self._answers, self._hand_on = answers, hand_on
        self._text = ""
        self.thought = self.said = ""

    def add(self, piece: str, *, last: bool = False) -> None:
        """``piece`` of the text as the model writes it, special tokens included."""
        self._text += piece
        form = self._answers.thought_form
        if (
            form is not None
            and not last
            and self._undecided(form.between.strip(), form.lead.strip(), self._answers.lead.strip())
        ):
            return
        thought, said = self._answers.parted(self._text)
        if form is not None and not last and not said:
            thought = thought[: max(0, len(thought) - len(form.between))]  # it may be the beginning of its end
        self.thought = self._more(self.thought, thought, of_thought=True)
        self.said = self._more(self.said, said, of_thought=False)

    def _undecided(self, between: str, *leads: str) -> bool:
        """Whether the text may go on as the beginning of a thought or answer, or as what stands between the two."""
        head = self._text.lstrip()
        if any(len(head) < len(lead) and lead.startswith(head) for lead in leads):
            return True
        closes = self._answers.closes
        _, found, behind = self._text.rpartition(closes)
        rest = (closes + behind).strip()
        return bool(found) and (rest == between or between.startswith(rest))

    def _more(self, before: str, now: str, *, of_thought: bool) -> str:
        if now.startswith(before) and len(now) > len(before):
            self._hand_on(now[len(before) :], of_thought)
            return now
        return before
