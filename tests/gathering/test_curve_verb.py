"""``sft curve`` as its users run it: nested subsets, one set of prompts, a kill, and one look at the test split."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from small_recipes import small_recipe

from sft.cli import main
from sft.demonstrations.stored import load_splits
from sft.runs.run import Run

pytestmark = pytest.mark.engine

FIDELITY = "fidelity: {profile: fast, max_prompts: 12, max_new_tokens: 6, systems: [tuned, R, K, P]}"


def test_it_goes_on_where_it_was_and_looks_once(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(tmp_path, tiny_model, 70, "num_train_epochs: 1", FIDELITY)
    place = tmp_path / "curve"
    words = ["curve", str(recipe), "--output", str(place)]
    assert main([*words, "--json"]) == 0
    curve = json.loads(capsys.readouterr().out)
    assert curve == json.loads((place / "curve.json").read_text())
    runs = {name: Run.open(place / name) for name in ("a-quarter", "half", "all")}  # an eighth would be too few
    parts = {name: load_splits(run) for name, run in runs.items()}
    keys = {name: {d.key for d in part.train} for name, part in parts.items()}
    assert keys["a-quarter"] < keys["half"] < keys["all"]
    assert [point["rows"] for point in curve["points"]] == [len(keys[name]) for name in runs]
    assert len({tuple(sorted(d.key for d in part.validation)) for part in parts.values()}) == 1
    assert {name: run.times_looked("test") for name, run in runs.items()} == {"a-quarter": 0, "half": 0, "all": 1}
    assert all(run.times_looked("validation") == 1 for run in runs.values())
    # Killed after the first clone: the others are made again, to the same figures, and nothing else is looked at.
    first = (place / "sizes.jsonl").read_text().splitlines(keepends=True)
    (place / "sizes.jsonl").write_text(first[0])
    shutil.rmtree(place / "half")
    assert main(words) == 0
    said, progress = capsys.readouterr()
    assert json.loads((place / "curve.json").read_text())["points"] == curve["points"]
    assert "reused: a-quarter" in progress and "reused: half" not in progress
    assert "Bits per byte and chrF by number of demonstrations" in said and "it takes `--seeds 3`" in said
    page = (place / "all" / "report.html").read_text(encoding="utf-8")
    assert "fitted to a quarter, half and all of the demonstrations" in page, "there is no clone of an eighth"
    assert "Would more demonstrations help?" in page and "by number of demonstrations" in page
    # What was known of the last clone was lost, so it was judged on the validation prompts anew: the report is of the
    # test prompts all the same, and says that they were looked at twice.
    assert json.loads((place / "all" / "scorecard.json").read_text())["split"] == "test"
    assert Run.open(place / "all").times_looked("test") == 2
    # Killed when the test prompts were looked at and nothing was scored yet: the same command ends it.
    (place / "all" / "scorecard.json").unlink()
    manifest = json.loads((place / "all" / "manifest.json").read_text())
    del manifest["files"]["scorecard.json"]
    (place / "all" / "manifest.json").write_text(json.dumps(manifest))
    assert main(words) == 0
    assert json.loads((place / "all" / "scorecard.json").read_text())["split"] == "test"
    # The clone that the report is of was deleted: it is made again.
    shutil.rmtree(place / "all")
    capsys.readouterr()
    assert main(words) == 0
    assert "reused: all" not in capsys.readouterr().err
    assert json.loads((place / "curve.json").read_text())["points"] == curve["points"]
    # Moved before its end: there is one thing to do, and no option that this verb does not have.
    (place / "sizes.jsonl").unlink()
    place.rename(tmp_path / "moved")
    assert main([*words[:-1], str(tmp_path / "moved")]) == 2
    said = capsys.readouterr().err
    assert f"was begun as {place}, where its clones look for their rows; put it back there" in said
    assert "--allow-change" not in said
    (tmp_path / "moved").rename(place)
    assert main(words) == 0
    assert json.loads((place / "curve.json").read_text())["points"] == curve["points"]
    capsys.readouterr()
    assert main([*words, "--set", "training.learning_rate=1.0e-3"]) == 2
    assert "was begun with another recipe; put it back" in capsys.readouterr().err


def test_too_few_and_folders_of_others(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small_recipe(tmp_path, tiny_model, 30, "num_train_epochs: 1", FIDELITY)
    assert main(["curve", str(recipe), "--output", str(tmp_path / "c")]) == 2
    assert "prompts are left to train on, and a curve takes 32" in capsys.readouterr().err
    small_recipe(tmp_path, tiny_model, 70, "num_train_epochs: 1", FIDELITY)
    (tmp_path / "c").mkdir(exist_ok=True)
    (tmp_path / "c" / "mine.txt").write_text("mine")
    assert main(["curve", str(recipe), "--output", str(tmp_path / "c")]) == 2
    assert "holds something else; name a new or empty folder" in capsys.readouterr().err
    (tmp_path / "c" / "mine.txt").unlink()
    assert main(["curve", str(recipe), "--output", str(tmp_path / "c"), "--set", "split.validation=0.0001"]) == 2
    assert "left the validation split empty" in capsys.readouterr().err
    (tmp_path / "c").rmdir()
    # What could not begin is in nobody's way; a line that is complained of can be looked up.
    for word, complaint in (("model.name=./nowhere", "no such model folder"), ("training.max_length=9", "tokens long")):
        assert main(["curve", str(recipe), "--output", str(tmp_path / "c"), "--set", word]) == 2
        said = capsys.readouterr().err
        assert complaint in said and {path.name for path in (tmp_path / "c").iterdir()} <= {".lock", "rows"}
    assert "/rows/" not in said, "the curve's own copies are nobody's to mend"
    file, line = re.findall(r"(\S+\.jsonl):(\d+)", said)[0]
    assert Path(file).parent == tmp_path and len(Path(file).read_text(encoding="utf-8").splitlines()) >= int(line)
    # A clone that has learned the rows knows them in every size.
    shutil.rmtree(tmp_path / "c")
    train = ["--set", "training.max_steps=1", "--set", "training.eval_steps=1", "--output", str(tmp_path / "first")]
    assert main(["train", str(recipe), *train]) == 0
    text = recipe.read_text(encoding="utf-8").replace("{r: 4, lora_alpha: 8}", f"{{start_from: {tmp_path / 'first'}}}")
    recipe.write_text(text, encoding="utf-8")
    assert main(["curve", str(recipe), "--output", str(tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert "first has learned 45 of the 45 prompts of the curve" in said and not (tmp_path / "c").exists()
