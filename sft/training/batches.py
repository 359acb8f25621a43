"""How a batch is laid out, attended to and scored: rows in one line without padding, where that changes no loss.

In a line each row sees what all begin with, and itself, and nothing else. Scaled dot-product attention, one call per
row: no padding is computed, and a row's values are what they are when it stands alone. The model hands ``segments`` on
to its attention as it hands on every keyword it does not know; the attention is registered by name, as
https://huggingface.co/docs/transformers/attention_interface describes.

Not every architecture is one in which rows are apart once their attention is (recurrent states, positions
of its own making), so nothing is taken for granted: :func:`collator_for` compares, and else rows have padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sft.errors import TrainingError
from sft.policies.prefix_cache import is_recurrent
from sft.policies.weights import supervised_only
from sft.recipes import Recipe
from sft.runs.machine import default_device
from sft.training.sequences import IGNORED, Collator, LineCollator, Rows, dataset_of

#: The name under which transformers knows this attention.
BY_ROW = "sft_by_row"


@lru_cache(maxsize=256)
def _mask(own: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of ``seen`` tokens each of the last ``own`` sees: bool, (own, seen); None where plain causality says it."""
    if own == seen and (window is None or window >= seen):
        return None
    every = torch.ones(own, seen, dtype=torch.bool, device=device)
    mask = every.tril(seen - own)
    return mask if window is None else mask & every.triu(seen - own - window + 1)


def by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    segments: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row. ``query``, ``key``, ``value``: (1, heads, tokens, width).

    ``segments``: tokens of the common beginning, then of every row's rest; they add up to ``tokens``. Without it the
    call is transformers' own. ``sliding_window``: how many tokens a token of this layer sees, itself included.
    Returns (1, tokens, heads, width) and no weights.
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    rows = list(zip(*(states.split(segments, dim=2) for states in (query, key, value)), strict=True))
    (_, first_key, first_value), *_ = rows
    found = []
    for place, (own, keys, values) in enumerate(rows):
        if place and segments[0]:
            keys, values = torch.cat([first_key, keys], dim=2), torch.cat([first_value, values], dim=2)
        if not own.shape[2]:
            continue
        mask = _mask(own.shape[2], keys.shape[2], sliding_window, own.device)
        found.append(
            scaled_dot_product_attention(
                own,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=own.shape[1] != keys.shape[1],
            )
        )
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(BY_ROW, by_row)
AttentionMaskInterface.register(BY_ROW, lambda *_, **__: None)  # nothing is masked: rows never meet


def attends_by_row(model: PreTrainedModel) -> bool:
    """Whether ``model`` computes its attention through transformers' interface, by SDPA, and nothing but attention
    carries anything from token to token."""
    return bool(
        getattr(model, "_supports_attention_backend", False)
        and model.config.get_text_config()._attn_implementation == "sdpa"
        and not is_recurrent(model)
    )


@contextlib.contextmanager
def attending_by_row(model: PreTrainedModel) -> Iterator[None]:
    """Inside, ``model`` attends by row wherever it is told ``segments``."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation(BY_ROW)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


# -- layout ------------------------------------------------------------------------------------------------

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
            with attending_by_row(model) if "segments" in inputs else contextlib.nullcontext():
                found.append(nats_of(model, model, inputs)[0])
    finally:
        model.train(was_training)
    return float((found[0] - found[1]).abs().max())


# -- loss --------------------------------------------------------------------------------------------------


def nats_of(model: torch.nn.Module, bare: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p of every supervised token of a batch, ``(n,)``, and the item (0..items-1) each belongs to, ``(n,)``.

    ``model``: what is called; ``bare``: the same without what a launcher wraps it in.
    """
    labels = inputs["labels"][:, 1:]
    predicted = pad(labels != IGNORED, (0, 1))
    where = {name: inputs[name] for name in ("position_ids", "segments") if name in inputs}
    # Padding is on the right and attention is causal, or there is no padding: no real token ever sees any, and
    # without a mask attention takes its faster path.
    with supervised_only(bare, predicted):
        logits = model(input_ids=inputs["input_ids"], use_cache=False, **where).logits[0]
    targets = labels[labels != IGNORED].to(logits.device)
    nats = cross_entropy(logits.float(), targets, reduction="none")
    if "segments" not in inputs:
        return nats, predicted.nonzero()[:, 0]
    shared, *lengths = inputs["segments"]
    items = torch.arange(len(lengths), device=predicted.device)
    owner = items.repeat_interleave(torch.tensor(lengths, device=predicted.device))
    return nats, owner[predicted[0, shared:]]
