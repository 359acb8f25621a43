"""Personal data: planted in writing, and gone from the rows; what only looks like it stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exports import Import, answers, rows
from exports_mail import letter, mbox

from sft.cli import main

#: What was written -> what becomes of it, with --region GB.
PLANTED = {
    "call +44 20 7946 0958 please": "call [phone] please",
    "ring 020 7946 0958": "ring [phone]",
    "appelle le +33 1 42 68 53 00": "appelle le [phone]",
    "IBAN DE89 3704 0044 0532 0130 00 is mine": "IBAN [IBAN] is mine",
    "iban gb82west12345698765432": "iban [IBAN]",
    "card 4111 1111 1111 1111, thanks": "card [card], thanks",
    "5555-5555-5555-4444": "[card]",
    "write to ada@lovelace.org": "write to [e-mail]",
    "it is in /home/ada/notes": "it is in [home folder]/notes",
    "C:\\Users\\Ada\\mill": "[home folder]\\mill",
    "I was born on 10 December 1815.": "I was born on [date of birth].",
    "geboren am 10.12.1815 in London": "geboren am [date of birth] in London",
    "date de naissance : 10/12/1815": "date de naissance : [date of birth]",
    "生年月日：1815年12月10日": "生年月日：[date of birth]",
    "the key is hf_abcdefghijklmnopqrstuvwxyzABCDEF0123": "the key is [secret]",
    "café, é: 020 7946 0958 and ada@lovelace.org": "café, é: [phone] and [e-mail]",
}
#: What looks like it and is not.
HARMLESS = (
    "version 1.2.3.4 of 2026-03-02 at 09:14:05",
    "card 4111 1111 1111 1112 has a wrong checksum",
    "IBAN DE89 3704 0044 0532 0130 01 has one too",
    "we met on 10 December 1815",
    "it costs 1,234,567.89 in 2026",
    "order 20260302-0914-05",
    "mail somebody@example.org",
    "born to mill",
)


def mails(folder: Path, texts: list[str]) -> Path:
    return mbox(folder, [letter("Ada", text, id=str(n), subject=f"No. {n}") for n, text in enumerate(texts)])


def test_what_is_planted_is_masked_and_what_looks_like_it_stays(tmp_path: Path, imported: Import) -> None:
    _, made, _ = imported(mails(tmp_path, [*PLANTED, *HARMLESS]), "--region", "GB")
    assert [text for _, text in answers(tmp_path / "out")] == [*PLANTED.values(), *HARMLESS]
    counts = {
        "[phone]": 4,
        "[IBAN]": 2,
        "[card]": 2,
        "[e-mail]": 2,
        "[home folder]": 2,
        "[date of birth]": 4,
        "[secret]": 1,
    }
    assert made["personal"] == dict(sorted(counts.items()))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "is masked: 2 [IBAN], 2 [card]" in card and "--region)" not in card


def test_rows_with_personal_data_are_refused_where_that_is_asked_for(tmp_path: Path, imported: Import) -> None:
    texts = [*PLANTED, *HARMLESS]
    _, made, _ = imported(mails(tmp_path, texts), "--region", "GB", "--personal", "refuse")
    assert [text for _, text in answers(tmp_path / "out")] == list(HARMLESS)
    assert made["ledger"]["fates"] == {"written": len(HARMLESS), "personal": len(PLANTED)} and not made["personal"]
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert len(rejected) == len(PLANTED)
    assert rejected[0]["reasons"] == ["holds personal data (1 [phone]); mask it: --personal mask"]


def test_it_can_be_kept(tmp_path: Path, imported: Import) -> None:
    imported(mails(tmp_path, list(PLANTED)), "--personal", "keep")
    assert [text for _, text in answers(tmp_path / "out")] == list(PLANTED)
    assert "Personal data was not looked for." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_prompts_are_looked_through_too_and_no_secret_is_left(
    tmp_path: Path, imported: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check that a push makes finds nothing in what an import has masked."""
    chat = []
    for number, text in enumerate(PLANTED):
        chat.append(letter("Ben", f"{text} ({number})", id=f"a{number}", subject=f"No. {number}"))
        chat.append(letter("Ada", f"I know: {text}", id=f"b{number}", answers=f"a{number}", subject="Re: No."))
    imported(mbox(tmp_path, chat), "--me", "ada@lovelace.org", "--region", "GB")
    assert len(rows(tmp_path / "out")) == len(PLANTED)
    main(["check", str(tmp_path / "out" / "demonstrations.jsonl"), "--secrets", "--json"])
    assert json.loads(capsys.readouterr().out)["secrets"] == []


def test_without_a_country_only_numbers_with_a_plus_are_known(tmp_path: Path, imported: Import) -> None:
    imported(mails(tmp_path, ["ring 020 7946 0958", "ring +44 20 7946 0958"]))
    assert [text for _, text in answers(tmp_path / "out")] == ["ring 020 7946 0958", "ring [phone]"]
    assert "no country was named (--region)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# -- names, through Presidio -------------------------------------------------------------------------------------------


def test_names_need_presidio_and_a_model_that_is_there(tmp_path: Path, imported: Import) -> None:
    status, _, complaint = imported(mails(tmp_path, ["hello"]), "--names", "xx_none")
    assert status == 2 and complaint.count("\n") == 1
    assert "pip install" in complaint or "--names xx_none: is no spaCy model that is installed here" in complaint


@pytest.mark.filterwarnings("ignore")  # of spaCy and Presidio, which are not ours
def test_names_are_masked_by_the_model_that_is_named(tmp_path: Path, imported: Import) -> None:
    """A model made here, that knows three people by a rule: it is Presidio and spaCy all the same."""
    pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("de")
    people = [{"label": "PER", "pattern": name} for name in ("Charles Babbage", "Müller", "Ada")]
    model.add_pipe("entity_ruler").add_patterns(people)
    model.to_disk(tmp_path / "model")
    source = mails(tmp_path, ["Frag Charles Babbage, nicht Müller: ada@lovelace.org", "Niemand ist da."])
    status, made, complaint = imported(source, "--names", tmp_path / "model")
    assert status == 0, complaint
    assert answers(tmp_path / "out")[0][1] == "Frag [name], nicht [name]: [e-mail]"
    assert made["personal"] == {"[e-mail]": 1, "[name]": 2}
    assert "no model was named" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
