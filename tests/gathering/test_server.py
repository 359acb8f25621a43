"""The page over HTTP, the real server in a thread or a process: who may speak, what is never lost, what never told."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import factories
import pytest
from gatherings import CLONE, Client, asked, corrected, gathering, served, started, submitted, texts

from sft.cli import main
from sft.errors import RunError, UserError
from sft.gathering.desk import Desk
from sft.gathering.events import read_events
from sft.gathering.folder import Gathering, HeldOutKeys
from sft.gathering.guard import LARGEST
from sft.gathering.server import Page, running
from sft.runs.atomic_files import write_jsonl


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, dict[str, Client]]]:
    """One page for all questions that leave no trace."""
    with gathering(tmp_path_factory.mktemp("page") / "g", 6, ("ada", "ben")) as made, served(made) as both:
        yield both


# -- who may speak -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/", None, {"Host": "evil.example:80"}, 421),
        ("GET", "/", None, {"Host": "localhost"}, 303),
        ("GET", "/", None, {"Host": "a@localhost"}, 421),
        ("POST", "/do", b"{}", {"Origin": "http://evil.example"}, 403),
        ("POST", "/do", b"{}", {"Origin": ""}, 403),
        ("POST", "/do", b"{}", {"Content_Type": "text/plain"}, 403),
        ("POST", "/do", b"x" * (LARGEST + 1), {}, 413),
        ("POST", "/do", b"{", {}, 400),
        ("POST", "/do", b"[]", {}, 400),
        ("POST", "/do", b'{"kind": "joined", "item": "x"}', {}, 404),
        ("POST", "/do", b'{"kind": "__init__"}', {}, 404),
        ("POST", "/owner/do", b'{"kind": "closed"}', {}, 403),
        ("GET", "/owner", None, {}, 403),
        ("GET", "/", None, {"Cookie": "sft=no"}, 403),
        ("GET", "/enter/guess", None, {"Cookie": ""}, 403),
        ("GET", "/item/none", None, {}, 404),
        ("GET", "/static/../server.py", None, {}, 404),
        ("DELETE", "/", None, {}, 405),
    ],
)  # fmt: skip
def test_whoever_may_not_is_told_so(
    open_page: tuple[Page, dict[str, Client]], method: str, path: str, body: bytes | None, headers: dict[str, str],
    status: int,
) -> None:  # fmt: skip
    made = Client(open_page[0].address)
    made.cookie = open_page[1]["ada"].cookie
    assert made.ask(method, path, body, **headers)[0] == status
    made.close()


def test_a_long_body_without_a_length_is_cut_off(open_page: tuple[Page, dict[str, Client]]) -> None:
    import http.client

    one = http.client.HTTPConnection(open_page[1]["ada"].host, timeout=30)
    headers = {"Content-Type": "application/json", "Origin": open_page[0].address, "Cookie": open_page[1]["ada"].cookie}
    one.request("POST", "/do", iter([b"x" * 400_000] * 3), headers, encode_chunked=True)
    assert one.getresponse().status == 413
    one.close()


def test_every_answer_keeps_the_browser_here(open_page: tuple[Page, dict[str, Client]]) -> None:
    for path in ("/list", "/static/page.js", "/nowhere"):
        _, _, headers = open_page[1]["ada"].ask("GET", path)
        assert (
            "default-src 'none'" in headers["content-security-policy"]
            and headers["x-content-type-options"] == "nosniff"
        )
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_a_link_becomes_a_cookie_that_scripts_cannot_read(open_page: tuple[Page, dict[str, Client]]) -> None:
    page, _ = open_page
    token = page.desk.gathering.invite("ada")
    one = Client(page.address)
    status, text, headers = one.ask("GET", f"/enter/{token}")
    assert status == 200 and token not in text and 'data-go="/"' in text
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=strict" in headers["set-cookie"]
    kept = (page.desk.gathering.path / "experts.json").read_text(encoding="utf-8")
    assert token not in kept and (page.desk.gathering.path / "experts.json").stat().st_mode & 0o77 == 0
    one.close()


def test_looking_writes_nothing_but_that_an_item_was_opened(tmp_path: Path) -> None:
    """Every address that can be looked at, with and without a link, by GET and HEAD."""
    with gathering(tmp_path / "g", 3, ("ada", "ben"), own_prompts=True) as made, served(made) as (page, who):
        item = who["ada"].answer("The sea, breathing.")
        made.set_guidelines("Be brief.")
        page.desk.export()
        token = made.invite("ada")
        before = {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
        nobody = Client(page.address)
        for one in (*who.values(), nobody):
            for path in ("/", f"/item/{item}", "/item/none", "/list", "/list?q=sea", "/owner", "/do", "/owner/do",
                         "/changes", f"/enter/{token}", "/enter/no", "/static/page.js", "/favicon.ico"):  # fmt: skip
                for method in ("GET", "HEAD"):
                    assert one.ask(method, path)[0] in (200, 204, 303, 403, 404, 405)
        nobody.close()
        page.desk.export()
        after = {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
        events = after.pop(made.events_path).removeprefix(old := before.pop(made.events_path))
        assert after == before and made.events_path.read_bytes().startswith(old)
        assert {json.loads(line)["kind"] for line in events.splitlines()} == {"opened"}


def test_markup_is_shown_and_not_run(tmp_path: Path) -> None:
    from sft.demonstrations.demonstration import Message
    from sft.gathering.items import Item

    bad = "</textarea></script><script>alert(1)</script> {{ 7 * 7 }} \u202e \x07"
    items = [Item("x1", (Message("system", bad), Message("user", bad)))]
    with gathering(tmp_path / "g", items) as made, served(made) as (_, who):
        who["ada"].do("draft", item="x1", text=bad, rev=0)
        for path in ("/item/x1", "/list"):
            text = who["ada"].get(path)[1]
            assert "<script>alert" not in text and "</textarea></script>" not in text and "49" not in text
            assert "U+202E" in text and "U+0007" in text and "\u202e" not in text


def test_one_expert_cannot_read_what_another_wrote(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1, ("ada", "ben"), answers=2) as made, served(made) as (_, who):
        item = who["ada"].answer("SECRET-OF-ADA")
        who["ben"].get(f"/item/{item}")
        who["ben"].get("/list")
        who["ben"].do("draft", item=item, text="x", rev=7)
        assert b"SECRET-OF-ADA" not in who["ben"].seen


def test_a_prompt_of_ones_own_is_nobody_elses(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1, ("ada", "ben"), own_prompts=True) as made, served(made) as (_, who):
        own = who["ada"].do("asked", text="What is a tide?")[1]["next"].rpartition("/")[2]
        assert who["ada"].get(f"/item/{own}")[0] == 200 and who["ben"].get(f"/item/{own}")[0] == 404
        for kind in ("opened", "draft", "submitted", "skipped", "flagged", "reopened", "withdrawn", "judged"):
            assert who["ben"].do(kind, item=own, text="x", reason="y", rev=0)[0] == 404
        assert who["ben"].do("submitted", item="none", text="x", rev=0)[0] == 404
        assert b"What is a tide?" not in who["ben"].seen


# -- blind and drafted ---------------------------------------------------------------------------------------


def test_a_blind_items_clone_text_is_in_no_byte_before_the_answer(tmp_path: Path) -> None:
    with corrected(tmp_path / "g", shown="blind") as made, served(made) as (_, who):
        ada = who["ada"]
        item = ada.next()
        for path in (f"/item/{item}", "/list", "/", "/static/page.js"):
            ada.get(path)
        ada.do("draft", item=item, text="mine", rev=0)
        ada.do("submitted", item=item, accept=True, rev=1)
        ada.do("judged", item=item, reason="yes")
        ada.ask("POST", "/changes", json.dumps({"item": item, "text": "ZEBRA"}).encode())
        assert b"CROSSING" not in ada.seen
        status, answer = ada.do("submitted", item=item, text="mine, whole", rev=1)
        assert status == 200 and answer["next"] == f"/item/{item}"
        assert "ZEBRA-CROSSING" in ada.get(f"/item/{item}")[1]
        assert ada.do("judged", item=item, reason="perhaps")[0] == 422
        assert ada.do("judged", item=item, reason="with small changes")[0] == 200
        (first,) = made.state().answers()
        assert (first.clone, first.judged) == ("", "with small changes")
        # who saw it and writes again no longer writes blind
        ada.do("reopened", item=item)
        ada.do("submitted", item=item, text="another", rev=3)
        assert next(made.state().answers()).clone


def test_accept_edit_rewrite_and_continue_are_told_apart(tmp_path: Path) -> None:
    written = {"accepted": None, "edited": CLONE.replace("long", "quite long"), "rewritten": "No.",
               "continued": CLONE[:48] + "!! I know better: 1234567890 1234567890 1234567890."}  # fmt: skip
    with corrected(tmp_path / "g", shown="drafted", count=4) as made, served(made) as (_, who):
        for text in written.values():
            item = who["ada"].next()
            assert "ZEBRA-CROSSING" in who["ada"].get(f"/item/{item}")[1]
            more = {"accept": True} if text is None else {"text": text}
            assert who["ada"].do("submitted", item=item, rev=0, **more)[0] == 200
    rows = [json.loads(line) for line in (tmp_path / "g/demonstrations.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["gathered"]["how"] for row in rows) == sorted(written)
    accepted = next(row for row in rows if row["gathered"]["how"] == "accepted")
    assert accepted["completion"].startswith(CLONE) and accepted["gathered"]["edits"] == {"ter": 0.0, "characters": 0}


# -- revisions, undo, refusals --------------------------------------------------------------------------------


def test_an_older_window_is_told_and_given_the_newer_text(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (_, who):
        ada, item = who["ada"], who["ada"].next()
        assert ada.do("draft", item=item, text="first", rev=0) == (200, _any(rev=1, state="draft"))
        assert ada.do("draft", item=item, text="second", rev=1, window="w2")[1]["rev"] == 2
        status, answer = ada.do("draft", item=item, text="first, longer", rev=1)
        assert (status, answer["text"], answer["rev"]) == (409, "second", 2)
        assert ada.do("submitted", item=item, text="first, longer", rev=1)[0] == 409
        assert ada.do("draft", item=item, text="second", rev=0)[0] == 200  # the same text is no conflict
        assert (
            ada.do("draft", item=item, text="second and more", rev=0, window="w2")[0] == 200
        )  # its own answer was lost
        assert ada.do("submitted", item=item, text="first, longer", rev=3)[1]["state"] == "submitted"
        assert ada.do("submitted", item=item, text="first, longer", rev=3)[0] == 200  # sent twice, kept once
        assert ada.do("draft", item=item, text="late", rev=4)[0] == 409
        assert sum(one.kind == "submitted" for one in read_events(made.events_path)) == 1


class _any(dict[str, Any]):
    """Equal to a mapping that has these among others."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and self.items() <= other.items()

    __hash__ = None  # type: ignore[assignment]


