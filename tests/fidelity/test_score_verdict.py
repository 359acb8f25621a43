"""What `sft score` says of completions: no verdict without likelihoods, a whole one with them, and a bar by itself."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import factories
import pytest
import scored_files
from report_pages import page
from scored_files import Row, training, write

from sft.cli import main
from sft.fidelity.scorecard import COMPLETIONS_ALONE, FAILS, NO_BASE, PASSES, RUNGS
from sft.runs.run import Run

Captured = pytest.CaptureFixture[str]


def systems(count: int = 40, *, likelier: float | None = None, per_token: bool = False) -> list[Row]:
    """A clone that gets most words right beside a base that does not; ``likelier``: nats a byte that it saves."""
    rows = scored_files.rows(count, finished=True)
    draw = random.Random(0)
    for row in list(rows):
        base = row | {"system": "B0", "completion": factories.base_text(row["prompt"], draw)}
        rows += [base, base | {"system": "B3", "completion": base["completion"].lower()}]
        if likelier is None:
            continue
        size = len(row["reference"].encode())
        for one, each in ((row, 1.0 - likelier), (base, 1.0)):
            tokens = [draw.uniform(0.8, 1.2) * each * size / 4 for _ in range(4)]
            one |= {"nats": tokens if per_token else math.fsum(tokens), "bytes": size}
    return rows


def scored(file: Path, capsys: Captured, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["score", str(file), "--fast", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_completions_alone_are_not_judged_and_the_gains_are_what_is_said(tmp_path: Path, capsys: Captured) -> None:
    """They were "no evidence of cloning" whatever was in them."""
    verdict = scored(write(tmp_path / "x.jsonl", systems()), capsys)["verdict"]
    assert verdict["rung"] == COMPLETIONS_ALONE == "not judged: completions alone"
    assert verdict["sentence"].startswith("On 40 held-out prompts the clone's completions are ")
    assert "chrF points closer to the expert's than those of the best shortcut tried" in verdict["sentence"]
    assert "evidence" not in verdict["sentence"] and verdict["next_step"].startswith("for a verdict, ")
    assert any("was not measured" in reason for reason in verdict["reasons"])


def test_what_it_was_fitted_to_is_no_word_unless_it_was_told(tmp_path: Path, capsys: Captured) -> None:
    """The report spoke of demonstrations the clone had learned, of what training had leaked, and of its losses."""
    file, train = write(tmp_path / "x.jsonl", systems()), training(tmp_path / "train.jsonl")
    for name, more in (("alone", []), ("told", ["--train", str(train)])):
        assert main(["score", str(file), "--output", str(tmp_path / name), *more]) == 0
        said = capsys.readouterr().out
        folder = tmp_path / name
        for words in (page(Run.open(folder)).words, (folder / "report.md").read_text(encoding="utf-8")):
            said += words.partition("What the words mean")[0]
        said = said.casefold().replace("training on them voids this measurement", "")
        told = [word for word in ("trained", "training", "learned", "never saw", "leak") if word in said]
        assert ("training" in told) is (name == "told") and (told == []) is (name == "alone"), told
        assert "how did training go" not in said and "what became of every row" not in said
        assert (said.count("none of them is among the prompts that the clone was trained on") == 2) is (name == "told")


@pytest.mark.parametrize(
    ("bar", "rung", "said"),
    [
        (20, PASSES, "They clear your bar: chrF "),
        (50, FAILS, "not settled, for its lower bound has to reach it"),
        (52, FAILS, "not settled, for its lower bound has to reach it"),
        (90, FAILS, "against 90, below it"),
    ],
)
def test_a_bar_decides_by_itself(bar: float, rung: str, said: str, tmp_path: Path, capsys: Captured) -> None:
    """A bar was looked at only from "learned" upwards, which completions never reach."""
    file = write(tmp_path / "x.jsonl", systems(60))
    card = scored(file, capsys, "--bar", f"chrf={bar}")
    (chrf,) = (one["scores"]["chrf"] for one in card["systems"] if one["system"] == "tuned")
    assert chrf["low"] < 52 < chrf["value"] < 90, "the case that is not settled lies within the interval"
    verdict = card["verdict"]
    assert verdict["rung"] == rung and said in verdict["sentence"]
    assert f"{chrf['value']:.1f} [{chrf['low']:.1f}, {chrf['high']:.1f}] against {bar}" in verdict["sentence"]
    assert not any("has learned" in reason for reason in verdict["reasons"])
    if bar in (50, 52):  # ten times these prompts settle the one, and not the other
        step = "score more prompts: about " if bar == 50 else "read the completions with the lowest scores"
        assert verdict["next_step"].startswith(step)
    both = scored(file, capsys, "--bar", f"chrf={bar}", "--bar", "exact_match=0.01")
    assert both["verdict"]["rung"] == rung


def test_a_bar_on_what_a_checker_finds_right(tmp_path: Path, capsys: Captured) -> None:
    rows = [
        {"prompt": f"How many? {n}", "completion": f"It is {n if n % 10 else 1000}", "reference": f"It is {n}"}
        for n in range(1, 200)
    ]
    words = ("--headline", "checker", "--checker", "final-number", "--bar")
    file = write(tmp_path / "x.jsonl", rows)
    assert scored(file, capsys, *words, "checker=0.8")["verdict"]["rung"] == PASSES
    assert scored(file, capsys, *words, "checker=0.95")["verdict"]["rung"] == FAILS


@pytest.mark.parametrize(
    ("likelier", "right", "rung"), [(0.3, 1, RUNGS[2]), (0.3, 0, RUNGS[1]), (0.0, 1, RUNGS[0])], ids=RUNGS[2::-1]
)
@pytest.mark.parametrize("per_token", [False, True], ids=["sums", "tokens"])
def test_with_likelihoods_the_verdict_is_a_whole_one(
    likelier: float, right: int, rung: str, per_token: bool, tmp_path: Path, capsys: Captured
) -> None:
    """A clone that is right is closer than the nearest training completion, one that is less so is not."""
    rows = systems(60, likelier=likelier, per_token=per_token)
    for row in rows:
        row["completion"] = row["reference"] if right and "system" not in row else row["completion"]
    train = training(tmp_path / "train.jsonl")
    card = scored(write(tmp_path / "x.jsonl", rows), capsys, "--train", str(train))
    assert card["verdict"]["rung"] == rung
    tuned = [row for row in rows if row.get("system") is None]
    nats = math.fsum(math.fsum(row["nats"]) if per_token else row["nats"] for row in tuned)
    (bits,) = card["bits_per_byte"]["tuned"].values()
    assert bits["value"] == pytest.approx(nats / math.log(2) / sum(row["bytes"] for row in tuned))
    assert set(card["bits_per_byte"]) == {"tuned", "B0"} and card["imitation_floor"] == "B0"
    assert card["survival"]["tuned"] == [] and card["action"]["tuned"] == {}, "a sum says nothing of tokens"


def test_likelihoods_make_their_section_and_a_table_of_text_may_hold_them(tmp_path: Path, capsys: Captured) -> None:
    rows = systems(40, likelier=0.3, per_token=True)
    write(tmp_path / "x.jsonl", rows)
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "system"])
        writer.writeheader()
        writer.writerows({key: json.dumps(v) if key == "nats" else v for key, v in row.items()} for row in rows)
    assert scored(tmp_path / "x.csv", capsys) == scored(tmp_path / "x.jsonl", capsys)
    run = tmp_path / "run"
    assert main(["score", str(tmp_path / "x.jsonl"), "--fast", "--output", str(run)]) == 0
    page = (run / "report.md").read_text(encoding="utf-8")
    part = page.partition("### How likely they find what the expert wrote")[2].partition("###")[0]
    assert "bits per byte" in part and "| the clone |" in part and "| base model, zero-shot |" in part
    card = (run / "scorecard.json").read_bytes()
    assert main(["report", str(run), "--recompute"]) == 0 and (run / "scorecard.json").read_bytes() == card
    assert main(["compare", str(run), str(run), "-o", str(tmp_path / "c.html")]) == 2
    other = [row | {"nats": [2 * value for value in row["nats"]]} if "nats" in row else row for row in rows]
    write(tmp_path / "y.jsonl", other)
    assert main(["score", str(tmp_path / "y.jsonl"), "--fast", "--output", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(tmp_path / "other"), "-o", str(tmp_path / "c.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["bits"]["value"] < 0
    assert (
        Run.open(run).manifest["scored"]["completions"]
        != Run.open(tmp_path / "other").manifest["scored"]["completions"]
    )


def test_likelihoods_of_the_clone_alone_have_nothing_beside_them(tmp_path: Path, capsys: Captured) -> None:
    rows = [
        {k: v for k, v in row.items() if "system" not in row or k not in ("nats", "bytes")}
        for row in systems(likelier=0.3)
    ]
    card = scored(write(tmp_path / "x.jsonl", rows), capsys)
    assert card["verdict"]["rung"] == NO_BASE and set(card["bits_per_byte"]) == {"tuned"}
    assert "name the base model too" in card["verdict"]["next_step"]


def test_a_prompt_without_likelihoods_is_unscored_and_counted(tmp_path: Path, capsys: Captured) -> None:
    rows = systems(40, likelier=0.3)
    for key in ("nats", "bytes"):
        rows[0].pop(key)
    assert scored(write(tmp_path / "x.jsonl", rows), capsys)["unscored"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bytes": None}, "'bytes' is missing; write how many bytes of UTF-8 the expert's text has"),
        ({"bytes": 7}, "and no reference of this prompt has so many (5, 6); let tuned score what the expert wrote"),
        ({"bytes": "5"}, "'bytes' is '5'"),
        ({"bytes": 5.5}, "'bytes' is '5.5'"),
        ({"nats": None}, "'nats' is missing; write the sum of -log p over the expert's text"),
        ({"nats": -1.5}, "'nats' is '-1.5'"),
        ({"nats": [1.0, -0.1]}, "'nats' is '[1.0, -0.1]'"),
        ({"nats": [1.0, None]}, "'nats' is '[1.0, None]'"),
        ({"nats": []}, "'nats' is '[]'"),
        ({"nats": True}, "'nats' is 'True'"),
        ({"nats": {"sum": 1}}, "'nats' is \"{'sum': 1}\""),
        ({"bytes": 6}, "'bytes' is 5, and 6 on line 1 for the same prompt; let all systems score the same reference"),
    ],
    ids=str,
)
def test_likelihoods_that_are_none_are_told_with_line_rule_and_remedy(
    change: dict[str, Any], said: str, tmp_path: Path, capsys: Captured
) -> None:
    """Above all those of the system's own completion, which is what most servers give."""
    row = {"prompt": "Q", "completion": "A", "references": ["fünf"[:4], "sechs6"], "nats": 2.5, "bytes": 5}
    rows = [row | change, row | {"system": "B0"}]
    write(tmp_path / "x.jsonl", rows)
    assert main(["score", str(tmp_path / "x.jsonl")]) == 2
    err = capsys.readouterr().err
    assert said in err and "x.jsonl:" in err and "Traceback" not in err
