"""``import sft``: the names that notebooks rest on, what importing costs, and results that show themselves."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy_demonstrations import write_demonstrations

import sft
from sft.cli.arguments import parser
from sft.errors import RecipeError, RunError, UserError
from sft.publishing.plan import Asked
from sft.verbs.opened import OpenedRun

#: Public name -> its parameters. A notebook of last year still runs: names and keywords are added here, none goes.
PUBLIC = {
    "check": "*targets format columns encoding settings rejected keep_going gaps",
    "plan": "recipe settings probe",
    "run": "recipe settings output resume keep_going allow_change profile",
    "train": "recipe settings output resume keep_going allow_change",
    "evaluate": "target split profile checker headline metrics normalise engine served_model held_out train base "
    "output max_prompts endpoint route parallel patience",
    "score": "completions train checker bar metrics headline normalise output fast",
    "compare": "*runs output",
    "push": "target repo private branch create_pr tag replace base_model merged dry_run allow "
    "allow_files examples comments gguf license name_experts with_held_out say",
    "export": "run merged gguf outtype gguf_adapter",
    "open_run": "path",
}

#: An option of the command line -> its keyword in Python, where the words differ. A shell repeats what is a list here.
OTHER_WORDS = {
    "set": "settings", "column": "columns", "metric": "metrics", "revision": "branch", "allow_finding": "allow",
    "reviewed": "allow_files", "no_comments": "comments",
}  # fmt: skip
#: Options without a keyword, and what stands in Python for them.
NOT_IN_PYTHON = {
    "json": "every result has to_dict(), and the run of a fit fit_to_dict()",
    "quiet": "a notebook captures what a cell writes to stderr; a script sends it where it likes",
    "check --secrets": "audit.secrets() looks when it is asked, and returns findings",
    "compare --rounds": "the curve over rounds is another result, and goes into the last run",
    "compare --plain": "goes with --rounds",
}


def parameters(name: str) -> list[str]:
    found = inspect.signature(getattr(sft, name)).parameters.values()
    return [f"*{one.name}" if one.kind is one.VAR_POSITIONAL else one.name for one in found]


def test_the_public_names_are_these() -> None:
    assert set(sft.__all__) == {*PUBLIC, "Demonstration", "Recipe", "Scorecard", "errors", "__version__"}
    assert set(sft.__all__) <= set(dir(sft))
    for name, words in PUBLIC.items():
        assert parameters(name) == words.split(), name
        assert inspect.getdoc(getattr(sft, name)), name
        hints = getattr(sft, name).__annotations__
        assert {word.lstrip("*") for word in words.split()} | {"return"} == set(hints), name
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        sft.chek  # noqa: B018


def options_of(verb: str) -> set[str]:
    """The options of ``sft VERB`` as the program keeps them: those that say yes and no to one thing are one."""
    found = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    named = [action for action in found.choices[verb]._actions if action.option_strings and action.dest != "help"]
    return {action.dest for action in named}


@pytest.mark.parametrize("verb", sorted(set(PUBLIC) - {"open_run"}))
def test_every_option_of_a_verb_is_a_keyword_of_its_function(verb: str) -> None:
    """Or is named above with what stands for it; and no reason is left there for what has its keyword by now."""
    keywords = {one.lstrip("*") for one in parameters(verb)}
    told = {one for one in options_of(verb) if one in NOT_IN_PYTHON or f"{verb} --{one}" in NOT_IN_PYTHON}
    missing = {one for one in options_of(verb) - told if OTHER_WORDS.get(one, one) not in keywords}
    assert missing == set()
    assert {one for one in told if OTHER_WORDS.get(one, one) in keywords} == set()
    named = {one.split(" --")[1] for one in NOT_IN_PYTHON if one.startswith(f"{verb} --")}
    assert named <= options_of(verb)


def test_what_a_push_may_be_asked_can_be_asked_in_python() -> None:
    assert {one.name for one in dataclasses.fields(Asked)} <= set(parameters("push"))


def test_importing_loads_nothing_that_takes_time() -> None:
    """Nor do the names of what is only looked at: a scorecard needs no torch."""
    code = (
        "import sft, sys\nsft.errors.UserError\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'pandas', 'numpy', 'pydantic', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\nsft.open_run, sft.check, sft.score, sft.compare, sft.run, sft.plan\n"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n[]\n"


def test_demonstrations_are_checked(tmp_path: Path) -> None:
    file = write_demonstrations(tmp_path / "mine.jsonl", 60)
    found = sft.check(file)
    rows = found.to_pandas()
    written = [json.loads(line)["completion"] for line in file.read_text(encoding="utf-8").splitlines()]
    assert list(rows["completion"]) == written
    assert list(rows["line"]) == list(range(1, 61)) and "60 different" in found.to_text()
    assert "60 different" in found._repr_html_() and not found.secrets()
    with pytest.raises(UserError, match="of what"):
        sft.check()


def test_what_is_printed_is_what_a_terminal_shows(tmp_path: Path) -> None:
    row = {"prompt": "who?", "completion": "I", "expert": "eve\x1b[31m\u202e"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    said = str(sft.check(tmp_path / "x.jsonl"))
    assert "demonstrations    1" in said and "⟨U+001B⟩[31m⟨U+202E⟩" in said and "\x1b" not in said


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    """A name of an expert's that is HTML would run in the reader's notebook."""
    row = {"prompt": "a", "completion": "b", "expert": "<script>alert(1)</script>"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    shown = sft.check(tmp_path / "x.jsonl")._repr_html_()
    assert "&lt;script&gt;" in shown and "<script" not in shown


def test_completions_are_scored_from_rows_a_frame_and_a_file(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Say {n}", "completion": f"it is {n}", "reference": f"It is {n}.", "system": system}
        for n in range(40)
        for system in ("tuned", "B0")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    import pandas

    cards = [sft.score(one) for one in (rows, pandas.DataFrame(rows), tmp_path / "rows.jsonl")]
    tables = [card.to_pandas() for card in cards]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
    lead = tables[0].query("part == 'lead' and system == 'B0'").iloc[0]
    assert lead["value"] == 0.0 and isinstance(cards[0], sft.Scorecard)
    shown = cards[0]._repr_html_()
    assert "Verdict" in shown and "<table>" in shown and "base model, zero-shot" in shown
    with pytest.raises(UserError, match="no mappings"):
        sft.score([{"prompt": object()}])


def scored(folder: Path, ending: str = "") -> Path:
    """A run that was made of completions; no model."""
    rows = [{"prompt": f"Say {n}", "completion": f"it is {n}{ending}", "reference": f"It is {n}."} for n in range(36)]
    sft.score(rows, output=folder)
    return folder


def test_a_run_is_opened_with_its_scores_and_texts(tmp_path: Path) -> None:
    run = sft.open_run(scored(tmp_path / "run"))
    table = run.to_pandas()
    tuned = table[table["system"] == "tuned"]
    assert run.is_measured and len(tuned) == run.scorecard.n == 36
    mean = run.scorecard.scores_of("tuned")["chrf"].value
    assert tuned["chrf"].mean() == pytest.approx(mean) and list(tuned["completion"])[:1] == ["it is 0"]
    assert "report.html" in run._repr_html_() and run.scorecard.verdict.rung in run.to_text()
    with pytest.raises(RunError, match="is no run"):
        sft.open_run(tmp_path)


def test_two_runs_are_compared(tmp_path: Path) -> None:
    one, other = scored(tmp_path / "one"), scored(tmp_path / "other", ", I think")
    found = sft.compare(one, sft.open_run(other))
    assert found.to_pandas()["closer"].tolist() == ["one"] and "one is closer" in found._repr_html_()
    assert sft.compare(one, other, output=tmp_path / "page.html").to_text() == found.to_text()
    assert "one is closer" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_recipe_may_be_a_mapping(tmp_path: Path) -> None:
    """Its problems are told as a file's are; a path in it, or a tuple, is one that YAML has no word for."""
    file = write_demonstrations(tmp_path / "mine.jsonl", 60)
    recipe = {"model": {"name": "x"}, "demonstrations": {"path": file}, "training": {"learning_rat": 1e-4}}
    with pytest.raises(RecipeError, match=r"recipe:.*learning_rat.*learning_rate"):
        sft.train(recipe, output=tmp_path / "run")
    with pytest.raises(UserError, match="give output="):
        sft.train(recipe | {"training": {}})
    with pytest.raises(UserError, match="settings: is the text"):
        sft.train(recipe, settings="training.seed=1")
    with pytest.raises(UserError, match="is a object"):
        sft.train({"model": {"name": object()}}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.engine
def test_a_clone_is_fitted_gone_on_with_and_measured_again(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole loop without a command line; the second half again by itself says the same."""
    monkeypatch.chdir(tmp_path)
    file = write_demonstrations(tmp_path / "mine.jsonl", 80)
    recipe = {
        "model": {"name": tiny_model},
        "demonstrations": {"path": file},
        "split": {"validation": 0.1, "test": 0.1, "near_duplicates": "remove"},
        "training": {"learning_rate": 1e-2, "max_steps": 2, "logging_steps": 1},
        "fidelity": {"profile": "fast", "max_new_tokens": 4},
    }
    trained = sft.train(recipe, output="runs/mine", settings={"fidelity.max_prompts": 3})
    assert isinstance(trained, OpenedRun) and trained.fitted is not None and trained.fitted.steps == 2
    assert not trained.is_measured and "not measured yet" in trained._repr_html_()
    assert [row["step"] for row in trained.losses() if "loss" in row] == [1, 2]
    assert {one.completion for one in trained.demonstrations("train")} >= {"red, red"}
    done = sft.run(recipe, output="runs/mine", settings={"fidelity.max_prompts": 3}, resume=True)
    assert done.fit_to_dict() == {"run": "runs/mine", "trained": True, "reused": True}
    new = sft.run(recipe, output="runs/new", settings={"fidelity.max_prompts": 3})
    assert new.fit_to_dict().items() >= {"steps": 2, "reused": False}.items()
    again = sft.evaluate(done)
    assert again.scorecard.n == 3 and again.report.is_file()
    assert again.scorecard.scores_of("tuned") == done.scorecard.scores_of("tuned")
    with pytest.raises(UserError, match="is for a gathering"):
        sft.push(done, "me/mine", name_experts=True, dry_run=True)
