"""A clone that calls functions, served: calls that a server gives back are compared as calls, whatever their form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_server import LoopbackServer

from sft.cli import main
from sft.runs.run import read_json, read_jsonl

pytestmark = pytest.mark.engine

TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {
    "type": "object", "properties": {"port": {"type": "string"}, "days": {"type": "integer"}}}}}]  # fmt: skip
CALL = {"name": "tide", "arguments": {"days": 2, "port": "Brest"}}
TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool.function.name }}\n{% endfor %}{% for m in messages %}<|im_start|>"
    "{{ m['role'] }}\n{{ m['content'] }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Evaluate = Callable[..., dict[str, Any]]


def made(folder: Path) -> Path:
    """A measured run at ``folder/run`` whose clone answers everything by one call."""
    import torch
    from small_tokenizers import byte_level
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level(TEMPLATE, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), eos="<|endoftext|>",
                           ordinary=("<tool_call>", "</tool_call>"))  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    called = [{"id": "c", "type": "function", "function": {"name": "tide", "arguments": json.dumps(CALL["arguments"])}}]
    rows = [
        {"tools": TOOLS, "messages": [{"role": "user", "content": f"Ship {n}: tide?"},
                                      {"role": "assistant", "content": "", "tool_calls": called}]}
        for n in range(40)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        f"model: {{name: {folder / 'model'}}}\ndemonstrations: {{path: {folder / 'rows.jsonl'}}}\n"
        "split: {validation: 0.1, test: 0.2, near_duplicates: allow}\nadapter: {method: full}\n"
        "training: {learning_rate: 1.0e-2, max_steps: 160, eval_steps: 160, per_device_train_batch_size: 4}\n"
        "fidelity: {max_new_tokens: 64, headline: json}\n",
        encoding="utf-8",
    )
    run = folder / "run"
    assert main(["train", str(folder / "recipe.yaml"), "--output", str(run)]) == 0
    assert main(["evaluate", str(run), "--fast"]) == 0
    return folder


#: The run that ``measured_run`` copies.
MADE = ("served-calls", made)


def compared(run: Path, server: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--endpoint", server.address, "--patience", "0", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def as_openai(arguments: Any) -> list[dict[str, Any]]:
    """A call as a server gives it back that has parsed what the model wrote."""
    return [{"id": "x", "type": "function", "function": {"name": "tide", "arguments": json.dumps(arguments)}}]


def test_a_call_is_the_same_in_every_form_that_servers_give_it_back(
    measured_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrote = {row["id"]: row["text"] for row in read_jsonl(measured_run / "completions-tuned.jsonl")}
    assert set(wrote.values()) == {f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"}
    prompts = [row["prompt"][-1]["content"] for row in read_jsonl(measured_run / "held-out.jsonl")]
    turned = {"port": "Brest", "days": 2}
    forms = [as_openai(turned), f"<tool_call>{json.dumps(CALL)}</tool_call>"]
    for form in forms:
        with LoopbackServer(dict.fromkeys(prompts, form)) as server:
            found = compared(measured_run, server, capsys)
            bodies = [body for path, body in server.bodies if path == "/v1/chat/completions"]
        assert found["identical"] and found["same"] == len(prompts)
        assert found["scores"]["served"]["value"] == found["scores"]["tuned"]["value"] == 100
        assert all(body["tools"] == TOOLS for body in bodies)
        assert all([turn["role"] for turn in body["messages"]] == ["user"] for body in bodies)
    assert {row["text"] for row in read_jsonl(measured_run / "completions-served.jsonl")} <= {forms[1]}
    assert read_json(measured_run / "served.json")["identical"] is True


def test_another_argument_and_words_in_place_of_a_call_are_told_apart(
    measured_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [row["prompt"][-1]["content"] for row in read_jsonl(measured_run / "held-out.jsonl")]
    forms = [as_openai({"days": 3, "port": "Brest"}), as_openai([1]), "High tide is at six."]
    answers: dict[str, Any] = {prompt: forms[place % 3] for place, prompt in enumerate(prompts)}
    with LoopbackServer(answers) as server:
        found = compared(measured_run, server, capsys)
    assert not found["identical"] and found["same"] == 0 and len(found["partings"]) == len(prompts)
    assert 0 < found["scores"]["served"]["value"] < 50  # one leaf of two is right in a third of the calls
