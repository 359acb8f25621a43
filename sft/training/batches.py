"""How a batch is laid out: rows in one line without padding where that changes no loss, else rows with padding."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from sft.errors import TrainingError
from sft.recipes import Recipe
from sft.runs.machine import default_device
from sft.training.attention import attending_by_row, attends_by_row
from sft.training.sequences import Collator, LineCollator, Rows, dataset_of
from sft.training.trainer import nats_of

__all__ = ["collator_for", "largest_difference"]

#: Log-probabilities of one row, alone and in a line, differ by rounding only; nats by number format of the weights.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}


def collator_for(recipe: Recipe, model: PreTrainedModel, rows: Rows, *, filler: int) -> Collator | LineCollator:
    """What makes batches for ``model``, which is the bare one, adapters in it.

    Raises ``TrainingError`` when the recipe wants rows packed and this model would let them see each other.
    """
    reason = _why_padded(recipe, model, rows, filler)
    if not reason:
        # With a common beginning attention reads a mask, for which an accelerator would leave its fast path.
        return LineCollator(share=default_device().type == "cpu" and not _drops(model))
    if recipe.training.packing:
        raise TrainingError(f"training.packing: rows cannot be kept apart, because {reason}; set it to false")
    return Collator(filler)


def _why_padded(recipe: Recipe, model: PreTrainedModel, rows: Rows, filler: int) -> str:
    """Why rows must have padding, or nothing."""
    if (recipe.training.model_extra or {}).get("neftune_noise_alpha"):
        return "the noise of neftune_noise_alpha is scaled by the length of each row"
    if not attends_by_row(model):
        return "this model's attention cannot be had row by row"
    if default_device().type == "cuda" and not recipe.training.packing:
        return "TRL's kernel for the head knows rows with padding only"
    if any(parameter.is_meta for parameter in model.parameters()):
        return ""  # only the first process has the weights, and it compares
    difference = largest_difference(model, sorted(rows, key=lambda row: len(row[1]))[:2], filler=filler)
    if difference > TOLERANCE.get(next(model.parameters()).dtype, 1e-3):
        return f"log-probabilities in this model change by {difference:.2g} nats when rows stand behind each other"
    return ""


def _drops(model: PreTrainedModel) -> bool:
    """Whether anything is dropped at random while fitting."""
    layers = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    return layers or float(getattr(model.config.get_text_config(), "attention_dropout", 0.0) or 0.0) > 0


@torch.no_grad()
def largest_difference(model: PreTrainedModel, rows: Rows, *, filler: int) -> float:
    """The largest change of a supervised token's log-probability, in nats, from padded rows to rows in a line."""
    items: list[dict[str, Any]] = dataset_of(rows).to_list()
    was_training = model.training
    model.eval()
    try:
        found = []
        for collate in (Collator(filler), LineCollator()):
            inputs = {
                name: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for name, value in collate(items).items()
            }
            if "segments" in inputs:
                with attending_by_row(model):
                    found.append(nats_of(model, model, inputs)[0])
            else:
                found.append(nats_of(model, model, inputs)[0])
    finally:
        model.train(was_training)
    return float((found[0] - found[1]).abs().max())
