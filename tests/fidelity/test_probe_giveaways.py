"""A planted habit is named in words, with how often it stands in whose texts; where nothing differs nothing is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.findings import Giveaway
from sft.fidelity.probes import impostors
from sft.fidelity.probes.giveaways import giveaways, habits_apart
from sft.reports.sections.impostors import giveaways_sentence
from sft.runs.records import Completion

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "ta", "re") for b in ("ban", "dir", "fes", "gol", "pum", "zet")]


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(6, 12))).capitalize() + "."


def experts(count: int, seed: int, cluster: int = 1) -> list[HeldOut]:
    draw = random.Random(seed)
    return [
        HeldOut(f"h{i}", (Message("user", f"q{i}"),), (sentence(draw), sentence(draw)), ("", ""), f"c{i // cluster}")
        for i in range(count)
    ]


def named(count: int, habit: Callable[[str], str], seed: int = 0) -> tuple[Giveaway, ...]:
    """What is named of a clone whose samples have ``habit``; nothing where the classifier does not tell them apart."""
    items = experts(count, seed)
    draw = random.Random(seed + 1)
    systems = {"sampled": {item.id: Completion(item.id, habit(sentence(draw)), True) for item in items}}
    found = impostors.impostors(items, systems, seed=seed)
    return giveaways(items, systems, found, seed=seed).get("sampled", ())


HABITS: dict[str, Callable[[str], str]] = {
    "ends without a full stop": lambda text: text.rstrip("."),
    "begins with \u201cSure!\u201d": "Sure! {}".format,
    "has a code fence": "```\n{}\n```".format,
    "has two blanks in a row": lambda text: text.replace(" ", "  ", 1),
    "has a tab or another odd blank": lambda text: text.replace(" ", "\u00a0", 2),
    "has an empty line": lambda text: text.replace(" ", "\n\n", 1),
    "is in small letters throughout": str.lower,
    "is clearly the shorter of the two": lambda text: " ".join(text.split()[:4]) + ".",
    "has the word \u201cvery\u201d": lambda text: text.replace(" ", " very ", 1),
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("n", [100, 300])
def test_a_planted_habit_is_the_first_that_is_named(n: int, habit: str) -> None:
    strongest = named(n, HABITS[habit])[0]
    assert strongest.habit == habit
    assert strongest.system.value > 0.85 and strongest.expert.value < 0.1
    assert strongest.difference.low is not None and strongest.difference.low > 0.7


def test_two_faults_are_both_named_and_none_twice() -> None:
    """A greeting holds an exclamation mark and a word, a fence a line break and an ending: these are parts of it."""
    both = named(100, lambda text: f"Sure! {text.rstrip('.')}")
    assert {one.habit for one in both if one.kind == "format"} == {
        "ends without a full stop",
        "begins with \u201cSure!\u201d",
    }
    for habit in ("begins with \u201cSure!\u201d", "has a code fence"):
        assert [one.habit for one in named(100, HABITS[habit]) if one.kind != "length"] == [habit]


@pytest.mark.parametrize("n", [30, 100, 300])
def test_of_a_clone_who_writes_alike_nothing_is_named(n: int) -> None:
    """Holm's promise over some 120 habits: one set in twenty; here without asking the classifier first."""
    wrong = 0
    for seed in range(30):
        draw = random.Random(1000 + seed)
        wrong += bool(habits_apart([(item, sentence(draw), item.references[0]) for item in experts(n, seed)]))
    assert wrong <= 4  # more than that has probability 0.02 at one in twenty
    if n >= impostors.LEAST:
        assert [named(n, str, seed) for seed in range(3)] == [()] * 3


def test_clusters_count_once() -> None:
    """Four near-duplicate prompts that the clone begins alike are one observation of that beginning."""
    items = experts(80, 3, cluster=20)
    told = [(item, f"Sure! {item.references[0]}", item.references[1]) for item in items]
    assert habits_apart(told) == ()
    alone = [(HeldOut(i.id, i.prompt, i.references, i.experts, i.id), own, expert) for i, own, expert in told]
    assert [one.habit for one in habits_apart(alone)][:1] == ["begins with \u201cSure!\u201d"]


def examples_of(n: int, habit: Callable[[str], str]) -> list[tuple[str, str]]:
    return [(pair.system, pair.expert) for pair in named(n, habit)[0].examples]


def test_the_habit_is_marked_in_the_text_that_has_it() -> None:
    for system, expert in examples_of(100, HABITS["begins with \u201cSure!\u201d"]):
        assert system.startswith("\u27e6Sure!\u27e7 ") and "\u27e6" not in expert
    for system, expert in examples_of(100, HABITS["ends without a full stop"]):
        assert "\u27e6" not in system and expert.endswith("\u27e6.\u27e7")
    asked = {item.id: item.prompt[-1].content for item in experts(100, 0)}
    pairs = named(100, HABITS["ends without a full stop"])[0].examples
    assert pairs and all(pair.prompt == asked[pair.id] for pair in pairs)
    assert all(len(system) < 140 for system, _ in examples_of(100, lambda text: f"```\n{20 * text}\n```"))


def test_the_sentence_gives_the_three_strongest_with_both_shares() -> None:
    habits: Sequence[Giveaway] = named(100, HABITS["ends without a full stop"])
    assert giveaways_sentence(habits).startswith(
        "What gives it away most: it ends without a full stop (100.0 % [96.3, 100.0] of its texts, "
        "0.0 % [0.0, 3.7] of the expert's)"
    )
    assert giveaways_sentence(()).startswith("No single habit that was looked for")
