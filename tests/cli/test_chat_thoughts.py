"""``sft chat`` with a clone that thinks: the thought is apart from the answer, on the screen and in memory."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
from toy_fits import WORDS

from sft.cli import main

pytestmark = pytest.mark.engine

#: What the model writes after every prompt, token by token; each is followed by the next wherever it stands.
CHAIN = ("\n", "<think>", "Hello", "</think>", "user", "<|im_end|>")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that looks at the last token alone: each has a direction of its own, which points to the next."""
    import small_tokenizers
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = small_tokenizers.chatml()
    size = -(-len(tokenizer) // 64) * 64
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=512, tie_word_embeddings=False, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = [tokenizer.encode(token, add_special_tokens=False)[-1] for token in CHAIN]
    follows = dict.fromkeys(range(len(tokenizer)), ids[-1]) | dict(pairwise(ids))
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(tokenizer), size))
        model.lm_head.weight.zero_()
        for token, following in follows.items():
            model.lm_head.weight[following, token] = 1.0
    folder = tmp_path_factory.mktemp("thinker")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, thinker: Path) -> Path:
    """Its clone, which has learned next to nothing from demonstrations with thoughts."""
    folder = tmp_path_factory.mktemp("thinking")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for n in range(40):
            words = " ".join(WORDS[(n * k + n) % len(WORDS)] for k in range(1, 6))
            turns = [{"role": "user", "content": f"{n}: {words}?"},
                     {"role": "assistant", "content": f"fine {words}", "reasoning_content": "expert"}]  # fmt: skip
            file.write(json.dumps({"messages": turns}) + "\n")
    recipe = {
        "model": {"name": str(thinker)},
        "demonstrations": {"path": str(folder / "rows.jsonl")},
        "split": {"near_duplicates": "allow"},
        "training": {
            "max_steps": 1,
            "eval_steps": 1,
            "save_steps": 1,
            "learning_rate": 0.0001,
            "per_device_train_batch_size": 4,
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    assert main(["train", str(folder / "recipe.yaml"), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("words", [(), ("--thoughts", "show")])
def test_answers_go_to_stdout_and_thoughts_apart_from_them(
    run: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tags and thought stood in the answer, and were handed to the template as words of the turn before."""
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello there\nand you\n/thoughts\nonce more\n"))
    assert main(["chat", str(run), *words]) == 0
    out, err = capsys.readouterr()
    assert out == "user\n" * 3
    assert err.count("Hello") == (2 if words else 1) and "think>" not in err and "\033" not in err
    assert f"thoughts are {'hidden' if words else 'shown'}\n" in err
