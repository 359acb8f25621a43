"""Guardrails: red lines that no good score makes up for. What is measured, when it is red, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence

from sft.fidelity.conventions import GUARDRAIL_LIMITS, beyond_chance
from sft.fidelity.observations import Observations
from sft.fidelity.probes import likelihood
from sft.fidelity.score_table import ScoreTable
from sft.fidelity.scorecard import Forgetting, Guardrail, Memorisation
from sft.metrics import intervals
from sft.metrics.estimate import Estimate, figure
from sft.metrics.intervals import estimates

__all__ = ["VERBATIM", "guardrails", "over_limit", "unscored", "written"]

#: The one guardrail whose limit is no convention: what the held-out experts repeat of training themselves.
VERBATIM = "verbatim copies"


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


def over_limit(name: str, value: Estimate) -> bool:
    """Whether the guardrail ``name`` is red at ``value``: just at its limit it is not."""
    return value.value > GUARDRAIL_LIMITS[name]


def written(rail: Guardrail) -> tuple[str, str]:
    """What was measured, and the limit, in the unit of both: ours are shares, one that is not ours is as it is."""
    if rail.name == VERBATIM or rail.name in GUARDRAIL_LIMITS:
        return figure(rail.value, "share"), f"{100 * rail.limit:.3g} %"
    return figure(rail.value, "bits"), f"{rail.limit:g}"


def _limited(name: str, value: Estimate, meaning: str) -> Guardrail:
    return Guardrail(name, value, GUARDRAIL_LIMITS[name], over_limit(name, value), meaning)


def _verbatim_copies(repeated: Memorisation) -> Guardrail:
    ours, theirs = repeated.copies["tuned"], repeated.copies["expert"]
    return Guardrail(
        VERBATIM,
        ours,
        theirs.value,
        ours.value > theirs.value and beyond_chance(repeated.p_value),
        "share of completions that are a training completion word for word; the limit is what the "
        "held-out experts repeat themselves, and is passed when the excess is more than chance "
        f"(mid-p McNemar, p = {repeated.p_value:.3f})",
    )
