"""Fidelity against the number of demonstrations: what was measured of each clone, and what it comes to.

``size-curve.json`` of a run holds one :class:`SizeCurve`. The clones of one seed were fitted to nested subsets, and all
of them judged on the same validation prompts, so every comparison is paired. Intervals over prompts alone speak of
these clones; where there are two runs a size or more they are over prompts and runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sft.errors import RunError
from sft.metrics import intervals, saturation
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.atomic_files import read_json
from sft.runs.run import Run

__all__ = ["MeasuredSize", "SizeCurve", "SizePoint", "read_size_curve", "size_curve_of"]

#: Further demonstrations that are told of, beside as many again.
HUNDRED = 100
#: Runs a size from which on it is told what more would bring: prompts alone know nothing of the luck of runs.
RUNS = 3


@dataclass(frozen=True, slots=True)
class MeasuredSize:
    """One clone on the validation prompts. ``rows``: demonstrations it was fitted to; ``seed``: of its subset and fit.

    ``scores``: prompt id -> headline points; ``bits`` and ``bytes``: of the expert's completion, stop token included.
    """

    run: str
    rows: int
    seed: int
    scores: dict[str, float]
    bits: dict[str, float]
    bytes: dict[str, int]
    clusters: dict[str, str]


@dataclass(frozen=True, slots=True)
class SizePoint:
    """One number of demonstrations. ``behind``: the clones of all demonstrations less these, in either figure."""

    rows: int
    runs: tuple[str, ...]
    bits: Estimate
    score: Estimate
    bits_behind: Estimate | None
    score_behind: Estimate | None


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """The curve. ``points``: fewest first; ``law``: of bits per byte.

    ``more``: further demonstrations -> bits per byte that they would save, by the law; empty where there are too few
    runs to tell. ``seeds``: runs a size; ``prompts``: validation prompts that all were judged on.
    """

    headline: str
    points: tuple[SizePoint, ...]
    law: saturation.Law | None
    more: dict[str, Estimate]
    seeds: int
    prompts: int
    clusters: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def size_curve_of(measured: Sequence[MeasuredSize], headline: str, *, seed: int) -> SizeCurve:
    """The curve through ``measured``, as many sizes of each seed. Raises ``RunError`` without a common prompt.

    Shares are of prompts, and where some have several demonstrations their number differs between seeds: the sizes of a
    seed are told apart by their order, and ``rows`` is the mean, rounded.
    """
    seeds = sorted({one.seed for one in measured})
    in_order = [sorted((one for one in measured if one.seed == seed), key=lambda one: one.rows) for seed in seeds]
    by_size = list(zip(*in_order, strict=True))
    sizes = [round(float(np.mean([one.rows for one in runs]))) for runs in by_size]
    shared = [key for key in measured[0].bits if all(key in one.bits and key in one.scores for one in measured)]
    if not shared:
        raise RunError(f"{measured[0].run}: shares no measured prompt with the other sizes; name a new folder")
    labels = [measured[0].clusters[key] for key in shared]
    mean_bytes = float(np.mean([measured[0].bytes[key] for key in shared]))

    def table(figures: Callable[[MeasuredSize], Mapping[str, float]]) -> NDArray[np.float64]:
        """Shape (runs, sizes, prompts)."""
        return np.array([[[figures(one)[key] for key in shared] for one in runs] for runs in in_order])

    # Bits over the mean number of bytes: their mean over prompts is the sum of bits over that of bytes.
    bits = table(lambda one: one.bits) / mean_bytes
    scores = table(lambda one: one.scores)
    points = tuple(
        SizePoint(
            rows,
            tuple(one.run for one in by_size[place]),
            estimates.mean(bits[:, place].mean(axis=0), labels),
            estimates.points(list(scores[:, place].mean(axis=0)), labels),
            _apart(bits[:, -1], bits[:, place], labels) if rows < sizes[-1] else None,
            _apart(scores[:, -1], scores[:, place], labels) if rows < sizes[-1] else None,
        )
        for place, rows in enumerate(sizes)
    )
    law, more = None, dict[str, Estimate]()
    if len(sizes) >= 3:
        law = saturation.law_of(sizes, list(bits.mean(axis=(0, 2))))
        if len(seeds) >= RUNS:
            asked = sorted({min(HUNDRED, sizes[-1]), sizes[-1]})
            told = saturation.foretold(sizes, bits, labels, asked, seed=seed)
            more = {str(n): one for n, one in zip(asked, told, strict=True)}
    return SizeCurve(headline, points, law, more, len(seeds), len(shared), len(set(labels)))


def _apart(all_of_them: NDArray[np.float64], fewer: NDArray[np.float64], labels: Sequence[str]) -> Estimate:
    """Arms of shape (runs, prompts): over prompts and runs where there are two runs, else over prompts."""
    if len(all_of_them) > 1:
        return intervals.two_way(all_of_them, fewer, labels)
    return estimates.mean((all_of_them - fewer)[0], labels)


_CURVE = TypeAdapter(SizeCurve)


def read_size_curve(run: Run) -> SizeCurve | None:
    """The curve that ends in ``run``; None where it is of none. Raises ``RunError`` for a file that is damaged."""
    if not run.size_curve_path.exists():
        return None
    try:
        return _CURVE.validate_python(read_json(run.size_curve_path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{run.size_curve_path}: {where}: {first['msg']}; write it again: sft curve RECIPE --output "
            f"{run.path.parent}"
        ) from None
