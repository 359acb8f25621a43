"""A clone made from a mailbox, end to end: import, check, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exports import Import, rows
from exports_mail import letter, mbox

from sft.cli import main

pytestmark = pytest.mark.engine

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {path}}}
split: {{validation: 0.1, test: 0.2, near_duplicates: remove}}
training: {{learning_rate: 1.0e-2, max_steps: 2, logging_steps: 1, per_device_train_batch_size: 4}}
fidelity: {{profile: fast, max_prompts: 4, max_new_tokens: 4}}
"""
NOUNS = ("mill", "wheel", "stone", "brook", "grain", "flour", "oak", "iron", "bucket", "sluice")


def mailbox(folder: Path, count: int) -> Path:
    """As many threads: Ben asks, Ada answers below his words."""
    mails = []
    for number in range(count):
        one, other = NOUNS[number % 10], NOUNS[number * 7 // 10 % 10]
        asked = f"{number}: is the {one} by the {other} ready, as we said on day {number * 3}?"
        quoted = f"On Mon, Mar 2, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> {asked}\n"
        mails.append(letter("Ben", asked, id=f"a{number}", subject=f"No. {number}"))
        answer = f"The {one} is ready; the {other} is not.\n\nAda\n\n{quoted}\n-- \nAda Lovelace\n"
        mails.append(letter("Ada", answer, id=f"b{number}", answers=f"a{number}", subject=f"Re: No. {number}"))
    return mbox(folder, mails)


def test_a_mailbox_becomes_a_clone(
    tmp_path: Path, imported: Import, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, made, _ = imported(mailbox(tmp_path, 60), "--me", "ada@lovelace.org")
    assert status == 0 and made["demonstrations"] == made["groups"] == 60
    path = tmp_path / "out" / "demonstrations.jsonl"
    assert not [row for row in rows(tmp_path / "out") if "Lovelace" in row["completion"] or ">" in row["completion"]]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, path=path), encoding="utf-8")
    assert main(["check", str(recipe), "--secrets"]) == 0, capsys.readouterr().err
    assert main(["run", str(recipe), "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["rows"] == 60 and (tmp_path / "run" / "report.html").is_file()
    held_out = json.loads((tmp_path / "run" / "split.json").read_text(encoding="utf-8"))
    assert held_out and (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
