"""Going on from an adapter: what it keeps, what stays out of training, and what the further fit is held to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from toy_checkpoints import cut_short
from toy_demonstrations import write_demonstrations
from toy_pushes import base_files, connected

from sft.cli import main
from sft.demonstrations.stored import ledger, load_recipe, load_splits
from sft.fidelity.stored import read_scorecard
from sft.policies.weights import load_weights
from sft.publishing.card_facts import settings
from sft.recipes.sources import resolve_model
from sft.runs.run import Run, read_json, read_jsonl, write_json

ROWS = 90


def recipe_at(folder: Path, model: Path | str, data: str, **sections: Any) -> Path:
    """A recipe in ``folder``; ``sections`` over what all of them say."""
    whole: dict[str, Any] = {
        "model": {"name": str(model)},
        "demonstrations": {"path": data},
        "split": {"validation": 0.15, "test": 0.25, "near_duplicates": "remove"},
        "adapter": {"r": 4, "lora_alpha": 8},
        "training": {"learning_rate": 1.0e-2, "max_steps": 8, "eval_steps": 4, "logging_steps": 1},
        "fidelity": {"profile": "fast", "max_prompts": 8, "max_new_tokens": 6, "systems": ["tuned", "R", "K", "P"]},
    }
    for name, section in sections.items():
        whole[name] = section if name == "adapter" else whole[name] | section
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def going_on(folder: Path, model: Path | str, data: str, start: Path | str, **sections: Any) -> Path:
    return recipe_at(folder, model, data, adapter={"start_from": str(start)}, **sections)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run that is trained and measured; ``old.jsonl`` beside it is what it learned from."""
    folder = tmp_path_factory.mktemp("first")
    write_demonstrations(folder / "old.jsonl", ROWS)
    recipe = recipe_at(folder, tiny_model, str(folder / "old.jsonl"))
    assert main(["run", str(recipe), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one sentence of a command that is refused, which left no folder behind."""

    def run(recipe: Path, *words: str) -> str:
        folder = recipe.parent / "refused"
        assert main(["train", str(recipe), "--output", str(folder), *words]) == 2
        assert not folder.exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_on_the_same_data(first: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fit begins where the other ended, and the new clone is held to that one on the prompts of both."""
    data = str(first.parent / "old.jsonl")
    recipe = going_on(tmp_path, tiny_model, data, first, training={})
    assert main(["run", str(recipe), "--output", str(tmp_path / "second")]) == 0
    said = capsys.readouterr().out
    run, card = Run.open(tmp_path / "second"), read_scorecard(Run.open(tmp_path / "second"))
    known = Run.open(first)
    assert {name: len(part) for name, part in load_splits(run).parts.items()} == {
        name: len(part) for name, part in load_splits(known).parts.items()
    }
    assert not {"held_out_before", "learned_before"} & ledger(run).fates.keys()
    at_its_best = min(row["eval_loss"] for row in read_jsonl(known.log_path) if "eval_loss" in row)
    at_start = next(row["eval_loss"] for row in read_jsonl(run.log_path) if "eval_loss" in row)
    assert at_start == pytest.approx(at_its_best, abs=1e-5)
    before, after = (read_json(one / "adapter" / "adapter_config.json") for one in (first, run.path))
    assert (after["r"], after["lora_alpha"], after["target_modules"]) == (4, 8, before["target_modules"])
    assert run.manifest["start"]["name"] == str(first) and run.manifest["start"]["run"].endswith("run")
    assert [one.system for one in card.systems][:2] == ["tuned", "start"]
    # The parent's texts are those that its own run measured, so the difference is that of `sft compare`.
    assert {row["id"]: row["text"] for row in read_jsonl(run.completions_path("start"))} == {
        row["id"]: row["text"] for row in read_jsonl(known.completions_path("tuned"))
    }
    assert main(["compare", str(run.path), str(first), "--json", "--output", str(tmp_path / "c.html")]) == 0
    pair = json.loads(capsys.readouterr().out)["pairs"][0]
    assert card.from_start is not None
    assert card.from_start.difference.value == pytest.approx(pair["difference"]["value"])
    assert card.from_start.bits is not None and card.from_start.bits.value == pytest.approx(pair["bits"]["value"])
    assert "the clone that it was fitted on from" in said
    for name in ("report.html", "report.md"):
        page = (run.path / name).read_text(encoding="utf-8")
        assert "Fitted on from" in page and "What did the further fit bring?" in page
    assert main(["report", str(run.path), "--recompute"]) == 0
    assert read_scorecard(run).from_start == card.from_start
    on_the_card = dict(settings(run, load_recipe(run)))
    assert on_the_card["fitted on from"] == str(first) and on_the_card["rank r, lora_alpha, dropout"] == "4, 8, 0.0"
    assert on_the_card["its hash"] == run.manifest["start"]["weights_hash"]


@pytest.mark.parametrize(("rate", "no_better"), [("1.0e-4", False), ("1.0", True)])
def test_a_further_fit_says_whether_it_is_any_better_than_what_it_began_from(
    rate: str, no_better: bool, first: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate that undid what the first fit had learned was told only by whoever measured the clone."""
    recipe = going_on(tmp_path, tiny_model, str(first.parent / "old.jsonl"), first)
    words = ["train", str(recipe), "--output", str(tmp_path / "run"), "--set", f"training.learning_rate={rate}"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    looks = {row["step"]: row["eval_loss"] for row in read_jsonl(tmp_path / "run" / "log.jsonl") if "eval_loss" in row}
    assert sorted(looks) == [0, 4, 8]
    assert (min(looks[4], looks[8]) >= looks[0]) == no_better
    assert f"validation loss {min(looks[4], looks[8]):.4f}, before the first {looks[0]:.4f}" in said
    assert ("made it no better: lower training.learning_rate" in said) == no_better
    assert main([*words, "--set", "training.eval_on_start=false", "--output", str(tmp_path / "silent")]) == 0
    assert "before the first" not in capsys.readouterr().out


def test_no_setting_is_chosen_for_the_look_before_its_first_step(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    recipe = going_on(tmp_path, tiny_model, str(first.parent / "old.jsonl"), first)
    grid = "training.learning_rate=1.0,0.5"
    assert main(["sweep", str(recipe), "--grid", grid, "--no-pruning", "--output", str(tmp_path / "sweep")]) == 0
    for one in read_json(tmp_path / "sweep" / "sweep.json")["tried"]:
        (_, begun), *others = one["looks"]
        assert one["loss"] == min(loss for _, loss in others) > begun


def test_new_demonstrations_keep_what_was_held_out(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Rows that the earlier run held out stay out of training, and those that it learned are held out from nothing."""
    old = load_splits(Run.open(first))
    write_demonstrations(tmp_path / "new.jsonl", 60, seed=1)
    held_out, learned = old.test[:5], old.train[:4]
    rows = [{"prompt": d.prompt[-1].content, "completion": d.completion, "group": f"another {n}"}
            for n, d in enumerate((*held_out, *learned))]  # fmt: skip
    with (tmp_path / "new.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    recipe = going_on(tmp_path, tiny_model, str(tmp_path / "new.jsonl"), first, split={"seed": 3, "test": 0.5})
    assert main(["train", str(recipe), "--output", str(tmp_path / "second")]) == 0
    run = Run.open(tmp_path / "second")
    made, fates = load_splits(run), ledger(run).fates
    assert not {d.key for d in made.train} & {d.key for d in (*old.test, *old.validation)}
    assert not {d.key for d in (*made.test, *made.validation)} & {d.key for d in old.train}
    assert fates["held_out_before"] >= 1 and fates["learned_before"] >= 1
    assert sum(fates.values()) == 69
    # A third run goes on from the second, and what the first held out stays out of its training too.
    again = going_on(tmp_path, tiny_model, str(first.parent / "old.jsonl"), run.path, split={"seed": 5})
    assert main(["train", str(again), "--output", str(tmp_path / "third")]) == 0
    third = load_splits(Run.open(tmp_path / "third"))
    assert not {d.key for d in third.train} & {d.key for d in (*old.test, *old.validation)}


def test_it_is_said_that_nobody_knows_what_the_adapter_has_learned(
    first: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rows were held out and judged on without a word where its run, or one behind that, is not there."""
    data, short = str(first.parent / "old.jsonl"), {"max_steps": 1, "eval_steps": 1}
    shutil.copytree(first / "adapter", tmp_path / "bare")
    shutil.copytree(first, tmp_path / "grandparent")
    recipe = going_on(tmp_path, tiny_model, data, tmp_path / "grandparent", training=short)
    assert main(["train", str(recipe), "--output", str(tmp_path / "parent")]) == 0
    assert main(["check", str(recipe)]) == 0
    assert "split.test: FILE" not in "".join(capsys.readouterr())
    shutil.rmtree(tmp_path / "grandparent")
    for start, sentence in (
        ("bare", "is known, nor what it learned: rows held out here may be among that"),
        ("parent", f"goes back to {tmp_path / 'grandparent'}, of which no run is there"),
    ):
        recipe = going_on(tmp_path, tiny_model, data, tmp_path / start, training=short, split={"seed": 3})
        assert main(["check", str(recipe)]) == 0
        said = capsys.readouterr().out
        assert sentence in said and "Nothing to mend" not in said
        assert main(["run", str(recipe), "--output", str(tmp_path / f"from-{start}")]) == 0
        assert sentence in capsys.readouterr().err
        page = (tmp_path / f"from-{start}" / "report.md").read_text(encoding="utf-8")
        assert sentence in page.replace("\\", "")
        cut_short(tmp_path / f"from-{start}", f"again-{start}")
        assert main(["train", str(recipe), "--output", str(tmp_path / f"again-{start}"), "--resume"]) == 0
        kept = [Run.open(tmp_path / f"{word}-{start}").manifest["start"] for word in ("from", "again")]
        assert sentence in kept[1]["unknown"] and kept[1]["gone"] == kept[0]["gone"]


def test_what_nothing_is_left_of_is_refused(
    first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    rows = [json.dumps({"prompt": d.prompt[-1].content, "completion": d.completion})
            for d in load_splits(Run.open(first)).train]  # fmt: skip
    for name, part in (("train", rows[:10]), ("validation", rows[10:20]), ("test", rows[20:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part), encoding="utf-8")
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("validation", "test")}
    recipe = going_on(tmp_path, tiny_model, str(tmp_path / "train.jsonl"), first, split=files)
    said = refused(recipe)
    assert f"{first} has trained on everything that the test split would hold ({len(rows) - 10} " in said
    assert "the same split.seed and shares" in said


def test_model_name_that_names_an_adapter_says_what_to_write(
    first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """And what it says is followed."""
    data = str(first.parent / "old.jsonl")
    for named in (first, first / "adapter"):
        said = refused(recipe_at(tmp_path, named, data))
        found = re.search(r"to go on from it, write model\.name: (\S+) and adapter\.start_from: (\S+)$", said)
        assert found is not None and found[1] == str(tiny_model)
    recipe = going_on(tmp_path, found[1], data, found[2], training={"max_steps": 2, "eval_steps": 2})
    assert main(["train", str(recipe), "--output", str(tmp_path / "on")]) == 0
    assert Run.open(tmp_path / "on").manifest["start"]["run"]  # the folder of a run's adapter is of that run
    assert main(["plan", str(recipe), "--no-probe"]) == 0
    assert main(["check", str(recipe)]) == 0


CONFLICTS = [
    ({"r": 8}, "'adapter.r' has no meaning with start_from, whose adapter has its own; remove it"),
    ({"target_modules": ["q_proj"]}, "'adapter.target_modules' has no meaning with start_from"),
    ({"use_rslora": True}, "use_rslora"),
    ({"method": "dora"}, "'adapter.method' is dora, and what is fitted further is the adapter that start_from names"),
    ({"method": "full"}, "'adapter.start_from' has no meaning with method: full; remove it"),
]


@pytest.mark.parametrize(("keys", "sentence"), CONFLICTS)
def test_keys_that_the_adapter_settles_are_refused(
    keys: dict[str, Any], sentence: str, first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str],
) -> None:  # fmt: skip
    recipe = recipe_at(tmp_path, tiny_model, "x.jsonl", adapter={"start_from": str(first)} | keys)
    assert sentence in refused(recipe)


def _cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-200])


def _spoilt(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")


def _config(folder: Path, **values: Any) -> None:
    write_json(folder / "adapter_config.json", read_json(folder / "adapter_config.json") | values)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (_cut, "the adapter could not be loaded"),
    "a part is gone": (lambda f: _spoilt(f, lambda w: w.pop(next(iter(w)))), "the adapter could not be loaded"),
    "no number": (lambda f: _spoilt(f, lambda w: next(iter(w.values())).fill_(float("nan"))), "not finite"),
    "other shapes": (lambda f: _config(f, r=2), "the adapter could not be loaded"),
    "another kind": (lambda f: _config(f, peft_type="IA3"), "is an adapter of the kind 'IA3'"),
    "no configuration": (lambda f: (f / "adapter_config.json").write_text("{"), "is no adapter's configuration"),
    "pickled": (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "pickled ones"),
    "empty": (lambda f: (f / "adapter_config.json").unlink(), "holds no adapter_config.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_adapter_is_one_sentence(
    damage: str, first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    act, sentence = DAMAGE[damage]
    shutil.copytree(first / "adapter", tmp_path / "adapter")
    act(tmp_path / "adapter")
    said = refused(going_on(tmp_path, tiny_model, str(first.parent / "old.jsonl"), tmp_path / "adapter"))
    assert sentence in said and "adapter" in said


def test_names_that_name_no_adapter(first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    data = str(first.parent / "old.jsonl")
    (tmp_path / "untrained").mkdir()
    manifest = read_json(first / "manifest.json")
    write_json(tmp_path / "untrained" / "manifest.json", manifest)
    for name, sentence in (
        ("./nowhere", "no such run or folder"),
        (data, "is a file"),
        (tiny_model, f"holds a whole model; write model.name: {tiny_model}"),
        (tmp_path / "untrained", "is not trained yet"),
        ("x" * 5000, "no such run or folder"),
    ):
        assert sentence in refused(going_on(tmp_path, tiny_model, data, name))


def test_another_base_is_refused_by_its_weights(
    first: Path, tiny_model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """A copy of the base is the base; one that was trained further has its shapes and is another."""
    data = str(first.parent / "old.jsonl")
    shutil.copytree(tiny_model, tmp_path / "copy")
    short = {"max_steps": 1, "eval_steps": 1}
    recipe = going_on(tmp_path, tmp_path / "copy", data, first, training=short)
    assert main(["train", str(recipe), "--output", str(tmp_path / "on-a-copy")]) == 0
    assert read_json(tmp_path / "on-a-copy" / "adapter" / "adapter_config.json")["base_model_name_or_path"] == str(
        tmp_path / "copy"
    )
    model = load_weights(resolve_model(str(tmp_path / "copy")), "float32")
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    model.save_pretrained(tmp_path / "copy")
    for start in (first, first / "adapter"):
        said = refused(going_on(tmp_path, tmp_path / "copy", data, start))
        assert f"was fitted to {tiny_model}, and model.name is {tmp_path / 'copy'}" in said
        assert said.endswith(f"write model.name: {tiny_model}")


def test_dora_and_parts_that_are_fitted_whole_are_kept(first: Path, tiny_model: Path, tmp_path: Path) -> None:
    data, short = str(first.parent / "old.jsonl"), {"max_steps": 3, "eval_steps": 3}
    shape = {"method": "dora", "r": 2, "lora_alpha": 4, "modules_to_save": ["norm"], "target_modules": ["q_proj"]}
    recipe = recipe_at(tmp_path, tiny_model, data, adapter=shape, training=short)
    assert main(["train", str(recipe), "--output", str(tmp_path / "dora")]) == 0
    again = going_on(tmp_path, tiny_model, data, tmp_path / "dora", training=short)
    assert main(["train", str(again), "--output", str(tmp_path / "on")]) == 0
    before, after = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("dora", "on"))
    assert before.keys() == after.keys() and any("magnitude" in name for name in after)
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert any(name.endswith("model.norm.weight") for name in moved) and any("lora_B" in name for name in moved)
    assert read_json(tmp_path / "on" / "adapter" / "adapter_config.json")["use_dora"] is True


def test_it_goes_on_and_notices_another_adapter(
    first: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is killed goes on from its checkpoint as if never stopped; another adapter in the place is refused."""
    shutil.copytree(first, tmp_path / "start")
    data = str(first.parent / "old.jsonl")
    recipe = going_on(tmp_path, tiny_model, data, tmp_path / "start", training={"save_steps": 4})
    assert main(["train", str(recipe), "--output", str(tmp_path / "whole")]) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for place in (tmp_path / "killed" / "adapter", tmp_path / "killed" / "checkpoints" / "checkpoint-8"):
        shutil.rmtree(place)
    manifest = read_json(tmp_path / "killed" / "manifest.json")
    write_json(tmp_path / "killed" / "manifest.json", {k: v for k, v in manifest.items() if k != "training"})
    words = ["train", str(recipe), "--output", str(tmp_path / "killed"), "--resume"]
    shutil.copytree(tmp_path / "killed", tmp_path / "moved-on")
    assert main(words) == 0
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    _spoilt(tmp_path / "start" / "adapter", lambda weights: next(iter(weights.values())).mul_(2))
    capsys.readouterr()
    words[3] = str(tmp_path / "moved-on")
    assert main(words) == 2
    assert "was started with another start.weights_hash" in capsys.readouterr().err
    assert main([*words, "--allow-change"]) == 2
    assert "the checkpoint's weights come from that adapter" in capsys.readouterr().err
    # What was trained is measured without the one that is gone, and says so.
    assert main(["evaluate", str(tmp_path / "killed")]) == 0
    assert "is no longer the clone that was gone on from" in capsys.readouterr().err
    assert read_scorecard(Run.open(tmp_path / "killed")).from_start is None


def test_from_a_hub_by_its_id(
    first: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's adapter by its id, on a base from elsewhere; and the id where a base model belongs."""
    import huggingface_hub

    files = {file.name: file.read_bytes() for file in (first / "adapter").iterdir() if file.is_file()}
    config = json.loads(files["adapter_config.json"]) | {"base_model_name_or_path": "other/base"}
    files["adapter_config.json"] = json.dumps(config).encode()
    with LoopbackHub() as hub:
        hub.put("other/base", base_files(tiny_model), private=False)
        hub.put("other/clone", files, private=False)
        connected(hub, monkeypatch, [])
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        data, short = str(first.parent / "old.jsonl"), {"max_steps": 1, "eval_steps": 1}
        recipe = going_on(tmp_path, tiny_model, data, "other/clone", training=short)
        assert main(["train", str(recipe), "--output", str(tmp_path / "on")]) == 0
        start = Run.open(tmp_path / "on").manifest["start"]
        assert start.keys() == {"name", "weights_hash", "unknown", "gone"} and start["gone"] == ""
        assert start["unknown"].startswith("adapter.start_from: no run of other/clone is known, nor what it learned")
        capsys.readouterr()
        wrong = recipe_at(tmp_path, "other/clone", data)
        assert main(["train", str(wrong), "--output", str(tmp_path / "wrong")]) == 2
        assert "other/clone is an adapter, and model.name takes a base model" in capsys.readouterr().err
        missing = going_on(tmp_path, tiny_model, data, "other/nobody")
        assert main(["train", str(missing), "--output", str(tmp_path / "wrong")]) == 2
        assert "other/nobody" in capsys.readouterr().err and not (tmp_path / "wrong").exists()
