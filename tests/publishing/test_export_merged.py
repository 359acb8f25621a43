"""Merged weights: what plain transformers loads says what the adapter on its base says; nothing is half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from exported_runs import trained
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sft.cli import main
from sft.errors import PolicyError, RunError
from sft.policies.weights import quiet_engine
from sft.publishing.export import export_merged
from sft.runs.run import Run, read_json, read_jsonl

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tiny_model, tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def full(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tiny_model, tmp_path_factory.mktemp("full"), "training.learning_rate=1.0e-3", method="full")


def test_merged_weights_say_what_the_adapter_on_its_base_says(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Loaded by plain transformers and plain peft, at every position of every held-out prompt; and not what the base
    says."""
    from peft import PeftModel

    assert main(["export", str(run), "--merged", str(tmp_path / "out" / "merged")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'out' / 'merged'}: ") and "logits differ by" in out and out.count("\n") == 1
    folder = tmp_path / "out" / "merged"
    merged = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    prompts = [row["prompt"] for row in read_jsonl(run / "demonstrations.jsonl") if row["split"] == "test"]
    ids = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
    with torch.no_grad():
        plain = [base(torch.tensor([row])).logits for row in ids]
        with quiet_engine():
            adapted = PeftModel.from_pretrained(base, run / "adapter").eval()
        for row, without in zip(ids, plain, strict=True):
            expected, found = adapted(torch.tensor([row])).logits, merged(torch.tensor([row])).logits
            assert (found - expected).abs().max() < 1e-4
            assert (found - without).abs().max() > 0.1
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert merged.generation_config.eos_token_id == [stop, tokenizer.eos_token_id]
    assert merged.config.eos_token_id == stop
    assert not [file.name for file in (tmp_path / "out").iterdir() if file != folder], "nothing is left beside it"


def test_the_folder_names_no_place_on_this_machine(run: Path, tiny_model: Path, tmp_path: Path) -> None:
    export_merged(Run.open(run), tmp_path / "merged")
    files = sorted(file.name for file in (tmp_path / "merged").iterdir())
    expected = "chat_template.jinja config.json generation_config.json model.safetensors tokenizer.json"
    assert files == [*expected.split(), "tokenizer_config.json"]
    for file in (tmp_path / "merged").iterdir():
        content = file.read_bytes()
        for path in (tiny_model, run, tmp_path):
            assert str(path).encode() not in content, file.name


def test_json(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(run), "--merged", str(tmp_path / "merged"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["merged"]
    assert made["folder"] == str(tmp_path / "merged") and made["dtype"] == "float32"
    assert made["deviation"]["max"] < 1e-4 and made["deviation"]["positions"] >= 8
    assert made["bytes"] == sum(file.stat().st_size for file in (tmp_path / "merged").iterdir())


def test_weights_are_stored_in_the_format_of_the_recipe(tiny_model: Path, tmp_path: Path) -> None:
    run = trained(tiny_model, tmp_path, "model.dtype=bfloat16", "training.bf16=false")
    made = export_merged(Run.open(run), tmp_path / "merged")
    assert made.dtype == "bfloat16" and made.deviation["clear"] == 1.0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").dtype == torch.bfloat16


def test_an_empty_folder_serves_and_any_other_is_left_as_it_is(run: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["export", str(run), "--merged", str(tmp_path / "empty")]) == 0
    capsys.readouterr()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "empty").iterdir()}
    assert main(["export", str(run), "--merged", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err == (f"sft: {tmp_path / 'empty'}: is there already; name a new or empty folder\n")
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "empty").iterdir()} == before
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="is there already; name a new one"):
        export_merged(Run.open(run), tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_what_cannot_be_merged_is_refused_in_one_sentence(
    full: Path, run: Path, tmp_path: Path, capsys: Captured
) -> None:
    for target, words in (
        (full, "nothing to merge, these are the clone's own weights; copy this folder"),
        (tmp_path / "nowhere", "is not a folder"),
    ):
        assert main(["export", str(target), "--merged", str(tmp_path / "x")]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    assert main(["export", str(run)]) == 2
    assert "--merged DIR" in capsys.readouterr().err
    untrained = Path(shutil.copytree(run, tmp_path / "untrained"))
    shutil.rmtree(untrained / "adapter")
    with pytest.raises(RunError, match="is not trained yet"):
        export_merged(Run.open(untrained), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_another_template_beside_the_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "run"))
    template = spoiled / "adapter" / "chat_template.jinja"
    written = template.read_text(encoding="utf-8")
    template.write_text(written.replace("+ '\n' }}{% endfor", "}}{% endfor"), encoding="utf-8")
    with pytest.raises(RunError, match="its chat template is not the one that the run was trained with"):
        export_merged(Run.open(spoiled), tmp_path / "merged")


def test_weights_that_come_out_otherwise_never_appear(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an engine would that saves something else than it holds."""
    save = PreTrainedModel.save_pretrained

    def scaled(self: Any, *words: Any, **options: Any) -> None:
        with torch.no_grad():
            self.model.layers[0].mlp.down_proj.weight.mul_(1.5)
        save(self, *words, **options)
        with torch.no_grad():
            self.model.layers[0].mlp.down_proj.weight.div_(1.5)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", scaled)
    with pytest.raises(PolicyError, match=r"was not exported, for it gives logits that differ") as error:
        export_merged(Run.open(run), tmp_path / "merged")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir()), "neither the folder nor anything beside it"


def test_a_folder_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot be written"):
        export_merged(Run.open(run), tmp_path / "file" / "merged")


def test_a_measurement_of_something_else_has_no_clone(run: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(run, tmp_path / "run"))
    (elsewhere / "recipe.resolved.yaml").unlink()
    with pytest.raises(RunError, match="was not made by a recipe"):
        export_merged(Run.open(elsewhere), tmp_path / "merged")
    assert read_json(elsewhere / "manifest.json")
