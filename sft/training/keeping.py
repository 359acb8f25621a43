"""What a fit leaves on disk: checkpoints to go on from, and the fitted weights, whole or not at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open

from sft.checkpoints import latest_checkpoint, step_of
from sft.errors import RunError, TrainingError
from sft.recipes import Recipe
from sft.runs import Run, read_jsonl, write_jsonl
from sft.training.trainer import CloningTrainer

__all__ = ["amend", "latest_checkpoint", "rewind", "save"]


def amend(run: Run, recipe: Recipe) -> None:
    """Make the last checkpoint's learning rate the recipe's, where ``--allow-change`` has let it be another.

    The optimizer's and the schedule's state hold the old one, and it would win. Raises ``RunError`` where the
    optimizer is kept in parts (FSDP, DeepSpeed).
    """
    if not any(change["what"] == "recipe.training.learning_rate" for change in run.changes):
        return
    checkpoint = latest_checkpoint(run.checkpoints_path)
    if checkpoint is None:
        return
    file, schedule = checkpoint / "optimizer.pt", checkpoint / "scheduler.pt"
    if not file.exists():
        raise RunError(
            f"{checkpoint}: keeps the optimizer in parts, so training.learning_rate cannot change in it; put it back, "
            "or start a new run in another folder"
        )
    rate = recipe.training.learning_rate
    optimizer = torch.load(file, map_location="cpu", weights_only=True)
    schedules = torch.load(schedule, weights_only=True)
    if all(group["initial_lr"] == rate for group in optimizer["param_groups"]):
        return
    for group in optimizer["param_groups"]:
        group["lr"], group["initial_lr"] = group["lr"] * rate / group["initial_lr"], rate
    schedules["base_lrs"] = [rate for _ in schedules["base_lrs"]]
    for path, state in ((schedule, schedules), (file, optimizer)):  # the one that is looked at comes last
        scratch = path.with_name(f".{path.name}.tmp")
        torch.save(state, scratch)
        scratch.replace(path)


def rewind(run: Run, checkpoint: Path | None) -> float:
    """Drop log lines that a resumed run will write again; seconds spent up to the checkpoint."""
    step = step_of(checkpoint)
    rows = [row for row in read_jsonl(run.log_path) if row["step"] <= step] if run.log_path.exists() else []
    if run.log_path.exists():
        write_jsonl(run.log_path, rows)
    return max((row.get("wall_seconds", 0.0) for row in rows), default=0.0)


def save(trainer: CloningTrainer, run: Run, *, lora: bool) -> None:
    """Save the fitted weights and the tokenizer, whole or not at all."""
    final = run.adapter_path if lora else run.model_path
    scratch = final.with_name(f".{final.name}-unfinished")
    if trainer.is_world_process_zero():
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.model.config.use_cache = True  # the trainer has switched it off; whoever loads this generates
    trainer.save_model(str(scratch))
    if trainer.is_world_process_zero():
        for name in ("training_args.bin", "README.md"):  # the one names this machine, the other is a blank form
            (scratch / name).unlink(missing_ok=True)
        _check_saved(trainer, scratch, lora=lora)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    trainer.accelerator.wait_for_everyone()


def _check_saved(trainer: CloningTrainer, folder: Path, *, lora: bool) -> None:
    """Whoever loads ``folder`` gets what was fitted: engines have saved empty adapters without a word."""
    saved: dict[str, torch.Tensor] = {}
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                count += math.prod(opened.get_slice(name).get_shape())
                if lora:
                    saved[name] = opened.get_tensor(name)
    if lora and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        fitted = get_peft_model_state_dict(trainer.accelerator.unwrap_model(trainer.model))
        whole = saved.keys() == fitted.keys() and all(
            torch.equal(saved[name], tensor.detach().cpu()) for name, tensor in fitted.items()
        )
    else:  # parts of it are with other processes; names of a full model's weights may change on the way
        whole = count > 0 and count >= sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    if not whole:
        raise TrainingError(
            f"{folder}: what the trainer saved is not what was fitted; the last checkpoint is kept, so change "
            "the versions of transformers and peft to those in constraints.txt and go on with --resume"
        )
