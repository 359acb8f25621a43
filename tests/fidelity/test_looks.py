"""Whoever judges one clone after another on the same prompts, and keeps the best, keeps its luck; the verdict knows."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scored_files
from known_scorecards import judged, known, planted

from sft.cli import main
from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.conventions import gain_shown
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.probes import experts
from sft.fidelity.score_table import ScoreTable
from sft.fidelity.scorecard import RUNGS, Gain
from sft.metrics.estimate import Estimate
from sft.reports.sections.experts import closure_sentence
from sft.runs.hashes import fingerprint
from sft.runs.looks import clones_judged, clones_known
from sft.runs.records import Completion
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


@pytest.mark.parametrize("clones", [1, 3])
def test_the_distance_to_another_expert_is_held_to_the_same_level(clones: int) -> None:
    draw = np.random.default_rng(2)
    surplus = draw.normal(0, 1, PROMPTS)
    surplus += 2.2 * surplus.std(ddof=1) / np.sqrt(PROMPTS) - surplus.mean()
    ids = [item.id for item in ITEMS]
    scores = {"tuned": 40 + surplus, "floor": np.full(PROMPTS, 20.0), "expert": np.full(PROMPTS, 45.0)}
    ours, least, theirs = (dict(zip(ids, values.tolist(), strict=True)) for values in scores.values())
    found = experts.closure(ours, least, theirs, {key: key for key in ids}, floor_name="K", clones=clones)
    assert found.surplus.low is not None and found.surplus.low > 0 and found.surplus.level == 0.95
    assert (found.finding, found.level) == ({1: "cloned", 3: "undecided"}[clones], pytest.approx(1 - 0.05 / clones))
    said = judged(planted(closure=replace(found, expert=known(45, 44, 46)), clones=clones, bar={}))
    shown = "at the level that 3 clones on these prompts ask" in " ".join(said.reasons)
    assert shown is (clones == 3) and (said.rung == RUNGS[-1]) is (clones == 1)
    sentence = closure_sentence(replace(found, expert=known(45, 44, 46)), "chrF")
    assert ("at the level that all clones" in sentence) is (clones == 3)


@pytest.mark.parametrize(
    ("part", "shown", "decides", "said"),
    [
        ("sampled", known(0.55, 0.51, 0.59), known(0.55, 0.49, 0.61), "ask it is 0.61"),
        ("stop_rate", known(0.97, 0.952, 0.99), known(0.97, 0.945, 0.99), "ask it is 94.5%"),
        ("length_ratio", known(1.0, 0.91, 1.09), known(1.0, 0.89, 1.11), "ask it is 1.00 [0.89, 1.11]"),
        ("checked", known(-1.0, -4.6, 2.0), known(-1.0, -5.4, 3.0), "ask it is -5.4"),
    ],
)
def test_every_part_of_the_top_rung_is_held_to_the_same_level(
    part: str, shown: Estimate, decides: Estimate, said: str
) -> None:
    """A rung whose parts must all hold errs as often as the part that errs most: only the distance was corrected."""
    tuned = {name: known(0.99, 0.97, 1.0) for name in ("stop_rate", "length_ratio")} | {"chrf": known(43, 42, 44)}
    impostor = {"sampled": known(0.53, 0.49, 0.57), "experts": known(0.51, 0.46, 0.56)}
    where = {"sampled": {"impostor": impostor | {"sampled": shown}}, "checked": {"checked": shown}}
    changes = where.get(part, {"tuned": tuned | {part: shown}})
    first = judged(planted(**changes))
    third = judged(planted(**changes, clones=3, held_to={part: decides}))
    assert first.rung == RUNGS[-1] and third.rung == RUNGS[2]
    (reason,) = third.reasons
    assert f"at the level that 3 clones on these prompts {said}" in reason


def test_what_decides_is_measured_at_that_level() -> None:
    """The intervals that are shown stay at 95 %, and those of several clones are wider around the same figures."""
    draw = random.Random(0)
    words = ["amber", "birch", "cedar", "ember", "fjord", "grove", "heath", "inlet"]
    items, wrote, drawn, prompt = [], {}, {}, {}
    for number in range(120):
        key, answer = f"p{number}", " ".join(draw.choices(words, k=8))
        other = " ".join([*answer.split()[:5], *draw.choices(words, k=3)])
        items.append(HeldOut(key, (Message("user", key),), (answer, other), ("a", "b"), key))
        wrote[key] = Completion(key, answer, number % 20 > 0)
        drawn[key], prompt[key] = Completion(key, other, True), Completion(key, key, True)
    seen = Observations(
        items, {"tuned": wrote, "P": prompt}, samples=(drawn,), checker=r"\A(\w+)", bar={"chrf": 50}, clones=3
    )
    third, first = measure(seen), measure(replace(seen, clones=1))
    assert first.held_to == {} and first.impostor == third.impostor
    assert set(third.held_to) == {"sampled", "stop_rate", "length_ratio", "chrf", "checked"}
    tuned = third.scores_of("tuned")
    assert first.checked is not None and third.checked == first.checked
    for name, one in third.held_to.items():
        shown = {"sampled": third.impostor["sampled"], "checked": third.checked}.get(name) or tuned[name]
        assert one.value == shown.value and one.level == pytest.approx(1 - 0.05 / 3) and shown.level == 0.95
        assert (one.low, one.high) != (shown.low, shown.high) or one.low == one.high
        assert float(one.low or 0) <= float(shown.low or 0) and float(one.high or 0) >= float(shown.high or 0)


def test_a_bar_that_a_first_clone_clears_has_to_be_cleared_by_more_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever tries clones until one clears the bar has it cleared by luck."""
    file = scored_files.write(tmp_path / "second.jsonl", scored_files.rows(finished=True))
    assert main(["score", str(file), "--fast", "--json"]) == 0
    scores = next(s for s in json.loads(capsys.readouterr().out)["systems"] if s["system"] == "tuned")["scores"]
    bar = f"chrf={scores['chrf']['low'] - 0.05:.3f}"
    assert main(["score", str(file), "--fast", "--bar", bar, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["rung"] == "passes your bar"
    earlier = scored_files.rows(finished=True)
    for row in earlier:
        row["completion"] += " again"
    other = scored_files.write(tmp_path / "first.jsonl", earlier)
    for name, scored in (("first", other), ("second", file)):
        assert main(["score", str(scored), "--fast", "--bar", bar, "--output", str(tmp_path / "runs" / name)]) == 0
    said = capsys.readouterr().out
    card = json.loads((tmp_path / "runs" / "second" / "scorecard.json").read_text())
    assert card["verdict"]["rung"] == "does not pass your bar" and card["clones"] == 2
    assert "at the level that 2 clones on these prompts ask the lower bound is" in said
    assert "every part of the top rung or of a bar, counts only at 97.5 %" in said


def prompts(first: int, last: int) -> list[str]:
    return [fingerprint(number) for number in range(first, last)]


def a_run(folder: Path, *clones: str, asked: Sequence[str] = (), split: str = "test", old: str = "") -> Run:
    """A run that judged ``clones`` on ``asked``; ``old``: the hash of its split, where no more is known."""
    with Run.create(folder, **({"split": {"hash": old}} if old else {})) as run:
        for one in clones:
            run.look(split, "report", one)
            if asked:
                clones_judged(run, split, one, asked)
    return Run.open(folder)


def test_clones_are_counted_over_the_runs_beside_each_other(tmp_path: Path) -> None:
    first = a_run(tmp_path / "a", "w1", "w1", asked=prompts(0, 200))
    assert clones_judged(first, "test", "w1", prompts(0, 200)) == 1, "the same weights looked at again choose nothing"
    a_run(tmp_path / "b", "w2", asked=prompts(0, 200))
    a_run(tmp_path / "d", "w3", "w4", asked=prompts(500, 700))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "manifest.json").write_text("{", encoding="utf-8")
    (tmp_path / "f").write_text("no folder", encoding="utf-8")
    assert clones_judged(first, "test", "w1", prompts(0, 200)) == 2
    assert clones_judged(first, "validation", "w1", prompts(1000, 1100)) == 1


@pytest.mark.parametrize(
    ("asked", "clones"),
    [
        (prompts(0, 200), 2),
        (prompts(0, 100), 2),  # the fast profile's, or --max-prompts
        (prompts(0, 230), 2),  # more demonstrations, some of them held out
        (prompts(20, 2000), 2),  # a smaller set within a larger one
        (prompts(150, 350), 1),
        (prompts(200, 400), 1),
    ],
    ids=["same", "fewer", "more", "many more", "a quarter", "others"],
)
def test_what_is_counted_is_who_was_judged_on_the_same_prompts(tmp_path: Path, asked: list[str], clones: int) -> None:
    """A split with another hash was another split, though all but the rows that had come since were the same."""
    a_run(tmp_path / "a", "w1", asked=prompts(0, 200))
    second = a_run(tmp_path / "b", "w2", asked=asked)
    assert clones_judged(second, "test", "w2", asked) == clones


def test_a_clone_is_remembered_though_its_run_is_removed_or_the_later_one_moved(tmp_path: Path) -> None:
    for number, name in enumerate("abc", 1):
        a_run(tmp_path / name, f"w{number}", asked=prompts(0, 60))
        if name == "b":
            shutil.rmtree(tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "c").rename(tmp_path / "elsewhere" / "c")
    fourth = a_run(tmp_path / "elsewhere" / "d", "w4", asked=prompts(0, 60))
    assert clones_judged(Run.open(moved), "test", "w3", prompts(0, 60)) == 4
    assert clones_known(fourth, "test") == {"w1", "w2", "w3", "w4"}


def test_runs_of_an_earlier_release_count_by_the_hash_of_their_split(tmp_path: Path) -> None:
    a_run(tmp_path / "a", "", old="s1")
    a_run(tmp_path / "b", "w2", old="s1")
    a_run(tmp_path / "c", "w3", old="s2")
    a_run(tmp_path / "d", old="s1")
    own = a_run(tmp_path / "e", "", old="s1")
    assert clones_judged(own, "test", "w5", prompts(0, 60)) == 3, "its own earlier look was at the same clone"


def test_what_is_scored_from_files_is_counted_and_the_same_file_again_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("first", 0), ("second", 1), ("second", 1)):
        rows = scored_files.rows(finished=True)
        for number, row in enumerate(rows):
            row["completion"] += " again" * (number % 3 == seed)
        file = scored_files.write(tmp_path / f"{name}.jsonl", rows)
        assert main(["score", str(file), "--fast", "--output", str(tmp_path / "runs" / name)]) == 0
        said = capsys.readouterr().out
        assert ("2 clones, this one among them, were judged on" in said) is (name == "second")
    cards = [json.loads((tmp_path / "runs" / name / "scorecard.json").read_text()) for name in ("first", "second")]
    assert [card["clones"] for card in cards] == [1, 2] and [card["looks"] for card in cards] == [1, 1]
    assert main(["report", str(tmp_path / "runs" / "second"), "--recompute", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clones"] == 2


def test_what_is_scored_without_a_folder_has_no_neighbours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put beside all that were being scored on the machine, and those that had been killed, and counted them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = scored_files.write(tmp_path / "left.jsonl", scored_files.rows(finished=True))
    assert main(["score", str(left), "--fast", "--output", str(tmp_path / "sft-score-left")]) == 0
    rows = scored_files.rows(finished=True)
    for row in rows:
        row["completion"] += " again"
    file = scored_files.write(tmp_path / "other.jsonl", rows)
    capsys.readouterr()
    assert main(["score", str(file), "--fast", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clones"] == 1


def test_a_comparison_says_which_verdicts_allowed_for_fewer_clones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs in different folders do not know of each other; those who choose between them do."""
    folders = [tmp_path / "here" / "a", tmp_path / "here" / "b", tmp_path / "there" / "c"]
    for seed, folder in enumerate(folders):
        rows = scored_files.rows(finished=True)
        for number, row in enumerate(rows):
            row["completion"] += " again" * (number % 3 == seed)
        scored_files.write(tmp_path / "x.jsonl", rows)
        assert main(["score", str(tmp_path / "x.jsonl"), "--fast", "--output", str(folder)]) == 0
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--output", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    for name, clones in (("a", "1 clone"), ("b", "2 clones"), ("c", "1 clone")):
        assert f"{name}: its verdict allows for {clones} on these prompts, and these runs know of 3" in said
    assert said.count("counts only at 98.33 %") == 3
    assert main(["compare", *map(str, folders[:2]), "--output", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    assert "a: its verdict allows for 1 clone" in said and "b: its verdict" not in said
