"""A base in 4 bits, by bitsandbytes itself, on a CPU too: fitted, kept, gone on with, handed on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_python
import pytest
from repository import ROOT, TESTS

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import bitsandbytes
from fit_logs import log_of, values
from toy_fits import demonstrations as toys
from toy_fits import fit, recipe_for, rows_for
from transformers import AutoModelForCausalLM

from sft.errors import PolicyError
from sft.policies import precision
from sft.policies.weights import base_weights, load_weights
from sft.recipes.sources import resolve_model
from sft.runs.machine import default_device
from sft.runs.run import read_json

STEPS = ("training.max_steps=4", "training.eval_steps=1", "training.save_steps=1")


def command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``sft`` in a process of its own, with its own proof."""
    there = os.environ | {"PYTHONPATH": str(ROOT)}
    return forked_python.run(
        [sys.executable, "-m", "sft", *words], cwd=folder, capture_output=True, text=True, env=there
    )


@pytest.fixture(scope="module")
def recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four-bits")
    rows = [{"prompt": f"question {n} about {7 * n}", "completion": f"the expert wrote {n}"} for n in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        f"model: {{name: {tiny_model}}}\ndemonstrations: {{path: rows.jsonl}}\nsplit: {{near_duplicates: allow}}\n"
        "adapter: {method: qlora, r: 4}\n"
        "training: {max_steps: 4, per_device_train_batch_size: 4, learning_rate: 1.0e-2, eval_steps: 2}\n"
        "fidelity: {max_new_tokens: 4, profile: fast}\n",
        encoding="utf-8",
    )
    return folder / "recipe.yaml"


def test_it_is_fitted_proven_measured_and_exported_by_the_plain_commands(recipe: Path) -> None:
    """It was refused "without CUDA", where bitsandbytes had computed in 4 bits on a CPU for a year.

    The proof loads base and adapter in a fresh process, and compares.
    """
    folder = recipe.parent
    trained = command("train", "recipe.yaml", "--output", "run", folder=folder)
    assert trained.returncode == 0, trained.stderr
    assert "as fitted: loaded afresh and merged" in trained.stderr
    assert "Warning" not in trained.stderr
    manifest = read_json(folder / "run" / "manifest.json")
    assert manifest["training"]["saved"]["reloaded"]["positions"] > 0
    losses = [row["eval_loss"] for row in log_of(folder / "run") if "eval_loss" in row]
    assert losses[-1] < losses[0] - 0.05, "it must have learned something"
    measured = command("evaluate", "run", "--json", folder=folder)
    assert measured.returncode == 0, measured.stderr
    exported = command("export", "run", "--merged", "whole", folder=folder)
    assert exported.returncode == 0, exported.stderr
    merged = AutoModelForCausalLM.from_pretrained(folder / "whole")
    assert not any(p.dtype == torch.uint8 for p in merged.parameters()), "the plain base, with the adapter in it"


def test_what_is_fitted_is_what_the_paper_says(tiny_model: Path) -> None:
    """NF4, constants quantised again, bfloat16 products; frozen, and what is not in 4 bits is in float32."""
    model = base_weights(recipe_for(tiny_model, "model.dtype=bfloat16", method="qlora"), resolve_model(str(tiny_model)))
    layers = [part for part in model.modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14, "seven in each of two layers"
    assert {layer.weight.quant_type for layer in layers} == {"nf4"}
    assert all(layer.weight.quant_state.nested and layer.compute_dtype == torch.bfloat16 for layer in layers)
    assert not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.uint8, torch.float32}


def gradients(model: Any, rows: Any) -> dict[str, Any]:
    model.train()
    model.zero_grad()
    for _, rendered in rows:
        ids = torch.tensor([rendered.input_ids])
        model(input_ids=ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_those_of_the_rounded_weights_before_and_after_an_evaluation(tiny_model: Path) -> None:
    """On a CPU with bfloat16 the first evaluation repacked the base for a product that has no gradient: from then on
    everything below a layer learned from nonsense, and only one warning of torch's said so.
    """
    from sft.policies.policy import with_new_adapter

    recipe = recipe_for(tiny_model, "adapter.init_lora_weights=false", method="qlora")
    rows = rows_for(recipe, toys(6))
    base = base_weights(recipe, resolve_model(str(tiny_model)))
    plain = base_weights(recipe_for(tiny_model), resolve_model(str(tiny_model)))
    for name, part in base.named_modules():
        if isinstance(part, bitsandbytes.nn.Linear4bit):
            rounded = bitsandbytes.functional.dequantize_4bit(part.weight.data, part.weight.quant_state)
            plain.get_submodule(name).weight.data.copy_(rounded)
    pair = []
    for model in (base, plain):
        torch.manual_seed(5)
        pair.append(with_new_adapter(model, recipe).to(default_device()))
    expected = gradients(pair[1], rows)
    for _ in range(2):
        found = gradients(pair[0], rows)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() < 0.05 * gradient.norm(), name
        pair[0].eval()
        with torch.no_grad():
            pair[0](input_ids=torch.tensor([rows[0][1].input_ids]))


def test_a_run_in_4_bits_goes_on_as_if_it_had_never_stopped(tiny_model: Path, tmp_path: Path) -> None:
    """The run of four steps, and the one that got two of them and was called again: the same losses."""
    fit(recipe_for(tiny_model, *STEPS, method="qlora"), tmp_path / "whole")
    program = TESTS / "toys" / "toy_fits.py"
    words = [str(tiny_model), str(tmp_path / "run"), *STEPS, "adapter.method=qlora"]
    there = os.environ | {"PYTHONPATH": str(ROOT)}
    died = forked_python.run([sys.executable, str(program), *words, "--die-at", "3"], capture_output=True, env=there)
    assert died.returncode == -9
    fit(recipe_for(tiny_model, *STEPS, method="qlora"), tmp_path / "run", resume=True)
    assert values(tmp_path / "run", "eval_loss") == pytest.approx(values(tmp_path / "whole", "eval_loss"), abs=1e-4)


def test_a_base_without_a_layer_for_it_is_refused(tiny_model: Path) -> None:
    """Where no layer comes out in 4 bits the base would be fitted whole, and called qlora."""
    with pytest.raises(PolicyError, match=r"no layer of toy can be held in 4 bits.*write method: lora"):
        precision.refuse_unless_quantised(load_weights(resolve_model(str(tiny_model))), "toy")


def test_what_is_slow_is_said_with_its_figure() -> None:
    """Measured in the very layer; a line on stderr only where it is slower by as much as a format must be faster."""
    slower = precision.slowness_of_four_bits((64, 128))
    assert 0.05 < slower < 500
    assert "saves memory and takes 3.0 times as long" in precision.in_words({"bf16": False, "four_bits_slower": 3.0})
    assert precision.in_words({"bf16": False, "four_bits_slower": 1.1}) == ""
