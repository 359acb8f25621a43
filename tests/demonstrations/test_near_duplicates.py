"""The fast search for near-duplicates against their plain definition, written out a second time here."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sft
from sft.demonstrations import near_duplicates, splits
from sft.demonstrations.formats import read
from sft.demonstrations.near_duplicates import find_near
from sft.demonstrations.shingles import CHUNK, CHUNK_TEXTS, boilerplate_of
from sft.demonstrations.similarity import similarities
from sft.demonstrations.table import DemonstrationTable


def plain_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@cache
def plain_shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = plain_words(text)
    return frozenset(tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1)))


def plain_similarity(one: str, other: str) -> float:
    shared = len(plain_shingles(one) & plain_shingles(other))
    return shared / (len(plain_shingles(one)) + len(plain_shingles(other)) - shared)


def corpus(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Texts of 1 to 60 words, and a copy of each with up to four words replaced, dropped or added."""
    rng = random.Random(seed)
    vocabulary = [f"word{n}" for n in range(2000)]
    texts, copies = [], []
    for _ in range(count):
        words = rng.choices(vocabulary, k=rng.randint(1, 60))
        texts.append(" ".join(words))
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(words) + 1)
            words[at : at + rng.randint(0, 1)] = rng.choices(vocabulary, k=rng.randint(0, 1))
        copies.append(", ".join(words).title())
    return texts, copies


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_the_search_finds_what_brute_force_finds_and_nothing_else(threshold: float) -> None:
    texts, copies = corpus(seed=1, count=400)
    best = [max(plain_similarity(text, copy) for copy in copies) for text in texts]
    found = {near.row: near for near in find_near(texts, copies, threshold)}
    for near in found.values():
        assert near.similarity >= threshold
        assert near.similarity == pytest.approx(plain_similarity(texts[near.row], copies[near.other]))
    wanted = {row for row, similarity in enumerate(best) if similarity >= min(threshold + 0.03, 1.0)}
    assert len(wanted) > 60
    assert len(wanted & found.keys()) >= 0.98 * len(wanted)
    assert found.keys() <= {row for row, similarity in enumerate(best) if similarity >= threshold}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("ab c.,-", max_size=12), max_size=8), st.lists(st.text("ab c.,-", max_size=12), max_size=8))
def test_short_texts_are_near_exactly_when_their_words_are_the_same(texts: list[str], others: list[str]) -> None:
    texts, others = ([t.replace("-", "+") for t in each] for each in (texts, others))

    def words(text: str) -> list[str]:
        return re.findall(r"[a-z]+|\+", text)

    found = {near.row for near in find_near(texts, others, 1.0)}
    known = {tuple(words(other)) for other in others if words(other)}
    equal = {row for row, text in enumerate(texts) if tuple(words(text)) in known}
    assert equal <= found
    short = {row for row, text in enumerate(texts) if len(words(text)) <= 3}  # one shingle: the text itself
    assert found & short == equal & short


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("What's the capital of France?", "Whats the capital of  FRANCE", True),
        ("What\u2019s the capital of France?", "What's the capital of France", True),
        ("a well-known fact", "a well known fact", True),
        ("What is 2 + 3?", "What is 2 - 3?", False),
        ("7-3", "7 3", False),
        ("Hello World in C", "Hello World in C++", False),
        ("今天天气怎么样", "今天天气怎么样?", True),
        ("今天天气怎么样", "今天天气不错啊", False),
        ("สวัสดีครับ", "สวัสดีค่ะ", False),
        ("हिन्दी में लिखो", "हिन्दी में लिखो।", True),
        ("🙂", "🙃", False),
        ("ﬁne Straße", "FINE STRASSE", True),
        ("?", "!", False),  # no word in either
    ],
)
def test_what_counts_as_the_same_words(one: str, other: str, near: bool) -> None:
    assert bool(find_near([one], [other], 0.8)) is near


