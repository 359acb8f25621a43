"""``sft check RECIPE --gaps``: what no prompt tells is marked before training, by the base model alone."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import sft
from sft.cli import main
from sft.demonstrations.demonstration import folded
from sft.errors import UserError

Captured = pytest.CaptureFixture[str]
THINGS = ["lamp", "kettle", "bicycle", "armchair", "bookcase", "mirror", "carpet", "toaster"]


def recipe(folder: Path, model: Path, kind: str) -> Path:
    """Fifty answers about orders. Their number stands in the prompt; an amount and a name do so "all" of the time."""
    draw = random.Random(kind)
    rows = []
    for number in range(50):
        order, amount = draw.randrange(10_000, 99_999), draw.randrange(1_000, 9_999)
        name = "".join(draw.choices("abcdefghijklmnop", k=7)).title()
        told = f", paid {amount} by {name}" if kind == "all" else ""
        prompt = f"{number}: the {draw.choice(THINGS)} of order {order}{told}"
        rows.append({"prompt": prompt, "completion": f"order {order} has come to {amount}, and {name} brings it."})
    (folder / f"{kind}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    path = folder / f"{kind}.yaml"
    path.write_text(
        f"model: {{name: {model}}}\ndemonstrations: {{path: {folder / kind}.jsonl}}\n"
        "split: {near_duplicates: allow}\ntraining: {max_steps: 2}\n"
        "fidelity: {max_new_tokens: 4, max_prompts: 4, samples: 0}\n",
        encoding="utf-8",
    )
    return path


def checked(path: Path, capsys: Captured) -> dict[str, Any]:
    assert main(["check", str(path), "--gaps", "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out)["gaps"])


@pytest.mark.engine
def test_what_no_prompt_tells_is_marked_and_what_stands_in_it_is_not(
    tmp_path: Path, tiny_model: Path, capsys: Captured
) -> None:
    """The copied order number stands beside an invented amount and name: these are found, in every completion."""
    told = checked(recipe(tmp_path, tiny_model, "all"), capsys)
    assert told["looked_at"] >= 30 and told["flagged"] == 0 and told["examples"] == []
    assert told["sentence"].startswith(f"In none of the {told['looked_at']} training completions")
    half = checked(recipe(tmp_path, tiny_model, "half"), capsys)
    assert half["flagged"] == half["looked_at"] == half["kinds"]["figure"] == half["kinds"]["name"]
    for gap in half["examples"]:
        marked = [gap["completion"][span["start"] : span["end"]] for span in gap["spans"]]
        assert [span["kind"] for span in gap["spans"]] == ["figure", "name"]
        assert re.fullmatch(r"\d{4}", marked[0]) and marked[1].istitle()
        assert not any(folded(text) in folded(gap["prompt"]) for text in marked)
        line = int(gap["address"].removeprefix(f"{tmp_path}/half.jsonl:"))
        row = json.loads((tmp_path / "half.jsonl").read_text(encoding="utf-8").splitlines()[line - 1])
        assert row["completion"] == gap["completion"]


@pytest.mark.engine
def test_people_read_the_sentence_and_the_places(tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    path = recipe(tmp_path, tiny_model, "half")
    assert main(["check", str(path), "--gaps"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path}/half.jsonl (prompt/completion)\n  rows ")
    assert "hold what neither their prompts nor the base model tell: " in out
    shown = re.findall(r"half\.jsonl:\d+: \d+ bits of surprise after its own prompt, \d+ after others\u2019\n", out)
    assert len(shown) == 10
    assert (
        len(re.findall(r"  the expert  order \d{5} has come to \[\[\d{4}\]\], and \[\[\w+\]\] brings it\.\n", out))
        == 10
    )


@pytest.mark.engine
def test_the_evaluation_after_training_says_the_same(tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    path = recipe(tmp_path, tiny_model, "half")
    before = checked(path, capsys)
    assert main(["run", str(path), "--output", str(tmp_path / "run")]) == 0
    after = json.loads((tmp_path / "run" / "scorecard.json").read_text(encoding="utf-8"))["gaps"]
    for name in ("looked_at", "flagged", "share", "kinds"):
        assert after[name] == before[name], name
    assert after["bits"]["value"] == pytest.approx(before["bits"]["value"], abs=1e-4)
    assert [gap["spans"] for gap in after["examples"]] != []
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    gap = after["examples"][0]
    for span in gap["spans"]:
        marked = gap["completion"][span["start"] : span["end"]]
        assert f"<mark>{marked}</mark>" in page and f"**{marked}**" in text
    assert before["sentence"].split(" hold ")[1] in text


@pytest.mark.engine
def test_rows_that_stop_a_run_are_told_and_no_model_is_loaded(tmp_path: Path, capsys: Captured) -> None:
    path = recipe(tmp_path, tmp_path / "no-model-here", "half")
    file = tmp_path / "half.jsonl"
    file.write_text(file.read_text(encoding="utf-8") + '{"prompt": "x", "completion": " "}\n', encoding="utf-8")
    assert main(["check", str(path), "--gaps", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "gaps" not in json.loads(out) and "1 of 51 rows" in err


def test_a_file_has_no_model_to_ask(tmp_path: Path, capsys: Captured) -> None:
    recipe(tmp_path, tmp_path, "half")
    assert main(["check", str(tmp_path / "half.jsonl"), "--gaps"]) == 2
    assert "half.jsonl: --gaps asks a base model; check a recipe, which names one" in capsys.readouterr().err


@pytest.mark.engine
def test_a_notebook_gets_what_the_command_line_says(tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    path = recipe(tmp_path, tiny_model, "half")
    asked = sft.check(path, gaps=True)
    assert asked.gaps is not None and asked.gaps.flagged == asked.gaps.looked_at >= 30
    assert asked.to_dict()["gaps"]["sentence"] == checked(path, capsys)["sentence"]
    assert main(["check", str(path), "--gaps"]) == 0
    assert str(asked) == capsys.readouterr().out.rstrip("\n")
    assert "hold what neither their prompts nor the base model tell" in asked._repr_html_()
    unasked = sft.check(path)
    assert unasked.gaps is None and "gaps" not in unasked.to_dict() and "[[" not in str(unasked)


@pytest.mark.engine
def test_rows_that_stop_a_run_are_passed_over_where_that_is_asked(tmp_path: Path, tiny_model: Path) -> None:
    path = recipe(tmp_path, tiny_model, "half")
    file = tmp_path / "half.jsonl"
    file.write_text(file.read_text(encoding="utf-8") + '{"prompt": "x", "completion": " "}\n', encoding="utf-8")
    assert sft.check(path, gaps=True).gaps is None
    kept = sft.check(path, gaps=True, keep_going=True)
    assert kept.gaps is not None and len(kept.problems) == 1
    with pytest.raises(UserError, match=r"half\.jsonl: --gaps asks a base model; check a recipe, which names one"):
        sft.check(file, gaps=True)
