"""Fitting the policy: TRL's ``SFTTrainer`` on ids and labels that are ready, and nothing left to its defaults.

The only module that knows trl and peft's training side. What is changed in the trainer, and why:

- the loss is computed at supervised positions only, on the CPU too (same value, much less work);
- the validation loss is a mean over tokens, so batch size and process count cannot change it;
- a loss that is not finite stops the run and names the step and the rows;
- no model card, progress line or hub call is written behind our back.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from sft.demonstrations import Demonstration
from sft.errors import TrainingError
from sft.policies import accelerator_computes_bf16, base_weights, default_device, quiet_engine, supervised_only
from sft.recipes import Recipe, lora_arguments, training_arguments
from sft.rendering import Rendered, Renderer
from sft.runs import Run, open_append, read_jsonl, write_jsonl

__all__ = ["Fitted", "Interrupted", "latest_checkpoint", "train"]

IGNORED = -100  # the label of a position that is not supervised, as every Hugging Face loss reads it

Rows = Sequence[tuple[Demonstration, Rendered]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a finished fit amounts to. Losses are nats per supervised token; ``eval_loss`` is the best one."""

    steps: int
    best_step: int | None
    train_loss: float
    eval_loss: float | None
    supervised_tokens: int
    trainable_parameters: int
    parameters: int
    wall_seconds: float


class Interrupted(TrainingError):
    """Training was stopped by Ctrl-C after saving a checkpoint."""


def labels_of(rendered: Rendered) -> list[int]:
    """The id at every supervised position, :data:`IGNORED` elsewhere."""
    return [
        token if keep else IGNORED for token, keep in zip(rendered.input_ids, rendered.completion_mask, strict=True)
    ]


def _dataset(rows: Rows) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [list(rendered.input_ids) for _, rendered in rows],
            "labels": [labels_of(rendered) for _, rendered in rows],
            "row": list(range(len(rows))),
            "length": [len(rendered) for _, rendered in rows],
        }
    )


