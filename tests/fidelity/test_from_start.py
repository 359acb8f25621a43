"""A clone beside the one that it was fitted on from: what is planted is said, and of two equal ones nothing."""

from __future__ import annotations

from dataclasses import replace

import known_scorecards
import numpy as np
import pytest

from sft.fidelity.probes import Absent
from sft.fidelity.probes.from_start import from_start
from sft.fidelity.scorecard import Scorecard
from sft.reports.sections.chapters import body
from sft.reports.sections.from_start import from_start_sentences
from sft.runs.records import TokenScores

N, WORLDS = 60, 100
KEYS = {str(number): str(number) for number in range(N)}


def beside(gain: float, saved: float, world: int) -> Scorecard:
    """A clone that is ``gain`` points closer than the one before it, and spends ``saved`` nats a token less."""
    draw = np.random.default_rng(world)
    before = dict(zip(KEYS, draw.uniform(20, 60, N), strict=True))
    after = {key: value + gain + draw.normal(0, 8) for key, value in before.items()}

    def scored(nats: float) -> dict[str, TokenScores]:
        return {key: TokenScores(key, tuple(nats + draw.normal(0, 0.2, 9)), (0,) * 9, (0.5,) * 9, 40) for key in KEYS}

    tokens = {"start": scored(1.5), "tuned": scored(1.5 - saved)}
    return replace(known_scorecards.ALL, from_start=from_start(after, before, tokens, KEYS, seed=world))


def test_what_is_planted_is_said() -> None:
    better, worse = beside(8, 0.3, 0), beside(-8, -0.3, 0)
    closer, likelier = from_start_sentences(better)
    assert "chrF points closer to the expert than the clone that it was fitted on from" in closer
    assert "words likelier than that one: 0." in likelier and "bits per byte less" in likelier
    further, unlikelier = from_start_sentences(worse)
    assert "points further from the expert" in further and "less likely than that one" in unlikelier
    assert body(better).beside[0].key == "from-start"
    assert from_start_sentences(known_scorecards.ALL) == ()
    assert body(known_scorecards.ALL).beside[0].key != "from-start"
    with pytest.raises(Absent, match="share no scored prompt"):
        from_start({"1": 1.0}, {"2": 1.0}, {}, KEYS, seed=0)


def test_of_two_equal_clones_nothing_is_said() -> None:
    """Two-sided at 5 %: 100 worlds, each word; above 11 it would be by chance once in 100 tries."""
    said = [from_start_sentences(beside(0, 0, world)) for world in range(WORLDS)]
    assert sum("is not told apart" not in score for score, _ in said) <= 11
    assert sum("is not shown" not in bits for _, bits in said) <= 11
    assert "the smallest difference this test could have seen is about" in said[0][0]
