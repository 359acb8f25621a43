"""The column ``history``: earlier turns of a dialogue, whose answers are learned as those of other dialogues are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from message_rows import complaints, lines

from sft.cli import main
from sft.demonstrations.formats import read

ROWS = {
    "alpaca": {"instruction": "And then?", "input": "", "output": "Ebb."},
    "prompt": {"prompt": "And then?", "completion": "Ebb."},
}
BEFORE = [["Is it high tide?", "Yes."], ["Since when?", "Six."]]


@pytest.mark.parametrize("layout", ROWS)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_history_is_the_turns_before(layout: str, as_json: bool, tmp_path: Path) -> None:
    """It was refused."""
    given = json.dumps(BEFORE) if as_json else BEFORE
    found = read(lines(tmp_path / "x.jsonl", ROWS[layout] | {"system": "Be brief.", "history": given}))
    assert not found.problems and found.rows == 1 and found.unrolled == 2 and not found.ignored
    assert [d.completion for d in found.demonstrations] == ["Yes.", "Six.", "Ebb."]
    assert [(m.role, m.content) for m in found.demonstrations[-1].prompt] == [
        ("system", "Be brief."),
        ("user", "Is it high tide?"),
        ("assistant", "Yes."),
        ("user", "Since when?"),
        ("assistant", "Six."),
        ("user", "And then?"),
    ]
    assert len({d.group for d in found.demonstrations}) == 1, "all of a dialogue lies on one side of a split"


def test_the_same_dialogue_as_messages_is_the_same(tmp_path: Path) -> None:
    said = [text for pair in BEFORE for text in pair] + ["And then?", "Ebb."]
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    one = read(lines(tmp_path / "x.jsonl", ROWS["alpaca"] | {"history": BEFORE}))
    other = read(lines(tmp_path / "y.jsonl", {"messages": turns}))
    assert [(d.id, d.group) for d in one.demonstrations] == [(d.id, d.group) for d in other.demonstrations]


@pytest.mark.parametrize("layout", ROWS)
@pytest.mark.parametrize("none", [None, "", "  ", [], "[]", "the history of rakes", 0])
def test_no_history_is_none(layout: str, none: Any, tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", ROWS[layout] | {"history": none})
    assert not complaints(path) and len(read(path).demonstrations) == 1


@pytest.mark.parametrize("layout", ROWS)
@pytest.mark.parametrize(
    ("history", "why"),
    [
        (["a", "b"], "holds text as its entry 1, which is no pair of turns"),
        ([{"role": "user", "content": "a"}], "as its entry 1, which is no pair of turns"),
        ([["a", "b"], None], "as its entry 2, which is no pair of turns"),
        ([["a"]], "holds 1 where its pair 1 must have two texts"),
        ([["a", "b"], ["a", "b", "c"]], "holds 3 where its pair 2 must have two texts"),
        ([[]], "holds 0 where its pair 1 must have two texts"),
        ([["a", 3]], "must be text"),
        ([["a", None]], "in what was answered in its pair 1"),
        ([["a", ""]], "is blank in what was answered in its pair 1"),
        ([[" ", "b"]], "is blank in what was asked in its pair 1"),
        ([["a", ["b"]]], "must be text"),
        ([["a", "b \ud83d"]], "in what was answered in its pair 1"),
        ([["a", "<think>b</think>"]], "is blank after the thought of its pair 1"),
        ('[["a", "b"', "begins as JSON and is none"),
        ("[['a', 'b']]", "begins as JSON and is none"),
        ("[" * 5000, "begins as JSON and is none"),
    ],
)
def test_what_is_no_history_is_refused_with_its_place(layout: str, history: Any, why: str, tmp_path: Path) -> None:
    (one,) = complaints(lines(tmp_path / "x.jsonl", ROWS[layout] | {"history": history}))
    assert "'history'" in one and why in one and "\n" not in one, one


def test_beside_messages_it_is_refused(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                      {"role": "user", "content": "c"}], "completion": "d", "history": BEFORE}  # fmt: skip
    (one,) = complaints(lines(tmp_path / "x.jsonl", row))
    assert "'history' stands beside a prompt that is messages; write the turns before into the messages" in one


def test_check_counts_the_earlier_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(
        tmp_path / "x.jsonl", *(ROWS["alpaca"] | {"history": [[f"Tide {n}?", f"Ebb {n}."]]} for n in range(60))
    )
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "demonstrations    120" in out and "no demonstration uses" not in out
