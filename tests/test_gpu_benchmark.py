"""``benchmarks/gpu.py`` where there is no GPU: parts by themselves, and on a card that computes by the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytestmark = pytest.mark.engine
PROGRAM = ROOT / "benchmarks" / "gpu.py"
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests" / "toys" / "card")]

import gpu
from stand_in_card import everywhere, why_not


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.card
def test_held_out_writing_needs_no_cell_before_it(tmp_path: Path) -> None:
    """The module names a line of parts that begins with none: the model's folder was one that a cell had made."""
    words = [sys.executable, str(PROGRAM), "--rehearse", "--out", str(tmp_path), "--only", "writing-135M"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "How fast is held-out writing?" in ended.stdout and "What did not come to its end" not in ended.stdout


@pytest.mark.card
@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("part", ["alone", "writing-135M"])
def test_a_part_runs_on_a_card(part: str, tmp_path: Path) -> None:
    words = [sys.executable, str(PROGRAM), "--part", part, "--out", str(tmp_path), "--scratch", str(tmp_path)]
    ended = subprocess.run(
        [*words, "--seconds", "300", "--rehearse"],
        env=everywhere(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = {row["contender"]: row for row in rows_of(tmp_path) if row["section"] in ("rows", "written")}
    if part == "alone":
        for name in ("sft_varlen", "sft_by_row"):
            assert found[name]["nats_differ_from_padded_by"] < 0.2 and found[name]["other_neighbours_change_it_by"] == 0
    else:
        assert found["sft"]["tokens"] == found["generate, batch 8"]["tokens"] > 0


def test_want_of_time_is_no_failure_on_a_card_and_a_hang_is_one_in_a_rehearsal() -> None:
    """The status said that a part had failed wherever the clock had ended one, as it does on any card."""
    late = [{"part": "8B-lora", "section": "failed", "why": f"{gpu.CLOCK} after 230 s, in sft, rows padded"}]
    assert not gpu.broken(late, ["8B-lora"], rehearsal=False) and gpu.broken(late, ["8B-lora"], rehearsal=True)
    broken = [{"part": "8B-lora", "section": "failed", "why": "ended with 1; see gpu.log"}]
    assert gpu.broken(broken, ["8B-lora"], rehearsal=False) and not gpu.broken(broken, ["alone"], rehearsal=False)


def test_of_several_cards_the_first_is_measured() -> None:
    assert [gpu.first_card(seen) for seen in (None, "2,3", "GPU-5f", "")] == ["0", "2", "GPU-5f", ""]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--out", "OUT"], "PyTorch sees no CUDA card; --rehearse runs the same parts on a CPU, with toys"),
        (["--out", "OUT", "--minutes", "nan"], "--minutes nan: a number of minutes above 0"),
        (["--out", "OUT", "--minutes", "0"], "--minutes 0.0: a number of minutes above 0"),
        (["--out", "FILE/below"], "FILE/below: nothing can be written there (Not a directory)"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").touch()
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode in (1, 2) and ended.stderr.rstrip().endswith(sentence), ended.stderr
    assert "Traceback" not in ended.stderr
