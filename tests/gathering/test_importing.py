"""What holds of every import: its files, its card, personal data, and what it does not do."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from exports import ANSWERS, STAMPS, Import, answers, rows, whatsapp, when
from exports_documents import EVERY
from fresh_imports import HEAVY, modules_after
from repository import ROOT

from sft.cli import main
from sft.demonstrations.formats import read

Captured = pytest.CaptureFixture[str]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", EVERY)
def test_an_import_is_read_as_it_is_and_is_the_same_every_time(kind: str, tmp_path: Path, imported: Import) -> None:
    make, words = EVERY[kind]
    source = make(tmp_path)
    status, made, _ = imported(source, *words)
    assert status == 0 and made["kind"] == kind
    reading = read(tmp_path / "out" / "demonstrations.jsonl")
    assert not reading.rejected and not reading.ignored
    assert len(reading.demonstrations) == made["demonstrations"] == made["ledger"]["fates"]["written"]
    assert {one.expert for one in reading.demonstrations} <= {made["expert"], ""}
    assert len({one.group for one in reading.demonstrations}) == made["groups"]
    assert imported(source, *words, "--from", kind, output=tmp_path / "again")[0] == 0
    first, second = content(tmp_path / "out"), content(tmp_path / "again")
    assert first.pop("README.md").partition(b"\n")[2] == second.pop("README.md").partition(b"\n")[2], "but for its name"
    assert first == second and set(first) == {"demonstrations.jsonl", "ledger.json"}


@pytest.mark.parametrize("kind", EVERY)
def test_the_card_says_the_rule_the_counts_and_what_was_left_out(kind: str, tmp_path: Path, imported: Import) -> None:
    make, words = EVERY[kind]
    _, made, _ = imported(make(tmp_path), *words, "--expert", "Countess | Ada")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"(?m)^\| (\w+) \| (.+) \|$", card))
    assert table["Expert"] == "Countess \\| Ada"
    for line in ("Prompt", "Completion", "Group", "Source", "Licence", "Build"):
        assert len(table[line]) > 10 and "{" not in table[line]
    rows, records = made["demonstrations"], made["ledger"]["rows"]
    assert table["Rows"] == f"{rows:,} from {records:,} records"
    for count in made["ledger"]["fates"].values():
        assert f"| {count:,} | " in card
    assert "## Known flaws" in card and "read before sharing" in card
    private = ("lovelace.org", "Ben", str(tmp_path), "WhatsApp Chat with")
    assert not [word for word in private if word in card], "names of files and of others stand nowhere"


def test_the_command_in_the_card_gives_the_same_rows(tmp_path: Path, imported: Import, capsys: Captured) -> None:
    source = whatsapp(tmp_path)
    imported(source, "--me", "Ada", "--turns", "3", "--join", "1", "--min-words", "3", "--region", "GB")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    command = card.partition("| Build | `")[2].partition("`")[0]
    words = command.replace("EXPORT", "CHAT").replace("...", "Ada").split()
    assert words[:3] == ["sft", "import", "CHAT"]
    assert main([*(str(source) if word == "CHAT" else word for word in words[1:]), "-o", str(tmp_path / "again")]) == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "out")


# -- whole or not at all -----------------------------------------------------------------------------------------------


def test_nothing_is_written_over_without_being_told(tmp_path: Path, imported: Import) -> None:
    source = whatsapp(tmp_path)
    assert imported(source, "--me", "Ada")[0] == 0
    before = content(tmp_path / "out")
    status, _, complaint = imported(source, "--me", "Ben")
    assert status == 2 and "is there already" in complaint and content(tmp_path / "out") == before
    status, made, _ = imported(source, "--me", "Ben", "--overwrite")
    assert status == 0 and made["expert"] == "Ben" and rows(tmp_path / "out")[0]["expert"] == "Ben"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["WhatsApp Chat with Ben.txt", "out"]


@pytest.mark.parametrize("there", ["a file", "a folder of others", "a link", "a file beside ours"])
def test_what_is_no_import_is_never_overwritten(there: str, tmp_path: Path, imported: Import) -> None:
    source, out = whatsapp(tmp_path), tmp_path / "out"
    kept = out / "thesis.txt"
    if there == "a file":
        out.write_text("thesis", encoding="utf-8")
        kept = out
    elif there == "a link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "thesis.txt").write_text("thesis", encoding="utf-8")
        out.symlink_to(tmp_path / "elsewhere")
    else:
        if there == "a file beside ours":
            assert imported(source, "--me", "Ada")[0] == 0
        out.mkdir(exist_ok=True)
        kept.write_text("thesis", encoding="utf-8")
    status, _, complaint = imported(source, "--me", "Ada", "--overwrite")
    assert status == 2 and "is no folder that sft import wrote" in complaint and complaint.count("\n") == 1
    assert kept.read_text(encoding="utf-8") == "thesis"


def long_chat(folder: Path, count: int) -> Path:
    path = folder / "WhatsApp Chat with Ben.txt"
    stamp = STAMPS["android en-GB"]
    lines = (f"{stamp(when(n * 7))}{('Ben', 'Ada')[n % 2]}: message {n} of many\n" for n in range(count))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_killed_import_leaves_nothing_that_stands_in_the_way(tmp_path: Path, imported: Import) -> None:
    source = long_chat(tmp_path, 20_000)
    command = [sys.executable, "-m", "sft", "import", str(source), "--me", "Ada", "-o", str(tmp_path / "out")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        end = time.monotonic() + 60
        while not (tmp_path / ".out.partial" / "whole").is_dir() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists() or len(rows(tmp_path / "out")) == 10_000
    (folder := tmp_path / "again").mkdir()
    assert imported(source, "--me", "Ada", "--overwrite")[0] == 0
    assert imported(source, "--me", "Ada", output=folder / "out")[0] == 0
    assert content(tmp_path / "out") == content(folder / "out")
    assert not (tmp_path / ".out.partial").exists()


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    source = long_chat(tmp_path, 2_000)
    done = subprocess.run(
        [sys.executable, "-m", "sft", "import", str(source), "--me", "Ada", "-o", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2 and done.stderr.startswith("sft: ") and done.stderr.count("\n") == 1, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]


def test_an_import_needs_no_torch(tmp_path: Path) -> None:
    loaded = modules_after(["import", whatsapp(tmp_path), "--me", "Ada", "-o", tmp_path / "out"], tmp_path)
    assert not {"pandas", "presidio_analyzer", *HEAVY} & loaded and "sft.gathering.importing" in loaded


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "words", "said"),
    [
        ({}, [], "there is no such file or folder"),
        ({"export": None}, [], "holds no files"),
        ({"export/a.bin": b"\0\1"}, [], "is no export that is recognised (it holds a.bin); say what it is: --from"),
        ({"export/a.md": b"# A\n\nb"}, ["--from", "whatsap"], "is no kind of export that is known; did you mean 'what"),
        ({"export/a.md": b"# A\n\nb"}, ["--from", "telegram"], "nothing that becomes a demonstration (it is empty)"),
        ({"export/a.txt": b""}, [], "1 holds no words of anybody's"),
        ({"export/a.md": b"# A\n\nb"}, ["--region", "XX"], "--region XX: is no country of two letters"),
        ({"export/a.md": b"# A\n\nb"}, ["--min-words", "9"], "1 fewer words than --min-words"),
        ({"export/a.txt": b"hello\n"}, ["--from", "whatsapp"], "holds no message with a date as WhatsApp writes it"),
        ({"export/a.txt": b"\0" * 999}, [], "the first complaint"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    made: dict[str, bytes | None], words: list[str], said: str, tmp_path: Path, imported: Import
) -> None:
    for name, data in made.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if data is None else path.write_bytes(data)
    status, _, complaint = imported(tmp_path / "export", *words)
    assert status == 2 and said in complaint and complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words", [["--since", "yesterday"], ["--min-words", "0"], ["--personal", "sell"], ["--turns", "x"]]
)
def test_words_that_are_none_are_answered_with_the_usage(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", "x", *words])
    assert ended.value.code == 2 and "usage: sft import" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, imported: Import) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, _, complaint = imported(whatsapp(tmp_path), "--me", "Ada", output=tmp_path / "file" / "out")
    assert status == 2 and complaint.count("\n") == 1 and "Traceback" not in complaint


def test_latin_letters_of_an_old_machine_are_read(tmp_path: Path, imported: Import) -> None:
    path = whatsapp(tmp_path, "android de")
    path.write_bytes(path.read_text(encoding="utf-8").replace("📐", "").encode("cp1252"))
    imported(path, "--me", "Ada")
    assert answers(tmp_path / "out")[2] == ANSWERS[2]
    path.write_bytes(path.read_bytes().decode("cp1252").encode("utf-16"))
    imported(path, "--me", "Ada", "--overwrite")
    assert answers(tmp_path / "out")[2] == ANSWERS[2]
