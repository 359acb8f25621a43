"""Model families that llama.cpp computes as transformers does: their settings and tensors in GGUF's words.

Llama, Qwen2, Qwen3 and Gemma 3 (text). What llama.cpp would compute otherwise, or is not known to compute alike, is
refused: another family, another activation, a way of stretching positions that GGUF does not carry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType, get_tensor_name_map

from sft.errors import PolicyError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["Family", "add_settings", "as_gguf_has", "family_of", "tensors_of"]


@dataclass(frozen=True, slots=True)
class Family:
    """One family. ``activation``: of its feed-forward layers, the only one llama.cpp has for it.

    ``halves_apart``: transformers keeps the two halves of every rotated head apart, llama.cpp side by side.
    ``norm_from_one``: the weights of its norms are stored as what is added to 1.
    """

    arch: MODEL_ARCH
    activation: str
    halves_apart: bool = False
    norm_from_one: bool = False


#: By transformers' ``model_type``.
FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, "silu", halves_apart=True),
    "qwen2": Family(MODEL_ARCH.QWEN2, "silu"),
    "qwen3": Family(MODEL_ARCH.QWEN3, "silu"),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, "gelu_pytorch_tanh", norm_from_one=True),
}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model with this configuration. Raises ``PolicyError`` for what llama.cpp computes otherwise."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise PolicyError(
            f"{config.model_type}: GGUF is written for {', '.join(FAMILIES)} only; export it with --merged DIR, and "
            "convert that folder with convert_hf_to_gguf.py of llama.cpp, which knows more families"
        )
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    if activation != family.activation:
        raise _otherwise(config, f"its activation is {activation}")
    if getattr(config, "use_sliding_window", False):
        raise _otherwise(config, "it looks back through a sliding window")
    if getattr(config, "attn_logit_softcapping", None) or getattr(config, "use_bidirectional_attention", False):
        raise _otherwise(config, "its attention is capped, or looks ahead")
    scalar = getattr(config, "query_pre_attn_scalar", None)
    widest = config.num_hidden_layers == 62  # llama.cpp knows Gemma 3 27B by its number of layers
    if scalar is not None and scalar != (config.hidden_size // config.num_attention_heads if widest else _head(config)):
        raise _otherwise(config, f"its queries are scaled by {scalar}")
    for layers, rope in _ropes(config).items():
        kind = rope.get("rope_type", "default")
        known = {"default"} if layers == "sliding_attention" else {"default", "linear"}
        if family.arch == MODEL_ARCH.LLAMA:
            known.add("llama3")
        if kind not in known or rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise _otherwise(config, f"its positions are stretched by {kind}")
    return family


def _otherwise(config: PretrainedConfig, what: str) -> PolicyError:
    return PolicyError(
        f"{config.model_type}: llama.cpp would compute this model otherwise ({what}); export it with --merged DIR"
    )


def _head(config: PretrainedConfig) -> int:
    """Width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _ropes(config: PretrainedConfig) -> dict[str, dict[str, Any]]:
    """Rotation of positions by the kind of layer; "full_attention" is always there."""
    found = config.rope_parameters
    return found if "full_attention" in found else {"full_attention": found}


def add_settings(writer: GGUFWriter, config: PretrainedConfig, rows: int) -> None:
    """Write the architecture's figures; ``rows``: of the embedding."""
    family, head, ropes = family_of(config), _head(config), _ropes(config)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(rows)
    full = ropes["full_attention"]
    writer.add_rope_freq_base(full["rope_theta"])
    if full.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if family.arch == MODEL_ARCH.LLAMA:
        writer.add_rope_dimension_count(head)
    if family.arch == MODEL_ARCH.GEMMA3:
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
        writer.add_rope_freq_base_swa(ropes.get("sliding_attention", full)["rope_theta"])
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)


def tensors_of(model: PreTrainedModel) -> Iterator[tuple[str, tuple[int, ...], Callable[[], torch.Tensor]]]:
    """(GGUF's name, shape, values in float32) of every weight, the values made when asked for.

    A head that is the embedding again is written once. Raises ``PolicyError`` for a weight that GGUF has no name for.
    """
    config = model.config
    family = family_of(config)
    names = get_tensor_name_map(family.arch, config.num_hidden_layers)
    embedding = model.get_input_embeddings().weight
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and weight.data_ptr() == embedding.data_ptr():
            continue
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if written is None:
            raise PolicyError(f"{name}: GGUF has no place for this weight of a {config.model_type} model")
        yield written, tuple(weight.shape), _values(family, config, name, weight)
    rope = _ropes(config)["full_attention"]
    if rope.get("rope_type") == "llama3":
        factors = _stretched(rope, _head(config))
        yield "rope_freqs.weight", tuple(factors.shape), lambda: factors


def _values(family: Family, config: PretrainedConfig, name: str, weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    def made() -> torch.Tensor:
        values = weight.detach().float()
        if family.norm_from_one and name.endswith("norm.weight"):
            values = values + 1
        return as_gguf_has(config, name, values).contiguous()

    return made


def as_gguf_has(config: PretrainedConfig, name: str, values: torch.Tensor) -> torch.Tensor:
    """The rows of the weight ``name``, or of the second matrix of its adapter, in the order that llama.cpp reads."""
    if family_of(config).halves_apart and ".q_proj." in name:
        return _side_by_side(values, config.num_attention_heads)
    if family_of(config).halves_apart and ".k_proj." in name:
        return _side_by_side(values, config.num_key_value_heads)
    return values


def _side_by_side(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows (or a bias) of every head reordered: 0, n/2, 1, n/2 + 1, ... of its n."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).transpose(1, 2).reshape(values.shape)


def _stretched(rope: dict[str, Any], head: int) -> torch.Tensor:
    """Llama 3's slowing of rotations, one factor for each pair of a head: none for the fast ones, ``factor`` for those
    slower than the old context, and in between a mixture."""
    frequencies = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float32) / head)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the old context
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - kept) / rope["factor"] + kept)
