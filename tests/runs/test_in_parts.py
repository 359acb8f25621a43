"""Long lists in parts: the same as in one piece, in the same order, wherever they are worked on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from sft.runs import machine


def squares(numbers: Sequence[int], added: int) -> tuple[int, list[int]]:
    return os.getpid(), [number * number + added for number in numbers]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_parts_are_in_order_and_none_is_lost(count: int) -> None:
    parts = machine.in_parts(squares, range(count), 3, least=1, cores=2)
    assert [value for _, values in parts for value in values] == [n * n + 3 for n in range(count)]
    if count > 1:
        assert os.getpid() not in {process for process, _ in parts}


def test_a_short_list_is_worked_on_here() -> None:
    assert machine.in_parts(squares, range(9), 0, least=10, cores=2) == [(os.getpid(), [n * n for n in range(9)])]
    assert machine.in_parts(squares, range(9), 0, least=1, cores=1) == [(os.getpid(), [n * n for n in range(9)])]


def test_a_script_needs_no_guard_around_its_main_part() -> None:
    """Where processes are spawned by Python's own pool, this script would start itself again and fail."""
    script = (
        "from sft.runs.machine import in_parts\n"
        "print([sum(p) for p in in_parts(list, range(8), least=1, cores=2)] == list(range(8)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("True\n", "")
