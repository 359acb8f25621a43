"""A run to serve: fitted on a model that is sure of some words and not of others, measured, and exported."""

from __future__ import annotations

from pathlib import Path

import small_tokenizers
import torch
from exported_runs import trained
from transformers import LlamaConfig, LlamaForCausalLM

from sft.cli import main

__all__ = ["END", "measured"]

#: What ends a turn; llama.cpp knows no token of this name, so it stops there only if the file says so.
END = "<|done|>"


def measured(folder: Path, heads: int = 4) -> Path:
    """A run at ``folder/run``, trained and measured: 23 prompts, answers of up to 12 tokens.

    ``heads``: of attention, which share 64 numbers.
    """
    template = small_tokenizers.CHATML.replace("<|im_end|>", END)
    tokenizer = small_tokenizers.byte_level(template, ("<|endoftext|>", "<|im_start|>", END), eos="<|endoftext|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    overrides = ("training.max_steps=40", "training.learning_rate=3.0e-3")
    run = trained(folder / "model", folder, *overrides, method="full")
    assert main(["evaluate", str(run)]) == 0
    return run
