"""The conventions a scorecard is read by: limits and margins, and the rules that several readers share.

When a difference counts as shown (:func:`direction`), when one of zeros and ones does (:func:`beyond_chance`),
when a user's bar is cleared (:func:`clears`), and what a test could have shown (:func:`power`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sft.errors import UserError
from sft.fidelity.scorecard import SYSTEMS, Gain, Scorecard
from sft.metrics.estimate import Estimate
from sft.recipes.complaints import Complaint
from sft.recipes.rules import points_of_bar

__all__ = [
    "CLONED_AUC",
    "CLONED_CHECKED",
    "CLONED_LENGTH",
    "CLONED_PROMPTS",
    "CLONED_STOP",
    "FEW_ANSWERED_TWICE",
    "FLOORS",
    "GUARDRAIL_LIMITS",
    "LENGTH_LIMITS",
    "LEVEL",
    "MARGIN",
    "ROUNDING",
    "SLIPS",
    "above_zero",
    "bar_points",
    "below_bar",
    "beyond_chance",
    "clears",
    "direction",
    "gain_shown",
    "metric_words",
    "missing_floors",
    "named",
    "no_spread",
    "percent",
    "power",
    "prompts_needed",
    "rests_on_few",
    "shown_at",
    "span",
    "two_digits",
    "visible_points",
]

#: The shortcuts a clone has to beat, every one of them; L only where the expert's answers are long.
FLOORS = ("B0", "B3", "R", "RK", "K", "L", "P")
#: Level of every test that a sentence goes by: the sign-flip test, McNemar's, Holm's adjusted p-values.
LEVEL = 0.05
#: What a p-value may pass a level by in the last digits.
ROUNDING = 1e-12
#: Guardrail -> its limit; "verbatim copies" is held to the experts' own instead, "length" to :data:`LENGTH_LIMITS`.
GUARDRAIL_LIMITS = {"not stopping": 0.05, "empty": 0.01, "unscored": 0.01, "contamination": 0.01, "forgetting": 0.05}
#: What the length ratio of the guardrail "length" is held to: wider than :data:`CLONED_LENGTH`, because the greedy
#: completions of a perfect clone may be somewhat shorter or longer than the expert's texts.
LENGTH_LIMITS = (0.8, 1.25)
#: Another expert's score, and what rests on it, is "too few to say" in the head of a report below so many prompts.
FEW_ANSWERED_TWICE = 30
#: Conventions of "cloned, within the margin": share of the distance to another expert; prompts with two experts;
#: upper bound of the impostor AUC; lower bound of the stop rate; what the length ratio's interval must lie within.
MARGIN = 0.8
CLONED_PROMPTS = 250
CLONED_AUC = 0.60
CLONED_STOP = 0.95
#: By how many points of a hundred a clone may be shown to be right less often than another expert, and no more.
CLONED_CHECKED = 5.0
CLONED_LENGTH = (0.9, 1.1)
#: Share of training completions that a base model may be surprised by though their prompts tell all of them.
SLIPS = 0.05
#: Metric -> how a sentence calls its points.
METRIC_WORDS = {
    "chrf": "chrF",
    "chrf2": "chrF2",
    "rouge_l": "ROUGE-L",
    "token_f1": "token F1",
    "edit_similarity": "edit similarity",
    "exact_match": "exact match",
    "exact_match_normalised": "normalised exact match",
    "json": "JSON",
    "checker": "checker",
}


def metric_words(name: str) -> str:
    """How a sentence calls the points of a metric."""
    return METRIC_WORDS.get(name, name)


def missing_floors(card: Scorecard) -> list[str]:
    """Floors that should have been measured and were not."""
    return [floor for floor in card.floors if floor not in {gain.floor for gain in card.gains}]


def bar_points(bar: Mapping[str, float], headline: str = "chrf") -> dict[str, float]:
    """A user's bar in points, each read on its metric's own scale (``rules.points_of_bar``).

    Raises ``UserError`` for a metric that is neither ours nor the ``headline``, and for a value outside the scale.
    """
    points: dict[str, float] = {}
    for name, value in bar.items():
        found = points_of_bar(name, value, list(dict.fromkeys([*METRIC_WORDS, headline])))
        if isinstance(found, Complaint):
            raise UserError(f"fidelity.bar: {name} {found.message}; {found.remedy}")
        points[name] = found
    return points


def clears(estimate: Estimate, bar: float) -> bool:
    """Whether ``estimate`` is shown to reach a bar in its own unit: its lower bound does."""
    return estimate.low is not None and estimate.low >= bar


def below_bar(card: Scorecard) -> list[str]:
    """The metrics of the user's bar that are not shown to reach it, at the level that all clones judged here ask."""
    tuned = card.scores_of("tuned")
    return [name for name, bar in card.bar.items() if not clears(card.decides(name, tuned[name]), bar)]


