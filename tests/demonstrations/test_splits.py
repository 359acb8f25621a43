"""Groups stay together, whoever asks and in whatever order; what leaks is found, shown and counted."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import demonstrations, few_texts

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.splits import (
    NAMES,
    Leak,
    Splits,
    assign,
    check_manifest,
    data_digest,
    deduplicate,
    find_leaks,
    leak_error,
    to_manifest,
    without_leaks,
)
from sft.errors import SplitError
from sft.runs.hashes import fingerprint

SHARES = {"validation": 0.2, "test": 0.2}


def show(prompt: str, completion: str = "yes", line: int = 0, **fields: str) -> Demonstration:
    source = Source("x.jsonl", line) if line else None
    return Demonstration((Message("user", prompt),), completion, source=source, **fields)  # type: ignore[arg-type]


MANY = [show(f"question number {n}", line=n + 1) for n in range(60)]


def homes(parts: dict[str, list[Demonstration]]) -> dict[str, str]:
    return {d.group: name for name, part in parts.items() for d in part}


# -- assignment -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.lists(demonstrations(), max_size=15), st.integers(0, 2**40), st.randoms(use_true_random=False))
def test_neither_order_nor_new_rows_move_a_group(extra: list[Demonstration], seed: int, rng: random.Random) -> None:
    before = homes(assign(MANY, seed=0, **SHARES))
    shuffled = MANY + extra
    rng.shuffle(shuffled)
    parts = assign(shuffled, seed=0, **SHARES)
    after = homes(parts)
    assert all(after[group] == home for group, home in before.items())
    assert sum(map(len, parts.values())) == len(shuffled)
    for name, part in parts.items():
        assert {after[d.group] for d in part} <= {name}
    alone = {d.group: home_alone(d.group, seed) for d in extra}
    assert alone == {group: home_alone(group, seed) for group in alone}


def home_alone(group: str, seed: int) -> str:
    """The split of a group among many others, seen from nothing but its name and the seed."""
    parts = assign([*MANY, show("alone", group=group)], seed=seed, validation=0.4, test=0.4)
    return homes(parts)[group]


def test_shares_are_met_and_seeds_differ() -> None:
    rows = [show(f"prompt {n}") for n in range(20_000)]
    first, second = (assign(rows, validation=0.1, test=0.2, seed=seed) for seed in (0, 1))
    shares = [len(first[name]) / len(rows) for name in NAMES]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.015)  # five standard errors
    assert {d.id for d in first["test"]} != {d.id for d in second["test"]}


def test_every_process_makes_the_same_split() -> None:
    """The held-out split of ``trl sft`` differs on every rank."""
    code = (
        "from sft.demonstrations.demonstration import *; from sft.demonstrations.splits import *; import sys;"
        "rows = [Demonstration((Message('user', f'question number {n}'),), 'yes') for n in range(60)];"
        "print(*(d.id for d in assign(rows, validation=0.2, test=0.2, seed=0)['test']))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert there == [d.id for d in assign(MANY, seed=0, **SHARES)["test"]]


@pytest.mark.parametrize(
    "rows, validation, test, says",
    [
        (1, 0.1, 0.1, ("1 different prompt group left", "gather more demonstrations (50 groups or more)")),
        (2, 0.02, 0.1, ("2 different prompt groups left", "gather more demonstrations (250 groups or more)")),
        (2, 0.1, 0.05, ("train 0.85, validation 0.1, test 0.05", "gather more demonstrations (100 groups or more)")),
        (1, 0.0, 0.05, ("train 0.95, validation 0, test 0.05", "gather more demonstrations (100 groups or more)")),
        (0, 0.1, 0.1, ("0 different prompt groups left the train and the validation and the test split",)),
    ],
)
def test_how_many_groups_are_needed_hangs_on_the_smallest_share(
    rows: int, validation: float, test: float, says: tuple[str, ...]
) -> None:
    """The smallest one that was asked for: a share of 0 is none."""
    with pytest.raises(SplitError) as caught:
        assign([show(f"{n}") for n in range(rows)], validation=validation, test=test, seed=0)
    assert all(word in str(caught.value) for word in says), str(caught.value)


@pytest.mark.parametrize("rows, shares", [(3, (0.1, 0.1)), (40, (0.02, 0.1)), (2, (0.0, 0.05)), (12, (0.3, 0.3))])
def test_the_seed_that_is_named_leaves_no_split_empty(rows: int, shares: tuple[float, float]) -> None:
    """ "Gather about 30 groups or more" was said to 40, and to try another seed, of which most did not help."""
    some, (validation, test) = [show(f"question {n}") for n in range(rows)], shares
    told = 0
    for seed in range(60):
        try:
            assign(some, validation=validation, test=test, seed=seed)
        except SplitError as error:
            told += 1
            named = int(re.search(r"set split\.seed: (\d+), with which each gets some", str(error)).group(1))  # type: ignore[union-attr]
            parts = assign(some, validation=validation, test=test, seed=named)
            assert all(parts[name] for name in NAMES if name != "validation" or validation)
            asked = re.search(r"gather more demonstrations \((\d+) groups", str(error))
            assert asked is None or int(asked.group(1)) > rows
    assert told or rows == 12


def test_only_the_splits_that_were_asked_for_and_stayed_empty_are_named() -> None:
    """Of one group only one split has something; validation was not asked for."""
    (home,) = {name for name, part in assign([MANY[0]], validation=0, test=0, seed=0).items() if part}
    assert home == "train"
    with pytest.raises(SplitError) as caught:
        assign([MANY[0]], validation=0, test=0.5, seed=0)
    left = str(caught.value).partition("split empty")[0]
    assert "validation" not in left and ("train" in left) != ("test" in left)
    # Whichever side a single group falls on, the other one stays empty: nothing left to train on is refused too.
    named = set()
    for seed in range(20):
        with pytest.raises(SplitError) as caught:
            assign([MANY[0]], validation=0, test=0.5, seed=seed)
        named.add(re.search(r"left the (\w+) split empty", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert named == {"train", "test"}


# -- what splits cannot be --------------------------------------------------------------------------------


def test_splits_share_no_prompt_and_no_group_and_are_not_empty() -> None:
    one, other, third = show("a", line=1), show("b", line=2), show("c", line=3)
    Splits((one,), (), (other,))
    with pytest.raises(SplitError, match="the train split is empty"):
        Splits((), (one,), (other,))
    with pytest.raises(SplitError, match="the test split is empty"):
        Splits((one,), (other,), ())
    with pytest.raises(SplitError, match=r"x\.jsonl:9: its prompt is in train and in test"):
        Splits((one,), (third,), (other, show(" A ", "no", 9, group="mine")))
    with pytest.raises(SplitError, match=r"x\.jsonl:9: its group is in validation and in test"):
        Splits((one,), (third,), (other, show("d", line=9, group=third.group)))


@settings(deadline=None, max_examples=30)
@given(st.lists(demonstrations(few_texts, turns=1), min_size=3, max_size=12), st.integers(0, 99))
def test_an_assignment_without_its_leaks_is_always_splits(rows: list[Demonstration], seed: int) -> None:
    """Rows that name their group can tie one prompt to two groups: that is a leak, found and removed."""
    try:
        parts = assign(rows, validation=0.3, test=0.3, seed=seed)
    except SplitError:
        return
    kept, count = without_leaks(parts, find_leaks(parts))
    assert count == len(rows) - sum(map(len, kept.values()))
    assert kept["test"] == parts["test"]
    assert not find_leaks(kept)
    if kept["train"]:
        Splits(*(tuple(kept[name]) for name in NAMES))


# -- leaks ------------------------------------------------------------------------------------------------

LONG = "Write a short and friendly description of a cheap French restaurant by the river near the old town hall"


def parts_of(train: Sequence[Demonstration], validation: Sequence[Demonstration], test: Sequence[Demonstration]):  # type: ignore[no-untyped-def]
    return dict(zip(NAMES, (train, validation, test), strict=True))


def test_each_leak_is_found_with_its_pair_and_kind() -> None:
    train = [show("same", line=1), show("other words", line=2, group="g"), show(LONG + "!", line=3), show("x", line=4)]
    validation = [show("val", line=5), show("SAME ", "no", line=6)]
    test = [show("test", line=7, group="g"), show(LONG.replace("near", "at"), line=8), show("val!", line=9)]
    leaks = find_leaks(parts_of(train, validation, test), threshold=0.6)
    found = {(leak.source.address, leak.source_split, leak.held_out.address, leak.split, leak.kind) for leak in leaks}
    assert found == {
        ("x.jsonl:1", "train", "x.jsonl:6", "validation", "same prompt"),
        ("x.jsonl:2", "train", "x.jsonl:7", "test", "same group"),
        ("x.jsonl:3", "train", "x.jsonl:8", "test", "near-duplicate"),
        ("x.jsonl:5", "validation", "x.jsonl:9", "test", "near-duplicate"),
    }
    similarity = {leak.source.address: leak.similarity for leak in leaks}
    assert similarity["x.jsonl:3"] == pytest.approx(14 / 20)  # 17 shingles each, three hold the word that differs


def test_every_row_of_a_leaking_prompt_leaks_and_goes() -> None:
    parts = parts_of([show(LONG, c) for c in "abc"] + [show("x")], [], [show(LONG + ".")])
    leaks = find_leaks(parts)
    assert [leak.source.completion for leak in leaks] == ["a", "b", "c"]
    kept, count = without_leaks(parts, leaks)
    assert count == 3 and [d.prompt[0].content for d in kept["train"]] == ["x"]


def test_a_prompt_held_out_twice_is_said_to_leak_into_the_test_split_and_its_first_row() -> None:
    """It is the worse of the two, and one leak a row is enough; the plainest kind is the one that is named."""
    held = [show("same", c, line) for line, c in ((7, "x"), (8, "y"))]
    parts = parts_of([show("same", line=1)], [show("same", line=5)], held)
    told = [(leak.source.address, leak.held_out.address, leak.split) for leak in find_leaks(parts)]
    assert told == [("x.jsonl:1", "x.jsonl:7", "test"), ("x.jsonl:5", "x.jsonl:7", "test")]
    both = parts_of([show("same", line=1, group="g")], [], [show("b", line=7, group="g"), show("same", line=8)])
    (leak,) = find_leaks(both)
    assert (leak.kind, leak.similarity, leak.held_out.address) == ("same prompt", 1.0, "x.jsonl:8")
    assert str(leak) == "x.jsonl:1 (train) and x.jsonl:8 (test): same prompt"
    near = parts_of([show(LONG, line=1)], [show(LONG + "!", line=5)], [show(LONG + "?", line=7), show(LONG, line=8)])
    assert [(leak.source.address, leak.kind, leak.split) for leak in find_leaks(near)] == [
        ("x.jsonl:1", "same prompt", "test"),
        ("x.jsonl:5", "near-duplicate", "test"),
    ]


def test_nothing_leaks_into_a_split_that_is_empty() -> None:
    """A set without a test split yet is looked through as far as it goes."""
    parts = parts_of([show("same", line=1), show("x")], [show("same", line=5)], [])
    (leak,) = find_leaks(parts)
    assert (leak.source_split, leak.split) == ("train", "validation")
    assert find_leaks(parts_of([show("same")], [], [])) == []


@pytest.mark.parametrize(("count", "shown", "lines"), [(1, 10, 3), (2, 2, 4), (3, 2, 5), (3, 1, 4), (3, 0, 1)])
def test_the_refusal_says_no_more_than_there_is(count: int, shown: int, lines: int) -> None:
    leaks = [Leak(show("a", line=n), show("b", line=99), "train", "test", "same prompt", 1.0) for n in range(count)]
    message = str(leak_error(leaks, shown=shown))
    assert len(message.splitlines()) == lines
    assert message.startswith("1 demonstration would" if count == 1 else f"{count} demonstrations would")
    assert ("more" in message.replace("gather more", "")) is (0 < shown < count)
    assert "alike" not in message
    assert "... and 2 more" in str(leak_error(leaks * 12, shown=len(leaks) * 12 - 2))
    assert len(str(leak_error(leaks * 12)).splitlines()) == 13, "ten of them, unless more are asked for"


def test_the_refusal_shows_pairs_counts_the_rest_and_says_what_to_do() -> None:
    leaks = [
        Leak(show("a", line=n), show("b", line=99), "train", "test", "near-duplicate", 0.912) for n in range(1, 13)
    ]
    message = str(leak_error(leaks, shown=2))
    assert message.startswith("12 demonstrations would give held-out prompts away")
    assert "x.jsonl:1 (train) and x.jsonl:99 (test): near-duplicate (91% alike)" in message
    assert "... and 10 more" in message and "set split.near_duplicates to remove" in message


def test_earlier_turns_count_and_a_shared_system_message_does_not() -> None:
    system = Message("system", " ".join(f"rule number {n} says so" for n in range(80)))
    colours = [f"colour {a} {b}" for a, b in itertools.product("abcdefghij", repeat=2)]
    rows = [Demonstration((system, Message("user", f"what goes with {c} please")), "grey") for c in colours]
    parts = assign(rows, seed=0, **SHARES)
    assert not find_leaks(parts)
    talk = (system, Message("user", LONG), Message("assistant", "Why?"), Message("user", "No reason."))
    again = (system, Message("user", LONG + "."), Message("assistant", "Why??"), Message("user", "no reason"))
    parts["train"].append(Demonstration(talk, "ok"))
    parts["test"].append(Demonstration(again, "ok"))
    (leak,) = find_leaks(parts)
    assert (leak.source.prompt, leak.similarity) == (talk, 1.0)


# -- repetitions and the record -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(demonstrations(few_texts, turns=1), max_size=15))
def test_repetitions_are_dropped_and_counted_and_the_first_stays(rows: list[Demonstration]) -> None:
    kept, dropped = deduplicate(rows)
    assert len(kept) + len(dropped) == len(rows)

    def content(d: Demonstration) -> tuple[object, ...]:
        return d.prompt, d.completion, d.expert, d.references

    assert list(map(content, kept)) == list(dict.fromkeys(map(content, rows)))
    assert all(any(row is each for row in rows) for each in kept)


def test_two_experts_who_agree_are_no_repetition() -> None:
    rows = [show("a", expert="ann"), show("a", expert="bob"), show("A", expert="ann"), show("a", expert="ann")]
    kept, dropped = deduplicate(rows)
    assert (kept, dropped) == (rows[:3], rows[3:])


def made(rows: Sequence[Demonstration], seed: int = 0) -> Splits:
    parts = assign(rows, seed=seed, **SHARES)
    return Splits(*(tuple(parts[name]) for name in NAMES))


def test_the_record_is_the_same_in_any_order_and_survives_a_file() -> None:
    manifest = to_manifest(made(MANY), seed=0, shares=SHARES)
    assert manifest == to_manifest(made(MANY[::-1]), seed=0, shares=SHARES)
    recorded = json.loads(json.dumps(manifest))
    check_manifest(recorded, made(MANY[::-1]))
    assert (recorded["seed"], sum(recorded["counts"].values())) == (0, 60)
    assert recorded["data_hash"] != to_manifest(made(MANY[1:]))["data_hash"]


def test_the_hash_of_the_data_is_of_contents_under_ids_of_the_users_own_too() -> None:
    """A run that goes on, or is published, must notice another completion under the same id."""
    before = [replace(d, id=f"row {n}") for n, d in enumerate(MANY)]
    after = [replace(before[0], completion="Something else."), *before[1:]]
    assert [d.id for d in before] == [d.id for d in after]
    assert data_digest({"train": before}) == data_digest({"train": before[::-1]})
    assert data_digest({"train": before}) != data_digest({"train": after})
    # Ids alone were the rule once, and a record by it says the same of both.
    ids = fingerprint(sorted(d.id for d in before))
    assert data_digest({"train": after}).is_of(ids) and not data_digest({"train": after[1:]}).is_of(ids)


def test_one_row_that_differs_is_told_in_the_singular() -> None:
    recorded = to_manifest(made(MANY), seed=0)
    with pytest.raises(SplitError, match=r"\(1 demonstration was added\)"):
        check_manifest(recorded, made([*MANY, show("new 1")]))
    with pytest.raises(SplitError, match=r"\(1 demonstration is gone\)"):
        check_manifest(recorded, made(MANY[1:]))
    parts = made(MANY).parts
    moved = Splits(parts["train"][1:], parts["validation"], (*parts["test"], parts["train"][0]))
    with pytest.raises(SplitError, match=r"\(1 demonstration changed sides\)"):
        check_manifest(recorded, moved)
    with pytest.raises(SplitError, match=r"1 demonstration was added, 1 demonstration is gone"):
        check_manifest(recorded, made([*MANY[1:], show("new 1")]))


def test_a_record_without_one_of_its_splits_is_none() -> None:
    recorded = to_manifest(made(MANY), seed=0)
    for ids in (None, [], {"train": recorded["ids"]["train"]}, recorded["ids"] | {"test": "all"}):
        with pytest.raises(SplitError, match="holds no split"):
            check_manifest(recorded | {"ids": ids}, made(MANY))


def test_the_record_says_what_differs() -> None:
    recorded = to_manifest(made(MANY), seed=0)
    with pytest.raises(SplitError, match=r"2 demonstrations .*added"):
        check_manifest(recorded, made([*MANY, show("new 1"), show("new 2")]))
    with pytest.raises(SplitError, match=r"3 demonstrations .*gone"):
        check_manifest(recorded, made(MANY[3:]))
    with pytest.raises(SplitError, match=r"\d+ demonstrations? (changed|moved)"):
        check_manifest(recorded, made(MANY, seed=1))
    with pytest.raises(SplitError, match=r"rows .*repeated or lost"):
        check_manifest(recorded, made([*MANY, MANY[0]]))
    with pytest.raises(SplitError, match="holds no split"):
        check_manifest({"ids": {"train": 3}}, made(MANY))
