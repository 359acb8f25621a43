"""SIGTERM is a first Ctrl-C: real commands and launchers, stopped as batch systems, containers and hands do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked_python
import pytest
from repository import ROOT

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from toy_demonstrations import write_demonstrations

from sft.cli import main
from sft.runs.checkpoints import fault_of, latest_checkpoint
from sft.runs.run import read_json, read_jsonl

LAUNCH = (
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--config_file",
    str(ROOT / "recipes/accelerate/cpu.yaml"),
)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {{r: 4}}
training:
  learning_rate: 1.0e-2
  lr_scheduler_type: constant
  max_steps: 600
  eval_steps: 300
  logging_steps: 1
  per_device_train_batch_size: 4
fidelity: {{max_prompts: 6, max_new_tokens: 6}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    data = write_demonstrations(folder / "demonstrations.jsonl")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(model=tiny_model, data=data), encoding="utf-8")
    return path


@contextmanager
def started(
    *words: str, prefix: tuple[str, ...] = (sys.executable,), start: Callable[..., Any] = subprocess.Popen
) -> Iterator[subprocess.Popen[str]]:
    """``sft WORDS`` in a session, and so a process group, of its own; nothing of it is left behind."""
    process = start(
        [*prefix, "-m", "sft", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(ready: Callable[[], object], process: subprocess.Popen[str], seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not ready():
        time.sleep(0.02)


def steps_logged(run: Path, count: int) -> Callable[[], bool]:
    return lambda: (run / "log.jsonl").exists() and len(read_jsonl(run / "log.jsonl")) >= count


def outcomes(run: Path) -> list[str]:
    return [session["outcome"] for session in read_json(run / "manifest.json")["sessions"]]


# -- one process ----------------------------------------------------------------------------------------------


def test_sigterm_in_training_saves_a_checkpoint_and_the_command_it_prints_goes_on(recipe: Path, tmp_path: Path) -> None:
    """It died without a word. ``timeout`` sends the signal twice, to the process and to its group."""
    run = tmp_path / "run"
    words = ["train", str(recipe), "--output", str(run)]
    with started(*words, start=forked_python.Popen) as process:
        wait_until(steps_logged(run, 3), process)
        os.kill(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 143 and not out and "Traceback" not in err, err
    assert "stopping after this step; SIGTERM again stops at once" in err
    said = re.fullmatch(
        rf"sft: {run}: stopped at step (\d+), checkpoint saved; go on with: sft (.*)", err.splitlines()[-1]
    )
    assert said is not None, err
    saved = latest_checkpoint(run / "checkpoints")
    assert saved is not None and saved.name == f"checkpoint-{said[1]}" and outcomes(run) == ["stopped by Terminated"]
    assert said[2].split() == [*words, "--resume"]
    more = ["--set", f"training.max_steps={int(said[1]) + 1}", "--allow-change"]
    assert main([*said[2].split(), *more]) == 0
    assert len([row for row in read_jsonl(run / "log.jsonl") if "loss" in row]) == int(said[1]) + 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_outside_a_fit_a_signal_ends_with_one_sentence(number: int, status: int, tmp_path: Path) -> None:
    """Reading a large file, nothing half-written: the report it was to write is not there."""
    data = large(tmp_path)
    with started("check", str(data), "--rejected", str(tmp_path / "rejected.jsonl")) as process:
        is_reading = lambda: str(data) in open_files(process.pid)  # noqa: E731
        wait_until(is_reading, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=200)
    assert process.returncode == status, err
    assert out == "" and err.strip() == "sft: stopped"
    assert [path.name for path in tmp_path.iterdir()] == ["large.jsonl"]


def large(folder: Path) -> Path:
    """Demonstrations that take seconds to check."""
    rows = ({"prompt": f"How are you, {n}?", "completion": f"{n}: {'x' * 300}"} for n in range(20_000))
    path = folder / "large.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found


def test_a_signal_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    """``nohup`` starts a process that outlives its terminal."""
    data = large(tmp_path)
    with started("check", str(data), prefix=("nohup", sys.executable)) as process:
        wait_until(lambda: str(data) in open_files(process.pid), process)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and "Nothing to mend" in out, err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is told that its parent has ended")
def test_sigterm_to_the_launcher_of_one_process_reaches_the_fit(recipe: Path, tmp_path: Path) -> None:
    """``accelerate launch`` of one process hands nothing on: it was gone, and the fit went on behind its back."""
    run = tmp_path / "run"
    prefix = (*LAUNCH[:-1], str(ROOT / "recipes/accelerate/one-gpu.yaml"))
    with started("train", str(recipe), "--output", str(run), prefix=prefix) as process:
        wait_until(steps_logged(run, 2), process)
        process.terminate()
        _, err = process.communicate(timeout=200)  # until the last of the two has closed what it writes to
    assert "stopped at step" in err and "checkpoint saved; go on with: sft train " in err
    assert latest_checkpoint(run / "checkpoints") is not None and outcomes(run) == ["stopped by Terminated"]


# -- several processes ----------------------------------------------------------------------------------------


def launched(recipe: Path, run: Path, *words: str, start: Callable[..., Any]) -> Any:
    prefix = (*LAUNCH, "--num_processes", "2")
    return started("train", str(recipe), "--output", str(run), *words, prefix=prefix, start=start)


@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGTERM, "launcher"), (signal.SIGTERM, "group"), (signal.SIGINT, "group")],
    ids=["SIGTERM to the launcher", "SIGTERM to all", "Ctrl-C"],
)  # fmt: skip
def test_several_processes_save_one_checkpoint(number: int, to: str, recipe: Path, tmp_path: Path) -> None:
    """Each hears it at a moment of its own, once or twice; they saved nothing. The launcher hands on what it gets.

    Once all three are started as users start them, which takes 20 s of a processor; else they are forked.
    """
    run = tmp_path / "run"
    with launched(recipe, run, start=subprocess.Popen if to == "launcher" else forked_python.Popen) as process:
        wait_until(steps_logged(run, 2), process)
        began = time.monotonic()
        if to == "group":
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
        _, err = process.communicate(timeout=200)
        seconds = time.monotonic() - began
    said = [line for line in err.splitlines() if line.startswith("sft: ")]
    assert len(said) == 1, err
    found = re.fullmatch(
        rf"sft: {run}: stopped at step (\d+), checkpoint saved; go on with: accelerate launch "
        rf"\(its options as before\) -m (sft train {recipe} --output {run} --resume)",
        said[0],
    )
    assert found is not None, said
    (saved,) = (run / "checkpoints").glob("checkpoint-*")
    assert saved.name == f"checkpoint-{found[1]}" and fault_of(saved) is None
    assert {path.name for path in saved.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert outcomes(run) == [f"stopped by {'KeyboardInterrupt' if number == signal.SIGINT else 'Terminated'}"]
    assert seconds < 30, "or the launcher would have killed them"
    if to == "launcher":  # once is enough: what goes on is the same
        steps = int(found[1]) + 2
        assert_goes_on(recipe, run, tmp_path / "one", steps)


def assert_goes_on(recipe: Path, run: Path, alone: Path, steps: int) -> None:
    """With both processes again, to what one process fits that was never stopped, in batches that are the same."""
    settings = ["--set", f"training.max_steps={steps}", "--set", "training.eval_steps=300"]
    with launched(recipe, run, "--resume", "--allow-change", *settings, start=forked_python.Popen) as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert (
        main(
            ["train", str(recipe), "--output", str(alone), *settings, "--set", "training.gradient_accumulation_steps=2"]
        )
        == 0
    )
    one, two = ([row["loss"] for row in read_jsonl(folder / "log.jsonl") if "loss" in row] for folder in (alone, run))
    assert two == pytest.approx(one, abs=1e-4) and len(one) == steps
    first, second = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (alone, run))
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
