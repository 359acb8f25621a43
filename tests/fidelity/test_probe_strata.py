"""Strata: where a clone was planted weak, it shows weak; parts never tear ties and always add up."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message
from sft.fidelity import floors
from sft.fidelity.findings import Stratum
from sft.fidelity.probes import Absent, strata

TOPICS = ["ledger balance", "window latch", "garden hose", "engine valve", "teapot lid", "saddle strap"]


def prompt(number: int) -> tuple[Message, ...]:
    """A third of the prompts are a training prompt's but for the number, a third resemble one, a third are strange."""
    topic = TOPICS[number % 6]
    asked = (f"please describe the {topic} number {number}", f"the {topic}, what of {number}?", f"zq {number} xvjkjkjk")
    return (Message("user", asked[number % 3]),)


def items(count: int = 90, words: int = 12, experts: tuple[str, ...] = ("",)) -> list[HeldOut]:
    """Prompts whose references have 1 to ``words`` words, each length as often."""
    return [
        HeldOut(f"q{n}", prompt(n), (" ".join(["word"] * (1 + 5 * n % words)),), (experts[n % len(experts)],), f"c{n}")
        for n in range(count)
    ]


TRAIN = [
    Demonstration((Message("user", f"please describe the {topic} number {n}"),), f"a {topic}")
    for n, topic in enumerate(TOPICS * 5)
]


def parted(asked: list[HeldOut], score: dict[str, float], by: str, **more: object) -> list[Stratum]:
    floor = dict.fromkeys(score, 20.0)
    options = {"bits": None, "sizes": {}, "train": TRAIN} | more
    found = strata.strata(
        asked,
        options["train"],  # type: ignore[arg-type]
        {"tuned": score, "R": floor},
        "R",
        options["bits"],  # type: ignore[arg-type]
        options["sizes"],  # type: ignore[arg-type]
        {item.id: item.cluster for item in asked},
    )
    return [stratum for stratum in found if stratum.by == by]


def test_a_clone_weak_far_from_training_is_shown_weak_there() -> None:
    asked = items()
    nearness = floors.nearness_to_training(TRAIN, asked)
    score = {key: 30 + 40 * cosine + random.Random(key).uniform(-5, 5) for key, cosine in nearness.items()}
    near, middle, far = parted(asked, score, "distance to training")
    assert near.label.startswith("nearest third: ") and near.label.endswith(" alike")
    assert middle.label.startswith("middle third: ") and far.label.startswith("furthest third: ")
    assert near.score.low is not None and far.score.high is not None and far.score.high < near.score.low
    assert near.gain is not None and near.gain.value == pytest.approx(near.score.value - 20)
    assert near.n + middle.n + far.n == 90 and near.saved is None


