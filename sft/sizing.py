"""How large a fit is and how large this machine is, before any weights are read."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sft import plans
from sft.adapting import adapted
from sft.errors import TrainingError
from sft.policies import accelerator_computes_bf16, base_folder, default_device, quiet_engine, resolved_dtype
from sft.provenance import machine
from sft.recipes import Recipe
from sft.sources import resolve_model

__all__ = ["fit_of", "machine_here", "model_of", "outline", "refuse_what_cannot_fit", "remedy_for"]


def fit_of(recipe: Recipe) -> plans.Fit:
    """The settings of ``recipe`` that decide its memory."""
    training = recipe.training
    return plans.Fit(
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


def outline(recipe: Recipe) -> PreTrainedModel | PeftModel:
    """The recipe's model with its adapter, in shape only: no number of it is stored. Raises ``UserError``."""
    section = recipe.model
    folder, _ = base_folder(resolve_model(section.name, section.revision))
    remote = section.trust_remote_code
    with quiet_engine(), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, revision=section.revision, trust_remote_code=remote)
        model = AutoModelForCausalLM.from_config(config, dtype=_dtype(recipe), trust_remote_code=remote)
        return adapted(model, recipe, init_lora_weights=True)


def model_of(recipe: Recipe, model: torch.nn.Module | None = None) -> plans.Model:
    """The shape and the sizes of what ``recipe`` fits; ``model``: its outline, if it is there already."""
    made = outline(recipe) if model is None else model
    config = made.config.get_text_config()  # type: ignore[union-attr, operator]
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
    return plans.Model(
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


# -- the machine --------------------------------------------------------------------------------------------


def machine_here(folder: Path) -> plans.Machine:
    """This process's device and its memory, and the disk of ``folder``, which need not exist yet."""
    there = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), Path("/"))
    disk = shutil.disk_usage(there).free
    device = default_device()
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return plans.Machine("cuda", total, free, disk)
    memory = machine()["memory_bytes"]
    return plans.Machine(device.type, memory, _available(memory), disk)


def _available(memory: int | None) -> int | None:
    """Bytes that programs may still have, file caches given up; None where the system does not say."""
    found: list[int] = [] if memory is None else [memory]
    with suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable:")))
    with suppress(OSError, ValueError, StopIteration):  # a container's own limit; "max" is no number
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        rows = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = next(int(row.split()[1]) for row in rows if row.startswith("file "))
        found.append(limit - used + cached)
    return min(found, default=None)


def swap_bytes() -> int:
    """What the system can put onto disk; 0 where it does not say."""
    with suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("SwapTotal:"))
    return 0


# -- what would fit -----------------------------------------------------------------------------------------


def remedy_for(
    recipe: Recipe,
    fit: plans.Fit,
    batch: plans.Batch,
    available: int,
    *,
    process: int = plans.PROCESS,
    known: plans.Memory | None = None,
) -> plans.Remedy:
    """The first setting of ``plans.remedies`` with which the fit's peak is within ``available`` bytes.

    ``batch``: the longest one now; ``process`` as for ``plans.estimate``. ``known``: its memory as it was measured;
    activations are scaled by it.
    """
    models: dict[tuple[str, str], plans.Model] = {}

    def model(step: plans.Fit) -> plans.Model:
        key = (step.method, step.dtype)
        if key not in models:
            models[key] = model_of(_changed(recipe, step))
        return models[key]

    now = plans.estimate(model(fit), fit, batch, process=process)
    factor = 1.0 if known is None else known.activations / max(1, now.activations)
    for step in plans.remedies(fit):
        share = step.batch_size / fit.batch_size * min(1.0, step.max_length * batch.rows / max(1, batch.slots))
        less = replace(batch, slots=int(batch.slots * share), supervised=int(batch.supervised * share))
        made = plans.estimate(model(step), step, less, process=process)
        made = replace(made, activations=int(made.activations * factor))
        if known is not None:
            made = replace(made, rest=max(known.rest, made.rest))
        if made.peak <= available:
            return plans.Remedy(step.settings(fit), made.peak)
    return plans.Remedy({}, 0)


def _changed(recipe: Recipe, fit: plans.Fit) -> Recipe:
    """``recipe`` with the adapter and the number format of ``fit``."""
    adapter, model = recipe.adapter, recipe.model
    if fit.method != adapter.method:
        adapter = type(adapter).model_validate({"method": fit.method})
    return recipe.model_copy(update={"adapter": adapter, "model": model.model_copy(update={"dtype": fit.dtype})})


def refuse_what_cannot_fit(recipe: Recipe, here: plans.Machine | None = None) -> None:
    """Raise ``TrainingError`` where weights, gradients and optimizer alone exceed all the memory there is.

    Only what is certain: all of the device's memory and all of the swap count, batches count nothing, and where
    several processes may share the weights nothing is refused.
    """
    import os

    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    here = here or machine_here(Path())
    if sharded or here.memory is None:
        return
    model, fit = model_of(recipe), fit_of(recipe)
    needed = sum(plans.certain_bytes(model, fit))
    there = here.memory + (swap_bytes() if here.device == "cpu" else 0)
    if needed <= there:
        return
    batch = plans.Batch(1, 1, 0, 1, 1, 1)
    process = plans.PROCESS if here.device == "cpu" else 0
    remedy = remedy_for(recipe, replace(fit, batch_size=1, checkpointing=True), batch, there, process=process)
    would = f"it would with {remedy.to_text()}" if remedy.settings else "no setting would make it fit"
    raise TrainingError(
        f"{recipe.model.name}: cannot fit: weights, gradients and optimizer alone take {plans.size(needed)}, and this "
        f"{'machine' if here.device == 'cpu' else 'GPU'} has {plans.size(there)}; {would}, or choose a smaller model "
        "(sft plan says more)"
    )