def test_undo_has_no_end(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 2) as made, served(made) as (_, who):
        ada = who["ada"]
        item = ada.answer("one")
        for n in range(3):
            rev = ada.do("reopened", item=item)[1]["rev"]
            assert ada.do("submitted", item=item, text=f"again {n}", rev=rev)[0] == 200
        ada.do("withdrawn", item=item)
        assert not list(made.state().answers())
        rev = ada.do("reopened", item=item)[1]["rev"]
        ada.do("submitted", item=item, text="back", rev=rev)
        skipped = ada.next()
        ada.do("skipped", item=skipped, reason="not my field")
        assert ada.next() == ""
        assert "not my field" in ada.get("/list")[1]
        ada.do("reopened", item=skipped)
        assert ada.next() == skipped
    assert texts(tmp_path / "g") == {item: "back"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is blank"), ("\u200b \u2060", "is blank"), ("x" * 200_001, "200,001 characters"), ("a\ud800", "surrogate")],
)
def test_an_answer_that_is_none_is_refused_and_says_why(tmp_path: Path, text: str, said: str) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (_, who):
        status, answer = who["ada"].do("submitted", item=who["ada"].next(), text=text, rev=0)
        assert status == 422 and said in answer["error"] and "kept" in answer["error"]
        status, answer = who["ada"].do("draft", item=who["ada"].next(), text="ok", rev=0, seconds="many")
        assert status == 400


