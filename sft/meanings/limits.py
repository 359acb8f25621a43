"""The limits of cloning and what it costs: gaps, lost answers, copies, things forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from sft.evidence import GUARDRAIL_LIMITS, LEVEL
from sft.meanings.figures import away, rate, side
from sft.phrases import system_name
from sft.scorecards import Forgetting, Gaps, Memorisation, Underachieving
from sft.typography import chance, figure, grouped

__all__ = ["forgetting", "gaps", "memorisation", "underachieving"]


def gaps(part: Gaps) -> str:
    """How often the expert wrote what neither the prompt nor the model knows."""
    if not part.flagged:
        return (
            f"None of the {grouped(part.looked_at)} training completions looked at is a gap: reading its prompt "
            f"makes each likelier, by {figure(part.bits, 'bits')} bits per byte on average."
        )
    return (
        f"{grouped(part.flagged)} of the {grouped(part.looked_at)} training completions looked at "
        f"({figure(part.share, 'share')}) are no likelier to the base model once it has read their prompts: there the "
        "expert knew what neither the prompt nor the model does, and a clone fitted to them learns to make things up."
    )


def underachieving(part: Underachieving) -> str:
    """Whether imitation has cost right answers."""
    base = system_name(part.base)
    rates = [figure(part.right[name], "share") if name in part.right else "" for name in ("tuned", part.base)]
    start = (
        f"The clone is right on {rates[0]}, the better base ({base}) on {rates[1]}" if all(rates) else "Answers changed"
    )
    counts = f"it lost {part.lost} that the base model had right and won {part.won} ({chance(part.p_value, sign=True)})"
    if part.p_value <= LEVEL and part.difference.value < 0:
        return f"{start}: {counts}, so imitating the expert has made it worse at this than it was."
    if part.p_value <= LEVEL and part.difference.value > 0:
        return f"{start}: {counts}, so it is right more often than the model it came from."
    return f"{start}: {counts}, no more of a difference than chance gives."


def memorisation(part: Memorisation) -> str:
    """Whether the clone repeats its training text more than the expert repeats himself."""
    own, theirs = (figure(part.longest[name]) if name in part.longest else "unknown" for name in ("tuned", "expert"))
    start = f"Its longest run of words shared with a training completion is {own} words, the held-out experts' {theirs}"
    tail = {
        1: f"it leans on its training text by {away(part.excess)} words more than the expert does",
        -1: f"it leans on its training text less than the expert does, by {away(part.excess)} words",
        0: f"no clear difference ({figure(part.excess, signed=True)})",
    }[side(part.excess)]
    copies = [figure(part.copies.get(name), "share") for name in ("tuned", "expert")]
    more = "more than the experts'" if part.p_value <= LEVEL else "not shown to be more than the experts'"
    return (
        f"{start}: {tail}. {copies[0]} of its completions stand in training word for word, {more} {copies[1]} "
        f"({chance(part.p_value, sign=True)})."
    )


def forgetting(parts: Sequence[Forgetting]) -> str:
    """What the clone has unlearned on the plain text where that is most."""
    if not parts:
        return ""
    worst = max(parts, key=lambda part: part.rise.value)
    limit = GUARDRAIL_LIMITS["forgetting"]
    name = f"{worst.text}, the worst of {len(parts)}" if len(parts) > 1 else worst.text
    start = f"On plain text that the expert did not write ({name})"
    if side(worst.rise) < 0:
        return f"{start} it is surprised by {away(worst.rise, 'share')} less than the base model."
    if side(worst.rise) == 0:
        return f"{start} it is not shown to have forgotten anything ({figure(worst.rise, 'share', signed=True)})."
    rise = f"it is surprised by {away(worst.rise, 'share')} more than the base model"
    if worst.rise.value > limit:
        paid = "it has paid for the manner with its command of other text"
        return f"{start} {rise}, over the limit of {rate(limit)}: {paid}."
    return f"{start} {rise}, within the limit of {rate(limit)}."
