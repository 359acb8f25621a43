"""Attacks on a gathering: damaged files, half an emoji, a clock set back, names, long prompts, full disks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gatherings import asked, corrected, gathering, served, texts

from sft.cli import main
from sft.gathering.events import Event, read_events
from sft.gathering.folder import Gathering, HeldOutKeys
from sft.gathering.state import Standing
from sft.runs.atomic_files import read_json, write_json


def changed(**values: Any) -> Callable[[bytes], bytes]:
    """The first row, or the one value, with other values."""

    def change(raw: bytes) -> bytes:
        try:
            return json.dumps(json.loads(raw) | values).encode()
        except ValueError:
            first, _, rest = raw.partition(b"\n")
            return json.dumps(json.loads(first) | values).encode() + b"\n" + rest

    return change


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gathering with one of each of its files, and two answers."""
    folder = tmp_path_factory.mktemp("whole") / "g"
    with corrected(folder, shown="drafted") as made, served(made) as (_, who):
        made.set_guidelines("Be brief.")
        made.freeze(HeldOutKeys(frozenset({"k"}), run="r0", prompts=("What?",)))
        for n in range(2):
            who["ada"].answer(f"Some words, number {n}. " * 60)
    return folder


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("gathering.json", lambda _: b"[" * 100_000, "the file is cut short or damaged"),
        ("gathering.json", lambda _: b"null", "gathering.json: is null; restore it from a copy"),
        ("gathering.json", changed(answers="two"), "'answers' is text, not a whole number"),
        ("gathering.json", changed(guidelines=["../../x"]), "'guidelines.1' is text"),
        ("gathering.json", changed(rounds=[3]), "'rounds.1' is a number"),
        ("experts.json", lambda _: b"[]", "experts.json: is a list"),
        ("experts.json", lambda _: b'{"ada": {"tokens": "x"}}', "'ada.tokens' is text, not a list"),
        ("items.jsonl", changed(id=[]), "items.jsonl:1: 'id' is a list, not text"),
        ("items.jsonl", changed(prompt=["x"]), "items.jsonl:1: 'prompt.1' is text, not an object"),
        ("items.jsonl", changed(id="\ud800"), "items.jsonl:1: holds half of an emoji"),
        ("items.jsonl", changed(prompt=[]), "items.jsonl:1: the prompt of item"),
        ("clone-1.jsonl", changed(text=None), "clone-1.jsonl:1: 'text' is null, not text"),
        ("held-out-keys.json", lambda _: b"{}", "held-out-keys.json: has no 'keys'"),
        ("held-out-keys.json", changed(threshold=7), "'threshold' is a number"),
        ("events.jsonl", lambda raw: raw.replace(b'"n":2,', b'"n":two,'), "events.jsonl:2: is no event"),
        ("events.jsonl", lambda raw: raw.replace(b"T", b"t o", 1), "events.jsonl:1: is no event"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence_with_its_place(
    whole: Path, tmp_path: Path, name: str, damage: Callable[[bytes], bytes], says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    before = kept(folder, but=name)
    for words in (["--check"], ["--no-open"]):
        assert main(["collect", str(folder), *words]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, error
    assert kept(folder, but=name) == before


def kept(folder: Path, but: str = "") -> dict[Path, bytes]:
    """What the folder holds, links aside: each start makes new ones."""
    aside = {"experts.json", ".lock"} - {but}
    return {one: one.read_bytes() for one in folder.rglob("*") if one.is_file() and one.name not in aside}


def test_a_version_of_the_guidelines_that_is_gone_is_said(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    (path,) = (folder / "guidelines").iterdir()
    path.write_bytes(b"\xff\xfe")
    assert main(["collect", str(folder), "--no-open"]) == 2
    assert f"{path}: is not UTF-8 text as it was written" in capsys.readouterr().err
    path.unlink()
    assert main(["collect", str(folder), "--no-open"]) == 2 and str(path) in capsys.readouterr().err


@pytest.mark.parametrize("tail", [b'{"n":99,"at":"20', b"\0" * 700], ids=["torn", "zeros"])
def test_a_torn_end_is_mended_and_the_page_goes_on(whole: Path, tmp_path: Path, tail: bytes) -> None:
    """As a power cut leaves it: half a line, or the zeros of a block that was never written."""
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    with (folder / "events.jsonl").open("ab") as file:
        file.write(tail)
    assert main(["collect", str(folder), "--check"]) == 0
    with Gathering.open(folder, writing=True) as made, served(made) as (_, who):
        item = who["ada"].answer("Written after the power cut.")
    assert texts(folder)[item] == "Written after the power cut."
    assert [one.n for one in read_events(folder / "events.jsonl")] == sorted(
        one.n for one in read_events(folder / "events.jsonl")
    )


def test_half_an_emoji_is_kept_and_the_gathering_opens_again(tmp_path: Path) -> None:
    """A draft with half of a surrogate pair was written, and no line of the file could be read afterwards."""
    half = "half \ud83d of it"
    with gathering(tmp_path / "g", 3) as made, served(made) as (_, who):
        ada, item = who["ada"], who["ada"].next()
        assert ada.do("draft", item=item, text=half, rev=0, reason=half)[0] == 200
        status, answer = ada.do("submitted", item=item, text=half, rev=1)
        assert status == 422 and "surrogate" in answer["error"]
        assert ada.do("skipped", item=item, reason=half)[0] == 200
        assert who["owner"].do("guidelines", "/owner/do", text=half)[0] == 200
        assert ada.get("/list")[0] == who["owner"].get("/owner")[0] == 200
    state = Gathering.open(tmp_path / "g").state()
    assert state.work(item, "ada").text == state.work(item, "ada").reason == "half \ufffd of it"
    path = tmp_path / "g" / "events.jsonl"  # and so it does where an earlier release let one in
    path.write_bytes(path.read_bytes().replace("\ufffd".encode(), b"\\uD83D"))
    assert Gathering.open(tmp_path / "g").state().work(item, "ada").text == "half \ufffd of it"
    assert main(["collect", str(tmp_path / "g"), "--compact"]) == 0
    assert "half \ufffd" in path.read_text(encoding="utf-8")


def test_a_clock_that_was_set_back_holds_no_item_for_ever() -> None:
    """What ada opened "tomorrow" was offered to nobody until then."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for apart, free in ((timedelta(days=1), True), (timedelta(minutes=5), False), (-timedelta(days=1), True)):
        state = Standing(asked(1))
        at = (now + apart).isoformat()
        for n, (kind, who) in enumerate((("joined", "ada"), ("joined", "ben"), ("opened", "ada")), start=1):
            state.apply(Event(n, at, kind, state.order()[0].id if kind == "opened" else "", who))
        assert (state.next_for("ben", now) is not None) is free


@pytest.mark.parametrize("name", ["../../etc/ada", "a/b\\c", "\N{GRINNING FACE}", "שרה", "محمد", "O'Neil & <b>", "con"])
def test_a_name_is_a_name_whatever_it_holds(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Separators, emoji, right to left, markup: nothing is written elsewhere, and the card shows none of them."""
    with gathering(tmp_path / "in" / "g", 2, (name,)) as made, served(made) as (_, who):
        who[name].answer("Twelve hours after the other one.")
        page = who["owner"].get("/owner")[1]
        assert "<b>" not in page and ("&lt;b&gt;" in page or "<b>" not in name)
    assert [one.name for one in (*tmp_path.iterdir(), *(tmp_path / "in").iterdir())] == ["in", "g"]
    assert main(["collect", str(tmp_path / "in" / "g"), "--check"]) == 0 and name in capsys.readouterr().out
    words = ["--export", str(tmp_path / "out.jsonl"), "--expert", name]
    assert main(["collect", str(tmp_path / "in" / "g"), *words]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["expert"] == name


@pytest.mark.parametrize("name", ["a\u202eda", "a\u200bda", "ada\nben", " ", "x" * 61, "owner"])
def test_a_name_that_hides_something_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "What is a tide?"}\n', encoding="utf-8")
    words = ["collect", str(tmp_path / "p.jsonl"), "--into", str(tmp_path / "g"), "--no-open", "--expert", name]
    assert main(words) == 2 and "--expert" in capsys.readouterr().err and not (tmp_path / "g").exists()


def test_a_prompt_and_an_answer_of_a_hundred_thousand_characters(tmp_path: Path) -> None:
    """Asked, drafted, corrected, exported and checked."""
    long = "Schiff \N{SHIP} ahoi \u05d0\u05d1 " * 6_667
    assert len(long) > 100_000
    with corrected(tmp_path / "g", shown="drafted", count=2) as made:
        clone = made.clone_path(1)
        rows = [json.loads(line) | {"text": long} for line in clone.read_text(encoding="utf-8").splitlines()]
        clone.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        items = [json.loads(line) for line in made.items_path.read_text(encoding="utf-8").splitlines()]
        items[0]["prompt"][0]["content"] = long
        made.items_path.write_text("".join(json.dumps(row) + "\n" for row in items), encoding="utf-8")
        with served(made) as (_, who):
            ada, item = who["ada"], items[0]["id"]
            status, page = ada.get(f"/item/{item}")
            assert status == 200 and page.count("ahoi") >= 6_667
            assert ada.do("draft", item=item, text=long + "!", rev=0)[0] == 200
            assert ada.do("submitted", item=item, text=long + " and more", rev=1)[0] == 200
    assert len(texts(tmp_path / "g")[item]) == len(long) + 9
    row = json.loads((tmp_path / "g" / "demonstrations.jsonl").read_text(encoding="utf-8"))
    assert row["gathered"]["edits"]["characters"] == 9 and main(["collect", str(tmp_path / "g"), "--check"]) == 0


def test_a_disk_that_takes_nothing_has_figures_and_no_traceback(whole: Path, tmp_path: Path) -> None:
    """``ulimit -f 1`` is a disk that is full behind a kilobyte: --check answers, and who must write says why not."""
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    (folder / "demonstrations.jsonl").unlink()
    before = kept(folder)
    for words, code in ((["--check"], 0), (["--compact"], 2)):
        command = f"ulimit -f 1; exec {sys.executable} -m sft collect '{folder}' {' '.join(words)}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.startswith("sft: ") and str(folder) in done.stderr
        if not code:
            assert "2 answers" in done.stdout and "all the same" in done.stderr
    assert kept(folder) == before


def test_what_a_killed_export_left_is_cleared_away(whole: Path, tmp_path: Path) -> None:
    """Killed between the copy and its place: the old file stands, and the next one takes the copy away."""
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    kept = (folder / "demonstrations.jsonl").read_bytes()
    (folder / ".demonstrations.jsonl.4194000-0badf00d.tmp").write_bytes(kept[:100])
    (folder / "demonstrations.jsonl").write_bytes(kept.splitlines(keepends=True)[0])  # of before the last answer
    assert main(["collect", str(folder), "--check"]) == 0
    assert (folder / "demonstrations.jsonl").read_bytes() == kept and not list(folder.glob("*.tmp")) + list(
        folder.glob(".*.tmp")
    )


def test_a_second_server_and_whoever_mends_are_told_to_wait(whole: Path, tmp_path: Path, capsys: Any) -> None:
    """While a page is served others read it; who would write is told who holds it."""
    folder = Path(shutil.copytree(whole, tmp_path / "g"))
    with Gathering.open(folder, writing=True) as made, served(made) as (_, who):
        for words in (["--no-open"], ["--compact"], ["--repair"]):
            assert main(["collect", str(folder), *words]) == 2
            assert re.search(r"is being written by another process", capsys.readouterr().err)
        who["ada"].answer("Written beside them.")
        assert main(["collect", str(folder), "--check"]) == 0 and "3 answers" in capsys.readouterr().out
    write_json(folder / "gathering.json", read_json(folder / "gathering.json") | {"schema_version": 99})
    assert main(["collect", str(folder), "--check"]) == 2 and "made by a newer sft" in capsys.readouterr().err
