"""Whether errors add up: the further a clone writes, the further it is from what experts would have written.

A cloned policy acts on states that its own actions led to, and those were not among the expert's (Ross & Bagnell
2010). What that does to a text shows in the text itself: of its last third fewer words are words that any expert used
for this prompt than of its first. An expert's own text does that too, to a degree, for endings are freer than
beginnings; so the clone is held to another expert, on the same prompts and against the same references, each expert
leaving theirs out in turn. A text that only ends early has a shorter last third and no worse one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.probes import Absent
from sft.fidelity.scorecard import Compounding
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion

__all__ = ["WORDS", "compounding"]

#: Texts of fewer words are not cut in three.
WORDS = 6
#: Experts of a prompt who leave theirs out in turn; drawn where there are more.
TURNS = 16

Thirds = tuple[float, float, float]


def compounding(held_out: Sequence[HeldOut], written: Mapping[str, Completion]) -> Compounding:
    """Shares of the words of each third that stand in the references, the clone's and another expert's.

    Words are those of the metrics. A prompt counts where it has two references or more, and the clone's text and each
    reference taken have at least :data:`WORDS` words. Intervals are clustered as the prompts are.
    Raises ``Absent`` where no prompt counts.
    """
    asked = [item for item in held_out if len(item.references) > 1 and item.id in written]
    if not asked:
        raise Absent("the held-out prompts have one expert each, so how far another strays along a text is unknown")
    found, labels, short = [], [], []
    for item in asked:
        if (pair := _pair(item, written[item.id].text)) is not None:
            found.append(pair)
            labels.append(item.cluster)
        least = min(len(metrics.words(text)) for text in item.references)
        short.append(len(metrics.words(written[item.id].text)) < least / 2)
    if not found:
        raise Absent(f"no text has the {WORDS} words that it takes to be cut in three")
    shares = np.array(found)  # (prompts, clone and expert, thirds)
    behind = shares[:, 0] - shares[:, 1]

    def each_third(columns: NDArray[np.float64], least: float) -> tuple[Estimate, Estimate, Estimate]:
        first, middle, last = (estimates.mean(column, labels, (least, 1)) for column in columns.T)
        return first, middle, last

    return Compounding(
        tuned=each_third(shares[:, 0], 0),
        expert=each_third(shares[:, 1], 0),
        behind=each_third(behind, -1),
        rise=estimates.mean(behind[:, 2] - behind[:, 0], labels, (-2, 2)),
        short=estimates.share(short, [item.cluster for item in asked]),
        n=len(found),
        passed_over=len(asked) - len(found),
    )


def _pair(item: HeldOut, text: str) -> tuple[Thirds, Thirds] | None:
    """The clone's and another expert's shares, means over the experts who leave theirs out; None if too short."""
    texts = [metrics.words(reference) for reference in item.references]
    own = metrics.words(text)
    turns = [n for n, words in enumerate(texts) if len(words) >= WORDS]
    if len(own) < WORDS or not turns:
        return None
    if len(turns) > TURNS:
        turns = random.Random(item.id).sample(turns, TURNS)
    rounds = []
    for turn in turns:
        known = {word for n, words in enumerate(texts) if n != turn for word in words}
        rounds.append((_thirds(own, known), _thirds(texts[turn], known)))
    ours, theirs = zip(*rounds, strict=True)
    return _mean(ours), _mean(theirs)


def _thirds(words: Sequence[str], known: set[str]) -> Thirds:
    """Share of the words of each third that are ``known``; thirds as equal as whole words allow."""
    cuts = [round(n * len(words) / 3) for n in range(4)]
    first, middle, last = (
        sum(word in known for word in words[begin:end]) / (end - begin) for begin, end in pairwise(cuts)
    )
    return first, middle, last


def _mean(rows: Sequence[Thirds]) -> Thirds:
    first, middle, last = (math.fsum(values) / len(rows) for values in zip(*rows, strict=True))
    return first, middle, last
