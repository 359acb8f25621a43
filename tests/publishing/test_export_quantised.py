"""Files of few bits by llama.cpp's own quantiser, and adapters alone: llama.cpp answers, and what is lost is told."""

from __future__ import annotations

import importlib.util
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from exported_runs import trained
from gguf import GGMLQuantizationType, GGUFReader
from llama_files import MOST

from sft.cli import main
from sft.policies.policy import load_policy
from sft.publishing.export.gguf import write_gguf
from sft.publishing.export.quantised import quantiser
from sft.recipes.sources import resolve_model
from sft.runs.run import Run, read_jsonl

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tiny_model, tmp_path_factory.mktemp("lora"), "training.max_steps=24")


def here() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None or shutil.which("llama-quantize") is not None


@pytest.mark.parametrize("kind", ["q4_k_m", "q6_k"])
def test_a_file_of_few_bits_and_what_is_lost_by_it(run: Path, kind: str, tmp_path: Path, capsys: Captured) -> None:
    """The quantiser is llama.cpp's; toys of 64 columns get its mixtures for such, which are wider."""
    if not here():
        pytest.skip("no quantiser of llama.cpp is here (llama-quantize, or the extra llama)")
    file = tmp_path / "clone.gguf"
    assert main(["export", str(run), "--gguf", str(file), "--outtype", kind, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["gguf"]
    kinds = {tensor.tensor_type for tensor in GGUFReader(file).tensors if len(tensor.shape) == 2}
    assert kinds <= {kind for kind in GGMLQuantizationType if kind.name.startswith("Q")} and found["outtype"] == kind
    kept = found["kept"]
    assert 0 < kept["n"] <= 20 and 0 <= kept["same"] <= kept["n"]
    assert 0.5 < kept["bits"] / kept["own_bits"] < 1.5 and kept["bits"] != kept["own_bits"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone.Modelfile", "clone.gguf"]


def test_without_a_quantiser_it_is_said_what_to_install(
    run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match=r"needs llama\.cpp.s quantiser; put its program"):
        quantiser("q4_k_m")


def answers(address: str, prompts: list[list[dict[str, str]]]) -> list[str]:
    texts = []
    for prompt in prompts:
        asked = {"messages": prompt, "temperature": 0, "max_tokens": MOST}
        body = json.dumps(asked).encode()
        request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            texts.append(json.loads(answer.read())["choices"][0]["message"]["content"])
    return texts


def test_the_adapter_alone_on_its_base_answers_as_the_clone(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """llama.cpp puts it on a GGUF file of the base; its answers are the merged clone's, and not the base's."""
    xllamacpp = pytest.importorskip("xllamacpp")
    from llama_servers import llama_server

    base, clone, adapter = tmp_path / "base.gguf", tmp_path / "clone.gguf", tmp_path / "adapter.gguf"
    policy = load_policy(resolve_model(str(tiny_model)), dtype="float32")
    write_gguf(base, policy.model, policy.renderer, name="base", outtype="f32")
    assert main(["export", str(run), "--gguf", str(clone), "--outtype", "f32", "--gguf-adapter", str(adapter)]) == 0
    assert f"--lora {adapter}" in capsys.readouterr().out and adapter.stat().st_size < base.stat().st_size

    def with_adapter(asked: Any) -> None:
        one = xllamacpp.CommonAdapterLoraInfo()
        one.path, one.scale = str(adapter), 1.0
        asked.lora_adapters = [one]

    prompts = [row["prompt"] for row in read_jsonl(Run.open(run).demonstrations_path) if row["split"] == "test"][:6]
    with llama_server(clone) as address:
        own = answers(address, prompts)
    with llama_server(base, with_adapter) as address:
        assert answers(address, prompts) == own
    with llama_server(base) as address:
        assert answers(address, prompts) != own
