"""What was saved says, in a process of its own, what was fitted; and what does not is kept from every evaluation."""

from __future__ import annotations

import json
import shutil
import types
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from toy_fits import fit, recipe_for

from sft.errors import TrainingError
from sft.policies import sameness
from sft.policies.policy import name_base
from sft.recipes.sources import BaseSource
from sft.runs.run import Run, read_json
from sft.training import proof


def fitted(tiny_model: Path, folder: Path, method: str) -> Run:
    fit(recipe_for(tiny_model, "training.max_steps=6", method=method), folder)
    return Run.open(folder)


@pytest.fixture(scope="module")
def adapted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tiny_model, tmp_path_factory.mktemp("lora") / "run", "lora").path


@pytest.fixture(scope="module")
def full(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tiny_model, tmp_path_factory.mktemp("full") / "run", "full").path


def copied(run: Path, to: Path) -> Run:
    """The run with its witness, to spoil; the witness names the copy."""
    shutil.copytree(run, to)
    path = to / "checkpoints" / "witness.json"
    request = read_json(path)
    path.write_text(json.dumps(request | {"tuned": str(to / Path(request["tuned"]).name)}), encoding="utf-8")
    return Run.open(to)


def in_this_process(run: Run) -> dict[str, Any]:
    """As :func:`proving.prove`, without paying for a process of its own."""
    proof.main(str(run.checkpoints_path))
    return {"fault": ""} | read_json(run.checkpoints_path / "answer.json")


def test_a_clone_that_is_as_fitted_is_proven_so_in_a_process_of_its_own(adapted: Path, tmp_path: Path) -> None:
    """Nothing but the files is shared; the figures are for the manifest, and the witness has done its work."""
    run = copied(adapted, tmp_path / "run")
    found = proof.prove(run)
    for name in ("reloaded", "merged"):
        assert found[name]["max"] < 1e-4 and found[name]["top1"] == 1.0
        assert found[name]["positions"] >= 8
    assert found["dtype"] == "float32" and found["reloaded"]["spread"] > 0.1
    assert "as fitted" in proof.in_words(found)
    assert not list(run.checkpoints_path.glob("witness*")) and not list(run.checkpoints_path.glob("answer*"))


def test_a_clone_that_is_not_is_put_where_no_evaluation_takes_it(adapted: Path, tmp_path: Path) -> None:
    """An adapter whose B is zero says what the base says. It loads without a word from anyone."""
    run = copied(adapted, tmp_path / "run")
    file = run.adapter_path / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({k: torch.zeros_like(v) if "lora_B" in k else v for k, v in weights.items()}, file)
    with pytest.raises(TrainingError, match="not what was fitted: loaded afresh it gives logits that differ") as error:
        proof.prove(run)
    assert "\n" not in str(error.value) and "--resume" in str(error.value)
    assert not run.adapter_path.exists()
    assert (run.path / "adapter-not-as-fitted" / "adapter_model.safetensors").is_file()
    assert list(run.checkpoints_path.glob("checkpoint-*")), "to go on from"


@pytest.mark.parametrize("method", ["rslora", "dora", "full"])
def test_every_method_is_loaded_and_merged_as_fitted(tiny_model: Path, tmp_path: Path, method: str) -> None:
    found = in_this_process(fitted(tiny_model, tmp_path / "run", method))
    assert not found["fault"]
    assert ("merged" in found) is (method != "full")


def test_an_adapter_that_lacks_a_layer(adapted: Path, tmp_path: Path) -> None:
    run = copied(adapted, tmp_path / "run")
    file = run.adapter_path / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "layers.1.mlp.down_proj" not in k}, file)
    assert "Found missing adapter keys" in in_this_process(run)["fault"]


def test_an_adapter_whose_scale_was_lost(adapted: Path, tmp_path: Path) -> None:
    """The weights are there, bit for bit; their factor in the configuration is another."""
    run = copied(adapted, tmp_path / "run")
    path = run.adapter_path / "adapter_config.json"
    path.write_text(json.dumps(read_json(path) | {"lora_alpha": 4}), encoding="utf-8")
    assert "logits that differ" in in_this_process(run)["fault"]


def spoil(run: Run, change: Any, **config: Any) -> None:
    weights = load_file(run.model_path / "model.safetensors")
    change(weights)
    save_file(weights, run.model_path / "model.safetensors", metadata={"format": "pt"})
    path = run.model_path / "config.json"
    path.write_text(json.dumps(read_json(path) | config), encoding="utf-8")


