"""What is thought before an answer, beside what the expert thought: the answer is scored without it.

Thoughts are compared as texts are, in chrF points, for nobody knows which of two thoughts is the better one; how often
there is one, and how often no answer follows it, is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.findings import Thoughts
from sft.fidelity.probes import Absent
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion, TokenScores

__all__ = ["thoughts"]


def thoughts(
    held_out: Sequence[HeldOut],
    completions: Mapping[str, Mapping[str, Completion]],
    scores: Mapping[str, Mapping[str, TokenScores]],
) -> Thoughts:
    """The clone's thoughts and those of other systems that think. Raises ``Absent`` where no expert thought."""
    items = [item for item in held_out if any(item.thoughts) and item.id in completions.get("tuned", {})]
    if not items:
        raise Absent("no expert's thought is known for a held-out prompt")
    labels = [item.cluster for item in items]
    clone = [completions["tuned"][item.id] for item in items]
    thinking = {
        system: written
        for system, written in completions.items()
        if all(item.id in written for item in items)
        and (system == "tuned" or any(written[i.id].thought for i in items))
    }
    return Thoughts(
        thinks={s: estimates.share([bool(w[i.id].thought) for i in items], labels) for s, w in thinking.items()},
        score={s: estimates.points([_near(i, w[i.id].thought) for i in items], labels) for s, w in thinking.items()},
        bits={system: found for system, by_id in scores.items() if (found := _bits(items, by_id)) is not None},
        length=estimates.ratio([len(one.thought) for one in clone], [_length(item) for item in items], labels),
        unanswered=estimates.share([bool(one.thought) and not one.text.strip() for one in clone], labels),
        n=len(items),
    )


def _known(item: HeldOut) -> list[str]:
    return [thought for thought in item.thoughts if thought]


def _near(item: HeldOut, thought: str) -> float:
    """chrF points of a thought against the experts', mean over them."""
    return fmean(metrics.chrf(thought, known) for known in _known(item))


def _length(item: HeldOut) -> float:
    return fmean(map(len, _known(item)))


def _bits(items: Sequence[HeldOut], scores: Mapping[str, TokenScores]) -> Estimate | None:
    """Bits per byte of the first expert's thought, where the first one thought; None where none was scored."""
    asked = [i for i in items if i.thoughts[0] and i.id in scores and scores[i.id].thought_nats]
    if not asked:
        return None
    spent = [math.fsum(scores[item.id].thought_nats) / math.log(2) for item in asked]
    sizes = [len(item.thoughts[0].encode("utf-8")) for item in asked]
    return estimates.ratio(spent, sizes, [item.cluster for item in asked])
