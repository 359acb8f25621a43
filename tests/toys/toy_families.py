"""Tiny models with random weights, one of each family that GGUF is written for, with a tokenizer of its kind."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import small_tokenizers
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

LLAMA_3_ROPE = {
    "rope_type": "llama3", "rope_theta": 20000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
#: As in its larger models: only what layers that look at the whole text see is stretched.
GEMMA_3_ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 200000.0, "factor": 8.0},
}
GEMMA_3 = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
#: Name -> (model type, what is special about its configuration).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, a head and biases of its own": ("llama", {"tie_word_embeddings": False, "attention_bias": True}),
    "llama 3": ("llama", {"rope_parameters": LLAMA_3_ROPE}),
    "llama 2": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0}}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "gemma3": ("gemma3_text", GEMMA_3),
    "gemma3, stretched": ("gemma3_text", GEMMA_3 | {"rope_parameters": GEMMA_3_ROPES}),
}


#: What tokenizers cut in different ways.
TEXTS = (
    "Hello there. How are you? I'm fine, thank you; and 12345 you?\n\nprint(add(1, 2))  naïve café, it's  the   model",
    "größer, Привет мир, 你好世界, مرحبا 👩‍👩‍👧 🎉\t\tDON'T 3.14e-5 \n \n end",
)


class HalfGelu(torch.nn.Module):
    """GELU as llama.cpp has it on a CPU: looked up in a table of float16, by an argument rounded to float16.

    That alone makes logits differ by 0.0035 at most and 5e-4 on average; with it here, too, they are as near as those
    of the other families, and the same limit serves.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        looked_up = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x.abs() < 10, looked_up, x.clamp(min=0))


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of the family's kind."""
    match family:
        case "llama 3":
            return small_tokenizers.llama3(small_tokenizers.trl_template("llama3"))
        case "llama 2":
            return as_sentencepiece(small_tokenizers.llama2())
        case "gemma3" | "gemma3, stretched":
            return as_sentencepiece(small_tokenizers.gemma(small_tokenizers.trl_template("gemma")))
        case "smollm2":
            return smollm2()
        case "qwen2" | "qwen3":
            return cutting_words_as("qwen2")
        case _:
            return small_tokenizers.chatml()


def smollm2() -> PreTrainedTokenizerFast:
    """SmolLM2's special tokens: its template begins with what is called the first token, its tokenizer does not."""
    return small_tokenizers.byte_level(
        small_tokenizers.CHATML, ("<|im_start|>", "<|im_end|>"), bos="<|im_start|>", eos="<|im_end|>"
    )


def model_of(family: str, rows: int, *, seed: int = 0) -> PreTrainedModel:
    """The family's model with ``rows`` tokens: eight layers of width 64, weights large enough to matter.

    Its settings are none of llama.cpp's own defaults, so that one which got lost shows in the logits.
    """
    kind, special = FAMILIES[family]
    settings: dict[str, Any] = {
        "vocab_size": rows, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 0.05,
    }  # fmt: skip
    if kind != "gemma3_text":
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 5000.0}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings | special)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") and kind != "gemma3_text" else 0.0
            weight.copy_(centre + 0.25 * torch.randn_like(weight))
    return model


def as_sentencepiece(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer with every pair of halves in its merges, as SentencePiece's vocabularies are converted."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    made = dict.fromkeys("".join(pair) for pair in state["model"]["merges"])
    state["model"]["merges"] = [
        [token[:cut], token[cut:]]
        for token in made
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    return rebuilt(tokenizer, state)


@cache
def _qwen2_steps() -> str:
    """How Qwen2's own tokenizer cuts words, as transformers builds it."""
    from transformers import Qwen2Tokenizer

    return Qwen2Tokenizer().backend_tokenizer.to_str()


def cutting_words_as(kind: str) -> PreTrainedTokenizerFast:
    """The ChatML tokenizer, cutting words as "qwen2" or "smollm" do."""
    tokenizer = small_tokenizers.chatml()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if kind == "qwen2":
        theirs = json.loads(_qwen2_steps())
        state["pre_tokenizer"], state["normalizer"] = theirs["pre_tokenizer"], theirs["normalizer"]
    else:
        digits = {"type": "Digits", "individual_digits": True}
        state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, state["pre_tokenizer"]]}
    return rebuilt(tokenizer, state)


def rebuilt(tokenizer: PreTrainedTokenizerFast, state: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer with the rules of ``state``; its special tokens and template as they were."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), name_or_path="toy", **special
    )
    made.chat_template = tokenizer.chat_template
    return made
