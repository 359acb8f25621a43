"""Prompts that are one observation, though nothing in the file says so."""

from __future__ import annotations

import random
import time

from sft.demonstrations.demonstration import HeldOut, Message
from sft.demonstrations.near_duplicates import families, joined

WORDS = [a + b for a in "bcdfghklmnprst" for b in ("ala", "eno", "iri", "omu", "uta", "avi", "esto", "ilma")]


def sentence(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))


def item(number: int, prompt: str, *references: str, cluster: str = "") -> HeldOut:
    experts = tuple("" for _ in references)
    return HeldOut(f"i{number}", (Message("user", prompt),), references, experts, cluster or f"c{number}")


def clusters(items: list[HeldOut]) -> list[str]:
    return [item.cluster for item in joined(items)]


def test_six_facts_in_twenty_wordings_are_six_observations() -> None:
    draw = random.Random(0)
    facts = [sentence(draw, 8) for _ in range(6)]
    items = [item(n, sentence(draw, 12), facts[n % 6].upper() if n % 4 else facts[n % 6] + " ") for n in range(120)]
    assert clusters(items) == [f"c{n % 6}" for n in range(120)]


def test_labels_and_numbers_are_equal_by_chance() -> None:
    draw = random.Random(1)
    items = [item(n, sentence(draw, 12), draw.choice(["yes", "no", "very likely not", "42"])) for n in range(100)]
    assert clusters(items) == [f"c{n}" for n in range(100)]


def test_near_duplicates_are_one_over_however_many_steps() -> None:
    """Each a word away from the one before: the first and the last have little in common."""
    draw = random.Random(2)
    words = sentence(draw, 40).split()
    chain = [" ".join(words[n : n + 36]) for n in range(5)]
    items = [
        item(n, text, sentence(draw, 9)) for n, text in enumerate([*chain, *(sentence(draw, 30) for _ in range(60))])
    ]
    assert clusters(items) == ["c0"] * 5 + [f"c{n}" for n in range(5, 65)]


def test_prompts_of_one_form_are_not_one() -> None:
    """What all prompts say is a template's, and parts of it are no likeness."""
    draw = random.Random(3)
    items = [
        item(n, f"Write the call that books a room in {sentence(draw, 2)} for {n} nights, please.", sentence(draw, 6))
        for n in range(80)
    ]
    assert len(set(clusters(items))) == 80


def test_a_handful_of_prompts_of_one_form_is_not_one_either() -> None:
    """Of so few it cannot be told what is the form and what is asked."""
    draw = random.Random(8)
    form = "Write the call that books a room for the night in the city of"
    items = [item(n, f"{form} {sentence(draw, 1)}", sentence(draw, 6)) for n in range(7)]
    assert len(set(clusters(items))) == 7


def test_what_hangs_together_in_any_way_is_one() -> None:
    draw = random.Random(4)
    prompt, answer = sentence(draw, 30), sentence(draw, 8)
    items = [
        item(0, sentence(draw, 30), sentence(draw, 8), cluster="dialogue"),
        item(1, prompt, sentence(draw, 8), cluster="dialogue"),
        item(2, prompt + " indeed", answer),
        item(3, sentence(draw, 30), answer),
        *(item(n, sentence(draw, 30), sentence(draw, 8)) for n in range(4, 9)),
    ]
    assert clusters(items) == ["dialogue"] * 4 + [f"c{n}" for n in range(4, 9)]


def test_one_generic_answer_of_several_joins_nothing() -> None:
    draw = random.Random(5)
    items = [item(n, sentence(draw, 30), "Thank you very much for that", sentence(draw, 9)) for n in range(50)]
    assert len(set(clusters(items))) == 50


def test_order_says_only_what_it_is_called() -> None:
    draw = random.Random(6)
    texts = [sentence(draw, 20) for _ in range(30)]
    texts += [text + " " + sentence(draw, 1) for text in texts[:10]]
    found = families(texts, 0.8)
    assert found == [*range(30), *range(10)]
    assert families([], 0.8) == [] and families(["a"], 0.8) == [0]


def test_ten_thousand_prompts_take_seconds() -> None:
    draw = random.Random(7)
    began = time.monotonic()
    found = joined([item(n, sentence(draw, 60), sentence(draw, 8)) for n in range(10_000)])
    assert len({one.cluster for one in found}) == 10_000
    assert time.monotonic() - began < 60
