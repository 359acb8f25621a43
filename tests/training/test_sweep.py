"""``sft sweep`` as its users run it: a grid by the validation loss, ended early, gone on with, written as a recipe."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import forked_python
import pytest
from small_recipes import small_recipe

from sft.cli import main
from sft.recipes import load
from sft.runs.run import Run

pytestmark = pytest.mark.engine

GRID = "training.learning_rate=1.0e-2,5.0e-3,1.0e-7"


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    return small_recipe(tmp_path, tiny_model, 60, "max_steps: 8")


@pytest.fixture(scope="module")
def left_alone(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, and in ``sweep`` what came of it in one go."""
    folder = tmp_path_factory.mktemp("left-alone")
    recipe = small_recipe(folder, tiny_model, 60, "max_steps: 8")
    assert main(["sweep", str(recipe), "--grid", GRID, "--output", str(folder / "sweep")]) == 0
    return folder


def test_it_chooses_ends_early_and_goes_on(
    left_alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "sweep"
    shutil.copytree(left_alone / "sweep", place)
    words = ["sweep", str(left_alone / "r.yaml"), "--grid", GRID, "--output", str(place)]
    capsys.readouterr()
    swept = json.loads((place / "sweep.json").read_text())
    tried = {one["values"]["training.learning_rate"]: one for one in swept["tried"]}
    assert [tried[rate]["state"] for rate in ("1.0e-2", "5.0e-3", "1.0e-7")] == ["whole", "whole", "stopped early"]
    assert [tried[rate]["steps"] for rate in ("1.0e-2", "1.0e-7")] == [8, 4]
    assert swept["chosen"] == tried["1.0e-2"]["run"]
    assert tried["1.0e-2"]["loss"] == min(one["loss"] for one in swept["tried"])
    assert all(Run.open(place / one["run"]).times_looked("test") == 0 for one in swept["tried"])
    chosen = load(place / "recipe.yaml")
    assert chosen.training.learning_rate == 1.0e-2
    assert "among 3 combinations" in (place / "recipe.yaml").read_text().splitlines()[0]
    page = (place / "sweep.html").read_text(encoding="utf-8")
    assert "Which settings?" in page and "learning_rate 1.0e-2" in page and "stopped early" in page
    # Again: nothing is fitted anew, and the table is the same.
    assert main(words) == 0
    said, progress = capsys.readouterr()
    assert json.loads((place / "sweep.json").read_text()) == swept and progress.count("reused") == 3
    assert said.count("stopped early") == 1 and "Chosen: learning_rate 1.0e-2" in said
    # Killed while the last one was fitted: it is fitted again, and it alone.
    journal = (place / "optuna.journal").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(journal) if json.loads(line).get("state") in (1, 2))
    (place / "optuna.journal").write_text("".join(journal[:last]))
    assert main([*words, "--json"]) == 0
    said, progress = capsys.readouterr()
    assert json.loads(said) == json.loads((place / "sweep.json").read_text()) == swept
    assert progress.count("reused: trial-") == 2
    # A damaged record is one sentence, and what that says is followed.
    (place / "optuna.journal").write_text("{}\n" + (place / "optuna.journal").read_text())
    assert main(words) == 2
    assert "optuna.journal: is damaged" in capsys.readouterr().err
    (place / "optuna.journal").unlink()
    assert main(words) == 0 and json.loads((place / "sweep.json").read_text()) == swept
    # Killed while a line of the record was written: what is whole of it counts.
    journal = (place / "optuna.journal").read_bytes()
    (place / "optuna.journal").write_bytes(journal[:-40])
    assert main(words) == 0 and json.loads((place / "sweep.json").read_text()) == swept
    # A fit that somebody has deleted is made again, though it is on record.
    shutil.rmtree(place / tried["5.0e-3"]["run"])
    assert main(words) == 0 and json.loads((place / "sweep.json").read_text()) == swept
    # What was ended early is not fitted to its end now, and nobody is told that it was.
    assert main([*words, "--no-pruning"]) == 2
    assert "1 of its combinations was ended early, and --no-pruning fits each to its end" in capsys.readouterr().err
    assert main([*words[:3], "training.learning_rate=1.0e-2,2.0e-3", *words[4:]]) == 2
    assert "was begun with another recipe or grid; put it back" in capsys.readouterr().err
    # Losses on other rows would be put into one table with those on record.
    data = left_alone / "d.jsonl"
    rows = data.read_text()
    data.write_text("".join(rows.splitlines(keepends=True)[:-1]))
    assert main(words) == 2
    data.write_text(rows)
    assert "was begun with other data; put it back" in capsys.readouterr().err


