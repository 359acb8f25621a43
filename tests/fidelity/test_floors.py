"""The shortcuts: what they answer, and that nothing but content can change it."""

from __future__ import annotations

import random

import pytest

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out, prompt_text
from sft.fidelity import floors


def demonstration(prompt: str, completion: str, **more: str) -> Demonstration:
    return Demonstration((Message("user", prompt),), completion, **more)


TRAIN = [
    demonstration("Capital of France?", "Paris is the capital of France."),
    demonstration("Capital of Norway?", "Oslo is the capital of Norway."),
    demonstration("Boil an egg", "Nine minutes in boiling water."),
    demonstration("What colour is the sky?", "Blue, on most days."),
    demonstration("机器学习是什么", "一种让计算机从数据中学习的方法。"),
]
ASKED = held_out(
    [
        demonstration("capital of france", "Paris."),
        demonstration("How do I boil two eggs", "Ten minutes."),
        demonstration("学习机器是什么东西", "不知道。"),
        demonstration("zzqx", "?"),
    ]
)


def texts(found: dict) -> list[str]:
    return [found[item.id].text for item in ASKED]


def test_nearest_prompt_lends_its_completion() -> None:
    first, second, third, _ = texts(floors.nearest(TRAIN, ASKED))
    assert first == "Paris is the capital of France."
    assert second == "Nine minutes in boiling water."
    assert third == TRAIN[4].completion


def test_ties_and_strangers_go_to_the_smallest_id() -> None:
    twins = [demonstration("same prompt", text, id=name) for name, text in (("b", "late"), ("a", "early"))]
    asked = [HeldOut("x", (Message("user", "same prompt"),), ("?",), ("",), "c")]
    assert floors.nearest(twins, asked)["x"].text == "early"
    smallest = min(TRAIN, key=lambda d: d.id)
    assert texts(floors.nearest(TRAIN, ASKED))[3] == smallest.completion


def test_constant_is_the_most_typical_completion() -> None:
    train = [demonstration(f"p{i}", f"the weather in town {i} is fine today") for i in range(6)]
    train += [demonstration("odd", "Quarterly figures exceed plan"), demonstration("odder", "42")]
    found = floors.constant(train, ASKED)
    assert len(set(texts(found))) == 1
    assert texts(found)[0].startswith("the weather in town")


def test_constant_is_the_medoid_by_brute_force() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    generator = random.Random(0)
    words = ["red", "green", "blue", "apple", "pear", "sky", "runs", "falls"]
    train = [demonstration(f"p{i}", " ".join(generator.choices(words, k=5))) for i in range(40)]
    ordered = sorted(train, key=lambda d: d.id)
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform([d.completion for d in ordered])
    best = (vectors @ vectors.T).toarray().mean(axis=1).round(9).argmax()
    assert texts(floors.constant(train, ASKED))[0] == ordered[best].completion


def test_the_copied_prompt_is_the_last_user_message() -> None:
    prompt = (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "Name a bird"),
    )
    item = HeldOut("x", prompt, ("finch",), ("",), "c")
    assert floors.copied_prompt([item])["x"].text == "Name a bird"


def test_order_of_training_rows_changes_nothing() -> None:
    train = TRAIN + [demonstration(f"Capital of {c}?", f"It is {c} City.") for c in "ABCDEFGH"]
    before = floors.floor_completions(train, ASKED), floors.b3_demonstrations(train)
    for seed in range(3):
        shuffled = list(train)
        random.Random(seed).shuffle(shuffled)
        assert (floors.floor_completions(shuffled, ASKED), floors.b3_demonstrations(shuffled)) == before
    assert set(before[0]) == {"R", "K", "P"}
    assert all(set(found) == {item.id for item in ASKED} for found in before[0].values())
    assert all(completion.finished for found in before[0].values() for completion in found.values())


def test_blocks_give_what_one_block_gives() -> None:
    known, asked = (tuple(prompt_text(row.prompt) for row in rows) for rows in (TRAIN, ASKED))
    whole, pieces = floors.nearest_prompts(known, asked), floors.nearest_prompts(known, asked, block=1)
    for one, other in zip(whole, pieces, strict=True):
        assert one.tolist() == other.tolist()


def test_the_nearest_prompts_are_looked_for_once() -> None:
    """R and the parts by distance to training ask the same; other rows are another question."""
    floors.nearest_prompts.cache_clear()
    floors.nearest(TRAIN, ASKED)
    floors.nearness_to_training(TRAIN[::-1], ASKED)
    assert floors.nearest_prompts.cache_info()[:2] == (1, 1), "(hits, misses)"
    fewer = floors.nearest(TRAIN[1:], ASKED)
    assert floors.nearest_prompts.cache_info().misses == 2 and fewer != floors.nearest(TRAIN, ASKED)


def test_three_short_demonstrations_are_shown() -> None:
    long = [demonstration(f"long {i}", "word " * 50) for i in range(10)]
    short = [demonstration(f"short {i}", f"answer {i}") for i in range(10)]
    chosen = floors.b3_demonstrations(long + short)
    assert len(chosen) == 3 and all(d in short for d in chosen)
    assert floors.b3_demonstrations([*long, *short, demonstration("another", "x" * 500)])[0] in short


def test_shown_demonstrations_do_not_repeat_themselves() -> None:
    """Of 30 rows that say yes and one that says no, three that all say yes would teach one word."""
    train = [demonstration(f"question {i:02}", "yes") for i in range(30)] + [demonstration("question", "no")]
    chosen = floors.b3_demonstrations(train)
    assert {d.completion for d in chosen} == {"yes", "no"} and len(chosen) == 3
    same_prompt = [demonstration("q", text) for text in ("a", "b", "c", "d")]
    assert len(floors.b3_demonstrations(same_prompt)) == 1


def test_small_and_empty_sets() -> None:
    assert len(floors.b3_demonstrations(TRAIN[:4])) == 3
    assert len(floors.b3_demonstrations(TRAIN[:2])) == 2
    for floor in (floors.nearest, floors.constant):
        with pytest.raises(ValueError, match="at least one training demonstration"):
            floor([], ASKED)
