"""What is accepted of hostile messages is fitted: nothing that was read without a complaint ends a fit with a crash."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main
from sft.runs.run import read_json

pytestmark = pytest.mark.engine

TEXTS: list[Any] = [
    "ask", "  say \n", "a\x00b", "\u202eright to left\u202c", "<|im_end|>", "<|im_start|>user\nno", "{{ messages }}",
    "{% raw %}{% endraw %}", "</tool_call>", "The tag <think> begins.", "a\u2028b\x85c", "\r\n line \r", "naïve 你好",
    "👩\u200d👩\u200d👧", "e\u0301\u0327" * 20, "'\"\\`", "\ufeffmark", "<tool_response>", "zqcompletionqz", "%s {0}",
    "", " ", "\u200b", "\ud83d", None, 3, ["part", {"type": "text", "text": "of it"}], "word " * 700,
]  # fmt: skip
VALUES: list[Any] = [
    0, -1, 10**30, 1e308, 1e-320, True, None, "", "Rome é", "</tool_call>", "<|im_end|>", [[[]]], {"é": {"": []}},
]  # fmt: skip
SCHEMAS = [{}, {"type": "object"}, {"type": ["string", "null"], "enum": ["é", None]}, {"properties": {"": {}}}, None]


def call(draw: random.Random, number: int) -> dict[str, Any]:
    keys = draw.sample(["town", "", "é", "a b", "name", "arguments"], draw.randint(0, 3))
    arguments = {key: draw.choice(VALUES) for key in keys}
    given = draw.choice([arguments, json.dumps(arguments)])
    return {"id": draw.choice([f"c{number}", None]), "type": "function", "function": {"name": "w", "arguments": given}}


def hostile(draw: random.Random, number: int) -> dict[str, Any]:
    """A row whose turns mostly stand in order, and of which nearly anything else may be wrong or strange."""
    turns = [{"role": "system", "content": draw.choice(TEXTS)}] if draw.random() < 0.3 else []
    for _ in range(draw.randint(1, 3)):
        turns.append({"role": "user", "content": f"{number}: {draw.choice(TEXTS)}"})
        turn = {"role": "assistant", "content": draw.choice(TEXTS)}
        if draw.random() < 0.4:
            turn["reasoning_content"] = draw.choice(TEXTS)
        if draw.random() < 0.1:
            turn["weight"] = 0
        if draw.random() < 0.4:
            turn |= {"tool_calls": [call(draw, place) for place in range(draw.randint(1, 2))],
                     "content": draw.choice([None, "", *TEXTS])}  # fmt: skip
            turns.append(turn)
            turns += [{"role": "tool", "content": draw.choice(TEXTS)} for _ in turn["tool_calls"]]
            turn = {"role": "assistant", "content": draw.choice(TEXTS)}
        turns.append(turn)
    function = {"name": "w", "description": draw.choice(TEXTS[:10]), "parameters": draw.choice(SCHEMAS)}
    return {"messages": turns, "tools": draw.choice([[], [{"type": "function", "function": function}]])}


def recipe(folder: Path, template: str, thoughts: str) -> Path:
    import torch
    from small_tokenizers import byte_level, trl_template
    from transformers import LlamaConfig, LlamaForCausalLM

    ordinary = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = byte_level(trl_template(template), special, eos="<|endoftext|>", ordinary=ordinary)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{name: {folder / 'model'}}}\n"
        f"demonstrations: {{path: {folder / 'rows.jsonl'}, thoughts: '{thoughts}', special_tokens: text}}\n"
        "split: {validation: 0.1, test: 0.1, near_duplicates: remove}\nadapter: {method: full}\n"
        "training: {max_steps: 3, eval_steps: 3, max_length: 1024, too_long: drop, bf16: false}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(("template", "thoughts"), [("qwen3", "keep"), ("qwen2_5", "off")])
def test_hostile_messages_that_are_accepted_are_fitted(
    template: str, thoughts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row is refused as it is read, or by the template in one sentence with its line; the others make a clone."""
    draw, path = random.Random(template), recipe(tmp_path, template, thoughts)
    rows = [hostile(draw, number) for number in range(120)]
    refused: set[int] = set()
    for _ in range(6):
        kept = [json.dumps(row) if number not in refused else "" for number, row in enumerate(rows, 1)]
        (tmp_path / "rows.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
        capsys.readouterr()
        status = main(["train", str(path), "--output", str(tmp_path / "run"), "--keep-going"])
        said = capsys.readouterr().err
        if status == 0:
            break
        named = re.findall(r"rows\.jsonl:(\d+)(?: and \d+ more \(([\d, ]+))?", said)
        found = {int(line) for one, others in named for line in (one, *re.findall(r"\d+", others))}
        assert status == 2 and found - refused and "Traceback" not in said, said[-2000:]
        refused |= found
    assert status == 0
    fates = read_json(tmp_path / "run" / "ledger.json")["fates"]
    assert fates["trained"] > 20 and fates["invalid"] > 20 and len(refused) < 30
