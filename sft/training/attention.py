"""Attention for rows that stand in one line: each row sees what all begin with, and itself, and nothing else.

Two ways, registered with transformers by name, as https://huggingface.co/docs/transformers/attention_interface
describes. ``sft_by_row`` is scaled dot-product attention, one call per row, on any device and in any number format: a
row's values are what they are when it stands alone. ``sft_varlen`` is PyTorch's own attention over rows of many
lengths, one call for the whole line, for NVIDIA GPUs in 16 bits. The model hands ``segments`` on to its attention as
it hands on every keyword it does not know.

Which one a fit takes is settled by :func:`why_not_varlen`, which compares them on the device at hand before anything
trains; it believes no table of devices.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sft.policies.prefix_cache import is_recurrent
from sft.training.cut_rows import across_the_cut

#: What ``torch.nn.attention.varlen.varlen_attn`` is called with; it returns (tokens, heads, width).
Kernel = Callable[..., torch.Tensor]
#: The names under which transformers knows these.
BY_ROW, VARLEN = "sft_by_row", "sft_varlen"


@lru_cache(maxsize=256)
def _mask(own: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of ``seen`` tokens each of the last ``own`` sees: bool, (own, seen); None where plain causality says it."""
    if own == seen and (window is None or window >= seen):
        return None
    every = torch.ones(own, seen, dtype=torch.bool, device=device)
    mask = every.tril(seen - own)
    return mask if window is None else mask & every.triu(seen - own - window + 1)


def by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    segments: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row. ``query``, ``key``, ``value``: (1, heads, tokens, width).

    ``segments``: tokens of the common beginning, then of every row's rest; they add up to ``tokens``. Without it the
    call is transformers' own. ``sliding_window``: how many tokens a token of this layer sees, itself included.
    Returns (1, tokens, heads, width) and no weights.
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    rows = list(zip(*(states.split(segments, dim=2) for states in (query, key, value)), strict=True))
    (_, first_key, first_value), *_ = rows
    found = []
    for place, (own, keys, values) in enumerate(rows):
        if place and segments[0]:
            keys, values = torch.cat([first_key, keys], dim=2), torch.cat([first_value, values], dim=2)
        if not own.shape[2]:
            continue
        mask = _mask(own.shape[2], keys.shape[2], sliding_window, own.device)
        found.append(
            scaled_dot_product_attention(
                own,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=own.shape[1] != keys.shape[1],
            )
        )
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=16)
def _ends(segments: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Where rows begin and end: int32, (rows + 1,). One copy to the device a batch, and not one a layer."""
    return torch.tensor([0, *accumulate(length for length in segments if length)], dtype=torch.int32, device=device)


@lru_cache(maxsize=4)
def _knows_groups(kernel: Kernel) -> bool:
    """Whether several heads of queries may share one of keys: PyTorch 2.13 has a word for it, 2.11 has not."""
    return "enable_gqa" in inspect.signature(kernel).parameters


def varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    segments: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    kernel: Kernel | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As :func:`by_row`, by one call of ``kernel``: ``torch.nn.attention.varlen.varlen_attn`` unless given.

    Rows with a common beginning, dropout of attention, and values of another width than the keys are none of its
    business, and go by row. Heads of keys that several heads of queries share are copied for a kernel that knows
    no such heads. Under autocast, and where a model norms its queries in float32, states are narrowed to
    what the kernel computes in.
    """
    if segments is None or segments[0] or dropout or value.shape[-1] != query.shape[-1]:
        return by_row(
            module, query, key, value, attention_mask, segments=segments, scaling=scaling, dropout=dropout,
            sliding_window=sliding_window, **options,
        )  # fmt: skip
    if kernel is None:
        from torch.nn.attention.varlen import varlen_attn

        kernel = typing.cast("Kernel", varlen_attn)
    words: dict[str, Any] = {}
    if (group := query.shape[1] // key.shape[1]) > 1:
        if _knows_groups(kernel):
            words["enable_gqa"] = True
        else:
            key, value = (states.repeat_interleave(group, dim=1) for states in (key, value))
    device = query.device.type
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    narrow = torch.get_autocast_dtype(device) if cast else value.dtype
    flat = [states[0].transpose(0, 1).to(narrow) for states in (query, key, value)]
    ends, longest = _ends(tuple(segments), query.device), max(segments)
    found = kernel(
        *flat, ends, ends, longest, longest,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0), **words,
    )  # fmt: skip
    return found.unsqueeze(0), None


for _name, _function in ((BY_ROW, by_row), (VARLEN, varlen)):
    AttentionInterface.register(_name, across_the_cut(_function))
    AttentionMaskInterface.register(_name, lambda *_, **__: None)  # nothing is masked: rows never meet


def attends_by_row(model: PreTrainedModel) -> bool:
    """Whether ``model`` computes its attention through transformers' interface, by SDPA, and nothing but attention
    carries anything from token to token."""
    return bool(
        getattr(model, "_supports_attention_backend", False)
        and model.config.get_text_config()._attn_implementation == "sdpa"
        and not is_recurrent(model)
    )


@contextlib.contextmanager
def attending_by_row(model: PreTrainedModel, name: str = BY_ROW) -> Iterator[None]:
    """Inside, ``model`` attends by row wherever it is told ``segments``; ``name``: which way."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


# -- which one ---------------------------------------------------------------------------------------------------

#: Two rows of attention, outputs and gradients of unit size, computed by two kernels in 16 bits, differ by rounding.
KERNEL_TOLERANCE = 0.05


def why_not_varlen(
    model: PreTrainedModel,
    device: torch.device,
    dtype: torch.dtype,
    kernel: Kernel | None = None,
) -> str:
    """Why the line's rows cannot be attended to in one call on ``device``, or nothing. ``dtype``: of the states.

    Heads of the model's number and width, three rows of drawn states, forward and backward, with and without a sliding
    window, beside :func:`by_row`.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return f"attention over rows of many lengths computes in 16 bits, and this fit in {_spelled(dtype)}"
    config = model.config.get_text_config()
    answers: list[list[torch.Tensor]] = []
    try:
        heads = config.num_attention_heads
        keys = getattr(config, "num_key_value_heads", None) or heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        draw = torch.Generator(device="cpu").manual_seed(0)
        states = [torch.randn(1, count, 160, width, generator=draw) for count in (heads, keys, keys)]
        for attend in (by_row, partial(varlen, kernel=kernel)):
            own = [one.to(device, dtype).requires_grad_() for one in states]
            answers.append([])
            for window in (None, 50):
                found, _ = attend(model, *own, segments=(0, 3, 130, 27), scaling=width**-0.5, sliding_window=window)
                gradients = torch.autograd.grad(found.float().square().sum(), own)
                answers[-1] += [found.detach(), *gradients]
    except Exception as error:  # no such function in this release, no such kernel on this card
        reason = " ".join(str(error).split())[:160]
        return f"attention over rows of many lengths cannot be had here ({type(error).__name__}: {reason})"
    differences = [
        float((one.float() - other.float()).abs().max() / max(1.0, float(one.float().abs().max())))
        for one, other in zip(*answers, strict=True)
    ]
    if not all(difference <= KERNEL_TOLERANCE for difference in differences):  # NaN is not
        return f"attention over rows of many lengths gives other values here, by {max(differences):.2g}"
    return ""


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
