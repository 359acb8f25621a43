"""How a batch is laid out and scored: rows in one line without padding, where that changes no loss.

How rows in a line are attended to is in ``attention``. Not every architecture is one in which rows are apart once
their attention is (recurrent states, positions of its own making), so nothing is taken for granted:
:func:`collator_for` compares, and else rows have padding.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from sft.errors import TrainingError
from sft.policies.weights import supervised_only
from sft.recipes import Recipe
from sft.runs.machine import default_device
from sft.runs.processes import everyones, processes_per_row, say
from sft.training.attention import BY_ROW, VARLEN, attending_by_row, attends_by_row, why_not_varlen
from sft.training.cut_rows import SP_SIZE, cut_of_this_process, demand_that_rows_can_be_cut
from sft.training.sequences import IGNORED, Collator, LineCollator, Rows, dataset_of, part_of

# -- layout ------------------------------------------------------------------------------------------------

#: Log-probabilities of one row, alone and in a line, differ by rounding only; nats by number format of the weights.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}


def collator_for(
    recipe: Recipe,
    model: PreTrainedModel,
    rows: Rows,
    *,
    filler: int,
    narrow: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Collator | LineCollator:
    """What makes batches for ``model``, which is the bare one, adapters in it.

    ``narrow``: what the fit computes in where that is not the format of the weights; ``device``: where it computes,
    this process's own unless given. On CUDA the whole line is attended to in one call; where that cannot be had, rows
    have padding, unless they are packed or cut, and the reason is said. Raises ``TrainingError`` when the recipe wants
    rows packed, or the launch several processes to share a row, and this model would let rows see each other.
    """
    demand_that_rows_can_be_cut(model)
    device = device or default_device()
    name, slow = BY_ROW, ""
    if device.type == "cuda" and attends_by_row(model):
        slow = _why_not_in_one_call(model, device, narrow)
        name = BY_ROW if slow else VARLEN
    in_line = recipe.training.packing or processes_per_row() > 1
    reason = _why_padded(recipe, model, rows, filler, name, narrow) or ("" if in_line else slow)
    if not reason:
        if slow:
            say_once(f"train     row by row: {slow}")
        # With a common beginning attention reads a mask, for which an accelerator would leave its fast path.
        collator = LineCollator(share=device.type == "cpu" and not _drops(model), attention=name)
        _demand_same_when_cut(model, rows, collator)
        return collator
    if recipe.training.packing:
        raise TrainingError(f"training.packing: rows cannot be kept apart, because {reason}; set it to false")
    if in_line:
        raise TrainingError(f"{SP_SIZE}: rows have padding and cannot be cut, because {reason}; take it out")
    if device.type == "cuda":
        say_once(f"train     with padding: {reason}")
    return Collator(filler)


@lru_cache(maxsize=8)
def say_once(text: str) -> None:
    """Say it, unless it was said: a plan builds its trainer twice."""
    say(text)


def _why_not_in_one_call(model: PreTrainedModel, device: torch.device, narrow: torch.dtype | None) -> str:
    if float(getattr(model.config.get_text_config(), "attention_dropout", 0.0) or 0.0) > 0:
        return "attention over rows of many lengths drops nothing, and this model's attention_dropout is above 0"
    return why_not_varlen(model, device, narrow or _format_of(model))


def _format_of(model: PreTrainedModel) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _why_padded(
    recipe: Recipe, model: PreTrainedModel, rows: Rows, filler: int, attention: str, narrow: torch.dtype | None
) -> str:
    """Why rows must have padding, or nothing."""
    if (recipe.training.model_extra or {}).get("neftune_noise_alpha"):
        return "the noise of neftune_noise_alpha is scaled by the length of each row"
    if not attends_by_row(model):
        return "this model's attention cannot be had row by row"
    if any(parameter.is_meta for parameter in model.parameters()):
        return ""  # only the first process has the weights, and it compares
    if any(hasattr(parameter, "ds_shape") for parameter in model.parameters()):
        return (
            "no process has all weights under ZeRO-3 (DeepSpeed), so what a row says behind others cannot be compared"
        )
    # Weights that are to be split among processes are still on the CPU, where there is no such kernel.
    where, narrow = model.device.type, narrow if model.device.type == "cuda" else None
    shortest = sorted(rows, key=lambda row: len(row[1]))[:2]
    with torch.autocast(where, dtype=narrow, enabled=narrow is not None):
        difference = largest_difference(
            model, shortest, filler=filler, attention=attention if where == "cuda" else BY_ROW
        )
    if not difference <= TOLERANCE.get(narrow or _format_of(model), 1e-3):
        return f"log-probabilities in this model change by {difference:.2g} nats when rows stand behind each other"
    return ""


def _drops(model: PreTrainedModel) -> bool:
    """Whether anything is dropped at random while fitting."""
    layers = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    return layers or float(getattr(model.config.get_text_config(), "attention_dropout", 0.0) or 0.0) > 0


@torch.no_grad()
def largest_difference(model: PreTrainedModel, rows: Rows, *, filler: int, attention: str = BY_ROW) -> float:
    """The largest change of a supervised token's log-probability, in nats, from padded rows to rows in a line."""
    items: list[dict[str, Any]] = dataset_of(rows).to_list()
    was_training = model.training
    model.eval()
    try:
        found = []
        for collate in (Collator(filler), LineCollator(share=attention == BY_ROW)):
            inputs = {
                name: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for name, value in collate(items).items()
            }
            with attending_by_row(model, attention) if "segments" in inputs else contextlib.nullcontext():
                found.append(nats_of(model, model, inputs))
    finally:
        model.train(was_training)
    return float((found[0] - found[1]).abs().max())