def test_a_template_is_left_out_of_the_comparison_unless_nothing_else_is_left() -> None:
    template = " ".join(f"instruction{n}" for n in range(100))
    texts = [f"{template} word{n} noun{n} verb{n} thing{n}" for n in range(150)]
    others = [f"{template} word{n} noun{n} verb{n} thing{n}" for n in range(140, 200)]
    assert [(n.row, n.other) for n in find_near(texts, others, 0.8)] == [(row, row - 140) for row in range(140, 150)]
    assert len(find_near([*texts, template], [*others, template], 0.8)) == 11


def test_families_of_alike_texts_cost_linear_time() -> None:
    """Ten templates, each below the share that makes boilerplate: every bucket is crowded with half-alike texts."""
    rng = random.Random(0)
    vocabulary = [f"word{n}" for n in range(3000)]
    templates = [" ".join(rng.choices(vocabulary, k=25)) for _ in range(12)]
    texts = [f"{templates[n % 12]} {' '.join(rng.choices(vocabulary, k=8))}" for n in range(2000)]
    others = [f"{templates[n % 12]} {' '.join(rng.choices(vocabulary, k=8))}" for n in range(1000)]
    others[:100] = texts[:100]
    looked_at = 0

    def counting(frame: FrameType, event: str, _: object) -> None:
        """Counts the pairs that are compared exactly, from outside."""
        nonlocal looked_at
        if event == "call" and frame.f_code.co_name == "similarities":
            looked_at += len(frame.f_locals["rows"])

    sys.setprofile(counting)
    try:
        found = find_near(texts, others, 0.8)
    finally:
        sys.setprofile(None)
    assert {near.row for near in found if near.similarity == 1} >= set(range(100))
    assert 100 <= looked_at <= len(texts) * (near_duplicates.EXACT_LIMIT + 2), "of 2,000,000 pairs"


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most at 1"):
        find_near(["a"], ["a"], threshold)


@pytest.mark.parametrize(("texts", "others"), [([], []), ([], ["a"]), (["a"], []), ([""], [""]), (["a"], ["b", ""])])
def test_nothing_is_near_nothing(texts: list[str], others: list[str]) -> None:
    assert find_near(texts, others, 0.8) == []


def test_many_texts_are_searched_in_pieces_with_the_same_result() -> None:
    """More texts, characters and pairs than one piece holds; planted repetitions are found in all pieces."""
    rng = random.Random(3)
    vocabulary = [f"word{n}" for n in range(5000)]
    count = CHUNK_TEXTS + 2000
    texts = [" ".join(rng.choices(vocabulary, k=9)) for _ in range(count)]
    assert sum(map(len, texts)) > 2 * CHUNK and count > near_duplicates._PAIRS // near_duplicates.BUCKET_LIMIT
    planted = {row: other for other, row in enumerate(sorted(rng.sample(range(count), 400)))}
    others = [texts[row].upper() + "!" for row in planted]
    found = find_near(texts, others, 0.7)
    assert {near.row: near.other for near in found} == planted


