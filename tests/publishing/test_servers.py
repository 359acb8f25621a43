"""Which servers take what is published: told before it is sent, with lines that start them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.publishing.servers import Server, servers

STOPS = {"eos_token_id": [7, 2]}


def told(folder: Path, files: list[str], **config: Any) -> dict[str, Server]:
    if config:
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8} | config), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(STOPS), encoding="utf-8")
    found = servers(folder, repo="me/clone", base="lab/base", dtype="float32", files=files)
    return {one.name: one for one in found}


def test_an_adapter_and_its_lines(tmp_path: Path) -> None:
    """vLLM makes room for ranks in powers of two, and stops as the base does: the end of turn goes with the request."""
    vllm = told(tmp_path, [], use_dora=False, r=12, rank_pattern={"q_proj": 20})["vLLM"]
    serve = next(line for line in vllm.lines if line.startswith("vllm serve "))
    assert "lab/base --enable-lora --max-lora-rank 32 --lora-modules clone=me/clone --dtype float32" in serve
    assert "--chat-template chat_template.jinja" in serve and "'{\"temperature\": 0}'" in serve
    assert vllm.lines[-1].endswith('"stop_token_ids": [7, 2]') and vllm.to_text() == "vLLM takes it"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules trained whole"),
        ({"bias": "lora_only"}, "biases"),
        ({"r": 1024}, "rank 1024"),
    ],
)
def test_what_vllm_refuses_is_told_before_it_is_sent(config: dict[str, Any], why: str, tmp_path: Path) -> None:
    vllm = told(tmp_path, [], **config)["vLLM"]
    assert why in vllm.refuses and "--merged" in vllm.refuses and not vllm.lines
    assert vllm.to_text().startswith("vLLM does not take it: its adapters have no ")


def test_whole_weights_and_files_for_llama_cpp(tmp_path: Path) -> None:
    assert told(tmp_path, [])["vLLM"].lines[0].startswith("vllm serve me/clone --dtype float32")
    assert "sft push --gguf" in told(tmp_path, [])["llama.cpp"].refuses
    found = told(tmp_path, ["clone-q8_0.gguf", "clone-q8_0.Modelfile"])
    assert found["llama.cpp"].lines[-1] == "llama-server -m clone-q8_0.gguf --jinja --temp 0"
    assert "ollama create clone -f clone-q8_0.Modelfile" in found["Ollama"].lines
    assert found["Ollama"].to_text() == "Ollama takes it by its documentation (not tried)"
    assert "Ollama's language" in told(tmp_path, ["clone-q8_0.gguf"])["Ollama"].refuses
