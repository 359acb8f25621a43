"""Attention for rows that stand in one line: each sees what all begin with, and itself, and nothing else.

Scaled dot-product attention, one call per row: no padding is computed, and a row's values are what they are when
it stands alone. The model hands ``segments`` on to its
attention as it hands on every keyword it does not know; the attention is registered by name, as
https://huggingface.co/docs/transformers/attention_interface describes.

Not every architecture is one in which rows are apart once their attention is (recurrent states, positions
of its own making), so nothing is taken for granted: :mod:`sft.training.batches` compares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sft.policies.prefix_cache import is_recurrent

__all__ = ["BY_ROW", "attends_by_row", "by_row"]

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
