"""The shortcuts: what they answer, and that nothing but content can change it."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out, prompt_text
from sft.fidelity import floors, nearness
from sft.metrics import chrf
from sft.runs.hashes import fingerprint


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


def best_constant(candidates: list[str], others: list[str]) -> str:
    """Second definition: every pair by ``metrics.chrf``, the first of equals."""
    means = [round(sum(chrf(text, other) for other in others) / len(others), 6) for text in candidates]
    return candidates[means.index(max(means))]


def phrases(count: int, seed: int, words: int = 5) -> list[Demonstration]:
    generator = random.Random(seed)
    stock = ["red", "green", "blue", "apple", "pear", "sky", "runs", "falls"]
    return [demonstration(f"p{i}", " ".join(generator.choices(stock, k=words))) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 40, 60, 61, 119, 120, 300])
def test_constant_is_the_best_of_those_drawn_by_brute_force(count: int) -> None:
    train = phrases(count, 0)
    drawn = [d.completion for d in sorted(train, key=lambda d: fingerprint(d.to_dict(content_only=True)))][:120]
    candidates = [*drawn[:60], central(train)]
    assert texts(floors.constant(train, ASKED))[0] == best_constant(candidates, drawn[60:] if count >= 120 else drawn)


def central(train: list[Demonstration]) -> str:
    """K as it was until November 2026."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    ordered = sorted(train, key=lambda d: d.id)
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform([d.completion for d in ordered])
    return ordered[(vectors @ vectors.T).toarray().mean(axis=1).round(9).argmax()].completion


def test_constant_is_no_text_nine_times_too_long() -> None:
    """Of Dolly's answers the medoid by TF-IDF had 3,480 characters and scored 7.7: a straw man."""
    train = phrases(200, 1)
    train.append(demonstration("all of it", " ".join(d.completion for d in train[:60])))
    assert central(train) == train[-1].completion
    assert len(texts(floors.constant(train, ASKED))[0]) < 50


def test_the_medoid_of_the_neighbours_outvotes_an_odd_one() -> None:
    """The nearest prompt was answered oddly, as experts do at times; R repeats it, RK what the others say."""
    train = [demonstration(f"Capital of {c}land, please?", f"The capital of {c}land is {c}burg.") for c in "ABCDEFG"]
    train.append(demonstration("Capital of Xland, please!", "Look it up yourself"))
    train += phrases(60, 2)
    asked = held_out([demonstration("Capital of Xland, please?", "The capital of Xland is Xburg.")])
    assert floors.nearest(train, asked)[asked[0].id].text == "Look it up yourself"
    assert floors.nearest_medoid(train, asked)[asked[0].id].text.startswith("The capital of")


@pytest.mark.parametrize("count", [1, 5, 20, 21, 80])
def test_the_medoid_of_the_neighbours_by_brute_force(count: int) -> None:
    train = phrases(count, 3)
    asked = held_out([demonstration(f"p{i} red", "?") for i in range(9)])
    ordered = sorted(train, key=lambda d: (d.id, d.completion))
    places, _ = nearness.nearest_prompts(*(tuple(prompt_text(d.prompt) for d in rows) for rows in (ordered, asked)))
    found = floors.nearest_medoid(train, asked)
    for item, near in zip(asked, places, strict=True):
        assert len(set(near)) == min(20, count)
        around = [ordered[place].completion for place in near]
        assert found[item.id].text == best_constant(around, around)


def test_neighbours_are_the_nearest_in_order() -> None:
    known = tuple(f"{'a' * (i % 7)} word{i % 11} {i}" for i in range(100))
    asked = ("word3 aaa", "word5 12", "nothing alike 好")
    places, cosines = nearness.nearest_prompts(known, asked)
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    vectors = vectoriser.fit_transform(known)
    every = (vectoriser.transform(asked) @ vectors.T).toarray().round(9)
    for row, near, values in zip(every, places.tolist(), cosines, strict=True):
        wanted = sorted(range(100), key=lambda place: (-row[place], place))[:20]
        assert near == wanted and values.tolist() == pytest.approx(row[wanted], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=12), st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_vectors_are_those_of_scikit_learn(known: list[str], asked: list[str]) -> None:
    """All scripts, blanks of all kinds, words of one letter and none, n-grams that only one side has."""
    known = [*known, "Word 字 a"]
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    fitted = vectoriser.fit_transform([unicodedata.normalize("NFC", text) for text in known])
    others = vectoriser.transform([unicodedata.normalize("NFC", text) for text in asked])
    vectors = nearness.CharacterVectors(known)
    block = vectors.of_blocks(asked, len(asked))(0)
    assert (vectors.fitted.shape, vectors.fitted.nnz, block.nnz) == (fitted.shape, fitted.nnz, others.nnz)
    np.testing.assert_allclose((block @ vectors.fitted.T).toarray(), (others @ fitted.T).toarray(), rtol=0, atol=1e-12)
    np.testing.assert_allclose((vectors.fitted @ vectors.fitted.T).toarray(), (fitted @ fitted.T).toarray(), atol=1e-12)


