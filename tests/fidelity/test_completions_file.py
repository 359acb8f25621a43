"""A file of completions gives the scorecard of the run they came from; what is wrong with it is said line by line."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import factories
import pyarrow
import pyarrow.parquet
import pytest
from scored_files import PROMPTS, rows, training, write

from sft.cli import main
from sft.demonstrations.demonstration import Demonstration, HeldOut, held_out
from sft.errors import DemonstrationsError, RunError, SourceError, SplitError, UserError
from sft.fidelity import stored
from sft.fidelity.compare import compare_runs
from sft.fidelity.completions_file import read
from sft.fidelity.floors import floor_completions
from sft.fidelity.scorecard import Scorecard
from sft.reports.report import render
from sft.reports.terminal import to_text
from sft.runs.records import Completion
from sft.runs.run import Run, read_json, read_jsonl, write_json, write_jsonl
from sft.verbs.completions import score_file


def problems(path: Path) -> list[str]:
    with pytest.raises(DemonstrationsError) as error:
        read(path)
    return str(error.value).replace(f"{path}:", "").splitlines()


def comparable(card: Scorecard) -> Mapping[str, Any]:
    """All of a scorecard but for where it and its training completions came from."""
    value = card.to_dict()
    for name in ("source", "decoding", "stops"):
        value["signature"].pop(name, None)
    for run in (value["memorisation"] or {"examples": ()})["examples"]:
        del run["address"]
    return value


# -- the same figures as the run's own -------------------------------------------------------------------------


def test_the_completions_of_a_run_give_the_scorecard_of_that_run(tmp_path: Path) -> None:
    """Two named experts a prompt, groups, two bases, one unfinished and one empty completion, a checker and a bar."""
    experts = [factories.demonstration(number) for number in range(PROMPTS)]
    second = [Demonstration(d.prompt, f"{d.completion[:-1]}, they say.", expert="Ann", group=d.group) for d in experts]
    items = held_out([each for pair in zip(experts, second, strict=True) for each in pair])
    learned = [factories.demonstration(number) for number in range(200, 260)]
    draw = random.Random(0)
    tuned = {i.id: Completion(i.id, factories.tuned_text(i.references[0], draw), n != 3) for n, i in enumerate(items)}
    base = {i.id: Completion(i.id, factories.base_text(i.prompt[-1].content, draw), draw.random() > 0.5) for i in items}
    other = {i.id: Completion(i.id, i.references[1], True) for i in items[:30]}
    completions = {"tuned": tuned, "B0": base, "gpt-x": other}
    completions["tuned"][items[5].id] = Completion(items[5].id, "", True)
    given = [
        {
            "id": item.id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in item.prompt],
            "completion": completions[system][item.id].text,
            "finished": completions[system][item.id].finished,
            "system": system,
            "references": list(item.references),
            "experts": list(item.experts),
            "group": item.cluster,
        }
        for item in items
        for system in completions
        if item.id in completions[system]
    ]
    train = write(tmp_path / "train.jsonl", [d.to_dict(content_only=True) for d in learned])
    checker, bar = "regex:^(\\w+)", {"chrf": 30.0}
    card, run = score_file(
        write(tmp_path / "all.jsonl", given), train=train, checker=checker, bar=bar, output=tmp_path / "scored"
    )
    with Run.create(tmp_path / "own") as own:
        write_jsonl(own.demonstrations_path, (d.to_dict() | {"split": "train"} for d in learned))
        completions |= floor_completions(learned, items)
        for system, written in completions.items():
            write_jsonl(own.completions_path(system), map(asdict, written.values()))
        facts = {"split": "test", "profile": "full", "systems": list(completions), "bar": bar, "checker": checker}
        stored.write_measurement(own, items, facts)
        own.look("test", "report")
        theirs = stored.remeasure(own)
    assert comparable(card) == comparable(theirs)
    assert run is not None and read_json(run.scorecard_path) == json.loads(json.dumps(card.to_dict()))
    assert {system.system for system in card.systems} == {"tuned", "B0", "R", "RK", "K", "P", "E", "gpt-x"}
    assert card.closure is not None and card.memorisation is not None and card.underachieving is not None
    assert next(rail for rail in card.guardrails if rail.name == "empty").state == "amber"
    found = compare_runs([run, Run.open(tmp_path / "own")])
    assert found.pairs[0].difference.value == 0 and found.pairs[0].p_value == 1


def test_with_and_without_a_folder_the_figures_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, train = write(tmp_path / "x.jsonl", rows()), training(tmp_path / "train.jsonl")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    card, nothing = score_file(file, train=train)
    assert nothing is None and not list((tmp_path / "temporary").iterdir())
    again, run = score_file(file, train=train, output=tmp_path / "run")
    assert run is not None and again == card
    assert "corpus" not in card.absent and card.n == PROMPTS
    assert not {"B0", "B3"} & {gain.floor for gain in card.gains}


def test_without_training_only_the_copied_prompt_is_a_shortcut(tmp_path: Path) -> None:
    card, _ = score_file(write(tmp_path / "x.jsonl", rows()), fast=True)
    assert [gain.floor for gain in card.gains] == ["P"] and card.verdict.rung == "not judged: completions alone"
    assert "memorisation" in card.absent and "corpus" in card.absent
    assert card.signature["stops"] == "not recorded; taken as finished"
    text = to_text(card)
    assert f"{PROMPTS} held-out prompts" in text and "the prompt, copied" in text and "the clone" in text


def test_every_kind_of_file_gives_the_same_scorecard(tmp_path: Path) -> None:
    given = rows(20)
    for number, row in enumerate(given):
        row |= {"finished": number % 7 != 0, "references": [f"{row['reference']} Indeed."]}
    write(tmp_path / "x.jsonl", given)
    (tmp_path / "x.json").write_text(json.dumps(given), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), tmp_path / "x.parquet")
    for name, delimiter in (("x.csv", ","), ("x.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(given[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(row | {"references": json.dumps(row["references"])} for row in given)
    cards = [
        score_file(tmp_path / f"x.{ending}", fast=True)[0] for ending in ("jsonl", "json", "parquet", "csv", "tsv")
    ]
    assert all(card == cards[0] for card in cards)
    assert cards[0].signature["stops"] == "as the file says"
    stops = next(system.scores["stop_rate"] for system in cards[0].systems if system.system == "tuned")
    assert stops.value == pytest.approx(17 / 20)


# -- rows put together -----------------------------------------------------------------------------------------


def test_rows_of_one_prompt_are_put_together(tmp_path: Path) -> None:
    """References may be spread over rows (as in a file with one reference a row) or given by one system only."""
    given = [
        {"prompt": "Q", "completion": "A", "reference": "a", "expert": "Ann"},
        {"prompt": "Q", "completion": "A", "reference": "b", "expert": "Bob"},
        {"prompt": "Q", "completion": "A", "reference": "a", "expert": "Ann"},
        {"prompt": "Q", "completion": "base", "system": "B0"},
        {"prompt": "R", "completion": "C", "references": ["c", "d"], "id": 7, "group": "g"},
        {"prompt": "R", "completion": "", "references": ["d", "c"], "system": "B0"},
    ]
    answers = read(write(tmp_path / "x.jsonl", given))
    assert [(i.references, i.experts) for i in answers.items] == [(("a", "b"), ("Ann", "Bob")), (("c", "d"), ("", ""))]
    assert answers.items[1].id == "7" and answers.items[1].cluster == "g"
    assert {s: [c.text for c in found.values()] for s, found in answers.completions.items()} == {
        "tuned": ["A", "C"],
        "B0": ["base", ""],
    }
    assert (answers.rows, len(answers.items)) == (6, 2)


def test_a_prompt_that_the_judged_system_did_not_answer_is_unscored_and_counted(tmp_path: Path) -> None:
    given = [*rows(), *rows(system="B0"), {"prompt": "Z", "completion": "z", "reference": "y", "system": "B0"}]
    card, _ = score_file(write(tmp_path / "x.jsonl", given), fast=True)
    assert (card.n, card.unscored) == (PROMPTS + 1, 1)
    assert next(rail for rail in card.guardrails if rail.name == "unscored").value.value == pytest.approx(1 / 41)


def test_a_file_with_one_prompt_says_that_it_can_show_nothing(tmp_path: Path) -> None:
    card, run = score_file(write(tmp_path / "x.jsonl", rows(1)), output=tmp_path / "run")
    assert card.n == 1 and card.gain.estimate.low is None and run is not None
    assert "no interval" in card.gain.estimate.method


# -- complaints ------------------------------------------------------------------------------------------------


def test_all_problems_come_at_once_each_with_line_field_rule_and_remedy(tmp_path: Path) -> None:
    good = {"prompt": "Q", "completion": "A", "reference": "a"}
    given: list[Any] = [
        good,
        good | {"completion": "another"},
        {"prompt": "", "completion": 3, "reference": " ", "references": ["x", None]},
        good | {"system": "B0", "reference": "b"},
        good | {"prompt": "R", "system": "E"},
        good | {"prompt": "S", "system": "../up"},
        good | {"prompt": "T", "finished": "maybe"},
        good | {"prompt": "U", "experts": ["Ann", "Bob"]},
        {"prompt": "V", "completion": "v"},
        good | {"prompt": [{"role": "assistant", "content": "hello"}]},
        good | {"prompt": "W", "completion": None},
        '{"prompt": "cut\n',
        good | {"prompt": "X", "id": "one"},
        good | {"prompt": "Y", "id": "one"},
        good | {"prompt": "X", "id": "two"},
        "[1]\n",
        good | {"prompt": "half \ud83d"},
    ]
    said = problems(write(tmp_path / "x.jsonl", given))
    assert said == [
        "2: 'completion' is not what tuned wrote for the same prompt on line 1; keep one completion per prompt and "
        "system",
        "3: 'prompt' is blank; write one or remove the row",
        "3: 'completion' must be text, not a number; write it as text",
        "3: 'references' is null; fill it in or remove the row",
        "4: 'reference' is not what line 1 gives for the same prompt; give all systems' rows of a prompt the same "
        "references, or only one of them",
        "5: 'system' is E, which is worked out by sft itself; leave these rows out",
        "6: 'system' is '../up'; name it with letters, digits, '.', '_' and '-' only",
        "7: 'finished' is 'maybe'; write true, or false where it was cut at a length limit",
        "8: 'experts' names 2 for 1 references; name one expert for each reference, in the same order",
        "9: 'reference' is missing in every row of this prompt; add what an expert wrote",
        "10: 'prompt' must end with a user turn, or with what a call gave back; put the turns in order: system, user, "
        "assistant, ..., user",
        "11: 'completion' is null; write \"\" where the system wrote nothing, or leave the row out",
        "12: is cut short (the JSON ends at character 15); write the row again in full",
        "14: 'id' is 'one', as at 13 for another prompt; give every prompt an id of its own, or none",
        "15: 'id' is 'two', but 'one' further up for the same prompt; keep one",
        "16: is a list, not an object with columns; write the row as an object",
        "17: 'prompt' holds a lone surrogate at character 6; replace the broken character (half of an emoji)",
        "15 of 17 rows cannot be scored",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        ("".join(json.dumps(row) + "\n" for row in rows(2)).encode("utf-16"), "is UTF-16, not UTF-8"),
        ('{"prompt": "é"}\n'.encode("latin-1"), r"x\.jsonl:1: is not UTF-8"),
        (b'{"prompt": "Q", "completion": "A"}\n', r"no row has 'reference' or 'references' \(columns found: 'prompt'"),
        (b'{"question": "Q", "completion": "A", "reference": "a"}\n', "no row has 'prompt'"),
        (b'{"prompt": "Q", "completion": "A", "reference": "a", "system": "gpt"}\n', r"no row has system 'tuned'.*gpt"),
    ],
)
def test_a_file_that_is_unusable_as_a_whole_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(SourceError, match=said) as error:
        score_file(tmp_path / "x.jsonl", output=tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_huge_row_is_scored(tmp_path: Path) -> None:
    huge = {"prompt": "q" * 300_000, "completion": "word " * 100_000, "reference": "another " * 20}
    card, _ = score_file(write(tmp_path / "x.jsonl", [*rows(5), huge]), fast=True)
    assert card.n == 6 and card.unscored == 0


def test_a_held_out_prompt_in_training_is_refused_with_both_addresses(tmp_path: Path) -> None:
    file, train = write(tmp_path / "x.jsonl", rows()), training(tmp_path / "train.jsonl", [300, 7, 301])
    with pytest.raises(SplitError) as error:
        score_file(file, train=train, output=tmp_path / "run")
    assert f"1 demonstration of {train} would give held-out prompts away" in str(error.value)
    assert f"{train}:2 and {file}:8: same prompt" in str(error.value) and not (tmp_path / "run").exists()
    write(train, [{"prompt": "Other", "completion": "o", "group": "g"}])
    with pytest.raises(SplitError, match="same group"):
        score_file(write(file, rows(group="g")), train=train)


def test_near_duplicates_in_training_are_contamination_and_turn_the_guardrail_red(tmp_path: Path) -> None:
    prompts = [f"{n}: " + " ".join(random.Random(n).sample(factories.NOUNS, 12)) for n in range(40)]
    given = [{"prompt": p, "completion": "Yes.", "reference": "Yes."} for p in prompts[:30]]
    learned = [{"prompt": f"{p} now", "completion": "No."} for p in (*prompts[:3], *prompts[30:])]
    card, _ = score_file(write(tmp_path / "x.jsonl", given), train=write(tmp_path / "t.jsonl", learned), fast=True)
    rail = next(rail for rail in card.guardrails if rail.name == "contamination")
    assert rail.state == "red" and rail.value.value == pytest.approx(0.1)
    assert "red: contamination" in to_text(card)


def test_what_sft_works_out_itself_is_not_taken_from_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [*rows(), *rows(system="R")])
    assert {gain.floor for gain in score_file(file, fast=True)[0].gains} == {"R", "P"}
    with pytest.raises(DemonstrationsError, match="'system' is R, which is worked out by sft itself"):
        score_file(file, train=training(tmp_path / "train.jsonl"))


def test_bars_and_checkers_are_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    for more in ({"bar": {"chrf": 200}}, {"bar": {"shine": 60}}, {"bar": {"chrf": 0.5}}, {"checker": "regex:("}):
        with pytest.raises(UserError):
            score_file(tmp_path / "none.jsonl", **more)  # type: ignore[arg-type]
    card, _ = score_file(write(tmp_path / "x.jsonl", rows()), bar={"chrf": 50, "exact_match": 0.005}, fast=True)
    assert card.bar == {"chrf": 50.0, "exact_match": 0.5}, "a share of a half per cent is not read twice"


def test_what_a_file_does_not_tell_is_not_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a training file the report said of the prompts that the clone never saw them in training, and without
    the column `finished` that it stops by itself in 100 %."""
    file, train = write(tmp_path / "x.jsonl", rows()), training(tmp_path / "train.jsonl")
    said = {}
    for name, more in (("alone", {}), ("with", {"train": train})):
        _, run = score_file(file, output=tmp_path / name, fast=True, **more)  # type: ignore[arg-type]
        assert run is not None
        said[name] = run.report_html_path.read_text(encoding="utf-8") + run.report_md_path.read_text(encoding="utf-8")
    assert "never saw" not in said["alone"] and "is not known here: its training" not in said["alone"]
    assert said["with"].count("None of them is among the prompts that the clone was trained on.") == 2
    assert said["alone"].count("how often the clone stops by itself is not known") == 2
    assert main(["score", str(file), "--fast"]) == 0
    assert "Note: The file does not say which completions were cut" in capsys.readouterr().out
    card, _ = score_file(write(file, rows(finished=True)), fast=True)
    assert "all are taken to be" not in to_text(card)


