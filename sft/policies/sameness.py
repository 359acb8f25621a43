"""Whether two models are one and the same up to rounding: the same questions, and how far apart their answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sft.errors import PolicyError

if TYPE_CHECKING:
    import torch

    from sft.policies.rendering import Rendered


#: So many rows, and so many supervised positions of each: every layer takes part in every one of them.
ROWS, POSITIONS = 4, 16

#: By the narrowest format involved, in standard deviations of the fitted logits: the largest difference, or, where
#: products are rounded to 8 bits in every layer, the mean one. SmolLM2-135M after 8 steps of LoRA: float32 differs by
#: 1e-5 at most after merging, bfloat16 from float32 by 0.02 on average, and a clone that lost its adapter by 0.15.
LARGEST_FLOAT32, MEAN_NARROW = 1e-3, 0.06

#: In the same unit: a lead of the likeliest token that rounding does not turn round.
CLEAR_LEAD = 0.5


def questions(rows: Sequence[Rendered]) -> list[dict[str, Any]]:
    """What two models are asked, to tell them apart: the first :data:`ROWS` of ``rows``."""
    return [
        {"ids": list(r.input_ids), "first": len(r.prompt_ids), "count": min(POSITIONS, len(r.completion_ids))}
        for r in rows[:ROWS]
    ]


def answers(model: Any, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What ``model`` says to :func:`questions`: number of the row -> logits, ``(positions, vocab)``."""
    return {str(number): logits_of(model, model, row) for number, row in enumerate(rows)}


def logits_of(model: Any, forward: Any, row: dict[str, Any]) -> torch.Tensor:
    """What ``model``, called by ``forward``, says at the supervised positions of the row: ``(positions, vocab)``."""
    import torch

    from sft.policies.weights import supervised_only

    last = row["first"] + row["count"]
    ids = torch.tensor([row["ids"][:last]], device=next(model.parameters()).device)
    asked = torch.zeros(ids.shape, dtype=torch.bool)
    asked[0, row["first"] - 1 : last - 1] = True
    with torch.no_grad(), supervised_only(model, asked):
        return forward(input_ids=ids, use_cache=False).logits[0].float().cpu().contiguous()


def deviation(
    model: Any, rows: Sequence[dict[str, Any]], said: dict[str, torch.Tensor], *, narrow: bool
) -> tuple[dict[str, Any], str]:
    """How far ``model`` is from what another one ``said`` to the same rows, and what is wrong with that.

    The figures: mean and largest difference of the logits, in their own unit, beside their spread; the share of
    likeliest tokens that are the same, of all and of those that lead by more than :data:`CLEAR_LEAD` (``clear``). And
    a few words, "" where it is the same model up to rounding: of float32 or, with ``narrow``, of a narrower format.
    Raises ``PolicyError`` where the two do not choose among the same tokens.
    """
    import torch

    highest = max(max(row["ids"]) for row in rows)
    if (known := model.get_input_embeddings().weight.shape[0]) <= highest:
        raise PolicyError(f"it knows {known} tokens, and was fitted to token {highest}")
    here, there = torch.cat(list(answers(model, rows).values())), torch.cat([said[str(n)] for n in range(len(rows))])
    if here.shape != there.shape:
        raise PolicyError(f"it chooses among {here.shape[1]} tokens, and was fitted to choose among {there.shape[1]}")
    difference, spread = (here - there).abs(), float(there.std())
    mean, largest = float(difference.mean()), float(difference.max())
    best = there.topk(2).values
    same, clear = here.argmax(1) == there.argmax(1), best[:, 0] - best[:, 1] > CLEAR_LEAD * spread
    top1, kept = float(same.float().mean()), float(same[clear].float().mean()) if clear.any() else 1.0
    found = {"positions": len(here), "mean": mean, "max": largest, "spread": spread, "top1": top1, "clear": kept}
    wrong = mean > MEAN_NARROW * spread or kept < 1 if narrow else largest > LARGEST_FLOAT32 * max(1.0, spread)
    if not wrong:
        return found, ""
    return found, (
        f"gives logits that differ by {mean:.2g} on average and {largest:.2g} at most, "
        f"and {top1:.0%} of the likeliest tokens"
    )
