"""The README and the first pages of the documentation are a program: executed, in order, on a tiny real policy.

Executed are every line of every ``sh`` block of docs/start.md and docs/publishing.md, of which the README shows some,
and every launch of the table in docs/clusters.md, on CPUs and with fewer processes. Not executed: `pip install`, and
the `make` targets, which install from the network (``.ci/run`` is them); DeepSpeed's launches, where DeepSpeed is
missing, up to what they say then. GPUs are asked for nothing: no test has one.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked_python
import pytest
from loopback_hub import LoopbackHub
from repository import ROOT
from toy_demonstrations import write_demonstrations
from toy_pushes import BASE, base_files, connected

from sft.cli import main, parser

README = ROOT / "README.md"
#: Pages whose commands are executed one after another.
EXECUTED = (ROOT / "docs" / "start.md", ROOT / "docs" / "publishing.md")
LAUNCHES = ROOT / "docs" / "clusters.md"
#: Every page that shows commands.
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
#: Where commands and figures are history: a note of a choice shows what was typed and measured then.
HISTORY = {"decisions.md"}
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def commands(*pages: Path) -> list[str]:
    """The lines of the ``sh`` blocks of ``pages``, without what is said of them."""
    lines = "".join("".join(BLOCK.findall(page.read_text(encoding="utf-8"))) for page in pages).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.strip()]


def launches() -> dict[str, str]:
    """Name of the file for accelerate -> what stands after ``--config_file`` in its row of the table."""
    rows = re.findall(
        r"(?m)^\| .* \| `(recipes/accelerate/([\w-]+)\.yaml[^`]*)` \|", LAUNCHES.read_text(encoding="utf-8")
    )
    return {name: options for options, name in rows}


def shown_on(page: Path) -> set[str]:
    """Commands in running text, in indented lines and in ``sh`` blocks, but for those that leave words out by "..."."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^    (sft [a-z][^#\n]*?)(?: {2,}.*| *#.*)?$", text)
    inline = [" ".join(one.split()) for one in re.findall(r"`(sft [a-z][^`]*)`", text)]
    return {one for one in (*lines, *inline, *commands(page)) if "..." not in one}


def test_the_readme_shows_what_is_executed() -> None:
    assert len(commands(README)) > 4 and set(commands(README)) <= set(commands(*EXECUTED))


@pytest.mark.parametrize("page", [one for one in PAGES if one.name not in HISTORY], ids=lambda one: one.name)
def test_every_command_shown_is_a_command(page: Path) -> None:
    """Also those in running text: each parses as the program's own parser does."""
    verbs = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for command in shown_on(page):
        words = shlex.split(re.sub(r"[\[\]]", "", command))[1:]
        if words[0] == "VERB":
            continue
        assert words[0] in verbs, command
        if words[1:] not in ([], ["--help"]):
            parser().parse_args(words)


#: An estimate as pages write it: the value and its interval.
ESTIMATE = re.compile(r"[+-]?\d[\d.,]* \[[^\]\n]*\d, [^\]\n]*\d\]")


