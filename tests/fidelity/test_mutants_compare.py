"""Whose groups are whose: the name that one run gives to a group says nothing of another run's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planted_runs import asked, only, planted

from sft.fidelity.compare import compare_runs


def test_groups_of_one_name_in_two_runs_are_two_groups(tmp_path: Path) -> None:
    """Both call a pair of prompts "x", and not the same pair: six prompts in four groups, whatever the order."""
    items = asked()[:6]
    named = {"a": ("x", "x", "c", "d", "e", "f"), "b": ("a", "b", "x", "x", "c", "d")}
    runs = [
        planted(tmp_path / name, 0.8, items=[replace(i, cluster=c) for i, c in zip(items, groups, strict=True)], seed=n)
        for n, (name, groups) in enumerate(named.items())
    ]
    for order in (runs, runs[::-1]):
        found = compare_runs(order)
        assert (found.n, found.clusters) == (6, 4)
        assert "4 clusters" in only(found).difference.method
