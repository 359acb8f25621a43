"""How far the clone follows the expert's path, and what leaving it costs: survival and prefix forcing.

Errors of a cloned policy can add up along its own path (Ross & Bagnell 2010). The survival curve says when it leaves
the expert's; the prefix-forcing curve puts it back on that path, ever further along, and compares what it writes from
there with what another expert writes in the same place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sft import intervals, metrics
from sft.demonstrations import HeldOut
from sft.observations import Completion, Forced, TokenScores
from sft.probes import Absent, estimates, likelihood
from sft.scorecards import Estimate, PrefixPoint, SurvivalPoint

__all__ = ["SURVIVAL_TOKENS", "left_at", "prefix", "rest_of", "survival"]

#: Tokens a survival curve is drawn for.
SURVIVAL_TOKENS = 512


def left_at(scores: TokenScores) -> int | None:
    """The 1-based token at which greedy decoding leaves the expert's path; None if it never does."""
    return next((position for position, rank in enumerate(scores.ranks, 1) if rank > 0), None)


def survival(clusters: Mapping[str, str], scores: Mapping[str, TokenScores]) -> tuple[SurvivalPoint, ...]:
    """Share still on the expert's path after each token; a completion that ends there is censored."""
    left = [(left_at(s), len(s.ranks)) for s in likelihood.known(clusters, scores)]
    steps = intervals.kaplan_meier(
        [token or length for token, length in left],
        [token is not None for token, _ in left],
        limit=SURVIVAL_TOKENS,
    )
    return tuple(SurvivalPoint(step.time, step.share, step.low, step.high) for step in steps)


def rest_of(text: str, share: float) -> str:
    """What is left of ``text`` after its first ``share`` of characters, cut between the words nearest to there.

    A text without white space has no such place and is cut at the character.
    """
    text = text.strip()
    wanted = min(round(share * len(text)), len(text) - 1)
    starts = [at for at in range(1, len(text)) if text[at - 1].isspace() and not text[at].isspace()]
    return text[min(starts, key=lambda at: abs(at - wanted), default=wanted) :] if wanted else text


def prefix(
    held_out: Sequence[HeldOut],
    forced: Mapping[str, Sequence[Forced]],
    completions: Mapping[str, Mapping[str, Completion]],
) -> tuple[dict[str, tuple[PrefixPoint, ...]], Estimate | None]:
    """The prefix-forcing curve of "tuned" and, where prompts were answered twice, of "E"; and what accumulates.

    At 0 the clone's whole greedy completion is held to the first reference, at every other share what it wrote
    after that part of the reference to the rest of it, in headline points, white space at the ends aside. E is held
    to the same rests: every other reference without the same share of its characters, mean over them. ``excess`` is E
    minus tuned, paired: above 0 where the clone goes on less like the expert than another expert would.

    The second value is the excess at 0 minus the excess at the last share, paired: what the clone's own first steps
    cost, beyond what makes the start of a text harder than its end; above 0, errors add up. None without prompts
    answered twice. All points are of the same prompts; one with a rest that is blank is left out, and counted.
    Raises ``Absent`` where nothing was forced.
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
    tuned = {0.0: [_points(completions["tuned"][item.id].text, item.references[0]) for item in whole]}
    for share in shares:
        tuned[share] = [_points(rows[i.id][share].text, rows[i.id][share].rest) for i in whole]
    labels = [item.cluster for item in whole]
    left_out = len(items) - len(whole)
    note = f"; too short to be given in part, and left out: {left_out}" if left_out else ""
    curve = [PrefixPoint(s, _noted(estimates.points(tuned[s], labels), note), None) for s in tuned]
    several = [place for place, item in enumerate(whole) if len(item.references) > 1]
    if not several:
        return {"tuned": tuple(curve)}, None
    theirs = [labels[place] for place in several]
    another = {s: [_another(whole[place], rows[whole[place].id].get(s)) for place in several] for s in tuned}
    excess = {s: np.subtract(another[s], [tuned[s][place] for place in several]) for s in tuned}
    curves = {
        "tuned": tuple(replace(p, excess=_noted(estimates.mean(excess[p.share], theirs), note)) for p in curve),
        "E": tuple(PrefixPoint(s, _noted(estimates.points(another[s], theirs), note), None) for s in tuned),
    }
    return curves, _noted(estimates.mean(excess[0.0] - excess[shares[-1]], theirs), note)


def _points(text: str, wanted: str) -> float:
    return metrics.chrf(text.strip(), wanted.strip())


def _another(item: HeldOut, row: Forced | None) -> float:
    """Headline points of the other references, without the share that ``row`` gave of the first, against its rest."""
    first, *others = item.references
    if row is None:
        return math.fsum(_points(text, first) for text in others) / len(others)
    share = len(row.given) / (len(row.given) + len(row.rest))
    return math.fsum(_points(rest_of(text, share), row.rest) for text in others) / len(others)


def _noted(estimate: Estimate, note: str) -> Estimate:
    return replace(estimate, method=estimate.method + note)
