"""A saturating curve over the number of demonstrations, and what further ones would gain by it.

The law is a + b f(n / N) with b >= 0, N the largest number tried, where f falls as a power (Hestness et al. 2017) or as
an exponential. For each f of a grid a and b are least squares (separable, Golub & Pereyra 1973), and the nearest law of
all is taken, the same every time, for thousands of draws at once. A few sizes hardly tell one shape from another, so
every draw of an interval chooses its own: with powers alone 70 % of 95 % intervals held where the truth was an
exponential. Nothing is foretold beyond twice N.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.metrics.estimate import Estimate

__all__ = ["Law", "foretold", "law_of"]

Floats = NDArray[np.float64]

#: Shapes that are tried: powers from nearly logarithmic to so steep that twice as many leave a sixteenth of what there
#: is; exponentials that have nearly ended at the largest number, and that have hardly begun.
SHAPES = (*(("power", c) for c in np.linspace(0.05, 4.0, 60)), *(("exponential", c) for c in np.linspace(0.25, 15, 60)))
#: Draws of an interval.
DRAWS = 2_000


def _falls(kind: str, c: float, n: Floats | float) -> Any:
    """The shape at ``n``, as a share of the largest number: 1 there for a power."""
    return n**-c if kind == "power" else np.exp(-c * n)


@dataclass(frozen=True, slots=True)
class Law:
    """a + b f(n / largest): what a figure falls to, and how. ``kind``: "power" or "exponential", as steep as ``c``."""

    a: float
    b: float
    c: float
    kind: str
    largest: int

    def at(self, n: float) -> float:
        """The figure with ``n`` demonstrations."""
        return self.a + self.b * float(_falls(self.kind, self.c, n / self.largest))


def _fitted(sizes: Floats, values: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """a, b and the number of the shape of each row of ``values``, shape (draws, sizes); ``sizes``: shares of the
    largest."""
    best = np.full(len(values), np.inf)
    a, b, shape = np.zeros(len(values)), np.zeros(len(values)), np.zeros(len(values), dtype=np.intp)
    mean = values.mean(axis=1)
    for number, (kind, c) in enumerate(SHAPES):
        x = _falls(kind, c, sizes)
        centred = x - x.mean()
        slope = np.maximum(0.0, values @ centred / (centred @ centred))
        floor = mean - slope * x.mean()
        error = ((values - floor[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
        better = error < best
        best[better], a[better], b[better], shape[better] = error[better], floor[better], slope[better], number
    return a, b, shape


def _gains(b: Floats, shape: NDArray[np.intp], further: float) -> Floats:
    """What ``further`` demonstrations, as a share of the largest number, take off."""
    one = np.array([_falls(kind, c, 1.0) - _falls(kind, c, 1.0 + further) for kind, c in SHAPES])
    return b * one[shape]


def law_of(sizes: Sequence[int], values: Sequence[float]) -> Law:
    """The law nearest to one figure a size; three sizes or more. Falling figures are losses."""
    largest = max(sizes)
    a, b, shape = _fitted(np.asarray(sizes) / largest, np.asarray([values], dtype=np.float64))
    kind, c = SHAPES[shape[0]]
    return Law(float(a[0]), float(b[0]), float(c), kind, largest)


def foretold(
    sizes: Sequence[int], values: Floats, labels: Sequence[Hashable], more: Sequence[int], *, seed: int,
    level: float = 0.95,
) -> list[Estimate]:  # fmt: skip
    """What each of ``more`` further demonstrations would take off a loss: by the law, with intervals.

    ``values``: loss, shape (runs, sizes, prompts), two runs or more, each with every size. Draws are of clusters of
    prompts, shared by all sizes, and of the luck of runs, whose spread is pooled over the sizes and drawn with its own
    uncertainty (chi-square). Percentiles of the draws; ``value`` is the fit of what was seen. Raises ``ValueError``
    for one run, fewer than three sizes, or more than as many again.
    """
    runs, count, prompts = values.shape
    largest = max(sizes)
    if runs < 2 or count < 3 or max(more) > largest:
        raise ValueError("it takes two runs, three sizes, and tells of as many demonstrations again at most")
    shares = np.asarray(sizes) / largest
    seen = values.mean(axis=(0, 2))
    codes = np.unique([str(one) for one in labels], return_inverse=True)[1]
    clusters = int(codes.max()) + 1
    sums = np.zeros((clusters, count))
    np.add.at(sums, codes, values.mean(axis=0).T)
    weights = np.bincount(codes, minlength=clusters).astype(float)
    draw = np.random.default_rng(seed)
    picked = draw.multinomial(clusters, np.full(clusters, 1 / clusters), size=DRAWS)
    # A bootstrap of few clusters is too narrow by the root of (g - 1) / g, and by the t's tails beyond.
    wide = np.sqrt(clusters / max(1, clusters - 1))
    drawn = seen + wide * ((picked @ sums) / (picked @ weights)[:, None] - seen)
    spread = values.mean(axis=2).var(axis=0, ddof=1).mean()
    freedom = count * (runs - 1)
    luck = np.sqrt(spread * freedom / draw.chisquare(freedom, size=DRAWS) / runs)
    drawn = drawn + luck[:, None] * draw.standard_normal((DRAWS, count))
    fits, one = _fitted(shares, drawn), _fitted(shares, seen[None, :])
    tails = (50 * (1 - level), 100 - 50 * (1 - level))
    found = []
    for n in more:
        gains = _gains(fits[1], fits[2], n / largest)
        low, high = np.percentile(gains, tails)
        value = float(_gains(one[1], one[2], n / largest)[0])
        method = f"a saturating law, {DRAWS} draws of prompts and of {runs} runs a size"
        found.append(Estimate(value, float(min(low, value)), float(max(high, value)), level, method, prompts))
    return found
