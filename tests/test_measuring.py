"""Measuring: the same prompts in every run, nothing written twice, nothing reused that was made otherwise."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main
from sft.demonstrations import Demonstration, Message, Source
from sft.loop import demand_trained, load_recipe, load_splits
from sft.measuring import choose_held_out, evaluate
from sft.recipes import Recipe
from sft.runs import Run, read_json, read_jsonl
from sft.scorecards import Scorecard

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parent.parent
WRITERS = ("tuned", "B0", "B3")
HELD_OUT = 10

RECIPE = """\
model:
  name: {model}
demonstrations:
  path: {data}
split:
  validation: 0.15
  test: 0.25
  near_duplicates: allow
training:
  learning_rate: 1.0e-2
  max_steps: 4
fidelity:
  max_prompts: 10
  max_new_tokens: 8
  batch_size: 4
"""


def written_by_two(number: int) -> dict[str, Any]:
    words = random.Random(number).choices(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], k=4)
    row = {"prompt": f"{number}: the {' '.join(words)} is red", "completion": "red, red"}
    return row | ({"references": ["it is red", "red"]} if number % 2 else {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run that was trained and measured; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained")
    data, recipe = folder / "x.jsonl", folder / "recipe.yaml"
    data.write_text("".join(json.dumps(written_by_two(n)) + "\n" for n in range(80)), encoding="utf-8")
    recipe.write_text(RECIPE.format(model=tiny_model, data=data), encoding="utf-8")
    assert main(["run", str(recipe), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Run]:
    shutil.copytree(trained, tmp_path / "run")
    with Run.open(tmp_path / "run", writing=True) as opened:
        yield opened


def unmeasured(run: Run) -> None:
    """Take away all that measuring left."""
    for path in (*run.path.glob("completions*"), *run.path.glob("token-scores*"), run.scorecard_path, run.scores_path):
        path.unlink()


def measured(run: Run, **fidelity: Any) -> Scorecard:
    """Measure with some of the recipe's fidelity settings changed."""
    recipe = load_recipe(run)
    section = recipe.fidelity.model_copy(update=fidelity)
    return evaluate(run, recipe.model_copy(update={"fidelity": section}), load_splits(run), demand_trained(run))


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    return {system: {r["id"]: r for r in read_jsonl(folder / f"completions-{system}.jsonl")} for system in WRITERS}


# -- which prompts ------------------------------------------------------------------------------------------


def ask(number: int, completion: str = "yes", **fields: Any) -> Demonstration:
    return Demonstration((Message("user", f"question {number}"),), completion, **fields)


def test_held_out_prompts_are_chosen_by_content() -> None:
    """In any order, from any file, with other completions: the same prompts, in the same order."""
    rows = [ask(n, source=Source("x.jsonl", n + 1)) for n in range(50)]
    chosen = [item.prompt for item in choose_held_out(rows, 20)]
    others = [ask(n, "no", expert="ann", group=f"g{n}") for n in range(50)]
    random.Random(0).shuffle(others)
    assert [item.prompt for item in choose_held_out(others, 20)] == chosen
    assert [item.prompt for item in choose_held_out(rows, None)][:20] == chosen
    assert len(choose_held_out(rows, None)) == 50 and chosen != [row.prompt for row in rows[:20]]


def test_more_rows_only_push_in_between() -> None:
    """A prompt stays chosen unless a new one comes before it: runs on a grown set stay comparable."""
    before = [item.prompt for item in choose_held_out([ask(n) for n in range(50)], None)]
    after = [item.prompt for item in choose_held_out([ask(n) for n in range(60)], None)]
    assert [prompt for prompt in after if prompt in before] == before


def test_every_group_is_asked_before_any_is_asked_twice() -> None:
    """One file with thirty functions and nine with one each: ten prompts are of ten files."""
    rows = [ask(n, group="large") for n in range(30)] + [ask(100 + n, group=f"small {n}") for n in range(9)]
    chosen = choose_held_out(rows, 12)
    assert len({item.cluster for item in chosen[:10]}) == 10
    assert {item.cluster for item in chosen[10:]} == {"large"}


def test_rows_of_one_prompt_are_one_item_with_all_its_references() -> None:
    (item,) = choose_held_out([ask(1, "a", expert="ann", references=("b",)), ask(1, "c", expert="bob")], 5)
    assert (item.references, item.experts) == (("a", "b", "c"), ("ann", "", "bob"))


# -- what is reused -------------------------------------------------------------------------------------------


def test_all_references_count(run: Run) -> None:
    card = read_json(run.scorecard_path)
    items = {item.id: item for item in choose_held_out(load_splits(run).test, HELD_OUT)}
    assert {len(item.references) for item in items.values()} == {1, 3}
    assert card["n"] == HELD_OUT and card["unscored"] == 0
    for system in WRITERS:
        assert contents(run.path)[system].keys() == items.keys()
        sizes = {row["id"]: row["bytes"] for row in read_jsonl(run.token_scores_path(system))}
        assert sizes == {key: len(item.references[0]) for key, item in items.items()}


