"""Number formats beside float32: where bfloat16 is faster, and where a base can be loaded in 4 bits."""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

import torch
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig

from sft.errors import PolicyError
from sft.recipes import Recipe

__all__ = ["CLEARLY", "bf16_speed", "choice", "four_bits", "in_words", "refuse_unless_quantisable"]

#: So many times as fast as float32 must bfloat16 be on a CPU before it is taken unasked. Below that the rest of a
#: step (attention, norms, the optimizer, all in float32) eats the gain, and float32 needs no explanation.
CLEARLY = 1.3


def choice(recipe: Recipe, device: torch.device, accelerator: bool, shape: tuple[int, int]) -> dict[str, Any]:
    """Whether to fit in bfloat16, and why: by the recipe, by what the accelerator computes in, or, on a CPU, measured.

    ``shape``: of the model's layers, see :func:`bf16_speed`. For the manifest, so that a run that goes on goes on in
    the same format.
    """
    asked = recipe.training.bf16
    found: dict[str, Any] = {"bf16": accelerator if asked is None else asked, "by": "recipe"}
    if asked is None:
        found["by"] = "accelerator" if device.type != "cpu" else "measured"
    if device.type == "cpu" and asked is not False:
        speed = bf16_speed(shape)
        found["cpu_speed"] = round(speed, 3)
        if asked is None:
            found["bf16"] = speed >= CLEARLY
    return found


def in_words(found: dict[str, Any]) -> str:
    """What is worth a line of :func:`choice`: a format that is unusual, or slow; "" where nothing is."""
    speed = found.get("cpu_speed")
    if speed is None or not found["bf16"]:
        return ""
    if speed < 1:
        return f"bf16: true as the recipe says, though bfloat16 takes {1 / speed:.1f} times as long as float32 here"
    return f"in bfloat16, {speed:.1f} times as fast as float32 here"


def bf16_speed(shape: tuple[int, int], *, rounds: int = 5, seconds: float = 0.1) -> float:
    """How many times as fast as float32 a CPU fits in bfloat16: one layer, forward and backward, as training does it.

    ``shape``: inputs and outputs of the layer (each taken as 1,024 at most, where the rate no longer rises). The
    weights stay float32 and are narrowed in every pass, as under autocast. A few rows come first: where bfloat16 is
    emulated it takes 20 times as long and more, and that is answer enough. Else 512 rows, a middling batch. Of each
    format the fastest of ``rounds`` counts, or of as many more as ``seconds`` have room for: another program's turn on
    the processor makes a round slower and never faster, and which format is taken must not hang on it.
    """
    few = _speed(shape, tokens=32, rounds=3, seconds=0)
    return few if few < 0.5 else _speed(shape, tokens=512, rounds=rounds, seconds=seconds)


def _speed(shape: tuple[int, int], *, tokens: int, rounds: int, seconds: float) -> float:
    inputs, outputs = (min(size, 1024) for size in shape)
    draw = torch.Generator().manual_seed(0)  # the global generator belongs to the fit
    states = torch.randn(tokens, inputs, generator=draw).requires_grad_()
    weights = torch.randn(outputs, inputs, generator=draw)

    def once(narrow: bool) -> float:
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            made = linear(states, weights)
        torch.autograd.grad(made, states, torch.ones_like(made))
        return time.perf_counter() - began

    began = time.perf_counter()
    taken = [(once(False), once(True)) for _ in range(rounds)]
    while len(taken) < 20 * rounds and time.perf_counter() - began < seconds:
        taken.append((once(False), once(True)))
    wide, narrow = zip(*taken, strict=True)
    return min(wide) / min(narrow)


def refuse_unless_quantisable() -> None:
    """Raise ``PolicyError`` with one sentence where a base cannot be fitted in 4 bits; costs nothing."""
    why = ""
    if not torch.cuda.is_available():
        why = "needs an NVIDIA GPU, and torch finds none here; write method: lora"
    elif importlib.util.find_spec("bitsandbytes") is None:
        why = 'needs bitsandbytes; pip install "behavioral-cloning[qlora]", or write method: lora'
    elif os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        why = "keeps the base whole on every GPU, and FSDP and ZeRO-3 take it apart; launch with DDP, or write "
        why += "method: lora"
    if why:
        raise PolicyError(f"adapter.method: qlora {why}")


def four_bits(device: torch.device) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a base in 4 bits on ``device``, as the QLoRA paper has it.

    NF4, its constants quantised again, computed in bfloat16 (Dettmers et al. 2023, section 3).
    """
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}
