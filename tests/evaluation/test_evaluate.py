"""Measuring: the same prompts in every run, nothing written twice, nothing reused that was made otherwise."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked_python
import pytest
import torch
from repository import ROOT
from transformers import AutoModelForCausalLM
from vllm_stand_in import by_heart, python_with_vllm

from sft.cli import main
from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.stored import load_recipe, load_splits
from sft.errors import UserError
from sft.evaluation.evaluate import choose_held_out, evaluate
from sft.fidelity.scorecard import NO_BASE, RUNGS, Scorecard
from sft.policies.policy import load_policy
from sft.recipes.sources import source_of
from sft.runs.run import Run, demand_trained, read_json, read_jsonl

pytestmark = pytest.mark.engine

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
    for path in made(run).values():
        path.unlink()
    for path in (run.held_out_path, run.measurement_path, run.scorecard_path, run.scores_path, run.corrections_path):
        path.unlink(missing_ok=True)


def made(run: Run) -> dict[str, Path]:
    """The files that systems and probes have written, by stem."""
    stems = ("completions-", "token-scores-", "samples-", "forced-", "own-path", "control-", "prompt-values")
    return {path.stem: path for stem in stems for path in run.path.glob(f"{stem}*.jsonl")}


def rows(run: Run) -> dict[str, int]:
    """How many rows each of them has."""
    return {stem: len(read_jsonl(path)) for stem, path in made(run).items()}


def measured(run: Run, profile: str | None = None, **fidelity: Any) -> Scorecard:
    """Measure with some of the recipe's fidelity settings changed."""
    recipe = load_recipe(run)
    section = recipe.fidelity.model_copy(update=fidelity)
    recipe = recipe.model_copy(update={"fidelity": section})
    return evaluate(run, recipe, load_splits(run), demand_trained(run), profile=profile)


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    return {system: {r["id"]: r for r in read_jsonl(folder / f"completions-{system}.jsonl")} for system in WRITERS}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the weights that transformers was asked for."""
    found: list[str] = []
    load = AutoModelForCausalLM.from_pretrained

    def loading(folder: Any, *words: Any, **settings: Any) -> Any:
        found.append(str(folder))
        return load(folder, *words, **settings)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loading)
    return found


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
    run.update_manifest(files={})  # as it is before an evaluation has come to its end
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


def plant(run: Run) -> None:
    """A row in every file that no evaluation makes: it survives one that is the same, and none that is not."""
    run.update_manifest(files={})
    for path in made(run).values():
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(read_jsonl(path)[0] | {"id": "planted"}) + "\n")


def planted(run: Run) -> set[str]:
    return {stem for stem, path in made(run).items() if '"planted"' in path.read_text(encoding="utf-8")}


@pytest.mark.parametrize("change", ["nothing", "max_new_tokens", "max_prompts", "base", "template", "split", "seed"])
def test_what_was_made_under_another_signature_goes(
    change: str, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of prompts is no other signature; another seed takes away what was drawn, and no more."""
    measured(run, "full")
    plant(run)
    everything = planted(run)
    assert {"completions-tuned", "samples-0", "samples-1", "forced-tuned", "own-path", "prompt-values"} <= everything

    def interrupted(*_: Any, **__: Any) -> None:
        """What the systems would write is beside the point here, and takes the time."""
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", interrupted)
    recipe = load_recipe(run)
    model = recipe.model
    if change == "base":
        shutil.copytree(tiny_model, tmp_path / "other")
        model = model.model_copy(update={"name": str(tmp_path / "other")})
    elif change == "template":
        model = model.model_copy(update={"template": "plain"})
    values = {"max_new_tokens": 9, "max_prompts": 9, "seed": 1}
    section = recipe.fidelity.model_copy(update={k: v for k, v in values.items() if k == change})
    recipe = recipe.model_copy(update={"fidelity": section, "model": model})
    split = "validation" if change == "split" else "test"
    with suppress(KeyboardInterrupt):  # where something is missing, and a policy is wanted
        evaluate(run, recipe, load_splits(run), demand_trained(run), split=split)
    drawn = {"samples-0", "samples-1"}
    expected = {"nothing": everything, "max_prompts": everything, "seed": everything - drawn}.get(change, set())
    # Where nothing was missing the evaluation came to its end: what needs no model is computed anew each time.
    anew = (
        {f"completions-{floor}" for floor in ("R", "RK", "K", "P")}
        if change in ("nothing", "max_prompts", "seed")
        else set()
    )
    assert planted(run) | anew == expected | anew == {stem for stem, count in rows(run).items() if count}
    assert run.scorecard_path.exists() == bool(anew)


# -- how much is measured -------------------------------------------------------------------------------------


