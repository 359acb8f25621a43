"""How texts are scored: which figures there are of a pair of texts, and which of them decides.

The action decides, and for many tasks the action is not the string: a tool call with its keys in another order is the
same call, and a solution with another number in the end is another answer. So the score that gains, floors, distances
and verdicts are about, the *headline*, is one of

- ``chrf`` (the default, shared runs of characters) or another of our metrics, as ``exact_match``;
- ``json``: values compared leaf by leaf, and calls by name and arguments (``metrics.json_leaves``); where experts call
  and answer, answers in words as ``chrf`` does, and the one in place of the other is 0;
- ``checker``: 100 where the user's checker finds the completion right, else 0;
- the name of a metric of ``fidelity.metrics`` that gives 0 to 100 for each prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.fidelity import checkers
from sft.metrics import modules
from sft.metrics.json_leaves import NotJson, calls, json_leaves
from sft.metrics.normalise import NORMALISERS, normaliser

__all__ = ["CHECKER", "JSON", "Scoring"]

JSON, CHECKER = "json", "checker"


@dataclass(frozen=True, slots=True)
class Scoring:
    """``headline``: the column that decides. ``further``: ``evaluate`` modules, each a column under its label.

    ``checker``: which answers are right (``fidelity.checkers``), a column of its own; "" for none. ``normalise``: what
    is set aside in every text before it is scored (``metrics.normalise``), in completions and references alike.
    ``only``: the metrics of ours that are computed; all, where it names none. ``calls``: whether experts call
    functions, beside which ``json`` compares answers in words as ``chrf`` does. ``leaves``: whether ``json`` is a
    column though another one is the headline, which a bar on it asks for.
    """

    headline: str = "chrf"
    further: tuple[str, ...] = ()
    checker: str = ""
    normalise: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    calls: bool = False
    leaves: bool = False

    def lean(self, steps: tuple[str, ...], bar: Iterable[str]) -> Scoring:
        """With further ``steps`` set aside, and nothing computed that no verdict with this ``bar`` goes by."""
        needed = {self.headline, *bar}
        further = tuple(name for name in self.further if modules.label(name) in needed)
        checker = self.checker if CHECKER in needed else ""
        ours = tuple(name for name in metrics.METRICS if name in needed)
        # None of ours would mean all of them: the one that costs least.
        normalise = (*self.normalise, *steps)
        leaves = JSON in bar
        return Scoring(self.headline, further, checker, normalise, ours or ("exact_match",), self.calls, leaves)

    def demand(self) -> None:
        """Raise ``UserError`` for anything of it that cannot be used: before anything is written."""
        for name in self.normalise:
            if name not in NORMALISERS:
                raise UserError(f"fidelity.normalise: there is no {name!r}; choose from {', '.join(NORMALISERS)}")
        if self.checker:
            checkers.load(self.checker)
        elif self.headline == CHECKER:
            raise UserError(
                "fidelity.headline: is checker, and nothing says which answers are right; write "
                f"{checkers.FINAL_NUMBER}, regex:PATTERN or module:function as fidelity.checker"
            )
        modules.demand(self.further)
        if self.headline not in (known := (*metrics.METRICS, JSON, CHECKER, *self.labels)):
            raise UserError(f"fidelity.headline: there is no score {self.headline!r}; choose from {', '.join(known)}")

    def with_calls(self, held_out: Sequence[HeldOut]) -> Scoring:
        """The same, told whether the experts of ``held_out`` call functions."""
        return replace(self, calls=any(calls(text) for item in held_out for text in item.references))

    def demand_of(self, held_out: Sequence[HeldOut]) -> None:
        """Raise ``UserError`` for references that cannot be scored so: that are no JSON where ``json`` is asked for,
        or in none of which the pattern of a checker finds an answer, so that nothing could be right.
        """
        if self.by_leaves:
            scoring = self.with_calls(held_out)
            for item in held_out:
                for text in item.references:
                    scoring._leaves("", self.plain(text), item)
        checker = _loaded(self.checker) if self.checker else None
        if not held_out or not isinstance(checker, checkers.SameAnswer):
            return
        if all(checker.answer(self.plain(text)) is None for item in held_out for text in item.references):
            named = (checkers.FINAL_NUMBER, checkers.JSON)
            read = "" if self.checker in named else "read as a regular expression, it "
            what = f"{read}finds no answer in any reference, so nothing could be right; see the references"
            raise checkers.checker_fault(self.checker, what)

    @property
    def by_leaves(self) -> bool:
        """Whether values are compared leaf by leaf, for the headline or for a bar."""
        return self.leaves or self.headline == JSON

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of ``further``."""
        return tuple(map(modules.label, self.further))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column in points: our metrics, and those of the task."""
        extra = [JSON] if self.by_leaves else []
        return (*(self.only or metrics.METRICS), *extra, *([CHECKER] if self.checker else []))

    @property
    def nearest(self) -> str:
        """The column of the headline against the nearest of several references."""
        return f"{self.headline}_max"

    @property
    def plain(self) -> Callable[[str], str]:
        """What a text becomes before it is scored."""
        return normaliser(self.normalise)

    def of_pair(self, text: str, reference: str, item: HeldOut) -> dict[str, float]:
        """Every column but the checker's for one completion and one reference of the prompt ``item``.

        Raises ``UserError`` where ``json`` is asked for and the reference is none.
        """
        found = metrics.score(text, reference, self.only or metrics.METRICS)
        if self.by_leaves:
            found[JSON] = self._leaves(text, reference, item)
        return found | {modules.label(name): modules.load(name)(text, reference) for name in self.further}

    def _leaves(self, text: str, reference: str, item: HeldOut) -> float:
        try:
            return json_leaves(text, reference)
        except NotJson as error:
            if self.calls:  # who calls where the expert answered did another thing
                return 0.0 if calls(text) else metrics.score(text, reference, ("chrf",))["chrf"]
            asked, other = ("headline: is", "headline") if self.headline == JSON else ("bar: asks for", "bar")
            raise UserError(
                f"fidelity.{asked} json, and what an expert wrote for prompt {item.named}, which begins "
                f"\u201c{item.asked}\u201d, is no JSON ({error}); choose another {other}, or mend that demonstration"
            ) from None

    def right(self, item: HeldOut, text: str, references: Sequence[str]) -> float | None:
        """100 where the checker finds ``text`` right for any of ``references``, else 0; None where no reference has an
        answer that could be found. Raises ``UserError`` for a checker that fails.
        """
        checker = _loaded(self.checker)
        if isinstance(checker, checkers.SameAnswer) and all(checker.answer(one) is None for one in references):
            return None
        return 100.0 * checkers.is_right(checker, self.checker, replace(item, references=tuple(references)), text)


_loaded = cache(checkers.load)
