"""Whatever goes wrong on the way: the outcome is told by its number, and the branch is as it was or as it should be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from loopback_hub import (
    OTHER_TOKEN,
    READ_TOKEN,
    Handler,
    LoopbackHub,
    answer_lost,
    connection_cut,
    done_then,
    flipped_byte,
    meanwhile,
    stalled,
    status,
)
from toy_pushes import (
    BASE,
    CLONE,
    Bench,
    Outcome,
    base_files,
    started,
)

OLD = {"README.md": b"---\nlicense: mit\n---\nNothing here yet.\n"}
READING, WRITING = ("whoami", "info", "tree", "resolve"), ("validate_yaml", "preupload", "lfs_batch", "lfs_upload")


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """The repository is there, with a card and nothing else, so that an old tree can be told from a new one."""
    bench.hub.put(CLONE, OLD)
    return bench


@pytest.fixture(scope="module")
def clone(tiny_model: Path, fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a push leads to, from one without faults."""
    from sft.publishing.hub import Hub
    from sft.publishing.push import Asked, push
    from sft.runs.run import Run

    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        from toy_pushes import connected

        hub.put(BASE, base_files(tiny_model), private=False)
        connected(hub, patch, [])
        run = Path(shutil.copytree(fitted, tmp_path_factory.mktemp("clean") / "run"))
        push(Run.open(run), Asked(CLONE), connect=Hub)
        return hub.repos[CLONE].head()


def published(bench: Bench, done: Outcome, clone: dict[str, bytes]) -> None:
    """Exit 0, the new tree, one commit on top of the old one."""
    assert done.code == 0, done.err
    assert bench.head == clone and bench.commits == 2
    assert bench.receipt()["commit"] == bench.hub.repos[CLONE].refs["main"]


def unchanged(bench: Bench, done: Outcome, code: int) -> None:
    """The exit status, and the old tree."""
    assert done.code == code, done.err
    assert bench.head == OLD and bench.commits == 1
    assert not (bench.run / "push.json").exists()
    assert "Traceback" not in done.err and done.err.strip()


# -- what passes is waited for ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*READING, *WRITING, "commit"])
def test_500_twice_then_fine(bench: Bench, clone: dict[str, bytes], kind: str) -> None:
    bench.hub.fault(kind, status(500), times=2)
    published(bench, bench.push(), clone)
    # The client asks for a file again at once, and for all else not at all.
    assert len(bench.naps) == (1 if kind == "resolve" else 2)


@pytest.mark.parametrize("kind", [*READING, *WRITING, "commit"])
def test_a_hub_that_stays_broken(bench: Bench, kind: str, clone: dict[str, bytes]) -> None:
    """Nothing is sent for ever; what was sent and cannot be read back is told apart from what was not sent."""
    bench.hub.fault(kind, status(503), times=1000)
    done = bench.push()
    if kind == "resolve":
        assert done.code == 8 and bench.head == clone and not (bench.run / "push.json").exists()
    else:
        unchanged(bench, done, 7 if kind == "commit" else 6)


@pytest.mark.parametrize("kind", ["commit", "create_repo", "preupload"])
@pytest.mark.parametrize("asked", [7, 3600])
def test_retry_after_is_obeyed_up_to_a_limit(bench: Bench, clone: dict[str, bytes], kind: str, asked: int) -> None:
    """Seven seconds are seven; an hour is a minute, on the client's own retries too."""
    if kind == "create_repo":
        del bench.hub.repos[CLONE]
    bench.hub.fault(kind, status(429, Retry_After=str(asked)))
    done = bench.push()
    assert done.code == 0 and bench.head == clone, done.err
    assert [round(nap) for nap in bench.naps] == [min(asked, 60) + (kind == "preupload")]


def test_an_hour_asked_for_again_and_again_is_said(bench: Bench) -> None:
    bench.hub.fault("commit", status(429, Retry_After="3600"), times=1000)
    done = bench.push()
    unchanged(bench, done, 6)
    assert "wait for 3600 s" in done.err and max(bench.naps) == 60


