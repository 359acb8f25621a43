"""`sft plan` against the fit that follows: the same steps, rows, tokens and batches; sizes against outside values."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked_python
import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from toy_demonstrations import write_demonstrations
from toy_fits import demonstrations, fit, recipe_for, renderer_for, rows_for

from sft.cli import main
from sft.errors import TrainingError
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.machine import Machine
from sft.runs.run import read_json
from sft.training.plan import costs, rehearsal
from sft.training.plan.parts import Batch, Work
from sft.training.sequences import IGNORED
from sft.training.trainer import CloningTrainer

COUNTS = {"train": 12, "validation": 4, "test": 0}


def counted(recipe: Recipe, folder: Path, rows: int = 12) -> Work:
    return rehearsal.count(
        recipe, rows_for(recipe, demonstrations(rows)), rows_for(recipe, demonstrations(4, first=101)),
        base=source_of(recipe.model), renderer=renderer_for(recipe), scratch=folder, rows=COUNTS, too_long=0,
        bf16=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": -1, "num_train_epochs": 2},
        {"max_steps": -1, "gradient_accumulation_steps": 2},
        {"max_steps": 2, "train_sampling_strategy": "group_by_length"},
        {"max_steps": -1, "packing": True, "max_length": 96, "per_device_train_batch_size": 2},
        {"max_steps": -1, "neftune_noise_alpha": 5.0},
    ],
    ids=["epochs", "accumulated", "by length", "packed", "padded"],
)
def test_what_is_counted_is_what_the_fit_then_does(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Steps, passes, rows, positions, padding and supervised tokens, recounted from the tensors of a real fit."""
    met: list[dict[str, Any]] = []

    class Recording(CloningTrainer):
        """Keeps every batch that reaches the loss."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            met.append(dict(inputs))
            return super().compute_loss(model, inputs, *args, **kwargs)

    recipe = recipe_for(tiny_model, **settings)
    work = counted(recipe, tmp_path / "count")
    fitted = fit(recipe, tmp_path / "run", trainer_class=Recording)
    assert work.steps == fitted.steps
    assert work.passes == len(met)
    by_hand = []
    for inputs in met[: len(work.taken)]:
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        by_hand.append(
            (len(inputs["row"]), inputs["input_ids"].numel(), int((mask == 0).sum()),
             int((inputs["labels"] != IGNORED).sum()))
        )  # fmt: skip
    planned = [(b.rows, b.slots, b.padding, b.supervised) for b in work.taken]
    if settings.get("train_sampling_strategy") is None:  # grouping draws anew, after the adapter's own draws
        assert planned == by_hand
    rows = rows_for(recipe, demonstrations(12))
    assert work.tokens == {
        "prompt": sum(len(r.prompt_ids) for _, r in rows),
        "completion": sum(len(r.completion_ids) for _, r in rows),
    }
    if settings.get("neftune_noise_alpha"):
        assert work.padding > 0, "rows of different lengths with padding"


def test_looks_and_checkpoints_are_those_of_the_fit(tiny_model: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_model, max_steps=7, eval_steps=3)
    work = counted(recipe, tmp_path / "count")
    fit(recipe, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert work.validation_passes == sum("eval_loss" in row for row in log) == 3
    assert work.checkpoints == 3


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_outline_is_as_large_as_the_model(tiny_model: Path, tmp_path: Path, method: str) -> None:
    """LoRA of rank r adds r (inputs + outputs) to every linear layer it sits on; full fits every weight, tied once."""
    recipe = recipe_for(tiny_model, method=method, max_steps=1)
    made = costs.model_of(recipe, source_of(recipe.model))
    fitted = fit(recipe, tmp_path / "run")
    assert (made.parameters, made.trainable) == (fitted.parameters, fitted.trainable_parameters)
    if method == "lora":
        hidden, wide, keys = 64, 128, 32
        sides = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden), (hidden, wide), (hidden, wide),
                 (wide, hidden)]  # fmt: skip
        assert made.trainable == 2 * sum(4 * (a + b) for a, b in sides)
    assert made.trainable_bytes == made.trainable * 4


@pytest.mark.parametrize(("method", "checkpointing"), [("lora", False), ("full", False), ("lora", True)])
def test_a_rehearsal_holds_what_a_fit_holds(tiny_model: Path, tmp_path: Path, method: str, checkpointing: bool) -> None:
    """Sizes as autograd and the optimizer have them, beside the formula; a checkpoint and a clone were written."""
    recipe = recipe_for(tiny_model, method=method, gradient_checkpointing=checkpointing, per_device_train_batch_size=6)
    found = rehearsal.rehearse(
        recipe, rows_for(recipe, demonstrations(24)), rows_for(recipe, demonstrations(4, first=101)),
        base=source_of(recipe.model), renderer=renderer_for(recipe), scratch=tmp_path, rows=COUNTS, too_long=0,
        bf16=False, seconds=5,
    )  # fmt: skip
    model, settings = costs.model_of(recipe, source_of(recipe.model)), costs.fit_of(recipe)
    weights, gradients, optimizer = costs.certain_bytes(model, settings)
    assert (found.weights, found.gradients) == (weights, gradients)
    assert optimizer <= found.optimizer <= optimizer + 1000, "and a step count for every tensor"
    assert found.work is not None
    computed = costs.estimate(model, settings, found.work.longest)
    assert found.held_logits == computed.logits / 2
    held = found.held - found.held_logits
    assert held <= 1.35 * computed.activations
    inputs = found.work.longest.slots * 64 * 4 * 2
    assert held >= (inputs if checkpointing else 0.65 * computed.activations), "a checkpoint is a layer's input"
    assert found.seconds and all(0 < second < 5 for second in found.seconds)
    assert found.batches[0] == found.work.longest
    assert found.checkpoint_bytes > gradients + optimizer
    assert found.clone_bytes >= gradients
    assert found.peak > found.weights + found.gradients + found.optimizer


def test_plan_prints_a_table_or_json_and_writes_nothing(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, probe and all: the run that follows has these steps, rows and tokens."""
    monkeypatch.chdir(tmp_path)
    data = write_demonstrations(tmp_path / "x.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model:\n  name: {tiny_model}\ndemonstrations:\n  path: {data}\nsplit:\n  near_duplicates: remove\n"
        "training:\n  num_train_epochs: 1\n",
        encoding="utf-8",
    )
    there = sorted(tmp_path.iterdir())
    monkeypatch.setattr("sys.executable", forked_python.executable())
    assert main(["plan", str(recipe), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["plan", str(recipe), "--no-probe"]) == 0
    text = capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == there
    assert found["measured"] and found["fits"] and 0 < found["seconds"]["total"] < 300
    assert "not measured" in text and f"{found['rows']['train']} train" in text and "Fits: " in text
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 0
    manifest, ledger = read_json(tmp_path / "run" / "manifest.json"), read_json(tmp_path / "run" / "ledger.json")
    assert manifest["training"]["steps"] == found["steps"]
    assert ledger["fates"]["trained"] == found["rows"]["train"]
    assert ledger["tokens"]["trained"] == found["tokens"]


# -- machines that are too small --------------------------------------------------------------------------


def test_what_cannot_fit_is_refused_before_training(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of some hundred terabytes: one sentence, and no folder is left."""
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    giant = {"hidden_size": 1 << 17, "intermediate_size": 1 << 19, "num_hidden_layers": 100, "head_dim": 1 << 15}
    config = json.loads((base / "config.json").read_text(encoding="utf-8")) | giant
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    data = write_demonstrations(tmp_path / "x.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model:\n  name: {base}\ndemonstrations:\n  path: {data}\nsplit:\n  near_duplicates: remove\n"
        "adapter:\n  method: full\n",
        encoding="utf-8",
    )
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot fit: weights, gradients and optimizer alone take" in said and "choose a smaller model" in said
    assert not (tmp_path / "run").exists()


def test_the_setting_that_would_fit_is_named_and_does(tiny_model: Path) -> None:
    """Machines from large to small, planted: each is told the first setting with which the fit is small enough."""
    recipe = recipe_for(tiny_model, method="full", per_device_train_batch_size=8, max_length=256)
    settings, model = costs.fit_of(recipe), costs.model_of(recipe, source_of(recipe.model))
    batch = Batch(8, 8 * 256, 0, 8 * 256, 8 * 128, 8 * 256**2)
    peak = costs.estimate(model, settings, batch, device="mps").peak
    named = []
    for share in (0.99, 0.6, 0.3, 0.1, 0.05):
        remedy = costs.remedy_for(recipe, source_of(recipe.model), settings, batch, int(peak * share), device="mps")
        assert remedy.peak <= peak * share
        named.append(list(remedy.settings))
    assert named[0][0] == "training.per_device_train_batch_size"
    assert all(len(a) <= len(b) for a, b in pairwise(named)), named
    assert not costs.remedy_for(recipe, source_of(recipe.model), settings, batch, 1000, device="mps").settings


def test_only_what_is_certain_is_refused(tiny_model: Path) -> None:
    """Weights, gradients and two states: 16 bytes a parameter; one byte less is refused, that much is not."""
    recipe = recipe_for(tiny_model, method="full")
    model = costs.model_of(recipe, source_of(recipe.model))
    needed = sum(costs.certain_bytes(model, costs.fit_of(recipe)))
    assert needed - model.parameters * 16 in range(0, 1000), "buffers aside"
    here = Machine("cuda", needed, 0, None)
    costs.refuse_what_cannot_fit(recipe, source_of(recipe.model), here)
    with pytest.raises(TrainingError, match=r"cannot fit: .* it would with --set adapter\.method=lora"):
        costs.refuse_what_cannot_fit(recipe, source_of(recipe.model), replace(here, memory=needed - 1))
    costs.refuse_what_cannot_fit(recipe, source_of(recipe.model), replace(here, memory=None))
