"""Memory, time and due moments, from the parts of a plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sft.training.plan.parts import Batch, Fit, Memory, Model

__all__ = ["PROCESS", "certain_bytes", "cost_of", "estimate", "fitted_cost", "looks", "remedies"]

#: Bytes of optimizer state per fitted parameter, by ``optim``; what is not named here counts as nothing.
_STATES = {"adamw": 8, "adamw_torch": 8, "adamw_torch_fused": 8, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "sgd": 0}
#: Libraries, tokenizer and demonstrations beside the model in a process that trains: measured on Linux, CPU.
PROCESS = 700_000_000


def certain_bytes(model: Model, fit: Fit) -> tuple[int, int, int]:
    """(weights, gradients, optimizer states): what any fit of ``model`` holds, however short its batches are."""
    return model.weight_bytes, model.trainable_bytes, model.trainable * _STATES.get(fit.optim, 0)


def estimate(model: Model, fit: Fit, batch: Batch, *, process: int = PROCESS) -> Memory:
    """The memory of a fit whose longest batch is ``batch``; ``process``: what is held beside the model, 0 on a GPU.

    What one position keeps in one layer of a Llama-shaped model (checked against what autograd holds, in the tests):
    the normed states before and after their weights, twice; the residual stream, twice; queries and keys before
    and after their rotation, values, what attention gave; gate, its sigmoid-weighted form, up, and their product.
    With checkpointing one layer keeps that at a time, and every layer its input.
    """
    weights, gradients, optimizer = certain_bytes(model, fit)
    per_layer = batch.slots * model.itemsize * (8 * model.width + 3 * model.keys + 4 * model.wide)
    inputs = batch.slots * model.itemsize * model.width * model.layers
    activations = inputs + per_layer if fit.checkpointing else per_layer * model.layers
    logits = batch.supervised * model.vocabulary * 4 * 2
    return Memory(weights, gradients, optimizer, activations, logits, process + (activations + logits) // 10)


def remedies(fit: Fit, *, can_adapt: bool = True) -> Iterator[Fit]:
    """Other settings that take less memory, those first that change the result least.

    The same batch in more passes changes nothing but rounding; checkpointing nothing but the time. An adapter in
    place of all weights, narrower weights and shorter demonstrations change what is learned.
    """
    ladder = [fit]
    size, accumulation = fit.batch_size, fit.accumulation
    while size > 1:
        size, accumulation = -(-size // 2), accumulation * 2
        ladder.append(replace(fit, batch_size=size, accumulation=accumulation))
    yield from ladder[1:]
    if not fit.checkpointing:
        ladder = [replace(step, checkpointing=True) for step in ladder]
        yield from ladder
    if fit.method == "full" and can_adapt:
        ladder = [replace(step, method="lora") for step in ladder]
        yield from ladder
    if fit.dtype not in ("bfloat16", "float16"):
        ladder = [replace(step, dtype="bfloat16") for step in ladder]
        yield from ladder
    length = fit.max_length // 2
    while length >= 64:
        yield replace(ladder[-1], max_length=length)
        length //= 2


# -- time ---------------------------------------------------------------------------------------------------


def fitted_cost(batches: Sequence[Batch], seconds: Sequence[float]) -> tuple[float, float, float, float]:
    """Seconds of a pass as a + b slots + c squares + d supervised, none of them negative, by least squares.

    Scaled so that the measured passes come to the seconds they took. With fewer than four: proportional to slots.
    """
    import numpy as np

    taken = np.asarray(seconds, dtype=float)
    if len(taken) < 4:
        return 0.0, float(taken.sum() / max(1, sum(b.slots for b in batches))), 0.0, 0.0
    from scipy.optimize import nnls

    terms = np.array([[1.0, b.slots, b.squares, b.supervised] for b in batches])
    scale = terms.max(axis=0)
    scale[scale == 0] = 1.0
    found = nnls(terms / scale, taken)[0] / scale
    found *= taken.sum() / max(float((terms @ found).sum()), 1e-12)
    return tuple(found.tolist())


def cost_of(batch: Batch, terms: tuple[float, float, float, float]) -> float:
    """Seconds of a pass over ``batch`` by :func:`fitted_cost`."""
    return terms[0] + terms[1] * batch.slots + terms[2] * batch.squares + terms[3] * batch.supervised


def looks(steps: int, every: float | None, *, at_the_end: bool = True) -> int:
    """How often something happens that is due ``every`` so many steps (below 1: a share of them), and at the end."""
    if every is None:
        return 0
    interval = max(1, math.ceil(steps * every) if every < 1 else int(every))
    return steps // interval + (1 if at_the_end and steps % interval else 0)
