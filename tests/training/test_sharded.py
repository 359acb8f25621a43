"""Weights, gradients and optimizer in parts (FSDP2), for real: on CPUs over gloo, started by the shipped launch file.

Accelerate shards on accelerators only; ``toys/sharded`` has it do on CPUs what it does there, and each process says
which parts it holds. What is launched is the README's line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import forked_python
import pytest
from repository import ROOT, TESTS
from toy_demonstrations import write_demonstrations
from toy_launches import launch

pytestmark = [pytest.mark.engine, pytest.mark.cluster]
torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from sft.cli import main
from sft.runs.run import Run, read_json, read_jsonl, write_json

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
adapter: {adapter}
training:
  {{learning_rate: 1.0e-2, max_steps: 12, eval_steps: 4, logging_steps: 1, per_device_train_batch_size: 6}}
fidelity: {{max_prompts: 6, max_new_tokens: 6}}
"""
ADAPTERS = {"lora": "{r: 4}", "full": "{method: full}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    data = write_demonstrations(made / "demonstrations.jsonl")
    for name, adapter in ADAPTERS.items():
        text = RECIPE.format(model=tiny_model, data=data, adapter=adapter)
        (made / f"{name}.yaml").write_text(text, encoding="utf-8")
    return made


def sharded(folder: Path, recipe: str, run: str, *words: str, processes: int) -> str:
    """The line of ``recipes/accelerate/fsdp2.yaml``; every process must have held a part of what is fitted."""
    parts = folder / f"{run}-parts-{processes}"
    parts.mkdir()
    done = forked_python.run(
        [
            sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(ROOT / "recipes" / "accelerate" / "fsdp2.yaml"), "--num_processes", str(processes),
            "-m", "sft", "train", f"{recipe}.yaml", "--output", run, *words,
        ],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join([str(TESTS / "toys" / "sharded"), str(ROOT)]),
            "SHARDED": str(parts), "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    held = [path.read_text(encoding="utf-8").splitlines() for path in sorted(parts.iterdir())]
    assert len(held) == processes
    for name, *shapes in (line.replace(", ", ",").split() for line in held[0]):
        whole, own = (tuple(int(size) for size in shape.strip("(),").split(",")) for shape in shapes)
        assert own[0] == -(-whole[0] // processes) and own[1:] == whole[1:], f"{name} is whole"
    return done.stdout


def losses(run: Path, key: str = "loss") -> list[float]:
    return [row[key] for row in read_jsonl(run / "log.jsonl") if key in row]


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A run of two processes, each with its parts."""
    said = sharded(folder, "lora", "pair", processes=2)
    assert "saved     as fitted: loaded afresh and merged" in said
    return folder / "pair"


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """The same rows a step by one process, whose weights are whole."""
    words = ["train", str(folder / "lora.yaml"), "--output", str(folder / "one")]
    words += ["--set", "training.per_device_train_batch_size=12"]
    assert launch(words=words, watch=str(folder / "watch"))["codes"] == [0]
    return folder / "one"


def assert_one_clone(first: Path, second: Path) -> None:
    """Losses and adapters, in which nothing is missing: empty ones, of 40 bytes, have been seen elsewhere."""
    assert len(losses(first)) == 12 and losses(second) == pytest.approx(losses(first), rel=1e-5)
    assert losses(second, "eval_loss") == pytest.approx(losses(first, "eval_loss"), rel=1e-5)
    adapters = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (first, second)]
    assert adapters[0].keys() == adapters[1].keys() and len(adapters[0]) == 28
    for name, value in adapters[0].items():
        assert adapters[1][name].shape == value.shape and value.numel() >= 128 and value.any()
        torch.testing.assert_close(adapters[1][name], value, rtol=0, atol=1e-4)


def test_two_processes_with_a_part_each_give_the_clone_of_one(one: Path, pair: Path) -> None:
    assert_one_clone(one, pair)


def test_three_processes_go_on_where_two_were_stopped(one: Path, pair: Path, folder: Path) -> None:
    """Refused until it is allowed; then the parts are cut anew, optimizer and all, and the clone is the same."""
    run = folder / "resumed"
    shutil.copytree(pair, run)
    shutil.rmtree(run / "adapter")
    shutil.rmtree(run / "checkpoints" / "checkpoint-12")
    manifest = read_json(run / "manifest.json")
    del manifest["training"]
    write_json(run / "manifest.json", manifest)
    words = ["--set", "training.per_device_train_batch_size=4", "--resume", "--allow-change"]
    said = sharded(folder, "lora", "resumed", *words, processes=3)
    assert "changed   launch.processes: 2 -> 3" in said
    noted = {row["what"]: row for row in Run.open(run).changes}
    assert (noted["launch.processes"]["to"], noted["launch.processes"]["step"]) == (3, 8)
    assert_one_clone(one, run)


def test_what_was_saved_is_measured_by_one_process(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(pair)]) == 0, capsys.readouterr().err
    assert read_json(pair / "scorecard.json")


def test_every_weight_fitted_in_parts_is_saved_whole(folder: Path, tiny_model: Path) -> None:
    said = sharded(folder, "full", "full", processes=2)
    assert "saved     as fitted: loaded afresh" in said
    base, tuned = (load_file(path / "model.safetensors") for path in (tiny_model, folder / "full" / "model"))
    assert {name: value.shape for name, value in tuned.items()} == {name: value.shape for name, value in base.items()}
    assert all((tuned[name] != value).any() for name, value in base.items())
    assert main(["evaluate", str(folder / "full")]) == 0
