"""The verbs that measure, as they are typed: what is handed on, what is printed, what is said when it stops."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import factories
import pytest
from fresh_imports import HEAVY, modules_after
from planted_runs import planted
from scored_files import rows, training, write

from sft.cli import how_to_go_on, main, parser
from sft.fidelity.scorecard import Scorecard
from sft.runs.run import Run, read_json, read_jsonl, write_jsonl, write_text

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two measured runs, of clones far apart."""
    folder = tmp_path_factory.mktemp("runs")
    planted(folder / "good", 0.9)
    planted(folder / "poor", 0.4, seed=1)
    return folder


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """A fifth of a second: arithmetic, templates and recipes wait until a verb needs them."""
    assert not modules_after(["--help"], tmp_path) & {*HEAVY, "numpy", "scipy", "pydantic", "jinja2", "yaml"}


def test_comparing_scoring_and_reporting_need_no_engine(measured: Path, tmp_path: Path) -> None:
    file, train = write(tmp_path / "x.jsonl", rows(20)), training(tmp_path / "train.jsonl")
    for words in (
        ["compare", measured / "good", measured / "poor"],
        ["score", file, "--train", train, "--output", tmp_path / "run", "--checker", r"regex:(\w+)"],
        ["report", tmp_path / "run", "--recompute"],
    ):
        assert not modules_after([*words], tmp_path) & set(HEAVY), words[0]


# -- compare ---------------------------------------------------------------------------------------------------


