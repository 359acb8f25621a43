"""Attention over rows of many lengths where no kernel of it is: what a card's kernel computes, row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


def stand_in(
    query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
    scale: float | None, window_size: tuple[int, int], enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """As the documentation of ``varlen_attn`` has it: rows between the ends, (left, right) neighbours, -1 for all."""
    assert torch.equal(cu_seq_q, cu_seq_k) and cu_seq_q.dtype == torch.int32 and int(cu_seq_q[-1]) == len(query)
    assert max_q == max_k == int(cu_seq_q.diff().max()) and window_size[1] == 0
    assert query.dtype == key.dtype == value.dtype
    found = []
    for begin, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        own = [states[begin:end].transpose(0, 1) for states in (query, key, value)]
        seen = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
        if window_size[0] >= 0:
            seen &= seen.triu(-window_size[0])
        found.append(scaled_dot_product_attention(*own, attn_mask=seen, scale=scale, enable_gqa=enable_gqa))
    return torch.cat(found, dim=1).transpose(0, 1)