def test_each_profile_adds_to_the_one_before(run: Run, loads: list[str]) -> None:
    """Fast: one policy writes. Standard: the rest of the table, little probes. Full: samples and forcing too.

    Nothing is made twice on the way, and the base's weights serve the clone. Back at fast, all of it is there.
    """
    unmeasured(run)
    card = measured(run, "fast")
    n, train = card.n, len([r for r in read_jsonl(run.demonstrations_path) if r["split"] == "train"])
    fast = {"completions-tuned": n, "token-scores-tuned": n}
    floors = {f"completions-{floor}": n for floor in ("R", "RK", "K", "P")}
    assert rows(run) == fast | floors
    assert len(loads) == 1, "the clone alone is loaded"
    assert card.profile == "fast" and {s.system for s in card.systems} == {"tuned", "R", "RK", "K", "P", "E"}
    assert card.unscored == 0 and set(card.bits_per_byte) == {"tuned"}
    before = {stem: path.read_bytes() for stem, path in made(run).items()}

    card = measured(run, "standard")
    standard = rows(run)
    assert standard == fast | floors | {
        "completions-B0": n, "completions-B3": n, "token-scores-B0": n, "token-scores-B3": n, "own-path": n,
        "prompt-values": min(100, train),
    }  # fmt: skip
    assert {s.system for s in card.systems} == {"tuned", "B0", "B3", "R", "RK", "K", "P", "E"} and card.unscored == 0
    assert card.gaps is not None and "own" in card.calibration

    card = measured(run, "full")
    assert rows(run) == standard | {"samples-0": n, "samples-1": n, "forced-tuned": 3 * n}
    assert card.profile == "full" and card.prefix and {p.share for p in card.prefix["tuned"]} == {0, 0.25, 0.5, 0.75}
    assert all(made(run)[stem].read_bytes() == content for stem, content in before.items())
    assert (run.samples_path(0).read_bytes()) != run.samples_path(1).read_bytes()

    loads.clear()
    card = measured(run, "fast")
    assert loads == [], "nothing is missing, so nothing is loaded"
    assert {s.system for s in card.systems} == {"tuned", "B0", "B3", "R", "RK", "K", "P", "E"}, "what is there is shown"


