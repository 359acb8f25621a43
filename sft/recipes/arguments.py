"""A recipe as keyword arguments for ``trl.SFTConfig`` and ``peft.LoraConfig``: plain dicts, no import of either.

Every value the project depends on is written out, because the trainer's own defaults differ between
releases and several of them (bf16, gradient checkpointing, hidden NaN losses, trackers) act unasked.
"""

from __future__ import annotations

from typing import Any

from sft.recipes import engine_fields
from sft.recipes.fields import Recipe, Section

__all__ = ["lora_arguments", "training_arguments"]

#: Keys of the training section that are ours, or that are handed on in another form.
_NOT_FORWARDED = {
    "max_length", "too_long", "packing", "dialogues", "bf16", "gradient_checkpointing", "eval_strategy", "eval_steps",
    "save_steps", "early_stopping_patience", "report_to", "gradient_checkpointing_kwargs",
}  # fmt: skip


def training_arguments(recipe: Recipe, *, bf16: bool = False, validation: bool = True) -> dict[str, Any]:
    """Keyword arguments for ``trl.SFTConfig``, all but ``output_dir``.

    ``bf16``: whether this machine computes in bfloat16; taken where the recipe leaves it open.
    ``validation``: whether there is a validation split to choose the checkpoint on.

    Rows are handed over as ready ``input_ids`` and ``labels``, so everything that would render, cut or pack
    them is off, ``max_length`` included (the census has refused or dropped what is longer).
    ``early_stopping_patience`` is a callback's, and stays with the caller.
    """
    training = recipe.training
    evaluate = validation and training.eval_strategy != "no"
    given, extra = _plain(training, _NOT_FORWARDED), training.further
    names = engine_fields.training_fields()
    # transformers has renamed gradient checkpointing; the old name still works, with a warning.
    checkpointing = "activation" if "activation_checkpointing" in names else "gradient"
    arguments: dict[str, Any] = {
        "bf16": (bf16 and not extra.get("fp16", False)) if training.bf16 is None else training.bf16,
        f"{checkpointing}_checkpointing": training.gradient_checkpointing,
        "per_device_eval_batch_size": training.per_device_train_batch_size,
        "average_tokens_across_devices": True,
        "dataloader_drop_last": False,
        # What reaches the trainer is rendered already.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "max_length": None,
        "packing": False,
        "eval_packing": False,
        "padding_free": False,
        "use_cache": False,
        "loss_type": "nll",
        # The default balances a model's experts too, where the loss is TRL's own; ours knows nothing of it.
        "router_aux_loss_coef": 0.0,
        # A loss that is not finite is to be seen; nobody is called unasked.
        "logging_nan_inf_filter": False,
        "logging_strategy": "steps",
        "report_to": training.report_to if isinstance(training.report_to, str) else list(training.report_to),
        "push_to_hub": False,
        # The checkpoint with the lowest validation loss is the clone.
        "eval_strategy": training.eval_strategy if evaluate else "no",
        "save_strategy": "epoch" if training.eval_strategy == "epoch" else "steps",
        "save_total_limit": 2,
        "prediction_loss_only": True,
        "load_best_model_at_end": evaluate,
    }
    if evaluate:
        arguments |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    if training.eval_strategy != "epoch":
        arguments["save_steps"] = training.eval_steps if training.save_steps is None else training.save_steps
        if evaluate:
            arguments["eval_steps"] = training.eval_steps
    if not validation:
        given.pop("eval_on_start", None)
    if (options := extra.get("gradient_checkpointing_kwargs")) is not None:
        arguments[f"{checkpointing}_checkpointing_kwargs"] = options
    return arguments | given


def lora_arguments(recipe: Recipe) -> dict[str, Any] | None:
    """Keyword arguments for ``peft.LoraConfig``; None where every weight is fitted."""
    adapter = recipe.adapter
    if adapter.method == "full":
        return None
    return {
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "use_dora": adapter.method == "dora",
        "use_rslora": adapter.method == "rslora",
    } | _plain(adapter, {"method"})


def _plain(section: Section, left_out: set[str]) -> dict[str, Any]:
    """The keys of a section that go on as they are, lists as lists."""
    values = {key: value for key, value in dict(section).items() if key not in left_out}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
