"""Calibration: planted confidence is found, a second definition agrees, and own words are counted."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sft.fidelity.probes import Absent, calibration
from sft.runs.records import OwnPath, TokenScores

PROMPTS, LENGTH = 120, 25
CLUSTERS = {f"q{n}": f"q{n}" for n in range(PROMPTS)}


def scores(boast: float, seed: int = 0, prompts: int = PROMPTS) -> dict[str, TokenScores]:
    """Tokens right with a probability that lies ``boast`` below the confidence."""
    draw = np.random.default_rng(seed)
    found = {}
    for name in list(CLUSTERS)[:prompts]:
        sure = draw.uniform(0.3, 1.0, LENGTH)
        ranks = tuple(int(r) for r in draw.random(LENGTH) >= sure - boast)
        found[name] = TokenScores(name, (1.0,) * LENGTH, ranks, (1.0,) * LENGTH, 99, tuple(map(float, sure)))
    return found


def test_calibrated_tokens_have_no_overconfidence() -> None:
    found = calibration.calibration(CLUSTERS, scores(0))
    assert found.overconfidence.low is not None and found.overconfidence.high is not None
    assert found.overconfidence.low < 0 < found.overconfidence.high
    assert abs(found.overconfidence.value) < 0.03
    assert sum(b.low <= b.confidence <= b.high for b in found.bins) >= 8  # of ten 95 % intervals
    assert found.overconfidence.n == PROMPTS * LENGTH


def test_overconfident_tokens_are_found_out() -> None:
    found = calibration.calibration(CLUSTERS, scores(0.2))
    assert found.overconfidence.value == pytest.approx(0.2, abs=0.03)
    assert found.overconfidence.low is not None and found.overconfidence.low > 0.1
    assert found.error.value == pytest.approx(0.2, abs=0.03)
    assert found.confidence.value - found.accuracy.value == pytest.approx(found.overconfidence.value)


def test_underconfidence_has_the_other_sign_and_counts_as_error_too() -> None:
    modest = {k: TokenScores(k, s.nats, (0,) * LENGTH, s.entropies, 9, s.confidences) for k, s in scores(0).items()}
    found = calibration.calibration(CLUSTERS, modest)
    assert found.overconfidence.high is not None and found.overconfidence.high < 0
    assert found.error.value == pytest.approx(-found.overconfidence.value)


def test_the_error_by_a_second_definition() -> None:
    """Sort, cut into ten equal heaps, weigh the distance of each heap's two means by its size."""
    some = scores(0.1)
    pairs = sorted((c, float(r == 0)) for s in some.values() for c, r in zip(s.confidences, s.ranks, strict=True))
    heaps = np.array_split(np.array(pairs), 10)
    expected = sum(abs(h[:, 0].mean() - h[:, 1].mean()) * len(h) for h in heaps) / len(pairs)
    found = calibration.calibration(CLUSTERS, some)
    assert found.error.value == pytest.approx(expected)
    assert [b.tokens for b in found.bins] == [300] * 10
    assert [b.confidence for b in found.bins] == pytest.approx([h[:, 0].mean() for h in heaps])
    assert found.error.low is not None and found.error.high is not None and found.error.low <= found.error.high


def test_the_bias_that_the_method_names_is_the_one_that_noise_makes() -> None:
    cards = [calibration.calibration(CLUSTERS, scores(0, seed, prompts=20)) for seed in range(60)]
    named = [float(re.findall(r"show about ([\d.]+)", card.error.method)[0]) for card in cards]
    assert np.mean([card.error.value for card in cards]) == pytest.approx(np.mean(named), rel=0.1)


def test_few_tokens_make_few_bins_and_equal_confidences_share_one() -> None:
    found = calibration.calibration(CLUSTERS, scores(0, prompts=2))
    assert len(found.bins) == 50 // calibration.TOKENS_A_BIN
    sure = {"q0": TokenScores("q0", (0.0,) * 400, (0,) * 400, (0.0,) * 400, 9, (1.0,) * 400)}
    one = calibration.calibration(CLUSTERS, sure)
    assert [b.tokens for b in one.bins] == [400] and one.error.value == 0
    assert one.error.low is None and "one cluster" in one.error.method
    assert one.bins[0].low < 0.5  # one prompt is one observation, however long


def test_runs_without_confidences_are_absent() -> None:
    old = {k: TokenScores(k, s.nats, s.ranks, s.entropies, s.bytes) for k, s in scores(0).items()}
    with pytest.raises(Absent, match="not recorded"):
        calibration.calibration(CLUSTERS, old)
    with pytest.raises(Absent, match="not recorded"):
        calibration.own(CLUSTERS, {})


def paths(boast: float, left: int | None = 4, seed: int = 1) -> dict[str, OwnPath]:
    """Own paths that are all hits until they leave, and then hit as often as they are sure, less ``boast``."""
    draw = np.random.default_rng(seed)
    found = {}
    for name in CLUSTERS:
        sure = draw.uniform(0.4, 0.9, LENGTH)
        hits = draw.random(LENGTH) < sure - boast
        start = LENGTH if left is None else left
        hits[:start], sure[:start] = True, 1.0
        found[name] = OwnPath(name, tuple(map(float, sure)), tuple(map(bool, hits)), left)
    return found


def test_own_tokens_are_counted_as_the_experts_or_not() -> None:
    found = calibration.own(CLUSTERS, paths(0.3))
    hits = [hit for path in paths(0.3).values() for hit in path.hits]
    assert found.accuracy.value == pytest.approx(np.mean(hits)) and found.accuracy.n == PROMPTS * LENGTH
