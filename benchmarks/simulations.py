"""Whether the statistics keep their promises: type I error, coverage and power, at the sizes users have.

    make bench-statistics                                 # this, and benchmarks/planted.py
    python benchmarks/simulations.py --only AUC --repeats 4000

Every row calls `sft.metrics.intervals` on many simulated sets whose truth is known and prints how often the promise was
kept, in percent. Rows in italics are what people do instead. The clusters of "20 x 5" and "unequal" share half of
the variance. The file is not called `statistics.py`: scripts beside it would then import it as Python's own.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sft.fidelity import guardrails
from sft.fidelity.conventions import GUARDRAIL_LIMITS, LENGTH_LIMITS
from sft.fidelity.scorecard import Guardrail
from sft.metrics import intervals
from sft.metrics.estimate import Estimate

Labels = NDArray[np.intp]
Draw = np.random.Generator
#: Gives one trial on one simulated set: 1.0 or 0.0, or nan where it does not apply.
Trial = Callable[[Draw, Labels, int], float]

SIZES: dict[str, Labels] = {
    "n = 15": np.arange(15),
    "n = 30": np.arange(30),
    "n = 100": np.arange(100),
    "20 x 5": np.repeat(np.arange(20), 5),
    "unequal": np.repeat(np.arange(20), [1] * 8 + [3] * 6 + [8] * 4 + [16, 20]),
}
#: Draws of a randomisation test here (9,999 in earnest), so that the table takes minutes.
DRAWS = 999


def normal(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """Values of mean 0 and variance 1; where several share a cluster, half of the variance is the cluster's."""
    count = int(labels.max()) + 1
    if count == labels.size:
        return draw.normal(size=count)
    return (draw.normal(size=count)[labels] + draw.normal(size=labels.size)) / np.sqrt(2)


def skewed(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """The same with a long tail to the right: exponential, skewness 2."""
    return -np.log(special.ndtr(-normal(draw, labels))) - 1


def binary(draw: Draw, labels: Labels, share: float) -> NDArray[np.float64]:
    """Zeros and ones, alike within a cluster."""
    return (normal(draw, labels) < special.ndtri(share)).astype(float)


#: Truths that are had by simulation, once a size.
AVERAGES: dict[tuple[str, bytes], float] = {}


def averaged(name: str, labels: Labels, repeats: int, figure: Callable[[Draw], float]) -> float:
    key = name, labels.tobytes()
    if key not in AVERAGES:
        draw = np.random.default_rng(0)
        AVERAGES[key] = float(np.mean([figure(draw) for _ in range(repeats)]))
    return AVERAGES[key]


def holds(interval: Estimate, truth: float) -> float:
    if interval.low is None or interval.high is None:
        return float("nan")
    return float(interval.low <= truth <= interval.high)


def redrawn(draw: Draw, labels: Labels, draws: int) -> NDArray[np.float64]:
    """How often each cluster is redrawn, shape (draws, clusters)."""
    count = int(labels.max()) + 1
    return draw.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


# -- coverage of 95 % intervals -------------------------------------------------------------------------------


def mean_t(draw: Draw, labels: Labels, seed: int) -> float:
    return holds(intervals.clustered_t(normal(draw, labels), labels), 0)


def mean_t_skewed(draw: Draw, labels: Labels, seed: int) -> float:
    return holds(intervals.clustered_t(skewed(draw, labels), labels), 0)


def mean_naive(draw: Draw, labels: Labels, seed: int) -> float:
    return holds(intervals.clustered_t(normal(draw, labels)), 0)


def mean_percentile(draw: Draw, labels: Labels, seed: int) -> float:
    values = normal(draw, labels)
    columns = [values, np.ones(labels.size)]
    return holds(intervals.cluster_bootstrap(columns, lambda s: s[:, 0] / s[:, 1], labels, seed=seed % 3), 0)


def wilson(share: float) -> Trial:
    return lambda draw, labels, seed: holds(intervals.clustered_wilson(binary(draw, labels, share), labels), share)


def wald(draw: Draw, labels: Labels, seed: int) -> float:
    hits = binary(draw, labels, 0.9)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / hits.size)
    return float(abs(hits.mean() - 0.9) <= half)


