"""DeepSpeed for real: ZeRO-2 and ZeRO-3 on CPUs over gloo, by the shipped launch files; ``make test-deepspeed``.

Nothing is put into anybody's place: DeepSpeed has an accelerator of its own for CPUs, which ``DS_ACCELERATOR`` names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from toy_checkpoints import cut_short
from toy_demonstrations import write_demonstrations
from toy_launches import launch

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")
pytest.importorskip("deepspeed", reason="DeepSpeed is not here: make test-deepspeed")

from safetensors.torch import load_file

from sft.runs.run import read_json, read_jsonl

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25}}
adapter: {adapter}
training:
  learning_rate: 1.0e-2
  max_steps: 9
  gradient_accumulation_steps: {accumulated}
  eval_steps: 3
  logging_steps: 1
  per_device_train_batch_size: 4
fidelity: {{max_prompts: 6, max_new_tokens: 6}}
"""
ADAPTERS = {"lora": "{r: 4}", "full": "{method: full}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Recipes for one process and for two, of whose steps each takes as many rows; and what one process makes of it."""
    made = tmp_path_factory.mktemp("deepspeed")
    data = write_demonstrations(made / "demonstrations.jsonl")
    for name, adapter in ADAPTERS.items():
        for processes in (1, 2):
            text = RECIPE.format(model=tiny_model, data=data, adapter=adapter, accumulated=4 // processes)
            (made / f"{name}-{processes}.yaml").write_text(text, encoding="utf-8")
        words = ["train", str(made / f"{name}-1.yaml"), "--output", str(made / f"{name}-one")]
        assert launch(words=words, watch=str(made / "watch"))["codes"] == [0]
    return made


def started(folder: Path, stage: int, *words: str, processes: int = 2, file: Path | None = None) -> tuple[int, str]:
    """Status and words of the line in the shipped file for this ``stage`` of ZeRO, or by another ``file``."""
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch",
            "--config_file", str(file or ROOT / "recipes" / "accelerate" / f"zero{stage}.yaml"),
            "--num_processes", str(processes), "-m", "sft", *words,
        ],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout


def assert_one_clone(one: Path, pair: Path) -> None:
    """Losses and every number of the clone; adapters of 40 bytes have been seen elsewhere."""
    losses = [
        [row[key] for row in read_jsonl(run / "log.jsonl") for key in ("loss", "eval_loss") if key in row]
        for run in (one, pair)
    ]
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    (name,) = [path.relative_to(one) for path in one.glob("[am]*/*.safetensors")]
    clones = [load_file(run / name) for run in (one, pair)]
    assert clones[0].keys() == clones[1].keys()
    for key, value in clones[0].items():
        assert clones[1][key].shape == value.shape and value.any()
        torch.testing.assert_close(clones[1][key], value, rtol=0, atol=1e-4)
    counted = [read_json(run / "manifest.json")["training"]["trainable_parameters"] for run in (one, pair)]
    assert counted[0] == counted[1] > 0


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A run of two processes by ZeRO-2."""
    status, said = started(folder, 2, "train", "lora-2.yaml", "--output", "pair")
    assert status == 0 and "saved     as fitted: loaded afresh" in said, said[-3000:]
    assert "every process holds the whole model" not in said
    return folder / "pair"


def assert_in_parts(run: Path) -> None:
    assert len(list((run / "checkpoints" / "checkpoint-9" / "global_step9").glob("*optim_states.pt"))) == 2


def test_zero_2_gives_the_clone_of_one(pair: Path, folder: Path) -> None:
    assert_in_parts(pair)
    assert_one_clone(folder / "lora-one", pair)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_zero_3_gives_the_clone_of_one_and_measures_it(kind: str, folder: Path) -> None:
    """Every fit was refused: of an embedding in parts PyTorch says that it has no rows. Then no clone was measured."""
    status, said = started(folder, 3, "run", f"{kind}-2.yaml", "--output", f"{kind}-3")
    assert status == 0 and "saved     as fitted: loaded afresh" in said, said[-3000:]
    assert_in_parts(folder / f"{kind}-3")
    assert_one_clone(folder / f"{kind}-one", folder / f"{kind}-3")
    assert read_json(folder / f"{kind}-3" / "scorecard.json")


def test_two_that_share_each_row_under_zero_2_give_the_clone_of_one(folder: Path) -> None:
    """The exchange is not DeepSpeed's, whose own takes gradients for others'; with ZeRO-3 rows have padding."""
    section = "parallelism_config:\n  parallelism_config_sp_size: 2\n"
    for stage in (2, 3):
        text = (ROOT / "recipes" / "accelerate" / f"zero{stage}.yaml").read_text(encoding="utf-8")
        (folder / f"zero{stage}-shared.yaml").write_text(text + section, encoding="utf-8")
    words = ["train", "lora-1.yaml", "--output", "shared"]
    status, said = started(folder, 2, *words, file=folder / "zero2-shared.yaml")
    assert status == 0, said[-3000:]
    assert read_json(folder / "shared" / "manifest.json")["launch"]["processes_per_row"] == 2
    assert_one_clone(folder / "lora-one", folder / "shared")
    status, said = started(folder, 3, *words[:3], "padded", file=folder / "zero3-shared.yaml")
    assert status and "rows have padding and cannot be cut, because no process has all weights under ZeRO-3" in said


def test_two_go_on_where_two_were_stopped(pair: Path, folder: Path) -> None:
    cut_short(pair, "resumed")
    status, said = started(folder, 2, "train", "lora-2.yaml", "--output", "resumed", "--resume")
    assert status == 0, said[-3000:]
    assert_one_clone(folder / "lora-one", folder / "resumed")


def test_another_launch_cannot_read_the_optimizer_and_says_so(pair: Path, folder: Path) -> None:
    """One process without DeepSpeed went on with a new optimizer, to another clone; the others ended in tracebacks."""
    cut_short(pair, "other")
    words = ["train", "lora-1.yaml", "--output", "other", "--resume", "--allow-change"]
    for stage, processes, here in ((2, 1, "1 with DeepSpeed"), (3, 2, "2 with ZeRO-3")):
        recipe = f"lora-{processes}.yaml"
        status, said = started(folder, stage, words[0], recipe, *words[2:], processes=processes)
        assert status and f"was saved by DeepSpeed among 2 processes, and this launch, {here}, cannot read it" in said
    alone = launch(
        words=[words[0], str(folder / words[1]), words[2], str(folder / "other"), *words[4:]],
        watch=str(folder / "watch"),
    )
    assert alone["codes"] == [2] and "launch 2 processes with recipes/accelerate/zero2.yaml, or" in alone["said"]
    manifest = read_json(folder / "other" / "manifest.json")
    assert manifest["launch"]["processes"] == 2 and not manifest.get("changes")


def test_deepspeed_cannot_read_the_optimizer_of_one(folder: Path) -> None:
    cut_short(folder / "lora-one", "whole")
    words = ["train", "lora-2.yaml", "--output", "whole", "--resume", "--allow-change"]
    status, said = started(folder, 2, *words)
    assert status and "was saved by one process, and this launch, 2 with DeepSpeed, cannot read it" in said
    assert "launch with recipes/accelerate/ddp.yaml" in said


def test_another_rate_is_refused(pair: Path, folder: Path) -> None:
    """DeepSpeed keeps rates of its own."""
    cut_short(pair, "rate")
    words = ["train", "lora-2.yaml", "--output", "rate", "--resume", "--allow-change"]
    status, said = started(folder, 2, *words, "--set", "training.learning_rate=2.0e-2")
    assert status and "sft: training.learning_rate cannot change in a checkpoint of DeepSpeed; put it back" in said
