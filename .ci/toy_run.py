"""A whole run on a toy model that is made here, without the network: python .ci/toy_run.py FOLDER."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import sft

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rows() -> list[dict[str, str]]:
    """An expert who names the colour twice."""
    colours = ("red", "green", "blue", "white")
    words = [f"the {a} beside the {b} and the {c}" for a in WORDS for b in WORDS for c in WORDS if a < b < c]
    return [
        {"prompt": f"{n}: {text} is {colours[n % 4]}", "completion": f"{colours[n % 4]}, {colours[n % 4]}"}
        for n, text in enumerate(words)
    ]


WORDS = ("box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall", "boat", "tree")


def toy_model(folder: Path) -> Path:
    """A Llama of two layers with random weights, and a tokenizer of the rows' words."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(row.values()) for row in rows()], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main(folder: Path) -> None:
    """Fit, measure, report, and look at it from Python."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    run = sft.run(
        {
            "model": {"name": toy_model(folder / "toy")},
            "demonstrations": {"path": "demonstrations.jsonl"},
            "split": {"near_duplicates": "remove"},
            "training": {"learning_rate": 1e-2, "max_steps": 3},
            "fidelity": {"max_prompts": 5, "max_new_tokens": 8},
        },
        output="run",
    )
    assert run.report.is_file() and len(run.to_pandas()) >= 5
    sys.stdout.write(f"{run.to_text()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
