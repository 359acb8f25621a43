"""FlexAttention for rows in one line: tried in ``benchmarks/gpu.py``, not taken by the product.

PyTorch compiles it, and on CPUs it has no gradient: in a rehearsal its rows say so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface

#: The name under which transformers knows it.
FLEX = "benchmark_flex"


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=4)
def _blocks(segments: tuple[int, ...], device: torch.device) -> Any:
    """Which blocks of a line see each other: within a row, what came before."""
    lengths = torch.tensor([length for length in segments if length], device=device)
    row = torch.arange(len(lengths), device=device).repeat_interleave(lengths)

    def seen(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (row[query] == row[key]) & (query >= key)

    return create_block_mask(seen, None, None, len(row), len(row), device=device)


def by_blocks(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None, *,
    segments: tuple[int, ...], scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention within each row; shapes as for ``sft.training.attention.by_row``."""
    found = _compiled()(
        query, key, value, block_mask=_blocks(segments, query.device), scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(FLEX, by_blocks)
AttentionMaskInterface.register(FLEX, lambda *_, **__: None)