def test_a_flag_needs_a_reason_and_is_the_owners_to_clear(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1, ("ada", "ben")) as made, served(made) as (_, who):
        item = who["ada"].next()
        assert who["ada"].do("flagged", item=item, reason=" ")[0] == 422
        assert who["ada"].do("flagged", item=item, reason="holds a name")[0] == 200
        assert who["ben"].next() == "" and who["ben"].get(f"/item/{item}")[0] == 404
        assert "holds a name" in who["owner"].get("/owner")[1]
        assert who["owner"].do("cleared", "/owner/do", item=item)[0] == 200
        assert who["ben"].next() == item


def test_two_experts_are_never_offered_one_item_while_another_is_free(tmp_path: Path) -> None:
    """From the offer on, and not only from when the page is there: two who asked at once were sent to one item."""
    with gathering(tmp_path / "g", 2, ("ada", "ben", "cyd")) as made, served(made) as (_, who):
        first, second = who["ada"].next(), who["ben"].next()
        assert first != second and who["cyd"].next() == ""
        assert "in the hands of others" in who["cyd"].get("/")[1]
        for name, item in (("ada", first), ("ben", first)):  # both came to the same one all the same: both are kept
            who[name].answer(f"by {name}", item)
        assert [one.expert for one in made.state().answers()] == ["ada", "ben"]


def test_every_expert_answers_what_is_shared(tmp_path: Path) -> None:
    items = asked(4, shared=True)
    with gathering(tmp_path / "g", items, ("ada", "ben")) as made, served(made) as (_, who):
        for name in ("ada", "ben"):
            assert {who[name].answer(f"{n} by {name}") for n in range(4)} == {one.id for one in items}
        assert who["ada"].next() == "" == who["ben"].next()


