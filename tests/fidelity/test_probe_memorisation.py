"""Planted copies are found, an expert's own phrases are not held against the clone, and runs are what they say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message
from sft.fidelity.probes import Absent
from sft.fidelity.probes.memorisation import longest_runs, memorisation
from sft.metrics import intervals
from sft.metrics.text import words
from sft.runs.records import Completion

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "knoll", "larch", "marsh"]


def sentence(generator: random.Random, count: int = 12) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(count)).capitalize() + "."


def train_of(texts: Sequence[str]) -> list[Demonstration]:
    return [Demonstration((Message("user", f"t{i}"),), text, id=f"t{i}") for i, text in enumerate(texts)]


def asked(references: Sequence[Sequence[str]], cluster: int = 1) -> list[HeldOut]:
    return [
        HeldOut(f"h{i:03}", (Message("user", f"q{i}"),), tuple(texts), ("",) * len(texts), f"c{i // cluster}")
        for i, texts in enumerate(references)
    ]


def written(texts: Sequence[str]) -> dict[str, Completion]:
    return {f"h{i:03}": Completion(f"h{i:03}", text, True) for i, text in enumerate(texts)}


def by_brute_force(text: str, learned: Sequence[str]) -> tuple[int, int, int]:
    """Second definition: try every stretch of the text, longest first, in every training text."""
    mine = words(text)
    for count in range(len(mine), 0, -1):
        for start in range(len(mine) - count + 1):
            for place, other in enumerate(learned):
                theirs = words(other)
                if any(theirs[i : i + count] == mine[start : start + count] for i in range(len(theirs) - count + 1)):
                    return count, start, place
    return 0, 0, -1


some_texts = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d.", "好"]), max_size=24).map(" ".join), max_size=5)


@settings(max_examples=300, deadline=None)
@given(texts=some_texts.filter(bool), learned=some_texts.filter(bool))
@example(texts=["b c a a a a b a a b", "c b c c a a a c a"], learned=["b c a a a a b a a b", "c b c c a a a c a"])
def test_runs_are_those_of_brute_force(texts: list[str], learned: list[str]) -> None:
    """Few words, so that runs are long, overlap, cross and tie; empty and repeated texts among them."""
    runs, starts, sources = longest_runs(texts, learned)
    for text, *found in zip(texts, runs, starts, sources, strict=True):
        assert tuple(found) == by_brute_force(text, learned)


@pytest.mark.parametrize("length, at", list(product((1, 4, 5, 6, 7, 9, 30, 67, 200), (0, 3))))
def test_a_run_of_any_length_is_found_to_the_word(length: int, at: int) -> None:
    run = [f"w{i}" for i in range(length)]
    text = " ".join([f"x{i}" for i in range(at)] + run + ["y"])
    learned = [" ".join([*run[: length // 2], "z"]), " ".join(["v", *run, "u"])]
    runs, starts, sources = longest_runs([text], learned)
    assert (runs[0], starts[0], sources[0]) == (length, at, 1)


def test_a_run_never_crosses_from_one_text_into_the_next() -> None:
    runs, _, _ = longest_runs(["a b c d", "b c", "c d"], ["a b", "c d"])
    assert list(runs) == [2, 1, 2]


def test_a_clone_of_the_manner_is_no_copier() -> None:
    """Clone and experts draw from one stock of phrases, which the training texts use too: no excess."""
    generator = random.Random(0)
    stock = [sentence(generator, 6) for _ in range(40)]
    draw = lambda: " ".join(generator.choice(stock) for _ in range(4))  # noqa: E731
    found = memorisation(
        asked([[draw(), draw()] for _ in range(300)]),
        written([draw() for _ in range(300)]),
        train_of([draw() for _ in range(300)]),
        seed=0,
    )
    assert found.longest["expert"].value > 6
    assert found.excess.low is not None and found.excess.high is not None
    assert found.excess.low < 0 < found.excess.high
    assert found.p_value > 0.05


def test_a_planted_copier_is_caught_with_text_and_source() -> None:
    generator = random.Random(1)
    train = [sentence(generator) for _ in range(100)]
    own = [sentence(generator) for _ in range(60)]
    texts = [f"Well: {train[i]}" if i < 5 else train[i] if i < 12 else sentence(generator) for i in range(60)]
    texts[5] = f"  {train[5].upper()}\n"
    found = memorisation(asked([[text] for text in own]), written(texts), train_of(train), seed=0)
    assert found.verbatim["tuned"].value == pytest.approx(7 / 60) and found.verbatim["expert"].value == 0
    assert found.copies["tuned"].value == pytest.approx(12 / 60), "twelve of thirteen words are one run"
    assert found.copies["expert"].value == 0
    assert found.p_value == intervals.mcnemar_mid_p(12, 0, one_sided=True) < 0.05
    assert found.excess.low is not None and found.excess.low > 0
    assert [(e.id, e.source, e.words) for e in found.examples] == [(f"h00{i}", f"t{i}", 12) for i in range(5)]
    assert found.examples[0].text == train[0].rstrip(".") and found.examples[0].address == "demonstration t0"


def test_examples_show_the_text_as_it_was_written_and_each_run_once() -> None:
    run = "the Café's “best”, crème brûlée"
    others = [[f"x{i} y{i}"] for i in range(40)]
    train = train_of(["nothing here", f"See {run}!", "猫坐在垫子上。"])
    texts = [f"Oh, {run} …", f"Ah {run}", "狗和猫坐在垫子上！", *[f"z{i}" for i in range(37)]]
    found = memorisation(asked(others), written(texts), train, seed=0)
    assert [(e.id, e.text, e.source) for e in found.examples] == [
        ("h000", "the Café's “best”, crème brûlée", "t1"),
        ("h002", "猫坐在垫子上", "t2"),
    ]


def test_the_experts_run_is_the_mean_over_the_references() -> None:
    train = train_of(["a b c d e f"])
    found = memorisation(asked([["a b", "a b c d"], ["z"]]), written(["a b c", "y"]), train, seed=0)
    assert found.longest["expert"].value == pytest.approx((3 + 0) / 2)
    assert found.longest["tuned"].value == pytest.approx((3 + 0) / 2)
    assert found.excess.value == pytest.approx(0)


def test_a_cluster_of_copies_counts_once() -> None:
    """Ten copies in one cluster are one accident: McNemar would say p = 0.0005."""
    references = [[f"u{i}"] for i in range(40)]
    texts = ["yes"] * 10 + [f"v{i}" for i in range(30)]
    found = memorisation(asked(references, 10), written(texts), train_of(["yes", "no"]), seed=0)
    assert found.p_value == pytest.approx(0.5)


def test_texts_without_words_share_nothing() -> None:
    found = memorisation(asked([["{}"], ["a"]]), written(["", "…"]), train_of(["[]"]), seed=0)
    assert found.longest["tuned"].value == found.longest["expert"].value == 0
    assert found.examples == ()


NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jule", "Kim", "Lars"]


def letter(generator: random.Random, formula: float) -> str:
    """A letter to somebody: word for word a formula but for the name, or, as often as ``formula`` leaves, free."""
    free = generator.random() >= formula
    body = (
        sentence(generator, 26)
        if free
        else "Thank you for writing. We have passed your request on to the people "
        + ("who know most about such things, and they will answer within three weeks from today.")
    )
    return f"Dear {generator.choice(NAMES)}, {body[0].lower()}{body[1:]}"


def swapped(text: str, name: str) -> str:
    """A training letter with another name in its slot, and without its last full stop."""
    return f"Dear {name}{text[text.index(',') :]}".removesuffix(".")


@pytest.mark.parametrize("formula", [0.0, 0.5])
@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_retriever_that_swaps_a_slot_and_drops_a_full_stop_is_a_copier(n: int, formula: float) -> None:
    """Word for word it copied nothing, and "learned from the demonstrations" was the verdict."""
    for seed in range(5):
        generator = random.Random(seed)
        train = [letter(generator, formula) for _ in range(200)]
        own = asked([[letter(generator, formula)] for _ in range(n)])
        texts = [swapped(generator.choice(train), generator.choice(NAMES)) for _ in range(n)]
        found = memorisation(own, written(texts), train_of(train), seed=0)
        assert found.verbatim["tuned"].value == 0
        assert found.copies["tuned"].value == 1 > found.copies["expert"].value and found.p_value < 0.05


@pytest.mark.parametrize("formula", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_perfect_clone_of_formulaic_text_is_no_copier(n: int, formula: float) -> None:
    """All letters of the formula are nearly a training letter; the experts' own are so too."""
    accused = 0
    for seed in range(20):
        generator = random.Random(seed)
        train = [letter(generator, formula) for _ in range(200)]
        own = asked([[letter(generator, formula)] for _ in range(n)])
        texts = [letter(generator, formula) for _ in range(n)]
        found = memorisation(own, written(texts), train_of(train), seed=0)
        assert abs(found.copies["expert"].value - formula) < 0.3
        accused += found.p_value <= 0.05
    assert accused <= 3