def test_nearness_is_the_similarity_that_the_nearest_prompt_was_chosen_by() -> None:
    """By a second definition: cosines of dense vectors, one pair at a time."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    asked = items(12)
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    known = vectoriser.fit_transform([d.prompt[0].content for d in TRAIN]).toarray()
    found = floors.nearness_to_training(TRAIN, asked)
    for item in asked:
        one = vectoriser.transform([item.prompt[0].content]).toarray()[0]
        assert found[item.id] == pytest.approx(float(np.max(known @ one)), abs=1e-6)
    assert min(found.values()) >= 0 and max(found.values()) <= 1
    same = [HeldOut("x", TRAIN[3].prompt, ("t",), ("",), "c")]
    assert floors.nearness_to_training(TRAIN, same)["x"] == pytest.approx(1)


def test_lengths_say_their_range_in_words() -> None:
    asked = items(120)
    score = {item.id: 90.0 - 5 * len(item.references[0].split()) for item in asked}
    short, middle, long = parted(asked, score, "expert's length")
    assert short.label == "short: up to 4 words"
    assert middle.label == "middle: 5 to 8 words"
    assert long.label == "long: 9 words or more"
    assert short.score.value > middle.score.value > long.score.value


def test_ties_are_not_torn_and_a_third_of_them_is_merged() -> None:
    asked = items(90, words=2)
    labels = [s.label for s in parted(asked, {item.id: 50.0 for item in asked}, "expert's length")]
    assert labels == ["short: up to 1 word", "long: 2 words or more"]
    assert parted(items(90, words=1), {item.id: 50.0 for item in asked}, "expert's length") == []


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0, 7.0]), min_size=60, max_size=150))
def test_parts_are_in_order_disjoint_and_complete(values: list[float]) -> None:
    thirds = strata.thirds({str(n): value for n, value in enumerate(values)})
    assert sorted(int(key) for _, _, ids in thirds for key in ids) == list(range(len(values)))
    assert all(high < low for (_, high, _), (low, _, _) in pairwise(thirds))
    assert all(len(ids) >= strata.IN_A_PART for _, _, ids in thirds) and len(thirds) <= 3


def test_distinct_values_make_thirds() -> None:
    thirds = strata.thirds({str(n): float(n * 7 % 90) for n in range(90)})
    assert [(low, high, len(ids)) for low, high, ids in thirds] == [(0, 29, 30), (30, 59, 30), (60, 89, 30)]


def test_experts_part_the_prompts_where_one_alone_answered() -> None:
    asked = items(90, experts=("Ann", "Bob", "Ann"))
    score = {item.id: 60.0 + n % 2 if item.experts[0] == "Ann" else 30.0 + n % 2 for n, item in enumerate(asked)}
    ann, bob = parted(asked, score, "expert")
    assert (ann.label, ann.n, bob.label, bob.n) == ("Ann", 60, "Bob", 30)
    assert ann.score.value > 55 and bob.score.value < 35
    together = [HeldOut(item.id, item.prompt, item.references * 2, ("Ann", "Bob"), item.cluster) for item in asked]
    assert parted(together, score, "expert") == []
    assert parted(items(90, experts=("Ann",)), score, "expert") == []


def test_many_small_experts_are_one_part_together() -> None:
    asked = items(90, experts=("Ann", "Bob", *(f"e{n}" for n in range(13))))
    found = parted(asked, {item.id: 50.0 for item in asked}, "expert")
    assert found == []  # each has six prompts, and nobody stands out
    asked = items(90, experts=("Ann", "Ann", "Ann", "e1", "Ann", "Ann", "Ann", "e2", "Ann"))
    found = parted(asked, {item.id: 50.0 for item in asked}, "expert")
    assert [(s.label, s.n) for s in found] == [("Ann", 70), ("e1", 10), ("e2", 10)]


def test_bits_saved_are_all_bits_over_all_bytes_of_the_part() -> None:
    asked = items(120)
    score = {item.id: 50.0 for item in asked}
    sizes = {item.id: len(item.references[0]) for item in asked}
    bits = {"tuned": {k: 1.0 * v for k, v in sizes.items()}, "B3": {k: 3.0 * v + 8 for k, v in sizes.items()}}
    short, *_ = parted(asked, score, "expert's length", bits=bits, sizes=sizes)
    ids = [item.id for item in asked if len(item.references[0].split()) <= 4]
    expected = math.fsum(2 * sizes[k] + 8 for k in ids) / sum(sizes[k] for k in ids)
    assert short.saved is not None and short.saved.value == pytest.approx(expected)
    assert short.saved.low is not None and short.saved.low > 0


def test_few_prompts_or_alike_ones_are_absent() -> None:
    asked = items(59)
    with pytest.raises(Absent, match="59 prompts are too few"):
        parted(asked, {item.id: 50.0 for item in asked}, "expert")
    alike = items(80, words=1)
    with pytest.raises(Absent, match="differ neither"):
        parted(alike, {item.id: 50.0 for item in alike}, "expert", train=[])


def test_a_set_whose_training_is_not_known_is_parted_by_length_alone() -> None:
    asked = items()
    score = {item.id: 50.0 for item in asked}
    assert parted(asked, score, "distance to training", train=[]) == []
    assert len(parted(asked, score, "expert's length", train=[])) == 3
