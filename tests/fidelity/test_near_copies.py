"""Near copies are those that comparing every pair finds, and not every pair is compared."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.fidelity.near_copies import ALIKE, folded, nearly_in
from sft.metrics import edit_similarity

WORDS = ["amber", "birch", "cedar", "délta", "ember", "fjord", "grove", "heath", "inlet", "knoll", "好", "marsh"]


def by_brute_force(texts: list[str], others: list[str]) -> list[bool]:
    return [any(edit_similarity(folded(t), folded(o)) >= 100 * ALIKE for o in others) for t in texts]


def edited(text: str, count: int, draw: random.Random) -> str:
    """``text`` with ``count`` letters changed, taken out or put in."""
    letters = list(text)
    for _ in range(count):
        at = draw.randrange(len(letters))
        letters[at : at + draw.choice([0, 1, 1])] = draw.choice(["", "x", "好"])
    return "".join(letters)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), words=st.integers(1, 40))
def test_they_are_those_of_brute_force(seed: int, words: int) -> None:
    """Just as many edits as a copy may have, one more, one fewer; short texts and long ones."""
    draw = random.Random(seed)
    others = [" ".join(draw.choices(WORDS, k=words)) for _ in range(30)]
    texts = []
    for other in others:
        most = int(len(other) * (1 / ALIKE - 1))
        texts += [edited(other, max(0, most + more), draw) for more in (-1, 0, 1)]
    assert nearly_in(texts, others).tolist() == by_brute_force(texts, others)


def test_case_and_white_space_are_no_difference() -> None:
    assert nearly_in(["YES,  indeed\n", "", "cafe\u0301"], ["yes, indeed", "café"]).tolist() == [True, False, True]
    assert nearly_in([], ["a"]).tolist() == [] and nearly_in(["a"], []).tolist() == [False]


@pytest.mark.parametrize("slots", [1, 6])
def test_thousands_out_of_one_template_take_seconds(slots: int) -> None:
    """Every pair would be 16 million comparisons. With one slot all are nearly alike, with six hardly any."""
    draw = random.Random(0)
    fixed = " ".join(draw.choices(WORDS, k=30)).split()

    def one() -> str:
        text = list(fixed)
        for slot in range(slots):
            text[slot * 4] = f"{draw.randrange(10**6):06}"
        return " ".join(text)

    others, texts = [one() for _ in range(4000)], [one() for _ in range(4000)]
    began = time.process_time()
    found = nearly_in(texts, others)
    assert time.process_time() - began < 30
    assert found.mean() == (1.0 if slots == 1 else 0.0)
