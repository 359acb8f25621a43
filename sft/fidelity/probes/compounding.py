"""Whether errors add up: the further a clone writes, the further it is from what experts would have written.

A cloned policy acts on states that its own actions led to, and those were not among the expert's (Ross & Bagnell
2010). What that does to a text shows in the text itself: of its last third fewer words are words that any expert used
for this prompt than of its first. An expert's own text does that too, to a degree, for endings are freer than
beginnings; so the clone is held to another expert, on the same prompts and against the same references, each expert
leaving theirs out in turn. What it keeps of the expert's share is the same in every third where its errors are as
frequent at the end as at the beginning. A text that only ends early has a shorter last third and no worse one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.findings import Compounding
from sft.fidelity.probes import Absent
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
    ours, theirs = shares[:, 0], shares[:, 1]
    if not theirs.sum(axis=0).all():
        raise Absent("the experts have no words in common, in some third of their texts")

    def each_third(make: Callable[[int], Estimate]) -> tuple[Estimate, Estimate, Estimate]:
        return make(0), make(1), make(2)

    return Compounding(
        tuned=each_third(lambda n: estimates.mean(ours[:, n], labels, (0, 1))),
        expert=each_third(lambda n: estimates.mean(theirs[:, n], labels, (0, 1))),
        kept=each_third(lambda n: estimates.ratio(ours[:, n], theirs[:, n], labels)),
        rise=_rise(ours, theirs, labels),
        short=estimates.share(short, [item.cluster for item in asked]),
        n=len(found),
        passed_over=len(asked) - len(found),
    )


def _rise(ours: NDArray[np.float64], theirs: NDArray[np.float64], labels: Sequence[str]) -> Estimate:
    """What is kept in the last third less what is kept in the first, each a sum over a sum.

    A ratio moves by (x - r y) / mean(y) with one observation; the interval is the clustered t of the difference of the
    two, which has mean 0 (linearisation, Cochran 1977, ch. 6).
    """
    kept = ours.sum(axis=0) / theirs.sum(axis=0)
    moved = (ours - kept * theirs) / theirs.mean(axis=0)
    about = estimates.mean(moved[:, 2] - moved[:, 0], labels)
    change = float(kept[2] - kept[0])
    low, high = (None if end is None else end + change for end in (about.low, about.high))
    return replace(about, value=change, low=low, high=high)


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
