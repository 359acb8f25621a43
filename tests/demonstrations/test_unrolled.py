"""Dialogues: their demonstrations are those made one by one, and work on them is linear in their length."""

from __future__ import annotations

import cProfile
import json
from pathlib import Path

import hypothesis
import pytest
import strategies
from hypothesis import strategies as st
from selection_rows import row

from sft.cli import main
from sft.demonstrations.demonstration import Call, Demonstration, Message, Source
from sft.demonstrations.near_duplicates import find_near
from sft.demonstrations.shingles import chunks
from sft.demonstrations.unrolled import unrolled

CALLS = (Call("weather", '{"city": "Oslo", "at":  3}'), Call("time", "{}"))


@st.composite
def dialogues(draw: st.DrawFn) -> list[tuple[tuple[Message, ...], Message]]:
    """The prompts and the expert's turns of one dialogue, some with thoughts, calls and their results."""
    turns = [Message("tools", "[]")] if draw(st.booleans()) else []
    turns += [draw(strategies.messages("system"))] if draw(st.booleans()) else []
    pairs = []
    for _ in range(draw(st.integers(1, 5))):
        turns.append(draw(strategies.messages("user")))
        calls = draw(st.sampled_from([(), (), CALLS[:1], CALLS]))
        answer = Message("assistant", draw(strategies.texts), draw(st.sampled_from(["", "so"])), calls)
        if draw(st.integers(0, 4)):
            pairs.append((tuple(turns), answer))
        turns.append(answer)
        turns += [Message("tool", draw(st.sampled_from(["", "fine"])), name=call.name) for call in calls]
    return pairs


@hypothesis.given(dialogues(), st.sampled_from(["", "g"]), st.sampled_from(["", "ann"]))
@hypothesis.settings(max_examples=60)
def test_the_demonstrations_of_a_dialogue_are_those_made_one_by_one(
    pairs: list[tuple[tuple[Message, ...], Message]], group: str, expert: str
) -> None:
    """To the last field: an id or a key that moved would move rows between the splits of every run."""
    source = Source("x.jsonl", 3)
    made = unrolled(pairs, group=group, expert=expert, source=source)
    again = [Demonstration(p, t.text, "", group, expert, source, (), t.thought, t.calls) for p, t in pairs]
    assert made == again
    assert [d.key for d in made] == [d.key for d in again]
    assert [d.content_hash for d in made] == [d.id for d in again]


def test_a_dialogue_out_of_order_is_refused_as_ever() -> None:
    user, answer = Message("user", "a?"), Message("assistant", "b")
    with pytest.raises(ValueError, match="prompt has a user message where the assistant's turn must stand"):
        unrolled([((user,), answer), ((user, user), answer)], group="", expert="", source=Source("x", 1))


def said(turns: int, words: int, start: int = 0) -> list[str]:
    return [" ".join(row(10**6 + start + n)["prompt"].split()[:words]) for n in range(turns)]


def test_every_word_of_a_dialogue_is_hashed_once() -> None:
    """The prompts of 400 turns hold 200 times the characters of the dialogue, and each was looked at again."""
    turns = said(400, 9)
    prompts = ["\n\n".join(turns[: place + 1]) for place in range(0, 400, 2)]
    assert sum(map(len, prompts)) > 90 * len(prompts[-1])
    assert sum(len(piece) for pieces in chunks(prompts) for piece in pieces.texts) == len(prompts[-1])


@pytest.mark.parametrize("short", [["a", "a b", "a b c", "a b c d"], ["x y", "z"], ["?", "a b c d e"]])
def test_prompts_that_grow_are_as_near_as_prompts_that_stand_alone(short: list[str]) -> None:
    """In one list they are a run; in the other order none begins with the one before."""
    runs = [said(12, 6, start=40 * n) for n in range(6)] + [short]
    runs += [[*runs[0][:9], "and quite another end"], [*short, "the same"]]
    texts = ["\n\n".join(run[: place + 1]) for run in runs for place in range(len(run))]
    back = texts[::-1]
    for others in (texts[::3], texts[1::2]):
        near = {(texts[pair.row], round(pair.similarity, 12)) for pair in find_near(texts, others, 0.6)}
        assert near == {(back[pair.row], round(pair.similarity, 12)) for pair in find_near(back, others, 0.6)}


def calls_of(path: Path, turns: int, rows: int) -> int:
    """How many functions are called while ``rows`` dialogues of so many turns are checked."""
    roles = ("user", "assistant")
    with path.open("w") as file:
        for n in range(rows):
            texts = said(turns, 9, start=n * turns)
            messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
            file.write(json.dumps({"messages": messages}) + "\n")
    profile = cProfile.Profile()
    profile.runcall(main, ["check", str(path)])
    own = [entry for entry in profile.getstats() if "/sft/" in getattr(entry.code, "co_filename", "")]
    return sum(entry.callcount for entry in own)


def test_checking_a_dialogue_takes_work_in_its_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same text in dialogues of 10 turns and of 80, counted in calls of the package's functions."""
    calls_of(tmp_path / "warm.jsonl", 4, 30)
    few, many = calls_of(tmp_path / "few.jsonl", 10, 192), calls_of(tmp_path / "many.jsonl", 80, 24)
    assert capsys.readouterr().out.count("  split ") == 3
    assert many < 1.25 * few
