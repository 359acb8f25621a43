"""The loop end to end, as a user types it: demonstrations in, report out, on a tiny real policy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked_python
import pytest
from factories import without_seals
from repository import ROOT
from toy_demonstrations import write_demonstrations

from sft.cli import main
from sft.runs.run import read_json, read_jsonl

pytestmark = pytest.mark.engine


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""\
name: colours
model:
  name: {tiny_model}
demonstrations:
  path: {data}
split:
  validation: 0.15
  test: 0.25
  near_duplicates: remove
training:
  learning_rate: 1.0e-2
  max_steps: 12
  eval_steps: 4
  logging_steps: 1
fidelity:
  max_prompts: 20
  max_new_tokens: 12
""",
        encoding="utf-8",
    )
    return path


def test_run_leaves_every_arrow_as_a_file(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command: split, ledger, adapter, completions, scores, scorecard and report; the account adds up."""
    run = tmp_path / "run"
    assert main(["run", str(recipe), "--output", str(run)]) == 0
    out = capsys.readouterr()
    assert "Verdict: " in out.out and str(run / "report.html") in out.out
    for name in ("recipe.yaml", "recipe.resolved.yaml", "split.json", "log.jsonl", "adapter/adapter_model.safetensors"):
        assert (run / name).is_file(), name
    for system in ("tuned", "B0", "B3", "R", "K", "P"):
        assert len(read_jsonl(run / f"completions-{system}.jsonl")) == 20
    ledger = read_json(run / "ledger.json")
    assert sum(ledger["fates"].values()) == ledger["rows"] == 120
    # Twelve steps of eight do not reach all of the training split more than once around; what they missed is told.
    reached = ledger["fates"]["trained"] + ledger["fates"].get("not_reached", 0)
    assert reached == len([r for r in read_jsonl(run / "demonstrations.jsonl") if r["split"] == "train"])
    assert ledger["tokens"]["trained"]["completion"] > 0
    manifest = read_json(run / "manifest.json")
    assert manifest["looks"][0]["split"] == "test"
    assert manifest["training"]["steps"] == 12
    card = read_json(run / "scorecard.json")
    assert card["n"] == 20 and card["unscored"] == 0
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")

    # The same again: refused without --resume, and with it everything is reused and the answer is the same.
    assert main(["run", str(recipe), "--output", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    before = (run / "completions-tuned.jsonl").read_bytes()
    assert main(["run", str(recipe), "--output", str(run), "--resume"]) == 0
    err = capsys.readouterr().err
    assert "reused: what tuned wrote" in err and "trained already" in err
    assert (run / "completions-tuned.jsonl").read_bytes() == before
    assert read_json(run / "scorecard.json") == card | {"looks": 2}, "the second look at the test split is on record"

    # An evaluation that was cut short goes on: only what is missing is written again.
    without_seals(run)  # they are set when an evaluation has come to its end
    lines = before.splitlines(keepends=True)
    (run / "completions-tuned.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:10])
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert sorted((run / "completions-tuned.jsonl").read_bytes().splitlines()) == sorted(before.splitlines())

    # Other data under the same name is noticed.
    write_demonstrations(tmp_path / "demonstrations.jsonl", seed=1)
    assert main(["run", str(recipe), "--output", str(run), "--resume"]) == 2
    assert "another data" in capsys.readouterr().err
    write_demonstrations(tmp_path / "demonstrations.jsonl")
    assert main(["run", str(recipe), "--output", str(run), "--resume", "--set", "training.learning_rate=1.0e-3"]) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_rows_the_steps_did_not_reach_were_not_trained_on(recipe: Path, tmp_path: Path) -> None:
    """Three steps of eight rows: 24 are trained on, and resuming a stopped run counts the same."""
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output", str(run), "--set", "training.max_steps=3"]) == 0
    ledger, training = read_json(run / "ledger.json"), read_json(run / "manifest.json")["training"]
    assert ledger["fates"]["trained"] == 24
    assert ledger["fates"]["not_reached"] == training["rows_not_reached"] > 0
    assert ledger["tokens"]["not_reached"] == training["tokens_not_reached"]
    assert sum(ledger["fates"].values()) == 120


def test_chat_answers_on_stdout(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Piped prompts, one a line, get one answer each; the base model is there to compare."""
    import io

    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output", str(run)]) == 0
    capsys.readouterr()
    for flags in ([], ["--base"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("1: the box is red\n/new\n2: the hat is blue\n"))
        assert main(["chat", str(run), "--max-new-tokens", "8", *flags]) == 0
        assert capsys.readouterr().out.count("\n") >= 2


def test_a_row_that_cannot_be_a_demonstration_stops_the_run_before_it_begins(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every problem at once, no run directory; with --keep-going the row is written down and counted."""
    data = tmp_path / "demonstrations.jsonl"
    with data.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "who?", "completion": "  "}\n{"prompt": 3, "completion": "x"}\n')
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output", str(run)]) == 2
    err = capsys.readouterr().err
    assert f"{data}:121" in err and f"{data}:122" in err and "Traceback" not in err
    assert not run.exists()
    assert main(["train", str(recipe), "--output", str(run), "--keep-going"]) == 0
    assert len(read_jsonl(run / "rejected.jsonl")) == 2
    assert read_json(run / "ledger.json")["fates"]["invalid"] == 2


def test_ctrl_c_in_evaluation_keeps_what_is_done(recipe: Path, tmp_path: Path) -> None:
    """A real process, a real SIGINT: one sentence, status 130, the command to go on, and completions kept."""
    run = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert main(["train", str(recipe), "--output", str(run)]) == 0
    settings = (run / "recipe.resolved.yaml").read_text(encoding="utf-8")
    (run / "recipe.resolved.yaml").write_text(settings.replace("max_new_tokens: 12", "max_new_tokens: 400"))
    process = forked_python.Popen(
        [sys.executable, "-m", "sft", "evaluate", str(run)], stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not (run / "completions-B0.jsonl").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"go on with: sft evaluate {run}" in err and "Traceback" not in err
    assert not (run / "scorecard.json").exists()
    assert main(["evaluate", str(run)]) == 0