def test_compare_prints_the_table_and_says_where_the_page_is(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["compare", str(measured / "good"), str(measured / "poor")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "good is closer" in out and out.endswith("\nPage: compare.html\n") and not err
    assert "<h1>good is closer</h1>" in (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert main([*words, "--json", "--output", "other.html"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["closer"] == "good"
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "compare.html").read_bytes()


def test_what_cannot_be_compared_is_one_sentence_and_no_page(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    good = str(measured / "good")
    for words, said in (
        ([good], "two runs or more"),
        ([good, good], "is named twice"),
        ([good, str(tmp_path)], "is no run"),
    ):
        assert main(["compare", *words]) == 2
        out, err = capsys.readouterr()
        assert said in err and err.count("\n") == 1 and not out
    assert not (tmp_path / "compare.html").exists()
    assert main(["compare", good, str(measured / "poor"), "--output", str(tmp_path / "none" / "x.html")]) == 2
    assert "x.html cannot be written" in capsys.readouterr().err


# -- score -----------------------------------------------------------------------------------------------------


def test_score_prints_the_verdict_and_every_system(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path / "x.jsonl", [*rows(), *rows(system="B0")])
    assert main(["score", str(file), "--bar", "chrf=60", "--bar", "exact_match=0.9", "--fast"]) == 0
    out, _ = capsys.readouterr()
    assert "Verdict: " in out and "Next: " in out and "Report: " not in out
    assert all(re.search(rf"^{system} +\d", out, re.MULTILINE) for system in ("tuned", "B0", "P"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert main(["score", str(file), "--json", "--fast", "--bar", "chrf=60"]) == 0
    card = Scorecard.from_dict(json.loads(capsys.readouterr().out))
    assert card.bar == {"chrf": 60.0} and card.n == 40


def test_score_writes_a_run_that_report_and_compare_take(tmp_path: Path, capsys: Captured) -> None:
    file, run = write(tmp_path / "x.jsonl", rows()), tmp_path / "run"
    assert main(["score", str(file), "--fast", "--output", str(run)]) == 0
    assert capsys.readouterr().out.endswith(f"Report: {run / 'report.html'}\n")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert main(["score", str(file), "--fast", "--output", str(run)]) == 0, "the same again is no fault"
    other = write(tmp_path / "y.jsonl", rows(20))
    assert main(["score", str(other), "--fast", "--output", str(run)]) == 2
    assert "holds the scorecard of another input" in capsys.readouterr().err
    assert main(["evaluate", str(run)]) == 2
    assert f"sft report {run} --recompute" in capsys.readouterr().err


@pytest.mark.parametrize("bar", ["chrf", "chrf=high", "=60", "shine=60", "chrf=0"])
def test_a_bar_that_is_none(bar: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["score", str(tmp_path / "x.jsonl"), "--bar", bar]) == 2
    assert "bar" in capsys.readouterr().err


def test_many_bad_rows_are_cut_short_without_a_command_that_would_not_help(tmp_path: Path, capsys: Captured) -> None:
    several = [row | {"system": f"../{number}"} for number, row in enumerate(rows(60))]
    assert main(["score", str(write(tmp_path / "x.jsonl", several))]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 40 and lines[-2:] == ["... and 22 more", "60 of 60 rows cannot be scored"]
    assert f"sft: {tmp_path / 'x.jsonl'}:1: 'system' is '../0'" in lines[0]
    assert main(["score", str(write(tmp_path / "x.jsonl", rows(60, completion=3)))]) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"sft: {tmp_path / 'x.jsonl'}:1 and 59 more (2, 3, 4, ...): 'completion' must be text")
    assert last == "60 of 60 rows cannot be scored"


# -- report ----------------------------------------------------------------------------------------------------


def test_recomputing_gives_the_same_bytes_and_follows_the_completions(tmp_path: Path, capsys: Captured) -> None:
    run = planted(tmp_path / "run", 0.9)
    before = run.scorecard_path.read_bytes()
    assert main(["report", str(run.path), "--recompute"]) == 0
    assert run.scorecard_path.read_bytes() == before
    path = run.completions_path("tuned")
    write_jsonl(path, [row | {"text": ""} for row in read_jsonl(path)])
    assert main(["report", str(run.path), "--recompute"]) == 2
    assert "completions-tuned.jsonl: was altered after it was written" in capsys.readouterr().err
    factories.without_seals(run.path)
    assert main(["report", str(run.path), "--json"]) == 0
    assert capsys.readouterr().out.strip() and run.scorecard_path.read_bytes() == before
    assert main(["report", str(run.path), "--recompute", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gain"]["estimate"]["value"] < 0


# -- evaluate --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(measured: Path, tmp_path: Path) -> Run:
    """A run that says it was made by a recipe."""
    made = planted(tmp_path / "run", 0.8)
    write_text(made.resolved_recipe_path, "model:\n  name: nobody/nothing\ndemonstrations:\n  path: x.jsonl\n")
    return made


def test_a_clone_that_is_shown_not_to_be_one_is_told_so(tmp_path: Path, capsys: Captured) -> None:
    """Sixty prompts that two experts answered nearly alike, and a system that gets half of the words right."""
    shown = [factories.demonstration(number) for number in range(60)]
    given = [
        {
            "prompt": d.prompt[-1].content,
            "completion": " ".join(d.completion.split()[::2]),
            "references": [d.completion, f"{d.completion} Indeed."],
        }
        for d in shown
    ]
    file = write(tmp_path / "completions.jsonl", given)
    assert main(["score", str(file), "--train", str(training(tmp_path / "train.jsonl"))]) == 0
    assert "\nIt is not cloned: another expert scores " in capsys.readouterr().out


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with demonstrations, a recipe and a run that is trained, and not measured yet."""
    from toy_demonstrations import write_demonstrations

    folder = tmp_path_factory.mktemp("fitted")
    data = write_demonstrations(folder / "x.jsonl")
    (folder / "recipe.yaml").write_text(
        f"model:\n  name: {tiny_model}\ndemonstrations:\n  path: {data}\nsplit:\n  near_duplicates: remove\n"
        "training:\n  max_steps: 4\nfidelity:\n  max_new_tokens: 4\n  max_prompts: 6\n",
        encoding="utf-8",
    )
    assert main(["train", str(folder / "recipe.yaml"), "-o", str(folder / "run")]) == 0
    return folder


@pytest.mark.engine
def test_evaluate_measures_what_was_asked_for(fitted: Path, tmp_path: Path, capsys: Captured) -> None:
    """Split, profile and checker of the command line stand in the scorecard; every look is counted, and told."""
    run = str(shutil.copytree(fitted / "run", tmp_path / "run"))
    assert main(["evaluate", run, "--fast"]) == 0
    assert "looked at" not in capsys.readouterr().out
    assert main(["evaluate", run, "--fast"]) == 0
    assert "Note: The test split has been looked at 2 times." in capsys.readouterr().out
    assert main(["evaluate", run, "--full", "--checker", "regex:(red|blue)", "--split", "validation", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["split"], card["profile"], card["looks"]) == ("validation", "full", 1)
    assert card["underachieving"]["checker"] == "regex:(red|blue)"


@pytest.mark.engine
def test_a_recipe_says_what_decides(fitted: Path, tmp_path: Path, capsys: Captured) -> None:
    """From the recipe through training and measuring to the report, and again from what is on file."""
    settings = ["--set", "fidelity.headline=token_f1", "--set", "fidelity.normalise=[case]"]
    run = tmp_path / "run"
    assert main(["run", str(fitted / "recipe.yaml"), "-o", str(run), *settings]) == 0
    assert "token F1 points" in capsys.readouterr().out
    card = read_json(run / "scorecard.json")
    assert card["headline"] == card["signature"]["headline"] == "token_f1" and card["signature"]["normalise"] == [
        "case"
    ]
    assert main(["report", str(run), "--recompute"]) == 0
    assert read_json(run / "scorecard.json") == card


@pytest.mark.engine
def test_evaluate_judges_what_was_trained_elsewhere(
    fitted: Path, tiny_model: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is named by default after clone and file; base, training file and number of prompts are as typed."""
    from toy_demonstrations import write_demonstrations

    monkeypatch.chdir(tmp_path)
    held = write_demonstrations(tmp_path / "y.jsonl", 12, seed=5)
    words = ["evaluate", str(fitted / "run" / "adapter"), "--held-out", str(held), "--fast", "--max-prompts", "5"]
    assert main(words) == 0
    assert "looked at" not in capsys.readouterr().out
    facts = read_json(Path("runs/adapter-on-y") / "measurement.json")
    assert facts["profile"] == "fast" and len(read_jsonl(Path("runs/adapter-on-y") / "held-out.jsonl")) == 5
    more = [
        "--base",
        str(tiny_model),
        "--train",
        str(fitted / "x.jsonl"),
        "--checker",
        "regex:(red|blue)",
        "-o",
        "out",
        "--json",
    ]
    assert main([*words, *more]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["n"], read_json(Path("out") / "measurement.json")["checker"], card["profile"]) == (
        5,
        "regex:(red|blue)",
        "fast",
    )
    assert {system["system"] for system in card["systems"]} >= {"tuned", "R", "K", "P"}, "floors of the training file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train", "t.jsonl"], "--train: goes with --held-out FILE"),
        (["--max-prompts", "5"], "--max-prompts: goes with --held-out FILE"),
        (["--output", "out"], "--output: goes with --held-out FILE"),
        (["--held-out", "x.jsonl", "--split", "test"], "--split: a held-out file is no split"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], said: str, run: Run, capsys: Captured) -> None:
    assert main(["evaluate", str(run.path), *words]) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_run_may_be_a_clone_from_elsewhere(tmp_path: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("what was trained elsewhere is judged with --held-out FILE\n")


@pytest.mark.parametrize("verb", ["run", "demo", "evaluate"])
def test_fast_and_full_exclude_each_other(verb: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, *(["x"] if verb != "demo" else []), "--fast", "--full"])
    assert ended.value.code == 2 and "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["evaluate", "RUN", "--full", "--checker", "regex:a b", "--split", "validation"], []),
        (["evaluate", "m", "--held-out", "x y.jsonl", "--train", "t.jsonl", "--max-prompts", "9", "-o", "out"], []),
        (["run", "demo", "--fast", "--set", "training.seed=2", "-o", "out"], ["--resume"]),
        (["run", "demo", "--resume", "--full"], []),
        (["demo", "--full", "-o", "out"], []),
        (["score", "x.jsonl"], None),
    ],
)
def test_what_is_interrupted_goes_on_with_the_same_flags(words: list[str], more: list[str] | None) -> None:
    """The command that is printed, split as a shell does, is the one typed, with --resume where it is needed.

    ``test_main`` and ``test_fit`` interrupt real processes; here it is the words alone.
    """
    said = how_to_go_on(parser().parse_args(words), words)
    if more is None:
        assert said == ""
    else:
        assert said.startswith("; go on with: sft ")
        assert shlex.split(said.partition("go on with: ")[2])[1:] == [*words, *more]


@pytest.mark.engine
def test_an_adapter_is_judged_on_a_file_as_its_run_would_be(tmp_path: Path, tiny_model: Path, capsys: Captured) -> None:
    """Trained here, judged as if from elsewhere: by path, with its training file; then compared with itself by file."""
    from toy_demonstrations import write_demonstrations

    data, held = write_demonstrations(tmp_path / "x.jsonl"), write_demonstrations(tmp_path / "y.jsonl", 12, seed=5)
    lines = held.read_text(encoding="utf-8").replace('"prompt": "', '"prompt": "unseen, ')
    held.write_text(lines, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model:\n  name: {tiny_model}\ndemonstrations:\n  path: {data}\nsplit:\n  near_duplicates: remove\n"
        "training:\n  max_steps: 4\nfidelity:\n  max_new_tokens: 4\n",
        encoding="utf-8",
    )
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 0
    words = ["--held-out", str(held), "--train", str(data), "--fast", "--max-prompts", "6", "--json"]
    cards = []
    for target, output in ((tmp_path / "run" / "adapter", "a"), (tmp_path / "run", "b")):
        capsys.readouterr()
        assert main(["evaluate", str(target), *words, "-o", str(tmp_path / output)]) == 0
        cards.append(json.loads(capsys.readouterr().out))
    assert cards[0]["n"] == 6 and cards[0]["profile"] == "fast"
    assert cards[0]["systems"] == cards[1]["systems"]
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "page.html")]) == 0
    assert "not told apart" in capsys.readouterr().out
