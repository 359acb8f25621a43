"""How far the clone follows the expert's path, and how it goes on from there: survival and prefix forcing.

The survival curve says when the policy leaves the expert's path. Prefix forcing puts it back on that path, ever
further along: what it writes from there is compared with what it wrote in the same place by itself, and that with what
another expert wrote there. Whether its errors add up (Ross & Bagnell 2010) is not among what this tells: every
difference between rests shrinks with their length, so that planted errors which rise along the text can have an
excess that falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.findings import PrefixPoint, SurvivalPoint
from sft.fidelity.probes import Absent, likelihood
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion, Forced, TokenScores

__all__ = ["SURVIVAL_TOKENS", "left_at", "prefix", "rest_of", "survival"]

#: Tokens a survival curve is drawn for.
SURVIVAL_TOKENS = 512


def left_at(scores: TokenScores) -> int | None:
    """The 1-based token at which greedy decoding leaves the expert's path; None if it never does."""
    return next((position for position, rank in enumerate(scores.ranks, 1) if rank > 0), None)


def survival(clusters: Mapping[str, str], scores: Mapping[str, TokenScores]) -> tuple[SurvivalPoint, ...]:
    """Share still on the expert's path after each token; a completion that ends there is censored."""
    left = [(left_at(s), len(s.ranks)) for s in likelihood.known(clusters, scores) if s.ranks]
    if not left:
        return ()
    steps = intervals.kaplan_meier(
        [token or length for token, length in left],
        [token is not None for token, _ in left],
        limit=SURVIVAL_TOKENS,
    )
    return tuple(SurvivalPoint(step.time, step.share, step.low, step.high) for step in steps)


def rest_of(text: str, share: float) -> str:
    """What is left of ``text`` after its first ``share`` of characters, cut between the words nearest to there.

    A text without white space has no such place and is cut at the character; a blank one has no rest.
    """
    text = text.strip()
    if not text:
        return ""
    wanted = min(round(share * len(text)), len(text) - 1)
    starts = [at for at in range(1, len(text)) if text[at - 1].isspace() and not text[at].isspace()]
    return text[min(starts, key=lambda at: abs(at - wanted), default=wanted) :] if wanted else text


def prefix(
    held_out: Sequence[HeldOut],
    forced: Mapping[str, Sequence[Forced]],
    completions: Mapping[str, Mapping[str, Completion]],
) -> dict[str, tuple[PrefixPoint, ...]]:
    """The prefix-forcing curves "tuned" and "own" and, where prompts were answered twice, "E".

    Every curve is held to the rest of the first reference after a share of it, in chrF points, white space at the
    ends aside. "tuned" went on from the reference's own beginning; "own" is the clone's greedy completion without the
    same share of its characters, so from its own beginning; "E" is every other reference without it, mean over them.
    At 0 all is whole. ``regained`` on "tuned" is tuned minus own, paired: what being put on the expert's path is worth.
    ``excess`` on "own" is E minus own, paired: how much further from the expert the clone is there than another expert,
    and both of them came there by themselves. (A forced rest must not be held to E: it knows how the expert began, and
    another expert's rest does not.)

    All points are of the same prompts; one with a rest that is blank is left out, and counted. Raises ``Absent``
    where nothing was forced.
    """
    rows: dict[str, dict[float, Forced]] = {}
    for row in forced.get("tuned", ()):
        rows.setdefault(row.id, {})[row.share] = row
    items = [item for item in held_out if item.id in rows and item.id in completions.get("tuned", {})]
    if not items:
        raise Absent("the clone was not given the first part of the expert's completions")
    shares = sorted({share for item in items for share in rows[item.id]})
    whole = [i for i in items if all(s in rows[i.id] and rows[i.id][s].rest.strip() for s in shares)]
    if not whole:
        raise Absent("the expert's completions are too short to be given in part")
    places = (0.0, *shares)
    parts = [[None if share == 0 else rows[item.id][share] for item in whole] for share in places]
    texts = [completions["tuned"][item.id].text for item in whole]
    alone = [[_own(*one) for one in zip(whole, texts, part, strict=True)] for part in parts]
    # At 0 nothing was given, so the clone that was led and the clone alone are one and the same text.
    led = [alone[0], *([_points(row.text, row.rest) for row in part if row is not None] for part in parts[1:])]
    labels = [item.cluster for item in whole]
    left_out = len(items) - len(whole)
    note = f"; too short to be given in part, and left out: {left_out}" if left_out else ""
    several = [place for place, item in enumerate(whole) if len(item.references) > 1]
    theirs = [labels[place] for place in several]
    another = [[_another(whole[place], part[place]) for place in several] for part in parts]
    excess = [np.subtract(a, [o[place] for place in several]) for a, o in zip(another, alone, strict=True)]

    def mean(values: Sequence[float] | np.ndarray, groups: Sequence[str]) -> Estimate:
        return _noted(estimates.mean(values, groups), note)

    def curve(scores: Sequence[Sequence[float]], groups: Sequence[str]) -> list[PrefixPoint]:
        found = [_noted(estimates.points(values, groups), note) for values in scores]
        return [PrefixPoint(share, score, None) for share, score in zip(places, found, strict=True)]

    regained = [None, *(mean(np.subtract(f, o), labels) for f, o in zip(led[1:], alone[1:], strict=True))]
    curves = {
        "tuned": tuple(replace(p, regained=r) for p, r in zip(curve(led, labels), regained, strict=True)),
        "own": tuple(curve(alone, labels)),
    }
    if not several:
        return curves
    curves["own"] = tuple(replace(p, excess=mean(e, theirs)) for p, e in zip(curves["own"], excess, strict=True))
    curves["E"] = tuple(curve(another, theirs))
    return curves


def _points(text: str, wanted: str) -> float:
    return metrics.chrf(text.strip(), wanted.strip())


def _after(text: str, row: Forced | None) -> str:
    """``text`` without the share of characters that ``row`` gave of the reference; all of it where it gave none."""
    return text if row is None else rest_of(text, len(row.given) / (len(row.given) + len(row.rest)))


def _own(item: HeldOut, text: str, row: Forced | None) -> float:
    return _points(_after(text, row), item.references[0] if row is None else row.rest)


def _another(item: HeldOut, row: Forced | None) -> float:
    """Headline points of the other references, each after the same share, against the first one's rest; their mean."""
    first, *others = item.references
    wanted = first if row is None else row.rest
    return math.fsum(_points(_after(text, row), wanted) for text in others) / len(others)


def _noted(estimate: Estimate, note: str) -> Estimate:
    return replace(estimate, method=estimate.method + note)
