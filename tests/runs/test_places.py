"""Paths of this machine in what others may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft.runs.private import shortened, texts_in


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/mnt/ann/rows.jsonl", "rows.jsonl"),
        ("~/rows.jsonl", "rows.jsonl"),
        ("../ann/rows.jsonl", "rows.jsonl"),
        ("--output=/mnt/ann/runs/x", "--output=x"),
        ("/mnt/ann/rows,new(2)/x.jsonl", "x.jsonl"),
        ("trained on /mnt/ann/a.jsonl, then ~/b.jsonl", "trained on a.jsonl, then b.jsonl"),
        (r"read from C:\Users\ann\rows.jsonl", "read from rows.jsonl"),
        ("rows/x.jsonl", "rows/x.jsonl"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("either/or and 1/2", "either/or and 1/2"),
    ],
)
def test_of_a_path_its_last_name_is_left(text: str, shown: str) -> None:
    assert shortened({"a": [text], "b": (1, None)}) == {"a": [shown], "b": [1, None]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see /mnt/ann/runs/x/log.jsonl", "see log.jsonl"),
        ("/mnt/ann/runs/x", "x"),
        ("/mnt/ann/notes", "notes"),
        ("/mnt/ann/runs/xylophone", "runs/xylophone"),
        ("/mnt/annabel/runs", "/mnt/annabel/runs"),
        ("the expert edits /etc/ssh/sshd_config", "the expert edits /etc/ssh/sshd_config"),
    ],
)
def test_where_people_wrote_only_the_places_that_are_known_are_cut(text: str, shown: str) -> None:
    assert shortened(text, ["/mnt/ann/runs/x", "/mnt/ann"]) == shown


def test_names_and_values_are_texts() -> None:
    assert list(texts_in({"a": ["b", 1, {"c": Path("d")}], "e": None})) == ["a", "b", "c", "e"]
