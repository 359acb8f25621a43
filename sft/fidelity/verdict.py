"""The verdict: which rung the scorecard reaches, why not a higher one, and the one thing to do next.

| verdict | all of |
|---|---|
| no evidence of cloning | the next rung fails |
| imitates | gain over B0 above 0 and imitation gain above 0 |
| learned from the demonstrations | gain above 0 over every floor, imitation gain above 0, no guardrail red but length |
| meets your bar | one expert per prompt; the rung before; lower bound of every named metric clears the bar |
| cloned, within the margin | learned; 250 prompts with two experts each; 80 % of the distance from the best floor to
  another expert closed; impostor AUC below 0.60 where experts cannot be told apart; stops; right length; where there
  is a checker, right as often as another expert less 5 points |

Without the likelihoods that the imitation gain is of, no rung can be reached, whatever was written: *not judged*, and
the gains are what is said. Then a user's bar decides by itself: *passes your bar* where the lower bound of every
metric clears it, else *does not pass your bar*.

Beside the rung: *not cloned*, where the interval lies below the 80 %. Each rung is an intersection-union test (all its
parts must hold, so no correction is due). "Above 0" means that the 95 % interval lies above 0 and that the one-sided
sign-flip test agrees at 5 %, which only matters with a handful of clusters, where a t interval can have next to no
width; a gain must also hold with its skewness taken into account (Hall's test at 2.5 %). The limits are conventions;
they are declared in ``conventions``.
"""

from __future__ import annotations

from sft.fidelity.advice import next_step
from sft.fidelity.conventions import (
    CLONED_CHECKED,
    LEVEL,
    ROUNDING,
    above_zero,
    below_bar,
    clears,
    gain_shown,
    metric_words,
    missing_floors,
    named,
    percent,
    power,
    rests_on_few,
    span,
)
from sft.fidelity.guardrails import settled_in_words, unseen, written
from sft.fidelity.scorecard import COMPLETIONS_ALONE, FAILS, NO_BASE, PASSES, RUNGS, Gain, Scorecard, Verdict
from sft.fidelity.top_rung import closed, short_of_cloned
from sft.metrics.estimate import Estimate

__all__ = ["judge"]

NOTHING, IMITATES, LEARNED, MEETS, CLONED = RUNGS


def judge(card: Scorecard, *, imitation_p: float | None, curve: str = "") -> Verdict:
    """The highest rung all of whose parts hold; ``card.verdict`` is not looked at.

    What a scorecard does not hold: ``imitation_p``, the one-sided p-value of ``card.imitation_gain``, and ``curve``,
    how the validation loss ended ("falling", "rose", "flat", or "" where it was not measured).
    Raises ``ValueError`` without a gain over any floor.
    """
    if not card.gains:
        raise ValueError("a verdict needs the gain over at least one floor")
    holds = {gain.floor: gain_shown(gain) for gain in card.gains}
    saved = card.imitation_gain
    if saved is None:
        return _unjudged(card)
    likelier = imitation_p is not None and above_zero(saved, imitation_p) and imitation_p <= LEVEL / card.clones
    red = [rail for rail in card.guardrails if rail.state == "red" and rail.caps]
    imitates = holds.get("B0", False) and likelier
    learned = imitates and all(holds.values()) and not missing_floors(card) and not red
    if learned and _several_experts(card):
        rung = LEARNED if short_of_cloned(card) else CLONED
    elif learned:
        rung = MEETS if card.bar and not below_bar(card) else LEARNED
    else:
        rung = IMITATES if imitates else NOTHING
    return Verdict(
        rung,
        _sentence(rung, card) + ("" if rung in (NOTHING, IMITATES) else _guarded(card)),
        _reasons(rung, card, likelier=likelier),
        next_step(rung, card, curve),
        _shortfall(card),
    )


def _unjudged(card: Scorecard) -> Verdict:
    """What completions say by themselves: the gains, and a bar where the user set one."""
    best, below = card.gain, below_bar(card)
    said = f"{_where(card)} the clone's completions are {_of_best_shortcut(card)}"
    said += "." if gain_shown(best) else f"; {power(best.smallest_visible)}."
    few = card.closure is None or rests_on_few(card.closure.expert)
    if card.closure is not None and not few:
        said += f" Of the distance to another expert {closed(card.closure.share)} is closed."
    rung = COMPLETIONS_ALONE if "tuned" not in card.bits_per_byte else NO_BASE
    if card.bar:
        rung = FAILS if below else PASSES
        said += (
            f" They do not clear your bar: {'; '.join(_beside_bar(card, name) for name in below)}."
            if below
            else f" They clear your bar: {_bars(card)}."
        )
    reasons = [*_about_gains(card), *_about_guardrails(card)]
    if not card.bar:
        reasons.append(
            "a verdict needs to know how likely the clone and the base model find the expert's own words, which "
            + ("was not measured" if rung == COMPLETIONS_ALONE else "was measured of the clone alone")
        )
    return Verdict(rung, said + _guarded(card), tuple(reasons), next_step(rung, card), _shortfall(card))


