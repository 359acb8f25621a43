"""A clone that was fitted on from another: what is published of it, and what a stranger can do with that.

The fit is launched as two processes over gloo, its base in 4 bits where bitsandbytes is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import forked_python
import pytest
import yaml

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from loopback_hub import LoopbackHub
from safetensors.torch import load_file
from toy_launches import launch
from toy_pushes import bench_for, elsewhere, started

from sft.cli import main
from sft.demonstrations.stored import load_splits
from sft.fidelity.stored import read_scorecard
from sft.runs.run import Run, read_json, read_jsonl


def recipe_on(fitted: Path, folder: Path, **sections: Any) -> Path:
    """The recipe of ``fitted``, its adapter gone on from; ``sections`` over what it says."""
    whole = yaml.safe_load((fitted / "recipe.yaml").read_text(encoding="utf-8"))
    whole["adapter"] = {"start_from": str(fitted)}
    for name, section in sections.items():
        whole[name] = whole.get(name, {}) | section
    path = folder / "on.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def adapter_of(run: Path) -> dict[str, Any]:
    return load_file(run / "adapter" / "adapter_model.safetensors")  # type: ignore[no-any-return]


def test_two_processes_go_on_as_one_does(fitted: Path, tmp_path: Path) -> None:
    """Same losses from the adapter's own on, the adapter whole, the one that it began from on record."""
    recipe = recipe_on(fitted, tmp_path, training={"logging_steps": 1, "eval_on_start": True})
    found = {}
    for processes in (1, 2):
        out = tmp_path / f"of-{processes}"
        # Two processes take half a batch each.
        words = [
            "train",
            str(recipe),
            "--output",
            str(out),
            "--set",
            f"training.per_device_train_batch_size={8 // processes}",
        ]
        told = launch(words, str(tmp_path / f"watch-{processes}"), processes)
        assert told["codes"] == [0] * processes, told["said"]
        found[processes] = out
    losses = [
        [row.get("loss", row.get("eval_loss")) for row in read_jsonl(out / "log.jsonl")] for out in found.values()
    ]
    assert len(losses[0]) == len(losses[1]) and losses[0] == pytest.approx(losses[1], abs=1e-4)
    known = min(row["eval_loss"] for row in read_jsonl(fitted / "log.jsonl") if "eval_loss" in row)
    assert losses[0][0] == pytest.approx(known, abs=1e-5)
    one, other = map(adapter_of, found.values())
    assert one.keys() == other.keys() == adapter_of(fitted).keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    starts = [read_json(out / "manifest.json")["start"] for out in found.values()]
    assert starts[0] == starts[1] and starts[0]["name"] == str(fitted)


def test_it_goes_on_with_its_base_in_4_bits(fitted: Path, tmp_path: Path) -> None:
    """QLoRA of an adapter that was fitted to the whole base, and then on from that clone."""
    pytest.importorskip("bitsandbytes")
    first = recipe_on(fitted, tmp_path, adapter={"method": "qlora"}, training={"max_steps": 4, "eval_steps": 2})
    assert main(["train", str(first), "--output", str(tmp_path / "on")]) == 0
    second = recipe_on(
        tmp_path / "on", tmp_path, adapter={"method": "qlora"}, training={"max_steps": 2, "eval_steps": 2}
    )
    assert main(["run", str(second), "--output", str(tmp_path / "further")]) == 0
    runs = [Run.open(tmp_path / name) for name in ("on", "further")]
    assert [run.manifest["start"]["name"] for run in runs] == [str(fitted), str(tmp_path / "on")]
    assert all(run.manifest["training"]["saved"]["reloaded"]["positions"] > 0 for run in runs)
    before, after, further = map(adapter_of, (fitted, *(run.path for run in runs)))
    assert before.keys() == after.keys() == further.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not {d.key for d in load_splits(runs[1]).train} & {d.key for d in load_splits(Run.open(fitted)).test}
    assert read_scorecard(runs[1]).from_start is not None


def test_it_is_pushed_with_where_it_began_and_a_stranger_goes_on_from_it(
    fitted: Path, tiny_model: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: Any, capsys: Any, caplog: Any
) -> None:
    """The card names the clone before and its hash, no folder of this machine; processes of their own load the id."""
    (tmp_path / "made").mkdir()
    recipe = recipe_on(fitted, tmp_path / "made")
    assert main(["run", str(recipe), "--output", str(tmp_path / "made" / "run")]) == 0
    bench = bench_for(tmp_path / "made" / "run", tmp_path, hub, monkeypatch, capsys, caplog)
    done = bench.push()
    assert done.code == 0, done.err
    card, manifest = bench.head["README.md"].decode(), bench.head["sft_manifest.json"].decode()
    start = read_json(bench.run / "manifest.json")["start"]
    for text in (card, manifest):
        assert str(fitted) not in text and str(tmp_path) not in text
        assert start["weights_hash"] in text
    assert f"| fitted on from | {fitted.name} |" in card
    home = tmp_path / "a-stranger"
    program = (
        f"{elsewhere(hub, home)}import json, sys\nsys.modules['sft'] = None\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "model = AutoPeftModelForCausalLM.from_pretrained('me/clone')\n"
        "print(json.dumps(sorted(name for name, _ in model.named_parameters() if 'lora_' in name)))\n"
    )
    loaded = forked_python.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert len(json.loads(loaded.stdout.splitlines()[-1])) == len(adapter_of(bench.run))
    short = {"max_steps": 1, "eval_steps": 1}
    further = recipe_on(fitted, tmp_path, adapter={"start_from": "me/clone"}, training=short)
    words = ["train", str(further), "--output", str(tmp_path / "further")]
    process = started(words, hub, home)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert read_json(tmp_path / "further" / "manifest.json")["start"]["name"] == "me/clone"
