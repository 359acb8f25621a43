"""Nothing goes out that the owner did not see: the record as written, remarks, demonstrations, and leave by kind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from factories import without_seals
from loopback_hub import status
from toy_pushes import CLONE, Bench, Outcome

from sft.runs.run import Run, read_json, read_jsonl

MAIL, HOST = "ann.lee@acme.co.uk", "db01.acme.corp"
REMARKS = f"""\
# ask {MAIL} before this is changed
name: "colours # no remark"
description: 'words like ^\\w+\\s\\w+'   # found on {HOST}
model: {{name: tiny}}
prompt: |  # a block
  # no remark either
  text
"""


@pytest.fixture
def bench(bench: Bench) -> Bench:
    without_seals(bench.run)
    return bench


def recorded(bench: Bench, text: str) -> None:
    """A run whose recipe was written as ``text``."""
    recipe = read_json(bench.run / "manifest.json")["recipe"]
    bench.change("manifest.json", recipe=recipe | {"written": text})


def refused(bench: Bench, done: Outcome, code: int = 2) -> list[str]:
    assert done.code == code and CLONE not in bench.hub.repos and "Traceback" not in done.err, done.err
    return done.err.splitlines()


def manifest(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.head["sft_manifest.json"])
    return found


def test_remarks_of_the_recipe_are_looked_through_line_by_line(bench: Bench) -> None:
    """An address and a host in comments went out once, with exit 0: JSON writes the recipe in one line."""
    recorded(bench, REMARKS)
    bench.secrets += [MAIL, HOST]
    lines = refused(bench, bench.push())
    assert lines[0].startswith("sft: recipe in sft_manifest.json:1: an e-mail address, a…@acme.co.uk")
    assert "'# ask [...] before this is changed'" in lines[0]
    assert lines[1].startswith("recipe in sft_manifest.json:3: an internal host") and "--no-comments" in lines[-1]


def test_without_its_remarks_it_is_published_and_says_so(bench: Bench) -> None:
    recorded(bench, REMARKS)
    done = bench.push("--no-comments")
    assert done.code == 0, done.err
    assert manifest(bench)["recipe"]["written"].splitlines() == [
        "", 'name: "colours # no remark"', r"description: 'words like ^\w+\s\w+'", "model: {name: tiny}", "prompt: |",
        "  # no remark either", "  text",
    ]  # fmt: skip
    assert "recipe: its 3 comments are left out" in manifest(bench)["published"]["rewritten"]
    assert "rewritten   recipe: its 3 comments are left out" in done.err


def test_the_record_is_published_as_it_was_written(bench: Bench) -> None:
    """Backslashes are no paths: a pattern went out as another, its fingerprint unchanged. Remarks are shown first."""
    text = "# for all to see\nmodel: {name: tiny}\ndescription: '^\\w+\\s\\w+ and \\w+\\s'\n"
    recorded(bench, text)
    done = bench.push()
    assert done.code == 0, done.err
    assert manifest(bench)["recipe"]["written"] == text
    assert not any("recipe line" in one for one in manifest(bench)["published"].get("rewritten", ()))
    assert "  comment     recipe line 1: # for all to see" in done.err


def test_a_path_of_this_machine_is_cut_and_that_is_told_with_its_line(bench: Bench) -> None:
    folder = bench.run
    recorded(bench, f"model: {{name: tiny}}\n\ndescription: rows of {folder}\n")
    done = bench.push()
    assert done.code == 0 and str(folder) not in json.dumps(manifest(bench)), done.err
    told = [line for line in done.err.splitlines() if "rewritten   recipe line 3: " in line]
    assert len(told) == 1 and f"rows of {folder.name}" in told[0]


def test_a_path_in_somebodys_folder_is_refused_with_its_line(bench: Bench) -> None:
    recorded(bench, "model: {name: tiny}\n# from /home/annabel/rows.jsonl\n")
    lines = refused(bench, bench.push())
    assert lines[0].startswith("sft: recipe in sft_manifest.json:2: a path in somebody's folder")


# -- held-out demonstrations -------------------------------------------------------------------------------------


def test_texts_of_private_demonstrations_stay_here_unless_asked_for(bench: Bench) -> None:
    """The plan says how many stand in what is published, and shows three."""
    held = [row["references"][0] for row in read_jsonl(bench.run / "held-out.jsonl")]
    done = bench.push("--dry-run", "--examples")
    assert f"{len(held)} of {len(held)} held-out demonstrations stand word for word in scorecard.json" in done.out
    assert sum(" -> " in line for line in done.out.splitlines()) == 3
    recipe = read_json(bench.run / "manifest.json")["recipe"]
    published = recipe["resolved"]["publish"] | {"examples": None}
    bench.change("manifest.json", recipe=recipe | {"resolved": recipe["resolved"] | {"publish": published}})
    done = bench.push()
    assert done.code == 0 and f"none of {len(held)} held-out demonstrations (the demonstrations are private" in done.err
    assert json.loads(bench.head["scorecard.json"])["examples"] == []
    card = bench.head["README.md"].decode()
    assert "No examples are published" in card and not any(text in card for text in held if len(text) > 12)
    for words in (["--no-examples"], ["--examples"]):
        bench.push(*words)
        assert bool(json.loads(bench.head["scorecard.json"])["examples"]) is (words == ["--examples"])


# -- leave -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["e-mail address", "an e-mail address", "recipe in sft_manifest.json"])
def test_findings_are_allowed_by_kind_by_file_and_from_a_file(bench: Bench, what: str, tmp_path: Path) -> None:
    recorded(bench, f"# ask {MAIL}\nmodel: {{name: tiny}}\n")
    leave = tmp_path / "leave.txt"
    leave.write_text(f"# seen by Ann\n\n{what}=she is on the card\n", encoding="utf-8")
    for words in (["--allow-finding", f"{what}=she is on the card"], ["--reviewed", str(leave)]):
        done = bench.push(*words)
        assert done.code == 0, done.err
        (why,) = bench.receipt()["allowed"].values()
        assert why == "an e-mail address in recipe in sft_manifest.json:1: she is on the card"
    leave.write_text(f"{what}\n", encoding="utf-8")
    assert f"{leave}:1: needs a reason" in bench.push("--reviewed", str(leave)).err


# -- room, scratch, and answers ----------------------------------------------------------------------------------


def test_room_is_asked_for_before_anything_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9, free=1000))
    (line,) = refused(bench, bench.push())
    assert "MB are free; make room" in line and not bench.hub.requests


def test_the_scratch_of_a_push_is_in_the_run_and_holds_the_weights_once_at_most(bench: Bench) -> None:
    """As they lie in the run while they are sent; none when they are downloaded again; nothing afterwards."""
    seen: list[list[int]] = []

    def look(handler: Any, serve: Any) -> Any:
        found = [path for path in bench.run.rglob("*.safetensors") if ".push." in str(path)]
        seen.append([path.stat().st_nlink for path in found])
        return serve()

    bench.hub.fault("lfs_upload", look)
    bench.hub.fault("lfs_download", look)
    assert bench.push().code == 0
    assert seen == [[2], []] and not list(bench.run.glob(".push*"))


def test_what_a_killed_push_leaves_the_next_command_clears(bench: Bench) -> None:
    """In the run, so that it is found; and not the folder of one that lives."""
    program = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom sft.runs.atomic_files import scratch_in\n"
        "with scratch_in(Path(sys.argv[1]), 'push') as folder:\n"
        "    (folder / 'model.safetensors').write_bytes(b'x' * 1000)\n    print(folder, flush=True)\n"
        "    signal.pause()\n"
    )
    command = [sys.executable, "-c", program, str(bench.run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        Run.open(bench.run)
        assert (folder / "model.safetensors").exists()
        os.kill(process.pid, signal.SIGKILL)
    assert folder.exists()
    Run.open(bench.run)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("whoami", b'{"name": {"a": 1}}'),
        ("info", b"<html>log in</html>"),
        ("create_repo", b"[]"),
        ("preupload", b'{"files": 7}'),
        ("lfs_batch", b'{"objects": [1]}'),
    ],
)
def test_an_answer_that_no_hub_gives_is_a_sentence(bench: Bench, kind: str, body: bytes) -> None:
    """Status 200, and not what was asked for: once a traceback of whatever the client stumbled on."""
    bench.hub.fault(kind, lambda handler, serve: (200, {"Content-Type": "application/json"}, body), times=1000)
    done = bench.push()
    assert done.code in (6, 9) and "Traceback" not in done.err, done.err
    assert bench.commits == 0 and done.err.count("\nsft: ") + done.err.startswith("sft: ") == 1


def test_a_malformed_answer_has_a_status_of_its_own(bench: Bench) -> None:
    bench.hub.fault("info", lambda handler, serve: (200, {}, b"[1]"), times=1000)
    (line,) = refused(bench, bench.push(), 9)
    assert "an answer that no hub gives" in line and "HF_ENDPOINT" in line


@pytest.mark.parametrize(("kind", "code"), [("commit", 413), ("commit", 507), ("lfs_batch", 402), ("lfs_upload", 403)])
def test_no_room_on_the_hub_is_called_that(bench: Bench, kind: str, code: int) -> None:
    answer = (code, {"Content-Type": "application/json"}, b'{"error": "Private repository storage limit reached"}')
    bench.hub.fault(kind, lambda handler, serve: answer, times=1000)
    done = bench.push()
    assert done.code == 3 and "has no room for it" in done.err and bench.commits == 0, done.err


def test_what_a_hub_does_not_have_is_no_doubt(bench: Bench) -> None:
    """KohakuHub has no pull requests and answers 501: nothing may still land, and nothing is asked six times."""
    bench.hub.put(CLONE, {})
    bench.hub.fault("commit", status(501), times=1000)
    done = bench.push("--create-pr")
    assert done.code == 2 and "answer 501" in done.err and "--create-pr" in done.err, done.err
    assert bench.hub.kinds().count("commit") == 1 and bench.commits == 0


def test_an_expired_address_for_the_upload_is_asked_for_again(bench: Bench) -> None:
    """Storage answers 403 in XML; that is nobody's missing right to write."""
    answer = (403, {"Content-Type": "application/xml"}, b"<Error><Message>Request has expired</Message></Error>")
    bench.hub.fault("lfs_upload", lambda handler, serve: answer)
    done = bench.push()
    assert done.code == 0 and bench.commits == 1 and "the address for the upload has expired" in done.err, done.err