def test_an_interrupted_evaluation_writes_only_what_is_missing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A torn last line counts as not written; other processes' files are taken over; the rest stays byte for byte."""
    card, whole = read_json(run.scorecard_path), contents(run.path)
    path = run.completions_path("tuned")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:15])
    path.with_name("completions-tuned.rank-1.jsonl").write_bytes(b"".join(lines[6:8]))
    measured(run)
    assert contents(run.path) == whole
    assert path.read_bytes().startswith(b"".join([*lines[:4], *lines[6:8]]))
    assert not list(run.path.glob("*.rank-*"))
    assert read_json(run.scorecard_path)["systems"] == card["systems"]
    err = capsys.readouterr().err
    assert "reused: what B0 wrote for 10 prompts" in err and "what tuned wrote" not in err


@pytest.mark.parametrize("change", ["max_new_tokens", "max_prompts", "base", "template", "split"])
def test_what_was_written_under_another_signature_goes(
    change: str, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file holds a planted row; it survives an evaluation that is the same, and none that is not."""
    planted = {"id": "planted", "text": "", "finished": True, "tokens": 0}
    for system in WRITERS:
        with run.completions_path(system).open("a", encoding="utf-8") as file:
            file.write(json.dumps(planted) + "\n")
    # What the systems would write is beside the point here, and takes the time.
    monkeypatch.setattr("sft.measuring._run_system", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr("sft.measuring.policy_of", lambda *_: None)

    def attempt(recipe: Recipe, split: str = "test") -> list[Path]:
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, recipe, load_splits(run), demand_trained(run), split=split)
        return [path for path in run.path.glob("completions-*.jsonl") if "planted" in path.read_text(encoding="utf-8")]

    recipe = load_recipe(run)
    assert len(attempt(recipe)) == len(WRITERS) and run.scorecard_path.exists()
    model = recipe.model
    if change == "base":
        shutil.copytree(tiny_model, tmp_path / "other")
        model = model.model_copy(update={"name": str(tmp_path / "other")})
    elif change == "template":
        model = model.model_copy(update={"template": "plain"})
    values = {"max_new_tokens": 9, "max_prompts": 9}
    section = recipe.fidelity.model_copy(update={k: v for k, v in values.items() if k == change})
    left = attempt(
        recipe.model_copy(update={"fidelity": section, "model": model}), "validation" if change == "split" else "test"
    )
    assert not left and not run.scorecard_path.exists()


# -- how it is run --------------------------------------------------------------------------------------------


def numbers(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its address."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, f"{where}.{key}")
    else:
        yield where, value


def test_two_processes_measure_as_one_does(run: Run) -> None:
    """Real processes under torchrun, on a CPU: each prompt is written once, and the scorecard is the same."""
    whole, card = contents(run.path), dict(numbers(read_json(run.scorecard_path)))
    unmeasured(run)
    run.close()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    answer = subprocess.run(
        [*launcher, "-m", "sft", "evaluate", str(run.path), "--json"],
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert answer.returncode == 0, answer.stderr
    printed = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    assert len(printed) == 1, "the first process prints, the other one does not"
    for system in WRITERS:
        assert len(run.completions_path(system).read_bytes().splitlines()) == HELD_OUT
    assert contents(run.path) == whole
    assert not list(run.path.glob("*.rank-*"))
    again = dict(numbers(json.loads(printed[0])))
    assert again.keys() == card.keys()
    for where, value in card.items():
        expected = pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
        assert again[where] == expected, where


@pytest.mark.parametrize(("context", "shown"), [(512, 3), (96, 1), (60, 0)])
def test_no_prompt_outgrows_the_context(
    context: int, shown: int, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """B3 shows as many demonstrations as fit, and is left out, with a word, where none does."""
    longest = 0
    from sft import generation

    def spied(policy: Any, prompts: Any, *, max_new_tokens: int, batch_size: int) -> Any:
        nonlocal longest
        longest = max([longest, *(len(ids) + max_new_tokens for ids in prompts.values())])
        return generation.complete(policy, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)

    monkeypatch.setattr("sft.measuring.context_length", lambda *_: context)
    monkeypatch.setattr("sft.measuring.complete", spied)
    unmeasured(run)
    card = measured(run, systems=("tuned", "B3", "R"), max_prompts=4)
    assert card.signature["b3_demonstrations"] == shown
    assert 0 < longest <= context
    assert ("left out: B3" in capsys.readouterr().err) == (shown == 0)
    assert run.completions_path("B3").exists() == (shown > 0)