def sizes_and_nats(draw: Draw, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bytes, from 1 to a few hundred, and nats, 0.6 a byte on average."""
    sizes = np.ceil(40 * np.exp(0.8 * normal(draw, labels)))
    return sizes * 0.6 * np.exp(0.4 * normal(draw, labels) - 0.08), sizes


def ratio_bootstrap(draw: Draw, labels: Labels, seed: int) -> float:
    nats, sizes = sizes_and_nats(draw, labels)
    interval = intervals.cluster_bootstrap([nats, sizes], lambda s: s[:, 0] / s[:, 1], labels, seed=seed % 3)
    return holds(interval, 0.6)


def ratio_fieller(draw: Draw, labels: Labels, seed: int) -> float:
    return holds(intervals.fieller(*sizes_and_nats(draw, labels), labels), 0.6)


def gap(draw: Draw, labels: Labels, clear: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a clone closes (half) of the distance to another expert, which is ``clear`` standard errors wide."""
    distance = clear * np.sqrt(true_variance(labels)) + normal(draw, labels)
    return 0.5 * distance + 0.7 * normal(draw, labels), distance


def true_variance(labels: Labels) -> float:
    """Variance of the mean of :func:`normal`."""
    sizes = np.bincount(labels)
    alone = sizes.size == labels.size
    return float(1 / labels.size if alone else (0.5 * np.sum(sizes**2) + 0.5 * labels.size) / labels.size**2)


def share_fieller(clear: float) -> Trial:
    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        closed, distance = gap(draw, labels, clear)
        interval = intervals.fieller(closed, distance, labels)
        # Without bounds the set is still what is not rejected.
        return holds(
            interval if interval.low is not None else intervals.clustered_t(closed - distance / 2, labels),
            0.5 if interval.low is not None else 0,
        )

    return trial


def share_bounded(draw: Draw, labels: Labels, seed: int) -> float:
    return float(intervals.fieller(*gap(draw, labels, 2.5), labels).low is not None)


def share_quotient(draw: Draw, labels: Labels, seed: int) -> float:
    columns = list(gap(draw, labels, 2.5))
    return holds(intervals.cluster_bootstrap(columns, lambda s: s[:, 0] / s[:, 1], labels, seed=seed % 3), 0.5)


def scores(draw: Draw, labels: Labels, area: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A classifier's scores of two texts a prompt, which share a third of their variance."""
    common = normal(draw, labels)
    first, second = (common / np.sqrt(3) + np.sqrt(2 / 3) * normal(draw, labels) for _ in range(2))
    # Between prompts everything differs: the difference of two scores has variance 2.
    return first + np.sqrt(2) * special.ndtri(area), second


def area(value: float) -> Trial:
    return lambda draw, labels, seed: holds(intervals.auc(*scores(draw, labels, value), labels), value)


def area_percentile(draw: Draw, labels: Labels, seed: int) -> float:
    up, down = scores(draw, labels, 0.95)
    member = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)
    wins = member.T @ (up[:, None] > down).astype(float) @ member
    weights, sizes = redrawn(draw, labels, 600), member.sum(axis=0)
    low, high = np.quantile(((weights @ wins) * weights).sum(axis=1) / (weights @ sizes) ** 2, [0.025, 0.975])
    return float(low <= 0.95 <= high)


WORDS = 1 / np.arange(1, 2_001)
WORDS /= WORDS.sum()


def texts(draw: Draw, labels: Labels) -> NDArray[np.intp]:
    """Twelve words a text, Zipf's law; texts of a cluster share a favourite word."""
    found = draw.choice(WORDS.size, size=(labels.size, 12), p=WORDS)
    found[:, 0] = draw.integers(0, WORDS.size, size=int(labels.max()) + 1)[labels]
    return found


def distinct(found: NDArray[np.intp]) -> float:
    return np.unique(found).size / found.size


def mean_distinct(labels: Labels) -> float:
    """The truth: its mean over sets of this size."""
    return averaged("distinct", labels, 3_000, lambda draw: distinct(texts(draw, labels)))


def jackknife_distinct(draw: Draw, labels: Labels, seed: int) -> float:
    found = texts(draw, labels)
    return holds(intervals.grouped_jackknife(lambda kept: distinct(found[kept]), labels), mean_distinct(labels))


def bootstrap_distinct(draw: Draw, labels: Labels, seed: int) -> float:
    found = texts(draw, labels)
    weights = redrawn(draw, labels, 60).astype(int)
    figures = [distinct(np.repeat(found, w[labels], axis=0)) for w in weights]
    low, high = np.quantile(figures, [0.025, 0.975])
    return float(low <= mean_distinct(labels) <= high)


def jackknife_ratio(draw: Draw, labels: Labels, seed: int) -> float:
    nats, sizes = sizes_and_nats(draw, labels)
    return holds(intervals.grouped_jackknife(lambda k: float(nats[k].sum() / sizes[k].sum()), labels), 0.6)


def survival(draw: Draw, labels: Labels, seed: int) -> float:
    """Leaving the path at 8 % a token, completions ending at 12 % a token: the share left after five tokens."""
    if np.bincount(labels).max() > 1:
        return float("nan")
    leaves, ends = draw.geometric(0.08, labels.size), draw.geometric(0.12, labels.size)
    steps = intervals.kaplan_meier(np.minimum(leaves, ends).tolist(), (leaves <= ends).tolist(), limit=5)
    return float(steps[-1].low <= 0.92**5 <= steps[-1].high) if len(steps) == 5 else float("nan")


# -- type I error at 5 % --------------------------------------------------------------------------------------


def flip(
    noise: Callable[[Draw, Labels], NDArray[np.float64]], *, two_sided: bool = False, blind: bool = False
) -> Trial:
    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        values, known = noise(draw, labels), None if blind else labels
        return float(intervals.sign_flip(values, known, two_sided=two_sided, seed=seed % 3, draws=DRAWS) <= 0.05)

    return trial


def symmetric_tail(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """Differences of two skewed scores: long tails on both sides."""
    return skewed(draw, labels) - skewed(draw, labels)


def mirrored(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """The worst case for a claim of a gain: mostly a little better, now and then far worse."""
    return -skewed(draw, labels)


def heavy(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """A longer tail: minus a lognormal of mean 1.65, skewness 6."""
    return np.exp(0.5) - np.exp(normal(draw, labels))


def disasters(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """One point gained on every prompt, and 19 lost on one in twenty, which is no gain."""
    return np.where(normal(draw, labels) < special.ndtri(0.05), -19.0, 1.0)


def blurred(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """The same with noise of a standard deviation of 1."""
    return disasters(draw, labels) + normal(draw, labels)


def rule(
    gain: Callable[[Labels], float], noise: Callable[[Draw, Labels], NDArray[np.float64]] = normal, *, skew: bool = True
) -> Trial:
    """The verdict's: 95 % interval above 0, the one-sided sign-flip test at 5 % and, with ``skew``, Hall's at 2.5 %.

    ``gain``: the true mean.
    """

    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        values = noise(draw, labels) + gain(labels)
        low = intervals.clustered_t(values, labels).low
        if low is None or low <= 0:
            return 0.0
        if skew and (intervals.hall_p(values, labels) or 0.0) > 0.025:
            return 0.0
        return float(intervals.sign_flip(values, labels, seed=seed % 3, draws=DRAWS) <= 0.05)

    return trial


def pairs(draw: Draw, labels: Labels) -> NDArray[np.float64]:
    """Differences of two systems' right (1) and wrong (0), equally good: 30 % of the pairs are discordant."""
    return binary(draw, labels, 0.15) - (normal(draw, labels) > special.ndtri(0.85)).astype(float)


def mcnemar(one_sided: bool) -> Trial:
    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        found = pairs(draw, labels)
        p_value = intervals.mcnemar_mid_p(int((found > 0).sum()), int((found < 0).sum()), one_sided=one_sided)
        return float(p_value <= 0.05)

    return trial


def family(adjust: bool) -> Trial:
    """Four clones of one quality, compared two by two: any of six tests rejects."""

    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        systems = [normal(draw, labels) for _ in range(4)]
        p_values = [
            intervals.sign_flip(a - b, labels, two_sided=True, seed=seed % 3, draws=DRAWS)
            for a, b in itertools.combinations(systems, 2)
        ]
        return float(min(intervals.holm(p_values) if adjust else p_values) <= 0.05)

    return trial


def less_often(both: bool) -> Trial:
    """A clone as often right as B0 and B3 is called right less often: than either, by Holm, or than the better one."""

    def trial(draw: Draw, labels: Labels, seed: int) -> float:
        if labels.max() + 1 < labels.size:
            return np.nan
        chances = draw.beta(2, 2, labels.size)
        clone, *bases = ((draw.random(labels.size) < chances).astype(float) for _ in range(3))
        held = [clone - base for base in bases] if both else [clone - max(bases, key=np.sum)]
        p_values = [intervals.mcnemar_mid_p(int((d < 0).sum()), int((d > 0).sum())) for d in held]
        return float(any(p <= 0.05 and d.sum() < 0 for p, d in zip(intervals.holm(p_values), held, strict=True)))

    return trial


def area_below(draw: Draw, labels: Labels, seed: int) -> float:
    """An impostor test that calls 0.60 "below 0.60" (one end of a 95 % interval: 2.5 %)."""
    interval = intervals.auc(*scores(draw, labels, 0.6), labels)
    return float(interval.high is not None and interval.high < 0.6)


# -- power ----------------------------------------------------------------------------------------------------


def printed(labels: Labels) -> float:
    """The smallest visible gain that is printed for such sets, on average."""
    return averaged(
        "printed", labels, 1_000, lambda draw: intervals.smallest_visible_gain(normal(draw, labels), labels) or 0.0
    )


def former(labels: Labels) -> float:
    """The one-sided test's 2.487 standard errors, as printed before."""
    return averaged(
        "former", labels, 1_000, lambda draw: 2.487 * (intervals.standard_error(normal(draw, labels), labels) or 0.0)
    )


# -- guardrails: which state comes out at which true rate or ratio ------------------------------------------------

#: Prompts of the sets that guardrails are tried on; in clusters of five the prompts share half of the variance.
GUARDED = {
    "n = 30": np.arange(30),
    "n = 100": np.arange(100),
    "n = 300": np.arange(300),
    "60 x 5": np.repeat(np.arange(60), 5),
}


def share_state(share: float, limit: float) -> Callable[[Draw, Labels], str]:
    def state(draw: Draw, labels: Labels) -> str:
        flags = binary(draw, labels, share) if share else np.zeros(labels.size)
        found = intervals.clustered_wilson(flags, labels)
        rail = Guardrail("empty", found, limit, guardrails.state_of(found, limit), "")
        return "none seen" if guardrails.unseen(rail) else rail.state

    return state


def length_state(ratio: float) -> Callable[[Draw, Labels], str]:
    """Lengths of expert and clone of one prompt, lognormal of spread 0.5, that share half of their variance."""
    least, most = LENGTH_LIMITS

    def state(draw: Draw, labels: Labels) -> str:
        prompt, expert, clone = (normal(draw, labels) for _ in range(3))
        theirs = np.exp(0.35 * (prompt + expert))
        ours = ratio * np.exp(0.35 * (prompt + clone))
        return guardrails.state_of(intervals.fieller(ours, theirs, labels), most, least)

    return state


def rise_state(rise: float) -> Callable[[Draw, Labels], str]:
    """Nats of both policies on windows of plain text; the clone's are ``rise`` more, give or take a tenth a window."""

    def state(draw: Draw, labels: Labels) -> str:
        base = 200 * np.exp(0.2 * normal(draw, labels))
        after = base * (1 + rise + 0.1 * normal(draw, labels))
        return guardrails.state_of(intervals.fieller(after - base, base, labels), GUARDRAIL_LIMITS["forgetting"])

    return state


def guardrail_rows() -> Iterator[tuple[str, Callable[[Draw, Labels], str]]]:
    for name, shares in (
        ("not stopping", (0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15)),
        ("empty", (0, 0.001, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)),
    ):
        limit = GUARDRAIL_LIMITS[name]
        for share in shares:
            yield f"guardrail {name}, limit {100 * limit:g} %: true {100 * share:g} %", share_state(share, limit)
    for ratio in (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4):
        yield f"guardrail length, limits 0.8 to 1.25: true {ratio:g}", length_state(ratio)
    for rise in (0, 0.025, 0.05, 0.075, 0.1):
        yield f"guardrail forgetting (windows), limit 5 %: true {100 * rise:g} %", rise_state(rise)


STATES = ("red", "amber", "none seen", "green")


def guardrail_lines(repeats: int, only: str) -> Iterator[str]:
    chosen = [(name, state) for name, state in guardrail_rows() if only.lower() in name]
    if chosen:
        yield "\n## Guardrails: red / amber / none seen / green, in % of the sets"
        yield f"\n| | {' | '.join(GUARDED)} |\n|---|{'---|' * len(GUARDED)}"
    for name, state in chosen:
        cells = []
        for labels in GUARDED.values():
            draw = np.random.default_rng([zlib.crc32(name.encode()), labels.size, int(labels.max())])
            found = [state(draw, labels) for _ in range(repeats)]
            cells.append(" / ".join(f"{100 * found.count(s) / repeats:.1f}" for s in STATES))
        yield f"| {name.removeprefix('guardrail ')} | {' | '.join(cells)} |"


Rows = list[tuple[str, Trial]]
COVERAGE: Rows = [
    ("mean: clustered t", mean_t),
    ("mean, skewed: clustered t", mean_t_skewed),
    ("*mean: t that ignores clusters*", mean_naive),
    ("*mean: percentile bootstrap over clusters*", mean_percentile),
    ("share 0.5: Wilson", wilson(0.5)),
    ("share 0.9: Wilson", wilson(0.9)),
    ("*share 0.9: Wald, ignores clusters*", wald),
    ("sum over sum: cluster bootstrap", ratio_bootstrap),
    ("sum over sum: Fieller", ratio_fieller),
    ("sum over sum: jackknife", jackknife_ratio),
    ("share of a gap of 6 SE: Fieller", share_fieller(6)),
    ("share of a gap of 2.5 SE: Fieller", share_fieller(2.5)),
    ("(of these, with bounds)", share_bounded),
    ("*share of a gap of 2.5 SE: bootstrapped quotient*", share_quotient),
    ("AUC 0.50: logit t", area(0.5)),
    ("AUC 0.75: logit t", area(0.75)),
    ("AUC 0.95: logit t", area(0.95)),
    ("*AUC 0.95: percentile bootstrap over clusters*", area_percentile),
    ("distinct words: jackknife", jackknife_distinct),
    ("*distinct words: bootstrap over clusters*", bootstrap_distinct),
    ("survival after 5 tokens: Greenwood log-log", survival),
]
TYPE_ONE: Rows = [
    ("sign-flip, one-sided", flip(normal)),
    ("sign-flip, one-sided, long tails", flip(symmetric_tail)),
    ("sign-flip, one-sided, on exponential differences (it assumes symmetry)", flip(mirrored)),
    ("sign-flip, two-sided", flip(normal, two_sided=True)),
    ("*sign-flip that ignores clusters*", flip(normal, blind=True)),
    ("the verdict's rule (promise: 2.5)", rule(lambda labels: 0.0)),
    ("the verdict's rule, exponential differences (promise: 2.5)", rule(lambda labels: 0.0, mirrored)),
    ("*the same without Hall's test*", rule(lambda labels: 0.0, mirrored, skew=False)),
    ("the verdict's rule, lognormal differences (promise: 2.5)", rule(lambda labels: 0.0, heavy)),
    ("*the same without Hall's test, lognormal*", rule(lambda labels: 0.0, heavy, skew=False)),
    ("the verdict's rule, one point each and 19 lost in one prompt of 20", rule(lambda labels: 0.0, disasters)),
    ("*the same without Hall's test, lost in one of 20*", rule(lambda labels: 0.0, disasters, skew=False)),
    (
        "the verdict's rule, that with noise, which no test sees in a sample that has none",
        rule(lambda labels: 0.0, blurred),
    ),
    ("McNemar mid-p, two-sided (knows no clusters)", mcnemar(False)),
    ("McNemar mid-p, one-sided (knows no clusters)", mcnemar(True)),
    ("sign-flip, one-sided, on the same pairs", flip(pairs)),
    ("six comparisons: Holm over two-sided sign-flip", family(True)),
    ("*six comparisons, uncorrected*", family(False)),
    ("AUC 0.60 called below 0.60 (promise: 2.5)", area_below),
    ("right less often than a base: Holm over both (promise: 2.5)", less_often(True)),
    ("*right less often than the better base on the same prompts*", less_often(False)),
]
POWER: Rows = [
    ("gain as printed (noncentral t): the verdict's rule", rule(printed)),
    ("*gain of 2.487 SE: the verdict's rule*", rule(former)),
    ("*the same without Hall's test, gain as printed*", rule(printed, skew=False)),
    ("gain as printed, exponential differences: the verdict's rule", rule(printed, mirrored)),
    ("*the same without Hall's test, exponential*", rule(printed, mirrored, skew=False)),
    ("gain of 0.3 SD: the verdict's rule", rule(lambda labels: 0.3)),
    ("gain of 0.5 SD: the verdict's rule", rule(lambda labels: 0.5)),
]
TABLES = {
    "Coverage of 95 % intervals, in % (promise: 95)": COVERAGE,
    "Type I error at the 5 % level, in % (promise: at most 5)": TYPE_ONE,
    "Power, in % (promise of the printed gain: 80)": POWER,
}


def rate(name: str, trial: Trial, labels: Labels, repeats: int) -> str:
    draw = np.random.default_rng([zlib.crc32(name.encode()), labels.size, int(labels.max())])
    found = np.array([trial(draw, labels, seed) for seed in range(repeats)])
    return "-" if np.isnan(found).all() else f"{100 * np.nanmean(found):.1f}"


def lines(repeats: int, only: str) -> Iterator[str]:
    for title, rows in TABLES.items():
        chosen = [(name, trial) for name, trial in rows if only.lower() in name.lower()]
        if chosen:
            yield f"\n## {title}\n\n| | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}"
        for name, trial in chosen:
            yield f"| {name} | {' | '.join(rate(name, trial, labels, repeats) for labels in SIZES.values())} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=2_000, help="simulated sets a figure")
    options.add_argument("--only", default="", help="rows whose name contains this")
    given = options.parse_args()
    began = time.perf_counter()
    for line in itertools.chain(lines(given.repeats, given.only), guardrail_lines(given.repeats, given.only)):
        print(line, flush=True)
    error = 100 * np.sqrt(0.05 * 0.95 / given.repeats)
    print(
        f"\n{given.repeats:,} sets a figure: standard error {error:.1f} at 5 or 95 %. "
        f"{time.perf_counter() - began:.0f} s on one of {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
