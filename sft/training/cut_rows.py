"""One row for several processes: each has a part of the line, and attention brings the parts together.

Everything in a layer but attention works at one token at a time, so a process computes it for its own tokens only, and
keeps only their states for the way back. Before attention the processes exchange: each gives its tokens away and gets
some heads of all tokens; behind attention they exchange back (Jacobs et al. 2023, DeepSpeed-Ulysses, arXiv
2309.14509). Attention itself is the one that the fit has anyway (``attention``): rows in a line do not meet, and a
sliding window is one.

The exchange is ours, over ``torch.distributed``, and not DeepSpeed's, which accelerate and TRL take: that one knows no
rows in a line and no windows, and its gradients are not those of one process (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from sft.errors import TrainingError
from sft.runs.processes import processes_per_row, rank_and_world, row_groups

#: What complaints are about.
SP_SIZE = "sp_size in the configuration of accelerate launch"
#: Positions that stretch with the longest that stands in a batch, of which a process sees its part alone.
_STRETCHING = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class RowCut:
    """Of a line that is cut into ``parts`` of equal length, the one of this process; ``group``: those who share it."""

    part: int
    parts: int
    group: Any

    def heads_of_all(self, states: torch.Tensor) -> torch.Tensor:
        """Own tokens of all heads ``(1, heads, own, width)`` to all of own heads ``(1, heads / parts, all, width)``."""
        _, heads, own, width = states.shape
        came = _Exchange.apply(states.reshape(self.parts, heads // self.parts, own, width), self.group)
        return came.transpose(0, 1).reshape(1, heads // self.parts, self.parts * own, width)

    def tokens_of_all(self, found: torch.Tensor) -> torch.Tensor:
        """All tokens of own heads ``(1, all, heads / parts, width)`` to own of all heads ``(1, own, heads, width)``."""
        _, every, heads, width = found.shape
        came = _Exchange.apply(found.reshape(self.parts, every // self.parts, heads, width), self.group)
        return came.transpose(0, 1).reshape(1, every // self.parts, self.parts * heads, width)


class _Exchange(torch.autograd.Function):
    """Part ``n`` of the first dimension goes to process ``n``; what comes stands in their order. Its own inverse."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        states = states.contiguous()
        came = torch.empty_like(states)
        dist.all_to_all_single(came, states, group=group)
        return came

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, None]:
        return _Exchange.apply(gradients[0], ctx.group), None


def across_the_cut(attend: Callable[..., tuple[torch.Tensor, None]]) -> Callable[..., tuple[torch.Tensor, None]]:
    """``attend`` as it is, and for a line that is cut, between two exchanges."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        cut: RowCut | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        if cut is None:
            return attend(module, query, key, value, attention_mask, **options)
        _demand_heads(query.shape[1], cut.parts)
        if key.shape[1] % cut.parts:
            key, value = (one.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for one in (key, value))
        heads = [cut.heads_of_all(states) for states in (query, key, value)]
        found, _ = attend(module, *heads, None, **options)
        return cut.tokens_of_all(found), None

    return attention


def _demand_heads(heads: int, parts: int) -> None:
    if heads % parts:
        fits = [str(number) for number in range(2, heads + 1) if not heads % number]
        raise TrainingError(
            f"{SP_SIZE}: the model's {heads} heads cannot be shared by {parts} "
            f"processes; {'write one of ' + ', '.join(fits) if fits else 'take it out'}"
        )


def demand_that_rows_can_be_cut(model: PreTrainedModel) -> None:
    """Raise ``TrainingError`` where the launch has several processes share a row and ``model`` cannot be cut so."""
    parts = processes_per_row()
    if parts == 1:
        return
    _demand_heads(model.config.get_text_config().num_attention_heads, parts)
    kinds = [getattr(module, "rope_type", None) for module in model.modules()]
    named = [one for kind in kinds for one in (kind.values() if isinstance(kind, dict) else [kind])]
    if found := [kind for kind in _STRETCHING if kind in named]:
        raise TrainingError(
            f"{SP_SIZE}: this model's positions ({found[0]}) follow from the "
            "longest of a batch, and each process sees its part alone; take it out"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise TrainingError(
            f"{SP_SIZE}: with fsdp_cpu_ram_efficient_loading one process alone "
            "has the weights, so what a cut changes cannot be compared; write false there"
        )


def cut_of_this_process(backend: str | None = None) -> RowCut | None:
    """This process's part of each row; None where each has rows of its own. All processes come here.

    Neighbours in rank share a row. They exchange in a group of their own, so that nothing comes between them and the
    exchange of gradients. ``backend``: what they talk through, as the others unless given.
    """
    parts, (rank, world) = processes_per_row(), rank_and_world()
    if parts == 1:
        return None
    groups = [dist.new_group(list(range(first, first + parts)), backend=backend) for first in range(0, world, parts)]
    assert len(groups) == row_groups()
    return RowCut(rank % parts, parts, groups[rank // parts])