@pytest.mark.parametrize("count", [12, 60, 300])
def test_a_long_instruction_shared_by_all_is_a_template_in_small_sets_too(count: int) -> None:
    instruction = " ".join(f"rule number {n} says so" for n in range(80))
    texts = [f"{instruction}\n\nquestion{n} about topic{n} please" for n in range(count)]
    assert find_near(texts[::2], texts[1::2], 0.8) == []
    again = texts[0].upper() + "!"
    assert [(each.row, each.other) for each in find_near([*texts[1::2], again], texts[::2], 0.8)] == [(count // 2, 0)]


def test_a_pair_is_no_template() -> None:
    sentence = "write a short and friendly note to the neighbours about the party on friday night"
    assert len(find_near([sentence + " please"], [sentence], 0.8)) == 1


# -- invisible characters, and slots -----------------------------------------------------------------------------

MARKS = ["\xad", "\u200b", "\u200d", "\u200f", "\u2060", "\ufeff", "\ufe0f", "\U000e0100", "\u2066\u2069"]


def sprinkled(text: str, rng: random.Random) -> str:
    """The same to the eye: a few marks that nobody sees, within words and between them."""
    for _ in range(rng.randint(1, 6)):
        place = rng.randint(0, len(text))
        text = text[:place] + rng.choice(MARKS) + text[place:]
    return text


def test_what_nobody_sees_is_no_difference() -> None:
    """Between 189 and 215 of 586 prompts that look the same stood on both sides, unnoticed."""
    rng = random.Random(5)
    texts = [" ".join(rng.choices([f"wörd{n}" if n % 2 else f"word{n}" for n in range(2000)], k=9)) for _ in range(600)]
    found = find_near([sprinkled(text, rng) for text in texts], texts, 0.8)
    assert [(near.row, near.other, near.similarity) for near in found] == [(n, n, 1.0) for n in range(600)]


def slots(count: int, order: list[int], values: dict[str, list[str]], unique: str) -> list[str]:
    """Prompts that fill one template: in each something of its own, and every value of every slot, in ``order``."""
    names = list(values)
    texts = []
    for number in range(count):
        for mixed in itertools.product(*values.values()):
            parts = [
                unique.format(n=number, m=number * 7 % 97),
                *(f"{k}[{v}]" for k, v in zip(names, mixed, strict=True)),
            ]
            texts.append(", ".join(parts[place] for place in order))
    return texts


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_a_slot_that_is_filled_in_another_way_makes_another_prompt(order: tuple[int, ...]) -> None:
    """``alarm[yes]`` and ``alarm[no]`` were 100 % alike: both values are so frequent that they were a template's.

    Wherever the slot stands, and beside real near-duplicates of these very prompts, which are still found.
    """
    rng = random.Random(0)
    values = {"kind": ["lamp"], "alarm": ["yes", "no"], "side of the house": ["north", "south west"]}
    texts = slots(60, list(order), values, "device[unit {n} of row {m} upstairs]")
    rng.shuffle(texts)
    train, test = texts[:180], texts[180:]
    assert find_near(train, test, 0.8, corpus=texts) == []
    planted = [text.upper() + " please" for text in test[:20]] + ["Hello, " + text for text in test[20:40]]
    found = find_near(train + planted, test, 0.8)
    assert [(near.row, near.other) for near in found] == [(180 + place, place) for place in range(40)]


def test_a_value_that_only_one_prompt_names_is_a_difference_where_its_absence_is_a_form_too() -> None:
    forms = ["{} is dark", "{} is dark, and the door is open", "{} is dark, and the window is shut"]
    rooms = [f"the chamber numbered {n} in the {n * 7 % 97} th tower" for n in range(60)]
    texts = [form.format(room) for room in rooms for form in forms]
    assert find_near(texts[0::3] + texts[1::3], texts[2::3], 0.8, corpus=texts) == []
    assert find_near(texts[0::3], texts[1::3], 0.8, corpus=texts) == []


def test_an_instruction_that_only_one_prompt_has_hides_no_leak() -> None:
    """Half of the prompts have a system message, the others have none; the same question stands on both sides."""
    rng = random.Random(2)
    instruction = "You are a helpful assistant who answers every question about words in one friendly sentence."
    asked = [" ".join(rng.choices([f"word{n}" for n in range(3000)], k=12)) for _ in range(300)]
    train = [f"{instruction}\n\n{text}" for text in asked[:200]] + asked[200:]
    found = find_near(train, asked[:200], 0.8)
    assert all(near.row == near.other for near in found) and len(found) >= 0.98 * 200


def test_a_leak_is_found_in_a_crowd_that_fills_one_template() -> None:
    """Hundreds of prompts differ in slots alone; the one that is repeated must be met among them all."""
    rng = random.Random(4)
    values = {"kind": ["lamp", "fan", "heater"], "alarm": ["yes", "no"], "side": ["north", "south", "east", "west"]}
    values |= {"mode": ["auto", "manual", "off"], "door": ["open", "shut"], "floor": ["one", "two", "three"]}
    texts = slots(15, [0, 1, 2, 3, 4, 5, 6], values, "device[unit {n} of row {m}]")
    rng.shuffle(texts)
    test = texts[:4000]
    chosen = rng.sample(range(4000), 100)
    planted = ['"' + test[place] + '"' for place in chosen[:50]] + [test[place] + " please" for place in chosen[50:]]
    found = {near.row: near.other for near in find_near([*texts[4000:], *planted], test, 0.8)}
    rest = len(texts) - 4000
    assert sum(found.get(rest + k) == place for k, place in enumerate(chosen)) >= 95
    assert sum(row < rest for row in found) <= 2


@st.composite
def dialogues(draw: st.DrawFn) -> list[str]:
    """Prompts of dialogues of few different words, each going on from the one before; some texts say nothing."""
    word = st.sampled_from(["yes", "no", "a", "b", "c", "alarm", "off", "?", ""])
    turn = st.lists(word, max_size=6).map(" ".join)
    return [
        "\n\n".join(turns[: upto + 1])
        for turns in draw(st.lists(st.lists(turn, min_size=1, max_size=8), max_size=6))
        for upto in range(len(turns))
    ]


@settings(deadline=None, max_examples=200)
@given(dialogues(), dialogues(), st.data())
def test_prompts_of_a_dialogue_are_compared_as_any_texts_are(
    texts: list[str], others: list[str], data: st.DataObject
) -> None:
    """Backwards no text goes on from the one before: each is looked at as a whole."""
    if not texts or not others:
        return
    size = data.draw(st.integers(1, 60))
    rows, near = (
        np.array(data.draw(st.lists(st.integers(0, len(side) - 1), min_size=size, max_size=size)))
        for side in (texts, others)
    )
    corpus = data.draw(st.sampled_from([[], [*texts, *others], [*others, "yes no a b", "yes no a b"] * 4]))
    boilerplate = boilerplate_of(corpus)
    characters = np.array([len(texts[row]) + len(others[other]) for row, other in zip(rows, near, strict=True)])
    forwards = similarities(texts, others, rows, near, characters, boilerplate)
    backwards = similarities(
        texts[::-1], others[::-1], len(texts) - 1 - rows, len(others) - 1 - near, characters, boilerplate
    )
    assert forwards.tolist() == backwards.tolist()


def dialogues_file(path: Path, turns: int, count: int, opening: str, words: int) -> Path:
    """Dialogues of five different words, each in a group of its own."""
    rng, vocabulary = random.Random(turns), ["one", "two", "three", "four", "five"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            said = [opening, *(" ".join(rng.choices(vocabulary, k=words)) for _ in range(turns - 1))]
            roles = itertools.cycle(("user", "assistant"))
            messages = [{"role": role, "content": content} for role, content in zip(roles, said, strict=False)]
            file.write(json.dumps({"messages": messages, "group": f"{number}"}) + "\n")
    return path


def calls_of(name: str, work: Callable[[], object]) -> list[dict[str, Any]]:
    """What each call of the functions called ``name`` is given, in all threads, while ``work`` is done."""
    found: list[dict[str, Any]] = []

    def counting(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == name:
            found.append(dict(frame.f_locals))

    sys.setprofile(counting)
    threading.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def times_read(path: Path) -> float:
    """How often ``sft check`` reads each character of a file as a part of some word."""
    calls = calls_of("_words", lambda: sft.check(path))
    return sum(len(text) for call in calls for text in call["folded"]) / path.stat().st_size


@pytest.mark.parametrize("opening", ["Hello", "what the words say that all dialogues begin with", "?"])
def test_a_dialogue_is_read_as_often_as_its_turns_and_not_as_its_prompts(opening: str, tmp_path: Path) -> None:
    """All of whose words are everybody's, so that every prompt is compared with others, in vain."""
    short, long = (
        times_read(dialogues_file(tmp_path / f"{turns}.jsonl", turns, 4800 // turns, opening, words=6))
        for turns in (20, 160)
    )
    assert 1 < short < 8
    assert 1 < long < 4 * short, "a prompt of long dialogues holds eight times as many words"


def test_a_dialogue_on_disk_is_not_read_for_each_of_its_prompts(tmp_path: Path) -> None:
    """Each of its prompts was read by its number, twice for every comparison, and each time its whole dialogue."""
    path = dialogues_file(tmp_path / "x.jsonl", 160, 30, "Hello", words=6)
    parts = splits.assign(DemonstrationTable.of(read(path).demonstrations), validation=0.2, test=0.2, seed=0)
    calls = calls_of("_read", lambda: splits.find_leaks(parts))
    assert sum(map(len, parts.values())) == 2400 and 0 < len(calls) < 150
