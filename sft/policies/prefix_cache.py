"""Reading prompts: what they all begin with once, the rest in little padding, with room for what will be written.

Exact for every architecture: where a cached beginning before padding would not be (sliding windows, recurrent
states), it is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from sft.policies.policy import Policy

#: A common beginning shorter than this is not worth a forward pass of its own.
SHORTEST_SHARED_PREFIX = 16

#: Prompts computed at once before decoding starts; sorted by length, so few of their tokens are padding.
PREFILL_ROWS = 8


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading ids that all ``prompts`` share, at most one less than the shortest has."""
    if len(prompts) < 2:
        return 0
    shortest, *_ = sorted(prompts, key=len)
    columns = zip(*prompts, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return min(shared, len(shortest) - 1)


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether the model carries a state of its own from token to token (Mamba, hybrids); padding would be in it."""
    return bool(getattr(model, "_is_stateful", False))


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether a cached beginning followed by padding is exact: not under sliding windows or recurrent state."""
    if is_recurrent(model):
        return False
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not (
        getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    )


def shared_prefix(policy: Policy, rows: Sequence[Sequence[int]]) -> tuple[DynamicCache | None, int]:
    """The cache of what all ``rows`` begin with, and its length; ``(None, 0)`` where it does not pay."""
    shared = common_prefix(rows) if shares_prefixes(policy.model) else 0
    if shared < SHORTEST_SHARED_PREFIX:
        return None, 0
    prefix = DynamicCache(config=policy.model.config)
    ids = torch.tensor([list(rows[0][:shared])], device=policy.device)
    policy.model(input_ids=ids, past_key_values=prefix, use_cache=True, logits_to_keep=1)
    return prefix, shared


def _prefill_at_once(
    policy: Policy, prompts: list[Sequence[int]], prefix: DynamicCache | None, shared: int
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """Logits after each prompt ``(batch, vocab)``, the cache, and the attention mask so far."""
    longest = max(map(len, prompts))
    filler = policy.renderer.pad_token_id
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in prompts], device=policy.device)
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=policy.device)
    mask = torch.cat([real.new_ones(len(prompts), shared), real], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    cache = repeated(policy, prefix, len(prompts))
    answer = policy.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return answer.logits[:, -1], cache, mask


def repeated(policy: Policy, prefix: DynamicCache | None, rows: int) -> DynamicCache:
    """A new cache that begins with ``prefix`` (one row) in each of ``rows`` rows."""
    cache = DynamicCache(config=policy.model.config)
    for index, layer in enumerate(prefix.layers if prefix is not None else ()):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return cache


class ReservedLayer(DynamicLayer):
    """A cache layer with room for tokens to come, so that a new token does not copy all earlier ones.

    ``pieces``: keys and values ``(rows, heads, length, width)`` of parts of the batch, set against the right end.
    """

    def __init__(self, pieces: Sequence[tuple[torch.Tensor, torch.Tensor]], room: int) -> None:
        super().__init__()
        self.length = max(keys.shape[-2] for keys, _ in pieces)
        self._keys, self._values = (
            torch.cat([pad(piece[side], (0, 0, self.length - piece[side].shape[-2], room)) for piece in pieces])
            for side in (0, 1)
        )
        self.dtype, self.device = self._keys.dtype, self._keys.device
        self.is_initialized = True
        self._show()

    def _show(self) -> None:
        self.keys, self.values = self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones; ``(rows, heads, new, width)`` each."""
        end = self.length + key_states.shape[-2]
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices`` only."""
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._show()


def prefill(
    policy: Policy, prompts: list[Sequence[int]], prefix: DynamicCache | None, shared: int, room: int
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """Logits after each prompt, cache and mask, read a few rows of like length at a time, with ``room`` for tokens."""
    if not shares_prefixes(policy.model):
        return _prefill_at_once(policy, prompts, prefix, shared)
    pieces = [
        _prefill_at_once(policy, prompts[start : start + PREFILL_ROWS], prefix, shared)
        for start in range(0, len(prompts), PREFILL_ROWS)
    ]
    longest = max(mask.shape[1] for _, _, mask in pieces)
    mask = torch.cat([pad(mask, (longest - mask.shape[1], 0)) for _, _, mask in pieces])
    cache = DynamicCache()
    cache.layers = [
        ReservedLayer([(layer.keys, layer.values) for layer in layers], room)
        for layers in zip(*(piece.layers for _, piece, _ in pieces), strict=True)
    ]
    return torch.cat([logits for logits, _, _ in pieces]), cache, mask


def rows_of(policy: Policy, cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    """A new cache with those rows of ``cache`` that ``rows`` names, to be written on apart from it."""
    chosen = DynamicCache(config=policy.model.config)
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[rows], layer.values[rows], index)
    return chosen