def test_guidelines_change_while_an_item_is_open(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 2) as made, served(made) as (_, who):
        assert who["owner"].do("guidelines", "/owner/do", text="Be brief.")[0] == 200
        item = who["ada"].next()
        assert "Be brief." in who["ada"].get(f"/item/{item}")[1]
        who["ada"].do("guidelines_seen", item=item)
        assert 'id="read" hidden' in who["ada"].get(f"/item/{item}")[1]
        before = who["ada"].do("draft", item=item, text="a", rev=0)[1]["guidelines"]
        who["owner"].do("guidelines", "/owner/do", text="Be very brief.")
        after = who["ada"].do("draft", item=item, text="ab", rev=1)[1]["guidelines"]
        assert before != after and "version 2, changed since you began" in who["ada"].get(f"/item/{item}")[1]
        who["ada"].answer("abc", item, window="w1")
        assert next(made.state().answers()).guidelines == after
        assert sorted(path.stem for path in (made.path / "guidelines").iterdir()) == sorted([before, after])


def test_experts_come_and_go(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 2) as made, served(made) as (page, who):
        status, answer = who["owner"].do("joined", "/owner/do", text="ben")
        assert status == 200
        ben = Client(page.address, answer["link"].rpartition("/")[2])
        ben.answer("by ben")
        assert who["owner"].do("joined", "/owner/do", text="b\x07d")[0] == 422
        assert "ben" in who["owner"].get("/owner")[1]
        assert who["owner"].do("left", "/owner/do", expert="ben")[0] == 200
        assert ben.ask("GET", "/")[0] == 403
        assert who["owner"].do("closed", "/owner/do")[0] == 200 and page.over.is_set()
        assert who["ada"].next() == ""
        ben.close()
    assert made.state().experts == {"ada": True, "ben": False}


def test_dialogues_and_prompts_of_ones_own(tmp_path: Path) -> None:
    with gathering(tmp_path / "g", 1, dialogues=True, own_prompts=True) as made, served(made) as (_, who):
        ada = who["ada"]
        item = ada.next()
        assert ada.do("asked", text="And then?", parent=item)[0] == 409
        ada.answer("First this.", item)
        status, answer = ada.do("asked", text="And then?", parent=item)
        assert status == 200
        turn = answer["next"].rpartition("/")[2]
        page = ada.get(answer["next"])[1]
        assert "First this." in page and "And then?" in page
        ada.answer("Then that.", turn)
        own = ada.do("asked", text="What is a tide?")[1]["next"].rpartition("/")[2]
        ada.answer("The sea, breathing.", own)
        assert ada.do("asked", text=" ")[0] == 422
    rows = [json.loads(line) for line in (tmp_path / "g/demonstrations.jsonl").read_text("utf-8").splitlines()]
    assert [len(row["prompt"]) for row in rows] == [1, 3, 1] and rows[2]["completion"] == "The sea, breathing."
    assert rows[1]["prompt"][1] == {"role": "assistant", "content": "First this."} and rows[1]["group"] == item


def test_who_takes_a_dialogue_over_goes_on_from_their_own_turn(tmp_path: Path) -> None:
    """DAgger with beta 0: the clone's turns stand in the context, until the expert says otherwise."""
    from sft.demonstrations.demonstration import Message
    from sft.gathering.items import Item

    turns, items = [Message("user", "One?")], []
    for n in range(3):
        items.append(Item(f"t{n}", tuple(turns), group="d", round=1, shown="drafted", dialogue="d", turn=n))
        turns += [Message("assistant", f"a clone says {n}"), Message("user", f"More, {n}?")]
    made = gathering(tmp_path / "g", items)
    write_jsonl(made.clone_path(1), ({"id": f"t{n}", "text": f"a clone says {n}"} for n in range(3)))
    with made, served(made) as (_, who):
        ada = who["ada"]
        assert ada.next() == "t0"
        ada.answer("mine 0", "t0")
        page = ada.get("/item/t1")[1]
        assert "a clone says 0" in page and "written by the clone" in page and "mine 0" not in page
        ada.answer("mine 1", "t1", context="expert")
        page = ada.get("/item/t2")[1]
        assert "a clone says 0" in page and "mine 1" in page
        assert "a clone says 1" not in page and "a clone says 2" not in page
        ada.answer("mine 2", "t2")
    rows = [json.loads(line) for line in (tmp_path / "g/demonstrations.jsonl").read_text("utf-8").splitlines()]
    said = [[turn["content"] for turn in row["prompt"] if turn["role"] == "assistant"] for row in rows]
    assert said == [[], ["a clone says 0"], ["a clone says 0", "mine 1"]]
    assert [row["gathered"]["how"] for row in rows] == ["rewritten", "rewritten", "blind"]


# -- what is never lost ---------------------------------------------------------------------------------------


def test_one_server_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gathering(tmp_path / "g", 1), pytest.raises(RunError, match="is being written by another process"):
        Gathering.open(tmp_path / "g", writing=True)