@torch.no_grad()
def _demand_same_when_cut(model: PreTrainedModel, rows: Rows, collator: LineCollator) -> None:
    """Raise ``TrainingError`` where a row says something else when several processes share it. All processes come here.

    Attention alone is told of the cut; a layer that carries anything from token to token besides would end at it.
    """
    on_cpu = model.device.type == "cpu"  # from where parts of it go to an accelerator later on
    cut = cut_of_this_process("gloo" if on_cpu else None)
    if cut is None:
        return
    shortest = sorted(rows, key=lambda row: len(row[1]))[:2]
    attention = BY_ROW if on_cpu else collator.attention
    made = LineCollator(collator.share, attention)(dataset_of(shortest).to_list())
    line = {name: one.to(model.device) if isinstance(one, torch.Tensor) else one for name, one in made.items()}
    part, was_training = part_of(line, cut), model.training
    model.eval()
    try:
        with attending_by_row(model, attention):
            whole, own = nats_of(model, model, line), nats_of(model, model, part)
    finally:
        model.train(was_training)
    supervised = (pad(line["labels"][0, 1:], (0, 1), value=IGNORED) != IGNORED).nonzero()[:, 0]
    here = supervised // part["input_ids"].shape[1] == cut.part
    difference = max(everyones(float((whole[here] - own).abs().max()) if len(own) else 0.0))
    if not difference <= TOLERANCE.get(_format_of(model), 1e-3):
        raise TrainingError(
            f"{SP_SIZE}: log-probabilities in this model change by {difference:.2g} nats when several processes share "
            "a row; take it out"
        )


# -- loss --------------------------------------------------------------------------------------------------


def nats_of(model: torch.nn.Module, bare: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """-log p of every supervised token of a batch, or of this process's part of it, ``(n,)``, in the batch's order.

    ``model``: what is called; ``bare``: the same without what a launcher wraps it in.
    """
    labels = inputs["shift_labels"] if "cut" in inputs else pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)
    predicted = labels != IGNORED
    where = {name: inputs[name] for name in ("position_ids", "segments", "cut") if name in inputs}
    # Padding is on the right and attention is causal, or there is no padding: no real token ever sees any, and
    # without a mask attention takes its faster path.
    with supervised_only(bare, predicted):
        logits = model(input_ids=inputs["input_ids"], use_cache=False, **where).logits[0]
    targets = labels[predicted].to(logits.device)
    return cross_entropy(logits.float(), targets, reduction="none")


def tiled_nats_of(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """The same of a ``model`` that has trl's head, which holds no more than a tile of logits at once."""
    names = ("input_ids", "labels", "shift_labels", "position_ids", "segments", "cut")
    made = model(**{name: inputs[name] for name in names if name in inputs}, fused_lm_head=True)
    return -made.log_probs[made.label_mask]