@pytest.mark.parametrize("code", [408, 409, 412, 423, 425, 429])
def test_codes_that_say_not_now(bench: Bench, clone: dict[str, bytes], code: int) -> None:
    """The branch is looked at again, not guessed of; a 412 without another commit is as good as a 503."""
    bench.hub.fault("commit", status(code))
    published(bench, bench.push(), clone)
    assert bench.hub.kinds().count("commit") == 2


@pytest.mark.parametrize(("window", "pause"), [(7, 7), (3000, 60)])
@pytest.mark.parametrize("kind", ["commit", "preupload"])
def test_the_window_of_a_rate_limit(bench: Bench, clone: dict[str, bytes], kind: str, window: int, pause: int) -> None:
    """The hub's own header for how long it is until it takes more; obeyed up to a limit, as Retry-After is."""
    bench.hub.fault(kind, status(429, RateLimit=f'"api";r=0;t={window}'))
    published(bench, bench.push(), clone)
    assert [round(nap) for nap in bench.naps] == [pause + (kind == "preupload")]


@pytest.mark.parametrize("kind", ["validate_yaml", "whoami", "commit"])
def test_a_proxy_answers_with_a_page(bench: Bench, clone: dict[str, bytes], kind: str) -> None:
    """An HTML 502 is no JSON, and no reason for a traceback."""
    bench.hub.fault(kind, status(502, html=True))
    published(bench, bench.push(), clone)


def test_a_page_instead_of_every_answer(bench: Bench) -> None:
    """Before the commit has gone out, nothing of ours can land late: the branch is as it was, and that is said."""
    bench.hub.fault("validate_yaml", status(502, html=True), times=1000)
    unchanged(bench, bench.push(), 6)


# -- a commit of which nobody knows what became of it -----------------------------------------------------


@pytest.mark.parametrize("lost", [answer_lost, done_then(504), done_then(500)], ids=["lost", "504", "500"])
def test_applied_and_the_answer_lost(bench: Bench, clone: dict[str, bytes], lost: Any) -> None:
    """Looked for, found, not made twice."""
    bench.hub.fault("commit", lost)
    published(bench, bench.push(), clone)
    assert bench.hub.kinds().count("commit") == 1


def test_504_and_not_applied(bench: Bench, clone: dict[str, bytes]) -> None:
    bench.hub.fault("commit", status(504))
    published(bench, bench.push(), clone)
    assert bench.hub.kinds().count("commit") == 2


def test_stalled_and_landing_late(bench: Bench, clone: dict[str, bytes]) -> None:
    """The client gives up, asks again on top of the same parent, and of the two one is refused: one commit."""
    bench.hub.fault("commit", stalled(1.4, lands=True))
    published(bench, bench.push(), clone)


def test_stalled_for_ever(bench: Bench, clone: dict[str, bytes]) -> None:
    """Nobody waits for ever; that it may still land is said, and the same command finds out."""
    bench.hub.fault("commit", stalled(1.2, lands=False), times=4)
    done = bench.push()
    unchanged(bench, done, 7)
    assert "run the same command again" in done.err
    published(bench, bench.push(), clone)


@pytest.mark.parametrize("gone", [status(503), status(401), connection_cut], ids=["503", "401", "cut"])
def test_nobody_can_be_asked_what_became_of_it(bench: Bench, clone: dict[str, bytes], gone: Any) -> None:
    """It was applied, the answer was lost, and the hub with it: nobody may say that the branch is as it was."""

    def act(handler: Handler, serve: Any) -> None:
        serve()
        bench.hub.fault("info", gone, times=1000)
        handler.cut()

    bench.hub.fault("commit", act)
    done = bench.push()
    assert done.code == 7 and bench.head == clone and not (bench.run / "push.json").exists()
    assert "cannot be seen" in done.err and "is as it was" not in done.err
    bench.hub._faults.clear()
    published(bench, bench.push(), clone)