def test_a_full_disk_is_one_sentence_and_the_server_lives_on(tmp_path: Path) -> None:
    """Over ``ulimit -f`` as over a full disk nothing more can be written; nothing acknowledged is lost."""
    import resource

    with gathering(tmp_path / "g", 3) as made, served(made) as (page, who):
        item = who["ada"].next()
        assert who["ada"].do("draft", item=item, text="small", rev=0)[0] == 200
        before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (made.events_path.stat().st_size + 50, before[1]))
            status, answer = who["ada"].do("draft", item=item, text="x" * 500, rev=1)
            assert status == 507 and "kept in this browser" in answer["error"]
            assert page.desk.state.work(item, "ada").text == "small"  # what stands is what is on the disk
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert who["ada"].do("draft", item=item, text="x" * 500, rev=1)[0] == 200
        who["ada"].answer("x" * 501, item)
    assert texts(tmp_path / "g") == {item: "x" * 501}
    assert [one.n for one in read_events(made.events_path)] == sorted({one.n for one in read_events(made.events_path)})


def test_a_port_that_is_taken_and_a_host_that_is_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, _):
        taken = int(page.address.rpartition(":")[2])
        other = gathering(tmp_path / "h", 1)
        for where, said in (({"port": taken}, "leave --port out"), ({"port": 99_999}, "leave --port out"),
                            ({"host": "no.such.host.invalid"}, "leave it out for 127.0.0.1")):  # fmt: skip
            if "host" in where:
                continue  # a name is looked up, which no test may
            with pytest.raises(UserError, match=said), running(Desk(other), **where):  # type: ignore[arg-type]
                pass
        other.close()
        assert main(["collect", str(tmp_path / "h"), "--no-open", "--port", str(taken)]) == 2
        assert f"--port {taken} on 127.0.0.1: cannot be listened on" in capsys.readouterr().err


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Three deaths under load."""
    folder = tmp_path / "g"
    gathering(folder, 40, ("ada", "ben")).close()
    said: dict[tuple[str, str], str] = {}
    for death in range(3):
        one, links = started(folder)
        threads = [
            threading.Thread(target=load, args=(links[name], name, death, said), daemon=True) for name in ("ada", "ben")
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        one.send_signal(signal.SIGKILL)
        one.communicate()
        for thread in threads:
            thread.join()
    state = Gathering.open(folder).state()
    assert len(said) > 5
    lost = [key for key, text in said.items() if state.work(*key).text != text]
    assert not lost, lost
    assert main(["collect", str(folder), "--check"]) == 0
    derived = (folder / "demonstrations.jsonl").read_bytes()
    (folder / "demonstrations.jsonl").unlink()
    assert main(["collect", str(folder), "--check"]) == 0
    assert (folder / "demonstrations.jsonl").read_bytes() == derived


def load(link: str, name: str, death: int, said: dict[tuple[str, str], str]) -> None:
    """Answer one item after another until the server is gone; ``said``: what it acknowledged."""
    address, _, token = link.partition("/enter/")
    try:
        with closing(Client(address, token)) as one:
            while item := one.next():
                text = f"{name} {death} {len(said)} " + "word " * 50
                if one.do("submitted", item=item, text=text, rev=0)[0] == 200:
                    said[item, name] = text
    except OSError:
        return
    except Exception as error:  # half an answer, as the server dies
        assert "http" in type(error).__module__ or isinstance(error, ValueError)


def test_ctrl_c_ends_it_with_progress_and_the_command_that_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is a tide?"}\n{"prompt": "Why?"}\n{"prompt": "why?"}\n', encoding="utf-8")
    (tmp_path / "rules.md").write_text("Be kind.", encoding="utf-8")
    command = [sys.executable, "-m", "sft", "collect", str(prompts), "--into", str(folder), "--expert", "ada",
               "--no-open", "--guidelines", str(tmp_path / "rules.md")]  # fmt: skip
    one = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert one.stdout is not None
    lines = [one.stdout.readline() for _ in range(3)]
    assert "2 items; 1 rows repeat another's prompt" in lines[0]
    address, _, token = lines[1].split(": ")[1].strip().partition("/enter/")
    ada = Client(address, token)
    item = ada.answer("The sea, breathing.")
    ada.close()
    one.send_signal(signal.SIGINT)
    out, err = one.communicate(timeout=60)
    assert one.returncode == 130, err
    assert "1 done, 1 open" in out and f"sft collect {folder}" in out
    assert texts(folder) == {item: "The sea, breathing."}
    again, links = started(folder)  # the same port: a page that is still open finds it again
    assert links["ada"].startswith(address)
    old = Client(address)
    old.cookie = ada.cookie
    assert old.get(f"/item/{item}")[0] == 200
    old.close()
    again.terminate()
    again.communicate(timeout=60)
    assert again.returncode == 143


def test_nothing_heavy_is_loaded_for_the_page(tmp_path: Path) -> None:
    gathering(tmp_path / "g", 2).close()
    code = (
        "import sys\nfrom sft.cli import main\nmain(sys.argv[1:])\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'sklearn', 'pandas', 'datasets'} & set(sys.modules)))\n"
        "import sft.gathering.server\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'sklearn', 'pandas', 'datasets'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "collect", str(tmp_path / "g"), "--check"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.splitlines()[-2:] == ["[]", "[]"]


# -- bad input ------------------------------------------------------------------------------------------------


def prompts(*rows: object) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / "p.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("target", "words", "said"),
    [
        (prompts(), [], "is empty"),
        (prompts({"question": "a"}), [], r"no row has a prompt \(columns found: 'question'\)"),
        (prompts({"prompt": " "}), [], "p.jsonl:1: 'prompt' is blank"),
        (prompts({"prompt": "a"}, {"prompt": 7}, [1]), [], r"p.jsonl:2: 'prompt' must be text.*\n.*:3: is a list"),
        (prompts({"prompt": "a\ud800"}), [], "lone surrogate"),
        (prompts({"prompt": "x" * 200_001}), [], "more than 200,000 characters"),
        (prompts({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}), [],
         "must end with a user turn"),
        (prompts({"prompt": "a"}, {"messages": [{"role": "user", "content": "b"}]}), [], ":2: 'prompt' is missing"),
        (lambda _: "nowhere.jsonl", [], "there is no such file"),
        (prompts({"prompt": "a"}), ["--answers", "3", "--expert", "ada", "--expert", "ben"], "2 experts are named"),
        (prompts({"prompt": "a"}), ["--expert", "ada", "--expert", "ada"], "ada: is named twice"),
        (prompts({"prompt": "a"}), ["--expert", "a\x1bda"], "is no name"),
        (prompts({"prompt": "a"}), ["--expert", "owner"], "give the expert another name"),
        (prompts({"prompt": "a"}), ["--check"], "--check: is for a gathering that is there"),
        (prompts({"prompt": "a"}), ["--guidelines", "none.md"], "none.md: cannot be read"),
        (prompts({"prompt": "a"}), ["--guidelines", __file__ + "/x"], "x: cannot be read"),
        (prompts({"prompt": "a"}), ["--guidelines", "/dev/null"], "/dev/null: is empty"),
        (prompts({"prompt": "a"}), ["--guidelines", sys.executable], "is not UTF-8 text; save it as UTF-8"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_nothing(
    target: Callable[[Path], str], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "g"
    assert main(["collect", target(tmp_path), "--into", str(folder), "--no-open", *words]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at.write_text("x"), "is a file; name a new or empty folder"),
        (lambda at: (at.mkdir(), (at / "manifest.json").write_text("{}")), "is a run; name another folder"),
        (lambda at: (at.mkdir(), (at / "photo.png").write_text("x")), r"is not empty \(it holds photo.png\)"),
        (lambda at: (at.mkdir(), (at / "gathering.json").write_text('{"schema_version": 99}')), "a newer sft"),
        (lambda at: (at.mkdir(), (at / "gathering.json").write_text("[]")), "gathering.json: is a list; restore it"),
        (lambda at: (at.mkdir(), (at / "gathering.json").write_text('{"schema_version": 1, "x": 1}')), "restore it"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    make: Callable[[Path], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "g")
    path = prompts({"prompt": "a"})(tmp_path)
    assert main(["collect", path, "--into", str(tmp_path / "g"), "--no-open"]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_prompts_that_are_all_held_out_and_a_folder_that_somebody_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = prompts({"prompt": "What is a tide?"})(tmp_path)
    words = ["collect", path, "--into", str(tmp_path / "g"), "--no-open", "--expert", "ada"]
    with gathering(tmp_path / "g", 1) as made:
        made.freeze(HeldOutKeys(frozenset(), frozenset(), ("What is a tide?",), 0.8, "r0"))
        before = made.items_path.read_bytes()
        assert main(words) == 2
        assert "is being written by another process" in capsys.readouterr().err
    assert main(words) == 2
    said = f"{path}: 1 prompts are held out in r0 and are not asked: 'What is a tide?' (100% alike); name other prompts"
    assert said in capsys.readouterr().err and made.items_path.read_bytes() == before


def test_prompts_that_repeat_are_one_item_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever beside them differs; the completion that one of them has is kept, and shown to nobody."""
    path = prompts({"prompt": "a"}, {"prompt": "b"}, {"prompt": "a", "completion": "KEPT"}, {"prompt": "a", "x": 1})
    words = ["collect", path(tmp_path), "--into", str(tmp_path / "g"), "--no-open", "--expert", "ada"]
    assert main([*words, "--port", "99999"]) == 2
    assert "2 items; 2 rows repeat another's prompt" in "".join(capsys.readouterr())
    with Gathering.open(tmp_path / "g") as made:
        assert sorted((one.prompt[0].content, one.reference) for one in made.items()) == [("a", "KEPT"), ("b", "")]


