"""Metrics of the ``evaluate`` library beside ours: any module, in the table of ``sft score`` and ``sft evaluate``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scored_files import rows, write

from sft.cli import main
from sft.metrics import METRICS
from sft.runs.run import read_json, read_jsonl

Captured = pytest.CaptureFixture[str]

MODULE = '''\
import datasets
import evaluate


class Counted(evaluate.Metric):
    """Words that both texts have."""

    def _info(self):
        text = datasets.Value("{kind}")
        features = datasets.Features({{"predictions": text, "references": text}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        {compute}
'''
COUNTING = """\
shared = [len(set(p.split()) & set(r.split())) for p, r in zip(predictions, references)]
        return {"shared": sum(shared) / len(shared), "pairs": len(shared)}"""


def module(folder: Path, name: str = "shared_words", compute: str = COUNTING, kind: str = "string") -> Path:
    """A metric of somebody else's, as ``evaluate`` wants it: a file in a folder of its name."""
    (folder / name).mkdir()
    (folder / name / f"{name}.py").write_text(MODULE.format(kind=kind, compute=compute), encoding="utf-8")
    return folder / name


def by_hand(given: list[dict[str, str]]) -> float:
    shared = [len(set(row["completion"].split()) & set(row["reference"].split())) for row in given]
    return sum(shared) / len(shared)


def test_a_metric_from_outside_is_in_the_table(tmp_path: Path, capsys: Captured) -> None:
    """Prompt by prompt, with an interval, and again when the scorecard is computed from what is on file."""
    given = rows(12)
    file, run = write(tmp_path / "x.jsonl", given), tmp_path / "run"
    words = ["score", str(file), "--metric", f"{module(tmp_path)}:shared", "--json", "--fast", "-o", str(run)]
    assert main(words) == 0
    card = json.loads(capsys.readouterr().out)
    scores = {system["system"]: system["scores"] for system in card["systems"]}
    found = scores["tuned"]["shared_words:shared"]
    assert found["value"] == pytest.approx(by_hand(given)) and found["low"] < found["value"] < found["high"]
    assert "shared_words:shared" in scores["P"] and card["signature"]["metrics"]["shared_words:shared"]
    assert str(tmp_path) not in json.dumps(card), "a scorecard is published; where the module lies is nobody's affair"
    lines = [row for row in read_jsonl(run / "scores.jsonl") if row["system"] == "tuned"]
    assert sum(row["shared_words:shared"] for row in lines) / len(lines) == pytest.approx(by_hand(given))
    assert "shared words:shared" in (run / "report.html").read_text(encoding="utf-8").replace("_", " ")
    before = (run / "scorecard.json").read_bytes()
    assert main(["report", str(run), "--recompute"]) == 0
    assert (run / "scorecard.json").read_bytes() == before


def test_a_metric_that_evaluate_has_in_its_cache_is_found_by_name_without_a_network(tmp_path: Path) -> None:
    """As the library leaves what it has loaded from the hub once; a process of its own, for it reads where that is
    when it is imported."""
    cached = tmp_path / "modules" / "evaluate_modules" / "metrics" / "evaluate-metric--shared_words"
    cached.mkdir(parents=True)
    module(cached).rename(cached / ("a" * 64))
    for folder in (cached / ("a" * 64), cached, cached.parent, cached.parents[1]):
        (folder / "__init__.py").touch()
    given = rows(6)
    file = write(tmp_path / "x.jsonl", given)
    words = [sys.executable, "-m", "sft", "score", str(file), "--metric", "shared_words:shared", "--json", "--fast"]
    offline = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    answer = subprocess.run(words, env=os.environ | offline, cwd=tmp_path, capture_output=True, text=True, check=True)
    scores = {system["system"]: system["scores"] for system in json.loads(answer.stdout)["systems"]}
    assert scores["tuned"]["shared_words:shared"]["value"] == pytest.approx(by_hand(given))


def test_ours_are_such_modules_and_say_the_same(tmp_path: Path, capsys: Captured) -> None:
    """``sft_chrf`` and the others, loaded by ``evaluate``, give the columns of the table to the last digit."""
    file = write(tmp_path / "x.jsonl", rows(5))
    words = [word for name in METRICS for word in ("--metric", f"sft_{name}")]
    assert main(["score", str(file), "--fast", "--json", *words]) == 0
    for system in json.loads(capsys.readouterr().out)["systems"]:
        for name in METRICS:
            assert system["scores"][f"sft_{name}"]["value"] == system["scores"][name]["value"]


@pytest.mark.parametrize(
    ("compute", "kind", "key", "said"),
    [
        (COUNTING, "string", "", "gives shared, pairs; choose one of them as "),
        (COUNTING, "string", ":recall", "gives shared, pairs; choose one of them as "),
        ('return {"labels": "none"}', "string", "", "gives nothing that is a number"),
        ("raise LookupError('no such word list')", "string", "", "fails on a pair of texts (no such word list)"),
        ('return {"x": 1.0}', "int32", "", "does not compare texts with texts"),
        ("this is no Python", "string", "", "cannot be loaded by evaluate ("),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    compute: str, kind: str, key: str, said: str, tmp_path: Path, capsys: Captured
) -> None:
    file, run = write(tmp_path / "x.jsonl", rows(3)), tmp_path / "run"
    name = module(tmp_path, f"odd_{kind}", compute, kind)
    assert main(["score", str(file), "--metric", f"{name}{key}", "-o", str(run)]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"sft: --metric: {name}{key}: ") and said in err
    assert not run.exists()


def test_a_name_that_is_nowhere_and_one_that_is_taken(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path / "x.jsonl", rows(3))
    assert main(["score", str(file), "--metric", "nobody/nothing"]) == 2
    assert "nobody/nothing: cannot be loaded by evaluate (" in capsys.readouterr().err
    taken = module(tmp_path, "chrf", 'return {"chrf": 1.0}')
    assert main(["score", str(file), "--metric", str(taken)]) == 2
    assert "is called chrf, and so is a figure that is always shown; rename the module" in capsys.readouterr().err


@pytest.mark.engine
def test_a_recipe_names_them(tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    """From the command line to the scorecard of a run; a recipe that names one twice is refused."""
    from toy_demonstrations import write_demonstrations

    data, recipe = write_demonstrations(tmp_path / "x.jsonl"), tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model:\n  name: {tiny_model}\ndemonstrations:\n  path: {data}\nsplit:\n  near_duplicates: remove\n"
        f"training:\n  max_steps: 2\nfidelity:\n  max_prompts: 4\n  max_new_tokens: 4\n  profile: fast\n"
        f"  metrics: [sft_rouge_l, '{module(tmp_path)}:shared']\n",
        encoding="utf-8",
    )
    assert main(["run", str(recipe), "-o", str(tmp_path / "run")]) == 0
    for system in read_json(tmp_path / "run" / "scorecard.json")["systems"]:
        assert system["scores"]["sft_rouge_l"]["value"] == system["scores"]["rouge_l"]["value"]
        assert "shared_words:shared" in system["scores"]
    twice = ["--set", "fidelity.metrics=[sft_chrf, sft_chrf]"]
    assert main(["run", str(recipe), "-o", str(tmp_path / "other"), *twice]) == 2
    assert "names a metric twice" in capsys.readouterr().err
