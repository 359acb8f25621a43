"""The benchmark of three mailboxes on two that are made up: threads stay whole, every cell of the table is there."""

from __future__ import annotations

import json
import random
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

WORDS = {"ada": "lovely engine numbers cards loom dear notes", "ben": "fish boat cheers net sea tide mate"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two mailboxes of thirty threads, some answered; a mail without a subject, and one without a text."""
    draw, found = random.Random(0), tmp_path / "data"
    found.mkdir()
    for name, words in WORDS.items():
        mails = [{"subject": "", "email": "nothing above"}, {"subject": "nothing below", "email": " \r\n "}]
        for n in range(30):
            subject = f"{' '.join(draw.sample(sorted(WORDS['ada'] + WORDS['ben']), 3))} matter {n}"
            for before in ("", "Re: ", "RE: AW: ")[: 1 + n % 3]:
                text = " ".join(draw.choices(words.split(), k=8))
                mails.append({"subject": before + subject, "email": f"Hello,\r\n\r\n{text}\r\n{text}\r\n\r\n{name}"})
        rows = "".join(json.dumps(mail) + "\n" for mail in mails)
        (found / f"{name}_anonymous_clean.jsonl").write_text(rows, encoding="utf-8")
    return found


@pytest.fixture
def mailboxes() -> ModuleType:
    spec = spec_from_file_location("mailboxes", ROOT / "benchmarks" / "mailboxes.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.engine
def test_each_clone_is_held_against_every_author(
    folder: Path, tiny_model: Path, tmp_path: Path, mailboxes: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    mails, runs = tmp_path / "mails", tmp_path / "runs"
    mailboxes.make(folder, mails)
    assert capsys.readouterr().out.count("threads") == 4
    parts = {
        name: [json.loads(line) for line in (mails / f"ada-{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "test")
    }
    groups = {name: {row["group"] for row in rows} for name, rows in parts.items()}
    assert not groups["train"] & groups["test"] and sum(map(len, groups.values())) == 30
    assert sum(map(len, parts.values())) == 60
    assert re.fullmatch(r"Hello,\n\n(\w+ ?){16}\n\nada", parts["test"][0]["completion"])
    toy = [f"model.name={tiny_model}", "training.max_steps=2", "fidelity.max_new_tokens=4"]
    mailboxes.clone(mails, runs, toy, "fast", "fast")
    capsys.readouterr()
    mailboxes.grid(runs)
    table = capsys.readouterr().out.splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [(row[0], row[2]) for row in rows] == [
        ("ada", "**ada**"),
        ("ada", "ben"),
        ("ben", "**ben**"),
        ("ben", "ada"),
    ]
    assert all(re.fullmatch(r"-?\d+\.\d \[.*\]", row[4]) for row in rows[1::2])
    assert all(re.fullmatch(r"([01]\.\d\d \[.*\])?", row[7]) for row in rows)
