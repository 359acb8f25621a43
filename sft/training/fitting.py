"""From rendered rows to a fitted policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from sft.errors import TrainingError
from sft.policies.policy import name_base, stops_with, with_new_adapter
from sft.policies.rendering import Renderer
from sft.policies.starting import find_start, goes_on_from
from sft.policies.weights import (
    accelerator_computes_bf16,
    base_weights,
    count_of,
    onto,
    quiet_engine,
    vocabulary_size,
)
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource
from sft.runs import progress
from sft.runs.machine import default_device
from sft.runs.processes import is_sharded, note, row_groups, say
from sft.runs.run import Run, append_jsonl
from sft.training.attention import attending_by_row
from sft.training.batches import collator_for, say_once
from sft.training.constructing import arguments_for, built
from sft.training.cut_rows import cut_of_this_process
from sft.training.going_on import rewind, take_up
from sft.training.proof import bear_witness, save
from sft.training.resuming import EndsWhereTold
from sft.training.sequences import LineCollator, Rows, dataset_of, joined, packed
from sft.training.trainer import CloningTrainer


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a finished fit amounts to. Losses are nats per supervised token; ``eval_loss`` is the best one.

    ``rows_not_reached``: training rows that the steps ended before; ``tokens_not_reached``: theirs, prompt and
    completion apart; ``fates_not_reached``: both by fate, "rows" among them. ``supervised_tokens``: those of the rows
    that were reached, each counted once.
    """

    steps: int
    best_step: int | None
    train_loss: float
    eval_loss: float | None
    supervised_tokens: int
    trainable_parameters: int
    parameters: int
    wall_seconds: float
    rows_not_reached: int
    tokens_not_reached: dict[str, int]
    fates_not_reached: dict[str, dict[str, int]] = field(default_factory=dict)


class Interrupted(TrainingError):
    """Training was stopped by a signal, Ctrl-C or another, after saving a checkpoint. ``number``: which."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class Record(TrainerCallback):
    """Writes every logged line to ``log.jsonl`` and shows progress on stderr; a context manager around the fit."""

    def __init__(self, run: Run | None, seconds_before: float) -> None:
        self.run, self.seconds_before = run, seconds_before
        self.began = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def seconds(self) -> float:
        """Seconds spent fitting, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step where training begins."""
        self.began = time.monotonic()
        if state.is_world_process_zero:
            self.bar = progress.bar(state.max_steps, "train", "step", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append the line."""
        values = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        shown = values.get("loss", values.get("eval_loss"))
        if self.bar is not None and shown is not None:
            self.bar.set_postfix_str(f"{'loss' if 'loss' in values else 'validation loss'} {shown:.3f}")
        if state.is_world_process_zero and self.run is not None and ("loss" in values or "eval_loss" in values):
            kept = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch")
            row = {"step": state.global_step} | {k: values[k] for k in kept if k in values}
            append_jsonl(self.run.log_path, row | {"wall_seconds": round(self.seconds, 3)})


def load_policy_to_fit(recipe: Recipe, base: BaseSource, renderer: Renderer) -> PreTrainedModel | PeftModel:
    """The base model with what is to be fitted: an adapter drawn from the recipe's seed, or the one to go on from."""
    start = find_start(recipe, base)
    full = recipe.adapter.method == "full"
    # Full fine-tuning keeps float32 master weights; under an adapter the frozen base may be narrow.
    model = base_weights(recipe, base, dtype="float32" if full and recipe.model.dtype == "auto" else None)
    model.config.get_text_config().pad_token_id = renderer.pad_token_id
    stops_with(model, renderer)
    set_seed(recipe.training.seed)
    return with_new_adapter(model, recipe) if start is None else goes_on_from(model, start)


def _refuse_unknown_tokens(model: PreTrainedModel | PeftModel, rows: Rows) -> None:
    """A tokenizer may know more tokens than the model, as long as no row needs them."""
    known = vocabulary_size(model)
    for demonstration, rendered in rows:
        if (highest := max(rendered.input_ids)) >= known:
            raise TrainingError(
                f"{demonstration.address}: holds token {highest}, and the model knows {known} tokens; "
                "its tokenizer belongs to another model, so save the right one beside it"
            )


def _refuse_late_validation(recipe: Recipe, items: int, processes: int) -> None:
    """``eval_delay`` must leave a look at the validation split, or nothing would be chosen and nobody told.

    ``items``: training items in an epoch, over all processes; ``processes``: among how many they are dealt out.
    """
    section = recipe.training
    delay = (section.model_extra or {}).get("eval_delay", 0)
    batches = math.ceil(items / (section.per_device_train_batch_size * processes))
    in_epoch = math.ceil(batches / section.gradient_accumulation_steps)
    steps = section.max_steps if section.max_steps > 0 else math.ceil(section.num_train_epochs * in_epoch)
    if section.eval_strategy == "epoch":
        last, unit = steps / in_epoch, "epochs"
    else:
        last, unit = float(steps), "steps"
    if section.eval_strategy != "no" and delay > last + 1e-9:
        raise TrainingError(
            f"training.eval_delay: {delay:g} {unit} leave no look at the validation split, for the run has {last:g}; "
            'write less, or eval_strategy: "no" to choose no checkpoint'
        )