# -- the folder ------------------------------------------------------------------------------------------------


def test_the_folder_is_a_run_that_can_be_reported_and_compared(tmp_path: Path) -> None:
    runs = []
    for name, right in (("good", 0.9), ("poor", 0.4)):
        given = rows()
        for number, row in enumerate(given):
            draw = random.Random(number)
            words = row["reference"].split()
            row["completion"] = " ".join(w if draw.random() < right else draw.choice(factories.NOUNS) for w in words)
        _, run = score_file(write(tmp_path / f"{name}.jsonl", given), output=tmp_path / name, fast=True)
        assert run is not None
        runs.append(run)
    assert compare_runs(runs).pairs[0].words == "good is closer"
    page = runs[0].report_html_path.read_bytes()
    assert render(runs[0]).read_bytes() == page
    before = {path.name: path.read_bytes() for path in runs[0].path.iterdir()}
    for path in (runs[0].scorecard_path, runs[0].scores_path):
        path.unlink()
    stored.remeasure(runs[0])
    assert {path.name: path.read_bytes() for path in runs[0].path.iterdir()} == before, "same files, same bytes"
    manifest = runs[0].manifest
    assert [look["purpose"] for look in manifest["looks"]] == ["sft score"] and manifest["data"]["rows"] == PROMPTS
    assert {row["split"] for row in read_jsonl(runs[0].demonstrations_path)} == {"test"}


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", rows(3))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        score_file(file, output=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir() if path.name != ".lock"] == ["notes.txt"]