@pytest.mark.parametrize("kind", ["lfs_upload", "commit", "lfs_verify", "preupload"])
def test_connection_cut(bench: Bench, clone: dict[str, bytes], kind: str) -> None:
    bench.hub.fault(kind, connection_cut)
    published(bench, bench.push(), clone)


def test_no_hub_at_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    unchanged(bench, bench.push(), 6)


# -- who may, and what is there ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["whoami", "info", "preupload", "commit"])
@pytest.mark.parametrize("code", [401, 403])
def test_no_right(bench: Bench, kind: str, code: int) -> None:
    """Not asked again, not a traceback, and the token not repeated."""
    bench.hub.fault(kind, status(code, X_Error_Message="no rights for this"), times=1000)
    done = bench.push()
    unchanged(bench, done, 3)
    assert bench.naps == [] and bench.hub.kinds().count(kind) == 1


@pytest.mark.parametrize(("token", "code"), [(READ_TOKEN, 3), (OTHER_TOKEN, 3), ("hf_unknown0000000000000000001", 3)])
def test_a_token_that_may_not(bench: Bench, monkeypatch: pytest.MonkeyPatch, token: str, code: int) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    unchanged(bench, bench.push(), code)
    assert not {"commit", "lfs_upload", "create_repo", "preupload"} & set(bench.hub.kinds())


def test_head_moved_by_somebody_else(bench: Bench) -> None:
    """Between the plan and the commit: a conflict, and nothing of ours in it."""
    theirs = {"README.md": b"theirs"}
    bench.hub.fault("commit", meanwhile(lambda: bench.hub.repos[CLONE].add(theirs)))
    done = bench.push()
    assert done.code == 5 and "somebody else" in done.err
    assert bench.head == theirs and bench.commits == 2 and not (bench.run / "push.json").exists()


def test_the_same_clone_pushed_meanwhile(bench: Bench, clone: dict[str, bytes]) -> None:
    """Somebody else's commit that holds exactly ours is as good as ours."""
    tree = {**bench.hub.repos[CLONE].commits[bench.hub.repos[CLONE].refs["main"]].tree, **clone}
    bench.hub.fault("commit", meanwhile(lambda: bench.hub.repos[CLONE].add(tree)))
    published(bench, bench.push(), clone)


def test_public_where_private_was_asked_for(bench: Bench) -> None:
    """``exist_ok`` would never change that, and the clone would be public."""
    bench.hub.repos[CLONE].private = False
    unchanged(bench, bench.push("--private"), 4)
    unchanged(bench, bench.push(), 4)
    bench.hub.repos[CLONE].private = True
    unchanged(bench, bench.push("--public"), 4)
    assert set(bench.hub.kinds()) == {"whoami", "info", "tree"}


def test_created_public_by_somebody_else_meanwhile(bench: Bench) -> None:
    del bench.hub.repos[CLONE]
    bench.hub.fault("create_repo", meanwhile(lambda: bench.hub.put(CLONE, OLD, private=False)))
    unchanged(bench, bench.push(), 4)


@pytest.mark.parametrize("lost", [answer_lost, done_then(500), status(500)], ids=["lost", "500 and done", "500"])
def test_created_and_the_answer_lost(bench: Bench, clone: dict[str, bytes], lost: Any) -> None:
    del bench.hub.repos[CLONE]
    bench.hub.fault("create_repo", lost)
    done = bench.push()
    assert done.code == 0 and bench.head == clone and bench.commits == 1 and bench.hub.repos[CLONE].private


def test_a_user_whose_requests_conflict(bench: Bench) -> None:
    """The client asks again without end and without a pause; we do not let it."""
    del bench.hub.repos[CLONE]
    body = b'{"error": "Cannot create repo: another conflicting operation is in progress"}'
    bench.hub.fault("create_repo", lambda handler, serve: (409, {}, body), times=1000)
    assert bench.push().code == 6 and CLONE not in bench.hub.repos
    assert bench.hub.kinds().count("create_repo") <= 16


