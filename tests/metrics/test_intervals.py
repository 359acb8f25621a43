"""Intervals and tests against outside values, a second definition, and their promised coverage."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from sft.metrics import intervals

#: Twenty clusters of 1 to 20.
UNEQUAL = np.repeat(np.arange(20), [1] * 8 + [3] * 6 + [8] * 4 + [16, 20])


def test_twenty_of_twenty_is_not_certainty() -> None:
    """A bootstrap says [1, 1] here; Wilson's interval is [0.84, 1.00]."""
    interval = intervals.wilson(20, 20)
    assert (interval.low, interval.high) == (pytest.approx(0.8389, abs=1e-4), 1.0)


@pytest.mark.parametrize("hits, n", [(0, 7), (1, 10), (81, 263), (15, 148), (29, 29)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    outside = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    ours = intervals.wilson(hits, n)
    assert (ours.low, ours.high) == pytest.approx((outside.low, outside.high), abs=1e-12)


def test_wilson_is_newcombes_table() -> None:
    """Newcombe (1998), table I, method 3."""
    for (hits, n), bounds in {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}.items():
        interval = intervals.wilson(hits, n)
        assert (interval.low, interval.high) == pytest.approx(bounds, abs=5e-5)


@pytest.mark.parametrize("hits, n", [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a share"):
        intervals.wilson(hits, n)


def test_singletons_give_the_textbook_t() -> None:
    values = np.random.default_rng(0).normal(size=17)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = intervals.clustered_t(values)
    assert (interval.low, interval.high, interval.method) == (pytest.approx(low), pytest.approx(high), "t")
    assert intervals.clustered_t(np.arange(300.0)).method == "t"


def test_equal_clusters_give_the_t_of_cluster_means() -> None:
    """Second definition: with clusters of one size only their means matter."""
    values = np.random.default_rng(1).normal(size=(12, 4))
    labels = [g for g in range(12) for _ in range(4)]
    low, high = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    interval = intervals.clustered_t(values.ravel(), labels)
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    assert interval.method == "clustered t, 12 clusters"


def cr2_by_matrices(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Bell & McCaffrey (2002) as printed, with matrix roots: variance and degrees of freedom."""
    n = values.size
    ones = np.ones((n, 1))
    hat = ones @ ones.T / n
    maker = np.eye(n) - hat
    weights = []
    for label in np.unique(labels):
        member = labels == label
        block = np.eye(member.sum()) - hat[np.ix_(member, member)]
        eigenvalues, vectors = np.linalg.eigh(block)
        root = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
        weights.append(maker[:, member] @ root @ ones[member] / n)
    stacked = np.hstack(weights)
    gram = stacked.T @ stacked
    return float(((stacked.T @ values) ** 2).sum()), float(np.trace(gram) ** 2 / np.trace(gram @ gram))


def test_unequal_clusters_follow_the_matrix_definition() -> None:
    generator = np.random.default_rng(2)
    labels = np.repeat(np.arange(9), [1, 2, 3, 11, 1, 5, 2, 7, 4])
    values = generator.normal(size=labels.size) + generator.normal(size=9)[labels]
    variance, freedom = cr2_by_matrices(values, labels)
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    interval = intervals.clustered_t(values, labels.tolist())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert freedom < 8


def test_coverage_with_twenty_clusters_of_five() -> None:
    """The naive interval covers three times in four; the clustered one keeps its word."""
    generator = np.random.default_rng(3)
    labels = [g for g in range(20) for _ in range(5)]
    clustered = naive = 0
    for _ in range(2_000):
        values = (generator.normal(size=(20, 1)) + generator.normal(size=(20, 5))).ravel()
        wide, narrow = intervals.clustered_t(values, labels), intervals.clustered_t(values)
        clustered += wide.low < 0 < wide.high  # type: ignore[operator]
        naive += narrow.low < 0 < narrow.high  # type: ignore[operator]
    assert 0.93 <= clustered / 2_000 <= 0.965
    assert naive / 2_000 < 0.82


def test_coverage_with_unequal_clusters() -> None:
    generator = np.random.default_rng(4)
    labels = np.repeat(np.arange(15), [1] * 9 + [4, 4, 6, 8, 10, 20])
    covered = 0
    for _ in range(1_500):
        values = generator.normal(size=15)[labels] * 0.5 + generator.normal(size=labels.size)
        interval = intervals.clustered_t(values, labels.tolist())
        covered += interval.low < 0 < interval.high  # type: ignore[operator]
    assert covered / 1_500 >= 0.92


def test_one_cluster_has_no_interval() -> None:
    for interval in (
        intervals.clustered_t([1.0, 2.0, 3.0], ["a", "a", "a"]),
        intervals.clustered_wilson([1, 0, 1], ["a", "a", "a"]),
        intervals.cluster_bootstrap([[1.0, 2.0]], lambda s: s[:, 0], ["a", "a"]),
    ):
        assert interval.low is None and interval.high is None
        assert "one cluster" in interval.method
    assert intervals.smallest_visible_gain([1.0, 2.0], ["a", "a"]) is None


def test_the_standard_error_is_the_textbook_s_and_one_cluster_has_none() -> None:
    """Two values are enough for one, two clusters too; of one cluster nothing is known."""
    assert intervals.standard_error([0.0, 2.0]) == pytest.approx(1.0)
    values = np.random.default_rng(23).normal(size=17)
    assert intervals.standard_error(values) == pytest.approx(stats.sem(values))
    assert intervals.standard_error([0.0, 0.0, 2.0, 2.0], list("aabb")) == pytest.approx(1.0)
    assert intervals.standard_error([5.0]) is None
    assert intervals.standard_error([0.0, 2.0], ["a", "a"]) is None


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_another_level_is_the_level_that_was_asked_for(level: float) -> None:
    """Each interval is as wide as its quantile says, and carries its level, its size and how it was made."""
    generator = np.random.default_rng(24)
    values = generator.normal(1, 1, size=30)
    t = intervals.clustered_t(values, level=level)
    outside = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (t.low, t.high, t.level, t.n) == (pytest.approx(outside.low), pytest.approx(outside.high), level, 30)
    wilson = intervals.wilson(12, 30, level)
    proportion = stats.binomtest(12, 30).proportion_ci(level, method="wilson")
    assert (wilson.low, wilson.high) == pytest.approx((proportion.low, proportion.high))
    assert (wilson.level, wilson.n, wilson.value) == (level, 30, 0.4)
    pairs = intervals.clustered_wilson([1, 1, 0, 0, 1, 1] * 5, np.arange(30) // 2, level)
    whole, groups = stats.t.ppf(0.5 + level / 2, [29, 14])
    size = 14 / 29 * 30 * (whole / groups) ** 2  # each pair agrees with itself, as in the test of clusters above
    smaller = intervals.wilson(size * 2 / 3, size, level)
    assert (pairs.low, pairs.high, pairs.level, pairs.n) == (
        pytest.approx(smaller.low), pytest.approx(smaller.high), level, 30
    )  # fmt: skip
    left = intervals.grouped_jackknife(lambda kept: float(values[kept].mean()), list(range(30)), level=level)
    assert (left.low, left.high, left.level, left.n) == (pytest.approx(t.low), pytest.approx(t.high), level, 30)
    ratio = intervals.fieller(values, np.ones(30), level=level)
    assert (ratio.low, ratio.high, ratio.level, ratio.n) == (pytest.approx(t.low), pytest.approx(t.high), level, 30)
    drawn = intervals.cluster_bootstrap([values], lambda s: s[:, 0] / 30, level=level, draws=4_000)
    assert drawn.high - drawn.low == pytest.approx(t.high - t.low, rel=0.15)  # type: ignore[operator]
    assert (drawn.level, drawn.n, drawn.value) == (level, 30, pytest.approx(values.mean()))
    area = intervals.auc(values, generator.normal(size=30), level=level)
    usual = intervals.auc(values, generator.normal(size=30))
    assert (area.level, area.n, usual.level) == (level, 30, 0.95)
    curve = intervals.kaplan_meier([3] * 20, [False] * 20, level)
    assert curve[0].low == pytest.approx(intervals.wilson(20, 20, level).low)


def test_the_auc_s_width_follows_the_t_quantile_of_its_level() -> None:
    up, down = np.random.default_rng(25).normal([[1.0], [0.0]], size=(2, 40))
    wide, narrow = (intervals.auc(up, down, level=level) for level in (0.95, 0.6))
    halves = [np.log(i.high / (1 - i.high)) - np.log(i.low / (1 - i.low)) for i in (wide, narrow)]  # type: ignore[operator]
    assert halves[0] / halves[1] == pytest.approx(stats.t.ppf(0.975, 39) / stats.t.ppf(0.8, 39))


def test_the_visible_gain_of_another_level_and_power() -> None:
    values = np.random.default_rng(26).normal(size=40)
    seen = intervals.smallest_visible_gain(values, level=0.9, power=0.6)
    noncentrality = seen / stats.sem(values)  # type: ignore[operator]
    assert stats.nct.sf(stats.t.ppf(0.95, 39), 39, noncentrality) == pytest.approx(0.6)


def test_numbers_or_words_for_clusters_are_the_same() -> None:
    values = np.random.default_rng(27).normal(size=12)
    numbers = np.array([7, 7, 3, 3, 3, 9, 9, 1, 1, 1, 1, 4])
    for labels in (numbers, numbers.tolist(), [f"group {n}" for n in numbers]):
        found = intervals.clustered_t(values, labels)
        assert (found.low, found.high) == pytest.approx(
            (intervals.clustered_t(values, numbers).low, intervals.clustered_t(values, numbers).high)
        )
        assert found.method == "clustered t, 5 clusters"


def test_two_clusters_are_few_and_enough() -> None:
    """One degree of freedom: a wide interval, and no refusal. By hand, and in every kind of interval."""
    quantile = stats.t.ppf(0.975, 1)
    for values, labels in ((np.array([0.0, 2.0]), None), (np.array([0.0, 0.0, 2.0, 2.0]), list("aabb"))):
        found = intervals.clustered_t(values, labels)
        assert (found.low, found.high) == pytest.approx((1 - quantile, 1 + quantile))
        assert intervals.clustered_wilson([0, 0, 1, 1], list("aabb")).low is not None
        left = intervals.grouped_jackknife(lambda k, v=values: float(v[k].mean()), labels or [0, 1])
        assert (left.low, left.high) == pytest.approx((found.low, found.high))
    ratio = intervals.fieller([4.0, 4.4], [2.0, 2.0])
    assert (ratio.low, ratio.high) == pytest.approx((2.1 - 0.1 * quantile, 2.1 + 0.1 * quantile))
    drawn = intervals.cluster_bootstrap([[0.0, 2.0]], lambda s: s[:, 0] / 2)
    assert (drawn.low, drawn.high) == (0.0, 2.0)
    area = intervals.auc([1.0, 3.0], [0.0, 4.0])
    assert area.value == 0.5 and area.low is not None and 0 < area.low < 0.5 < area.high < 1  # type: ignore[operator]
    for hits in (0, 1):
        single = intervals.wilson(hits, 1)
        outside = stats.binomtest(hits, 1).proportion_ci(0.95, method="wilson")
        assert (single.low, single.high) == pytest.approx((outside.low, outside.high))


def test_a_zero_width_says_so() -> None:
    assert "says nothing" in intervals.clustered_t([2.0, 2.0, 2.0]).method
    assert "says nothing" in intervals.auc([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]).method
    for found in (intervals.clustered_t([2.0, 2.1, 2.0]), intervals.auc([1.0, 3.0], [0.0, 4.0])):
        assert "says nothing" not in found.method


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0], [2.0]]])
def test_nonsense_is_refused(values: list) -> None:
    with pytest.raises(ValueError, match="values must be"):
        intervals.clustered_t(values)


def test_labels_must_match_values() -> None:
    with pytest.raises(ValueError, match="3 values but 2 cluster labels"):
        intervals.clustered_t([1.0, 2.0, 3.0], ["a", "b"])


def test_clustered_wilson_loses_size_to_clusters() -> None:
    outcomes = [1, 1, 1, 0, 0, 0] * 10
    alone = intervals.clustered_wilson(outcomes)
    together = intervals.clustered_wilson(outcomes, [i // 3 for i in range(60)])
    plain = intervals.wilson(30, 60)
    assert (alone.low, alone.high) == (plain.low, plain.high)
    # Every cluster agrees with itself, so only the 20 clusters count, and a little less: the design effect
    # is estimated with 19 degrees of freedom, where independent outcomes have 59 (Korn & Graubard 1998).
    size = 19 / 59 * 60 * (stats.t.ppf(0.975, 59) / stats.t.ppf(0.975, 19)) ** 2
    smaller = intervals.wilson(size / 2, size)
    assert (together.low, together.high) == pytest.approx((smaller.low, smaller.high))
    whole = intervals.clustered_wilson([1] * 60, [i // 3 for i in range(60)])
    assert whole.low == intervals.wilson(20, 20).low
    with pytest.raises(ValueError, match="0 or 1"):
        intervals.clustered_wilson([0.5, 1.0])


def test_coverage_of_a_clustered_share() -> None:
    """Twenty unequal clusters, a share of 0.9: 94 % in the long run, 91 % at the design effect's face value."""
    generator = np.random.default_rng(22)
    covered = 0
    for _ in range(1_500):
        latent = generator.normal(size=20)[UNEQUAL] + generator.normal(size=UNEQUAL.size)
        interval = intervals.clustered_wilson((latent < stats.norm.ppf(0.9) * 2**0.5).astype(float), UNEQUAL)
        covered += interval.low <= 0.9 <= interval.high  # type: ignore[operator]
    assert covered / 1_500 >= 0.925


def test_a_paired_difference_of_shares_is_newcombes() -> None:
    """Newcombe (1998, table III): 36 both, 12 only the first, 2 only the second, of 50: 0.20 [0.0569, 0.3404]."""
    ones, others = [1.0] * 48 + [0.0] * 2, [1.0] * 36 + [0.0] * 12 + [1.0] * 2
    found = intervals.share_difference(ones, others)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0569, abs=5e-5), pytest.approx(0.3404, abs=5e-5))
    apart = intervals.share_difference(np.ones(30), np.zeros(30))
    assert apart.value == apart.high == 1 and apart.low is not None and apart.low < 0.9, "a width where all agree"
    assert intervals.share_difference(np.ones(4), np.zeros(4), ["a"] * 4).low is None


@pytest.mark.parametrize("cluster", [1, 5])
@pytest.mark.parametrize(("one", "other"), [(0.02, 0.9), (0.3, 0.5), (0.5, 0.5)])
def test_a_paired_difference_of_shares_is_covered(one: float, other: float, cluster: int) -> None:
    draw, covered = np.random.default_rng(0), 0
    labels = np.arange(100) // cluster
    for _ in range(200):
        shared = draw.normal(size=100 // cluster)[labels]
        uniform = [stats.norm.cdf((shared + draw.normal(size=100)) / np.sqrt(2)) for _ in range(2)]
        found = intervals.share_difference(uniform[0] < one, uniform[1] < other, labels)
        assert found.low is not None and found.high is not None
        covered += found.low <= one - other <= found.high
    assert covered >= 180  # fewer than that has probability 0.001 at 95 %


def test_mid_p_mcnemar_of_fagerland() -> None:
    """Fagerland et al. (2013): airway hyper-responsiveness, 7 against 1 discordant pairs: mid-p 0.039."""
    assert intervals.mcnemar_mid_p(7, 1) == pytest.approx(0.0391, abs=5e-5)
    assert intervals.mcnemar_mid_p(1, 7) == intervals.mcnemar_mid_p(7, 1)
    assert intervals.mcnemar_mid_p(4, 4) == pytest.approx(1.0)
    assert intervals.mcnemar_mid_p(0, 0) == 1.0
    assert intervals.mcnemar_mid_p(0, 6) == pytest.approx(2 * (0.5 * 0.5**6))


def test_sign_flip_enumerates_small_sets() -> None:
    """Second definition, pattern by pattern; and all of one sign gives 2 ** -n."""
    differences = [3.0, 1.0, -2.0, 5.0, 0.5, -0.25, 2.0, 2.0]
    seen = sum(differences)
    patterns = list(product((1, -1), repeat=8))
    extreme = sum(sum(s * d for s, d in zip(p, differences, strict=True)) >= seen for p in patterns)
    assert intervals.sign_flip(differences) == extreme / 256
    assert intervals.sign_flip([1.0] * 5) == 1 / 32
    assert intervals.sign_flip([0.0] * 6) == 1.0
    assert intervals.sign_flip([0.1] * 8 + [0.3], list("aabbccddd")) == 1 / 16


def test_sampled_sign_flip_agrees_with_the_exact_and_is_seeded() -> None:
    values = np.random.default_rng(5).normal(0.3, 1, size=13)
    exact = intervals.sign_flip(values)
    # A 14th cluster without a difference changes nothing but forces sampling.
    sampled = intervals.sign_flip([*values, 0.0], seed=1)
    assert sampled == pytest.approx(exact, abs=0.015)
    assert sampled == intervals.sign_flip([*values, 0.0], seed=1)
    assert sampled != intervals.sign_flip([*values, 0.0], seed=2)
    assert intervals.sign_flip([1.0] * 40, draws=999) == 1 / 1_000


def test_sign_flip_draws_in_blocks_keep_count() -> None:
    """More clusters than fit one block at once: the tail of the draws is not lost."""
    values = np.random.default_rng(6).normal(0.0, 1, size=5_000)
    assert 0 < intervals.sign_flip(values, draws=1_700) <= 1
    # All of one sign are never reached again, and no difference at all is reached by every draw.
    assert intervals.sign_flip(np.ones(5_000), draws=1_700) == 1 / 1_701
    assert intervals.sign_flip(np.zeros(5_000), draws=1_700) == 1.0


def test_bootstrap_draws_in_blocks_keep_count() -> None:
    """So many figures as draws were asked for, every one of a set as large as the first."""
    rows: list[np.ndarray] = []

    def size(sums: np.ndarray) -> np.ndarray:
        rows.append(sums[:, 0])
        return sums[:, 0]

    for count, draws in ((5_000, 450), (40, 1), (40, 7)):
        rows.clear()
        found = intervals.cluster_bootstrap([np.ones(count)], size, draws=draws)
        assert rows[0].tolist() == [count] and np.concatenate(rows[1:]).tolist() == [count] * draws
        assert found.method == f"bootstrap over {count} clusters, {draws} draws, seed 0"


def test_thirteen_clusters_are_counted_out_and_fourteen_are_drawn() -> None:
    assert intervals.sign_flip([1.0] * 13) == 1 / 2**13
    assert intervals.sign_flip([1.0] * 14) == 1 / (intervals.FLIPS + 1)


def test_sign_flip_keeps_its_level() -> None:
    generator = np.random.default_rng(7)
    rejected = sum(
        intervals.sign_flip(generator.standard_t(3, size=30), seed=i, draws=399) <= 0.05 for i in range(1_000)
    )
    assert rejected / 1_000 <= 0.068


def test_holm_of_a_worked_example() -> None:
    """statsmodels.stats.multitest.multipletests(p, method="holm")."""
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.7]) == [1.0, 1.0]
    assert intervals.holm([]) == []


def test_bootstrap_of_a_ratio() -> None:
    generator = np.random.default_rng(8)
    below = generator.uniform(5, 50, size=200)
    above = 2 * below + generator.normal(0, 5, size=200)

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] / sums[:, 1]

    interval = intervals.cluster_bootstrap([above, below], ratio)
    assert interval.value == pytest.approx(above.sum() / below.sum())
    # Delta method, the second opinion.
    residuals = above - interval.value * below
    error = residuals.std(ddof=1) / (below.mean() * 200**0.5)
    assert interval.low == pytest.approx(interval.value - 1.96 * error, abs=0.3 * error)
    assert interval.high == pytest.approx(interval.value + 1.96 * error, abs=0.3 * error)
    assert interval == intervals.cluster_bootstrap([above, below], ratio)
    assert interval != intervals.cluster_bootstrap([above, below], ratio, seed=1)
    pairs = [i // 2 for i in range(400)]
    doubled = intervals.cluster_bootstrap([np.repeat(above, 2), np.repeat(below, 2)], ratio, pairs)
    assert (doubled.low, doubled.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n, gain", [(50, 5.7), (100, 4.0), (500, 1.8)])
def test_smallest_visible_gain_with_a_spread_of_14(n: int, gain: float) -> None:
    """The rule asks for a two-sided 95 % interval above 0; 2.487 standard errors were a one-sided test's."""
    values = np.tile([1.0, -1.0], n // 2)
    values *= 14 / values.std(ddof=1)
    seen = intervals.smallest_visible_gain(values)
    assert seen == pytest.approx(gain, abs=0.05)
    quantile = stats.t.ppf(0.975, n - 1)
    assert stats.nct.sf(quantile, n - 1, seen / (14 / n**0.5)) == pytest.approx(0.8)


def test_with_many_prompts_the_gain_is_the_normal_constant() -> None:
    assert stats.norm.ppf(0.975) + stats.norm.ppf(0.8) == pytest.approx(intervals.VISIBLE, abs=5e-4)
    values = np.tile([1.0, -1.0], 100_000)
    error = intervals.standard_error(values)
    assert intervals.smallest_visible_gain(values) == pytest.approx(intervals.VISIBLE * error, rel=2e-4)


def test_a_randomisation_test_of_four_clusters_can_show_no_gain() -> None:
    """2 ** -4 is above 5 %, however large the differences."""
    four = [9.0, 9.1, 9.2, 9.3]
    assert intervals.sign_flip(four) > 0.05 and intervals.smallest_visible_gain(four) is None
    assert intervals.smallest_visible_gain([*four, 9.4]) is not None


@pytest.mark.parametrize("labels", [np.arange(15), np.arange(50), np.arange(100), np.repeat(np.arange(20), 5), UNEQUAL])
def test_the_printed_power_is_the_power_of_the_rule(labels: np.ndarray) -> None:
    """A gain of the printed size passes the verdict's rule (interval and sign-flip test) four times in five.

    2.487 standard errors pass it seven times in ten, fewer with 15 clusters.
    """
    generator = np.random.default_rng(9)
    count, within = labels.max() + 1, 1.0 if labels.size == labels.max() + 1 else 2.0
    noise = [generator.normal(size=count)[labels] + within * generator.normal(size=labels.size) for _ in range(1_500)]
    # The gain that is printed, on average, and the one of the old constant.
    printed = float(np.mean([intervals.smallest_visible_gain(values, labels) for values in noise]))
    former = 2.487 * float(np.mean([intervals.standard_error(values, labels) for values in noise]))

    def power(gain: float) -> float:
        seen = 0
        for seed, values in enumerate(noise):
            interval = intervals.clustered_t(values + gain, labels)
            if interval.low is not None and interval.low > 0:
                seen += intervals.sign_flip(values + gain, labels, seed=seed % 2, draws=999) <= 0.05
        return seen / len(noise)

    assert power(printed) == pytest.approx(0.8, abs=0.035)
    assert power(former) < 0.73


def test_fieller_of_the_hormone_patches() -> None:
    """Efron & Tibshirani (1993), chapter 25: 90 % interval of the patch data's ratio, [-0.249, 0.170]."""
    new_minus_old = [-1200, 2601, -2705, 1982, -1290, 351, -638, -2719]
    old_minus_placebo = [8406, 2342, 8187, 8459, 4795, 3516, 4796, 10238]
    interval = intervals.fieller(new_minus_old, old_minus_placebo, level=0.90)
    assert interval.value == pytest.approx(-0.0713, abs=5e-5)
    assert (interval.low, interval.high) == (pytest.approx(-0.249, abs=5e-4), pytest.approx(0.170, abs=5e-4))
    assert interval.method == "Fieller" and interval.n == 8


def test_fieller_is_the_classical_formula_with_g() -> None:
    """Fieller (1954) as bioassay prints it, with g = t^2 Vbb / b^2, for paired values of any correlation."""
    generator = np.random.default_rng(10)
    below = generator.normal(3, 2, size=25)
    above = 0.6 * below + generator.normal(0, 1.5, size=25)
    (vaa, vab), (_, vbb) = np.cov(above, below) / 25
    a, b, t = above.mean(), below.mean(), stats.t.ppf(0.975, 24)
    g, ratio = t**2 * vbb / b**2, a / b
    root = t / b * np.sqrt(vaa - 2 * ratio * vab + ratio**2 * vbb - g * (vaa - vab**2 / vbb))
    interval = intervals.fieller(above, below)
    outside = [(ratio - g * vab / vbb + sign * root) / (1 - g) for sign in (-1, 1)]
    assert (interval.low, interval.high) == pytest.approx(outside)


@pytest.mark.parametrize("seed", range(4))
def test_fieller_holds_what_the_clustered_t_does_not_reject(seed: int) -> None:
    """Second definition: a grid of shares, each tested. So share and verdict can never disagree."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 14, size=60)
    below = generator.normal(4, 4, size=60) + generator.normal(size=14)[labels]
    above = 0.5 * below + generator.normal(0, 4, size=60) + generator.normal(size=14)[labels]
    interval = intervals.fieller(above, below, labels)
    assert interval.low is not None and interval.high is not None
    for share in np.linspace(interval.low - 1, interval.high + 1, 301):
        tested = intervals.clustered_t(above - share * below, labels)
        kept = tested.low <= 0 <= tested.high  # type: ignore[operator]
        assert kept == (interval.low <= share <= interval.high)


def test_fieller_refuses_bounds_where_the_denominator_may_be_zero() -> None:
    generator = np.random.default_rng(11)
    below = generator.normal(0.1, 1, size=30)
    interval = intervals.fieller(below + generator.normal(size=30), below)
    assert interval.low is None and interval.high is None
    assert interval.method == "no bounded interval: the denominator is not clearly apart from 0"
    alone = intervals.fieller([1.0, 2.0], [2.0, 3.0], ["a", "a"])
    assert alone.low is None and "one cluster" in alone.method and alone.value == pytest.approx(0.6)
    exact = intervals.fieller([2.0, 2.0, 2.0], [4.0, 4.0, 4.0])
    assert (exact.low, exact.high) == (0.5, 0.5) and "says nothing" in exact.method
    with pytest.raises(ValueError, match="mean is 0"):
        intervals.fieller([1.0, 2.0], [-1.0, 1.0])
    with pytest.raises(ValueError, match="2 numerators but 3"):
        intervals.fieller([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("labels", [np.arange(15), np.repeat(np.arange(20), 5)])
def test_coverage_of_a_share_of_a_gap(labels: np.ndarray) -> None:
    """Also where the gap is two standard errors only; an unbounded set holds the truth by definition here."""
    generator = np.random.default_rng(12)
    count, n = labels.max() + 1, labels.size
    covered = 0
    for _ in range(1_500):
        below = generator.normal(0.8, 1, size=count)[labels] + generator.normal(size=n)
        above = 0.6 * below + generator.normal(size=count)[labels] + generator.normal(size=n)
        interval = intervals.fieller(above, below, labels)
        truth = intervals.clustered_t(above - 0.6 * below, labels)
        covered += interval.low <= 0.6 <= interval.high if interval.low is not None else truth.low <= 0 <= truth.high  # type: ignore[operator]
    assert covered / 1_500 == pytest.approx(0.95, abs=0.02)


def test_two_sided_sign_flip_counts_both_ends() -> None:
    """Second definition: pattern by pattern. It sees the sign neither of the differences nor of the question."""
    differences = [3.0, 1.0, -2.0, 5.0, 0.5, -0.25, 2.0]
    patterns = list(product((1, -1), repeat=7))
    sums = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) for p in patterns]
    expected = sum(total >= sum(differences) for total in sums) / 128
    assert intervals.sign_flip(differences, two_sided=True) == expected
    assert intervals.sign_flip(np.negative(differences), two_sided=True) == expected
    assert intervals.sign_flip([1.0] * 13, two_sided=True) == 2 / 2**13
    assert intervals.sign_flip([1.0] * 40, two_sided=True, draws=999) == 1 / 1_000


def test_two_sided_sign_flip_is_scipys_permutation_test() -> None:
    values = np.random.default_rng(13).normal(0.4, 1, size=11)
    for two_sided, alternative in ((True, "two-sided"), (False, "greater")):
        outside = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
        )
        assert intervals.sign_flip(values, two_sided=two_sided) == pytest.approx(outside.pvalue)


def test_one_sided_mid_p_is_half_of_the_two_sided_where_the_first_has_more() -> None:
    assert intervals.mcnemar_mid_p(7, 1, one_sided=True) == pytest.approx(intervals.mcnemar_mid_p(7, 1) / 2)
    # The mid-p binomial test by its definition: P(X > x) + P(X = x) / 2.
    for first, second in ((7, 1), (1, 7), (4, 4), (0, 6)):
        binomial = stats.binom(first + second, 0.5)
        expected = binomial.sf(first) + binomial.pmf(first) / 2
        assert intervals.mcnemar_mid_p(first, second, one_sided=True) == pytest.approx(expected)
    assert intervals.mcnemar_mid_p(0, 0, one_sided=True) == 1.0


def matrix_auc(
    up: np.ndarray, down: np.ndarray, codes: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Second definition: w' C w / w' N w over cluster-by-cluster sums of wins C and of comparisons N."""
    wins = np.where(up[:, None] > down, 1.0, np.where(up[:, None] == down, 0.5, 0.0))
    comparable = (folds[:, None] == folds).astype(float)
    member = (codes[:, None] == np.arange(codes.max() + 1)).astype(float)
    c, n = member.T @ (wins * comparable) @ member, member.T @ comparable @ member
    return np.einsum("dg,gh,dh->d", weights, c, weights) / np.einsum("dg,gh,dh->d", weights, n, weights)


def test_auc_is_sklearns_and_scipys() -> None:
    generator = np.random.default_rng(14)
    for digits in (8, 0):  # with ties where scores are whole numbers
        up, down = np.round(generator.normal([[1.7], [1.0]], 2, size=(2, 70)), digits)
        value = intervals.auc(up, down).value
        assert value == pytest.approx(roc_auc_score([1] * 70 + [0] * 70, [*up, *down]))
        assert value == pytest.approx(stats.mannwhitneyu(up, down).statistic / 70**2)
    assert intervals.auc([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]).value == 0.5


def test_auc_within_folds_compares_nothing_across_them() -> None:
    """Two classifiers of one quality, one scoring from 0 to 1, one around 100."""
    generator = np.random.default_rng(15)
    folds = np.repeat([0, 1], 40)
    up, down = generator.normal([[1.0], [0.0]], size=(2, 80))
    inside = intervals.auc(up, down, folds=folds)
    shifted = intervals.auc(up + 100 * folds, down + 100 * folds, folds=folds.tolist())
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((inside.value, inside.low, inside.high))
    each = [roc_auc_score([1] * 40 + [0] * 40, [*up[folds == f], *down[folds == f]]) for f in (0, 1)]
    assert inside.value == pytest.approx(np.mean(each))


def test_auc_agrees_with_delong_and_with_the_cluster_bootstrap() -> None:
    generator = np.random.default_rng(16)
    up, down = generator.normal(size=(2, 90)) + generator.normal(size=90) + [[1.2], [0.0]]
    interval = intervals.auc(up, down)
    # DeLong, DeLong & Clarke-Pearson (1988): components of each item, paired.
    wins = (up[:, None] > down).astype(float)
    error = np.sqrt(np.cov(wins.mean(axis=1), wins.mean(axis=0)).sum() / 90)
    half = stats.t.ppf(0.975, 89) * error / (interval.value * (1 - interval.value))
    centre = np.log(interval.value / (1 - interval.value))
    expected = 1 / (1 + np.exp(-centre - half * np.array([-1, 1])))
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    # And with clusters and folds: the spread of 4,000 redrawn sets of clusters.
    codes = np.repeat(np.arange(30), 3)
    folds = codes % 3
    clustered = intervals.auc(up, down, codes, folds)
    drawn = generator.multinomial(30, np.full(30, 1 / 30), size=4_000).astype(float)
    figures = matrix_auc(up, down, codes, folds, np.vstack([np.ones(30), drawn]))
    assert clustered.value == pytest.approx(figures[0])
    low, high = np.quantile(figures[1:], [0.025, 0.975])
    assert clustered.low is not None and clustered.high is not None
    assert clustered.high - clustered.low == pytest.approx(high - low, rel=0.15)


@pytest.mark.parametrize("sizes", [(20, 20), (8, 32), (3, 7, 30)])
def test_auc_within_folds_of_any_size_has_the_spread_of_its_derivative(sizes: tuple[int, ...]) -> None:
    """Second definition: what one item more or less does to the area, by differences, summed up as a sandwich."""
    generator = np.random.default_rng(28)
    n, folds = sum(sizes), np.repeat(np.arange(len(sizes)), sizes)
    up, down = generator.normal([[0.8], [0.0]], size=(2, n)) + np.array([[1.0], [0.0]]) * (folds == 0)
    step = 1e-4 * np.eye(n)
    more, less = (matrix_auc(up, down, np.arange(n), folds, 1 + sign * step) for sign in (1, -1))
    error = np.sqrt(n / (n - 1) * np.sum(((more - less) / 2e-4) ** 2))
    interval = intervals.auc(up, down, folds=folds)
    half = stats.t.ppf(0.975, n - 1) * error / (interval.value * (1 - interval.value))
    centre = np.log(interval.value / (1 - interval.value))
    assert (interval.low, interval.high) == pytest.approx(
        tuple(1 / (1 + np.exp(-centre - sign * half)) for sign in (-1, 1)), rel=1e-5
    )


def test_auc_keeps_a_width_at_the_ends_and_stays_inside() -> None:
    perfect = intervals.auc(np.arange(20.0) + 100, np.arange(20.0))
    assert (perfect.value, perfect.high) == (1.0, 1.0) and perfect.low == pytest.approx(0.8389, abs=1e-4)
    assert intervals.auc([0.0] * 20, [1.0] * 20).low == 0.0
    nearly = intervals.auc([*range(10, 20), 0.5], [*range(10), 9.0])
    assert nearly.high is not None and nearly.value < nearly.high < 1
    alone = intervals.auc([1.0, 0.0], [0.0, 0.5], ["a", "a"])
    assert alone.low is None and "one cluster" in alone.method
    with pytest.raises(ValueError, match="2 positive but 1 negative"):
        intervals.auc([1.0, 2.0], [1.0])


@pytest.mark.parametrize("area", [0.5, 0.95])
@pytest.mark.parametrize("labels", [np.arange(30), np.repeat(np.arange(20), 5)])
def test_coverage_of_the_auc(area: float, labels: np.ndarray) -> None:
    """Two scores a prompt, correlated with each other and with those of their cluster."""
    generator = np.random.default_rng(17)
    shift = stats.norm.ppf(area) * np.sqrt(2 * 1.5)
    covered = 0
    for _ in range(800):
        up, down = (
            shift * k + generator.normal(0, 0.5**0.5, size=labels[-1] + 1)[labels] + generator.normal(size=labels.size)
            for k in (1, 0)
        )
        interval = intervals.auc(up, down, labels)
        covered += interval.low <= area <= interval.high  # type: ignore[operator]
    assert 0.915 <= covered / 800 <= 0.985


def test_auc_of_two_thousand_clusters_takes_no_time() -> None:
    """No matrix of clusters by clusters, no draws."""
    up, down = np.random.default_rng(18).normal(size=(2, 20_000))
    interval = intervals.auc(up, down, np.arange(20_000) % 2_000)
    assert interval.low is not None and interval.low < 0.5 < interval.high  # type: ignore[operator]


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Classical: with every item a group, the jackknife of a mean is the textbook t."""
    values = np.random.default_rng(19).normal(size=23)
    interval = intervals.grouped_jackknife(lambda kept: float(values[kept].mean()), list(range(23)))
    textbook = intervals.clustered_t(values)
    assert (interval.value, interval.low, interval.high) == pytest.approx((textbook.value, textbook.low, textbook.high))
    # And its own definition, leaving one out at a time.
    left = np.array([np.delete(values, i).mean() for i in range(23)])
    error = np.sqrt(22 / 23 * ((left - left.mean()) ** 2).sum())
    assert interval.high - interval.value == pytest.approx(stats.t.ppf(0.975, 22) * error)  # type: ignore[operator]


def test_jackknife_leaves_out_whole_clusters_in_seeded_groups() -> None:
    labels = np.repeat(np.arange(120), 2)
    masks: list[np.ndarray] = []

    def figure(kept: np.ndarray) -> float:
        masks.append(kept.copy())
        return float(labels[kept].mean())

    interval = intervals.grouped_jackknife(figure, labels, seed=3)
    assert len(masks) == 51 and masks[0].all()
    left = ~np.array(masks[1:])
    assert (left.sum(axis=0) == 1).all() and set(left.sum(axis=1)) == {4, 6}
    assert (left[:, ::2] == left[:, 1::2]).all()
    assert interval.method == "jackknife over 120 clusters in 50 groups, seed 3"
    assert interval == intervals.grouped_jackknife(figure, labels, seed=3)
    assert interval != intervals.grouped_jackknife(figure, labels, seed=4)
    alone = intervals.grouped_jackknife(figure, np.zeros(240, dtype=int))
    assert alone.low is None and "one cluster" in alone.method
    with pytest.raises(ValueError, match="finite"):
        intervals.grouped_jackknife(lambda kept: 0.0 if kept.all() else float("nan"), labels)


def test_coverage_of_a_jackknifed_ratio() -> None:
    generator = np.random.default_rng(20)
    labels, covered = UNEQUAL, 0
    for _ in range(800):
        below = generator.gamma(4, 1, size=labels.size)
        above = below * (1.5 + 0.3 * generator.normal(size=20)[labels] + 0.5 * generator.normal(size=labels.size))
        interval = intervals.grouped_jackknife(lambda k, a=above, b=below: float(a[k].sum() / b[k].sum()), labels)
        covered += interval.low <= 1.5 <= interval.high  # type: ignore[operator]
    assert 0.91 <= covered / 800 <= 0.97


def test_jackknife_of_distinct_words_where_redrawing_misses() -> None:
    """Distinct words over words, which falls with the number of texts. The truth: its mean over such samples.

    A bootstrap repeats texts, so its figures lie below the one it is drawn from and it misses nearly always.
    """
    generator = np.random.default_rng(21)
    chances = 1 / np.arange(1, 2_001)
    chances /= chances.sum()

    def distinct(texts: np.ndarray) -> float:
        return np.unique(texts).size / texts.size

    samples = [generator.choice(2_000, size=(40, 12), p=chances) for _ in range(300)]
    truth = float(np.mean([distinct(texts) for texts in samples]))
    covered = redrawn = 0
    for texts in samples:
        interval = intervals.grouped_jackknife(lambda kept, t=texts: distinct(t[kept]), list(range(40)))
        covered += interval.low <= truth <= interval.high  # type: ignore[operator]
        figures = [distinct(texts[generator.integers(0, 40, size=40)]) for _ in range(60)]
        low, high = np.quantile(figures, [0.025, 0.975])
        redrawn += low <= truth <= high
    assert covered / 300 >= 0.92
    assert redrawn / 300 < 0.2


def test_survival_of_the_freireich_patients() -> None:
    """6-mercaptopurine arm (Freireich et al. 1963): the textbook Kaplan-Meier table."""
    times = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    events = [True] * 9 + [False] * 12
    curve = {step.time: step for step in intervals.kaplan_meier(times, events)}
    for time, share in {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}.items():
        assert curve[time].share == pytest.approx(share, abs=5e-4)
    # R: survfit(..., conf.type = "log-log") at 6 and at 23.
    assert (curve[6].low, curve[6].high) == pytest.approx((0.620, 0.952), abs=1e-3)
    assert (curve[23].low, curve[23].high) == pytest.approx((0.188, 0.680), abs=1e-3)
    assert max(curve) == 35 and curve[35].share == curve[23].share
    assert [curve[time].at_risk for time in (1, 6, 7, 10, 13, 16, 22, 23, 35)] == [21, 21, 17, 15, 12, 11, 7, 6, 1]
    cut = intervals.kaplan_meier(times, events, limit=10)
    assert cut == [curve[time] for time in range(1, 11)]
    assert intervals.kaplan_meier(times, events, limit=99) == list(curve.values())


def test_survival_at_one_and_at_zero_keeps_a_width() -> None:
    certain = intervals.kaplan_meier([3] * 20, [False] * 20)
    assert [step.share for step in certain] == [1.0, 1.0, 1.0]
    assert certain[0].low == pytest.approx(0.8389, abs=1e-4) and certain[0].high == 1.0
    lost = intervals.kaplan_meier([1] * 20, [True] * 20)
    assert lost[0].share == 0.0 and lost[0].low == 0.0 and lost[0].high == pytest.approx(0.1611, abs=1e-4)
    assert len(intervals.kaplan_meier([9] * 4, [False] * 4, limit=5)) == 5
    for times, events in (([0], [True]), ([], []), ([1, 2], [True]), ([[1, 2]], [[True, False]])):
        with pytest.raises(ValueError, match="whole numbers from 1"):
            intervals.kaplan_meier(times, events)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 6)), min_size=2, max_size=40),
    st.randoms(use_true_random=False),
)
def test_order_and_names_of_clusters_do_not_matter(rows: list[tuple[float, int]], random: object) -> None:
    values, labels = zip(*rows, strict=True)
    before = intervals.clustered_t(values, labels)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    values, labels = zip(*shuffled, strict=True)
    after = intervals.clustered_t(values, [f"group {label}" for label in labels])
    assert after.value == pytest.approx(before.value, abs=1e-9)
    if before.low is None:
        assert after.low is None
    else:
        assert (after.low, after.high) == pytest.approx((before.low, before.high), abs=1e-6)