def test_an_error_half_way_leaves_no_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [*rows(3), *rows(3, system="B0")])
    (tmp_path / "broken.py").write_text("def check(completion, reference):\n    raise ValueError('ours')\n")
    with pytest.raises(UserError, match="failed on prompt"):
        score_file(file, checker=f"{tmp_path / 'broken.py'}:check", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    write_json(tmp_path / "nothing.json", [])


def test_held_out_prompts_read_back_are_those_that_were_written(tmp_path: Path) -> None:
    answers = read(write(tmp_path / "x.jsonl", rows()))
    _, run = score_file(tmp_path / "x.jsonl", output=tmp_path / "run", fast=True)
    assert run is not None
    back: list[HeldOut] = stored.read_held_out(run)
    assert back == list(answers.items)


# -- the same folder again -------------------------------------------------------------------------------------


def test_the_same_input_is_scored_into_the_same_folder_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sft score --output X`` run twice said "continue it with --resume", which it does not have."""
    file, run = write(tmp_path / "x.jsonl", rows()), tmp_path / "run"
    words = ["score", str(file), "--fast", "--output", str(run)]
    assert main(words) == 0
    card = read_json(run / "scorecard.json")
    (run / "scorecard.json").unlink()
    (run / "completions-P.jsonl").write_text("half", encoding="utf-8")  # as a kill, or an accident, may leave it
    assert main(words) == 0
    assert read_json(run / "scorecard.json") == card and len(Run.open(run).looks) == 1
    assert main(["report", str(run), "--recompute"]) == 0
    moved = write(tmp_path / "renamed.jsonl", rows())
    assert main(["score", str(moved), "--fast", "--output", str(run)]) == 0, "what it says counts, not where it is"


def test_another_input_is_refused_and_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = write(tmp_path / "x.jsonl", rows()), tmp_path / "run"
    assert main(["score", str(file), "--fast", "--output", str(run)]) == 0
    before = (run / "scorecard.json").read_bytes()
    first, *rest = rows()
    other = write(tmp_path / "other.jsonl", [first | {"completion": "Quite another."}, *rest])
    for words, said in (
        (["score", str(other), "--fast"], "(completions)"),
        (["score", str(file)], "(--fast)"),
        (["score", str(file), "--fast", "--bar", "chrf=50"], "(--bar.chrf)"),
    ):
        capsys.readouterr()
        assert main([*words, "--output", str(run)]) == 2
        error = capsys.readouterr().err
        assert f"holds the scorecard of another input {said}; name another folder, or remove this one" in error
        assert "--resume" not in error and (run / "scorecard.json").read_bytes() == before
    with Run.create(tmp_path / "trained", data={"hash": "v2:0"}):
        pass
    assert main(["score", str(file), "--output", str(tmp_path / "trained")]) == 2
    assert "was not made of these completions; name another folder" in capsys.readouterr().err


def test_what_a_killed_score_left_is_scored_again(tmp_path: Path) -> None:
    """A process that dies in the middle leaves a folder that the same command then finishes."""
    file, run = write(tmp_path / "x.jsonl", rows()), tmp_path / "run"
    command = [sys.executable, "-m", "sft", "score", str(file), "--fast", "--output", str(run)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and not (run / "measurement.json").exists():
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert (run / "manifest.json").exists()
    assert main(["score", str(file), "--fast", "--output", str(run)]) == 0
    assert main(["report", str(run)]) == 0
