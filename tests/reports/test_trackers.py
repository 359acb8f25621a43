"""What trackers are told of a measured clone, by the real packages where they are installed; all of it stays here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from known_scorecards import ALL

import sft
from sft.fidelity.guardrails import LENGTH
from sft.fidelity.scorecard import RUNGS, Guardrail
from sft.reports.trackers import TOLD, figures_of, tell
from sft.verbs.opened import OpenedRun


def test_figures_written_out() -> None:
    card = replace(ALL, verdict=replace(ALL.verdict, rung=RUNGS[2]))
    rail = Guardrail(LENGTH, card.scores_of("tuned")["length_ratio"], 1.25, "green", "")
    found = figures_of(replace(card, guardrails=(rail,), gains=card.gains[:1]))
    assert found == {
        "fidelity/tuned/chrf": 43.0,
        "fidelity/tuned/chrf/low": 42.0,
        "fidelity/tuned/chrf/high": 44.0,
        f"fidelity/lead/{card.gains[0].floor}": 5.0,
        f"fidelity/lead/{card.gains[0].floor}/low": 3.0,
        f"fidelity/lead/{card.gains[0].floor}/high": 7.0,
        "fidelity/guardrail/length": 1.01,
        "fidelity/guardrail/length/low": 0.96,
        "fidelity/guardrail/length/high": 1.06,
        "fidelity/rung": 2.0,
    }


def measured(folder: Path) -> OpenedRun:
    rows = [{"prompt": f"Say {n}", "completion": f"it is {n}", "reference": f"It is {n}."} for n in range(36)]
    sft.score(rows, output=folder)
    return sft.open_run(folder)


def test_a_tracker_that_fails_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "wandb", None)
    tell(run, run.scorecard, ("none", "wandb"), None, None)
    assert "wandb took no fidelity: ModuleNotFoundError" in capsys.readouterr().err


READ = {
    "tensorboard": "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
    "e = E(str(next(p for p in pathlib.Path('run').rglob('events.*')).parent)); e.Reload()\n"
    "found = {n: e.Scalars(n)[-1].value for n in e.Tags()['scalars']}",
    "mlflow": "import mlflow\nfound = mlflow.search_runs(filter_string=\"attributes.run_name = 'mine'\", "
    "output_format='list')[0].data.metrics",
    "trackio": "import trackio\nfound = {}\n"
    "for row in trackio.SQLiteStorage.get_logs('huggingface', 'mine'): found |= row",
    "wandb": "found = {}\nfor p in pathlib.Path('wandb').rglob('*.wandb'): found['bytes'] = p.stat().st_size\n"
    "found['fidelity/tuned/chrf'] = wanted if b'fidelity/tuned/chrf' in p.read_bytes() else 0",
}


@pytest.mark.parametrize("name", TOLD)
def test_a_real_tracker_keeps_it(name: str, tmp_path: Path) -> None:
    """In a process of its own: trackers start threads and servers. wandb is offline, mlflow and trackio write files."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    run = measured(tmp_path / "run")
    wanted = run.scorecard.scores_of("tuned")["chrf"].value
    code = (
        "import pathlib, json, sft\nfrom sft.reports.trackers import TOLD\n"
        f"run = sft.open_run('run')\nTOLD[{name!r}](run, run.scorecard, 'mine', None)\nwanted = {wanted!r}\n"
        f"{READ[name]}\nprint('\\nfound:' + json.dumps(found, default=str))"
    )
    offline = {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HOME": str(tmp_path),
    }
    import os

    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.rpartition("found:")[2])
    assert float(found["fidelity/tuned/chrf"]) == pytest.approx(wanted, rel=1e-5)
