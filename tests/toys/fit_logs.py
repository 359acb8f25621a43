"""What two fits have in common, to the last bit: logs, adapters, losses by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from toy_fits import demonstrations, fit, recipe_for

from sft.training.trainer import CloningTrainer

#: A run whose checkpoints fall between its log lines, over several epochs, with dropout: nothing is easy to resume.
UNEVEN = (
    "training.max_steps=9",
    "training.eval_steps=2",
    "training.logging_steps=3",
    "training.per_device_train_batch_size=3",
    "training.gradient_accumulation_steps=2",
    "adapter.lora_dropout=0.1",
)


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The log without what the clock wrote."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


def values(folder: Path, key: str) -> list[float]:
    return [row[key] for row in log_of(folder) if key in row]


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_same(one: Path, other: Path) -> None:
    """Two runs logged the same numbers and ended with the same adapter, to the last bit."""
    assert log_of(one) == log_of(other)
    first, second = adapter_of(one), adapter_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@torch.inference_mode()
def loss_by_hand(model: Any, rows: list[Any]) -> float:
    """Nats per supervised token: each row alone, all its logits, the tokens after the prompt picked out by index."""
    nats, tokens = 0.0, 0
    for _, rendered in rows:
        prompt = len(rendered.prompt_ids)
        logits = model(input_ids=torch.tensor([rendered.input_ids])).logits[0]
        wanted = torch.tensor(rendered.completion_ids)
        nats += float(cross_entropy(logits[prompt - 1 : -1], wanted, reduction="sum"))
        tokens += len(wanted)
    return nats / tokens


class Died(RuntimeError):
    """Stands for a crash; see :func:`die`."""


def die(folder: Path, recipe: Any, method: str, step: int, **given: Any) -> None:
    """Fit, and crash when the trainer's ``method`` is called at ``step``: a trainer of the test's own, by the door."""

    def cut(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= step:
            raise Died(method)
        return getattr(super(dying, self), method)(*args, **kwargs)

    dying = type("Dying", (CloningTrainer,), {method: cut})
    with pytest.raises(Died):
        fit(recipe, folder, trainer_class=dying, **given)


def conflicting(tiny_model: Path, *overrides: str, steps: int = 40) -> tuple[Any, dict[str, Any]]:
    """A recipe and demonstrations whose training and validation experts disagree: fitting one unlearns the other."""
    recipe = recipe_for(
        tiny_model, f"training.max_steps={steps}", "training.eval_steps=1", "training.lr_scheduler_type=constant",
        *overrides,
    )  # fmt: skip
    return recipe, {
        "train": demonstrations(8, completion="the expert wrote a short answer"),
        "validation": demonstrations(4, first=101, completion="thank you, the model is fine"),
    }


def without_clock(fitted: Any) -> dict[str, Any]:
    return {name: getattr(fitted, name) for name in fitted.__dataclass_fields__ if name != "wall_seconds"}