# -- what was sent is not what is there -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lfs_download", "resolve"])
def test_a_flipped_byte_on_download(bench: Bench, clone: dict[str, bytes], kind: str) -> None:
    """Same size, another byte: found, told by its number, no receipt; the same command then finds all well."""
    bench.hub.fault(kind, flipped_byte, times=1000)
    done = bench.push()
    assert done.code == 8 and "not what was sent" in done.err and not (bench.run / "push.json").exists()
    assert bench.head == clone
    bench.hub._faults.clear()
    published(bench, bench.push(), clone)


def test_a_gitignore_on_the_hub_that_keeps_a_file_out(bench: Bench) -> None:
    """The client leaves such files out of the commit without a word."""
    bench.hub.put(CLONE, OLD | {".gitignore": b"tokenizer.json\n"})
    done = bench.push()
    assert done.code == 8 and "tokenizer.json" in done.err and not (bench.run / "push.json").exists()


@pytest.mark.parametrize("code", [503, 403, 400])
def test_the_tag_cannot_be_set(bench: Bench, clone: dict[str, bytes], code: int) -> None:
    """The clone is there by then, so none of the outcomes that say otherwise; the same command sets the tag."""
    bench.hub.fault("tag", status(code), times=1000)
    done = bench.push("--tag", "v1")
    assert done.code == 8 and "is there and verified" in done.err and f"answer {code}" in done.err
    assert bench.head == clone and not (bench.run / "push.json").exists()
    bench.hub._faults.clear()
    published(bench, bench.push("--tag", "v1"), clone)
    assert bench.hub.repos[CLONE].tags == {"v1": bench.receipt()["commit"]}


