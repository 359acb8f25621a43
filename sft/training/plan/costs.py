"""What a fit costs, before any weights are read: how large its model is, and memory, time and due moments from that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from sft.errors import TrainingError
from sft.policies.policy import with_new_adapter
from sft.policies.starting import find_start, outlined
from sft.policies.weights import accelerator_computes_bf16, config_of, quiet_engine, resolved_dtype
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource
from sft.runs.machine import Machine, machine_here, size, swap_bytes
from sft.runs.processes import is_sharded
from sft.training.plan.parts import Batch, Fit, Memory, ModelSize, Remedy

#: Bytes of optimizer state per fitted parameter, by ``optim``; what is not named here counts as nothing.
_STATES = {"adamw": 8, "adamw_torch": 8, "adamw_torch_fused": 8, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "sgd": 0}
#: Positions and words of a tile of logits, which is all that trl's head keeps of them on CUDA.
TILE = 4096, 32768
#: Libraries, tokenizer and demonstrations beside the model in a process that trains: measured on Linux, CPU.
PROCESS = 700_000_000


def fit_of(recipe: Recipe) -> Fit:
    """The settings of ``recipe`` that decide its memory."""
    training = recipe.training
    return Fit(
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
    config, start = config_of(base), find_start(recipe, base)
    with quiet_engine(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=_dtype(recipe), trust_remote_code=base.trust_remote_code)
        return with_new_adapter(model, recipe, init_lora_weights=True) if start is None else outlined(model, start)


def model_of(recipe: Recipe, base: BaseSource) -> ModelSize:
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
    return ModelSize(
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


# -- memory -------------------------------------------------------------------------------------------------


def certain_bytes(model: ModelSize, fit: Fit) -> tuple[int, int, int]:
    """(weights, gradients, optimizer states): what any fit of ``model`` holds, however short its batches are."""
    return model.weight_bytes, model.trainable_bytes, model.trainable * _STATES.get(fit.optim, 0)


def estimate(model: ModelSize, fit: Fit, batch: Batch, *, device: str = "cpu") -> Memory:
    """The memory of a fit whose longest batch is ``batch``: the GPU's, or on a CPU all that the process takes.

    What one position keeps in one layer of a Llama-shaped model (checked against what autograd holds, in the tests):
    the normed states before and after their weights, twice; the residual stream, twice; queries and keys before
    and after their rotation, values, what attention gave; gate, its sigmoid-weighted form, up, and their product.
    With checkpointing one layer keeps that at a time, and every layer its input.
    """
    weights, gradients, optimizer = certain_bytes(model, fit)
    per_layer = batch.slots * model.itemsize * (8 * model.width + 3 * model.keys + 4 * model.wide)
    inputs = batch.slots * model.itemsize * model.width * model.layers
    activations = inputs + per_layer if fit.checkpointing else per_layer * model.layers
    logits = batch.supervised * model.vocabulary * 4 * 2
    if device == "cuda":
        logits = min(batch.supervised, TILE[0]) * TILE[1] * model.itemsize
    process = PROCESS if device == "cpu" else 0
    return Memory(weights, gradients, optimizer, activations, logits, process + (activations + logits) // 10)


def remedies(fit: Fit, *, can_adapt: bool = True) -> Iterator[Fit]:
    """Other settings that take less memory, those first that change the result least.

    The same batch in more passes changes nothing but rounding; checkpointing nothing but the time. An adapter in
    place of all weights, narrower weights and shorter demonstrations change what is learned.
    """
    ladder = [fit]
    size, accumulation = fit.batch_size, fit.accumulation
    while size > 1:
        size, accumulation = -(-size // 2), accumulation * 2
        ladder.append(replace(fit, batch_size=size, accumulation=accumulation))
    yield from ladder[1:]
    if not fit.checkpointing:
        ladder = [replace(step, checkpointing=True) for step in ladder]
        yield from ladder
    if fit.method == "full" and can_adapt:
        ladder = [replace(step, method="lora") for step in ladder]
        yield from ladder
    if fit.dtype not in ("bfloat16", "float16"):
        ladder = [replace(step, dtype="bfloat16") for step in ladder]
        yield from ladder
    length = fit.max_length // 2
    while length >= 64:
        yield replace(ladder[-1], max_length=length)
        length //= 2


def remedy_for(
    recipe: Recipe,
    base: BaseSource,
    fit: Fit,
    batch: Batch,
    available: int,
    *,
    device: str = "cpu",
    known: Memory | None = None,
) -> Remedy:
    """The first setting of :func:`remedies` with which the fit's peak is within ``available`` bytes.

    ``batch``: the longest one now; ``device`` as for :func:`estimate`. ``known``: its memory as it was measured;
    activations are scaled by it.
    """
    models: dict[tuple[str, str], ModelSize] = {}

    def model(step: Fit) -> ModelSize:
        key = (step.method, step.dtype)
        if key not in models:
            models[key] = model_of(_changed(recipe, step), base)
        return models[key]

    now = estimate(model(fit), fit, batch, device=device)
    factor = 1.0 if known is None else known.activations / max(1, now.activations)
    for step in remedies(fit):
        share = step.batch_size / fit.batch_size * min(1.0, step.max_length * batch.rows / max(1, batch.slots))
        less = replace(batch, slots=int(batch.slots * share), supervised=int(batch.supervised * share))
        made = estimate(model(step), step, less, device=device)
        made = replace(made, activations=int(made.activations * factor))
        if known is not None:
            made = replace(made, rest=max(known.rest, made.rest))
        if made.peak <= available:
            return Remedy(step.settings(fit), made.peak)
    return Remedy({}, 0)


def _changed(recipe: Recipe, fit: Fit) -> Recipe:
    """``recipe`` with the adapter and the number format of ``fit``."""
    adapter, model = recipe.adapter, recipe.model
    if fit.method != adapter.method:
        adapter = type(adapter).model_validate({"method": fit.method})
    return recipe.model_copy(update={"adapter": adapter, "model": model.model_copy(update={"dtype": fit.dtype})})


def refuse_what_cannot_fit(recipe: Recipe, base: BaseSource, here: Machine | None = None) -> None:
    """Raise ``TrainingError`` where weights, gradients and optimizer alone exceed all the memory there is.

    Only what is certain: all of the device's memory and all of the swap count, batches count nothing, and where
    several processes may share the weights nothing is refused.
    """
    here = here or machine_here(Path())
    if is_sharded() or here.memory is None:
        return
    model, fit = model_of(recipe, base), fit_of(recipe)
    needed = sum(certain_bytes(model, fit))
    there = here.memory + (swap_bytes() if here.device == "cpu" else 0)
    if needed <= there:
        return
    batch = Batch(1, 1, 0, 1, 1, 1)
    least = replace(fit, batch_size=1, checkpointing=True)
    remedy = remedy_for(recipe, base, least, batch, there, device=here.device)
    would = f"it would with {remedy.to_text()}" if remedy.settings else "no setting would make it fit"
    raise TrainingError(
        f"{recipe.model.name}: cannot fit: weights, gradients and optimizer alone take {size(needed)}, and this "
        f"{'machine' if here.device == 'cpu' else 'GPU'} has {size(there)}; {would}, or choose a smaller model "
        "(sft plan says more)"
    )


# -- time ---------------------------------------------------------------------------------------------------


def fitted_cost(batches: Sequence[Batch], seconds: Sequence[float]) -> tuple[float, float, float, float]:
    """Seconds of a pass as a + b slots + c squares + d supervised, none of them negative, by least squares.

    Scaled so that the measured passes come to the seconds they took. With fewer than four: proportional to slots.
    """
    import numpy as np

    taken = np.asarray(seconds, dtype=float)
    if len(taken) < 4:
        return 0.0, float(taken.sum() / max(1, sum(b.slots for b in batches))), 0.0, 0.0
    from scipy.optimize import nnls

    terms = np.array([[1.0, b.slots, b.squares, b.supervised] for b in batches])
    scale = terms.max(axis=0)
    scale[scale == 0] = 1.0
    found = nnls(terms / scale, taken)[0] / scale
    found *= taken.sum() / max(float((terms @ found).sum()), 1e-12)
    return tuple(found.tolist())


def cost_of(batch: Batch, terms: tuple[float, float, float, float]) -> float:
    """Seconds of a pass over ``batch`` by :func:`fitted_cost`."""
    return terms[0] + terms[1] * batch.slots + terms[2] * batch.squares + terms[3] * batch.supervised


def looks(steps: int, every: float | None, *, at_the_end: bool = True) -> int:
    """How often something happens that is due ``every`` so many steps (below 1: a share of them), and at the end."""
    if every is None:
        return 0
    interval = max(1, math.ceil(steps * every) if every < 1 else int(every))
    return steps // interval + (1 if at_the_end and steps % interval else 0)
