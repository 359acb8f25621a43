"""How well the expert has been cloned: from observations to a :class:`Scorecard`.

The clone ("tuned") is compared, prompt by prompt, with shortcuts that need no learning (B0, B3, R, K, P)
and, where a prompt was answered twice, with another expert (E). A system's score on a prompt is the mean
over the prompt's references; a prompt without a completion is unscored and counted, never zero.
Everything here is arithmetic on what is on disk: no model, no draw without a seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib import metadata
from typing import Any, TypeVar

from sft import metrics
from sft.demonstrations import conflicts
from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.fidelity.conventions import FLOORS, bar_points
from sft.fidelity.guardrails import guardrails, unscored
from sft.fidelity.observations import Observations
from sft.fidelity.probes import (
    Absent,
    calibration,
    checkers,
    corpus,
    experts,
    forgetting,
    gaps,
    impostors,
    likelihood,
    manner,
    memorisation,
    paths,
    strata,
)
from sft.fidelity.probes.examples import examples
from sft.fidelity.probes.table import HEADLINE, Row, Table, score_rows, word_count
from sft.fidelity.scorecard import SYSTEMS, UNJUDGED, Closure, Memorisation, Scorecard
from sft.fidelity.verdict import judge
from sft.metrics import intervals, modules
from sft.metrics.estimate import Estimate
from sft.runs.hashes import Digest, fingerprint
from sft.runs.records import Completion

__all__ = ["HEADLINE", "Row", "measure", "score_rows"]

T = TypeVar("T")


def measure(
    observed: Observations,
    *,
    bar: Mapping[str, float] | None = None,
    signature: Mapping[str, Any] | None = None,
    split: str = "test",
    profile: str = "standard",
    looks: int = 0,
    rows: Sequence[Row] | None = None,
    seed: int = 0,
) -> Scorecard:
    """Everything there is to say about one checkpoint on one held-out set.

    ``observed.completions`` needs "tuned" and at least one floor; whatever else is missing is said in
    ``Scorecard.absent``. ``bar``: metric -> what the user asks for (see ``conventions.bar_points``). ``rows``: what
    :func:`score_rows` gave before, to save scoring again. ``signature`` is completed with data hash, counts and
    metric versions.
    Raises ``UserError`` when there is nothing to measure, the bar names no metric of ours, or a checker fails.
    """
    held_out, completions, scores = observed.held_out, observed.completions, observed.token_scores
    bars = bar_points(bar or {})
    if not held_out:
        raise UserError("fidelity: there are no held-out prompts; set split.test above 0")
    further = observed.metrics
    table = Table(held_out, score_rows(held_out, completions, further) if rows is None else rows, further)
    clusters = table.clusters
    floors = _floors(table)
    absent: dict[str, str] = {}
    systems = [*(s for s in SYSTEMS if s in table.systems), *sorted(table.systems - set(SYSTEMS))]
    summary = tuple(table.summary(system) for system in systems)
    gains = tuple(table.gain(floor, seed) for floor in floors)
    gain = min(gains, key=lambda gain: gain.estimate.value)
    base, saved, p_value = likelihood.imitation(clusters, scores, seed)
    measured = {s: found for s, found in scores.items() if likelihood.known(clusters, found)}
    left = {key: paths.left_at(found) for key, found in scores.get("tuned", {}).items() if key in clusters}
    sections, corpus_signatures = _sections(observed, table, gain.floor, base, profile == "full", seed, absent)
    missing = unscored(observed, table, floors)
    red_lines = guardrails(observed, table, len(missing), sections["memorisation"], sections["forgetting"])
    card = Scorecard(
        verdict=UNJUDGED,
        headline=HEADLINE,
        gain=gain,
        gains=gains,
        imitation_gain=saved,
        imitation_floor=base,
        systems=summary,
        bits_per_byte={s: likelihood.bits_per_byte(clusters, found) for s, found in measured.items()},
        action={s: likelihood.action(clusters, found) for s, found in measured.items()},
        survival={s: paths.survival(clusters, found) for s, found in measured.items()},
        lengths=_lengths(held_out, table, systems),
        guardrails=red_lines,
        examples=examples(held_out, table, completions, left),
        signature=_signature(observed, signature or {}, corpus_signatures, seed),
        split=split,
        n=len(held_out),
        clusters=len(set(clusters.values())),
        largest_cluster=max(Counter(clusters.values()).values()),
        unscored=len(missing),
        bar=bars,
        profile=profile,
        looks=looks,
        absent=absent,
        **sections,
    )
    return replace(card, verdict=judge(card, imitation_p=p_value, curve=observed.curve))


def _floors(table: Table) -> list[str]:
    """Floors that were measured. Raises ``UserError`` where there are none, or the clone was not."""
    floors = [floor for floor in FLOORS if table.ids(floor)]
    if not table.ids("tuned") or not floors:
        raise UserError(
            "fidelity: completions of the clone and of at least one shortcut "
            f"({', '.join(FLOORS)}) are needed; run `sft evaluate` first"
        )
    return floors


def _lengths(held_out: Sequence[HeldOut], table: Table, systems: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Words of every completion, in held-out order."""
    expert = tuple(word_count(item.references[0]) for item in held_out)
    return {"expert": expert, **{s: table.lengths(s) for s in systems if s != "E"}}


