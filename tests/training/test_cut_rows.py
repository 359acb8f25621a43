"""A line that several processes share says what it says alone, and gives every weight the same gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT, TESTS
from toy_launches import free_port

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from shared_line import said

from sft.training.cut_rows import RowCut
from sft.training.sequences import IGNORED, part_of


def test_a_part_has_its_tokens_their_positions_and_what_they_predict() -> None:
    """Labels move before the cut, or the first token of a part would be predicted by nobody; seven tokens are eight."""
    line = {
        "input_ids": torch.tensor([[1, 2, 3, 4, 5, 6, 7]]),
        "labels": torch.tensor([[IGNORED, 2, 3, IGNORED, 5, 6, 7]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]]),
        "segments": (0, 3, 4),
    }
    parts = [part_of(line, RowCut(part, 2, None)) for part in range(2)]
    assert [part["input_ids"].tolist() for part in parts] == [[[1, 2, 3, 4]], [[5, 6, 7, 0]]]
    assert [part["position_ids"].tolist() for part in parts] == [[[0, 1, 2, 0]], [[1, 2, 3, 0]]]
    assert [part["shift_labels"].tolist() for part in parts] == [
        [[2, 3, IGNORED, 5]], [[6, 7, IGNORED, IGNORED]],
    ]  # fmt: skip
    assert [part["segments"] for part in parts] == [(0, 3, 4, 1)] * 2, "all of the line, with the row that fills it up"
    assert "labels" not in parts[0] and "labels" in line


@pytest.mark.parametrize("processes", [2, 4])
def test_shared_lines_are_those_of_one_process(processes: int, tmp_path: Path) -> None:
    """Windows, a common beginning, fewer heads of keys than processes; as on a CPU, and as on a card."""
    variables = {
        "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_SP_SIZE": str(processes),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS / "toys")]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "toys" / "shared_line.py"), str(tmp_path)],
            env=os.environ | variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    assert [one.wait(300) for one in started] == [0] * processes
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    for name, (nats, *gradients) in said(None).items():
        own = [part[name] for part in parts]
        torch.testing.assert_close(torch.cat([one[0] for one in own]), nats, rtol=1e-4, atol=1e-5, msg=name)
        assert len(nats) == 20 and all(len(one[0]) < len(nats) for one in own)
        for of_all, gradient in zip(zip(*(one[1:] for one in own), strict=True), gradients, strict=True):
            torch.testing.assert_close(sum(of_all), gradient, rtol=1e-4, atol=1e-4)
