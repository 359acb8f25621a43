"""Thoughts are held beside the expert's: a clone that stopped thinking is named, a perfect one is not."""

from __future__ import annotations

import math

import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.findings import Thoughts
from sft.fidelity.probes import Absent
from sft.fidelity.probes.thoughts import thoughts
from sft.reports.sections.thoughts import thoughts_sentences
from sft.runs.records import Completion, TokenScores

PROMPTS = 120


def item(number: int, *thought: str) -> HeldOut:
    texts = tuple(f"answer {number} {place}" for place in range(len(thought)))
    prompt = (Message("user", f"question {number}"),)
    return HeldOut(f"p{number}", prompt, texts, ("",) * len(texts), f"p{number}", thoughts=thought)


ITEMS = [item(number, f"first the {number}, then half of it is {number / 2}") for number in range(PROMPTS)]


def wrote(thought: str, text: str = "an answer", *, every: int = 1) -> dict[str, Completion]:
    """The same for every prompt; "{}" is the expert's own thought. Only every ``every``-th has a thought."""
    return {
        one.id: Completion(one.id, text, True, thought=thought.format(one.thoughts[0]) if n % every == 0 else "")
        for n, one in enumerate(ITEMS)
    }


def found(clone: dict[str, Completion], base: dict[str, Completion] | None = None) -> Thoughts:
    scores = {one.id: TokenScores(one.id, (1.0,), (0,), (0.5,), 9, thought_nats=(math.log(2),) * 20) for one in ITEMS}
    return thoughts(ITEMS, {"tuned": clone, **({"B0": base} if base else {})}, {"tuned": scores})


def test_a_perfect_clone_is_not_accused() -> None:
    part = found(wrote("{}"), wrote("nothing alike"))
    assert (part.n, part.thinks["tuned"].value, part.score["tuned"].value, part.length.value) == (PROMPTS, 1, 100, 1)
    assert part.score["B0"].value < 30 and part.unanswered.value == 0
    sizes = sum(len(one.thoughts[0]) for one in ITEMS)
    assert part.bits["tuned"].value == pytest.approx(20 * PROMPTS / sizes)
    (sentence,) = thoughts_sentences(part)
    assert sentence.startswith("It thinks before it answers, as the expert did; its thoughts have chrF 100.0")


def test_a_clone_that_thinks_half_of_the_time_is_named() -> None:
    (sentence,) = thoughts_sentences(found(wrote("{}", every=2)))
    assert sentence.startswith("It thinks before 50.0 %") and "the expert did before all of them" in sentence


def test_a_clone_that_comes_to_no_answer_is_named() -> None:
    part = found(wrote("{} and so on", text=""))
    assert part.unanswered.value == 1
    assert thoughts_sentences(part)[1].startswith("No answer follows 100.0 %")


def test_experts_who_thought_differently_all_count_and_others_do_not() -> None:
    two = item(0, "one way", "another way")
    written = {two.id: Completion(two.id, "x", True, thought="one way")}
    assert 50 < thoughts([two], {"tuned": written}, {}).score["tuned"].value < 100
    some = item(1, "", "mused")
    written = {some.id: Completion(some.id, "x", True, thought="mused")}
    part = thoughts([some], {"tuned": written}, {})
    assert part.score["tuned"].value == 100 and not part.bits
    with pytest.raises(Absent, match="no expert's thought is known"):
        thoughts([HeldOut("p", two.prompt, ("a",), ("",), "p")], {"tuned": written}, {})
