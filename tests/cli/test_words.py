"""What a person reads: help with examples and defaults, a suggestion, completion by a shell, colour, progress."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from scored_files import rows, write
from toy_demonstrations import write_demonstrations

from sft.cli import main, parser
from sft.cli.examples import EXAMPLES, FIRST_STEPS
from sft.runs.progress import QUIET, bar

Captured = pytest.CaptureFixture[str]
VERBS: dict[str, argparse.ArgumentParser] = next(
    action.choices
    for action in parser()._actions
    if isinstance(action, argparse._SubParsersAction)  # type: ignore[misc]
)


def commands(text: str) -> list[str]:
    """Lines of a help that show a command, without what is said of it."""
    found = re.findall(r"(?m)^ *(?:eval \"\$\()?(sft [a-z].*?)(?: {2,}.*|\)\"  .*)?$", text)
    return [re.sub(r"\b(RUN|NEW)\b", "runs/mine", one) for one in found]


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_examples_that_parse(verb: str) -> None:
    """An example that the program refuses is worse than none."""
    shown = [one for one in commands(VERBS[verb].format_help()) if not one.endswith("...")]
    assert shown
    for command in shown:
        parser().parse_args(shlex.split(re.sub(r"[\[\]]", "", command))[1:])
    assert any(command.split()[1] == verb for command in shown)


def test_examples_are_of_verbs_that_there_are() -> None:
    assert set(EXAMPLES) <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_are_shown(verb: str) -> None:
    """A number that is silently 200 is asked about in public."""
    for action in VERBS[verb]._actions:
        if isinstance(action.default, bool) or action.default in (None, "", [], argparse.SUPPRESS):
            continue
        if action.option_strings:
            assert "default" in str(action.help), action.option_strings


def test_alone_it_says_what_to_do_first(capsys: Captured) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == FIRST_STEPS
    for command in re.findall(r"(sft [a-z].*?)(?: {2,}|$)", FIRST_STEPS, re.MULTILINE):
        if "clones" not in command:
            parser().parse_args(shlex.split(command.replace("--help", ""))[1:] or ["demo"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "did you mean check?"),
        (["run", "x", "--outptu", "y"], "did you mean --output?"),
        (["run", "x", "--reusme"], "did you mean --resume?"),
        (["export", "x", "--gguf", "y", "--outtype", "q8"], "did you mean q8_0?"),
    ],
)
def test_what_was_perhaps_meant_is_named(words: list[str], said: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and capsys.readouterr().err.endswith(f"{said}\n")


def test_nothing_is_suggested_for_what_is_like_nothing(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["frobnicate"])
    assert "did you mean" not in capsys.readouterr().err


def test_a_shell_completes_verbs_and_options(tmp_path: Path, capsys: Captured) -> None:
    """In a real bash: what stands after ``sft ev`` and ``sft run --al``."""
    pytest.importorskip("shtab", reason="it comes with the extra dev")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    asked = (
        f'{script}\ncomplete_of() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $FUNCTION; echo ${{COMPREPLY[@]}}; }}\n'
        "FUNCTION=$(complete -p sft | sed 's/.*-F \\([^ ]*\\).*/\\1/')\ncomplete_of sft ev\ncomplete_of sft run --al\n"
    )
    answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["evaluate", "--allow-change"]


def test_without_shtab_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    assert 'pip install "behavioral-cloning[completion]"' in capsys.readouterr().err


def on_a_terminal(words: list[str], folder: Path, **environment: str) -> str:
    """What ``sft WORDS`` prints where its output is a terminal."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sft", *words],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    found = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        found += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return found.decode()


def test_the_verdict_is_coloured_on_a_terminal_alone(tmp_path: Path, capsys: Captured) -> None:
    file = write(tmp_path / "x.jsonl", rows(20))
    assert main(["score", str(file)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b[1mVerdict:\x1b[0m \x1b[1m" in on_a_terminal(["score", str(file)], tmp_path)
    assert "\x1b" not in on_a_terminal(["score", str(file)], tmp_path, NO_COLOR="1")


def told(work: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with bar(work, "write tuned", "prompt") as one:
        for _ in range(work):
            one.update()
    return sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]


def test_progress_is_told_in_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of a job had a bar in one line of ten thousand characters."""
    lines = told(1000, monkeypatch)
    assert len(lines) == 10
    assert re.fullmatch(r"write tuned: 100 of 1,000 prompts in \d+ s, about \d+ s left", lines[0])
    assert re.fullmatch(r"write tuned: 1,000 of 1,000 prompts in \d+ s", lines[-1])
    assert len(told(2, monkeypatch)) == 2 and not told(0, monkeypatch)


def test_a_scorecard_of_thousands_says_what_it_is_at(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of 50,000 prompts passed without a word; one that is made at once says nothing."""
    file = write(tmp_path / "x.jsonl", rows(20))
    assert main(["score", str(file)]) == 0
    assert "scorecard" not in capsys.readouterr().err
    ticks = itertools.count(step=3.0)
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    assert main(["score", str(file)]) == 0
    said = re.findall(r"scorecard: (\d+) of \d+ sections in .*, now ([a-z ]+)", capsys.readouterr().err)
    assert len(said) > 3 and {"giveaways", "own words"} <= {name for _, name in said}


def test_quiet_keeps_progress_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUIET, "1")
    assert not told(100, monkeypatch)


@pytest.mark.engine
def test_a_script_reads_json_and_nothing_else(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(QUIET, "")
    write_demonstrations(tmp_path / "mine.jsonl", 60)
    (tmp_path / "recipe.yaml").write_text(
        f"model: {{name: {tiny_model}}}\ndemonstrations: {{path: mine.jsonl}}\n"
        "split: {validation: 0.1, test: 0.1, near_duplicates: remove}\n"
        "training: {learning_rate: 1.0e-2, max_steps: 2}\n"
        "fidelity: {profile: fast, max_prompts: 2, max_new_tokens: 4}\n",
        encoding="utf-8",
    )
    assert main(["train", "recipe.yaml", "-o", "run", "--json", "--quiet"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found == {"run": "run", "trained": True, "reused": False, "steps": 2} | {
        "validation_loss": pytest.approx(found["validation_loss"])
    }
    assert not err
    assert main(["run", "recipe.yaml", "-o", "run", "--resume", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["n"] == 2