@dataclass(frozen=True, slots=True)
class Collator:
    """Rows to right-padded tensors ``(batch, longest)``; ``row`` says which demonstrations are in the batch."""

    filler: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad and stack; labels of padding are ignored."""
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, filler: int) -> torch.Tensor:
            return torch.tensor([row[key] + [filler] * (longest - len(row[key])) for row in rows])

        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        return {
            "input_ids": padded("input_ids", self.filler),
            "labels": padded("labels", IGNORED),
            "attention_mask": (torch.arange(longest) < lengths.unsqueeze(1)).long(),
            "row": torch.tensor([row["row"] for row in rows]),
        }


class CloningTrainer(SFTTrainer):
    """``SFTTrainer`` with the loss, the validation and the silence described above."""

    demonstrations: Sequence[Demonstration] = ()

    def _nats(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """-log p of every supervised token of the batch, and the row (0..batch-1) each belongs to."""
        labels = inputs["labels"][:, 1:]
        predicted = torch.nn.functional.pad(labels != IGNORED, (0, 1))
        bare = self.accelerator.unwrap_model(model)
        # Rows are padded on the right and attention is causal: no real token ever sees padding, and without a
        # mask attention takes its faster path. Elsewhere TRL's own collation rules hold.
        with supervised_only(bare, predicted):
            logits = model(input_ids=inputs["input_ids"], use_cache=False).logits[0]
        targets = labels[labels != IGNORED].to(logits.device)
        return cross_entropy(logits.float(), targets, reduction="none"), predicted.nonzero()[:, 0]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean nats per supervised token of the (accumulated) batch. Raises ``TrainingError`` if not finite."""
        rows = inputs.pop("row").tolist()
        if inputs["input_ids"].device.type == "cuda":  # TRL's kernel scores supervised positions only, in tiles
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        else:
            nats, _ = self._nats(model, inputs)
            loss = nats.sum() / (len(nats) if num_items_in_batch is None else num_items_in_batch)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
        value = loss[0] if return_outputs else loss
        if not torch.isfinite(value):
            raise TrainingError(self._not_finite("loss", float(value), rows))
        return loss

    def _not_finite(self, what: str, value: float, rows: Sequence[int] = ()) -> str:
        sources = [self.demonstrations[row].source for row in rows]
        where = ", ".join(f"{s.file}:{s.line}" for s in sources if s is not None)
        on = f" on the rows {where}" if where else ""
        return (
            f"step {self.state.global_step + 1}: the {what} is {value}{on}; nothing further was trained or saved "
            "(lower training.learning_rate, or look at those rows)"
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss as nats per supervised token, whatever the batch size and the number of processes."""
        loader = self.get_eval_dataloader(eval_dataset)
        model = self.model_wrapped
        model.eval()
        nats, tokens = 0.0, 0
        for inputs in loader:
            inputs = self._prepare_inputs(inputs)
            inputs.pop("row")
            with torch.no_grad(), self.compute_loss_context_manager():
                each, owner = self._nats(model, inputs)
            size = len(inputs["input_ids"])
            per_row = torch.zeros(size, dtype=torch.float64, device="cpu").index_add_(
                0, owner.cpu(), each.double().cpu()
            )
            counts = (inputs["labels"][:, 1:] != IGNORED).sum(1)
            # gather_for_metrics drops the rows that were repeated to fill the last batch of every process.
            gathered = self.accelerator.gather_for_metrics((per_row.float().to(counts.device), counts))
            nats += float(gathered[0].double().sum())
            tokens += int(gathered[1].sum())
        metrics = {f"{metric_key_prefix}_loss": nats / max(tokens, 1)}
        if not math.isfinite(metrics[f"{metric_key_prefix}_loss"]):
            raise TrainingError(self._not_finite("validation loss", nats))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the card is made from the run, with its figures."""


class Record(TrainerCallback):
    """Writes every logged line to ``log.jsonl``, shows progress on stderr, and stops on values that are not finite."""

    def __init__(self, run: Run | None, seconds_before: float) -> None:
        self.run, self.seconds_before = run, seconds_before
        self.began = time.monotonic()
        self.bar: tqdm[Any] | None = None

    @property
    def seconds(self) -> float:
        """Seconds spent fitting, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step where training begins."""
        self.began = time.monotonic()
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="train", unit="step", file=sys.stderr
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append the line; a gradient that is not finite ends the run."""
        values = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if not math.isfinite(values.get("grad_norm", 0.0)):
            raise TrainingError(
                f"step {state.global_step}: the gradient's norm is {values['grad_norm']}; "
                "lower training.learning_rate, or look at the rows of that step"
            )
        shown = values.get("loss", values.get("eval_loss"))
        if self.bar is not None and shown is not None:
            self.bar.set_postfix_str(f"{'loss' if 'loss' in values else 'validation loss'} {shown:.3f}")
        if state.is_world_process_zero and self.run is not None and ("loss" in values or "eval_loss" in values):
            kept = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch")
            row = {"step": state.global_step} | {k: values[k] for k in kept if k in values}
            with open_append(self.run.log_path) as log:
                log.append(row | {"wall_seconds": round(self.seconds, 3)})


class Interruption(TrainerCallback):
    """Ctrl-C ends the current step, saves a checkpoint and stops; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("\nstopping after this step; Ctrl-C again stops at once\n")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT inside; elsewhere than in the main thread it stays as it is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if asked to."""
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True


def latest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; ones that a crash cut short are removed.

    The trainer writes ``trainer_state.json`` last, so a checkpoint is whole if that file is.
    """
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            whole = state["global_step"] == int(number)
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if whole:
            found.append((int(number), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def _policy_to_fit(recipe: Recipe, renderer: Renderer) -> PreTrainedModel | PeftModel:
    """The base model with what is to be fitted; adapters are initialised from the recipe's seed."""
    lora = lora_arguments(recipe)
    # Full fine-tuning keeps float32 master weights; under an adapter the frozen base may be narrow.
    model = base_weights(recipe, dtype="float32" if lora is None and recipe.model.dtype == "auto" else None)
    model.config.use_cache = False
    model.config.get_text_config().pad_token_id = renderer.pad_token_id
    set_seed(recipe.training.seed)
    if lora is None:
        return model
    try:
        return get_peft_model(model, LoraConfig(**lora))
    except ValueError as error:
        raise TrainingError(f"adapter: {' '.join(str(error).split())}; correct the recipe's adapter section") from error


def train(
    recipe: Recipe, training: Rows, validation: Rows, *, renderer: Renderer, run: Run, resume: bool = False
) -> Fitted:
    """Fit the policy to ``training``, choose the checkpoint on ``validation``, and save it into ``run``.

    Writes ``log.jsonl``, ``checkpoints/`` and, at the end and all at once, ``adapter/`` or ``model/``.
    With ``resume`` it goes on from the last whole checkpoint and gives what the run never stopped would have given.
    Raises ``TrainingError``; :class:`Interrupted` after Ctrl-C.
    """
    if not training:
        raise TrainingError("there is no demonstration left to train on; see the ledger for where they went")
    arguments = SFTConfig(
        **training_arguments(recipe, bf16=accelerator_computes_bf16(), validation=bool(validation)),
        output_dir=str(run.checkpoints_path),
        disable_tqdm=True,
        use_cpu=default_device().type == "cpu",
    )
    model = _policy_to_fit(recipe, renderer)
    datasets = _dataset(training), _dataset(validation) if validation else None
    checkpoint = latest_checkpoint(run.checkpoints_path) if resume else None
    seconds_before = _rewind(run, checkpoint) if arguments.process_index == 0 else 0.0
    record, interruption = Record(run, seconds_before), Interruption()
    callbacks: list[TrainerCallback] = [record, interruption]
    if (patience := recipe.training.early_stopping_patience) is not None and validation:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=patience))
    with quiet_engine():
        trainer = CloningTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets[0],
            eval_dataset=datasets[1],
            processing_class=renderer.tokenizer,
            data_collator=Collator(renderer.pad_token_id),
            callbacks=callbacks,
        )
        trainer.demonstrations = [demonstration for demonstration, _ in training]
        trainer.remove_callback(ProgressCallback)
        for callback in list(trainer.callback_handler.callbacks):
            if type(callback).__name__ == "PrinterCallback":
                trainer.remove_callback(callback)
        _check_engine(trainer, datasets[0])
        with interruption.listening():
            outcome = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if interruption.asked and trainer.state.global_step < trainer.state.max_steps:
            raise Interrupted(f"{run.path}: stopped at step {trainer.state.global_step}, checkpoint saved")
        _save(trainer, run, lora=recipe.adapter.method != "full")
    best = trainer.state.best_global_step or None
    return Fitted(
        steps=trainer.state.global_step,
        best_step=best,
        train_loss=float(outcome.training_loss),
        eval_loss=trainer.state.best_metric,
        supervised_tokens=sum(sum(rendered.completion_mask) for _, rendered in training),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters=sum(p.numel() for p in model.parameters()),
        wall_seconds=round(record.seconds, 3),
    )


