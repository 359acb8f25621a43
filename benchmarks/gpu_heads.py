"""Other ways to score the head: tried in ``benchmarks/gpu.py`` beside TRL's tiles, not taken by the product."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import pad

from sft.training.sequences import IGNORED


def whole(trainer: Any, model: Any, inputs: dict[str, Any], supervised: Any) -> torch.Tensor:
    """Mean nats of the ``supervised`` tokens, the logits of all of them kept for the way back."""
    inputs.pop("row")
    nats = trainer._nats(model, inputs)
    return nats.sum() / supervised  # type: ignore[no-any-return]


def cut(trainer: Any, model: Any, inputs: dict[str, Any], supervised: Any) -> torch.Tensor:
    """The same by ``cut_cross_entropy`` (https://arxiv.org/abs/2411.09009), which a user installs by himself.

    No logits reach memory, neither on the way there nor back. It computes in 16 bits and leaves out gradients that
    16 bits would lose. On a CPU, where it has no kernel, its own plain form of the same call is taken.
    """
    from cut_cross_entropy import linear_cross_entropy

    inputs.pop("row")
    bare = trainer.accelerator.unwrap_model(model)
    bare = bare.get_base_model() if isinstance(bare, PeftModel) else bare
    labels = inputs["labels"][:, 1:]
    where = {name: inputs[name] for name in ("position_ids", "segments") if name in inputs}
    with trainer.accelerator.autocast():
        states = bare.model(input_ids=inputs["input_ids"], use_cache=False, **where).last_hidden_state
    states, head = states[pad(labels != IGNORED, (0, 1))], bare.get_output_embeddings().weight
    card = states.is_cuda
    narrow = torch.bfloat16 if card else states.dtype
    with nullcontext() if card else torch.compiler.set_stance("force_eager"):
        nats = linear_cross_entropy(
            states.to(narrow), head.to(narrow), labels[labels != IGNORED], reduction="sum",
            impl="cce" if card else "torch_compile",
        )  # fmt: skip
    return nats / supervised  # type: ignore[no-any-return]