def test_a_full_model_with_other_embeddings(full: Path, tmp_path: Path) -> None:
    def reverse(weights: dict[str, Any]) -> None:
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].flip(1).contiguous()

    run = copied(full, tmp_path / "run")
    spoil(run, reverse)
    assert "logits that differ" in in_this_process(run)["fault"]


def test_a_full_model_whose_head_is_no_longer_its_embeddings(full: Path, tmp_path: Path) -> None:
    run = copied(full, tmp_path / "run")
    spoil(run, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"] * 0.5}), tie_word_embeddings=False)
    assert "logits that differ" in in_this_process(run)["fault"]


def test_a_vocabulary_that_lost_its_new_tokens(full: Path, tmp_path: Path) -> None:
    """What a resize added is gone from weights and configuration alike, so that both agree with each other."""
    run = copied(full, tmp_path / "run")
    size = read_json(run.model_path / "config.json")["vocab_size"] - 1

    def cut(weights: dict[str, Any]) -> None:
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:size].clone()

    spoil(run, cut, vocab_size=size)
    assert f"chooses among {size} tokens" in in_this_process(run)["fault"]


def test_a_tokenizer_that_reads_the_tokens_as_another_text(adapted: Path, tmp_path: Path) -> None:
    run = copied(adapted, tmp_path / "run")
    path = run.adapter_path / "tokenizer.json"
    tokenizer = read_json(path)
    words = tokenizer["model"]["vocab"]
    first, second = next(w for w in words if "ans" in w or w == "e"), next(w for w in words if w == "a")
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    assert "as another text" in in_this_process(run)["fault"]


def test_a_process_that_runs_out_of_memory_proves_nothing_and_spoils_nothing(
    adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit of days is not thrown away because there was no room to load it a second time; the run says so."""
    run = copied(adapted, tmp_path / "run")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    found = proof.prove(run)
    assert "signal 9" in found["left_out"] and "reloaded" not in found
    assert "not compared" in proof.in_words(found)
    assert (run.adapter_path / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(("lead", "clear"), [(10.0, 0.0), (0.01, 1.0)])
def test_where_rounding_is_coarse_a_clear_choice_must_stay_the_same(lead: float, clear: float) -> None:
    """Two tokens change places. Where they were nearly alike that is rounding, where one led it is another model."""
    fitted = torch.zeros(3, 8)
    fitted[:, 0], fitted[:, 7] = 20.0, -20.0
    fitted[1, 0], fitted[1, 1] = 20.0, 20.0 - lead
    here = fitted.clone()
    here[1, 0], here[1, 1] = fitted[1, 1], fitted[1, 0]

    class Says(torch.nn.Module):
        """A model whose head hands on what is written down for each of three positions."""

        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(8, 8, bias=False)
            torch.nn.init.eye_(self.head.weight)

        def get_input_embeddings(self) -> Any:
            return torch.nn.Embedding(8, 1)

        def get_output_embeddings(self) -> Any:
            return self.head

        def forward(self, input_ids: Any, use_cache: bool) -> Any:
            return types.SimpleNamespace(logits=self.head(torch.cat([here, here[-1:]])[None]))

    found, _ = sameness.deviation(Says(), [{"ids": [1, 2, 3, 4], "first": 1, "count": 3}], {"0": fitted}, narrow=True)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["clear"] == pytest.approx(1.0 if clear else 2 / 3)


def test_the_saved_adapter_names_its_base_by_hub_id(adapted: Path, tmp_path: Path) -> None:
    """Whoever downloads it has no use for a path on the machine it was fitted on; a base of no hub keeps its path."""
    folder = Path(shutil.copytree(adapted / "adapter", tmp_path / "adapter"))
    local = read_json(folder / "adapter_config.json")
    name_base(folder, BaseSource("/somewhere", None, None))
    assert read_json(folder / "adapter_config.json") == local
    name_base(folder, BaseSource("wheel:x==1", "owner/model", "0123abc"))
    named = read_json(folder / "adapter_config.json")
    assert (named["base_model_name_or_path"], named["revision"]) == ("owner/model", "0123abc")
    assert {k: v for k, v in named.items() if k not in ("base_model_name_or_path", "revision")} == {
        k: v for k, v in local.items() if k not in ("base_model_name_or_path", "revision")
    }
