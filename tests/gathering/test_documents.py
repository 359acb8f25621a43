"""Documents, blogs, a git history and a help desk's table: each by its rule."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import exports_documents as exports
import pytest
from exports import Import, answers, zipped
from exports_documents import PAGE, SECTIONS


def test_sections_answer_their_headings(tmp_path: Path, imported: Import) -> None:
    status, made, _ = imported(exports.documents(tmp_path))
    assert status == 0 and made["kind"] == "documents" and made["expert"] == "Ada"
    beginning = ("Das Rad dreht sich.", "Es dreht sich langsam.\n\nEs klappert.")
    assert answers(tmp_path / "out") == [*SECTIONS, beginning], "the page in HTML has the same sections"
    assert made["ledger"]["fates"] == {"written": 4, "wordless": 1, "draft": 1, "duplicate": 3}
    assert made["ledger"]["rows"] == 5 and made["ledger"]["unrolled"] == 4


def test_what_an_import_wrote_is_not_imported(tmp_path: Path, imported: Import) -> None:
    folder = exports.documents(tmp_path)
    first = imported(folder, output=folder / "imported" / "notes")
    second = imported(folder, "--overwrite", output=folder / "imported" / "notes")
    assert first[0] == second[0] == 0 and first[1] == second[1]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("title", [("The mill", PAGE.partition("\n\n")[2].strip())]),
        ("beginning", [("It stands by the brook.", PAGE.partition("brook.\n\n")[2].strip())]),
        ("heading", SECTIONS),
    ],
)
def test_the_rule_can_be_chosen(rule: str, expected: list[tuple[str, str]], tmp_path: Path, imported: Import) -> None:
    (tmp_path / "mill.md").write_text(PAGE, encoding="utf-8")
    assert imported(tmp_path / "mill.md", "--rule", rule)[0] == 0
    assert answers(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The mill\n========\n\nBy the brook.", [("The mill", "By the brook.")]),
        ("# The mill\r\n\r\nBy the brook.\r\n", [("The mill", "By the brook.")]),
        ("One line alone", []),
        ("# A heading alone", []),
        ("A list:\n\n- a\n- b\n---\n", [("A list:", "- a\n- b\n---")]),
        ("# 磨坊\n\n在小溪边。", [("磨坊", "在小溪边。")]),
    ],
)
def test_what_is_a_title(text: str, expected: list[tuple[str, str]], tmp_path: Path, imported: Import) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_bytes(text.encode("utf-8"))
    (tmp_path / "notes" / "b.md").write_text("# Z\n\nlast", encoding="utf-8")
    imported(tmp_path / "notes")
    assert answers(tmp_path / "out") == [*expected, ("Z", "last")]


def test_posts_of_wordpress_are_of_their_authors(tmp_path: Path, imported: Import) -> None:
    source = exports.wordpress(tmp_path)
    status, _, complaint = imported(source)
    assert status == 2 and "found were 'Ada' (2), 'Ben' (1)" in complaint
    status, made, _ = imported(source, "--me", "Ada")
    assert status == 0 and made["kind"] == "wordpress"
    assert answers(tmp_path / "out") == [
        ("The wheel", "It turns **slowly**."), ("Das Mehl", "Grain & flour.\n\nTwo lines\nof it."),
    ]  # fmt: skip
    assert made["ledger"]["fates"] == {"written": 2, "others": 1, "wordless": 1, "draft": 1}
    assert imported(source, "--me", "ada", "--since", "2026-03-02", "--overwrite")[1]["ledger"]["fates"]["old"] == 1


def test_what_is_kept_private_is_no_demonstration(tmp_path: Path, imported: Import) -> None:
    source = exports.wordpress(tmp_path)
    text = source.read_text(encoding="utf-8")
    at = text.index("Das Mehl")
    source.write_text(text[:at] + text[at:].replace(">publish<", ">private<", 1), encoding="utf-8")
    _, made, _ = imported(source, "--me", "Ada")
    assert made["ledger"]["fates"] == {"written": 1, "others": 1, "wordless": 1, "draft": 1, "private": 1}


def test_a_site_that_is_cut_short_keeps_what_came_before(tmp_path: Path, imported: Import) -> None:
    source = exports.wordpress(tmp_path)
    data = source.read_bytes()
    source.write_bytes(data[: data.index(b"Das Mehl")])
    _, made, _ = imported(source, "--me", "Ada")
    assert made["ledger"]["fates"] == {"written": 1, "invalid": 1}
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert "is not XML from here on" in json.loads(line)["reasons"][0] and json.loads(line)["line"] == 2


def test_entities_that_grow_are_refused(tmp_path: Path, imported: Import) -> None:
    """A billion laughs: an entity of ten entities of ten entities."""
    source = exports.wordpress(tmp_path)
    bomb = '<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>\n<rss'
    source.write_text(source.read_text(encoding="utf-8").replace("<rss", bomb, 1), encoding="utf-8")
    status, _, complaint = imported(source, "--me", "Ada")
    assert status == 2 and complaint.count("\n") == 1


@pytest.mark.parametrize("archive", [False, True])
def test_posts_of_medium(archive: bool, tmp_path: Path, imported: Import) -> None:
    source = exports.medium(tmp_path)
    status, made, _ = imported(zipped(source) if archive else source)
    assert status == 0 and made["kind"] == "medium" and made["expert"] == "Ada"
    assert answers(tmp_path / "out") == [("The wheel", "It turns **slowly**.")]
    assert made["ledger"]["fates"] == {"written": 1, "draft": 1}


def test_commits_answer_their_changes(tmp_path: Path, imported: Import) -> None:
    source = exports.repository(tmp_path)
    status, _, complaint = imported(source)
    assert status == 2 and "found were 'Ada' (3), 'Ben' (1)" in complaint
    status, made, _ = imported(source, "--me", "ada@toys.test")
    assert status == 0 and made["kind"] == "git" and made["expert"] == "Ada"
    first, second = answers(tmp_path / "out")
    assert first[1] == "Add the wheel\n\nIt is of oak." and first[0].endswith("+++ b/wheel.txt\n@@ -0,0 +1 @@\n+oak")
    assert second[1] == "Iron rims: Räder halten länger\n\n    oak + iron" and "\n oak\n+iron" in second[0]
    assert made["ledger"]["fates"] == {"written": 2, "others": 1, "unprompted": 1}
    assert made["groups"] == 1, "one file"


def test_merges_are_in_the_account(tmp_path: Path, imported: Import) -> None:
    source = exports.repository(tmp_path)

    def git(*words: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@lovelace.org"]
        subprocess.run(["git", "-C", str(source), *who, *words], check=True, capture_output=True)

    before = imported(source, "--me", "Ada")[1]["ledger"]
    git("checkout", "-q", "-b", "side", "HEAD~1")
    git("commit", "-q", "--allow-empty", "-m", "Nothing")
    git("checkout", "-q", "-")
    git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    after = imported(source, "--me", "Ada", "--overwrite")[1]["ledger"]
    assert after["rows"] == before["rows"] + 2
    assert after["fates"]["merged"] == before["fates"].get("merged", 0) + 1


def test_what_git_writes_of_a_revert_is_nobody_s(tmp_path: Path, imported: Import) -> None:
    source = exports.repository(tmp_path)

    def git(*words: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@lovelace.org"]
        subprocess.run(["git", "-C", str(source), *who, *words], check=True, capture_output=True)

    git("revert", "--no-edit", "HEAD")
    git("revert", "--no-edit", "HEAD")  # git calls this one "Reapply"
    git("revert", "--no-edit", "HEAD")
    because = "\n\nThe oak was rotten."
    git("commit", "-q", "--amend", "-m", f'Revert "Ben\'s wheel"\n\nThis reverts commit 0123456789.{because}')
    _, made, _ = imported(source, "--me", "Ada")
    assert made["ledger"]["fates"]["automatic"] == 2
    assert [answer for _, answer in answers(tmp_path / "out") if "evert" in answer or "eapply" in answer] == [
        f'Revert "Ben\'s wheel"\n\nThis reverts commit 0123456789.{because}'
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_of_an_office_program_is_read(encoding: str, tmp_path: Path, imported: Import) -> None:
    """It was told to set the encoding in a recipe, which an import does not have."""
    path = tmp_path / "tickets.csv"
    text = "question,answer\nWo ist die Mühle?,Am Mühlbach.\nWann öffnet sie?,Um acht.\n"
    path.write_bytes(text.encode(encoding))
    status, _, complaint = imported(path, "--from", "helpdesk")
    assert status == 0, complaint
    assert answers(tmp_path / "out")[0] == ("Wo ist die Mühle?", "Am Mühlbach.")


#: Name -> an export that is known and not read, and what is said of it.
NOT_READ = {
    "chat.txt": ("=" * 62 + "\nGuild: G\nChannel: c\n" + "=" * 62 + "\n\n[01-Feb-26 09:00 AM] Ben\nhi\n",
                 "DiscordChatExporter's plain text export, which is not read; export the channel as JSON"),
    "chat.html": ('<div class="chatlog"><div class="chatlog__message-group">hi</div></div>',
                  "DiscordChatExporter's HTML export, which is not read; export the channel as JSON"),
    "messages.html": ('<div class="page_wrap list_page"><div class="message default clearfix">hi</div></div>',
                      "Telegram's HTML export, which is not read; export it as machine-readable JSON"),
    "message_1.json": ('{"participants": [{"name": "Ben"}], "messages": [{"sender_name": "Ada"}]}',
                       "Messenger's or Instagram's export, which is not read; write its turns as messages"),
    "messages.json": ('{"messages": [{"creator": {"name": "Ada"}, "text": "hi"}]}',
                      "Google Chat's export, which is not read; write its turns as messages"),
    "mail.pst": ("!BDN", "Outlook's .pst export, which is not read; import it into Thunderbird, and name its folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READ)
@pytest.mark.parametrize("within", [True, False])
def test_an_export_that_is_not_read_is_no_document(name: str, within: bool, tmp_path: Path, imported: Import) -> None:
    """Chats of several people were taken for documents that the expert wrote."""
    text, said = NOT_READ[name]
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    status, _, complaint = imported(folder if within else folder / name)
    assert status == 2 and f"{name}: is {said}" in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_of_a_repository_s_settings_is_started(tmp_path: Path, imported: Import) -> None:
    source = exports.repository(tmp_path)
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n", encoding="utf-8")
    trap.chmod(0o755)
    config = (
        f'[core]\nfsmonitor = {trap}\npager = {trap}\n[diff]\nexternal = {trap}\n[diff "x"]\ntextconv = {trap}\n'
        f"command = {trap}\n[log]\nshowSignature = true\n[gpg]\nprogram = {trap}\n"
    )
    with (source / ".git" / "config").open("a", encoding="utf-8") as file:
        file.write(config)
    (source / ".git" / "info").mkdir(exist_ok=True)
    (source / ".git" / "info" / "attributes").write_text("*.txt diff=x\n", encoding="utf-8")
    assert imported(source, "--me", "Ada")[0] == 0
    assert not (tmp_path / "sprung").exists()


def test_a_folder_without_commits_is_refused(tmp_path: Path, imported: Import) -> None:
    (tmp_path / "none" / ".git").mkdir(parents=True)
    (tmp_path / "none" / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    status, _, complaint = imported(tmp_path / "none")
    assert status == 2 and "git cannot read its history" in complaint and complaint.count("\n") == 1


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_answers_of_a_help_desk(delimiter: str, tmp_path: Path, imported: Import) -> None:
    source = exports.helpdesk(tmp_path, delimiter)
    status, made, _ = imported(source, "--me", "Ada")
    assert status == 0 and made["kind"] == "helpdesk"
    assert answers(tmp_path / "out") == [
        ("Wheel\n\nWhy does it **stop**?", "It is dry."), ("Wann mahlt ihr?\nMorgen?", "Morgen um neun."),
    ]  # fmt: skip
    assert made["ledger"]["fates"] == {"written": 2, "others": 1, "wordless": 1}


def test_columns_are_asked_for_with_those_found(tmp_path: Path, imported: Import) -> None:
    """And the remedy is followed."""
    path = tmp_path / "faq.csv"
    path.write_text("Kunde schrieb,Wir schrieben\nWann?,Morgen.\nWo?,Hier.\n", encoding="utf-8")
    status, _, complaint = imported(path, "--from", "helpdesk")
    assert (
        status == 2
        and "(columns found: 'Kunde schrieb', 'Wir schrieben'); name it with --column question=NAME" in complaint
    )
    words = ["--from", "helpdesk", "--column", "question=Kunde schrieb", "--column", "answer=Wir schrieben"]
    assert imported(path, *words)[0] == 0
    assert answers(tmp_path / "out") == [("Wann?", "Morgen."), ("Wo?", "Hier.")]
    status, _, complaint = imported(path, "--from", "helpdesk", "--column", "antwort=x")
    assert status == 2 or "antwort" in complaint
    status, _, complaint = imported(path, *words, "--mask-others", "--overwrite")
    assert status == 2 and "its prompt is in others' words alone" in complaint


# -- how documents are written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=gb2312">', "gbk"),
        ("<meta charset=nonsense>", "utf-8"),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_names(
    head: str, encoding: str, tmp_path: Path, imported: Import
) -> None:
    """Pages in Cyrillic and Chinese were learned as letters of Windows-1252."""
    words = {"cp1251": "Мельница", "gbk": "水車鎔", "utf-8": "Mühle"}[encoding]
    page = f"<html><head>{head}<title>T</title></head><body><p>{words}</p></body></html>"
    (tmp_path / "x.html").write_bytes(page.encode(encoding))
    imported(tmp_path / "x.html")
    assert answers(tmp_path / "out") == [("T", words)]


def test_a_head_of_hugo_and_drafts_of_jekyll_are_told(tmp_path: Path, imported: Import) -> None:
    """A head in TOML was learned as the document's first words, and drafts were documents."""
    (folder := tmp_path / "blog").mkdir()
    (folder / "_drafts").mkdir()
    (folder / "a.md").write_text('+++\ntitle = "The mill"\ndate = 2026-03-02\n+++\nIt turns.\n', "utf-8")
    (folder / "b.md").write_text('+++\ntitle = "Later"\ndraft = true\n+++\nNot yet.\n', "utf-8")
    (folder / "c.md").write_text("---\ntitle: Later\npublished: false\n---\nNot yet either.\n", "utf-8")
    (folder / "_drafts" / "d.md").write_text("# Later\n\nNor this.\n", "utf-8")
    _, made, _ = imported(folder)
    assert answers(tmp_path / "out") == [("The mill", "It turns.")]
    assert made["ledger"]["fates"] == {"written": 1, "draft": 3}


