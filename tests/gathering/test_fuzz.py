"""Damaged exports of every source: what can be read is read, every record has its fate, and nothing fails in our words.

``benchmarks/importing.py`` does the same to as many as one likes.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from damage import damage
from exports import CHATS, OWN, Import
from exports_documents import EVERY
from exports_mail import MAILBOXES, letter

MAKERS = (
    {name: make for name, (_, make) in CHATS.items()} | MAILBOXES | {name: make for name, (make, _) in EVERY.items()}
)
WORDS = {name: words for name, (_, words) in EVERY.items()}


@pytest.mark.parametrize("form", MAKERS)
def test_a_damaged_export_ends_in_rows_or_one_sentence(form: str, tmp_path: Path, imported: Import) -> None:
    draw = random.Random(form)
    kind = CHATS[form][0] if form in CHATS else "mail" if form in MAILBOXES else form
    (tmp_path / "whole").mkdir()
    whole = MAKERS[form](tmp_path / "whole")
    words = WORDS.get(form) or ["--me", OWN.get(form, "ada@lovelace.org" if kind == "mail" else "Ada")]
    for number in range(8):
        source = tmp_path / f"{number}{whole.suffix}"
        (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, source)
        damage(source, draw, spared=lambda path: ".git" in path.parts)
        out = tmp_path / f"out-{number}"
        status, made, complaint = imported(source, *words, "--from", kind if number % 2 else "auto", output=out)
        if status == 0:
            account = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
            assert account["rows"] + account["unrolled"] == sum(account["fates"].values()) and not complaint
            assert account["fates"]["written"] == made["demonstrations"]
            assert len((out / "demonstrations.jsonl").read_bytes().splitlines()) >= made["demonstrations"]
        else:
            assert status == 2 and complaint.startswith("sft: ") and complaint.count("\n") == 1, complaint
            assert not out.exists()
        assert not list(tmp_path.glob(".*partial"))


def test_texts_that_take_the_square_of_their_length_elsewhere_do_not_here(tmp_path: Path, imported: Import) -> None:
    """Runs that a pattern could cut in many ways: of 100,000 characters each, or an hour would not do."""
    runs = (" ", "\n", "\n ", "a@", "<a@", "[", "(a: b, ", "1 ", "A1", "> ", "-- ", "- ", "<b>", ":", "\u200e")
    texts = [f"Read: {run * (100_000 // len(run))}\nend" for run in runs]
    (tmp_path / "mails").mkdir()
    for number, text in enumerate(texts):
        mail = letter("Ada", text, id=str(number), subject=f"No. {number}")
        (tmp_path / "mails" / f"{number}.eml").write_bytes(bytes(mail))
    status, made, _ = imported(tmp_path / "mails")
    assert status == 0 and made["ledger"]["rows"] == len(runs)
    for name, line in (("signal.txt", "[Mar 02, 2026 09:1{}:05] <{}> {}"), ("chat.txt", "02/03/2026, 09:1{} - {}: {}")):
        talk = [line.format(n % 10, who, text) for n, text in enumerate(texts) for who in ("Ben", "Ada")]
        (tmp_path / name).write_text("\n".join(talk), encoding="utf-8")
        assert imported(tmp_path / name, "--me", "Ada", "--overwrite")[0] == 0
    for number, text in enumerate(texts):
        (tmp_path / "mails" / f"{number}.md").write_text(f"# {number}\n\n{text}\n\nend", encoding="utf-8")
    assert imported(tmp_path / "mails", "--from", "documents", "--overwrite")[0] == 0
