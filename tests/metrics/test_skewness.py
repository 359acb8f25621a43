"""The test for skewed gains: where its transformation is known, and that it errs as seldom as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sft.metrics.intervals import clustered_t, hall_p, skewness


def test_without_skewness_it_is_students_t() -> None:
    values = [-3.0, -1.0, 1.0, 3.0, 4.0, 6.0]  # symmetric about 5/3
    assert skewness(np.array(values) * 0 + [-1, 1, -2, 2, 0, 0]) == pytest.approx(0)
    symmetric = np.array([0.5, 1.5, 2.5, 3.5])
    assert hall_p(symmetric) == pytest.approx(stats.ttest_1samp(symmetric, 0, alternative="greater").pvalue)


def test_skewness_is_the_adjusted_one() -> None:
    values = np.random.default_rng(0).lognormal(size=40)
    assert skewness(values) == pytest.approx(stats.skew(values, bias=False))
    assert skewness(-values) == pytest.approx(-stats.skew(values, bias=False))


def test_copies_of_a_cluster_change_little_and_one_more_label_changes_nothing() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 30)
    twice, labels = np.repeat(values, 2), np.repeat(np.arange(30), 2)
    assert skewness(twice, labels) == pytest.approx(skewness(values))
    assert hall_p(twice, labels) == pytest.approx(hall_p(values))


@pytest.mark.parametrize("count", [15, 100])
def test_rare_large_losses_are_mistaken_for_gains_less_often(count: int) -> None:
    """Mean 0 exactly: the interval alone finds a gain in 12 to 16 % of samples at n = 15, and in 7 to 9 % at 100."""
    draw = np.random.default_rng(count)
    alone = both = 0
    for _ in range(2_000):
        values = np.exp(0.5) - draw.lognormal(size=count)
        low, p = clustered_t(values).low, hall_p(values)
        assert low is not None and p is not None
        alone += low > 0
        both += low > 0 and p <= 0.025
    assert alone / 2_000 > 0.06 and both < 0.65 * alone


def test_symmetric_gains_are_still_found() -> None:
    draw = np.random.default_rng(3)
    alone = both = 0
    for _ in range(2_000):
        values = draw.normal(2.8 / np.sqrt(30), 1, 30)
        low, p = clustered_t(values).low, hall_p(values)
        assert low is not None and p is not None
        alone += low > 0
        both += low > 0 and p <= 0.025
    assert both > 0.94 * alone


def test_a_loss_that_is_not_in_the_sample_is_reckoned_with_where_all_values_are_alike() -> None:
    """One point each in 15 prompts is undone by one loss of 100 in a hundred, which 15 prompts seldom show."""
    assert hall_p([1.0] * 15) == pytest.approx((100 / 101) ** 15)
    assert hall_p([100.0] * 15) == pytest.approx(0.5**15)
    assert hall_p([0.0] * 15) == 1.0 and hall_p([-1.0] * 15) == 1.0
    assert hall_p([1.0] * 300) == pytest.approx((100 / 101) ** 300)


def test_too_few_clusters_have_none() -> None:
    assert hall_p([1.0, 2.0]) is None and skewness([1.0, 2.0, 3.0], ["a", "a", "b"]) is None
    with pytest.raises(ValueError, match="finite"):
        hall_p([1.0, float("nan"), 2.0])
