"""Other experts as the measure: how near one of them the clone has come, whose clone it is, and whether they agree."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.conventions import LEVEL, MARGIN, shown_at
from sft.fidelity.findings import Closure, ExpertScore
from sft.fidelity.probes import Absent
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion

__all__ = ["UNNAMED", "closure", "named"]

#: What the expert is called whom the clone was fitted to, where only the others have names.
UNNAMED = "(not named)"
#: Texts of one expert, and of everybody else, that are compared on one prompt, drawn by its id where there are more:
#: with every pair the work would grow with the square of the number of experts.
AT_MOST_PAIRED = 16


def closure(
    tuned: Mapping[str, float],
    floor: Mapping[str, float],
    expert: Mapping[str, float],
    clusters: Mapping[str, str],
    *,
    floor_name: str,
    margin: float = MARGIN,
    clones: int = 1,
    seed: int = 0,
) -> Closure:
    """How much of the way from ``floor`` to another expert the clone has gone, on prompts that all three have.

    Scores in points, by held-out id. Decided on the surplus u_i = tuned - margin * expert - (1 - margin) * floor,
    which is linear, so that no quotient has to be trusted: "cloned" where its interval and the one-sided sign-flip
    test put it above 0 at the level that ``clones`` judged on these prompts ask (as for a gain), "not cloned" where the
    95 % interval lies below. The share itself is for the reader (Fieller 1954).
    Raises ``Absent`` without another expert, and with fewer than two clusters of such prompts.
    """
    if not expert:
        raise Absent("the held-out prompts have one expert each, so how close another would come is unknown")
    ids = [key for key in clusters if key in tuned and key in floor and key in expert]
    if not ids:
        raise Absent("no held-out prompt was answered by two experts")
    labels = [clusters[key] for key in ids]
    if len(set(labels)) < 2:
        raise Absent("the prompts answered by two experts are all of one cluster")
    ours, least, theirs = (np.array([scores[key] for key in ids]) for scores in (tuned, floor, expert))
    surplus = ours - margin * theirs - (1 - margin) * least
    found, p_value = estimates.mean(surplus, labels), intervals.sign_flip(surplus, labels, seed=seed)
    level = 1 - LEVEL / clones
    low = intervals.clustered_t(surplus, labels, level).low if clones > 1 else None
    finding = "undecided"
    if shown_at(level, found, p_value, low):
        finding = "cloned"
    elif found.high is not None and found.high < 0:
        finding = "not cloned"
    return Closure(
        floor=floor_name,
        margin=margin,
        surplus=found,
        share=_share(ours - least, theirs - least, labels),
        tuned=estimates.points(ours.tolist(), labels),
        expert=estimates.points(theirs.tolist(), labels),
        p_value=p_value,
        finding=finding,
        level=level,
        low=low,
    )


def _share(closed: np.ndarray, distance: np.ndarray, labels: Sequence[str]) -> Estimate:
    """Points gained over the floor as a share of what another expert has over it."""
    if distance.sum() <= 0:
        return estimates.alone(0.0, closed.size, "another expert is no nearer than the shortcut")
    return intervals.fieller(closed, distance, labels)


def named(held_out: Sequence[HeldOut], tuned: Mapping[str, Completion], *, seed: int = 0) -> tuple[ExpertScore, ...]:
    """The clone against each expert by name: own experts first, then the others, the nearest of them first.

    A clone's score against an expert is its mean over what that expert wrote, in chrF points, on the prompts that
    expert answered. ``agreement`` is what everybody else scores there. Own are those whose completions are references;
    where ``HeldOut.others`` names more, ``lead`` is what the clone scores against all its references minus that, on
    the prompts that both answered, with Holm's adjustment over the others.
    Raises ``Absent`` unless two experts have names.
    """
    texts: dict[str, dict[str, list[str]]] = {}  # expert -> prompt -> what they wrote
    items = [item for item in held_out if item.id in tuned]
    others = {name for item in items for name, _ in item.others}
    for item in items:
        for name, text in zip(item.experts, item.references, strict=True):
            if name or others:
                texts.setdefault(name or UNNAMED, {}).setdefault(item.id, []).append(text)
    own = list(texts)
    for item in items:
        for name, text in item.others:
            texts.setdefault(name, {}).setdefault(item.id, []).append(text)
    if len(texts) < 2:
        raise Absent("fewer than two experts are named on the held-out prompts")
    clusters = {item.id: item.cluster for item in items}
    scores = {
        name: {key: _mean([metrics.chrf(tuned[key].text, text) for text in found]) for key, found in by_id.items()}
        for name, by_id in texts.items()
    }
    rivals = [name for name in texts if name not in own]
    against_own = {
        item.id: _mean([metrics.chrf(tuned[item.id].text, text) for text in item.references]) for item in items
    }
    leads: dict[str, Estimate] = {}
    p_values: list[float] = []
    for name in rivals:
        differences = [against_own[key] - score for key, score in scores[name].items()]
        labels = [clusters[key] for key in scores[name]]
        leads[name] = estimates.mean(differences, labels)
        p_values.append(intervals.sign_flip(differences, labels, seed=seed))
    adjusted = dict(zip(rivals, intervals.holm(p_values), strict=True))
    found = [
        ExpertScore(
            expert=name,
            own=name in own,
            score=_points(scores[name], clusters),
            agreement=_agreement(name, items, texts),
            lead=leads.get(name),
            p_value=adjusted.get(name),
        )
        for name in texts
    ]
    return tuple(sorted(found, key=lambda one: (not one.own, 0.0 if one.own else -one.score.value)))


def _agreement(name: str, items: Sequence[HeldOut], texts: Mapping[str, Mapping[str, list[str]]]) -> Estimate | None:
    """What everybody else wrote against what ``name`` wrote, a mean per prompt; unnamed references are of others.

    Of more than :data:`AT_MOST_PAIRED` texts on either side, that many are drawn.
    """
    scores: dict[str, float] = {}
    for item in items:
        theirs = texts[name].get(item.id, [])
        everybody = [*zip(item.experts, item.references, strict=True), *item.others]
        others = [text for writer, text in everybody if writer != name and (writer or name != UNNAMED)]
        if theirs and others:
            ours, rest = (_drawn(side, f"{item.id} {name}") for side in (theirs, others))
            scores[item.id] = _mean([metrics.chrf(other, text) for text in ours for other in rest])
    return _points(scores, {item.id: item.cluster for item in items}) if scores else None


def _drawn(texts: Sequence[str], seed: str) -> Sequence[str]:
    """At most :data:`AT_MOST_PAIRED` of ``texts``, whatever order they come in."""
    return texts if len(texts) <= AT_MOST_PAIRED else random.Random(seed).sample(sorted(texts), AT_MOST_PAIRED)


def _points(scores: Mapping[str, float], clusters: Mapping[str, str]) -> Estimate:
    return estimates.points(list(scores.values()), [clusters[key] for key in scores])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
