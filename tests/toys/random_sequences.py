"""Rows of random tokens, and models of every family for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.policies.rendering import Rendered

VOCABULARY = 96


SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


APART: dict[str, Any] = {
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, **SIZES)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ),
    "mistral, window of 8": lambda: MistralForCausalLM(
        MistralConfig(vocab_size=VOCABULARY, num_key_value_heads=2, sliding_window=8, **SIZES)
    ),
    "gemma3, window of 8": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, sliding_window=8,
            layer_types=["sliding_attention", "full_attention"], **SIZES,
        )
    ),
}  # fmt: skip


def random_rows(beginning: int, count: int = 5, seed: int = 0) -> list[tuple[Demonstration, Rendered]]:
    """Rows of random ids that begin with the same ``beginning`` tokens."""
    draw = torch.Generator().manual_seed(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(VOCABULARY, (length,), generator=draw).tolist())

    head, made = ids(beginning), []
    for number in range(count):
        prompt, completion = ids(3 + 4 * number % 7), ids(2 + number)
        rendered = Rendered((*head, *prompt, *completion), (0,) * (beginning + len(prompt)) + (1,) * len(completion))
        made.append((Demonstration((Message("user", str(number)),), "x", source=Source("r.jsonl", number)), rendered))
    return made
