"""The limits of cloning and what it costs: what prompts tell, answers lost and won, copies, surprise at other text."""

from __future__ import annotations

from collections.abc import Sequence

from sft.fidelity.conventions import GUARDRAIL_LIMITS, LEVEL
from sft.fidelity.scorecard import Forgetting, Gaps, Memorisation, Underachieving
from sft.reports.meanings.figures import away, rate, side
from sft.reports.names import system_name
from sft.reports.text import chance, figure, grouped

__all__ = ["forgetting", "gaps", "memorisation", "underachieving"]


def gaps(part: Gaps) -> str:
    """For how many completions the prompt tells the base model nothing, taken as a whole.

    Why is not said, for no figure shows it: the expert may have drawn on something else, or the model may not
    understand the prompt. And a sum over a completion hides single facts: one copied word outweighs two made up.
    """
    if not part.flagged:
        return (
            f"Reading its prompt makes each of the {grouped(part.looked_at)} training completions looked at likelier "
            f"to the base model, by {figure(part.bits, 'bits')} bits per byte on average. That is of completions as "
            "a whole: single facts in them may still be told by no prompt."
        )
    return (
        f"{grouped(part.flagged)} of the {grouped(part.looked_at)} training completions looked at "
        f"({figure(part.share, 'share')}) are no likelier to the base model, as a whole, once it has read their "
        "prompts. Whether the expert drew on something else or the model does not understand the prompt, this does "
        "not tell."
    )


def underachieving(part: Underachieving) -> str:
    """Whether the clone is right more or less often than the better base, beyond chance."""
    base = system_name(part.base)
    rates = [figure(part.right[name], "share") if name in part.right else "" for name in ("tuned", part.base)]
    start = (
        f"The clone is right on {rates[0]}, the better base ({base}) on {rates[1]}" if all(rates) else "Answers changed"
    )
    counts = f"it lost {part.lost} that the base model had right and won {part.won} ({chance(part.p_value, sign=True)})"
    if part.p_value <= LEVEL and part.difference.value < 0:
        return f"{start}: {counts}, so it is right less often than that base model."
    if part.p_value <= LEVEL and part.difference.value > 0:
        return f"{start}: {counts}, so it is right more often than that base model."
    return f"{start}: {counts}, which is not shown to be more than chance."


def memorisation(part: Memorisation) -> str:
    """Whether the clone's completions share longer runs, and more whole texts, with training than the experts' do."""
    own, theirs = (figure(part.longest[name]) if name in part.longest else "unknown" for name in ("tuned", "expert"))
    start = f"Its longest run of words shared with a training completion is {own} words, the held-out experts' {theirs}"
    tail = {
        1: f"its runs are longer than the experts', by {away(part.excess)} words",
        -1: f"its runs are shorter than the experts', by {away(part.excess)} words",
        0: f"no clear difference ({figure(part.excess, signed=True)})",
    }[side(part.excess)]
    copies = [figure(part.copies.get(name), "share") for name in ("tuned", "expert")]
    more = "more than the experts'" if part.p_value <= LEVEL else "not shown to be more than the experts'"
    return (
        f"{start}: {tail}. {copies[0]} of its completions stand in training word for word, {more} {copies[1]} "
        f"({chance(part.p_value, sign=True)})."
    )


def forgetting(parts: Sequence[Forgetting]) -> str:
    """How much more the clone is surprised by plain text than the base model, on the text where that is most."""
    if not parts:
        return ""
    worst = max(parts, key=lambda part: part.rise.value)
    limit = GUARDRAIL_LIMITS["forgetting"]
    name = f"{worst.text}, the worst of {len(parts)}" if len(parts) > 1 else worst.text
    start = f"On plain text that the expert did not write ({name})"
    if side(worst.rise) < 0:
        return f"{start} it is surprised by {away(worst.rise, 'share')} less than the base model."
    if side(worst.rise) == 0:
        rise = figure(worst.rise, "share", signed=True)
        return f"{start} it is not shown to be more surprised than the base model ({rise})."
    rise = f"it is surprised by {away(worst.rise, 'share')} more than the base model"
    if worst.rise.value > limit:
        return f"{start} {rise}, over the limit of {rate(limit)}."
    return f"{start} {rise}, within the limit of {rate(limit)}."