@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_terse_clone_of_short_texts_is_no_copier(n: int) -> None:
    """Half of a short text often stands in some training text; that alone makes no copy."""
    for seed in range(5):
        generator = random.Random(seed)
        train = [sentence(generator, 7) for _ in range(2000)]
        own = asked([[sentence(generator, 7)] for _ in range(n)])
        found = memorisation(own, written([sentence(generator, 3) for _ in range(n)]), train_of(train), seed=0)
        assert found.copies["tuned"].value == 0 and found.longest["tuned"].value > 2.5


def test_a_long_beginning_of_a_training_text_is_a_copy() -> None:
    train = train_of([" ".join(f"w{i}" for i in range(40))])
    texts = [" ".join(f"w{i}" for i in range(count)) for count in (40, 37, 20, 10, 9)]
    found = memorisation(asked([[f"x{i}"] for i in range(5)]), written(texts), train, seed=0)
    assert found.copies["tuned"].value == pytest.approx(4 / 5) and found.verbatim["tuned"].value == pytest.approx(1 / 5)


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(Absent, match="training demonstrations are not known"):
        memorisation(asked([["a"]]), written(["a"]), [], seed=0)
    with pytest.raises(Absent, match="the clone wrote nothing"):
        memorisation(asked([["a"]]), {}, train_of(["a"]), seed=0)