def direction(difference: Estimate, p_value: float) -> int:
    """1 where ``difference`` is shown to lie above 0, -1 where below, 0 where neither is shown.

    Its interval must lie there, and its sign-flip test, adjusted where there are several, must agree: with a handful
    of clusters a t interval can have next to no width.
    """
    if difference.low is None or difference.high is None or not beyond_chance(p_value):
        return 0
    return int(difference.low > 0) - int(difference.high < 0)


def above_zero(gain: Estimate, p_value: float) -> bool:
    """Whether there is evidence of a gain."""
    return direction(gain, p_value) > 0


def shown_at(level: float, found: Estimate, p_value: float, low: float | None) -> bool:
    """As :func:`above_zero`, at the ``level`` that all clones judged on these prompts are held to.

    ``low``: the bound at that level, None where it is the estimate's own.
    """
    low = found.low if low is None else low
    return above_zero(found, p_value) and low is not None and low > 0 and p_value <= 1 - level + ROUNDING


def gain_shown(gain: Gain) -> bool:
    """Whether there is evidence of ``gain``, where its differences are skewed too.

    The interval's own error is one-sided, half of what its level leaves, so that is what the skewness-corrected test is
    held to.
    """
    straight = gain.skew_p is None or gain.skew_p <= (1 - gain.level + ROUNDING) / 2
    return straight and shown_at(gain.level, gain.estimate, gain.p_value, gain.low)


def beyond_chance(p_value: float) -> bool:
    """Whether a test alone decides: of zeros and ones McNemar's is exact, and an interval has nothing to add."""
    return p_value <= LEVEL


def power(visible: float | None, what: str = "gain", groups: str = "fewer than five") -> str:
    """What a test could have shown, as half a sentence; ``visible`` as ``intervals.smallest_visible_gain`` gives it.

    ``groups``: of how many the prompts are where that is none, in words; a verdict's test takes five.
    """
    if visible is None:
        return f"prompts of {groups} groups can show no {what} of any size"
    if no_spread(visible):
        return "the two differ by the same on every prompt"
    return f"the smallest {what} this test could have seen is about {visible_points(visible)} points"


def visible_points(visible: float | None) -> str:
    """The same for a table."""
    return "none" if visible is None else f"{visible:.1f}"


def no_spread(visible: float) -> bool:
    """Whether a test sees any difference, because all prompts have the same one (up to rounding)."""
    return round(visible, 9) == 0


def prompts_needed(n: int, visible: float, gain: float) -> int:
    """How many prompts show ``gain`` where ``n`` show ``visible``: a standard error falls with their square root."""
    return math.ceil(n * (visible / gain) ** 2)


def two_digits(number: int) -> str:
    """Two digits: the value it rests on is an estimate too."""
    return f"{round(number, 2 - len(str(number))):,}"


def span(estimate: Estimate, digits: int = 1, sign: float = 1.0, unit: str = "") -> str:
    """``4.9 [2.2, 7.7]``, or the value alone where it has no interval; ``sign=-1`` turns it around."""
    value = f"{sign * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value + unit
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}]{unit}"


def rests_on_few(expert: Estimate) -> bool:
    """Whether another expert's score, and the distance to it, rest on too few prompts to stand in a head."""
    return expert.n < FEW_ANSWERED_TWICE


def percent(estimate: Estimate) -> str:
    """A share as ``47 % [25, 69]``."""
    scaled = [None if v is None else 100 * v for v in (estimate.value, estimate.low, estimate.high)]
    if scaled[1] is None or scaled[2] is None:
        return f"{scaled[0]:.0f} %"
    return f"{scaled[0]:.0f} % [{scaled[1]:.0f}, {scaled[2]:.0f}]"


def named(system: str, card: Scorecard) -> str:
    """A system with what it is in plain words."""
    return f"{system} ({card.names.get(system) or SYSTEMS.get(system, system)})"
