"""Every probe, given what it needs of the observations: the sections of a scorecard, or why there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sft.demonstrations import conflicts
from sft.demonstrations.conflicts import Conflicts
from sft.fidelity.findings import Stratum
from sft.fidelity.observations import Observations
from sft.fidelity.probes import (
    Absent,
    calibration,
    compounding,
    corpus,
    expert_path,
    experts,
    forgetting,
    from_start,
    giveaways,
    impostors,
    knowledge_gaps,
    likelihood,
    manner,
    memorisation,
    strata,
    thoughts,
    underachieving,
)
from sft.fidelity.score_table import ScoreTable
from sft.runs import progress
from sft.runs.records import Completion

__all__ = ["Sections", "run_probes"]


@dataclass(frozen=True, slots=True)
class Sections:
    """``found``: field of the scorecard -> its value; a field that is not there keeps the scorecard's default.

    ``absent``: section -> why its probe found nothing. ``signatures``: how the corpus figures came about.
    """

    found: dict[str, Any]
    absent: dict[str, str]
    signatures: dict[str, str]


def run_probes(observed: Observations, table: ScoreTable, floor: str, base: str) -> Sections:
    """Every probe's section. ``floor``: the best one; ``base``: the better base, "" where none was scored."""
    held_out, completions, seed = observed.held_out, observed.completions, observed.seed
    clone = completions.get("tuned", {})
    ours, least, theirs = (table.scores(system) for system in ("tuned", floor, "E"))
    # E is not one text a prompt, but each expert in turn against the others.
    written = {system: by_id for system, by_id in completions.items() if by_id and system != "E"}
    found: dict[str, Any] = {}
    probes: dict[str, Callable[[], Any]] = {
        "closure": lambda: experts.closure(
            ours, least, theirs, table.clusters, floor_name=floor, clones=observed.clones, seed=seed
        ),
        "memorisation": lambda: memorisation.memorisation(held_out, clone, observed.train, seed=seed),
        "forgetting": lambda: forgetting.forgetting(observed.control),
        "impostor": lambda: impostors.impostors(held_out, _suspects(observed), seed=seed),
        # What was told apart stands in ``found`` by then: the probes run in this order.
        "giveaways": lambda: giveaways.giveaways(held_out, _suspects(observed), found.get("impostor", {}), seed=seed),
        "gaps": lambda: knowledge_gaps.knowledge_gaps(observed.prompt_values, observed.train, seed=seed),
        "prefix": lambda: expert_path.prefix(held_out, observed.forced, completions),
        "corpus": lambda: _corpus(observed, written),
        "strata": lambda: _strata(observed, table, floor, base),
        "conflicts": lambda: _conflicts(observed),
        "experts": lambda: experts.named(held_out, clone, seed=seed),
        "manner": lambda: manner.manner(held_out, written, seed=seed),
        "self_agreement": lambda: manner.self_agreement(held_out, observed.samples, seed=seed),
        "compounding": lambda: compounding.compounding(held_out, clone),
        "own_words": lambda: calibration.own_words(held_out, clone, observed.samples),
        **_calibrations(observed, table.clusters),
        "underachieving": lambda: underachieving.underachieving(
            held_out, completions, observed.checker, table.right(), table.clusters
        ),
    }
    if any(item.thoughts for item in held_out):
        probes["thoughts"] = lambda: thoughts.thoughts(held_out, completions, observed.token_scores)
    if "start" in written:
        before = table.scores("start")
        probes["from_start"] = lambda: from_start.from_start(
            ours, before, observed.token_scores, table.clusters, seed=seed
        )
    absent: dict[str, str] = {}
    with progress.bar(len(probes), "scorecard", "section", after=progress.PATIENCE) as bar:
        for (section, probe), following in zip(probes.items(), [*list(probes)[1:], ""], strict=True):
            try:
                found[section] = probe()
            except Absent as reason:
                absent[section] = str(reason)
            bar.set_postfix_str(f"now {following.replace('_', ' ')}" if following else "")
            bar.update()
    # The corpus figures come with how they were computed, which belongs into the scorecard's signature.
    found["corpus"], signatures = found.get("corpus", ({}, {}))
    walked = [section for section in found if section.startswith(_CALIBRATION)]
    found["calibration"] = {section.removeprefix(_CALIBRATION): found.pop(section) for section in walked}
    return Sections(found, absent, signatures)


def _suspects(observed: Observations) -> dict[str, Mapping[str, Completion]]:
    """Whose texts the impostor test holds against an expert's."""
    return {
        "sampled": observed.samples[0] if observed.samples else {},
        "greedy": observed.completions.get("tuned", {}),
        "base": observed.completions.get("B0", {}),
    }


def _corpus(observed: Observations, written: Mapping[str, Mapping[str, Completion]]) -> tuple[Any, dict[str, str]]:
    if observed.profile != "full":
        raise Absent("measured by `sft evaluate --full`")
    policies = {system: by_id for system, by_id in written.items() if system in ("tuned", "B0", "B3")}
    return corpus.corpus(observed.held_out, policies, seed=observed.seed)


def _strata(observed: Observations, table: ScoreTable, floor: str, base: str) -> tuple[Stratum, ...]:
    scores = {system: table.scores(system) for system in ("tuned", floor)}
    known = observed.token_scores
    bits = {system: likelihood.bits_by_id(known[system]) for system in ("tuned", base)} if base else None
    sizes = {key: one.bytes for key, one in known.get("tuned", {}).items()}
    return strata.strata(observed.held_out, observed.train, scores, floor, bits, sizes, table.clusters)


def _conflicts(observed: Observations) -> Conflicts:
    if not observed.train:
        raise Absent("the training demonstrations are not known")
    return conflicts.conflicts(observed.train, observed.conflicts, seed=observed.seed)


#: How the sections of the calibration begin: there is one for each path that was walked.
_CALIBRATION = "calibration of "


def _calibrations(observed: Observations, clusters: Mapping[str, str]) -> dict[str, Callable[[], Any]]:
    """A probe for each policy scored on the expert's path, and one for the clone's own path where it was walked."""
    probes: dict[str, Callable[[], Any]] = {}
    for system in ("tuned", "B0"):
        scores = {key: one for key, one in observed.token_scores.get(system, {}).items() if key in clusters}
        if scores:
            # Bound now: the loop goes on to the next system before any probe is run.
            probes[_CALIBRATION + system] = lambda scores=scores: calibration.calibration(  # type: ignore[misc]
                clusters, scores, seed=observed.seed
            )
    if observed.own_path:
        probes[_CALIBRATION + "own"] = lambda: calibration.own(clusters, observed.own_path, seed=observed.seed)
    return probes
