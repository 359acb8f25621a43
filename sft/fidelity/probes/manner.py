"""Manner of writing, apart from what is said: repetition, variety and length, and how alike several attempts are.

Each figure stands beside the expert's own, of one text a prompt: a set of several references would look more
varied for being larger.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.probes import Absent
from sft.metrics import chrf, intervals, nfc
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.metrics.text import words
from sft.runs.records import Completion

__all__ = ["manner", "rarefied", "rep_4", "self_agreement"]

I64 = NDArray[np.int64]
Kept = NDArray[np.bool_]

#: Pairs of texts compared for one prompt, at most.
PAIRS = 10
#: Distinct-2 is reckoned for this share of the smallest set's bigrams: a jackknife leaves out a fiftieth of the
#: prompts, and what is left must still hold as many. A set below ``ENOUGH`` of the expert's is not counted.
COMMON, ENOUGH = 0.9, 0.1


def manner(
    held_out: Sequence[HeldOut], completions: Mapping[str, Mapping[str, Completion]], *, seed: int
) -> dict[str, dict[str, Estimate]]:
    """System, or "expert" (the first reference of each prompt), -> "rep_4", "distinct_2", "distinct_outputs",
    "length_spread".

    - rep_4: mean :func:`rep_4` of the completions; clustered t.
    - distinct_2: share of distinct word bigrams, :func:`rarefied` to nine tenths of the smallest set, because it
      falls with the size of a set. A system with less than a tenth of the expert's bigrams has none.
    - distinct_outputs: share of distinct texts (NFC, white space at the ends aside).
    - length_spread: standard deviation of the characters over that of the experts' on the same prompts; for
      systems only if the experts' lengths differ at all, and 1 by definition for the expert.

    The last three have a jackknife over clusters; that of distinct_2 covers 95 to 99 % (100 to 400 synthetic
    prompts, tests/fidelity/test_probe_manner.py). Raises ``Absent`` where no system wrote anything.
    """
    clusters = {item.id: item.cluster for item in held_out}
    expert = {item.id: item.references[0] for item in held_out}
    texts = {
        system: {key: written[key].text for key in clusters if key in written}
        for system, written in completions.items()
    }  # fmt: skip
    texts = {system: found for system, found in texts.items() if found}
    if not texts:
        raise Absent("no system wrote anything")
    texts["expert"] = expert
    numbers: dict[tuple[str, str], int] = {}
    bigrams = {system: _bigrams(found.values(), numbers) for system, found in texts.items()}
    least = max(ENOUGH * len(bigrams["expert"][0]), 2)
    size = int(COMMON * min((len(codes) for codes, _ in bigrams.values() if len(codes) >= least), default=0))
    measured: dict[str, dict[str, Estimate]] = {}
    for system, found in texts.items():
        labels = [clusters[key] for key in found]
        figures: dict[str, Callable[[Kept], float]] = {}
        codes, text_of = bigrams[system]
        if len(codes) >= least and size:
            figures["distinct_2"] = _distinct_2(codes, text_of, size)
        figures["distinct_outputs"] = _distinct_outputs(found.values())
        rows = measured[system] = {
            "rep_4": estimates.mean([rep_4(text) for text in found.values()], labels, (0, 1)),
            **{name: _jackknife(figure, labels, seed) for name, figure in figures.items()},
        }
        if system == "expert":
            rows["length_spread"] = estimates.alone(1.0, len(found), "the others are measured by it")
            continue
        lengths = np.array([[len(nfc(text)), len(nfc(expert[key]))] for key, text in found.items()])
        if np.ptp(lengths[:, 1]):
            rows["length_spread"] = _jackknife(_length_spread(lengths), labels, seed, math.inf)
    return measured


def rep_4(text: str) -> float:
    """Share of the word 4-grams of a text that repeat an earlier one (seq-rep-4: Welleck et al. 2020), 0 to 1.

    A text of fewer than four words repeats nothing.
    """
    found = words(text)
    grams = list(zip(found, found[1:], found[2:], found[3:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def rarefied(counts: I64, size: int) -> float:
    """Share of distinct kinds expected among ``size`` items drawn without replacement (Hurlbert 1971).

    ``counts``: how many items there are of each kind. A kind of n among N stays out with probability
    C(N - n, size) / C(N, size). ``size`` is at most N; a larger one is taken for N. NaN of nothing.
    """
    sizes, kinds = np.unique(counts, return_counts=True)
    total = int(sizes @ kinds)
    size = min(size, total)
    if not size:
        return math.nan
    rest = total - sizes
    out = rest >= size
    # C(N - n, size) / C(N, size) as a product of factorials, on the logarithmic scale.
    missed = special.gammaln(rest[out] + 1) - special.gammaln(rest[out] - size + 1)
    missed += special.gammaln(total - size + 1) - special.gammaln(total + 1)
    return float(kinds.sum() - np.exp(missed) @ kinds[out]) / size


def self_agreement(
    held_out: Sequence[HeldOut], samples: Sequence[Mapping[str, Completion]], *, seed: int
) -> dict[str, Estimate]:
    """How alike several attempts at one prompt are: headline chrF, 0 to 100, averaged over pairs, then prompts.

    "tuned": the clone's samples at temperature 1; "experts": the references; "difference": first minus second,
    paired. On prompts with two of each; of more than 10 pairs, 10 are drawn by ``seed``. A difference above 0 means
    a clone less varied than the experts are among themselves. Raises ``Absent`` where no prompt has two of each.
    """
    if len(samples) < 2:
        raise Absent("fewer than two rounds of samples were drawn from the clone")
    if all(len(item.references) < 2 for item in held_out):
        raise Absent("the held-out prompts have one completion by an expert each")
    generator = random.Random(seed)
    labels: list[str] = []
    own: list[float] = []
    experts: list[float] = []
    for item in held_out:
        written = [sample[item.id].text for sample in samples if item.id in sample]
        if len(written) > 1 and len(item.references) > 1:
            labels.append(item.cluster)
            own.append(_alike(written, generator))
            experts.append(_alike(item.references, generator))
    if not labels:
        raise Absent("no prompt with two experts has two samples of the clone")
    return {
        "tuned": estimates.mean(own, labels, (0, 100)),
        "experts": estimates.mean(experts, labels, (0, 100)),
        "difference": estimates.mean(np.subtract(own, experts), labels),
    }


def _alike(texts: Sequence[str], generator: random.Random) -> float:
    """Mean chrF of pairs of texts; with beta 1 it is the same both ways."""
    pairs = list(combinations(texts, 2))
    chosen = pairs if len(pairs) <= PAIRS else generator.sample(pairs, PAIRS)
    return math.fsum(chrf(one, other) for one, other in chosen) / len(chosen)


def _bigrams(texts: Iterable[str], numbers: dict[tuple[str, str], int]) -> tuple[I64, I64]:
    """Word bigrams of all texts, numbered as first met, and the text of each: (b,), (b,)."""
    codes: list[int] = []
    counts: list[int] = []
    for text in texts:
        found = words(text)
        codes += [numbers.setdefault(pair, len(numbers)) for pair in pairwise(found)]
        counts.append(max(len(found) - 1, 0))
    return np.array(codes, dtype=np.int64), np.repeat(np.arange(len(counts)), counts)


def _distinct_2(codes: I64, text_of: I64, size: int) -> Callable[[Kept], float]:
    def figure(kept: Kept) -> float:
        counts = np.bincount(codes[kept[text_of]])
        return rarefied(counts[counts > 0], size)

    return figure


def _distinct_outputs(texts: Iterable[str]) -> Callable[[Kept], float]:
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(nfc(text).strip(), len(numbers)) for text in texts])
    return lambda kept: np.count_nonzero(np.bincount(codes[kept])) / int(kept.sum())


def _length_spread(lengths: I64) -> Callable[[Kept], float]:
    """``lengths``: of a system and of the expert, shape (n, 2)."""

    def figure(kept: Kept) -> float:
        own, expert = lengths[kept].std(axis=0)
        return float(own / expert) if expert else math.nan

    return figure


def _jackknife(figure: Callable[[Kept], float], labels: Sequence[str], seed: int, most: float = 1.0) -> Estimate:
    try:
        interval = intervals.grouped_jackknife(figure, labels, seed=seed)
    except ValueError:  # raised where a figure is NaN when one group is left out: no spread, no two words
        every = figure(np.ones(len(labels), dtype=bool))
        return estimates.alone(every, len(labels), "without one group of prompts the figure cannot be had")
    if interval.low is not None and interval.low == interval.high:
        interval = replace(interval, method=f"{interval.method}; all alike, so the width says nothing")
    return estimates.scaled(interval, bounds=(0.0, most))
