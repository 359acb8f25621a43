"""The verdict: which rung the evidence reaches, why not a higher one, and the one thing to do next.

| verdict | all of |
|---|---|
| no evidence of cloning | the next rung fails |
| imitates | gain over B0 above 0 and imitation gain above 0 |
| learned from the demonstrations | gain above 0 over every floor, imitation gain above 0, no guardrail red |
| meets your bar | one expert per prompt; the rung before; lower bound of every named metric clears the bar |

Each rung is an intersection-union test (all its parts must hold, so no correction is due). "Above 0"
means that the 95 % interval lies above 0 and that the one-sided sign-flip test agrees at 5 %; the second
only matters with a handful of clusters, where a t interval can have next to no width.
The limits are conventions; they are declared here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sft.errors import UserError
from sft.scorecards import RUNGS, SYSTEMS, Estimate, Gain, Guardrail, Verdict

__all__ = [
    "FLOORS",
    "GUARDRAIL_LIMITS",
    "LEVEL",
    "METRIC_WORDS",
    "Evidence",
    "above_zero",
    "bar_points",
    "judge",
    "span",
]

#: The shortcuts a clone has to beat, every one of them.
FLOORS = ("B0", "B3", "R", "K", "P")
#: One-sided level of the sign-flip test.
LEVEL = 0.05
#: Guardrail -> largest share that is not red.
GUARDRAIL_LIMITS = {"not stopping": 0.05, "empty": 0.01, "unscored": 0.01}
#: Metric -> how a sentence calls its points.
METRIC_WORDS = {
    "chrf": "chrF",
    "chrf2": "chrF2",
    "rouge_l": "ROUGE-L",
    "token_f1": "token F1",
    "edit_similarity": "edit similarity",
    "exact_match": "exact match",
    "exact_match_normalised": "normalised exact match",
}

_GUARDRAIL_STEPS = {
    "not stopping": "check with `sft preview` that the stop token is supervised, and that no completion "
    "is cut by max_length; then train again",
    "empty": "look at the empty completions in the report: a stop token at the very start of training "
    "completions, or a template that differs between training and generation, makes a clone mute",
    "unscored": "run `sft evaluate` again to write the missing completions; a judgement over the rest "
    "would choose its own prompts",
}
_FLOOR_STEPS = {
    "B0": "check that the training loss falls (log.jsonl); then train longer or at a higher learning rate",
    "B3": "three demonstrations in the prompt do as well as training on all of them: train for more epochs "
    "or at a higher learning rate, or gather more demonstrations",
    "R": "looking the answer up does as well: train for more epochs, and see in the report whether the "
    "held-out prompts resemble training prompts so closely that there is little else to learn",
    "K": "one constant completion does as well: look at the worst completions in the report, train longer, "
    "and check with `sft preview` that the prompt is in what the model sees",
    "P": "copying the prompt does as well: see in the report whether the clone does just that; train "
    "longer, or measure what the expert changes with exact_match as a bar",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict rests on.

    ``gains``: over each floor measured. ``imitation``: bits per byte of the better base minus the clone's,
    with the one-sided ``imitation_p``. ``bar``: metric -> (the clone's estimate, the bar in points).
    ``experts_agree``: score of another expert, where more than half of the prompts have one.
    """

    headline: str
    n: int
    clusters: int
    gains: tuple[Gain, ...]
    imitation: Estimate | None
    imitation_p: float | None
    guardrails: tuple[Guardrail, ...]
    tuned: Estimate
    bar: Mapping[str, tuple[Estimate, float]]
    experts_agree: Estimate | None = None


def bar_points(bar: Mapping[str, float]) -> dict[str, float]:
    """A user's bar in points. This is the one place that reads units: a value of 1 or less is a share.

    So ``exact_match: 0.95`` and ``exact_match: 95`` are one bar; a bar of a single point would mean nothing.
    Raises ``UserError`` for a metric that does not exist or a value outside 0 to 100.
    """
    points: dict[str, float] = {}
    for name, value in bar.items():
        if name not in METRIC_WORDS:
            known = ", ".join(METRIC_WORDS)
            raise UserError(f"fidelity.bar: there is no metric {name!r}; choose from {known}")
        if not 0 < value <= 100:
            raise UserError(f"fidelity.bar: {name} is {value}; give points above 0 and up to 100, or a share")
        points[name] = 100.0 * value if value <= 1 else float(value)
    return points


