"""Forgetting: a clone that pays with its command of other text is found out, one that does not is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft.fidelity.probes import Absent
from sft.fidelity.probes.forgetting import forgetting
from sft.runs.records import ControlWindow


def windows(rate: float, text: str = "prose", count: int = 40, noise: float = 0.0) -> list[ControlWindow]:
    """Windows of 500 to 1500 bytes at ``rate`` bits per byte, hard ones and easy ones; ``noise`` on top of that."""
    draw, own = np.random.default_rng(7), np.random.default_rng(8)
    found = []
    for number in range(count):
        size = int(draw.integers(500, 1500))
        bits = rate * size * draw.uniform(0.5, 1.5) * (1 + noise * own.normal())
        found.append(ControlWindow(text, number, float(bits) * math.log(2), size))
    return found


def test_a_clone_that_forgets_shows_a_rise_and_one_that_does_not_shows_none() -> None:
    (lost,) = forgetting({"base": windows(1.0), "tuned": windows(1.2, noise=0.05)})
    assert lost.rise.value == pytest.approx(0.2, abs=0.03)
    assert lost.rise.low is not None and lost.rise.low > 0.15
    (kept,) = forgetting({"base": windows(1.0), "tuned": windows(1.0, noise=0.05)})
    assert kept.rise.low is not None and kept.rise.high is not None and kept.rise.low < 0 < kept.rise.high


def test_pairs_of_windows_are_redrawn_together() -> None:
    """Windows differ by a factor of three, the rise is 10 % in each: the rise is exact though the levels are not."""
    (found,) = forgetting({"base": windows(1.0), "tuned": windows(1.1)})
    assert (found.rise.low, found.rise.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert found.base.low is not None and found.base.high is not None and found.base.high - found.base.low > 0.1


def test_bits_per_byte_are_all_bits_over_all_bytes() -> None:
    rows = [ControlWindow("a", 0, 100.0, 50), ControlWindow("a", 1, 50.0, 200)]
    (found,) = forgetting({"base": rows, "tuned": rows})
    assert found.base.value == pytest.approx(150 / math.log(2) / 250)
    assert found.windows == 2 and found.base.n == 2


def test_each_text_is_its_own_row_and_only_windows_in_both_count() -> None:
    base = [*windows(1.0, "prose"), *windows(0.7, "code", 10), *windows(2.0, "left out", 3)]
    tuned = [*windows(1.0, "prose"), *windows(1.4, "code", 6)]
    prose, code = forgetting({"base": base, "tuned": tuned})
    assert (prose.text, prose.windows, code.text, code.windows) == ("prose", 40, "code", 6)
    assert code.rise.value == pytest.approx(1.0) and prose.rise.value == pytest.approx(0.0)


def test_one_window_has_no_interval_and_none_is_absent() -> None:
    (found,) = forgetting({"base": windows(1.0, count=1), "tuned": windows(1.1, count=1)})
    assert found.rise.low is None and found.rise.method == "no interval: one window only"
    for control in ({}, {"base": windows(1.0)}, {"base": windows(1.0, "a"), "tuned": windows(1.0, "b")}):
        with pytest.raises(Absent, match="control text"):
            forgetting(control)


def test_the_interval_of_a_rise_is_the_delta_methods_where_windows_are_many() -> None:
    """Second definition: r = sum(after) / sum(before), its error from the residuals after - r * before."""
    control = {"base": windows(1.0, count=400), "tuned": windows(1.2, count=400, noise=0.1)}
    (found,) = forgetting(control)
    before, after = (np.array([w.nats for w in control[name]]) for name in ("base", "tuned"))
    ratio = after.sum() / before.sum()
    error = (after - ratio * before).std(ddof=1) / (before.mean() * 400**0.5)
    assert found.rise.value == pytest.approx(ratio - 1)
    bounds = (ratio - 1 - 1.966 * error, ratio - 1 + 1.966 * error)
    assert (found.rise.low, found.rise.high) == pytest.approx(bounds, abs=0.02 * error)
