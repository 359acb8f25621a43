"""What people do with a gathering that it was not made for: by hand, at once, elsewhere, again, and in between."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from gatherings import Client, asked, corrected, gathering, served, started, texts

from sft.cli import main
from sft.gathering import pages
from sft.gathering.desk import Desk
from sft.gathering.events import Event, write_events
from sft.gathering.folder import Gathering

# -- at once ----------------------------------------------------------------------------------------------------


def test_a_window_is_told_its_own_revision_and_not_the_next_ones(tmp_path: Path) -> None:
    """Two windows wrote within one wait for the disk. The first was told the revision of the second, whose text it had
    never seen and wrote over with its next key.
    """
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, who):
        item, said = who["ada"].next(), dict[str, int]()

        def draft(text: str, rev: int) -> None:
            one = Client(page.address)
            one.cookie = who["ada"].cookie
            said[text] = one.do("draft", item=item, text=text, rev=rev, window=text)[1]["rev"]
            one.close()

        with (
            page.desk.lock
        ):  # the thread that writes has the first in hand and waits; the other two are written at once
            threads = [threading.Thread(target=draft, args=(text, rev)) for rev, text in enumerate("abc")]
            for thread in threads:
                thread.start()
                time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert said == {"a": 1, "b": 2, "c": 3}


def test_a_page_takes_hardly_longer_behind_thousands_of_answers(tmp_path: Path) -> None:
    """Every page looked through all answers twice: 13 microseconds of a processor for each of them, 40 ms of 3,000."""
    took = {}
    for answers in (100, 3_000):
        with gathering(tmp_path / str(answers), answers + 2) as made:
            text, at = "word " * 30, "2026-03-01T10:00:00.000+00:00"
            items = [one.id for one in made.state([]).order()[:-2]]
            write_events(made.events_path, [Event(n, at, "submitted", item, "ada", rev=1, text=text)
                                            for n, item in enumerate(items, 1)])  # fmt: skip
            desk, spent = Desk(made), []
            for _ in range(9):
                began = time.thread_time()
                item = desk.state.next_for("ada")
                assert item is not None and f">{answers}</span> of {answers + 2}" in pages.item(desk, item, "ada")
                spent.append(time.thread_time() - began)
            desk.close()
        took[answers] = min(spent)
    assert (took[3_000] - took[100]) / 2_900 < 4e-6, took


# -- by hand ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gathering with three items that a clone wrote for, and two answers."""
    folder = tmp_path_factory.mktemp("whole") / "g"
    with corrected(folder, shown="drafted") as made, served(made) as (_, who):
        for n in range(2):
            who["ada"].answer(f"Some words, number {n}, and more of them.")
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """It, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "g"))


def hashes(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name != ".lock"}


def test_files_that_an_editor_on_windows_wrote_are_read(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mark before the first event made it none, and ``--repair`` would have taken the expert who joined away."""
    assert main(["collect", str(copy), "--check"]) == 0
    said = capsys.readouterr().out
    for path in (*copy.glob("*.json"), *copy.glob("*.jsonl")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["collect", str(copy), "--check"]) == 0 and capsys.readouterr().out == said
    with Gathering.open(copy, writing=True) as made, served(made) as (_, who):
        who["ada"].answer("Written on Linux again.")
    assert main(["collect", str(copy), "--check"]) == 0 and "3 answers" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", " \\u200b", "\\u0000"])