def _sections(
    observed: Observations, table: Table, floor: str, base: str, full: bool, seed: int, absent: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What each probe found, by its field of the scorecard, and the corpus figures' signatures.

    ``floor``: the best one; ``base``: the better base. What a probe has nothing for goes into ``absent``.
    """
    attempt = _Attempts(absent)
    held_out, completions, clusters = observed.held_out, observed.completions, table.clusters
    found: dict[str, Any] = {
        "closure": attempt("closure", lambda: _closure(table, floor, seed)),
        "memorisation": attempt("memorisation", lambda: _memorisation(observed, seed)),
        "forgetting": attempt("forgetting", lambda: forgetting.forgetting(observed.control)) or (),
        "impostor": attempt("impostor", lambda: _impostors(observed, seed)) or {},
        "gaps": attempt("gaps", lambda: gaps.gaps(observed.prompt_values, observed.train, seed=seed)),
        "prefix": attempt("prefix", lambda: paths.prefix(held_out, observed.forced, completions)) or {},
    }
    found["corpus"], signatures = attempt("corpus", lambda: _corpus(observed, full, seed)) or ({}, {})
    written = completions.get("tuned", {})
    found |= {
        "strata": attempt("strata", lambda: _strata(observed, table, floor, base)) or (),
        "conflicts": attempt("conflicts", lambda: _conflicts(observed, seed)),
        "experts": attempt("experts", lambda: experts.named(held_out, written, seed=seed)) or (),
        "manner": attempt("manner", lambda: manner.manner(held_out, _asked(completions), seed=seed)) or {},
        "self_agreement": attempt(
            "self_agreement", lambda: manner.self_agreement(held_out, observed.samples, seed=seed)
        )
        or {},
        "calibration": _calibrations(observed, clusters, attempt, seed),
        "underachieving": attempt("underachieving", lambda: _underachieving(observed, clusters)),
    }
    return found, signatures


class _Attempts:
    """Runs probes; one that has nothing to measure leaves its reason under the section's name."""

    def __init__(self, absent: dict[str, str]) -> None:
        self._absent = absent

    def __call__(self, section: str, probe: Callable[[], T]) -> T | None:
        try:
            return probe()
        except Absent as reason:
            self._absent[section] = str(reason)
            return None


# -- probes, given what they need ---------------------------------------------------------------------------


def _asked(completions: Mapping[str, Mapping[str, Completion]]) -> dict[str, Mapping[str, Completion]]:
    """Systems that have completions, without E, which is not one text."""
    return {system: written for system, written in completions.items() if written and system != "E"}


def _closure(table: Table, floor: str, seed: int) -> Closure:
    if not table.ids("E"):
        raise Absent("the held-out prompts have one expert each, so how close another would come is unknown")
    scores = {system: table.scores(system) for system in ("tuned", floor, "E")}
    return experts.closure(
        scores["tuned"], scores[floor], scores["E"], table.clusters, floor_name=floor, seed=seed
    )  # fmt: skip


def _memorisation(observed: Observations, seed: int) -> Memorisation:
    if not observed.train:
        raise Absent("the training demonstrations are not known")
    return memorisation.memorisation(
        observed.held_out, observed.completions.get("tuned", {}), observed.train, seed=seed
    )


def _impostors(observed: Observations, seed: int) -> dict[str, Estimate]:
    systems = {"greedy": observed.completions.get("tuned", {})}
    if observed.samples:
        systems = {"sampled": observed.samples[0], **systems}
    if observed.completions.get("B0"):
        systems["base"] = observed.completions["B0"]
    return impostors.impostors(observed.held_out, systems, seed=seed)


def _corpus(
    observed: Observations, full: bool, seed: int
) -> tuple[dict[str, dict[str, Estimate]], dict[str, str]]:  # fmt: skip
    if not full:
        raise Absent("measured by `sft evaluate --full`")
    policies = {s: written for s, written in _asked(observed.completions).items() if s in ("tuned", "B0", "B3")}
    return corpus.corpus(observed.held_out, policies, seed=seed)


def _strata(observed: Observations, table: Table, floor: str, base: str) -> tuple[Any, ...]:
    spent = None
    if base:
        spent = {
            system: {
                key: float(value)
                for key, value in zip(found, likelihood.bits(list(found.values())), strict=True)
            }
            for system, found in (("tuned", observed.token_scores["tuned"]), (base, observed.token_scores[base]))
        }  # fmt: skip
    sizes = {key: s.bytes for key, s in observed.token_scores.get("tuned", {}).items()}
    scores = {system: table.scores(system) for system in ("tuned", floor)}
    return strata.strata(
        observed.held_out, observed.train, scores, floor, spent, sizes, table.clusters
    )  # fmt: skip


def _calibrations(observed: Observations, clusters: Mapping[str, str], attempt: _Attempts, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for system in ("tuned", "B0"):
        scores = {key: s for key, s in observed.token_scores.get(system, {}).items() if key in clusters}
        if scores:
            section = f"calibration of {system}"
            known = attempt(section, lambda scores=scores: calibration.calibration(clusters, scores, seed=seed))  # type: ignore[misc]
            found |= {system: known} if known is not None else {}
    if observed.own_path:
        own = attempt("calibration of own", lambda: calibration.own(clusters, observed.own_path, seed=seed))
        found |= {"own": own} if own is not None else {}
    return found


def _underachieving(observed: Observations, clusters: Mapping[str, str]) -> Any:
    if not observed.checker:
        raise Absent("no checker says which answers are right (--checker)")
    return checkers.underachieving(observed.held_out, observed.completions, observed.checker, clusters)


# -- signature ------------------------------------------------------------------------------------------------


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy")}


def _signature(
    observed: Observations, given: Mapping[str, Any], more: Mapping[str, str], seed: int
) -> dict[str, Any]:  # fmt: skip
    """What the numbers hang on: the caller's part (template hash, decoding), completed with ours."""
    return {
        "held_out_hash": Digest.by("v1", fingerprint([asdict(item) for item in observed.held_out])),
        "n": len(observed.held_out),
        "clusters": len({item.cluster for item in observed.held_out}),
        "headline": HEADLINE,
        "metrics": metrics.signatures() | modules.signatures(observed.metrics) | dict(more),
        "intervals": "CR2 clustered t (Bell & McCaffrey df); Wilson; Fieller for a sum over a sum; logit t for AUC; "
        f"grouped jackknife for distinct counts; cluster bootstrap {intervals.DRAWS} draws; "
        f"sign-flip {intervals.FLIPS} draws; Greenwood log-log; 95 %",
        "seed": seed,
        **_versions(),
        **given,
    }


def _conflicts(observed: Observations, seed: int) -> conflicts.Conflicts:
    if not observed.train:
        raise Absent("the training demonstrations are not known")
    return conflicts.conflicts(observed.train, observed.conflicts, seed=seed)