def test_documents_that_are_not_read_are_counted(tmp_path: Path, imported: Import) -> None:
    """Two hundred of a word processor's beside three notes were left out without a word."""
    (folder := tmp_path / "notes").mkdir()
    (folder / "a.docx").write_bytes(b"PK\x03\x04")
    status, _, complaint = imported(folder)
    assert status == 2 and "holds documents in a form that is not read (a.docx); save them as Markdown" in complaint
    (folder / "b.md").write_text("# T\n\nHello.\n", encoding="utf-8")
    _, made, _ = imported(folder)
    assert made["ledger"]["fates"] == {"written": 1, "invalid": 1}
    assert "is in a form that is not read; save it as" in (tmp_path / "out" / "rejected.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    ("data", "fates"),
    [
        ("Titel\n\nGrüße und mehr".encode("utf-16-le"), {"written": 1}),
        ("Titel\n\nGrüße und mehr".encode("cp1252"), {"written": 1}),
        ("Мельница\n\nСтоит у ручья".encode("cp1251"), {"invalid": 1}),
        (b"{\\rtf1 hello}\n\nmore", {"invalid": 1}),
        (b"%PDF-1.4\n\nmore", {"invalid": 1}),
    ],
    ids=["utf-16", "cp1252", "cp1251", "rtf", "pdf"],
)
def test_a_text_in_letters_that_cannot_be_told_is_not_learned(
    data: bytes, fates: dict[str, int], tmp_path: Path, imported: Import
) -> None:
    """Cyrillic was learned as accented Latin letters."""
    (folder := tmp_path / "notes").mkdir()
    (folder / "a.txt").write_bytes(data)
    (folder / "b.md").write_text("# T\n\nHello.\n", encoding="utf-8")
    _, made, _ = imported(folder)
    assert made["ledger"]["fates"] == {"written": 1} | ({"written": 2} if "written" in fates else fates)
