"""The run directory: what survives a crash, what is refused, and what the manifest gives away."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft.errors import RunError
from sft.runs.machine import machine, versions
from sft.runs.private import presentable
from sft.runs.run import Run, append_jsonl, open_append, read_json, read_jsonl, write_json, write_jsonl, write_text


def sentence(error: pytest.ExceptionInfo[RunError]) -> str:
    """The message, checked to be one line without a traceback in it."""
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text, "a message says what to do after the semicolon"
    return text


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".tmp")]


# Creating and opening


def test_a_new_run_tells_when_where_and_with_what(tmp_path: Path) -> None:
    facts = {"recipe": {"written": "name: x\n", "resolved": {"name": "x"}}, "seeds": {"training": 3}}
    with Run.create(tmp_path / "deep" / "run", **facts) as run:
        pass
    manifest = Run.open(run.path).manifest
    assert manifest["recipe"] == facts["recipe"]
    assert manifest["seeds"] == {"training": 3}
    assert manifest["versions"]["numpy"]
    assert manifest["machine"]["cores"] >= 1
    assert manifest["machine"]["memory_bytes"] > 2**20
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest["created"])
    assert (manifest["sessions"], manifest["looks"]) == ([], [])


def test_a_folder_with_a_run_is_refused_naming_resume(tmp_path: Path) -> None:
    Run.create(tmp_path / "run").close()
    with pytest.raises(RunError) as error:
        Run.create(tmp_path / "run")
    assert "--resume" in sentence(error)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError) as error:
        Run.create(tmp_path)
    assert "thesis.tex" in sentence(error)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError) as error:
        Run.create(tmp_path / "run")
    assert "is a file" in sentence(error)


def test_a_folder_left_by_a_crash_before_the_manifest_can_be_used(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("999999\n")
    (tmp_path / ".manifest.json.0badcafe.tmp").write_text('{"schema')
    Run.create(tmp_path).close()
    assert Run.open(tmp_path).looks == ()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no run"),
        ('{"schema_version": 1, "created": "2026-', "cut short"),
        ("", "cut short"),
        ("[]", "not a run's manifest"),
        ('{"model_type": "llama"}', "not a run's manifest"),
        ('{"schema_version": 2}', "upgrade sft"),
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_what_is_no_readable_run_is_refused(tmp_path: Path, content: str | None, word: str, writing: bool) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RunError) as error:
        Run.open(tmp_path, writing=writing)
    assert word in sentence(error)


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        Run.open(tmp_path / "nowhere", writing=True)
    assert "is not a folder" in sentence(error)
    assert not (tmp_path / "nowhere").exists()


def test_every_file_has_its_place_in_the_folder(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.close()
    names = {path.name for name in dir(Run) if name.endswith("_path") and isinstance(path := getattr(run, name), Path)}
    names |= {run.completions_path("B0").name, run.token_scores_path("tuned").name}
    names |= {run.samples_path(0).name, run.forced_path("tuned").name, run.control_path("base").name}
    assert names == {
        *("manifest.json", "recipe.yaml", "recipe.resolved.yaml", "demonstrations.jsonl", "split.json"),
        *("ledger.json", "rejected.jsonl", "log.jsonl", "adapter", "model", "checkpoints"),
        *("others.jsonl", "held-out.jsonl", "measurement.json", "own-path.jsonl", "prompt-values.jsonl"),
        *("samples-0.jsonl", "forced-tuned.jsonl", "control-base.jsonl"),
        *("completions-B0.jsonl", "token-scores-tuned.jsonl", "scores.jsonl", "scorecard.json"),
        *(
            "replay.jsonl",
            "size-curve.json",
            "own-dialogues.jsonl",
            "rounds.json",
            "report.html",
            "report.md",
            "corrections.jsonl",
        ),
    }


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "a b"])
def test_a_system_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with Run.create(tmp_path / "run") as run, pytest.raises(ValueError, match="file name"):
        run.completions_path(name)


# One writer at a time


def test_two_writers_are_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        with pytest.raises(RunError) as error:
            Run.open(run.path, writing=True)
        assert str(os.getpid()) in sentence(error)
        reader = Run.open(run.path)
        with pytest.raises(RunError):
            reader.update_manifest(seeds={"split": 0})
    reader.update_manifest(seeds={"split": 0})
    assert Run.open(run.path).manifest["seeds"] == {"split": 0}


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom sft.runs.run import Run\nrun = Run.create(sys.argv[1])\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(RunError) as error:
            Run.open(tmp_path / "run", writing=True)
        assert f"({child.pid})" in sentence(error)
        child.send_signal(signal.SIGKILL)
    with Run.open(tmp_path / "run", writing=True) as run:
        run.look("test", "scorecard")


# The manifest


def test_updates_replace_sections_and_keep_what_others_wrote(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", data={"hash": "a"}, seeds={"split": 0, "training": 0}).close()
    first, second = Run.open(tmp_path / "run"), Run.open(tmp_path / "run")
    first.update_manifest(seeds={"split": 1})
    second.update_manifest(template={"hash": "t"})
    manifest = Run.open(tmp_path / "run").manifest
    assert manifest["seeds"] == {"split": 1}
    assert (manifest["data"], manifest["template"]) == ({"hash": "a"}, {"hash": "t"})


def test_the_manifest_handed_out_is_a_copy(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", data={"hash": "a"}) as run:
        run.manifest["data"]["hash"] = "b"
        assert run.manifest["data"]["hash"] == "a"


def test_every_look_is_counted(tmp_path: Path) -> None:
    Run.create(tmp_path / "run").close()
    for purpose in ("scorecard", "compare with another run"):
        Run.open(tmp_path / "run").look("test", purpose)
    looks = Run.open(tmp_path / "run").looks
    assert [(look["split"], look["purpose"]) for look in looks] == [
        ("test", "scorecard"),
        ("test", "compare with another run"),
    ]


def test_sessions_record_the_command_and_how_it_ended(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        with run.session(["/somewhere/bin/sft", "train", "my recipe.yaml"]):
            assert "ended" not in run.manifest["sessions"][0], "a killed session must not look finished"
            run.look("validation", "choose the checkpoint")
        with pytest.raises(KeyboardInterrupt), run.session(["sft", "evaluate", "run"]):
            raise KeyboardInterrupt
        first, second = run.manifest["sessions"]
        assert len(run.looks) == 1
    assert first["command"] == "sft train 'my recipe.yaml'"
    assert first["outcome"] == "finished"
    assert second["outcome"] == "stopped by KeyboardInterrupt"
    assert first["peak_memory_bytes"] > 2**20
    assert 0 <= first["wall_seconds"] < 60
    assert first["started"] <= first["ended"]


def test_the_error_that_ends_a_session_is_not_hidden_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run.create(tmp_path / "run") as run, pytest.raises(ZeroDivisionError), run.session(["sft", "train"]):
        monkeypatch.setattr(os, "fsync", full)
        _ = 1 / 0


def test_a_manifest_names_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    with Run.create(tmp_path / "run", base={"path": Path("/home/ada/models/base")}) as run:
        with run.session(["sft", "train", "/home/ada/r.yaml", "--out=/home/ada/runs"]):
            pass
        text = run.manifest_path.read_text()
    assert "ada" not in text
    assert run.manifest["base"]["path"] == "~/models/base"
    assert run.manifest["sessions"][0]["command"].startswith("sft train")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/root", "~"),
        ("/root/x", "~/x"),
        ("--data=/root/x:/root/y", "--data=~/x:~/y"),
        ("/mnt/root/x", "/mnt/root/x"),
        ("/rooted/x", "/rooted/x"),
    ],
)
def test_only_the_home_folder_itself_is_replaced(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    assert presentable({"path": [text]}) == {"path": [shown]}


def test_machine_and_versions_name_neither_host_nor_user() -> None:
    text = json.dumps([machine("Accelerator X"), versions()])
    assert os.uname().nodename not in text
    assert machine("Accelerator X")["accelerator"] == "Accelerator X"
    assert set(versions()) >= {"python", "numpy", "sacrebleu"}


# What changed


def test_changes_are_named_with_their_dotted_key() -> None:
    recorded = {"training": {"learning_rate": 2e-4, "seed": 0}, "data": {"hash": "a"}, "systems": ["B0"]}
    present = {"training": {"learning_rate": 1e-4, "seed": 0}, "data": {"hash": "b"}, "systems": ("B0",)}
    assert Run.changed(recorded, present) == ["data.hash", "training.learning_rate"]
    assert Run.changed({"a": {"b": 1}}, {"a": {"b": 1.0, "c": None}}) == ["a.c"]
    assert Run.changed({"a": {}}, {"a": {"b": 1}}) == ["a.b"]


def test_resuming_with_something_else_is_refused_by_name(tmp_path: Path) -> None:
    split = {"hash": "s", "seed": 0}
    recipe = {"resolved": {"training": {"learning_rate": 2e-4, "report_to": "none"}}}
    with Run.create(tmp_path / "run", split=split, recipe=recipe, template={"hash": "t"}) as run:
        run.refuse_changes({"split": split, "recipe": recipe})
        now = {
            "split": split | {"hash": "other"},
            "recipe": {"resolved": {"training": {"learning_rate": 1e-4, "report_to": "wandb"}}},
        }
        with pytest.raises(RunError) as error:
            run.refuse_changes(now, allowed=["recipe.resolved.training.report_to"])
        text = sentence(error)
        assert "recipe.resolved.training.learning_rate" in text
        assert "split.hash" in text
        assert "report_to" not in text
        assert "template" not in text
        with pytest.raises(RunError, match=r"another base\.name"):
            run.refuse_changes({"base": {"name": "x"}})


# Whole files


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scorecard.json"
    write_json(path, {"n": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError) as error:
        write_json(path, {"n": 2})
    assert "disk is full" in sentence(error)
    assert read_json(path) == {"n": 1}
    assert leftovers(tmp_path) == []


def test_an_interrupt_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scorecard.json"
    write_text(path, "old")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_full_disk_leaves_no_part_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    append_jsonl(path, {"step": 1})
    write = os.write

    def half(descriptor: int, data: Any) -> int:
        write(descriptor, bytes(data)[: len(data) // 2])
        full()
        raise AssertionError

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(RunError) as error:
        append_jsonl(path, {"step": 2, "loss": 0.5})
    assert "disk is full" in sentence(error)
    assert path.read_bytes() == b'{"step":1}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_really_full_device_is_one_sentence() -> None:
    with pytest.raises(RunError) as error, open_append(Path("/dev/full")) as rows:
        rows.append({"step": 1})
    assert "disk is full" in sentence(error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Raised by hand: the super-user, as whom containers run, may write to a read-only folder."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError) as error:
        write_text(tmp_path / "ledger.json", "{}")
    assert "permission" in sentence(error)
    with pytest.raises(RunError) as error:
        Run.create(tmp_path / "run")
    assert "permission" in sentence(error)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        read_jsonl(tmp_path / "scores.jsonl")
    assert "not there" in sentence(error)


# Lines


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    """``str.splitlines`` would also cut at U+2028, U+0085 and form feeds inside a completion."""
    rows = [{"text": "a\u2028b\u0085c\x0cd\r\ne"}, {"text": "é𝔘"}, {"text": "half \ud83d pair"}]
    path = tmp_path / "rows.jsonl"
    for row in rows:
        append_jsonl(path, row, sync=True)
    assert read_jsonl(path) == rows
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows
    path.read_bytes().decode("utf-8")


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_jsonl(path, {"loss": math.nan, "parts": (1.5, math.inf)})
    assert path.read_text() == '{"loss":null,"parts":[1.5,null]}\n'


@settings(max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_reads_as_the_rows_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A crash may end the file at any byte; every whole row survives, and appending mends the rest."""
    row = st.dictionaries(st.text(max_size=3), st.text(max_size=8) | st.integers() | st.none(), max_size=2)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    write_jsonl(path, rows)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    ends = [0]
    for line in whole.split(b"\n")[:-1]:
        ends.append(ends[-1] + len(line) + 1)
    kept = rows[: sum(end - 1 <= cut for end in ends[1:])]
    assert read_jsonl(path) == kept
    append_jsonl(path, {"next": 1})
    assert read_jsonl(path) == [*kept, {"next": 1}]
    assert path.read_bytes().endswith(b"\n")


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n{"text":"' + b"x" * 200_000)
    append_jsonl(path, {"b": 2})
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_bad_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":\n{"a":3}\n')
    with pytest.raises(RunError) as error:
        read_jsonl(path)
    assert "rows.jsonl:2:" in sentence(error)


def test_a_whole_last_line_without_newline_is_kept(tmp_path: Path) -> None:
    """An editor may have saved the file without it; losing that row would be silent."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}')
    assert read_jsonl(path) == [{"a": 1}]
    append_jsonl(path, {"a": 2})
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
