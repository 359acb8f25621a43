"""Number formats beside float32: where bfloat16 is faster, and where a base can be loaded in 4 bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig

from sft.errors import PolicyError
from sft.recipes import Recipe
from sft.recipes.requirements import BITSANDBYTES
from sft.runs.processes import sharding

#: What multiplies states and weights.
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: So many times as fast as float32 must bfloat16 be on a CPU before it is taken unasked. Below that the rest of a
#: step (attention, norms, the optimizer, all in float32) eats the gain, and float32 needs no explanation.
CLEARLY = 1.3

#: Layers with fewer inputs or outputs are fitted in float32, unmeasured: a product of theirs takes microseconds, so
#: chance would say which format is faster, and two runs of one recipe would not be equal.
NARROW = 256


def choice(
    recipe: Recipe,
    device: torch.device,
    accelerator: bool,
    shape: tuple[int, int],
    measure: Callable[[tuple[int, int]], float] | None = None,
) -> dict[str, Any]:
    """Whether to fit in bfloat16, and why: by the recipe, by what the accelerator computes in, or, on a CPU, measured.

    ``shape``: of the model's layers; ``measure``: what is asked of it, :func:`bf16_speed`. For the manifest, so that a
    run that goes on goes on in the same format.
    """
    asked = recipe.training.bf16
    found: dict[str, Any] = {"bf16": accelerator if asked is None else asked, "by": "recipe"}
    narrow = min(shape) < NARROW
    if asked is None:
        found["by"] = "accelerator" if device.type != "cpu" else "size" if narrow else "measured"
    if device.type == "cuda" and not accelerator and not recipe.training.further.get("fp16"):
        found["only_float16"] = True
    if device.type == "cpu" and asked is None and narrow:
        found["bf16"] = False
    elif device.type == "cpu" and asked is not False:
        speed = (measure or bf16_speed)(shape)
        found["cpu_speed"] = round(speed, 3)
        if asked is None:
            found["bf16"] = speed >= CLEARLY
    if recipe.adapter.method == "qlora" and device.type == "cpu":
        found["four_bits_slower"] = round(slowness_of_four_bits(shape), 3)
    return found


def in_words(found: dict[str, Any]) -> str:
    """What is worth a line of :func:`choice`: a format that is unusual, or slow; "" where nothing is."""
    speed, slower, said = found.get("cpu_speed"), found.get("four_bits_slower"), []
    if found.get("only_float16"):
        bf16 = "bf16: true as the recipe says, which this GPU only imitates"
        said.append(f"{bf16 if found['bf16'] else 'in float32'}; training.fp16=true, its own format, is much faster")
    if speed is not None and found["bf16"]:
        if speed < 1:
            taken = f"takes {1 / speed:.1f} times as long as float32 here"
            said.append(f"bf16: true as the recipe says, though bfloat16 {taken}")
        else:
            said.append(f"in bfloat16, {speed:.1f} times as fast as float32 here")
    if slower is not None and slower > CLEARLY:
        said.append(f"on a base in 4 bits, which on this CPU saves memory and takes {slower:.1f} times as long a layer")
    return "; ".join(said)


def bf16_speed(
    shape: tuple[int, int],
    *,
    rounds: int = 5,
    seconds: float = 0.1,
    product: Product = linear,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """How many times as fast as float32 a CPU fits in bfloat16: one layer, forward and backward, as training does it.

    ``shape``: inputs and outputs of the layer (each taken as 1,024 at most, where the rate no longer rises). The
    weights stay float32 and are narrowed in every pass, as under autocast. A few rows come first: where bfloat16 is
    emulated it takes 15 times as long and more, and that is answer enough; a busy processor has made it 6 times. Else
    512 rows, a middling batch. Of each format the fastest of ``rounds`` counts, or of as many more as ``seconds`` have
    room for: another program's turn on the processor makes a round slower and never faster, and which format is taken
    must not hang on it. ``product`` is timed by ``clock``.
    """
    few = _speed(shape, 32, 3, 0, product, clock)
    return few if few < 0.1 else _speed(shape, 512, rounds, seconds, product, clock)


def _speed(
    shape: tuple[int, int], tokens: int, rounds: int, seconds: float, product: Product, clock: Callable[[], float]
) -> float:
    states, weights = _layer(shape, tokens)

    def timed(narrow: bool) -> float:
        began = clock()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            made = product(states, weights)
        torch.autograd.grad(made, states, torch.ones_like(made))
        return clock() - began

    began = clock()
    taken = [(timed(False), timed(True)) for _ in range(rounds)]
    while len(taken) < 20 * rounds and clock() - began < seconds:
        taken.append((timed(False), timed(True)))
    wide, narrow = zip(*taken, strict=True)
    return min(wide) / min(narrow)


def _layer(shape: tuple[int, int], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States ``(tokens, inputs)`` that want a gradient, and weights ``(outputs, inputs)``, of 1,024 each at most."""
    inputs, outputs = (min(size, 1024) for size in shape)
    draw = torch.Generator().manual_seed(0)  # the global generator belongs to the fit
    return torch.randn(tokens, inputs, generator=draw).requires_grad_(), torch.randn(outputs, inputs, generator=draw)


