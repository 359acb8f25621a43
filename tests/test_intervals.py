"""Intervals and tests against outside values, a second definition, and their promised coverage."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sft import intervals


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


def test_a_zero_width_says_so() -> None:
    assert "says nothing" in intervals.clustered_t([2.0, 2.0, 2.0]).method


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
    # Every cluster agrees with itself, so only the 20 clusters count (a little less: the design effect
    # is estimated with 19 degrees of freedom).
    third = intervals.wilson(10, 20)
    assert (together.low, together.high) == pytest.approx((third.low, third.high), abs=0.01)
    whole = intervals.clustered_wilson([1] * 60, [i // 3 for i in range(60)])
    assert whole.low == intervals.wilson(20, 20).low
    with pytest.raises(ValueError, match="0 or 1"):
        intervals.clustered_wilson([0.5, 1.0])


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


@pytest.mark.parametrize("n, gain", [(50, 4.9), (100, 3.5), (500, 1.6)])
def test_smallest_visible_gain_with_a_spread_of_14(n: int, gain: float) -> None:
    values = np.tile([1.0, -1.0], n // 2)
    values *= 14 / values.std(ddof=1)
    assert intervals.smallest_visible_gain(values) == pytest.approx(2.487 * 14 / n**0.5)
    assert intervals.smallest_visible_gain(values) == pytest.approx(gain, abs=0.05)


def test_the_printed_power_is_the_power() -> None:
    """A gain of the printed size is seen by the one-sided 5 % test four times in five."""
    generator = np.random.default_rng(9)
    gain = 2.487 * 14 / 60**0.5
    seen = 0
    for _ in range(2_000):
        values = generator.normal(gain, 14, size=60)
        seen += values.mean() / (values.std(ddof=1) / 60**0.5) > stats.t.ppf(0.95, 59)
    assert seen / 2_000 == pytest.approx(0.8, abs=0.03)


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


def test_survival_at_one_and_at_zero_keeps_a_width() -> None:
    certain = intervals.kaplan_meier([3] * 20, [False] * 20)
    assert [step.share for step in certain] == [1.0, 1.0, 1.0]
    assert certain[0].low == pytest.approx(0.8389, abs=1e-4) and certain[0].high == 1.0
    lost = intervals.kaplan_meier([1] * 20, [True] * 20)
    assert lost[0].share == 0.0 and lost[0].low == 0.0 and lost[0].high == pytest.approx(0.1611, abs=1e-4)
    assert len(intervals.kaplan_meier([9] * 4, [False] * 4, limit=5)) == 5
    with pytest.raises(ValueError, match="whole numbers from 1"):
        intervals.kaplan_meier([0], [True])


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