def _check_engine(trainer: SFTTrainer, handed: Dataset) -> None:
    """What the trainer will train on is exactly what was rendered: same rows, ids and labels."""
    kept = trainer.train_dataset
    if kept is handed:
        return
    for column in ("input_ids", "labels"):
        if column not in kept.column_names or list(kept[column]) != list(handed[column]):
            raise TrainingError(
                f"the trainer changed '{column}' of the demonstrations it was handed; "
                "this version of trl does something unforeseen, so nothing was trained (see constraints.txt)"
            )


def _rewind(run: Run, checkpoint: Path | None) -> float:
    """Drop log lines that a resumed run will write again; seconds spent up to the checkpoint."""
    step = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    rows = [row for row in read_jsonl(run.log_path) if row["step"] <= step] if run.log_path.exists() else []
    if run.log_path.exists():
        write_jsonl(run.log_path, rows)
    return max((row.get("wall_seconds", 0.0) for row in rows), default=0.0)


def _save(trainer: SFTTrainer, run: Run, *, lora: bool) -> None:
    """Save the fitted weights and the tokenizer, whole or not at all."""
    final = run.adapter_path if lora else run.model_path
    scratch = final.with_name(f".{final.name}-unfinished")
    if trainer.is_world_process_zero():
        shutil.rmtree(scratch, ignore_errors=True)
    trainer.save_model(str(scratch))
    if trainer.is_world_process_zero():
        (scratch / "training_args.bin").unlink(missing_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    trainer.accelerator.wait_for_everyone()
