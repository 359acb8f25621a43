"""WhatsApp: the same chat, however the phone writes dates."""

from __future__ import annotations

import zipfile
from pathlib import Path

import exports
import pytest
from exports import ANSWERS, STAMPS, TALK, Import, answers, rows, when


@pytest.mark.parametrize("phone", STAMPS)
def test_a_chat_is_read_whatever_the_phone_s_language(phone: str, tmp_path: Path, imported: Import) -> None:
    status, made, _ = imported(exports.whatsapp(tmp_path, phone), "--me", "Ada")
    assert status == 0 and made["kind"] == "whatsapp" and made["expert"] == "Ada"
    assert answers(tmp_path / "out") == ANSWERS
    assert made["ledger"]["fates"] == {"written": 3, "joined": 1, "others": 3, "wordless": 2}
    assert made["groups"] == 2, "2 and 14 March"
    assert [turn["role"] for turn in rows(tmp_path / "out")[1]["prompt"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("phone", STAMPS)
def test_days_months_and_halves_of_days_are_told_apart(phone: str, tmp_path: Path, imported: Import) -> None:
    """What comes before the second message's minute is left out, and nothing else."""
    since = when(31).replace(second=0).isoformat()
    status, made, _ = imported(exports.whatsapp(tmp_path, phone), "--me", "Ada", "--since", since)
    assert status == 0
    assert made["ledger"]["fates"] == {"written": 1, "others": 1, "old": 6, "unprompted": 1}


@pytest.mark.parametrize("slashes", ["{0}/{1}/26, 9:14 - ", "{0}.{1}.26, 09:14 - "])
def test_a_date_that_could_be_both_is_the_one_in_which_time_goes_on(
    slashes: str, tmp_path: Path, imported: Import
) -> None:
    days = [(3, 1), (3, 2), (4, 1)]  # month first: 1 March, 2 March, 1 April; day first, time would run backwards
    lines = [f"{slashes.format(*day)}{name}: text of {name}" for day in days for name in ("Ben", "Ada")]
    path = tmp_path / "chat.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert imported(path, "--me", "Ada", "--since", "2026-04-01")[1]["ledger"]["fates"]["old"] == 4


def test_an_archive_of_ios_is_read(tmp_path: Path, imported: Import) -> None:
    """``_chat.txt`` in every archive: the chat is called after the archive."""
    text = exports.whatsapp(tmp_path, "ios de").read_text(encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "WhatsApp Chat - Ben.zip", "w") as archive:
        archive.writestr("_chat.txt", text)
        archive.writestr("00000001-PHOTO-2026-03-02-20-14-05.jpg", b"\xff\xd8")
    status, made, _ = imported(tmp_path / "WhatsApp Chat - Ben.zip", "--me", "Ada")
    assert status == 0 and made["ledger"]["fates"]["written"] == len(ANSWERS)


def test_a_chat_that_was_exported_twice_is_read_once(tmp_path: Path, imported: Import) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    path = exports.whatsapp(folder)
    later = path.read_text(encoding="utf-8") + "20/03/2026, 09:14 - Ben: Again?\n20/03/2026, 09:15 - Ada: Again.\n"
    (folder / "WhatsApp Chat with Ben (1).txt").write_text(later, encoding="utf-8")
    _, made, _ = imported(folder, "--me", "Ada")
    assert made["ledger"]["fates"]["duplicate"] == len(TALK)
    assert answers(tmp_path / "out") == [*ANSWERS, ("Again?", "Again.")]


ODD = [
    ("IMG-20260302-WA0000.jpg (file attached)\nour new door", "our new door"),
    ("IMG-20260302-WA0000.jpg (Datei angehängt)", ""),
    ("our new door \u200e<attached: 00000001-PHOTO-2026-03-02-09-14-05.jpg>", "our new door"),
    ("\u200e<angehängt: 00000001-PHOTO-2026-03-02-09-14-05.jpg>", ""),
    ("\u200eBild weggelassen", ""),
    ("<Medien ausgeschlossen>", ""),
    ("<Multimedia omitido>", ""),
    ("null", ""),
    ("location: https://maps.google.com/?q=60.167850,24.952965", ""),
    ("You deleted this message", ""),
    ("Diese Nachricht wurde gelöscht.", ""),
    ("Missed voice call", ""),
    ("Verpasster Videoanruf", ""),
    ("I missed your voice call", "I missed your voice call"),
    ("I meant Friday <This message was edited>", "I meant Friday"),
    ("Freitag \u200e<Diese Nachricht wurde bearbeitet.>", "Freitag"),
    ("see https://example.org/a: it <b>works</b>", "see https://example.org/a: it <b>works</b>"),
    ("we omitted the picture", "we omitted the picture"),
    ("POLL:\nLunch?\nOPTION: Yes (2 votes)\nOPTION: No (0 votes)\n", ""),
    ("UMFRAGE:\nMittag?\nOPTION: Ja (1 Stimme)\n", ""),
    ("NOTE:\nbring oak\nand nails", "NOTE:\nbring oak\nand nails"),
    ("Waiting for this message. This may take a while.", ""),
    ("Missed voice call, \u200eTap to call back", ""),
    ("Voice call, \u200eNo answer", ""),
    ("Ich meine Freitag <消息已编辑>", "Ich meine Freitag"),
    ("I am waiting for this message of yours", "I am waiting for this message of yours"),
    ("a line\n\nand another after a gap", "a line\n\nand another after a gap"),
    ("12/03/2026 is the day - remember: noon", "12/03/2026 is the day - remember: noon"),
]


@pytest.mark.parametrize(("written", "kept"), ODD)
def test_what_is_no_words_is_left_out_and_words_are_kept(
    written: str, kept: str, tmp_path: Path, imported: Import
) -> None:
    path = tmp_path / "chat.txt"
    stamp = "02/03/2026, 09:1"
    path.write_text(
        f"{stamp}0 - Ben: What?\n{stamp}1 - Ada: {written}\n{stamp}2 - Ben: And?\n{stamp}3 - Ada: Yes.\n", "utf-8"
    )
    status, made, _ = imported(path, "--me", "Ada", "--join", "1")
    assert status == 0
    assert [answer for _, answer in answers(tmp_path / "out")] == ([kept] if kept else []) + ["Yes."]
    assert made["ledger"]["fates"].get("wordless", 0) == (not kept)


def test_who_speaks_is_named_where_several_do(tmp_path: Path, imported: Import) -> None:
    path = tmp_path / "group.txt"
    talk = [("Ben", "When?"), ("Ben", "And where?"), ("Cleo", "At mine"), ("Ada", "At nine, at Cleo's.")]
    talk += [("+49 170 1234567", "hi"), ("Ada", "Hello!")]
    path.write_text("\n".join(f"02/03/2026, 09:1{n} - {name}: {text}" for n, (name, text) in enumerate(talk)), "utf-8")
    imported(path, "--me", "Ada")
    assert answers(tmp_path / "out") == [
        ("Ben: When?\nAnd where?\nCleo: At mine", "At nine, at Cleo's."),
        ("[phone]: hi", "Hello!"),
    ]


def test_another_calendar_is_refused_with_what_to_do(tmp_path: Path, imported: Import) -> None:
    path = tmp_path / "chat.txt"
    path.write_text("۱۴۰۴/۱۲/۱۱، ۰۹:۱۴ - Ben: سلام\n۱۴۰۴/۱۲/۱۱، ۰۹:۱۵ - Ada: سلام\n", encoding="utf-8")
    status, _, complaint = imported(path, "--me", "Ada")
    assert status == 2 and "another calendar (year 1404)" in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize(
    "notice",
    [
        'Ada created group "Trip: Rome"',
        "Ben changed the subject from “Trip: Rome” to “Trip: Turin”",
        "Ada hat die Gruppe „Reise: Rom“ erstellt",
        "Ben a changé le sujet de « Voyage : Rome » en « Voyage: Turin »",
    ],
)
def test_a_notice_with_a_colon_in_a_name_is_nobody_s_message(notice: str, tmp_path: Path, imported: Import) -> None:
    path = tmp_path / "group.txt"
    path.write_text(
        f"02/03/2026, 09:10 - Ben: What?\n02/03/2026, 09:11 - {notice}\n02/03/2026, 09:12 - Ada: Yes.\n", "utf-8"
    )
    status, made, _ = imported(path, "--me", "Ada")
    assert status == 0 and answers(tmp_path / "out") == [("What?", "Yes.")]
    assert made["ledger"]["fates"]["wordless"] == 1


def test_stamps_without_a_date_are_refused_and_not_one_day(tmp_path: Path, imported: Import) -> None:
    """All messages fell on the first day of the first year."""
    path = tmp_path / "chat.txt"
    path.write_text("[2. Mar 2026, 09:14:05] Ben: What?\n[3. Mar 2026, 09:14:05] Ada: Yes.\n", "utf-8")
    status, _, complaint = imported(path, "--me", "Ada", "--from", "whatsapp")
    assert status == 2 and "1 record cannot be read (it has no date that is understood)" in complaint


def test_am_and_pm_put_the_month_first_where_americans_write_them_alone(tmp_path: Path, imported: Import) -> None:
    """2/3/2026 was the third of February wherever a phone counts to twelve."""
    for number, (half, since, kept) in enumerate(
        (("p. m.", "2026-03-01", 1), ("pm", "2026-03-01", 1), ("PM", "2026-03-01", 0))
    ):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"2/3/2026, 9:14 {half} - Ben: What?\n2/3/2026, 9:15 {half} - Ada: Yes.\n", "utf-8")
        _, made, _ = imported(path, "--me", "Ada", "--since", since, output=tmp_path / f"out-{number}")
        assert (made["ledger"]["fates"].get("written", 0) if made else 0) == kept, half