def above_zero(estimate: Estimate, p_value: float) -> bool:
    """Whether there is evidence of a gain: interval above 0, and sign-flip p at most 5 %."""
    return estimate.low is not None and estimate.low > 0 and p_value <= LEVEL


def span(estimate: Estimate, digits: int = 1, sign: float = 1.0) -> str:
    """``4.9 [2.2, 7.7]``, or the value alone where it has no interval; ``sign=-1`` turns it around."""
    value = f"{sign * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}]"


def _distance(gain: Gain, points: str) -> str:
    """As in "4.9 [2.2, 7.7] chrF points closer to the expert's than" (or "further from")."""
    if gain.estimate.value >= 0:
        return f"{span(gain.estimate)} {points} points closer to the expert's than"
    return f"{span(gain.estimate, sign=-1)} {points} points further from the expert's than"


def _named(system: str) -> str:
    return f"{system} ({SYSTEMS.get(system, system)})"


def _missing(gains: Sequence[Gain]) -> list[str]:
    return [floor for floor in FLOORS if floor not in {gain.floor for gain in gains}]


def judge(evidence: Evidence) -> Verdict:
    """The highest rung all of whose parts hold. Raises ``ValueError`` without a gain over any floor."""
    if not evidence.gains:
        raise ValueError("a verdict needs the gain over at least one floor")
    gains = {gain.floor: gain for gain in evidence.gains}
    holds = {floor: above_zero(gain.estimate, gain.p_value) for floor, gain in gains.items()}
    likelier = (
        evidence.imitation is not None
        and evidence.imitation_p is not None
        and above_zero(evidence.imitation, evidence.imitation_p)
    )
    red = [guardrail for guardrail in evidence.guardrails if guardrail.red]
    imitates = holds.get("B0", False) and likelier
    learned = imitates and all(holds.values()) and not _missing(evidence.gains) and not red
    meets = (
        learned
        and bool(evidence.bar)
        and evidence.experts_agree is None
        and all(estimate.low is not None and estimate.low >= bar for estimate, bar in evidence.bar.values())
    )
    rung = RUNGS[3 if meets else 2 if learned else 1 if imitates else 0]
    return Verdict(rung, _sentence(rung, evidence), _reasons(rung, evidence, likelier), _next(rung, evidence))


def _sentence(rung: str, evidence: Evidence) -> str:
    """The verdict for a newcomer: how much closer to the expert, than what, and how sure."""
    gains = {gain.floor: gain for gain in evidence.gains}
    best = min(evidence.gains, key=lambda gain: gain.estimate.value)
    points = METRIC_WORDS[evidence.headline]
    where = f"On {evidence.n} held-out prompts"
    shortcut = f"{_distance(best, points)} the best shortcut's, {_named(best.floor)}"
    if rung == RUNGS[0]:
        return f"{where} there is no evidence of cloning: the clone's completions are {shortcut}; " + _why_none(
            best, evidence
        )
    base = f"{span(gains['B0'].estimate)} points closer than the untrained base model's"
    if rung == RUNGS[1]:
        return (
            f"{where} the clone imitates the expert, its completions are {base}, but it is not shown to have "
            f"learned more than a shortcut gives: they are {shortcut}."
        )
    learned = f"{where} the clone's completions are {shortcut}"
    learned += "." if best.floor == "B0" else f", and {base}."
    if rung == RUNGS[2]:
        return learned
    bars = ", ".join(
        f"{METRIC_WORDS[name]} {span(estimate)} against {bar:g}" for name, (estimate, bar) in evidence.bar.items()
    )
    return f"{learned} It meets your bar: {bars}."


def _why_none(best: Gain, evidence: Evidence) -> str:
    """What ends the sentence "there is no evidence": the power of the test, or what else is lacking."""
    if above_zero(best.estimate, best.p_value):
        if "B0" in _missing(evidence.gains):
            return "but the untrained base model was not measured."
        if evidence.imitation is None:
            return "but how likely it finds the expert's own words was not measured."
        return "but it does not clearly find the expert's own words likelier than the base model does."
    if best.smallest_visible is None:
        return "prompts of a single cluster can show no gain of any size."
    if best.smallest_visible == 0:
        return "the two differ by the same on every prompt."
    return f"the smallest gain this test could have seen is about {best.smallest_visible:.1f} points."