def test_the_medoids_of_thousands_are_found_on_all_cores() -> None:
    """Parts of the prompts give what all of them give at once."""
    train = phrases(6, 5, words=2)
    asked = held_out([demonstration(f"p{i} {i % 7} red {i}", "?") for i in range(floors.MANY)])
    found = floors.nearest_medoid(train, asked)
    some = asked[:: len(asked) // 25]
    assert {item.id: found[item.id] for item in some} == floors.nearest_medoid(train, some)


def test_a_text_of_the_usual_length_is_a_floor_of_long_answers() -> None:
    """Of every prompt another one, of about the median length, and the same whatever else is asked."""
    generator = random.Random(4)
    long = [demonstration(f"p{i}", " ".join(["word"] * generator.randint(20, 220)) + f" {i}") for i in range(500)]
    asked = held_out([demonstration(f"q{i}", "?") for i in range(40)])
    assert floors.writes_at_length(long) and not floors.writes_at_length(TRAIN) and not floors.writes_at_length([])
    found = floors.floor_completions(long, asked)["L"]
    median = sorted(len(d.completion) for d in long)[250]
    assert all(abs(len(one.text) - median) < 0.25 * median for one in found.values())
    assert len({one.text for one in found.values()}) > 20
    assert floors.length_matched(long[::-1], asked[7:8])[asked[7].id] == found[asked[7].id]
    assert "L" in floors.demanded(long) and "L" not in floors.demanded(TRAIN)


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
    assert set(before[0]) == {"R", "RK", "K", "P"}
    assert all(set(found) == {item.id for item in ASKED} for found in before[0].values())
    assert all(completion.finished for found in before[0].values() for completion in found.values())


def test_blocks_give_what_one_block_gives() -> None:
    known, asked = (tuple(prompt_text(row.prompt) for row in rows) for rows in (TRAIN, ASKED))
    whole, pieces = nearness.nearest_prompts(known, asked), nearness.nearest_prompts(known, asked, block=1)
    for one, other in zip(whole, pieces, strict=True):
        assert one.tolist() == other.tolist()


def test_the_nearest_prompts_are_looked_for_once() -> None:
    """R and the parts by distance to training ask the same; other rows are another question."""
    nearness.nearest_prompts.cache_clear()
    floors.nearest(TRAIN, ASKED)
    floors.nearness_to_training(TRAIN[::-1], ASKED)
    assert nearness.nearest_prompts.cache_info()[:2] == (1, 1), "(hits, misses)"
    fewer = floors.nearest(TRAIN[1:], ASKED)
    assert nearness.nearest_prompts.cache_info().misses == 2 and fewer != floors.nearest(TRAIN, ASKED)


def test_three_short_demonstrations_are_shown() -> None:
    long = [demonstration(f"long {i}", "word " * 50) for i in range(10)]
    short = [demonstration(f"short {i}", f"answer {i}") for i in range(10)]
    chosen = floors.b3_demonstrations(long + short)
    assert len(chosen) == 3 and all(d in short for d in chosen)
    assert floors.b3_demonstrations([*long, *short, demonstration("another", "x" * 500)])[0] in short


def test_the_nearest_demonstrations_are_shown_nearest_last() -> None:
    """Before each prompt its own; a prompt that two experts answered is shown once."""
    train = [*TRAIN, demonstration("Capital of France?", "It is Paris.", id="zz")]
    shown = floors.b3_nearest(train, ASKED)
    assert [d.prompt[0].content for d in shown[ASKED[0].id]][-2:] == ["Capital of Norway?", "Capital of France?"]
    assert all(len({d.prompt for d in some}) == len(some) == 3 for some in shown.values())
    assert len(floors.b3_nearest(TRAIN[:2], ASKED)[ASKED[0].id]) == 2
    shuffled = list(train)
    random.Random(0).shuffle(shuffled)
    assert floors.b3_nearest(shuffled, ASKED) == shown


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
    for floor in (floors.nearest, floors.nearest_medoid, floors.constant, floors.length_matched):
        with pytest.raises(ValueError, match="at least one training demonstration"):
            floor([], ASKED)
