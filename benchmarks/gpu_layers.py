"""Decoder layers compiled: tried in ``benchmarks/gpu.py``, not taken by the product.

All layers of a model are one piece of code, which PyTorch compiles once for each length of a line, or once for every
length. Attention stays as it is, between two compiled halves: where rows begin and end is told to it beside the layers.
Handed through them, these numbers would be compiled in, and a batch has numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from sft.training.attention import by_row, varlen
from sft.training.sequences import IGNORED

#: The name under which transformers knows the attention between compiled halves.
BETWEEN = "benchmark_between"


@dataclass
class Line:
    """The line that is being read: tokens of its common beginning, then of every row's rest."""

    segments: tuple[int, ...] = field(default=())


LINE = Line()


@torch.compiler.disable
def between(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None, *,
    scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention within each row of ``LINE``; shapes as for ``sft.training.attention.by_row``."""
    attend = varlen if query.is_cuda else by_row
    return attend(module, query, key, value, segments=LINE.segments, scaling=scaling)


AttentionInterface.register(BETWEEN, between)
AttentionMaskInterface.register(BETWEEN, lambda *_, **__: None)


def compile_layers(model: Any, *, any_length: bool) -> None:
    """Have each layer of ``model`` but the first compiled when it is called; ``any_length``: for all lengths at once.

    What the first one reads needs no gradient under an adapter, so for it alone everything would be compiled twice.
    """
    backend = "inductor" if model.device.type == "cuda" else "aot_eager"  # a rehearsal goes the same way, uncompiled
    for layer in model.model.layers[1:]:
        layer.compile(dynamic=any_length, backend=backend)


def graphs_compiled() -> int:
    """How many graphs PyTorch has compiled in this process until now."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@dataclass(frozen=True, slots=True)
class Filled:
    """A line of ``collate``, filled up to a multiple of ``every`` tokens by a row that nothing is learned from.

    So lines have few lengths. ``filled``: tokens of that row, which is the last one.
    """

    collate: Callable[[list[Any]], dict[str, Any]]
    every: int
    filler: int

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        """The batch with one more row, or none where nothing is missing."""
        batch = self.collate(items)
        missing = -batch["input_ids"].shape[1] % self.every
        if not missing:
            return batch

        def with_more(name: str, more: torch.Tensor) -> torch.Tensor:
            return torch.cat([batch[name], more.unsqueeze(0)], dim=1)

        return batch | {
            "input_ids": with_more("input_ids", torch.full((missing,), self.filler)),
            "labels": with_more("labels", torch.full((missing,), IGNORED)),
            "position_ids": with_more("position_ids", torch.arange(missing)),
            "segments": (*batch["segments"], missing),
            "filled": missing,
        }
