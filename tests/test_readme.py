"""The README is a program: its commands are executed, in order, on a tiny real policy."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from test_loop import write_demonstrations
from toy_pushes import BASE, base_files, connected

from sft.cli import main, parser

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def commands() -> list[str]:
    lines = "".join(BLOCK.findall(README.read_text(encoding="utf-8"))).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.strip()]


def test_every_command_shown_is_a_command() -> None:
    """Also those in running text: each parses as the program's own parser does."""
    text = README.read_text(encoding="utf-8")
    shown = set(re.findall(r"`(sft [a-z][^`]*)`", text)) | set(commands())
    assert len(shown) > 8
    verbs = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for command in shown:
        words = shlex.split(command)[1:]
        assert words[0] in verbs, command
        if words[1:] not in ([], ["--help"]):
            parser().parse_args(words)


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
    shown = commands()
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