def test_an_answer_that_was_emptied_by_hand_is_told_with_its_line(
    copy: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--check`` ended in a traceback."""
    path = copy / "events.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("Some words, number 0, and more of them.", text))
    assert main(["collect", str(copy), "--check"]) == 2
    assert "events.jsonl:3: is no event, or an answer that shows nothing" in capsys.readouterr().err
    assert main(["collect", str(copy), "--repair"]) == 0 and main(["collect", str(copy), "--check"]) == 0
    assert "1 answers" in (said := capsys.readouterr().out) or "1 answer" in said


def test_a_file_that_is_laid_out_anew_is_not_mended_to_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An editor that lays JSON out over several lines: none of them is an event, and ``--repair`` left all out."""
    path = copy / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(json.dumps(row, indent=1) for row in rows), encoding="utf-8")
    before = hashes(copy)
    assert main(["collect", str(copy), "--repair"]) == 2
    assert "has no line that is an event; restore it from a copy" in capsys.readouterr().err
    assert hashes(copy) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("events.jsonl", "events.jsonl: is not there, or empty, and demonstrations.jsonl was made of it"),
        ("items.jsonl", "items.jsonl: is not there, or empty, and events.jsonl has answers to what stood in it"),
        ("clone-1.jsonl", "clone-1.jsonl: what the clone wrote for item"),
    ],
)
def test_a_file_that_is_gone_takes_no_answer_with_it(
    copy: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the events, the demonstrations were written over with none; without the clone's texts, drafted answers
    became blind ones, which a clone may be judged by.
    """
    (copy / name).rename(copy.parent / name)
    before = hashes(copy)
    for words in (["collect", str(copy), "--check"], ["check", str(copy)]):
        assert main(words) == 2 and said in capsys.readouterr().err
    assert main(["collect", str(copy), "--no-open", "--port", "99999"]) == 2
    gone = "clone-1.jsonl: the clone has written for 0 of 3 items of round 1; restore the file from a copy"
    assert (gone if name == "clone-1.jsonl" else said) in capsys.readouterr().err
    if name == "events.jsonl":
        assert main(["collect", str(copy), "--compact"]) == 2
    assert {**hashes(copy), "experts.json": b""} == {**before, "experts.json": b""}


def test_a_clones_text_that_was_changed_by_hand_is_not_what_the_expert_saw(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "clone-1.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("ZEBRA", "TIGER"), encoding="utf-8")
    assert main(["collect", str(copy), "--check"]) == 2
    assert "or another than ada saw" in capsys.readouterr().err


def test_demonstrations_that_were_changed_by_hand_are_kept(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They were written over without a word by the next check or run."""
    path, kept = copy / "demonstrations.jsonl", copy / "demonstrations.by-hand.jsonl"
    right = path.read_bytes()
    assert main(["collect", str(copy), "--check"]) == 0 and not capsys.readouterr().err and not kept.exists()
    path.write_bytes(changed := right.replace(b"words, number 1", b"words, number one"))
    for words in (["collect", str(copy), "--check"], ["check", str(copy)], ["collect", str(copy), "--no-open"]):
        path.write_bytes(changed)
        if "--no-open" in words:
            words += ["--port", "99999"]
        main(words)
        assert "1 row was changed by hand: kept in demonstrations.by-hand.jsonl" in capsys.readouterr().err
        assert kept.read_bytes() == changed and path.read_bytes() == right
        kept.unlink()


@pytest.mark.parametrize("by", ["in place", "another file"])
def test_demonstrations_changed_by_hand_while_the_page_is_open_are_kept(
    copy: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next answer wrote over them, and no later command knew of it. Editors write in place, or put a new file."""
    path = copy / "demonstrations.jsonl"
    right = path.read_bytes()
    texts = [right.replace(b"words, number 1", new) for new in (b"words, number one", b"words, number uno")]
    with Gathering.open(copy, writing=True) as made, served(made) as (_, who):
        for number, text in enumerate(texts, 1):
            if by == "in place":
                path.write_bytes(text)
            else:
                path.with_suffix(".new").write_bytes(text)
                path.with_suffix(".new").replace(path)
            if number == 1:  # then the page is closed
                who["ada"].answer("Written while the page is open.")
            deadline = time.monotonic() + 20
            while number == 1 and time.monotonic() < deadline and b"page is open" not in path.read_bytes():
                time.sleep(0.05)
    said = capsys.readouterr().err
    kept = [copy / "demonstrations.by-hand.jsonl", copy / "demonstrations.by-hand-2.jsonl"]
    assert [one.read_bytes() for one in kept] == texts
    for one in kept:
        assert f"{path}: was changed by hand while the page was open: kept in {one.name}, for" in said
    assert said.count("by hand while") == 2
    rows = path.read_bytes().splitlines()
    assert set(right.splitlines()) < set(rows) and len(rows) == 3
    assert main(["collect", str(copy), "--check"]) == 0 and "by hand" not in capsys.readouterr().err


def test_an_answer_whose_row_was_deleted_by_hand_does_not_come_back_without_a_word(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever had deleted rows trained on them all the same; what it says is to be done leaves them out."""
    path, kept = copy / "demonstrations.jsonl", copy / "demonstrations.by-hand.jsonl"
    right = path.read_bytes()
    rows = right.splitlines(keepends=True)
    for words in (["collect", str(copy), "--check"], ["check", str(copy)], ["collect", str(copy), "--no-open"]):
        for left, many in (
            (rows[1:], "1 answer was"),
            (rows[:-2], "2 answers were"),
            ([], f"{len(rows)} answers were"),
        ):
            path.write_bytes(b"".join(left))
            main([*words, *(["--port", "99999"] if "--no-open" in words else [])])
            said = capsys.readouterr().err
            assert f"{many} not in it and stand" in said and "withdraw it in the list of the page" in said
            assert path.read_bytes() == right and not kept.exists()
    row = json.loads(rows[0])
    with Gathering.open(copy, writing=True) as made, served(made) as (_, who):
        assert "Withdraw the answer" in who[row["expert"]].get("/list")[1]
        assert who[row["expert"]].do("withdrawn", item=row["gathered"]["item"], rev=9)[0] == 200
    assert main(["collect", str(copy), "--check"]) == 0 and not capsys.readouterr().err
    assert path.read_bytes() == b"".join(rows[1:])


def test_nothing_is_exported_onto_the_gathering_itself(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--export DIR/events.jsonl`` put demonstrations in the place of the events."""
    before = hashes(copy)
    for name in ("events.jsonl", "demonstrations.jsonl", "new.jsonl"):
        assert main(["collect", str(copy), "--export", str(copy / name)]) == 2
        assert "lies in the gathering, whose files are its own" in capsys.readouterr().err
    assert hashes(copy) == before


def test_what_would_be_done_in_part_is_refused(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--check --export`` exported nothing, ``--json`` opened the page, and of two experts one was exported."""
    out = tmp_path / "out.jsonl"
    assert main(["collect", str(copy), "--check", "--export", str(out)]) == 2
    assert "--check and --export: are done one at a time" in capsys.readouterr().err
    assert main(["collect", str(copy), "--json", "--port", "99999"]) == 2
    assert "--json: prints what --check finds" in capsys.readouterr().err
    with gathering(tmp_path / "two", 3, ("ada", "ben", "cyd"), answers=3) as made, served(made) as (_, who):
        for name in ("ada", "ben", "cyd"):
            who[name].answer(f"By {name}.")
    words = ["collect", str(tmp_path / "two"), "--export", str(out), "--expert", "ada", "--expert", "cyd"]
    assert main(words) == 0
    assert [json.loads(line)["expert"] for line in out.read_text("utf-8").splitlines()] == ["ada", "cyd"]


def test_drafted_answers_alone_give_no_blind_ones(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", str(copy), "--export", str(tmp_path / "x.jsonl"), "--blind-only"]) == 2
    assert "has no such answer; ask for others, or wait for some" in capsys.readouterr().err


# -- people -----------------------------------------------------------------------------------------------------


def test_who_writes_is_asked_once(tmp_path: Path) -> None:
    """At a terminal it was asked twice, and of a gathering that has its experts too, for nothing."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is a tide?"}\n', encoding="utf-8")
    command = [sys.executable, "-m", "sft", "collect", str(tmp_path / "p.jsonl"), "--into", str(tmp_path / "g"),
               "--no-open", "--port", "99999"]  # fmt: skip
    said = ""
    for _ in range(2):
        ours, theirs = pty.openpty()
        one = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, b"grace\ngrace\ngrace\n")
        with suppress(OSError):
            while part := os.read(ours, 1 << 16):
                said += part.decode()
        os.close(ours)
        assert one.wait(60) == 2 and "--port 99999" in said
    assert said.count("Who writes?") == 1 and list(Gathering.open(tmp_path / "g").experts()) == ["grace", ""]


def test_a_name_is_one_name_however_it_was_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Letters with a mark of their own, as some keyboards send them, and blanks around: two experts looked like one."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is a tide?"}\n', encoding="utf-8")
    words = ["collect", str(tmp_path / "p.jsonl"), "--into", str(tmp_path / "g"), "--no-open", "--port", "99999"]
    assert main([*words, "--expert", "Jose\u0301", "--expert", " Jos\u00e9"]) == 2
    assert "Jos\u00e9: is named twice" in capsys.readouterr().err and not (tmp_path / "g").exists()
    with gathering(tmp_path / "h", 1, ("Jos\u00e9",)) as made, served(made) as (_, who):
        assert who["owner"].do("joined", "/owner/do", text=" Jose\u0301")[0] == 200
        assert who["owner"].do("left", "/owner/do", expert="nobody")[0] == 404
        assert list(made.experts()) == ["Jos\u00e9", ""] and made.state().experts == {"Jos\u00e9": True}


def test_an_expert_who_left_is_back_when_named_again(tmp_path: Path) -> None:
    """The command printed a link for whoever had left, and the page did not know it."""
    folder = tmp_path / "g"
    with gathering(folder, 3, ("ada", "ben")) as made, served(made) as (_, who):
        who["owner"].do("left", "/owner/do", expert="ben")
    for words, there in (([], False), (["--expert", "ben"], True), ([], True)):
        one, links = started(folder, *words)
        assert ("ben" in links) is there
        if there:
            address, _, token = links["ben"].partition("/enter/")
            with closing(Client(address, token)) as ben:
                assert ben.next()
        one.terminate()
        one.communicate()


def test_an_expert_who_was_renamed_by_hand_is_waited_for_no_longer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under the old name nobody can come any more, and an item that all are to answer was never done."""
    folder = tmp_path / "g"
    with gathering(folder, asked(2, shared=True), ("ada", "ben")) as made, served(made) as (_, who):
        who["ada"].answer("The sea, breathing.")
    path = folder / "experts.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"ben"', '"benedict"'), encoding="utf-8")
    with Gathering.open(folder, writing=True) as made, served(made) as (_, who):
        for name in ("benedict", "benedict", "ada"):
            who[name].answer("The sea, breathing.")
        assert who["ada"].next() == who["benedict"].next() == ""
    assert main(["collect", str(folder), "--check"]) == 0
    assert "2 items: 2 done\n" in capsys.readouterr().out


# -- again, and elsewhere -----------------------------------------------------------------------------------------


def test_a_file_of_prompts_that_changed_since(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New prompts are added, and of those that are gone it is said that they are asked all the same."""
    path, words = tmp_path / "p.jsonl", ["collect", str(tmp_path / "p.jsonl"), "--into", str(tmp_path / "g")]
    words += ["--expert", "ada", "--no-open", "--port", "99999"]
    for prompts in (("One?", "Two?"), ("Two?", "Three?")):
        path.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts), encoding="utf-8")
        assert main(words) == 2
    said = capsys.readouterr().out
    assert (
        "g: 1 items" in said and f"1 of the gathering's prompts are not in {path}; they are asked all the same" in said
    )
    assert [one.prompt[0].content for one in Gathering.open(tmp_path / "g").items()] == ["One?", "Two?", "Three?"]


def test_a_gathering_that_was_copied_goes_on_with_the_links_it_had(copy: Path, tmp_path: Path) -> None:
    """To another folder, with all its files: texts, links and what the demonstrations were made of."""
    with Gathering.open(copy, writing=True) as made:
        token = made.invite("ada")
    there = Path(shutil.copytree(copy, tmp_path / "elsewhere" / "g"))
    shutil.rmtree(copy)
    with Gathering.open(there, writing=True) as made, served(made) as (page, _), closing(
        Client(page.address, token)
    ) as ada:  # fmt: skip
        ada.answer("Written elsewhere.")
    assert len(texts(there)) == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(copy: Path) -> None:
    """As another user than root, to whom rights mean nothing; in a place of its own, for pytest's are root's alone."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("takes root, who can be somebody else")
    somebody = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-B"]
    if subprocess.run([*somebody, "-c", "import sft.cli"], capture_output=True, check=False).returncode:
        pytest.skip("nobody but root may read this checkout or its Python")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(copy, Path(place, "g")))
        for one in (folder, *folder.iterdir()):
            one.chmod(0o555 if one.is_dir() else 0o444)
        Path(place).chmod(0o755)
        before = hashes(folder)
        for words, code, said in (
            (["--check"], 0, "2 answers"),
            (["--no-open"], 2, "no permission, or a read-only disk"),
        ):
            command = [*somebody, "-m", "sft", "collect", str(folder), *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            shown = done.stdout + done.stderr
            assert done.returncode == code and said in shown and "Traceback" not in shown, done
        assert hashes(folder) == before