def _uses_every_weight(recipe: Recipe, model: PreTrainedModel) -> bool:
    """Whether each step surely gives every weight a gradient; else several processes must look for those without.

    Not where a batch may pass an expert by, where a part reads no text, or where the code is the model's own.
    """
    config = model.config.get_text_config()
    experts = any(isinstance(n, int) and n > 1 for name, n in config.to_dict().items() if "experts" in name)
    return not (experts or config is not model.config or recipe.model.trust_remote_code)


def train(
    recipe: Recipe,
    training: Rows,
    validation: Rows,
    *,
    base: BaseSource,
    renderer: Renderer,
    run: Run,
    resume: bool = False,
    bf16: bool | None = None,
    looked: Callable[[int, float], bool] | None = None,
    fates: Sequence[str] | None = None,
    trainer_class: type[CloningTrainer] = CloningTrainer,
    policy_to_fit: Callable[[Recipe, BaseSource, Renderer], PreTrainedModel | PeftModel] = load_policy_to_fit,
) -> Fitted:
    """Fit the policy to ``training``, choose the checkpoint on ``validation``, and save it into ``run``.

    Writes ``log.jsonl``, ``checkpoints/`` and, at the end and all at once, ``adapter/`` or ``model/``.
    With ``resume`` it goes on from the last whole checkpoint and gives what the run never stopped would have given.
    ``fates``: that of each row of ``training``, unless all are trained on as demonstrations.
    ``bf16``: whether to compute in it where the recipe leaves it open; None: where the accelerator does.
    ``looked``: called with step and loss of every look at ``validation``, those before the checkpoint too, and ends it.
    ``trainer_class`` and ``policy_to_fit``: what builds the trainer and loads the model; ``sft plan`` counts and
    times a fit through this same door with its own.
    Raises ``TrainingError``; :class:`Interrupted` after a first Ctrl-C or SIGTERM.
    """
    sequences = _sequences(recipe, training, validation)
    arguments = arguments_for(
        recipe,
        run.checkpoints_path,
        bf16=accelerator_computes_bf16() if bf16 is None else bf16,
        validation=bool(validation),
    )
    kept, arguments.save_total_limit = arguments.save_total_limit, None  # see ``resuming``
    model = policy_to_fit(recipe, base, renderer)
    _refuse_unknown_tokens(model, (*training, *validation))
    # Like lengths beside each other: less padding, the same loss.
    by_length = sorted(validation, key=lambda row: len(row[1]))
    datasets = dataset_of(training, sequences), dataset_of(by_length) if validation else None
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    _onto_its_device(recipe, bare, arguments)
    collator = collator_for(recipe, bare, training, filler=renderer.pad_token_id, narrow=_narrowed_to(arguments))
    if arguments.ddp_find_unused_parameters is None:
        arguments.ddp_find_unused_parameters = not _uses_every_weight(recipe, bare)
    checkpoint = take_up(run) if resume else None
    if checkpoint is not None:
        arguments.eval_on_start = False  # the run has looked when it began
    seconds_before = rewind(run, checkpoint) if arguments.process_index == 0 else 0.0
    record = Record(run, seconds_before)
    with quiet_engine():
        balance = getattr(bare.config.get_text_config(), "router_aux_loss_coef", None)
        trainer = built(
            trainer_class,
            model=model,
            args=arguments,
            train_dataset=datasets[0],
            eval_dataset=datasets[1],
            processing_class=renderer.tokenizer,
            data_collator=collator,
            callbacks=[record, *_stopping_early(recipe, validation, looked)],
        )
        if balance is not None:  # the clone's configuration says what the base's did
            bare.config.get_text_config().router_aux_loss_coef = balance
        trainer.demonstrations = [demonstration for demonstration, _ in training]
        trainer.kept, trainer.cut, interruption = kept, cut_of_this_process(), trainer.interruption
        _listen_only_to(trainer, interruption)
        _check_engine(trainer, datasets[0])
        apart = attending_by_row(bare, collator.attention) if isinstance(collator, LineCollator) else nullcontext()
        with record, interruption.listening(), apart:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            # Once agreed on, it needs no other exchange, which a process that has left already would not answer.
            if interruption.stopped or interruption.agreed():
                note()
                raise Interrupted(f"{run.path}: {_where_it_stopped(trainer)}", interruption.asked)
        save(trainer, run, lora=recipe.adapter.method != "full")
        if arguments.process_index == 0:
            name_base(run.adapter_path, base)
        bear_witness(trainer, validation or training, run, recipe)
        reached = trainer.reached.tolist()
    return _fitted(trainer, model, training, fates or ["trained"] * len(training), reached, record.seconds)


