"""Completions from elsewhere: which prompt each row answers, and one sentence for each that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.errors import DemonstrationsError, SourceError
from sft.fidelity.floors_file import read
from sft.runs.records import Completion

SYSTEM = Message("system", "Be brief.")
ITEMS = [
    HeldOut("a", (SYSTEM, Message("user", "One?")), ("1",), ("",), "a"),
    HeldOut("b", (Message("user", "Two?"),), ("2",), ("",), "b"),
    HeldOut("c", (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Three?")), ("3",), ("",), "c"),
]


def file(folder: Path, *rows: Any, name: str = "big-model.jsonl") -> str:
    path = folder / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def test_a_prompt_is_known_by_its_text_its_turns_or_its_id(tmp_path: Path) -> None:
    turns = [{"role": m.role, "content": m.content} for m in ITEMS[2].prompt]
    found = read(
        file(
            tmp_path,
            {"prompt": "One?", "completion": "eins"},
            {"id": "b", "completion": "zwei", "finished": False},
            {"prompt": turns, "id": "of another file", "completion": ""},
            {"prompt": "nobody asked", "completion": "!"},
        )
    )
    assert found.name == "big-model"
    assert found.completions(ITEMS) == {
        "a": Completion("a", "eins", True),
        "b": Completion("b", "zwei", False),
        "c": Completion("c", "", True),
    }


def test_what_it_does_not_answer_is_left_out(tmp_path: Path) -> None:
    assert set(read(file(tmp_path, {"prompt": "Two?", "completion": "zwei"})).completions(ITEMS)) == {"b"}


@pytest.mark.parametrize("name", ["tuned", "rk", "Expert", "my model", "-x", "G", "ü"])
def test_a_name_that_is_taken_or_none_becomes_g(tmp_path: Path, name: str) -> None:
    assert read(file(tmp_path, {"id": "a", "completion": "x"}, name=f"{name}.jsonl")).name == "G"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (['{"completion": "x"}'], ":1: 'prompt' is missing"),
        (['{"prompt": " ", "completion": "x"}'], ":1: 'prompt' is blank"),
        (['{"prompt": "One?"}'], ":1: 'completion' is missing"),
        (['{"prompt": "One?", "completion": null}'], ":1: 'completion' is null"),
        (['{"prompt": "One?", "completion": "x"}'] * 2, ":2: 'prompt' was on line 1 already"),
        (['{"id": 7, "completion": "x"}', '{"id": "7", "completion": "y"}'], ":2: 'id' was on line 1 already"),
        (["3"], ":1: is a number, not an object with columns"),
        (['{"prompt": '], ":1: "),
    ],
)
def test_a_row_that_cannot_be_used_is_one_sentence(tmp_path: Path, rows: list[str], complaint: str) -> None:
    path = file(tmp_path, *rows)
    with pytest.raises(DemonstrationsError, match=r"fidelity.floors_from: 1 of \d rows cannot be used") as refused:
        read(path)
    assert f"{path}{complaint}" in str(refused.value) and "; " in str(refused.value)


def test_a_file_that_says_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^fidelity.floors_from: .*empty"):
        read(file(tmp_path))
    with pytest.raises(SourceError, match=r"^fidelity.floors_from: .*there is no such file"):
        read(str(tmp_path / "none.jsonl"))
    found = read(file(tmp_path, {"prompt": "Four?", "completion": "x"}))
    with pytest.raises(SourceError, match=r"fidelity.floors_from: .*big-model.jsonl: answers none of the 3 held-out"):
        found.completions(ITEMS)
