"""Repetition, variety and length against second definitions and planted manners."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent
from sft.fidelity.probes.manner import manner, rarefied, rep_4, self_agreement
from sft.metrics import chrf
from sft.runs.records import Completion

WORDS = [a + b for a, b in product("kltrmsn", ("a", "o", "ai", "unt", "ist"))]
#: A few words often, most of them seldom, as in any language.
WEIGHTS = [1 / (place + 2) for place in range(len(WORDS))]


def sentence(generator: random.Random, shortest: int = 6, longest: int = 14) -> str:
    return " ".join(generator.choices(WORDS, WEIGHTS, k=generator.randint(shortest, longest)))


def asked(references: Sequence[Sequence[str]]) -> list[HeldOut]:
    return [
        HeldOut(f"h{i}", (Message("user", f"q{i}"),), tuple(texts), ("",) * len(texts), f"c{i}")
        for i, texts in enumerate(references)
    ]


def written(texts: Sequence[str]) -> dict[str, Completion]:
    return {f"h{i}": Completion(f"h{i}", text, True) for i, text in enumerate(texts)}


def test_a_loop_repeats_and_a_sentence_does_not() -> None:
    assert rep_4("to be or not to be, that is the question") == 0
    assert rep_4("the cat sat on " * 5) == pytest.approx(1 - 4 / 17)  # 20 words, 17 4-grams, 4 of them distinct
    assert rep_4("ha " * 100) == pytest.approx(1 - 1 / 97)
    assert rep_4("ha ha ha") == rep_4("") == 0
    assert rep_4("好" * 8) == pytest.approx(1 - 1 / 5)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_rarefaction_is_the_mean_over_all_subsets(counts: list[int], data: st.DataObject) -> None:
    items = [kind for kind, count in enumerate(counts) for _ in range(count)]
    size = data.draw(st.integers(1, len(items)))
    every = [len(set(subset)) / size for subset in combinations(items, size)]
    assert rarefied(np.array(counts), size) == pytest.approx(np.mean(every), abs=1e-9)


def test_rarefaction_makes_sets_of_any_size_comparable() -> None:
    """Plain distinct-2 of one manner falls from 150 to 1,000 texts; for a common number of bigrams it stays."""
    generator = random.Random(0)
    texts = [sentence(generator) for _ in range(1000)]
    found = manner(asked([[text] for text in texts[:150]]), {"tuned": written(texts[:150])}, seed=0)
    large = manner(asked([[text] for text in texts]), {"tuned": written(texts[:150])}, seed=0)
    value = found["expert"]["distinct_2"].value
    assert large["expert"]["distinct_2"].value == pytest.approx(value, abs=0.02)
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    assert len(set(pairs)) / len(pairs) < value - 0.2


def test_the_jackknife_of_distinct_2_covers() -> None:
    """Measured of nominal 95 %: 98 % at 100 prompts (300 draws), 99 % at 400 (150), 95 % where almost no bigram
    comes twice. Here: 40 draws against their mean."""
    found = []
    for seed in range(40):
        generator = random.Random(seed)
        texts = [sentence(generator, 9, 9) for _ in range(100)]
        found.append(
            manner(asked([[text] for text in texts]), {"tuned": written(texts)}, seed=0)["tuned"]["distinct_2"]
        )
    truth = np.mean([each.value for each in found])
    covered = [each.low <= truth <= each.high for each in found if each.low is not None and each.high is not None]
    assert len(covered) == 40 and sum(covered) >= 35


def test_planted_manners_show() -> None:
    generator = random.Random(1)
    references = [[sentence(generator)] for _ in range(200)]
    systems = {
        "tuned": written([sentence(generator) for _ in references]),
        "K": written(["one constant answer for everybody here"] * 200),
        "B0": written([(sentence(generator, 4, 4) + " ") * generator.randint(1, 40) for _ in references]),
    }
    found = manner(asked(references), systems, seed=0)
    assert set(found) == {"tuned", "K", "B0", "expert"}
    for name in ("rep_4", "distinct_2", "distinct_outputs"):
        alike, expert = found["tuned"][name], found["expert"][name]
        assert alike.value == pytest.approx(expert.value, abs=0.03)
    assert found["B0"]["rep_4"].value > 0.5 > 0.05 > found["tuned"]["rep_4"].value
    assert found["K"]["distinct_outputs"].value == 1 / 200 and found["tuned"]["distinct_outputs"].value > 0.99
    assert found["K"]["distinct_2"].value < 0.02 < found["tuned"]["distinct_2"].value
    spread = {system: figures["length_spread"] for system, figures in found.items()}
    assert spread["K"].value == 0 and spread["B0"].value > 3
    assert spread["tuned"].low is not None and spread["tuned"].high is not None
    assert spread["tuned"].low < 1 < spread["tuned"].high
    assert (spread["expert"].value, spread["expert"].low) == (1, None) and "no interval" in spread["expert"].method


def test_length_spread_is_numpys_on_the_prompts_answered() -> None:
    references = [["a" * n] for n in (1, 5, 9, 30)]
    found = manner(
        asked(references), {"tuned": {"h0": Completion("h0", "b", True), "h2": Completion("h2", "b" * 5, True)}}, seed=0
    )
    assert found["tuned"]["length_spread"].value == pytest.approx(np.std([1, 5]) / np.std([1, 9]))
    assert found["tuned"]["length_spread"].n == 2
    assert found["tuned"]["length_spread"].low is None  # without one of two there is no spread left


def test_experts_of_one_length_have_no_spread_to_compare_with() -> None:
    found = manner(asked([["yes"], ["too"], ["not"]]), {"tuned": written(["a", "bb", "c"])}, seed=0)
    assert "length_spread" not in found["tuned"] and "distinct_2" not in found["tuned"]


def test_no_two_texts_alike_is_not_certainty() -> None:
    texts = [f"text {i}" for i in range(30)]
    found = manner(asked([[text] for text in texts]), {"tuned": written(texts)}, seed=0)["tuned"]["distinct_outputs"]
    assert (found.low, found.high) == (1, 1) and "the width says nothing" in found.method


def test_a_mute_system_does_not_shrink_the_others_distinct_2() -> None:
    generator = random.Random(2)
    texts = [sentence(generator) for _ in range(120)]
    items = asked([[text] for text in texts])
    alone = manner(items, {"tuned": written(texts)}, seed=0)
    beside = manner(items, {"tuned": written(texts), "B0": written(["a b", *[""] * 119])}, seed=0)
    assert beside["tuned"] == alone["tuned"] and "distinct_2" not in beside["B0"]


def test_nothing_written_is_nothing_to_measure() -> None:
    with pytest.raises(Absent, match="no system wrote anything"):
        manner(asked([["a"]]), {"tuned": {}}, seed=0)


def test_self_agreement_is_the_mean_chrf_of_pairs() -> None:
    references = [["the cat", "a cat", "cats"], ["one dog", "dogs"], ["alone"]]
    samples = [written(["the cat", "a dog", "x"]), written(["the hat", "a dog", "y"])]
    found = self_agreement(asked(references), samples, seed=0)
    first = np.mean([chrf("the cat", "a cat"), chrf("the cat", "cats"), chrf("a cat", "cats")])
    experts = [first, chrf("one dog", "dogs")]
    tuned = [chrf("the cat", "the hat"), 100]
    assert found["tuned"].value == pytest.approx(np.mean(tuned)) and found["tuned"].n == 2
    assert found["experts"].value == pytest.approx(np.mean(experts))
    assert found["difference"].value == pytest.approx(np.mean(tuned) - np.mean(experts))


def test_a_clone_that_always_says_the_same_agrees_with_itself_more_than_experts_do() -> None:
    generator = random.Random(3)
    references = [[sentence(generator) for _ in range(8)] for _ in range(80)]
    own = [sentence(generator) for _ in references]
    varied = [written([sentence(generator) for _ in references]) for _ in range(3)]
    same = self_agreement(asked(references), [written(own)] * 3, seed=0)["difference"]
    alike = self_agreement(asked(references), varied, seed=0)["difference"]
    assert same.low is not None and same.low > 30
    assert alike.low is not None and alike.high is not None and alike.low < 0 < alike.high


def test_self_agreement_says_what_is_missing() -> None:
    one, two = asked([["a"]]), asked([["a", "b"]])
    with pytest.raises(Absent, match="fewer than two rounds"):
        self_agreement(two, [written(["a"])], seed=0)
    with pytest.raises(Absent, match="one completion by an expert"):
        self_agreement(one, [written(["a"])] * 2, seed=0)
    with pytest.raises(Absent, match="two samples"):
        self_agreement(two, [written(["a"]), {}], seed=0)