def test_what_the_fast_profile_advises_gives_a_verdict(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It named an option that is refused for a run of ours."""
    unmeasured(run)
    run.close()
    cards = []
    for profile in ("--fast", "--full"):
        assert main(["evaluate", str(run.path), profile, "--json"]) == 0
        cards.append(json.loads(capsys.readouterr().out)["verdict"])
    assert cards[0]["rung"] == NO_BASE and "with `sft evaluate --full`" in cards[0]["next_step"]
    assert cards[1]["rung"] in RUNGS


def test_the_fast_profile_counts_no_base_that_is_half_done(run: Run) -> None:
    """An interrupted evaluation leaves part of a baseline: it is kept for later and judged in nothing until then."""
    run.update_manifest(files={})
    for system, path in ((s, run.completions_path(s)) for s in ("B0", "B3")):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
        assert len(read_jsonl(path)) == 3, system
    card = measured(run, "fast")
    assert {s.system for s in card.systems} == {"tuned", "R", "RK", "K", "P", "E"}
    assert card.unscored == 0 and set(card.bits_per_byte) == {"tuned", "B0", "B3"}, "whose scores are complete"
    assert len(read_jsonl(run.completions_path("B0"))) == 3


def test_more_prompts_are_added_to_those_there(run: Run) -> None:
    before = run.completions_path("tuned").read_bytes()
    card = measured(run, max_prompts=HELD_OUT + 3)
    assert card.n == HELD_OUT + 3 and card.unscored == 0
    assert run.completions_path("tuned").read_bytes().startswith(before)
    assert len(read_jsonl(run.completions_path("tuned"))) == HELD_OUT + 3
    assert measured(run, max_prompts=4).n == 4


def test_the_nearest_demonstrations_are_shown_where_a_recipe_says_so(run: Run) -> None:
    """What B3 wrote after fixed ones goes, and nothing else; the table says which it is."""
    before = {stem: path.read_bytes() for stem, path in made(run).items()}
    fixed = read_json(run.scorecard_path)
    assert fixed["signature"]["b3_demonstrations"] == 3 and fixed["names"] == {}
    card = measured(run, few_shot="nearest")
    after = {stem: path.read_bytes() for stem, path in made(run).items()}
    assert {stem for stem in before if after[stem] != before[stem]} == {"completions-B3", "token-scores-B3"}
    assert card.signature["b3_demonstrations"] == "3 nearest"
    assert card.names == {"B3": "base model, the three nearest demonstrations in the prompt"}
    again = measured(run, few_shot="nearest")
    assert again.gains == card.gains and made(run)["completions-B3"].read_bytes() == after["completions-B3"]


def elsewhere(path: Path, run: Run, count: int, completion: str = "red") -> Path:
    """A file of what a big model answered to the first ``count`` held-out prompts."""
    asked = read_jsonl(run.held_out_path)[:count]
    rows = [{"prompt": one["prompt"], "completion": f"{completion} {n}"} for n, one in enumerate(asked)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_completions_from_elsewhere_are_a_floor_of_the_verdict(run: Run, tmp_path: Path) -> None:
    grown = {stem: path.read_bytes() for stem, path in made(run).items()}
    file = elsewhere(tmp_path / "big-model.jsonl", run, HELD_OUT)
    card = measured(run, floors_from=str(file))
    assert card.floors[-1] == "big-model" and card.names["big-model"] == "completions from elsewhere"
    assert "big-model" in {gain.floor for gain in card.gains} and card.unscored == 0
    assert any(reason.startswith("gain over big-model (completions from elsewhere)") for reason in card.verdict.reasons)
    first = card.signature["floors_from"]
    assert all(path.read_bytes() == grown[stem] for stem, path in made(run).items() if stem in grown)
    other = measured(run, floors_from=str(elsewhere(file, run, HELD_OUT - 2, "it is red")))
    assert other.signature["floors_from"] != first and other.unscored == 2
    assert next(rail for rail in other.guardrails if rail.name == "unscored").value.value == 2 / HELD_OUT
    without = measured(run)
    assert "big-model" not in {gain.floor for gain in without.gains} and "floors_from" not in without.signature


def test_completions_from_elsewhere_that_are_none_are_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    file = tmp_path / "g.jsonl"
    file.write_text('{"prompt": "nobody asked", "completion": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=f"answers none of the {HELD_OUT} held-out prompts"):
        measured(run, floors_from=str(file))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_control_texts_under_both_policies(run: Run, tmp_path: Path, loads: list[str]) -> None:
    """Once per window and policy; another text under the same name is another text."""
    text = tmp_path / "plain.txt"
    text.write_text("the model learned to write the same way. " * 40, encoding="utf-8")
    card = measured(run, control=(str(text),))
    assert [f.text for f in card.forgetting] == ["plain.txt"]
    base, tuned = (read_jsonl(run.control_path(policy)) for policy in ("base", "tuned"))
    assert [(r["text"], r["window"], r["bytes"]) for r in base] == [(r["text"], r["window"], r["bytes"]) for r in tuned]
    assert [r["nats"] for r in base] != [r["nats"] for r in tuned]
    loads.clear()
    measured(run, control=(str(text),))
    assert loads == []
    text.write_text("quite another text, " * 40, encoding="utf-8")
    measured(run, control=(str(text),))
    assert [r["nats"] for r in read_jsonl(run.control_path("base"))] != [r["nats"] for r in base]
    measured(run)
    assert not run.control_path("base").exists(), "no text, no windows"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read"), (b"", "no text"), (b" \n ", "no text"), (b"\xff\xfe\x00a b", "not UTF-8")],
)
def test_a_control_text_that_is_none_is_one_sentence(
    content: bytes | None, complaint: str, run: Run, tmp_path: Path
) -> None:
    text = tmp_path / "plain.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(UserError) as error:
        measured(run, control=(str(text),))
    assert complaint in str(error.value) and "fidelity.control" in str(error.value) and "\n" not in str(error.value)


# -- how it is run --------------------------------------------------------------------------------------------


def numbers(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value with its address."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(part, f"{where}.{key}")
    else:
        yield where, value


def test_another_headline_for_a_finished_run_needs_no_other_recipe(
    run: Run, trained: Path, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is recomputed from what is on file, is a look, and is what report and comparison go by from then on."""
    run.close()
    written = {path.name: path.read_bytes() for path in run.path.glob("recipe*")}
    words = [str(run.path), "--headline", "exact_match", "--normalise", "case", "--normalise", "space"]
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["headline"], card["signature"]["normalise"], card["looks"]) == ("exact_match", ["case", "space"], 2)
    assert card["clones"] == 1, "the same weights, looked at again, choose nothing"
    assert {path.name: path.read_bytes() for path in run.path.glob("recipe*")} == written and not loads
    assert Run.open(run.path).looks[1]["purpose"] == "report, headline exact_match, normalise case space"
    page = run.path / "report.md"
    assert main(["report", str(run.path), "--recompute"]) == 0 and read_json(run.scorecard_path) == card
    said = page.read_text(encoding="utf-8")
    assert "exact match points" in said and "set aside in every text: case and white space." in said
    capsys.readouterr()
    assert main(["compare", str(run.path), str(trained), "--output", str(run.path.parent / "c.html")]) == 2
    err = capsys.readouterr().err
    assert "is judged by exact_match with case and space set aside" in err and "by chrf;" in err
    shutil.copytree(trained, run.path.parent / "other")
    assert main(["evaluate", str(run.path.parent / "other"), *words[1:]]) == 0
    assert main(["compare", str(run.path), str(run.path.parent / "other"), "-o", str(run.path.parent / "c.html")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--headline", "json"), "sft: --headline: is json, and what an expert wrote for prompt"),
        (("--headline", "rouge"), "sft: --headline: there is no score 'rouge'; choose from chrf"),
        (("--headline", "checker"), "or module:function as --checker"),
        (("--checker", "CHECKS:late"), "failed on prompt"),
        (("--checker", "regex:(\\d+)$"), "finds no answer in any reference"),
    ],
)
def test_a_headline_that_cannot_be_leaves_the_run_as_it_was(
    run: Run, tmp_path: Path, words: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.close()
    (tmp_path / "checks.py").write_text("def late(c, r):\n    return 1 / 0\n", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in run.path.glob("*.json*") if path != run.manifest_path}
    known = run.manifest
    word = words[1].replace("CHECKS", str(tmp_path / "checks.py"))
    assert main(["evaluate", str(run.path), words[0], word]) == 2
    assert said in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in run.path.glob("*.json*") if path != run.manifest_path}
    assert after == before and Run.open(run.path).looks == tuple(known["looks"])
    assert main(["report", str(run.path)]) == 0