def _bars(card: Scorecard) -> str:
    tuned = card.scores_of("tuned")
    return ", ".join(f"{metric_words(name)} {span(tuned[name])} against {bar:g}" for name, bar in card.bar.items())


def _beside_bar(card: Scorecard, name: str) -> str:
    """A figure that does not clear its bar: shown to lie below it, or not settled."""
    found, bar = card.scores_of("tuned")[name], card.bar[name]
    below = found.high is not None and found.high < bar
    state = "below it" if below else "not settled, for its lower bound has to reach it"
    return f"{metric_words(name)} {span(found)} against {bar:g}, {state}{_bar_at_level(card, name)}"


def _bar_at_level(card: Scorecard, name: str) -> str:
    """What is to be said where the lower bound that is shown clears the bar, and the one that decides does not."""
    found = card.scores_of("tuned")[name]
    low = card.decides(name, found).low
    if not clears(found, card.bar[name]) or low is None:
        return ""
    return f"; at the level that {card.clones} clones on these prompts ask the lower bound is {low:.1f}"


def _of_best_shortcut(card: Scorecard) -> str:
    """How much closer to the expert's than, or further from it, and than what."""
    distance = _distance(card.gain, metric_words(card.headline))
    return f"{distance} those of the best shortcut tried, {named(card.gain.floor, card)}"


def _several_experts(card: Scorecard) -> bool:
    """Whether more than half of the scored prompts were answered by several experts."""
    return card.closure is not None and 2 * card.closure.expert.n > _headline(card).n


def _headline(card: Scorecard) -> Estimate:
    """The clone's own score, on the prompts that could be scored."""
    return card.scores_of("tuned")[card.headline]


def _where(card: Scorecard) -> str:
    n = _headline(card).n
    return f"On {n} held-out prompt{'s' * (n != 1)}"


def _sentence(rung: str, card: Scorecard) -> str:
    """The verdict for a newcomer: how much closer to the expert, than what, and how sure."""
    gains = {gain.floor: gain for gain in card.gains}
    best, shortcut = card.gain, _of_best_shortcut(card)
    where = _where(card)
    if rung == NOTHING and gain_shown(best):
        return (
            f"{where} the clone's completions are {shortcut}. That alone is no evidence of cloning: "
            f"{_what_lacks(card)}."
        )
    if rung == NOTHING:
        could = power(best.smallest_visible)
        return f"{where} there is no evidence of cloning: the clone's completions are {shortcut}; {could}."
    base = f"{span(gains['B0'].estimate)} points closer than the untrained base model's"
    if rung == IMITATES:
        if gain_shown(best):
            why = "a red guardrail or a shortcut left out keeps it from more"
            return f"{where} the clone imitates the expert, its completions are {shortcut}, and {base}; {why}."
        return (
            f"{where} the clone imitates the expert, its completions are {base}, but it is not shown to come closer "
            f"than every shortcut: they are {shortcut}."
        )
    learned = f"{where} the clone's completions are {shortcut}"
    learned += "." if best.floor == "B0" else f", and {base}."
    if rung == MEETS:
        return f"{learned} It meets your bar: {_bars(card)}."
    if rung == CLONED and card.closure is not None:
        return (
            f"{learned} Of the distance to another expert {percent(card.closure.share)} is closed, "
            "and a classifier hardly tells its samples from the experts': AUC "
            f"{span(card.impostor['sampled'], 2)}, where guessing gives 0.50. {_checked(card)}"
        )
    return learned


def _checked(card: Scorecard) -> str:
    """What is known of whether it is right."""
    if card.checked is None:
        return "Nothing here was checked for being true."
    return (
        f"The checker finds it right as often as another expert, within {CLONED_CHECKED:g} points of a hundred "
        f"({span(card.checked)})."
    )


def _guarded(card: Scorecard) -> str:
    """What the guardrails add to the sentence of a rung that has them: what is beyond its limit and caps nothing, and
    what is not settled."""
    beyond = [f"{rail.name}, {written(rail)[0]}" for rail in card.guardrails if rail.state == "red"]
    amber = [rail for rail in card.guardrails if rail.state == "amber" and not unseen(rail)]
    unsettled = [f"{rail.name} ({settled_in_words(rail)})" for rail in amber]
    said = [("Beyond its limits: ", beyond), ("Not settled by these prompts: ", unsettled)]
    return "".join(f" {start}{'; '.join(names)}." for start, names in said if names)