def refuse_unless_quantisable() -> None:
    """Raise ``PolicyError`` with one sentence where a base cannot be fitted in 4 bits; costs nothing."""
    why, remedy = BITSANDBYTES.missing(), f"{BITSANDBYTES.install}, or write method: lora"
    if not why and torch.backends.mps.is_available():
        why, remedy = "bitsandbytes has no 4-bit kernels for MPS", "write method: lora"
    elif not why and sharding() in ("FSDP", "ZeRO-3"):
        why = "it keeps the base whole in every process, and FSDP and ZeRO-3 take it apart"
        remedy = "launch with DDP, or write method: lora"
    if why:
        raise PolicyError(f"adapter.method: is qlora, and {why}; {remedy}")


def refuse_unless_quantised(model: torch.nn.Module, name: str) -> None:
    """Raise ``PolicyError`` where no layer of ``model`` came out in 4 bits: it would be fitted as with ``lora``."""
    if not any(type(part).__name__ == "Linear4bit" for part in model.modules()):
        raise PolicyError(
            f"adapter.method: is qlora, and no layer of {name} can be held in 4 bits, for none but its head is a plain "
            "linear layer; write method: lora"
        )


def keep_differentiable(model: torch.nn.Module) -> None:
    """Have bitsandbytes leave the layout of a 4-bit base as it is, which on a CPU it changes in the first evaluation.

    Where the CPU computes in bfloat16, its layers pack their weights for a faster product the first time that they
    are called in evaluation mode, and never unpack them. That product has no gradient (0.50.2): from the first look
    at the validation split on, whatever lies below a layer would learn from wrong gradients, with one warning.
    """
    part: Any
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def slowness_of_four_bits(shape: tuple[int, int], tokens: int = 512) -> float:
    """How many times as long as in float32 a layer in 4 bits takes on a CPU, forward and backward, with bitsandbytes.

    ``shape``: inputs and outputs of the layer, taken as 1,024 at most. The best of three rounds counts.
    """
    import bitsandbytes

    states, weights = _layer(shape, tokens)
    with torch.random.fork_rng(devices=[]):
        narrow = bitsandbytes.nn.Linear4bit(
            *weights.T.shape, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=True
        )
    narrow.weight = bitsandbytes.nn.Params4bit(weights.clone(), requires_grad=False, quant_type="nf4")
    narrow = narrow.to("cpu")
    keep_differentiable(narrow)

    def once(made: Callable[[torch.Tensor], torch.Tensor]) -> float:
        began = time.perf_counter()
        said = made(states)
        torch.autograd.grad(said, states, torch.ones_like(said))
        return time.perf_counter() - began

    taken = [(once(lambda rows: linear(rows, weights)), once(narrow)) for _ in range(4)][1:]
    wide, four = zip(*taken, strict=True)
    return min(four) / min(wide)


def four_bits(device: torch.device, accelerator: bool, *, half: bool = False) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a base in 4 bits on ``device``, as the QLoRA paper has it.

    NF4, its constants quantised again, computed in bfloat16 (Dettmers et al. 2023, section 3). On a CPU too: there it
    saves memory, and costs time. On a GPU that only imitates bfloat16, where ``accelerator`` is False, it is computed
    in float16 if the fit is (``half``), whose gradients are scaled for it, else in float32.
    """
    narrow = torch.float16 if half else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if accelerator or device.type == "cpu" else narrow,
    )
    return {"quantization_config": config, "device_map": {"": device}}
