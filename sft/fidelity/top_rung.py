"""The top rung, part by part: what "cloned, within the margin" asks for and is not shown.

Where several clones were judged on the same prompts, every part is held to the level that all of them ask
(``Scorecard.held_to``): a rung whose parts must all hold errs as often as the part that errs most.
"""

from __future__ import annotations

from sft.fidelity.conventions import (
    CLONED_AUC,
    CLONED_CHECKED,
    CLONED_LENGTH,
    CLONED_PROMPTS,
    CLONED_STOP,
    named,
    percent,
    rests_on_few,
    span,
)
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate

__all__ = ["closed", "short_of_cloned"]


def short_of_cloned(card: Scorecard) -> list[str]:
    """Every part of "cloned, within the margin" that is not shown; nothing, and the clone has it."""
    if card.closure is None:
        return ["no prompt was answered by two experts"]
    return [*_of_the_distance(card), *_of_the_classifier(card), *_of_the_rest(card)]


def _of_the_distance(card: Scorecard) -> list[str]:
    closure, found = card.closure, list[str]()
    if closure is None:
        return found
    if closure.expert.n < CLONED_PROMPTS:
        found.append(
            f"{closure.expert.n} prompts were answered by two experts; to call a clone cloned takes {CLONED_PROMPTS}"
        )
    if rests_on_few(closure.expert):
        found.append(
            f"how much of the distance from {named(closure.floor, card)} to another expert is closed: "
            "too few prompts to say"
        )
    elif closure.finding != "cloned":
        # Passed by the interval shown, and not by the one that decides.
        passed = closure.surplus.low is not None and closure.surplus.low > 0 and closure.low is not None
        level = f", and at the level that {card.clones} clones on these prompts ask it is not shown to be passed"
        found.append(
            f"another expert scores {span(closure.expert)} where the clone scores {span(closure.tuned)}: "
            f"{closed(closure.share)} of the distance from {named(closure.floor, card)} is closed, the margin is "
            f"{closure.margin:.0%}{level if passed else ''}"
        )
    return found


def _of_the_classifier(card: Scorecard) -> list[str]:
    sampled, control, found = card.impostor.get("sampled"), card.impostor.get("experts"), list[str]()
    high = None if sampled is None else card.decides("sampled", sampled).high
    if sampled is None or high is None:
        found.append("whether a classifier tells the clone's samples from the experts' was not measured")
    elif high >= CLONED_AUC:
        told = sampled.low is not None and sampled.low > 0.5
        start = "a classifier tells" if told else "it is not settled whether a classifier tells"
        found.append(
            f"{start} the clone's samples from the experts': AUC {span(sampled, 2)}, the upper bound must be below "
            f"{CLONED_AUC:.2f}{_at_level(card, sampled.high is not None and sampled.high < CLONED_AUC, f'{high:.2f}')}"
        )
    if control is None or control.low is None or control.high is None:
        found.append("whether a classifier tells one expert from another was not measured")
    elif not control.low <= 0.5 <= control.high:
        found.append(
            f"the classifier's control, one expert against another, has AUC {span(control, 2)} where 0.50 is expected, "
            "so its word is no proof"
        )
    return found


def _of_the_rest(card: Scorecard) -> list[str]:
    """Stops, the checker, and the length."""
    tuned, found = card.scores_of("tuned"), list[str]()
    stops, length, checked = tuned.get("stop_rate"), tuned.get("length_ratio"), card.checked
    low = None if stops is None else card.decides("stop_rate", stops).low
    if stops is None or low is None or low < CLONED_STOP:
        passed = stops is not None and stops.low is not None and stops.low >= CLONED_STOP
        rate = "not measured" if stops is None else percent(stops)
        found.append(
            f"it stops by itself {rate}; the lower bound must reach {CLONED_STOP:.0%}"
            + _at_level(card, passed, f"{low or 0:.1%}")
        )
    low = None if checked is None else card.decides("checked", checked).low
    if checked is not None and (low is None or low < -CLONED_CHECKED):
        passed = checked.low is not None and checked.low >= -CLONED_CHECKED
        found.append(
            f"by the checker it is right {span(checked)} points of a hundred more often than another expert; the "
            f"lower bound must not be below -{CLONED_CHECKED:g}{_at_level(card, passed, f'{low or 0:.1f}')}"
        )
    held = None if length is None else card.decides("length_ratio", length)
    if length is None or held is None or not _right_length(held):
        shown = "not measured" if length is None else span(length, 2)
        ends = "" if held is None else span(held, 2)
        found.append(
            f"its length over the expert's is {shown}; the interval must lie within {CLONED_LENGTH[0]:g} and "
            f"{CLONED_LENGTH[1]:g}{_at_level(card, length is not None and _right_length(length), ends)}"
        )
    return found


def _right_length(ratio: Estimate) -> bool:
    low, high = CLONED_LENGTH
    return ratio.low is not None and ratio.high is not None and ratio.low >= low and ratio.high <= high


def _at_level(card: Scorecard, passed: bool, found: str) -> str:
    """What is to be said where the interval shown would do, and the one that decides does not."""
    return f", and at the level that {card.clones} clones on these prompts ask it is {found}" if passed else ""


def closed(share: Estimate) -> str:
    """A share of the distance, whether it has an interval or not."""
    return percent(share) if share.low is not None else f"about {share.value:.0%} (no bounded interval)"