def _distance(gain: Gain, points: str) -> str:
    """As in "4.9 [2.2, 7.7] chrF points closer to the expert's than" (or "further from")."""
    if gain.estimate.value >= 0:
        return f"{span(gain.estimate)} {points} points closer to the expert's than"
    return f"{span(gain.estimate, sign=-1)} {points} points further from the expert's than"


def _what_lacks(card: Scorecard) -> str:
    """What a clone that is ahead of every shortcut measured still lacks."""
    if "B0" in missing_floors(card):
        return "the untrained base model was not measured"
    return "the clone is not shown to find the expert's own words likelier than the base model does"


def _shortfall(card: Scorecard) -> str:
    """What is missing, where it is shown that the clone is not the expert; "" where it is not, or by few prompts."""
    closure = card.closure
    if closure is None or closure.finding != "not cloned" or rests_on_few(closure.expert):
        return ""
    points = metric_words(card.headline)
    closed = f"{percent(closure.share)} of the distance is closed"
    if closure.share.low is None:
        closed = "the share of the distance that is closed has no bounded interval"
    return (
        f"It is not cloned: another expert scores {span(closure.expert)} {points} points, the clone "
        f"{span(closure.tuned)}, which falls {span(closure.surplus, sign=-1)} points short of {closure.margin:.0%} of "
        f"the way from {named(closure.floor, card)} to another expert; {closed}."
    )


def _reasons(rung: str, card: Scorecard, *, likelier: bool) -> tuple[str, ...]:
    """Why the verdict is not a higher one: every part that failed, with its numbers."""
    reasons = _about_gains(card)
    if missing := missing_floors(card):
        left_out = ", ".join(named(floor, card) for floor in missing)
        reasons.append(f"not measured: {left_out}; a clone that has learned is ahead of each")
    if not likelier and card.imitation_gain is not None:
        reasons.append(
            "the clone is not shown to find the expert's completions likelier than the base model does: "
            f"{span(card.imitation_gain, 3)} bits per byte saved"
        )
    reasons += _about_guardrails(card, amber=rung != NOTHING)
    if rung in (NOTHING, IMITATES):
        if card.bar:
            reasons.append("your bar is looked at once the clone has learned from the demonstrations")
    elif _several_experts(card):
        reasons.extend(short_of_cloned(card))
        if card.bar:
            reasons.append("your bar was not applied: it is meant for one expert per prompt")
    else:
        reasons.extend(_beyond_learned(card))
    return tuple(reasons)


def _about_gains(card: Scorecard) -> list[str]:
    """Every gain that is not shown, and why."""
    reasons: list[str] = []
    points = metric_words(card.headline)
    # Wilson gives one prompt alone an interval where its score is 0 or 100, and it is one cluster all the same.
    if _headline(card).low is None or _headline(card).n < 2:
        reasons.append("all held-out prompts belong to one cluster, so no interval can be had")
    for gain in card.gains:
        if not gain_shown(gain):
            positive = gain.estimate.low is not None and gain.estimate.low > 0
            why = "not clearly above 0"
            if positive and gain.p_value > 1 - gain.level + ROUNDING:
                why = f"sign-flip p = {gain.p_value:.3f}"
            elif positive and gain.low is not None and gain.low <= 0:
                why = f"its lower bound is {gain.low:.1f} at the level that {card.clones} clones on these prompts ask"
            elif positive and gain.skew_p is not None:
                decides = (1 - gain.level) / 2
                why = f"p = {gain.skew_p:.3f} with its skewness of {gain.skewness:.1f}, where {decides:.3g} decides"
            reasons.append(f"gain over {named(gain.floor, card)}: {span(gain.estimate)} {points} points, {why}")
    return reasons


def _about_guardrails(card: Scorecard, *, amber: bool = True) -> list[str]:
    """Every guardrail that is red or, where ``amber`` is asked for, not settled though something was seen."""
    reasons: list[str] = []
    for guardrail in card.guardrails:
        if guardrail.state == "green" or (guardrail.state == "amber" and (not amber or unseen(guardrail))):
            continue
        value, limit = written(guardrail)
        found = f"{guardrail.name}: {value}, the limit is {limit}; "
        if guardrail.state == "amber":
            found += f"not settled, and held against no rung: {settled_in_words(guardrail)}; "
        reasons.append(found + guardrail.meaning)
    return reasons


def _beyond_learned(card: Scorecard) -> list[str]:
    """What stands between "learned" and more, with one expert a prompt."""
    tuned = card.scores_of("tuned")
    short = [
        f"{metric_words(name)} is {span(tuned[name])}, and its lower bound does not clear your bar of "
        f"{card.bar[name]:g}{_bar_at_level(card, name)}"
        for name in below_bar(card)
    ]
    unknown = "how close another expert would come is unknown: prompts here were answered by one"
    return short or [unknown]
