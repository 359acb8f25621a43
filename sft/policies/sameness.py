"""Whether two models are one and the same up to rounding: the same questions, and how far apart their answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sft.errors import PolicyError

if TYPE_CHECKING:
    import torch

    from sft.policies.rendering import Rendered


__all__ = ["answers", "deviation", "questions"]

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
    return {str(number): _logits(model, model, row) for number, row in enumerate(rows)}


def deviation(
    model: Any, rows: Sequence[dict[str, Any]], said: dict[str, torch.Tensor], *, narrow: bool
) -> tuple[dict[str, Any], str]:
    """How far ``model`` is from what another one ``said`` to the same rows, and what is wrong with that.

    The figures, and a few words, "" where it is the same model up to rounding: of float32 or, with ``narrow``, of
    a narrower format. Raises ``PolicyError`` where the two do not choose among the same tokens.
    """
    found = _differences(model, rows, said)
    return found, _beyond_rounding(found, narrow=narrow)


def _logits(model: Any, forward: Any, row: dict[str, Any]) -> torch.Tensor:
    """What ``model``, called by ``forward``, says at the supervised positions of the row: ``(positions, vocab)``."""
    import torch

    from sft.policies.weights import supervised_only

    last = row["first"] + row["count"]
    ids = torch.tensor([row["ids"][:last]], device=next(model.parameters()).device)
    asked = torch.zeros(ids.shape, dtype=torch.bool)
    asked[0, row["first"] - 1 : last - 1] = True
    with torch.no_grad(), supervised_only(model, asked):
        return forward(input_ids=ids, use_cache=False).logits[0].float().cpu().contiguous()


def _differences(model: Any, rows: Sequence[dict[str, Any]], fitted: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Mean and largest difference of the logits, in their own unit and beside their spread; the likeliest tokens.

    ``clear``: of the tokens that lead by more than :data:`CLEAR_LEAD`, the share that is the likeliest here too.
    """
    import torch

    highest = max(max(row["ids"]) for row in rows)
    if (known := model.get_input_embeddings().weight.shape[0]) <= highest:
        raise PolicyError(f"it knows {known} tokens, and was fitted to token {highest}")
    here = torch.cat([_logits(model, model, row) for row in rows])
    there = torch.cat([fitted[str(number)] for number in range(len(rows))])
    if here.shape != there.shape:
        raise PolicyError(f"it chooses among {here.shape[1]} tokens, and was fitted to choose among {there.shape[1]}")
    difference, spread = (here - there).abs(), float(there.std())
    best = there.topk(2).values
    same, clear = here.argmax(1) == there.argmax(1), best[:, 0] - best[:, 1] > CLEAR_LEAD * spread
    return {
        "positions": len(here),
        "mean": float(difference.mean()),
        "max": float(difference.max()),
        "spread": spread,
        "top1": float(same.float().mean()),
        "clear": float(same[clear].float().mean()) if clear.any() else 1.0,
    }


def _beyond_rounding(found: dict[str, Any], *, narrow: bool) -> str:
    """What is wrong with one set of figures, in a few words; "" if nothing is."""
    if narrow:
        wrong = found["mean"] > MEAN_NARROW * found["spread"] or found["clear"] < 1
    else:
        wrong = found["max"] > LARGEST_FLOAT32 * max(1.0, found["spread"])
    if not wrong:
        return ""
    return (
        f"gives logits that differ by {found['mean']:.2g} on average and {found['max']:.2g} at most, "
        f"and {found['top1']:.0%} of the likeliest tokens"
    )
