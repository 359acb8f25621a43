"""Attention for rows that stand in one line: each sees what all begin with, and itself, and nothing else.

Scaled dot-product attention as transformers calls it, one call per row: no padding is computed and no mask is
read, and a row's values are what they are when it stands alone. The model hands ``segments`` on to its
attention as it hands on every keyword it does not know; the attention is registered by name, as
https://huggingface.co/docs/transformers/attention_interface describes.

Not every architecture is one in which rows are apart once their attention is (recurrent states, positions
of its own making), so nothing is taken for granted: :func:`stands_alone` compares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sft.prefilling import is_recurrent

__all__ = ["BY_ROW", "attends_by_row", "by_row"]

#: The name under which transformers knows this attention.
BY_ROW = "sft_by_row"


def by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    segments: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row. ``query``, ``key``, ``value``: (1, heads, tokens, width).

    ``segments``: tokens of the common beginning, then of every row's rest; they add up to ``tokens``. Without it the
    call is transformers' own. ``sliding_window``: how many tokens a token of this layer sees, itself included.
    Returns (1, tokens, heads, width) and no weights.
    """
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    shared, *lengths = segments
    heads, tails = [], []
    for states in (query, key, value):
        head, *rest = states.split([shared, *lengths], dim=2)
        heads.append(head)
        tails.append(rest)
    found: list[torch.Tensor] = []
    for row in zip(*tails, strict=True):
        # The common beginning is computed again with every row: it is short, and so no mask is needed.
        whole = [torch.cat([head, own], dim=2) for head, own in zip(heads, row, strict=True)] if shared else row
        tokens = whole[0].shape[2]
        mask = None
        if sliding_window is not None and tokens > sliding_window:
            ones = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device)
            mask = (ones.tril() & ones.triu(1 - sliding_window))[None, None]
        output, _ = sdpa_attention_forward(module, *whole, mask, is_causal=mask is None, **options)
        if shared and not found:
            found.append(output[:, :shared])
        found.append(output[:, shared:])
    return torch.cat(found, dim=1), None


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
