"""Two samples and two arms: intervals that cover what was planted, and do not call luck a difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sft.metrics import intervals
from sft.metrics.intervals import Sample


def test_without_clusters_it_is_welchs_test() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(1, 2, 30), draw.normal(0, 5, 20)
    found = intervals.welch([(Sample(list(one)), Sample(list(other)))])
    known = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_strata_are_weighted_by_their_size() -> None:
    small, large = (Sample([10.0, 12.0]), Sample([1.0, 1.0])), (Sample([3.0] * 8), Sample([1.0, 3.0] * 4))
    found = intervals.welch([small, large, (Sample([]), Sample([9.0]))])
    assert found.value == pytest.approx((4 * 10 + 16 * 1) / 20) and found.n == 20
    with pytest.raises(ValueError, match="no stratum"):
        intervals.welch([(Sample([]), Sample([1.0]))])
    alone = intervals.welch([(Sample([1.0, 2.0], ["a", "a"]), Sample([1.0, 3.0]))])
    assert alone.low is None and "fewer than two groups" in alone.method


@pytest.mark.parametrize("size", [30, 100])
def test_anchoring_of_none_is_seldom_called_one_and_what_is_visible_is_seen(size: int) -> None:
    draw = np.random.default_rng(size)
    called = seen = 0
    for _ in range(400):
        labels = [list(draw.integers(0, size // 3, n)) for n in (size, size // 2)]
        noise = draw.normal(0, 8, size)
        one, other = (draw.normal(50, 14, n) + noise[own] for n, own in zip((size, size // 2), labels, strict=True))
        pair = [(Sample(list(one), labels[0]), Sample(list(other), labels[1]))]
        found = intervals.welch(pair)
        visible = intervals.visible_difference(pair)
        assert found.low is not None and visible is not None
        called += found.low > 0 or (found.high or 0) < 0
        seen += found.low + visible > 0
    assert called / 400 < 0.085 and 0.72 < seen / 400 < 0.9


def test_newcombe_keeps_a_width_at_the_ends() -> None:
    found = intervals.newcombe((20, 20), (0, 10))
    assert found.value == 1.0 and found.low is not None and 0.6 < found.low < 0.95 and found.high == 1.0


def test_two_arms_that_differ_by_the_luck_of_their_runs_are_not_told_apart() -> None:
    """With prompts alone the same worlds are called different in a sixth of cases and more."""
    draw = np.random.default_rng(7)
    called = by_prompts = gained = 0
    for _ in range(400):
        prompts = draw.normal(40, 14, 150)
        arms = [prompts + draw.normal(0, 1.3, (3, 1)) + draw.normal(0, 9, (3, 150)) for _ in range(2)]
        found = intervals.two_way(arms[0], arms[1])
        called += found.low is not None and not found.low <= 0 <= (found.high or 0)
        alone = intervals.clustered_t(arms[0].mean(axis=0) - arms[1].mean(axis=0))
        by_prompts += alone.low is not None and not alone.low <= 0 <= (alone.high or 0)
        better = intervals.two_way(arms[0] + 5, arms[1])
        gained += better.low is not None and better.low > 0
    assert called / 400 < 0.06 and by_prompts / 400 > 0.12 and gained / 400 > 0.5


def test_two_way_wants_runs_of_both_arms_on_the_same_prompts() -> None:
    for first, second in (([[1, 2]], [[1, 2], [3, 4]]), ([[1, 2], [3, 4]], [[1, 2, 3], [3, 4, 5]])):
        with pytest.raises(ValueError, match="two runs or more"):
            intervals.two_way(first, second)