def _onto_its_device(recipe: Recipe, model: PreTrainedModel, arguments: SFTConfig) -> None:
    """Put ``model`` onto this process's GPU, as the trainer would a moment later: what is compared there is quicker.

    Not where it is an outline, in 4 bits and there already, or to be taken apart first. Of several GPUs that one
    process sees the first is taken: the trainer would copy the model onto all of them, which trl refuses. Its own way
    out for a model that is spread over GPUs is taken.
    """
    if arguments.n_gpu > 1:
        say_once(f"train     on one of {arguments.n_gpu} GPUs; accelerate launch -m sft train takes all of them")
        arguments._n_gpu = 1
    outlined = any(parameter.is_meta for parameter in model.parameters())
    if default_device().type == "cuda" and not (outlined or is_sharded() or recipe.adapter.method == "qlora"):
        onto(default_device(), model, recipe.model.name)


def _narrowed_to(arguments: SFTConfig) -> torch.dtype | None:
    """What the fit computes in where that is not the format of the weights."""
    return torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None


def _listen_only_to(trainer: CloningTrainer, interruption: TrainerCallback) -> None:
    """Signals are listened to, and what the engine would print is left to us."""
    trainer.add_callback(interruption)
    for talkative in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(talkative)


def _stopping_early(
    recipe: Recipe, validation: Rows, looked: Callable[[int, float], bool] | None
) -> list[TrainerCallback]:
    """What may end the fit at a look at ``validation``."""
    patience = recipe.training.early_stopping_patience
    told: list[TrainerCallback] = [] if looked is None else [EndsWhereTold(looked)]
    if patience is None or not validation:
        return told
    return [*told, EarlyStoppingCallback(early_stopping_patience=patience)]


def _sequences(recipe: Recipe, training: Rows, validation: Rows) -> list[list[list[int]]]:
    """The training items as the recipe wants them: of every item its sequences, each by the numbers of its rows.

    Raises ``TrainingError`` where there is nothing to read, or validation is late.
    """
    if not training:
        raise TrainingError("there is no demonstration left to train on; see the ledger for where they went")
    in_one_pass = recipe.training.dialogues == "one_pass"
    chains = joined(training) if in_one_pass else [[number] for number in range(len(training))]
    if recipe.training.packing:
        packs = packed([len(training[chain[-1]][1]) for chain in chains], recipe.training.max_length)
        items = [[chains[number] for number in pack] for pack in packs]
    else:
        items = [[chain] for chain in chains]
    if validation:
        _refuse_late_validation(recipe, len(items), row_groups())
    if in_one_pass and len(chains) == len(training):
        say("train     dialogues: one_pass joins nothing: no row is how another one of its dialogue begins")
    return items


def _fitted(
    trainer: CloningTrainer,
    model: torch.nn.Module,
    training: Rows,
    fates: Sequence[str],
    reached: Sequence[bool],
    seconds: float,
) -> Fitted:
    """What the fit amounts to; ``reached``: for each row of ``training``, whether a step has seen it."""
    missed = [row for (_, row), seen in zip(training, reached, strict=True) if not seen]
    by_fate: dict[str, dict[str, int]] = {}
    for (_, row), fate, seen in zip(training, fates, reached, strict=True):
        if not seen:
            known = by_fate.setdefault(fate, {"rows": 0, "prompt": 0, "completion": 0})
            known["rows"] += 1
            known["prompt"] += row.context
            known["completion"] += len(row) - row.context
    return Fitted(
        steps=trainer.state.global_step,
        best_step=trainer.state.best_global_step or None,
        train_loss=trainer.mean_loss,
        eval_loss=trainer.state.best_metric,
        supervised_tokens=sum(len(r.completion_ids) for (_, r), seen in zip(training, reached, strict=True) if seen),
        trainable_parameters=count_of(p for p in model.parameters() if p.requires_grad),
        parameters=count_of(model.parameters()),
        wall_seconds=round(seconds, 3),
        rows_not_reached=len(missed),
        tokens_not_reached={
            "prompt": sum(len(row.prompt_ids) for row in missed),
            "completion": sum(len(row.completion_ids) for row in missed),
        },
        fates_not_reached=by_fate,
    )


def _where_it_stopped(trainer: CloningTrainer) -> str:
    step = trainer.state.global_step
    if step == 0:
        return "stopped before the first step was done"
    saved = "checkpoint saved" if trainer.is_saved() else "what is saved is kept"
    return f"stopped at step {step}, {saved}"


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