def test_killed_in_its_first_fit_it_ends_as_if_left_alone(left_alone: Path, tmp_path: Path) -> None:
    """The one that was killed came last then, and another was fitted to its end than in a sweep that was left alone."""
    words = ["sweep", str(left_alone / "r.yaml"), "--grid", GRID, "--output", str(tmp_path)]
    started = forked_python.Popen(
        [sys.executable, "-m", "sft", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while started.poll() is None and sum(map(_lines, tmp_path.glob("trial-*/log.jsonl"))) < 4:
        time.sleep(0.005)
    started.terminate()
    said = started.communicate()[1]
    assert started.returncode == 143 and "go on with: sft sweep" in said
    assert not (tmp_path / "sweep.json").exists()
    assert main(words) == 0
    found = [json.loads((place / "sweep.json").read_text()) for place in (tmp_path, left_alone / "sweep")]
    assert found[0] == found[1]
    assert [one["state"] for one in found[0]["tried"]] == ["whole", "whole", "stopped early"]


def test_killed_between_the_look_that_ends_a_fit_and_its_saving_it_ends_there(left_alone: Path, tmp_path: Path) -> None:
    """It went on from the checkpoint of that look to the next one, further than a sweep that was left alone."""
    place = tmp_path / "sweep"
    shutil.copytree(left_alone / "sweep", place)
    swept = json.loads((place / "sweep.json").read_text())
    last = swept["tried"][2]
    assert (last["state"], last["steps"]) == ("stopped early", 4)
    journal = (place / "optuna.journal").read_text().splitlines(keepends=True)
    ended = max(number for number, line in enumerate(journal) if json.loads(line).get("state") in (1, 2))
    (place / "optuna.journal").write_text("".join(journal[:ended]))
    shutil.rmtree(place / last["run"] / "adapter")
    assert (place / last["run"] / "checkpoints" / "checkpoint-4").is_dir()
    manifest = json.loads((place / last["run"] / "manifest.json").read_text())
    del manifest["training"]
    (place / last["run"] / "manifest.json").write_text(json.dumps(manifest))
    (place / "sweep.json").unlink()
    assert main(["sweep", str(left_alone / "r.yaml"), "--grid", GRID, "--output", str(place)]) == 0
    assert json.loads((place / "sweep.json").read_text()) == swept


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines())


WRONG = [
    ([], "what is to be tried?"),
    (["training.learning_rate"], "is not KEY=VALUE,VALUE"),
    (["training.learning_rate=1.0e-4"], "gives 1 value; give two or more"),
    (["training.learning_rate=1.0e-4,1.0e-4"], "names 1.0e-4 twice"),
    (["training.learning_rate=1.0e-4,0.0001"], "1.0e-4 and 0.0001 are the same value; list it once"),
    (["training.warmup_steps=0,0.0"], "0 and 0.0 are the same value; list it once"),
    (["training.weight_decay=0,1,1.0"], "1 and 1.0 are the same value; list it once"),
    (["training.learning_rate=1.0e-4,"], "gives 1 value; give"),
    (["trainin.learning_rate=1,2"], "did you mean training?"),
    (["split.seed=1,2"], "only keys of training and adapter can be tried"),
    (["training.seed=1,2"], "is luck"),
    (["training.data_seed=1,2"], "is luck"),
    (["training.max_length=64,128"], "would change the validation rows"),
    (["training.dialogues=turn_by_turn,one_pass"], "would change the validation rows"),
    (["training.eval_on_start=true,false"], "more looks have more luck"),
    (["training.save_steps=2,4"], "changes neither the fit nor its validation loss; leave it out"),
    (["adapter.target_modules=[q_proj,v_proj],[v_proj,q_proj]"], "[v_proj,q_proj] are the same value; list it once"),
    (["adapter.=1,2"], "--grid adapter.: only keys of training and adapter"),
    (["training.lerning_rate=1.0e-4,2.0e-4"], "--grid training.lerning_rate: is not a key of training"),
    (["training.learning_rate=1.0e-4,fast"], '--grid training.learning_rate: is "fast" but must be a number'),
    (
        ["training.learning_rate=1e-4,2.0e-4"],
        "--grid training.learning_rate: is 1e-4, which YAML reads as text; write 1",
    ),
    (["adapter.r=4,8", "adapter.r=16,32"], "is given twice"),
    (
        ["adapter.r=4,0"],
        "--grid adapter.r: is 0 but must be a whole number of at least 1 and at most 65536; leave that",
    ),
    (["adapter.r.x=4,8"], "--grid adapter.r: is a mapping"),
    (["training.num_train_epochs=1,2"], "training.max_steps says when a fit ends; leave one of the two out"),
    (
        [
            "training.learning_rate=" + ",".join(f"{n}.0e-7" for n in range(1, 41)),
            "adapter.r=" + ",".join(map(str, range(1, 27))),
        ],
        "1,040 combinations, each of them a fit; give fewer values, 1,000 at most",
    ),
]


@pytest.mark.parametrize(("grid", "sentence"), WRONG)
def test_a_wrong_grid_is_one_sentence_before_anything_starts(
    grid: list[str], sentence: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for one in grid for word in ("--grid", one)]
    assert main(["sweep", str(recipe), *words, "--output", str(tmp_path / "sweep")]) == 2
    said = capsys.readouterr().err
    assert sentence in said and not (tmp_path / "sweep").exists()
    assert "--set" not in said, "of a word that nobody has typed"


def test_all_wrong_values_of_a_grid_are_named_at_once_and_each_once(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one of ``--set`` keeps its name."""
    grid = ["--grid", "adapter.r=0,4,8.5", "--grid", "training.learning_rate=1.0e-4,2e-4"]
    assert (
        main(["sweep", str(recipe), *grid, "--set", "training.warmup_steps=-1", "--output", str(tmp_path / "s")]) == 2
    )
    lines = capsys.readouterr().err.removeprefix("sft: ").splitlines()
    assert sorted(line.partition(" but ")[0].partition(", which")[0] for line in lines) == [
        "--grid adapter.r: is 0", "--grid adapter.r: is 8.5", "--grid training.learning_rate: is 2e-4",
        "--set training.warmup_steps: is -1",
    ]  # fmt: skip


def test_a_sweep_that_could_not_begin_is_not_in_the_way_of_the_mended_one(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder was left with the record of a recipe that nothing was fitted by, and refused the mended recipe."""
    place = tmp_path / "sweep"
    words = ["sweep", str(recipe), "--grid", "adapter.r=2,4", "--set", "training.max_steps=2", "--output", str(place)]
    assert main([*words, "--set", "model.name=./nowhere"]) == 2
    assert "./nowhere: no such model folder" in capsys.readouterr().err and not place.exists()
    with Run.create(place):  # its lock is that of a folder
        assert main(words) == 2
        assert f"{place} holds something else" in capsys.readouterr().err
        (place / "manifest.json").unlink()
        assert main(words) == 2
        assert f"{place} is being written by another process" in capsys.readouterr().err
    # Killed before its first fit: only the record is there, and it is in nobody's way.
    (place / "begun.json").write_text('{"recipes": {}, "data": "of another sweep"}')
    assert main(words) == 0 and (place / "recipe.yaml").exists()


def test_a_combination_that_fails_is_told_and_the_others_are_tried(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 4 has no layers of that name; lists keep together in brackets."""
    place = tmp_path / "sweep"
    grid = "adapter.target_modules=[q_proj,v_proj],[no_such_layer]"
    words = ["sweep", str(recipe), "--grid", grid, "--set", "training.max_steps=2", "--output", str(place)]
    assert main([*words, "--no-pruning"]) == 0
    said = capsys.readouterr().out
    assert "failed: adapter: " in said and "Chosen: target_modules [q_proj,v_proj]" in said
    for made in (place / "mine.txt", place / "begun.json"):
        made.unlink(missing_ok=True)
    assert main(words) == 2
    assert "holds something else" in capsys.readouterr().err
