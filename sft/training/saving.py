"""What a fit leaves on disk: checkpoints to go on from, and the fitted weights, whole or not at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open

from sft.errors import TrainingError
from sft.runs.checkpoints import choose, latest_checkpoint, put_aside, step_of
from sft.runs.processes import hand_on, is_main, say
from sft.runs.run import Run, read_jsonl, write_jsonl
from sft.training.trainer import CloningTrainer

__all__ = ["latest_checkpoint", "rewind", "save", "take_up"]


def take_up(run: Run) -> Path | None:
    """The checkpoint to go on from, the same in all processes; None where training begins at step 0.

    The first process chooses it, says which it passed over and why, and takes those away. Without a whole one
    training begins anew, for that gives the same clone, only later. Raises ``RunError``.
    """
    name = ""
    if is_main():
        try:
            choice = choose(run.checkpoints_path)
            if said := choice.in_words():
                say(f"resume    {said}")
            put_aside(choice)
            _date_changes(run, step_of(choice.path))
        except BaseException:
            hand_on(False)
            raise
        name = choice.path.name if choice.path else ""
    name = hand_on(name if is_main() else None)
    if name is False:
        raise SystemExit(2)  # the first process says why
    return run.checkpoints_path / name if name else None


def _date_changes(run: Run, step: int) -> None:
    """What ``--allow-change`` let be another holds from ``step`` at the latest, for the run goes on from there."""
    if any(change["step"] > step for change in run.changes):
        run.update_manifest(changes=[change | {"step": min(change["step"], step)} for change in run.changes])


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
        for damaged in run.checkpoints_path.glob("damaged-checkpoint-*"):  # nobody needs them any more
            shutil.rmtree(damaged, ignore_errors=True)
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