def test_the_receipt_cannot_be_written(bench: Bench, clone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        """The disk is full when the receipt is about to take its place."""
        if Path(target).name == "push.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        done = bench.push()
    assert done.code == 8 and "push.json cannot be written: the disk is full" in done.err and bench.head == clone
    published(bench, bench.push(), clone)


@pytest.mark.parametrize("text", ["{", "[]", '{"pushes": [1]}', '{"pushes": null}'])
def test_a_receipt_that_cannot_be_added_to(bench: Bench, text: str) -> None:
    """Found before anything is sent, not after."""
    (bench.run / "push.json").write_text(text, encoding="utf-8")
    done = bench.push()
    assert done.code == 2 and "push.json" in done.err and bench.head == OLD and bench.hub.requests == []
    assert (bench.run / "push.json").read_text(encoding="utf-8") == text


def test_a_hub_that_does_not_speak_xet(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has no other way then, unless it is told; so that is what is said."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    done = bench.push()
    unchanged(bench, done, 2)
    assert "HF_HUB_DISABLE_XET=1" in done.err


def test_a_hub_that_is_full(bench: Bench) -> None:
    """It says so for each file, in an answer 200."""

    def full(handler: Handler, serve: Any) -> Any:
        rows = [
            {"oid": row["oid"], "size": row["size"], "error": {"code": 403, "message": "storage limit reached"}}
            for row in json.loads(handler.body())["objects"]
        ]
        raw = json.dumps({"transfer": "basic", "objects": rows}).encode()
        return 200, {"Content-Type": "application/vnd.git-lfs+json"}, raw

    bench.hub.fault("lfs_batch", full, times=1000)
    done = bench.push()
    unchanged(bench, done, 3)
    assert "has no room for it" in done.err and "storage limit reached" in done.err


def test_metadata_that_the_hub_does_not_like(bench: Bench) -> None:
    said = json.dumps({"errors": [{"message": "license must be one of these"}], "warnings": []}).encode()
    bench.hub.fault(
        "validate_yaml", lambda handler, serve: (400, {"Content-Type": "application/json"}, said), times=1000
    )
    done = bench.push()
    unchanged(bench, done, 2)
    assert "README.md: " in done.err and "license must be one of these" in done.err and "; " in done.err


@pytest.mark.parametrize("said", [b'{"error": "who?"}', b"[]", b'"hello"'])
def test_an_address_of_something_else(bench: Bench, said: bytes) -> None:
    bench.hub.fault("whoami", lambda handler, serve: (200, {"Content-Type": "application/json"}, said), times=1000)
    done = bench.push()
    unchanged(bench, done, 9)
    assert "does not answer as a hub does; check HF_ENDPOINT" in done.err


def test_what_others_wrote_does_not_reach_the_terminal_raw(bench: Bench) -> None:
    """Names of files that are there, and the hub's own words."""
    bench.hub.put(CLONE, OLD | {"\x1b[2Jnotes\n.txt": b"", "\u202etxt.exe": b""})
    done = bench.push("--dry-run")
    assert done.code == 0 and "U+001B" in done.out and "U+202E" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)
    bench.hub.fault("whoami", lambda handler, serve: (400, {"Content-Type": "text/plain"}, b"\x1b[2J no\x07"))
    done = bench.push()
    assert done.code == 2 and "no" in done.err and not {"\x1b", "\x07"} & set(done.err)


def test_a_repository_under_another_name(bench: Bench) -> None:
    """A hub follows a renamed one; nobody would look for the clone there."""
    about = {"_id": "1", "id": "me/renamed", "sha": bench.hub.repos[CLONE].refs["main"], "private": True, "tags": []}
    raw = json.dumps(about | {"siblings": []}).encode()
    bench.hub.fault("info", lambda handler, serve: (200, {"Content-Type": "application/json"}, raw))
    done = bench.push()
    unchanged(bench, done, 4)
    assert "is called me/renamed now" in done.err


def test_disk_full_while_staging(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything was asked of the hub; and nothing of the staged folder is left behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    done = bench.push()
    unchanged(bench, done, 2)
    assert "disk is full" in done.err and bench.hub.requests == [] and list(temporary.iterdir()) == []
    assert not list(bench.run.glob(".push*"))


# -- processes of their own -------------------------------------------------------------------------------


def killing(process: list[Any], *, first: bool) -> Any:
    """The process that pushes dies by ``kill -9`` when its request has arrived, and is served ``first`` or never."""

    def act(handler: Handler, serve: Any) -> None:
        handler.body()
        if first:
            serve()
        os.kill(process[0].pid, signal.SIGKILL)
        handler.cut()

    return act


@pytest.mark.parametrize(("kind", "first"), [("lfs_upload", False), ("commit", False), ("commit", True)])
def test_killed_and_run_again(bench: Bench, clone: dict[str, bytes], kind: str, first: bool, tmp_path: Path) -> None:
    """In the upload, and in the commit before and after it was applied: the same command again, and all is there."""
    process: list[Any] = []
    bench.hub.fault(kind, killing(process, first=first))
    process.append(started(["push", str(bench.run), CLONE], bench.hub, tmp_path / "home"))
    said = "".join(process[0].communicate(timeout=120))
    assert process[0].returncode == -signal.SIGKILL, said
    assert bench.head == (clone if first else OLD) and not (bench.run / "push.json").exists()
    published(bench, bench.push(), clone)
    assert all(secret not in said for secret in bench.secrets)


def test_two_pushes_at_once(bench: Bench, clone: dict[str, bytes], tmp_path: Path) -> None:
    """Of the same clone, to a repository that is not there: one repository, one commit, and both say it is there."""
    del bench.hub.repos[CLONE]
    both = [
        started(["push", str(bench.run), CLONE, "--json"], bench.hub, tmp_path / f"home-{number}")
        for number in range(2)
    ]
    answers = [one.communicate(timeout=180) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert bench.head == clone and bench.commits == 1
    assert {json.loads(out)["receipt"]["commit"] for out, _ in answers} == {bench.hub.repos[CLONE].refs["main"]}