@pytest.mark.parametrize(("host", "is_said"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
def test_traffic_that_leaves_the_machine_is_said_to_be_readable(
    tmp_path: Path, host: str, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    gathering(tmp_path / "g", 1).close()
    assert main(["collect", str(tmp_path / "g"), "--no-open", "--host", host, "--port", "99999"]) == 2
    assert (f"The page is served on {host} without encryption" in capsys.readouterr().out) == is_said


def test_where_no_browser_opens_the_links_are_there(tmp_path: Path) -> None:
    """On a machine without a screen, or with a browser that fails."""
    gathering(tmp_path / "g", 1).close()
    command = [sys.executable, "-m", "sft", "collect", str(tmp_path / "g")]
    nothing = {"PATH": str(tmp_path), "BROWSER": shutil.which("false") or "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    one = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | nothing)
    assert one.stdout is not None
    end = threading.Timer(60, one.kill)  # a line that never comes
    end.start()
    lines = [one.stdout.readline() for _ in range(3)]
    end.cancel()
    assert lines[2] == "No browser could be opened; open the link above.\n"
    address, _, token = lines[0].removeprefix("ada: ").strip().partition("/enter/")
    with closing(Client(address, token)) as ada:
        assert ada.next()
    one.kill()
    one.communicate()


def test_prompts_are_read_in_every_layout(tmp_path: Path) -> None:
    from sft.gathering.prompts import read_prompts

    def read(name: str, text: str) -> list[tuple[str, str]]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return [(one.prompt[-1].content, one.reference) for one in read_prompts(tmp_path / name)[0]]

    assert read("a.jsonl", '{"prompt": "p", "completion": "c"}\n{"prompt": "q"}\n') == [("p", "c"), ("q", "")]
    assert read("a.csv", "prompt,group\np,g\nq,h\n") == [("p", ""), ("q", "")]
    assert read("b.jsonl", '{"instruction": "do", "input": "it"}\n') == [("do\n\nit", "")]
    user, said = {"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}
    assert read("c.jsonl", json.dumps({"messages": [user]}) + "\n") == [("p", "")]
    assert read("d.jsonl", json.dumps({"messages": [user, said]}) + "\n") == [("p", "c")]
    assert read("e.jsonl", '{"conversations": [{"from": "human", "value": "p"}]}\n') == [("p", "")]


# -- the figures ----------------------------------------------------------------------------------------------


def test_check_finds_what_was_planted_and_accuses_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = factories.NOUNS
    folder = tmp_path / "g"
    with gathering(folder, 20, ("ada", "ben", "odd"), answers=3) as made, served(made) as (page, who):
        for n, one in enumerate(made.items()):
            right = " ".join(words[(n + k) % 20] for k in range(9))
            answers = [("ada", one.id, right), ("ben", one.id, right.replace("buffer", "sponge"))]
            submitted(page, *answers, seconds=60, keys=60, window="w")
            other = "I would rather not say anything about this." if n < 2 else f"{n} quibbles, {n} quarrels, {n} quips"
            how = {"seconds": 1 if n == 5 else 60, "pasted": 50 if n == 6 else 0, "window": "w"}
            submitted(page, ("odd", one.id, other), **how)
        who["ada"].do("reopened", item=made.items()[7].id)
        who["ada"].do("submitted", item=made.items()[7].id, text="write to to ada.byron@gmail.com please", rev=2)
    assert main(["collect", str(folder), "--check"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"agreement between experts: chrF \d+\.\d \[", said) and "ada and ben: chrF" in said
    assert "odd agrees with the others less" in said and "ada agrees with the others less" not in said
    looked = re.findall(r"look at item \w+ of (\w+): (.*)", said)
    assert ("odd", "is the same as the answer to another prompt") in looked
    assert any(who == "odd" and "was pasted" in why for who, why in looked)
    assert any(who == "ada" and "secret" in why for who, why in looked)
    assert not [why for who, why in looked if who == "ben"]
    assert main(["collect", str(folder), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experts"]["ada"]["answers"] == 20


@pytest.mark.parametrize(
    ("count", "odd", "said"),
    [
        (2, "", "chrF [0-9.]+ on 2 items \\(no interval: the scores are all alike, so nothing says how far others may"),
        (9, "", "chrF [0-9.]+ on 9 items \\(no interval: the scores are all alike"),
        (2, "lamps", "chrF [0-9.]+ \\[[0-9.]+, [0-9.]+\\] on 2 items;"),
        (1, "", "chrF [0-9.]+ on 1 item \\(no interval: "),
    ],
)
def test_equal_scores_give_agreement_no_interval(
    tmp_path: Path, count: int, odd: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two equal scores gave an interval without width, as if agreement were known to a tenth of a point."""
    folder = tmp_path / "g"
    with gathering(folder, count, ("ada", "ben"), answers=2) as made, served(made) as (page, _):
        for n, one in enumerate(made.items()):
            other = f"boats and {odd if odd and not n else 'barrels'}"
            submitted(page, ("ada", one.id, "boats and buckets"), ("ben", one.id, other))
    assert main(["collect", str(folder), "--check"]) == 0
    shown = capsys.readouterr().out
    assert re.search("agreement between experts: " + said, shown), shown
    assert re.search("  ada and ben: " + said.rstrip(";"), shown), shown


def test_agreement_of_one_expert_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gathering(tmp_path / "g", 2).close()
    assert main(["collect", str(tmp_path / "g"), "--check"]) == 0
    assert "agreement is unknown: one expert" in capsys.readouterr().out


def test_answers_are_written_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "g", tmp_path / "out.jsonl"
    with gathering(folder, 2, ("ada", "ben", "cyd"), answers=3) as made, served(made) as (_, who):
        for one in made.items():
            for name, text in (("ada", "yes"), ("ben", "yes."), ("cyd", "no")):
                who[name].answer(text, one.id)
    assert main(["collect", str(folder), "--export", str(out), "--majority"]) == 0
    assert [json.loads(line)["expert"] for line in out.read_text().splitlines()] == ["ada", "ben"] * 2
    assert main(["collect", str(folder), "--export", str(out), "--expert", "cyd", "--blind-only"]) == 0
    assert "2 demonstrations" in capsys.readouterr().out
    assert main(["collect", str(folder), "--export", str(out), "--expert", "eve"]) == 2
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--answers", "3"], "--answers 3: .*g was made with 1, which never changes"),
        (["--overlap", "0.5"], "--overlap 0.5: .*g was made with 0.1, which never changes"),
        (["--order", "file"], "--order file: .*g was made with random, which never changes"),
        (["--dialogues"], "--dialogues: .*g was made with none, which never changes"),
        (["--check", "--blind-only"], "--blind-only: chooses what is exported; name the file with --export"),
        (["--majority"], "--majority: chooses what is exported; name the file with --export"),
    ],
)
@pytest.mark.parametrize("added", [False, True])
def test_an_option_that_would_do_nothing_is_refused(
    tmp_path: Path, words: list[str], said: str, added: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were passed over, with prompts added to a gathering or without."""
    folder, more = tmp_path / "g", tmp_path / "more.jsonl"
    gathering(folder, 2).close()
    more.write_text('{"prompt": "Another?"}\n', encoding="utf-8")
    before = (folder / "items.jsonl").read_bytes()
    target = [str(more), "--into", str(folder)] if added else [str(folder)]
    assert main(["collect", *target, "--no-open", *words]) == 2
    assert re.search(said, capsys.readouterr().err) and (folder / "items.jsonl").read_bytes() == before


def test_prompts_can_be_added_and_asked_again(tmp_path: Path) -> None:
    from sft.gathering.items import asked_again

    items = asked(10)
    with gathering(tmp_path / "g", items) as made:
        assert len(made.add(asked(12))) == 2  # two are new, the others are there
        made.add(asked_again(items, 1.0, 0))
        with served(made) as (page, who):
            first = [one.id for one in made.items() if not one.again]
            submitted(page, *(("ada", name, f"answer number {n}") for n, name in enumerate(first)))
            assert made.state().items[who["ada"].next()].again
            again = [one.id for one in made.items() if one.again]
            submitted(page, *(("ada", name, "answer number one") for name in again))
            assert len(again) == 10 and who["ada"].next() == ""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    from sft.gathering.figures import figures

    again = figures(made.state()).again
    assert again is not None and again.n == 10


def test_the_page_shuts_down_no_handler_of_the_process(tmp_path: Path) -> None:
    """uvicorn's own settings closed all of them, and absl's handler then the stream that it wrote to."""
    closed: list[bool] = []

    class Handler(logging.NullHandler):
        def close(self) -> None:
            closed.append(True)
            super().close()

    handler = Handler()
    with gathering(tmp_path / "g") as made, served(made) as (_, who):
        assert who["ada"].get("/")[0] < 400 and not closed
    handler.close()


def test_an_expert_waits_for_no_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported until the page is served: it took seconds, of which the arithmetic of reports was most."""
    gathering(tmp_path / "g").close()
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    process, _ = started(tmp_path / "g")
    process.send_signal(signal.SIGKILL)  # what it says at its end needs more
    lines = [line for line in process.communicate()[1].splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    heavy = {"torch", "transformers", "datasets", "numpy", "scipy", "sklearn", "pandas", "sacrebleu", "yaml", "httpx"}
    assert "uvicorn" in names and not heavy & names
    assert len(names) < 700