def test_every_interval_on_a_page_stands_among_the_measurements() -> None:
    """A figure in prose that no measurement has was remembered, or is of another day."""
    kept = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "results").glob("*.md"))
    found = [
        (page.name, estimate)
        for page in PAGES
        if page.name not in HISTORY
        for estimate in ESTIMATE.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(found) > 4
    assert not [pair for pair in found if pair[1].lstrip("+") not in kept]


def test_every_test_that_a_page_names_is_there() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.name not in HISTORY else ""
        for name in re.findall(r"`(test_\w+)`", text):
            assert f"def {name}(" in tests, (page.name, name)
        for path in re.findall(r"`(tests/[\w/]+\.py)`", text):
            assert (ROOT / path).is_file(), (page.name, path)


def test_every_link_between_pages_leads_somewhere() -> None:
    """The site's builder asks that too, in an environment that not everybody has."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            built = page.is_relative_to(ROOT / "docs") and "reference/" in target
            assert built or (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.engine
def test_the_commands_work_in_the_order_shown(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a new user would: his file, a copied recipe with his model in it, then every line of the block."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", forked_python.executable())
    write_demonstrations(tmp_path / "demonstrations.jsonl")
    write_demonstrations(tmp_path / "held-out.jsonl", 12, seed=1)
    row = json.dumps({"prompt": "Say red", "completion": "red", "reference": "Red."})
    (tmp_path / "completions.jsonl").write_text(row + "\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("7: the box is red\n"))
    with LoopbackHub() as hub:
        hub.put(BASE, base_files(tiny_model), private=False)
        connected(hub, monkeypatch, [])
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        _executed(tmp_path, tiny_model, capsys)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert hub.repos["me/my-clone"].private and hub.repos["me/my-clone"].pushes == 1


def _executed(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands(*EXECUTED)
    assert shown
    for command in shown:
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr().err[-600:])
        assert capsys.readouterr().out, command
        if " copy " in command:
            recipe = tmp_path / shlex.split(command)[-1]
            text = recipe.read_text(encoding="utf-8")
            text = re.sub(r"(?m)^  name: HuggingFaceTB\S+.*$", f"  name: {tiny_model}", text)
            text = text.replace("near_duplicates: refuse", "near_duplicates: remove")
            text = re.sub(r"(?m)^  num_train_epochs: .*$", "  max_steps: 4", text)
            text = re.sub(r"(?m)^  max_length: .*$", "  max_length: 256", text)
            text = re.sub(r"(?m)^  max_prompts: .*$", "  max_prompts: 4\n  max_new_tokens: 4", text)
            text = re.sub(r"(?m)^# (publish:|  \w+:)", r"\1", text) + f"  base_model: {BASE}\n"
            recipe.write_text(text, encoding="utf-8")


# -- several processes ----------------------------------------------------------------------------------------

TINY = """\
model: {{name: {model}}}
demonstrations: {{path: demonstrations.jsonl}}
split: {{validation: 0.1, test: 0.1, near_duplicates: remove}}
training: {{learning_rate: 1.0e-2, max_steps: 2, logging_steps: 1, per_device_train_batch_size: 4}}
fidelity: {{profile: fast, max_prompts: 2, max_new_tokens: 4}}
"""


def begun(words: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """``python -m WORDS`` in ``folder``, without a GPU."""
    return forked_python.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each. None of them outlives this."""
    try:
        said = [process.communicate(timeout=900) for process in processes]
        return [(process.returncode, *both) for process, both in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()


def test_every_launch_file_has_its_row() -> None:
    """Seven of them, so a row that the table's pattern no longer finds is not passed over in silence."""
    assert sorted(launches()) == sorted(path.stem for path in (ROOT / "recipes" / "accelerate").glob("*.yaml"))


#: Launched by test_launch (cpu) and test_signals (one-gpu), or like one that is, and only read by accelerate there.
ELSEWHERE = {"cpu", "ddp", "one-gpu", "two-machines"}


@pytest.mark.engine
@pytest.mark.parametrize("name", sorted(launches().keys() - ELSEWHERE))
def test_the_launches_of_the_table_fit(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """From a folder with a space in its name: ``sft recipes copy``, the line of the table, and a clone is there.

    Two processes instead of four.
    """
    folder = tmp_path / "of one's own"
    folder.mkdir()
    write_demonstrations(folder / "demonstrations.jsonl", 60)
    (folder / "recipe.yaml").write_text(TINY.format(model=tiny_model), encoding="utf-8")
    assert main(["recipes", "copy", f"accelerate/{name}", str(folder)]) == 0
    options = re.sub(r"--num_processes \d+", "--num_processes 2", launches()[name])
    options = options.removeprefix("recipes/accelerate/")
    words = ["accelerate.commands.launch", "--config_file", *shlex.split(options)]
    told = ["-m", "sft", "train", "recipe.yaml", "--output", "runs/mine"]
    ((code, out, err),) = ended(begun([*words, *told], folder))
    if name.startswith("zero"):
        if importlib.util.find_spec("deepspeed"):
            pytest.skip("DeepSpeed is there, and fits on GPUs only")
        header = (folder / f"{name}.yaml").read_text(encoding="utf-8")
        assert "Needs `pip install deepspeed`" in header and "DeepSpeed is not installed" in err
        return
    assert code == 0 and out.count("runs/mine: 2 steps") == 1, err
    assert (folder / "runs" / "mine" / "adapter" / "adapter_model.safetensors").is_file()
    manifest = json.loads((folder / "runs" / "mine" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["launch"]["processes"] == 2


# -- what leaves the machine ----------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_run_sends_nothing_anywhere(tiny_model: Path, tmp_path: Path) -> None:
    """TRL told the hub of every fit: the model's family, the GPU, how many processes. Nobody had asked the user.

    The user's own environment, in which the client is neither offline nor told to be silent: the hub is asked nothing.
    A start as it really is, and the proof's too; nor does bitsandbytes, where it is installed, say what it lacks.
    """
    write_demonstrations(tmp_path / "demonstrations.jsonl", 60)
    (tmp_path / "recipe.yaml").write_text(TINY.format(model=tiny_model), encoding="utf-8")
    with LoopbackHub() as hub:
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        kept = {name: value for name, value in os.environ.items() if name not in SILENT}
        process = subprocess.run(
            [sys.executable, "-m", "sft", "run", "recipe.yaml", "--output", "run"],
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": str(ROOT)} | online,
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert process.returncode == 0 and "kernels" not in process.stderr, process.stderr
    assert not hub.requests


#: Variables that silence the hub's client, for tests or by a user who knows of them.
SILENT = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI")
