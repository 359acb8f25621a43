"""How well the expert has been cloned: from observations to a :class:`Scorecard`.

The clone ("tuned") is compared, prompt by prompt, with shortcuts that need no learning (``conventions.FLOORS``)
and, where a prompt was answered twice, with another expert (E). A system's score on a prompt is the mean
over the prompt's references; a prompt without a completion is unscored and counted, never zero.
Everything here is arithmetic on what is on disk: no model, no draw without a seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from sft import metrics
from sft.errors import UserError
from sft.fidelity.conventions import FLOORS, LEVEL, bar_points
from sft.fidelity.every_probe import run_probes
from sft.fidelity.guardrails import guardrails, unscored
from sft.fidelity.if_normalised import if_normalised
from sft.fidelity.observations import Observations
from sft.fidelity.probes import Absent, expert_path, experts, impostors, likelihood
from sft.fidelity.probes.examples import examples
from sft.fidelity.score_table import ScoreRow, ScoreTable, score_rows, word_count
from sft.fidelity.scorecard import SYSTEMS, UNJUDGED, Gain, Scorecard
from sft.fidelity.scoring import CHECKER
from sft.fidelity.verdict import judge
from sft.metrics import intervals, modules
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.hashes import Digest, fingerprint

__all__ = ["measure"]


def measure(observed: Observations, rows: Sequence[ScoreRow] | None = None) -> Scorecard:
    """Everything there is to say about one checkpoint on one held-out set.

    ``observed.completions`` needs "tuned" and at least one floor; whatever else is missing is said in
    ``Scorecard.absent``. ``rows``: what ``score_table.score_rows`` gave before, to save scoring again.
    Raises ``UserError`` when there is nothing to measure, the bar names no metric of ours, or a checker fails.
    """
    held_out, scores, scoring = observed.held_out, observed.token_scores, observed.scoring
    bar = bar_points(observed.bar, scoring.headline)
    if not held_out:
        raise UserError("fidelity: there are no held-out prompts; set split.test above 0")
    rows = score_rows(held_out, observed.completions, scoring) if rows is None else rows
    table = ScoreTable(held_out, rows, scoring)
    clusters = table.clusters
    demanded = tuple(observed.floors) or _demanded(table)
    floors = _measured(table, demanded)
    _demand_points(table, bar)
    systems = [*(s for s in SYSTEMS if s in table.systems), *sorted(table.systems - set(SYSTEMS))]
    gains, gain = _gains(observed, table, floors)
    base, saved, p_value = likelihood.imitation(clusters, scores, observed.seed)
    measured = {s: found for s, found in scores.items() if likelihood.known(clusters, found)}
    left = {key: expert_path.left_at(found) for key, found in scores.get("tuned", {}).items() if key in clusters}
    parts = run_probes(observed, table, gain.floor, base)
    missing = unscored(observed, table, floors)
    repeated, forgotten = parts.found.get("memorisation"), parts.found.get("forgetting", ())
    card = Scorecard(
        verdict=UNJUDGED,
        headline=scoring.headline,
        gain=gain,
        gains=gains,
        imitation_gain=saved,
        imitation_floor=base,
        systems=tuple(table.summary(system) for system in systems),
        bits_per_byte={s: likelihood.bits_per_byte(clusters, found) for s, found in measured.items()},
        action={s: likelihood.action(clusters, found) for s, found in measured.items()},
        survival={s: expert_path.survival(clusters, found) for s, found in measured.items()},
        lengths=_lengths(observed, table, systems),
        guardrails=guardrails(observed, table, len(missing), repeated, forgotten),
        examples=examples(held_out, table, observed.completions, left),
        signature=_signature(observed, parts.signatures),
        split=observed.split,
        n=len(held_out),
        clusters=len(set(clusters.values())),
        checked=_checked(table),
        held_to=_held_to(observed, table, bar),
        largest_cluster=max(Counter(clusters.values()).values()),
        unscored=len(missing),
        bar=bar,
        profile=observed.profile,
        looks=observed.looks,
        clones=observed.clones,
        absent=parts.absent,
        floors=demanded,
        names=dict(observed.names),
        **parts.found,
    )
    card = replace(card, verdict=judge(card, imitation_p=p_value, curve=observed.curve))

    def again(steps: tuple[str, ...]) -> Scorecard:
        return _again(observed, card, steps, p_value)

    return replace(card, if_normalised=if_normalised(observed, card, table, again))


def _gains(observed: Observations, table: ScoreTable, floors: Sequence[str]) -> tuple[tuple[Gain, ...], Gain]:
    """The gain over every floor, and the least of them."""
    gains = tuple(table.gain(floor, observed.seed, observed.clones) for floor in floors)
    return gains, min(gains, key=lambda gain: gain.estimate.value)


def _again(observed: Observations, card: Scorecard, steps: tuple[str, ...], p_value: float | None) -> Scorecard:
    """``card`` as far as a verdict hangs on scores, with ``steps`` set aside in every text."""
    scoring, floors = observed.scoring.lean(steps, card.bar), [gain.floor for gain in card.gains]
    written = {system: observed.completions[system] for system in ("tuned", *floors)}
    table = ScoreTable(observed.held_out, score_rows(observed.held_out, written, scoring), scoring)
    gains, gain = _gains(observed, table, floors)
    closure = None
    with suppress(Absent):
        ours, least, theirs = (table.scores(system) for system in ("tuned", gain.floor, "E"))
        closure = experts.closure(
            ours, least, theirs, table.clusters, floor_name=gain.floor, clones=observed.clones, seed=observed.seed
        )
    found = replace(
        card,
        gain=gain,
        gains=gains,
        systems=tuple(table.summary(system) for system in table.systems),
        guardrails=guardrails(observed, table, card.unscored, card.memorisation, card.forgetting),
        checked=_checked(table) if scoring.checker else card.checked,
        held_to=card.held_to | _held_to(replace(observed, samples=()), table, card.bar),
        closure=closure,
    )
    return replace(found, verdict=judge(found, imitation_p=p_value, curve=observed.curve))


def _demand_points(table: ScoreTable, bar: Mapping[str, float]) -> None:
    """Raise ``UserError`` where the headline is no score from 0 to 100, or a bar is set on what was not measured."""
    headline = table.scoring.headline
    for system in table.systems:
        values = table.scores(system).values()
        if not (min(values) >= 0 and max(values) <= 100):
            raise UserError(
                f"fidelity.headline: {headline} gives {min(values):g} to {max(values):g}, and a headline has 0 to 100 "
                "points for each prompt; choose another"
            )
    for name in bar:
        if name not in (*table.scoring.columns, *table.scoring.labels):
            raise UserError(f"fidelity.bar: {name} is not measured; name it as fidelity.headline, or set a checker")


def _demanded(table: ScoreTable) -> tuple[str, ...]:
    """The floors of observations that name none: all of them, and L where it was measured."""
    return tuple(floor for floor in FLOORS if floor != "L" or table.ids(floor))


def _measured(table: ScoreTable, demanded: Sequence[str]) -> list[str]:
    """Floors that were measured. Raises ``UserError`` where there are none, or the clone was not."""
    floors = [floor for floor in demanded if table.ids(floor)]
    if not table.ids("tuned") or not floors:
        raise UserError(
            "fidelity: completions of the clone and of at least one shortcut "
            f"({', '.join(demanded)}) are needed; run `sft evaluate` first"
        )
    return floors


def _held_to(observed: Observations, table: ScoreTable, bar: Mapping[str, float]) -> dict[str, Estimate]:
    """What the top rung and a bar ask a bound of, at the level that all clones judged on these prompts ask.

    Each is a part of the rung and must fail as seldom as the whole: whoever judges ten clones at 95 % finds one whose
    samples pass for the experts' by luck. Nothing with one clone, whose figures are at that level as they are shown.
    """
    if observed.clones == 1:
        return {}
    level = 1 - LEVEL / observed.clones
    scores = table.summary("tuned", level).scores
    found = {name: scores[name] for name in ("stop_rate", "length_ratio", *bar)}
    if (right := _checked(table, level)) is not None:
        found["checked"] = right
    if observed.samples:
        with suppress(Absent):
            told = impostors.impostors(
                observed.held_out, {"sampled": observed.samples[0]}, seed=observed.seed, level=level
            )
            found["sampled"] = told["sampled"]
    return found


def _checked(table: ScoreTable, level: float = 0.95) -> Estimate | None:
    """By how much the clone is right more often than another expert, by the checker, where both are known."""
    if not table.scoring.checker:
        return None
    theirs = set(table.known("E", CHECKER))
    ids = [key for key in table.known("tuned", CHECKER) if key in theirs]
    if not ids:
        return None
    ours, others = (table.column(system, CHECKER, ids) for system in ("tuned", "E"))
    return estimates.mean(np.subtract(ours, others), table.labels(ids), (-100, 100), level)


def _lengths(observed: Observations, table: ScoreTable, systems: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Words of every completion, in held-out order."""
    expert = tuple(word_count(item.references[0]) for item in observed.held_out)
    return {"expert": expert, **{s: table.lengths(s) for s in systems if s != "E"}}


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy")}


def _signature(observed: Observations, corpus: Mapping[str, str]) -> dict[str, Any]:
    """What the numbers hang on: how the texts came about, completed with ours. ``corpus``: BLEU's and chrF++'s."""
    return {
        "held_out_hash": Digest.by("v1", fingerprint([item.to_dict() for item in observed.held_out])),
        "n": len(observed.held_out),
        "clusters": len({item.cluster for item in observed.held_out}),
        "headline": observed.headline,
        **({"normalise": list(observed.normalise)} if observed.normalise else {}),
        "metrics": metrics.signatures() | modules.signatures(observed.metrics) | dict(corpus),
        "intervals": "CR2 clustered t (Bell & McCaffrey df); Wilson; Fieller for a sum over a sum; logit t for AUC; "
        f"grouped jackknife for distinct counts; cluster bootstrap {intervals.DRAWS} draws; "
        f"sign-flip {intervals.FLIPS} draws; Greenwood log-log; 95 %",
        "seed": observed.seed,
        **_versions(),
        **observed.signature,
    }
