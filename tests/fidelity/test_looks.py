"""Whoever judges one clone after another on the same prompts, and keeps the best, keeps its luck; the verdict knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.conventions import gain_shown
from sft.fidelity.score_table import ScoreTable
from sft.fidelity.scorecard import Gain
from sft.runs.run import Run

PROMPTS = 60
ITEMS = [HeldOut(f"p{n}", (Message("user", str(n)),), ("x",), ("",), f"p{n}") for n in range(PROMPTS)]


def gain_of(differences: np.ndarray, clones: int) -> Gain:
    rows = [
        {"id": item.id, "cluster": item.cluster, "system": system, "chrf": value}
        for item, d in zip(ITEMS, differences, strict=True)
        for system, value in (("tuned", 50 + d), ("B0", 50.0))
    ]
    return ScoreTable(ITEMS, rows).gain("B0", 0, clones)


def test_the_level_is_that_of_all_clones_together() -> None:
    draw = np.random.default_rng(0)
    differences = draw.normal(0, 1, PROMPTS)
    differences += 2.2 * differences.std(ddof=1) / np.sqrt(PROMPTS) - differences.mean()
    first, third = gain_of(differences, 1), gain_of(differences, 3)
    assert first.level == 0.95 and first.low is None and third.level == pytest.approx(1 - 0.05 / 3)
    assert first.estimate == third.estimate, "what is shown stays at 95 %"
    assert gain_shown(first) and not gain_shown(third)
    assert third.low is not None and third.low < 0 < float(first.estimate.low or 0)
    assert third.smallest_visible is not None and third.smallest_visible > float(first.smallest_visible or 0)
    assert gain_shown(gain_of(differences * 1.0 + 1.0, 3))


def test_the_best_of_ten_clones_that_learned_nothing_is_seldom_taken_for_one_that_did() -> None:
    """Half of what each gains is the luck of the prompts: uncorrected, one of ten is "better" in 14 of 100 worlds."""
    draw = np.random.default_rng(1)
    alone = corrected = 0
    worlds = 150
    for _ in range(worlds):
        common = draw.normal(0, 1, PROMPTS)
        gains = [(common + draw.normal(0, 1, PROMPTS)) / np.sqrt(2) for _ in range(10)]
        alone += any(gain_shown(gain_of(one, 1)) for one in gains)
        corrected += any(gain_shown(gain_of(one, number)) for number, one in enumerate(gains, 1))
    assert alone / worlds > 0.08
    assert corrected / worlds < 0.09 and corrected < 0.7 * alone


def a_run(folder: Path, split: str, *weights: str) -> Run:
    with Run.create(folder) as run:
        run.update_manifest(split={"hash": split, "seed": 0})
        for one in weights:
            run.look("test", "report", one)
    return Run.open(folder)


def test_clones_are_counted_over_the_runs_beside_each_other(tmp_path: Path) -> None:
    first = a_run(tmp_path / "a", "s1", "w1", "w1")
    assert first.clones_judged("test") == 1, "the same weights looked at again choose nothing"
    a_run(tmp_path / "b", "s1", "w2")
    a_run(tmp_path / "c", "s1")
    a_run(tmp_path / "d", "another split", "w3", "w4")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "manifest.json").write_text("{", encoding="utf-8")
    (tmp_path / "f").write_text("no folder", encoding="utf-8")
    assert first.clones_judged("test") == 2 and first.clones_judged("validation") == 1
    with Run.open(tmp_path / "c") as run:
        run.look("test", "report")  # an earlier version names no weights
    assert first.clones_judged("test") == 3
    assert json.loads((tmp_path / "a" / "manifest.json").read_text(encoding="utf-8"))["looks"][0]["weights"] == "w1"
