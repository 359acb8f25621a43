"""Guardrails: red lines that no good score makes up for. What is measured, when it is red, and how it is written.

A guardrail of a rate or a ratio is an estimate: red where its interval lies beyond the limit, green where it lies
inside, amber where it straddles it, so that one prompt more or less decides nothing. "unscored" and "contamination"
are counts of the prompts that this measurement rests on, samples of nothing: red above the limit, green otherwise.
``benchmarks/results/guardrails.md`` has how often each state comes out at which rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from scipy import special

from sft.fidelity.conventions import GUARDRAIL_LIMITS, LENGTH_LIMITS, LEVEL, beyond_chance, two_digits
from sft.fidelity.findings import Forgetting, Memorisation
from sft.fidelity.observations import Observations
from sft.fidelity.probes import likelihood
from sft.fidelity.score_table import ScoreTable
from sft.fidelity.scorecard import Guardrail
from sft.metrics import intervals
from sft.metrics.estimate import Estimate, figure
from sft.metrics.intervals import estimates

__all__ = [
    "LENGTH",
    "VERBATIM",
    "guardrails",
    "prompts_to_settle",
    "settled_in_words",
    "state_of",
    "status",
    "unscored",
    "unseen",
    "written",
]

#: The one guardrail whose limit is no convention: what the held-out experts repeat of training themselves.
VERBATIM = "verbatim copies"
#: The one with two limits. Red, it caps nothing: a clone's lead in chrF pays for a wrong length already.
LENGTH = "length"
#: State -> how it is called where it is shown.
_STATES = {"red": "over the limit", "amber": "not settled", "green": "within the limit"}
#: Those that count the prompts of this measurement, and those that a rate is estimated for.
_COUNTS, _RATES = ("unscored", "contamination"), ("not stopping", "empty")

State = Literal["red", "amber", "green"]


def guardrails(
    observed: Observations,
    table: ScoreTable,
    incomplete: int,
    repeated: Memorisation | None,
    forgotten: Sequence[Forgetting],
) -> tuple[Guardrail, ...]:
    """Every guardrail that can be measured; ``incomplete``: how many prompts are :func:`unscored`."""
    ids = table.ids("tuned")
    labels = table.labels(ids)
    running_on = [1 - flag for flag in table.column("tuned", "finished", ids)]
    empty = table.column("tuned", "empty", ids)
    lacking = intervals.wilson(incomplete, len(table.clusters))
    found = [
        _limited("not stopping", estimates.share(running_on, labels), "share of completions cut at the length limit"),
        _limited("empty", estimates.share(empty, labels), "share of completions without a word"),
        _limited("unscored", lacking, "share of held-out prompts for which some system has no completion or score"),
    ]
    if observed.contaminated is not None:
        leaked = [float(key in observed.contaminated) for key in table.clusters]
        value = estimates.share(leaked, list(table.clusters.values()))
        meaning = "share of held-out prompts that have a near-duplicate among the training prompts"
        found.append(_limited("contamination", value, meaning))
    if repeated is not None:
        found.append(_verbatim_copies(repeated))
    columns = [table.column("tuned", name, ids) for name in ("characters", "expert_characters")]
    found.append(_length(estimates.ratio(columns[0], columns[1], labels)))
    if forgotten:
        worst = max(forgotten, key=lambda text: text.rise.value)
        meaning = f"rise of bits per byte on plain text the expert did not write ({worst.text}, the worst)"
        found.append(_limited("forgetting", worst.rise, meaning))
    return tuple(found)


def unscored(observed: Observations, table: ScoreTable, floors: Sequence[str]) -> list[str]:
    """Prompts on which the comparison is not complete: a completion or a token score is missing."""
    scores = observed.token_scores
    written = [set(table.ids(system)) for system in ("tuned", *floors)]
    teacher_forced = [set(scores[s]) for s in ("tuned", *likelihood.IMITATION_FLOORS) if scores.get(s)]
    # A policy that was not scored at all is absent, not incomplete, and E has no completion of its own to lack.
    complete = set.intersection(*written, *teacher_forced)
    return [item.id for item in observed.held_out if item.id not in complete]


def state_of(value: Estimate, limit: float, least: float | None = None) -> State:
    """Where the interval of ``value`` lies, whose ends may touch a limit; amber without an interval."""
    if value.low is None or value.high is None:
        return "amber"
    if value.low > limit or (least is not None and value.high < least):
        return "red"
    return "green" if value.high <= limit and (least is None or value.low >= least) else "amber"


def prompts_to_settle(value: Estimate, limit: float, *, share: bool) -> int | None:
    """How many prompts put the interval of ``value`` on one side of ``limit``, if the value stays what it is.

    A share's by Wilson's interval, which touches the limit at n = z^2 limit (1 - limit) / (value - limit)^2, scaled by
    what the clusters leave of the prompts; any other's as the square of the interval's half width over the distance.
    None where the value is the limit, or has no interval.
    """
    end = value.high if value.value < limit else value.low
    if end is None or value.value in (limit, end):
        return None
    ratio = ((end - value.value) / (limit - value.value)) ** 2
    if share:
        ratio *= limit * (1 - limit) / (end * (1 - end))
    return math.ceil(value.n * ratio - 1e-6)  # rounding must not add a prompt


def unseen(rail: Guardrail) -> bool:
    """Whether nothing was seen of the fault, on too few prompts to show that its rate is within the limit.

    Nothing speaks against such a clone, so no sentence of the verdict does; its row says what these prompts can tell.
    """
    return rail.state == "amber" and rail.name in _RATES and rail.value.value == 0


def status(rail: Guardrail) -> str:
    """How the state of a guardrail is called where it is shown."""
    return "none seen" if unseen(rail) else _STATES[rail.state]


def settled_in_words(rail: Guardrail) -> str:
    """What would settle a guardrail that is amber, as half a sentence."""
    if unseen(rail) and rail.settled_by is not None and rail.value.high is not None:
        most, enough = 100 * rail.value.high, two_digits(rail.settled_by)
        return f"up to {most:.1f} % could be hidden here; about {enough} prompts without one rule it out"
    if rail.value.low is None:
        return "without an interval nothing settles it"
    if rail.settled_by is None:
        return "at this value no number of prompts settles it"
    what = "windows of plain text" if rail.name == "forgetting" else "prompts"
    return f"about {two_digits(rail.settled_by)} {what} would settle it"


def written(rail: Guardrail) -> tuple[str, str]:
    """What was measured, and the limit, in the unit of both: ours are shares, one that is not ours is as it is."""
    if rail.name == LENGTH and rail.least is not None:
        return figure(rail.value, "ratio"), f"{rail.least:g} to {rail.limit:g}"
    if rail.name == VERBATIM or rail.name in GUARDRAIL_LIMITS:
        return figure(rail.value, "share"), f"{100 * rail.limit:.3g} %"
    return figure(rail.value, "bits"), f"{rail.limit:g}"


def _limited(name: str, value: Estimate, meaning: str) -> Guardrail:
    limit = GUARDRAIL_LIMITS[name]
    if name in _COUNTS:
        return Guardrail(name, value, limit, "red" if value.value > limit else "green", meaning)
    state = state_of(value, limit)
    settled = prompts_to_settle(value, limit, share=name != "forgetting") if state == "amber" else None
    return Guardrail(name, value, limit, state, meaning, settled_by=settled)


def _length(ratio: Estimate) -> Guardrail:
    least, most = LENGTH_LIMITS
    state = state_of(ratio, most, least)
    crossed = [
        prompts_to_settle(ratio, limit, share=False)
        for limit in LENGTH_LIMITS
        if ratio.low is not None and ratio.high is not None and ratio.low < limit < ratio.high
    ]
    needed = [number for number in crossed if number is not None]
    settled = max(needed) if state == "amber" and needed and len(needed) == len(crossed) else None
    meaning = (
        "characters written for each of the expert's; red keeps from no rung but the top one, whose own limits lie "
    )
    meaning += "within these"
    return Guardrail(LENGTH, ratio, most, state, meaning, least, caps=False, settled_by=settled)


def _verbatim_copies(repeated: Memorisation) -> Guardrail:
    """Held to the experts' own by a test of its own: amber where the clone repeats more, but chance may do so too."""
    ours, theirs = repeated.copies["tuned"], repeated.copies["expert"]
    more = ours.value > theirs.value
    state: State = "green" if not more else "red" if beyond_chance(repeated.p_value) else "amber"
    settled = None
    if state == "amber" and repeated.p_value < 0.5:
        # The test's normal deviate grows with the square root of the prompts.
        ratio = float(special.ndtri(1 - LEVEL) / special.ndtri(1 - repeated.p_value)) ** 2
        settled = math.ceil(ours.n * ratio)
    return Guardrail(
        VERBATIM,
        ours,
        theirs.value,
        state,
        "share of completions that are a training completion word for word, or nearly (edit similarity of 95 %, or a "
        "run of 90 % of the words); the limit is what the held-out experts repeat themselves, and is passed when the "
        "excess is more than chance "
        f"(mid-p McNemar, p = {repeated.p_value:.3f})",
        settled_by=settled,
    )