@pytest.mark.parametrize("kind", ["tree", "resolve"])
def test_a_404_right_after_the_commit_is_asked_again(bench: Bench, kind: str) -> None:
    """A replica that does not know the commit yet."""
    bench.hub.fault(kind, status(404), times=2, after=1 if kind == "tree" else 0)
    done = bench.push()
    assert done.code == 0 and bench.commits == 1, done.err


# -- along with it -----------------------------------------------------------------------------------------------


def test_a_gguf_file_goes_along_in_the_same_commit_and_away_with_the_next(bench: Bench) -> None:
    """Whoever pushes without it again leaves no file of an older clone beside the new one."""
    done = bench.push("--gguf", "f16")
    assert done.code == 0 and bench.commits == 1, done.err
    assert {"clone-f16.gguf", "clone-f16.Modelfile"} <= set(bench.head)
    assert "served      llama.cpp takes it" in done.err and "served      vLLM takes it" in done.err
    card = bench.head["README.md"].decode()
    assert "llama-server -m clone-f16.gguf --jinja --temp 0" in card and "vllm serve me/tiny-base --enable-lora" in card
    done = bench.push()
    assert done.code == 0 and "removed     clone-f16.gguf" in done.err
    assert not [path for path in bench.head if path.endswith((".gguf", ".Modelfile"))] and bench.commits == 2
