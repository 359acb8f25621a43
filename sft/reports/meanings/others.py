"""Another expert as the measure: how much of the way is closed, whose clone it is, where it is weak."""

from __future__ import annotations

from collections.abc import Sequence

from sft.demonstrations.conflicts import Conflicts
from sft.fidelity.conventions import LEVEL, percent
from sft.fidelity.scorecard import Closure, ExpertScore, Stratum
from sft.reports.meanings.figures import apart, away, listed, rate, side
from sft.reports.names import system_name
from sft.reports.text import figure, grouped

__all__ = ["closure", "conflicts", "experts", "strata"]


def closure(part: Closure, points: str) -> str:
    """How much of the way to another expert is closed, and whether that is decided."""
    way = f"the way from the best shortcut ({system_name(part.floor)}) to another expert"
    goal = rate(part.margin)
    if part.share.low is None:
        start = f"How much of {way} the clone has gone cannot be bounded: the two score too much alike on these prompts"
        decided = {
            "cloned": f"; but it is shown to be past {goal} of it",
            "not cloned": f"; but it is shown not to have reached {goal} of it",
        }
        return start + decided.get(part.finding, f", nor is it decided whether {goal} is reached") + "."
    start = f"The clone has gone {percent(part.share)} of {way}: "
    if part.finding == "cloned":
        return start + f"it is shown to be past the {goal} that count as cloned."
    if part.finding == "not cloned":
        return start + f"{away(part.surplus)} {points} points are missing to the {goal} that count as cloned."
    return start + (
        f"whether it has reached the {goal} that count as cloned, these prompts cannot tell "
        f"({figure(part.surplus, signed=True)} {points} points from there)."
    )


def experts(parts: Sequence[ExpertScore], points: str) -> str:
    """Which expert it is closest to: the own one against the nearest other, or the nearest and furthest of its own.

    That is no proof of whose clone it is: some experts are easier to come close to, for anybody.
    """
    own = [part for part in parts if part.own]
    rivals = [part for part in parts if not part.own and part.lead is not None]
    if not parts:
        return ""
    if not rivals:
        if len(own) < 2:
            return ""
        near, far = max(own, key=lambda p: p.score.value), min(own, key=lambda p: p.score.value)
        tail = "their intervals do not overlap" if apart(near.score, far.score) > 0 else "their intervals overlap"
        return (
            f"It learned from {len(own)} experts at once and is closest to {near.expert} ({figure(near.score)} "
            f"{points} points), furthest from {far.expert} ({figure(far.score)}); {tail}."
        )
    told = [part for part in rivals if side(part.lead) > 0 and part.p_value is not None and part.p_value <= LEVEL]
    whose = listed([part.expert for part in own]) if 0 < len(own) <= 3 else "the experts whom it was fitted to"
    near = min(rivals, key=lambda part: part.lead.value if part.lead else 0.0)
    assert near.lead is not None
    lead = f"{away(near.lead)} {points} points"
    if side(near.lead) < 0:
        return f"It is closer to {near.expert} than to {whose}, whom it was fitted to, by {lead}."
    if len(told) == len(rivals) == 1:
        return f"It is closer to {whose}, whom it was fitted to, than to {near.expert}, by {lead}."
    if len(told) == len(rivals):
        return (
            f"It is closer to {whose}, whom it was fitted to, than to each of the {len(rivals)} others, by {lead} or "
            f"more (the nearest is {near.expert})."
        )
    return (
        f"It is closer to {whose}, whom it was fitted to, than to {len(told)} of {len(rivals)} other experts; from "
        f"{near.expert} it is not clearly told apart ({figure(near.lead, signed=True)} {points} points)."
    )


def conflicts(part: Conflicts, points: str) -> str:
    """How often one prompt was answered in different ways, and what was done about it."""
    if not part.conflicting:
        return f"None of the {grouped(part.prompts)} training prompts was answered in two ways."
    share = 100 * part.conflicting / part.prompts if part.prompts else 0.0
    done = {
        "keep": "all of them were kept",
        "majority": "the answer that most agree with was kept",
    }.get(part.handled, f"those of {part.handled} were kept" if part.handled else "")
    alike = "" if part.agreement is None else f"; two such answers share {figure(part.agreement)} {points} points"
    return (
        f"{grouped(part.conflicting)} of {grouped(part.prompts)} training prompts ({share:.0f} %) were answered in "
        f"different ways{alike}{'; ' + done if done else ''}."
    )


def strata(parts: Sequence[Stratum], points: str) -> str:
    """In which part of the prompts the clone's score is lowest and highest.

    Not where it is weak: where experts differ more among themselves a perfect clone scores lower, too.
    """
    if len(parts) < 2:
        return ""
    low, high = min(parts, key=lambda p: p.score.value), max(parts, key=lambda p: p.score.value)
    sure = (
        "the two intervals do not overlap"
        if apart(high.score, low.score) > 0
        else "the two intervals overlap, so that may be chance"
    )
    unshown = [part for part in parts if part.gain is not None and side(part.gain) <= 0]
    tail = f" In {len(unshown)} of {len(parts)} parts no gain over the best shortcut is shown." if unshown else ""
    return (
        f"Its score is lowest in the part \u201c{low.label}\u201d ({low.by}): {figure(low.score)} {points} points; "
        f"highest in \u201c{high.label}\u201d ({high.by}): {figure(high.score)}; {sure}. A part can be low because "
        f"its prompts leave more to choose, for a perfect clone as well.{tail}"
    )