def _reasons(rung: str, evidence: Evidence, likelier: bool) -> tuple[str, ...]:
    """Why the verdict is not a higher one: every part that failed, with its numbers."""
    reasons: list[str] = []
    points = METRIC_WORDS[evidence.headline]
    if evidence.clusters < 2:
        reasons.append("all held-out prompts belong to one cluster, so no interval can be had")
    for gain in evidence.gains:
        if not above_zero(gain.estimate, gain.p_value):
            positive = gain.estimate.low is not None and gain.estimate.low > 0
            why = f"sign-flip p = {gain.p_value:.3f}" if positive else "not clearly above 0"
            reasons.append(f"gain over {_named(gain.floor)}: {span(gain.estimate)} {points} points, {why}")
    missing = _missing(evidence.gains)
    if missing:
        reasons.append(f"not measured: {', '.join(map(_named, missing))}; a clone has to beat every shortcut")
    if evidence.imitation is None:
        reasons.append("how likely the policies find the expert's completions was not measured")
    elif not likelier:
        reasons.append(
            "the clone does not clearly find the expert's completions likelier than the base model does: "
            f"{span(evidence.imitation, 3)} bits per byte saved"
        )
    for guardrail in evidence.guardrails:
        if guardrail.red:
            share = guardrail.name in GUARDRAIL_LIMITS
            value = f"{guardrail.value.value:.1%}" if share else span(guardrail.value, 3)
            limit = f"{guardrail.limit:.0%}" if share else f"{guardrail.limit:g}"
            reasons.append(f"{guardrail.name}: {value}, the limit is {limit}; {guardrail.meaning}")
    if rung in RUNGS[2:]:
        reasons.extend(_beyond_learned(evidence))
    elif evidence.bar:
        reasons.append("your bar is looked at once the clone has learned from the demonstrations")
    return tuple(reasons)


def _beyond_learned(evidence: Evidence) -> list[str]:
    """What stands between "learned" and more."""
    if evidence.experts_agree is not None:
        found = [
            f"another expert scores {span(evidence.experts_agree)} where the clone scores "
            f"{span(evidence.tuned)}: that distance is what is left to clone"
        ]
        if evidence.bar:
            found.append("your bar was not applied: it is meant for one expert per prompt")
        return found
    short = [
        f"{METRIC_WORDS[name]} is {span(estimate)}, and its lower bound does not clear your bar of {bar:g}"
        for name, (estimate, bar) in evidence.bar.items()
        if estimate.low is None or estimate.low < bar
    ]
    unknown = "how close another expert would come is unknown: prompts here were answered by one"
    return short or [unknown]


def _next(rung: str, evidence: Evidence) -> str:
    """The one thing to do, the most fundamental failure first."""
    for guardrail in sorted(evidence.guardrails, key=lambda g: g.name != "unscored"):
        if guardrail.red:
            return _GUARDRAIL_STEPS.get(guardrail.name, guardrail.meaning)
    missing = _missing(evidence.gains)
    if evidence.imitation is None:
        return "score the expert's completions under the base model and the clone (`sft evaluate`)"
    if rung in RUNGS[:2]:
        best = min(evidence.gains, key=lambda gain: gain.estimate.value)
        value, seen = best.estimate.value, best.smallest_visible
        if seen is None:
            return "hold out prompts of at least 20 different groups"
        if above_zero(best.estimate, best.p_value) and missing:
            return f"measure the shortcuts left out: {', '.join(missing)}"
        if 0 < value < seen:
            needed = math.ceil(evidence.n * (seen / value) ** 2)
            return (
                f"hold out more prompts: about {needed} of them are needed to see a gain of {value:.1f}, "
                f"there are {evidence.n}; more demonstrations would widen the gain itself"
            )
        if value <= 0:
            same = [gain.floor for gain in evidence.gains if gain.estimate.value == gain.smallest_visible == 0]
            return _FLOOR_STEPS[same[0] if same else best.floor]
        return (
            "check that the loss on validation falls (log.jsonl): the completions are closer to the "
            "expert's, yet the expert's own words are not clearly likelier than under the base model"
        )
    if rung == RUNGS[3]:
        return "hand it on: the run's adapter folder loads with peft and transformers"
    if evidence.experts_agree is not None:
        return "gather more demonstrations and run again, until the distance to another expert closes"
    if evidence.bar:
        return "gather more demonstrations like the worst ten in the report: they cost the most points"
    return "have a second expert answer the held-out prompts, or set fidelity.bar to what you need"
