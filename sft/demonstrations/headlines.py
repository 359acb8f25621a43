"""Which score the completions themselves ask for, and which they cannot be held to.

What an expert does is not always a text: where every completion is a call or another JSON value, or ends on a number,
runs of characters are a poor measure of whether the same was done (``fidelity.headline``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sft.demonstrations.demonstration import Demonstration
from sft.metrics.final_numbers import final_number
from sft.metrics.json_leaves import NotJson, calls, parsed

__all__ = ["AskedHeadline", "asked_for", "looked_at", "refusal", "suggestion"]

#: So many completions are looked at, evenly chosen; fewer than so many ask for nothing.
LOOKED_AT, LEAST = 2_000, 20
#: Completions are labels where there are at most so many different ones, of so many words, each for so many rows.
LABELS, LABEL_WORDS, ROWS_A_LABEL = 50, 5, 5
#: Calls are what a data set is about from this share of its completions on.
CALLING = 0.1


@dataclass(frozen=True, slots=True)
class AskedHeadline:
    """``headline`` and, where that is ``checker``, which one; ``why``: what all completions are, as half a sentence."""

    headline: str
    why: str
    checker: str = ""


def asked_for(completions: Sequence[str]) -> AskedHeadline | None:
    """What ``completions`` ask for: ``json``, ``exact_match`` or a ``checker``; None where it is nothing."""
    looked_at = completions[:: max(1, len(completions) // LOOKED_AT)]
    if len(looked_at) < LEAST:
        return None
    if all(_is_structured(text) for text in looked_at):
        return AskedHeadline("json", "all completions are JSON")
    calling = sum(map(calls, looked_at))
    if calling >= CALLING * len(looked_at):
        return AskedHeadline("json", f"{calling:,} of {len(looked_at):,} completions call functions")
    kinds = {text.strip() for text in looked_at}
    short = all(len(kind.split()) <= LABEL_WORDS for kind in kinds)
    if short and len(kinds) <= min(LABELS, len(looked_at) / ROWS_A_LABEL):
        return AskedHeadline("exact_match", f"the completions are {len(kinds)} short labels")
    if all(_ends_on_a_number(text) for text in looked_at):
        return AskedHeadline("checker", "all completions end on a number", "final-number")
    return None


def looked_at(demonstrations: Sequence[Demonstration]) -> list[str]:
    """The completions that :func:`asked_for` would look at."""
    return [d.completion for d in demonstrations[:: max(1, len(demonstrations) // LOOKED_AT)]]


def _is_structured(text: str) -> bool:
    """Whether ``text`` is a JSON object, list or call; a bare number or word is JSON by chance."""
    if text.lstrip()[:1] not in ("{", "[", "<"):
        return False
    try:
        return not isinstance(parsed(text), str | int | float | bool | None)
    except NotJson:
        return False


def _ends_on_a_number(text: str) -> bool:
    """Whether a number is among the last two words (a unit may follow it), and is what the checker would read."""
    return any(map(str.isdigit, "".join(text.split()[-2:]))) and final_number(text) is not None


def suggestion(completions: Sequence[str], headline: str, checker: str | None) -> str:
    """A sentence where ``completions`` ask for another headline than the recipe's; "" where they do not.

    Labels may stay with chrF, which has the same power on them.
    """
    asked = asked_for(completions)
    if asked is None or asked.headline == headline or asked.headline == checker:
        return ""
    if asked.headline == "exact_match":
        if headline in ("chrf", "exact_match_normalised"):
            return ""
        return f"Headline: {asked.why}; fidelity.headline: exact_match says how often they are the expert's."
    if asked.headline == "json":
        return (
            f"Headline: {asked.why}, and {headline} compares how they are written; fidelity.headline: json compares "
            "what they say, leaf by leaf, and fidelity.checker: json counts those that are right in every leaf."
        )
    return (
        f"Headline: {asked.why}, and {headline} hardly sees whether it is the right one; if it is the answer, set "
        f"fidelity.headline: checker and fidelity.checker: {asked.checker}."
    )


def refusal(headline: str, bar: Iterable[str], held_out: Sequence[Demonstration]) -> str:
    """Why ``held_out`` cannot be judged by ``headline`` and ``bar``, as a sentence with the first place, or ""."""
    asked = "headline is" if headline == "json" else "bar asks for"
    if "json" not in (headline, *bar) or any(calls(d.completion) for d in held_out):
        return ""  # beside calls there are answers in words, which are compared as words
    faulty = [d for d in held_out if any(not _parses(text) for text in (d.completion, *d.references))]
    if not faulty:
        return ""
    count = "1 held-out completion" if len(faulty) == 1 else f"{len(faulty):,} held-out completions"
    are = "is" if len(faulty) == 1 else "are"
    return (
        f"{faulty[0].address}: fidelity.{asked} json, and {count} {are} none, this one first; mend what was "
        f"written there, leave it out, or choose another {asked.split()[0]}"
    )


def _parses(text: str) -> bool:
    try:
        parsed(text)
    except NotJson:
        return False
    return True