def test_a_checker_that_cannot_be_used_is_refused_before_anything_is_written(run: Run) -> None:
    before = {path.name: path.read_bytes() for path in run.path.glob("*.json*")}
    with pytest.raises(UserError, match="no_such_module"):
        measured(run, checker="no_such_module:right", max_new_tokens=9)
    assert {path.name: path.read_bytes() for path in run.path.glob("*.json*")} == before


def test_two_processes_measure_as_one_does(run: Run) -> None:
    """Real processes under torchrun, on a CPU: each prompt is written once, and the scorecard is the same."""
    whole, counts, card = contents(run.path), rows(run), dict(numbers(read_json(run.scorecard_path)))
    unmeasured(run)
    run.close()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    answer = forked_python.run(
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
    assert rows(run) == counts
    assert not list(run.path.glob("*.rank-*"))
    again = dict(numbers(json.loads(printed[0])))
    assert again.keys() == card.keys()
    assert (card.pop(".looks"), again.pop(".looks")) == (1, 2), "the first process looks, the other one does not"
    for where, value in card.items():
        expected = pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
        assert again[where] == expected, where


@pytest.mark.parametrize(("context", "shown"), [(512, 3), (96, 1), (60, 0)])
def test_no_prompt_outgrows_the_context(
    context: int, shown: int, run: Run, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B3 shows as many demonstrations as fit, and is left out, with a word, where none does."""
    longest = 0

    def positions(_: Any, words: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal longest
        longest = max(longest, int(named.get("position_ids", words[-1]).max()) + 1)

    def made_of(_: Any, __: str, part: Any) -> None:
        if type(part).__name__ == "LlamaRotaryEmbedding":
            part.register_forward_pre_hook(positions, with_kwargs=True)

    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"max_position_embeddings": context}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    unmeasured(run)
    recipe = load_recipe(run)
    section = recipe.fidelity.model_copy(update={"systems": ("tuned", "B3", "R"), "max_prompts": 4})
    model = recipe.model.model_copy(update={"name": str(base)})
    watched = torch.nn.modules.module.register_module_module_registration_hook(made_of)
    try:
        recipe = recipe.model_copy(update={"fidelity": section, "model": model})
        card = evaluate(run, recipe, load_splits(run), demand_trained(run))
    finally:
        watched.remove()
    assert card.signature["b3_demonstrations"] == shown
    assert 0 < longest <= context
    assert ("left out: B3" in capsys.readouterr().err) == (shown == 0)
    assert run.completions_path("B3").exists() == (shown > 0)


# -- another engine ---------------------------------------------------------------------------------------------


def test_vllm_is_given_the_clone_merged(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the very weights that are measured here, so that no kind of adapter is one that vLLM does not know."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    told = {"answers": by_heart(run), "fault": "", "heard": str(tmp_path / "heard"), "copy": str(tmp_path / "copy")}
    (tmp_path / "told.json").write_text(json.dumps(told), encoding="utf-8")
    monkeypatch.setenv("VLLM_STAND_IN", str(tmp_path / "told.json"))
    monkeypatch.setenv("SFT_VLLM_PYTHON", str(python_with_vllm(tmp_path / "vllm")))
    before = contents(run)
    assert main(["evaluate", str(run), "--engine", "vllm"]) == 0
    assert contents(run) == before
    opened = Run.open(run)
    clone = load_policy(source_of(load_recipe(opened).model), tuned=demand_trained(opened))
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "copy").state_dict()
    assert all(torch.equal(weights, served[name]) for name, weights in clone.model.state_dict().items())
    assert not [path.name for path in run.iterdir() if "merged" in path.name]
