"""How large a fit is and how large this machine is, before any weights are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from sft.errors import TrainingError
from sft.policies.policy import with_new_adapter
from sft.policies.weights import accelerator_computes_bf16, config_of, quiet_engine, resolved_dtype
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource
from sft.runs.machine import machine_here, swap_bytes
from sft.training import plan

__all__ = ["fit_of", "model_of", "outline", "refuse_what_cannot_fit", "remedy_for"]


def fit_of(recipe: Recipe) -> plan.Fit:
    """The settings of ``recipe`` that decide its memory."""
    training = recipe.training
    return plan.Fit(
        batch_size=training.per_device_train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        checkpointing=training.gradient_checkpointing,
        method=recipe.adapter.method,
        dtype=str(_dtype(recipe)).removeprefix("torch."),
        optim=str((training.model_extra or {}).get("optim", "adamw_torch")),
        max_length=training.max_length,
    )


def _dtype(recipe: Recipe) -> torch.dtype:
    """The number format of the weights: fitting all of them keeps float32 unless the recipe says otherwise."""
    full = recipe.adapter.method == "full"
    return torch.float32 if full and recipe.model.dtype == "auto" else resolved_dtype(recipe.model.dtype)


def outline(recipe: Recipe, base: BaseSource) -> PreTrainedModel | PeftModel:
    """The recipe's model with its adapter, in shape only: no number of it is stored. Raises ``UserError``."""
    config = config_of(base)
    with quiet_engine(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=_dtype(recipe), trust_remote_code=base.trust_remote_code)
        return with_new_adapter(model, recipe, init_lora_weights=True)


def model_of(recipe: Recipe, base: BaseSource) -> plan.Model:
    """The shape and the sizes of what ``recipe`` fits to ``base``."""
    made = outline(recipe, base)
    config = made.config.get_text_config()
    parameters = list(made.parameters())
    fitted = [p for p in parameters if p.requires_grad]
    buffers = sum(b.numel() * b.element_size() for b in made.buffers())
    weights = sum(p.numel() * p.element_size() for p in parameters) + buffers
    if recipe.adapter.method == "qlora":  # NF4: half a byte, and an eighth of one for its constants
        wide = [p for p in parameters if not p.requires_grad and p.dim() == 2]
        weights -= sum(int(p.numel() * (p.element_size() - 0.5)) for p in wide)
    heads = config.num_attention_heads
    width = config.hidden_size
    head = getattr(config, "head_dim", None) or width // heads
    narrow = recipe.training.bf16 if recipe.training.bf16 is not None else accelerator_computes_bf16()
    wide_layer = getattr(config, "intermediate_size", None)
    return plan.Model(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in fitted),
        weight_bytes=weights,
        trainable_bytes=sum(p.numel() * p.element_size() for p in fitted),
        layers=config.num_hidden_layers,
        width=width,
        wide=wide_layer if isinstance(wide_layer, int) else 4 * width,
        keys=head * (getattr(config, "num_key_value_heads", None) or heads),
        vocabulary=config.vocab_size,
        itemsize=2 if narrow else _dtype(recipe).itemsize,
    )


# -- what would fit -----------------------------------------------------------------------------------------


def remedy_for(
    recipe: Recipe,
    base: BaseSource,
    fit: plan.Fit,
    batch: plan.Batch,
    available: int,
    *,
    process: int = plan.PROCESS,
    known: plan.Memory | None = None,
) -> plan.Remedy:
    """The first setting of ``plans.remedies`` with which the fit's peak is within ``available`` bytes.

    ``batch``: the longest one now; ``process`` as for ``plans.estimate``. ``known``: its memory as it was measured;
    activations are scaled by it.
    """
    models: dict[tuple[str, str], plan.Model] = {}

    def model(step: plan.Fit) -> plan.Model:
        key = (step.method, step.dtype)
        if key not in models:
            models[key] = model_of(_changed(recipe, step), base)
        return models[key]

    now = plan.estimate(model(fit), fit, batch, process=process)
    factor = 1.0 if known is None else known.activations / max(1, now.activations)
    for step in plan.remedies(fit):
        share = step.batch_size / fit.batch_size * min(1.0, step.max_length * batch.rows / max(1, batch.slots))
        less = replace(batch, slots=int(batch.slots * share), supervised=int(batch.supervised * share))
        made = plan.estimate(model(step), step, less, process=process)
        made = replace(made, activations=int(made.activations * factor))
        if known is not None:
            made = replace(made, rest=max(known.rest, made.rest))
        if made.peak <= available:
            return plan.Remedy(step.settings(fit), made.peak)
    return plan.Remedy({}, 0)


def _changed(recipe: Recipe, fit: plan.Fit) -> Recipe:
    """``recipe`` with the adapter and the number format of ``fit``."""
    adapter, model = recipe.adapter, recipe.model
    if fit.method != adapter.method:
        adapter = type(adapter).model_validate({"method": fit.method})
    return recipe.model_copy(update={"adapter": adapter, "model": model.model_copy(update={"dtype": fit.dtype})})


def refuse_what_cannot_fit(recipe: Recipe, base: BaseSource, here: plan.Machine | None = None) -> None:
    """Raise ``TrainingError`` where weights, gradients and optimizer alone exceed all the memory there is.

    Only what is certain: all of the device's memory and all of the swap count, batches count nothing, and where
    several processes may share the weights nothing is refused.
    """
    import os

    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    here = here or machine_here(Path())
    if sharded or here.memory is None:
        return
    model, fit = model_of(recipe, base), fit_of(recipe)
    needed = sum(plan.certain_bytes(model, fit))
    there = here.memory + (swap_bytes() if here.device == "cpu" else 0)
    if needed <= there:
        return
    batch = plan.Batch(1, 1, 0, 1, 1, 1)
    process = plan.PROCESS if here.device == "cpu" else 0
    remedy = remedy_for(recipe, base, replace(fit, batch_size=1, checkpointing=True), batch, there, process=process)
    would = f"it would with {remedy.to_text()}" if remedy.settings else "no setting would make it fit"
    raise TrainingError(
        f"{recipe.model.name}: cannot fit: weights, gradients and optimizer alone take {plan.size(needed)}, and this "
        f"{'machine' if here.device == 'cpu' else 'GPU'} has {plan.size(there)}; {would}, or choose a smaller model "
        "(sft plan says more)"
    )
