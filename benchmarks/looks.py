"""How often one of several clones passes a limit that none of them is beyond, by the luck of the prompts they share.

    python benchmarks/looks.py --worlds 4000

Every clone lies exactly at the limit of one part of the top rung, or has learned nothing, and half of the variance of
what it writes is the prompts' own, so that clones are lucky on the same ones. One after the other is judged, as
`sft evaluate` does: the k-th at 95 %, or at the level 1 - 5 %/k that k clones ask. Shown is the share of worlds in
which one of the first k has passed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sft.fidelity.conventions import CLONED_AUC, CLONED_CHECKED, CLONED_LENGTH, CLONED_STOP, LEVEL
from sft.metrics import intervals

Floats = NDArray[np.float64]
Draw = np.random.Generator
#: (a generator, what the prompts have in common, level) -> whether a clone at the limit passes at that level.
Part = Callable[[Draw, Floats, tuple[float, ...]], list[bool]]
CLONES = (1, 3, 5, 10)


def own(draw: Draw, common: Floats) -> Floats:
    """A clone's values, standard normal, half of whose variance is the prompts' own."""
    return (common + draw.normal(size=common.size)) / np.sqrt(2)


def gain(draw: Draw, common: Floats, levels: tuple[float, ...]) -> list[bool]:
    values = own(draw, common)
    return [(intervals.clustered_t(values, level=level).low or 0) > 0 for level in levels]


def classifier(draw: Draw, common: Floats, levels: tuple[float, ...]) -> list[bool]:
    """Scores of the clone's texts and of the experts', whose area is the limit."""
    ours = own(draw, common) + np.sqrt(2) * special.ndtri(CLONED_AUC)
    theirs = draw.normal(size=common.size)
    found = (intervals.auc(ours, theirs, level=level).high for level in levels)
    return [high is not None and high < CLONED_AUC for high in found]


def stops(draw: Draw, common: Floats, levels: tuple[float, ...]) -> list[bool]:
    flags = (own(draw, common) < special.ndtri(CLONED_STOP)).astype(float)
    return [(intervals.clustered_wilson(flags, level=level).low or 0) >= CLONED_STOP for level in levels]


def length(draw: Draw, common: Floats, levels: tuple[float, ...]) -> list[bool]:
    """Lengths of spread 0.35, shorter than the expert's by as much as is allowed."""
    theirs = np.exp(0.35 * draw.normal(size=common.size))
    ours = CLONED_LENGTH[0] * theirs * np.exp(0.35 * own(draw, common) - 0.35**2 / 2)
    found = [intervals.fieller(ours, theirs, level=level) for level in levels]
    return [(f.low or 0) >= CLONED_LENGTH[0] and (f.high or 9) <= CLONED_LENGTH[1] for f in found]


def checker(draw: Draw, common: Floats, levels: tuple[float, ...]) -> list[bool]:
    """Right less often than another expert by as many points as are allowed; both right in seven of ten."""
    theirs = draw.normal(size=common.size) < special.ndtri(0.7)
    ours = own(draw, common) < special.ndtri(0.7 - CLONED_CHECKED / 100)
    differences = 100.0 * (ours.astype(float) - theirs)
    return [(intervals.clustered_t(differences, level=level).low or -99) >= -CLONED_CHECKED for level in levels]


PARTS: dict[str, Part] = {
    "gain: learned nothing": gain,
    f"classifier: AUC of {CLONED_AUC:.2f}": classifier,
    f"stops: {CLONED_STOP:.0%}": stops,
    f"length: {CLONED_LENGTH[0]:g} of the expert's": length,
    f"checker: {CLONED_CHECKED:g} points behind": checker,
}


def rates(part: Part, prompts: int, worlds: int, seed: int) -> tuple[list[float], list[float]]:
    """Share of worlds in which one of the first k clones has passed, for each k: at 95 %, and corrected."""
    draw = np.random.default_rng([seed, prompts])
    passed = np.zeros((2, worlds, max(CLONES)), dtype=bool)
    for world in range(worlds):
        common = draw.normal(size=prompts)
        for number in range(max(CLONES)):
            passed[:, world, number] = part(draw, common, (1 - LEVEL, 1 - LEVEL / (number + 1)))
    ever = np.logical_or.accumulate(passed, axis=2).mean(axis=1)
    plain, corrected = ([float(row[k - 1]) for k in CLONES] for row in ever)
    return plain, corrected


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--worlds", type=int, default=2_000)
    options.add_argument("--prompts", type=int, nargs="+", default=[100, 300])
    given = options.parse_args()
    for prompts in given.prompts:
        print(f"\n{prompts} prompts, {given.worlds:,} worlds: % in which one of the first 1, 3, 5, 10 clones passed\n")
        print("| every clone lies at | at 95 % each | at the level of k clones |\n|---|---|---|")
        for seed, (name, part) in enumerate(PARTS.items()):
            cells = (
                " / ".join(f"{100 * rate:.1f}" for rate in row) for row in rates(part, prompts, given.worlds, seed)
            )
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
