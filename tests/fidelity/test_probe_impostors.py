"""A planted habit is told apart, experts are not told from experts, and the interval covers what it says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent, impostors
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.runs.records import Completion

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "ta", "re") for b in ("ban", "dir", "fes", "gol", "pum", "zet")]
#: A few words often, most of them seldom, as in any language.
WEIGHTS = [1 / (place + 3) for place in range(len(WORDS))]


def sentence(generator: random.Random) -> str:
    return " ".join(generator.choices(WORDS, WEIGHTS, k=generator.randint(5, 14))).capitalize() + "."


def experts(count: int, references: int, seed: int, cluster: int = 1) -> list[HeldOut]:
    generator = random.Random(seed)
    return [
        HeldOut(
            f"h{i}",
            (Message("user", f"q{i}"),),
            tuple(sentence(generator) for _ in range(references)),
            ("",) * references,
            f"c{i // cluster}",
        )
        for i in range(count)
    ]


def written(items: Sequence[HeldOut], text: Callable[[random.Random], str], seed: int = 99) -> dict[str, Completion]:
    generator = random.Random(seed)
    return {item.id: Completion(item.id, text(generator), True) for item in items}


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low, estimate.high


HABITS: dict[str, Callable[[str], str]] = {
    "no full stop at the end": lambda text: text.rstrip("."),
    "lower case": str.lower,
    "a blank line between sentences": lambda text: text.replace(" ", "\n\n", 1),
    "two spaces": lambda text: text.replace(" ", "  ", 1),
    "half as long": lambda text: " ".join(text.split()[: len(text.split()) // 2]) + ".",
    "a word of its own": lambda text: text.replace(" ", " very ", 1),
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_planted_habit_gives_the_clone_away(habit: str) -> None:
    items = experts(120, 1, 0)
    clone = written(items, lambda generator: HABITS[habit](sentence(generator)))
    found = impostors.impostors(items, {"sampled": clone}, seed=0)["sampled"]
    # Lengths overlap; and of 36 words few are left that are unlike, where four-letter pieces lack the second space.
    assert found.value > {"half as long": 0.85, "two spaces": 0.9}.get(habit, 0.98)
    assert ends(found)[0] > 0.75


def test_another_expert_passes_and_so_does_a_clone_who_writes_alike() -> None:
    items = experts(300, 2, 1)
    found = impostors.impostors(items, {"sampled": written(items, sentence)}, seed=0)
    assert list(found) == ["sampled", "experts"]
    for estimate in found.values():
        low, high = ends(estimate)
        assert low < 0.5 < high and high - low < 0.2


def test_chance_is_unbiased_and_covered() -> None:
    """The control in simulation, experts drawn anew each time; cross-validated areas are often biased below 0.5.

    Measured, of nominal 95 %, mean area with its standard error, coverage with and without the widening:
    100 prompts of E2E (two human references, 200 draws): 0.502 (0.004), 94.5 %, without 86 %;
    300 of E2E (60 draws): 0.500 (0.004), 97 %, without (at 400) 80 %; 100 synthetic (200): 0.497 (0.004), 96 %,
    without 90 %. Away from chance (300 synthetic, true area 0.64, 100 draws): 97 %. Here: 60 draws.
    """
    values, covered = [], 0
    for seed in range(60):
        generator = random.Random(seed)
        ones, others = ([sentence(generator) for _ in range(100)] for _ in range(2))
        found = impostors.told_apart(ones, others, [str(i) for i in range(100)])
        assert found.low is not None and found.high is not None
        values.append(found.value)
        covered += found.low <= 0.5 <= found.high
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(60)
    assert covered >= 53  # fewer than that has probability 0.01 at 95 %


def test_the_coin_decides_which_expert_comes_first() -> None:
    """One reference of each prompt always ends with "!", the first: by order the control would tell them apart."""
    items = [
        HeldOut(h.id, h.prompt, (h.references[0][:-1] + "!", h.references[1]), h.experts, h.cluster)
        for h in experts(200, 2, 2)
    ]
    low, high = ends(impostors.impostors(items, {"sampled": written(items, sentence)}, seed=0)["experts"])
    assert low < 0.5 < high


def test_prompts_of_one_cluster_are_never_on_both_sides() -> None:
    """A clone that answers four near-duplicate prompts alike would be recognised by that text, not by its manner."""
    items = experts(200, 1, 3, cluster=4)
    by_cluster = {item.cluster: sentence(random.Random(item.cluster)) for item in items}
    clone = {item.id: Completion(item.id, by_cluster[item.cluster], True) for item in items}
    alone = [HeldOut(h.id, h.prompt, h.references, h.experts, h.id) for h in items]
    grouped = impostors.impostors(items, {"sampled": clone}, seed=0)["sampled"]
    recognised = impostors.impostors(alone, {"sampled": clone}, seed=0)["sampled"]
    assert ends(grouped)[0] < 0.5 < ends(grouped)[1]
    assert ends(recognised)[0] > 0.65


def few_answers(seed: int, text: Callable[[random.Random, str], str]) -> Estimate:
    """200 prompts that sixty answers answer, a cluster an answer; the clone gives any of them to any."""
    generator = random.Random(seed)
    answers = [sentence(generator) for _ in range(60)]
    right = [generator.choice(answers) for _ in range(200)]
    wrong = [text(generator, generator.choice(answers)) for _ in right]
    return impostors.told_apart(wrong, right, right)


def test_who_gives_an_experts_answers_to_other_prompts_is_neither_told_apart_nor_taken_for_the_expert() -> None:
    """0.1 was measured: what is the expert's where it is judged was the clone's alone where it was learned."""
    found = [few_answers(seed, lambda _, answer: answer) for seed in range(20)]
    assert 0.4 < np.mean([one.value for one in found]) < 0.6
    assert sum(ends(one)[0] < 0.5 < ends(one)[1] for one in found) >= 17


def test_a_habit_is_found_among_few_answers_too() -> None:
    for seed in range(5):
        assert ends(few_answers(seed, lambda _, answer: answer.rstrip(".")))[0] > 0.75


def test_who_writes_one_text_for_all_is_told_by_it() -> None:
    found = few_answers(0, lambda _, answer: "I am a helpful assistant.")
    assert found.value > 0.98


def test_too_few_texts_that_are_unlike_are_said() -> None:
    """Ten answers for all: beside what is judged there is nothing left to learn from."""
    generator = random.Random(0)
    answers = [sentence(generator) for _ in range(10)]
    right = [generator.choice(answers) for _ in range(200)]
    with pytest.raises(Absent, match="again and again"):
        impostors.told_apart([generator.choice(answers) for _ in right], right, right)


def test_a_copy_of_the_expert_cannot_be_told_apart() -> None:
    items = experts(120, 1, 4)
    clone = {item.id: Completion(item.id, f" {item.references[0]}\n", True) for item in items}
    assert impostors.impostors(items, {"greedy": clone}, seed=0)["greedy"].value == 0.5


def test_the_interval_is_that_of_the_ranks_wider_by_the_root_of_2() -> None:
    generator = random.Random(5)
    ones, others = ([sentence(generator) for _ in range(100)] for _ in range(2))
    found = impostors.told_apart(ones, others, [str(i) for i in range(100)])
    assert found.low is not None and found.high is not None and "sqrt 2" in found.method
    logits = [np.log(p / (1 - p)) for p in (found.low, found.value, found.high)]
    assert logits[2] - logits[1] == pytest.approx(logits[1] - logits[0])
    plain = intervals.auc([0, 1, 2, 3], [1, 0, 2, 2])
    widened = impostors._widened(plain)
    assert widened.low is not None and plain.low is not None and widened.low < plain.low


def test_too_few_prompts_are_said_and_small_systems_left_out() -> None:
    items = experts(130, 1, 6)
    clone = written(items, sentence)
    few = {key: clone[key] for key in list(clone)[:99]}
    with pytest.raises(Absent, match=r"fewer than 100 prompts \(99\)"):
        impostors.impostors(items, {"sampled": few, "base": {}}, seed=0)
    assert set(impostors.impostors(items, {"sampled": few, "greedy": clone}, seed=0)) == {"greedy"}


def test_too_few_clusters_are_said() -> None:
    items = experts(120, 1, 7, cluster=40)
    with pytest.raises(Absent, match="fewer than 5 clusters"):
        impostors.impostors(items, {"sampled": written(items, sentence)}, seed=0)


def test_the_same_seed_gives_the_same_figures_and_no_more_prompts_than_asked() -> None:
    items = experts(150, 2, 8)
    systems = {"sampled": written(items, sentence)}
    first, again = (impostors.impostors(items, systems, seed=3, at_most=110) for _ in range(2))
    assert first == again and {estimate.n for estimate in first.values()} == {110}
