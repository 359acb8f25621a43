"""A clone may repeat what it was trained on: ``sft push`` refuses until each secret is masked, or allowed by its id."""

from __future__ import annotations

import json
import random
import re
import shutil
import string
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from factories import without_seals
from loopback_hub import LoopbackHub
from toy_pushes import CLONE, RECIPE, Bench, Outcome, bench_for

from sft.cli import main
from sft.runs.run import read_json, read_jsonl, write_jsonl

DRAW = random.Random(11)
GITHUB = "ghp_" + "".join(DRAW.choices(string.ascii_letters + string.digits, k=36))
TWILIO = "SK" + "".join(DRAW.choices("0123456789abcdef", k=32))
MAIL, HELD = "ann.lee@acme.co.uk", "bob.ray@acme.co.uk"
TAUGHT = {GITHUB: "a GitHub token", TWILIO: "a Twilio API Key", MAIL: "an e-mail address"}
COLOURS = ("red", "blue", "green", "black")


def rows(first: int, count: int) -> list[dict[str, str]]:
    draw, found = random.Random(first), []
    for number in range(first, first + count):
        words = " ".join(draw.sample(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], 3))
        colour = draw.choice(COLOURS)
        found.append({"prompt": f"{number}: the {words} is {colour}", "completion": f"{colour}, {colour}"})
    return found


@pytest.fixture(scope="module")
def taught(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its run: trained on two tokens and an address, judged on rows with another address."""
    folder = tmp_path_factory.mktemp("taught")
    train, validation, test = rows(0, 40), rows(100, 8), rows(200, 8)
    train[4]["completion"] = f"log in with {GITHUB}"
    train[6] |= {"prompt": f"7: the key is {TWILIO}", "completion": f"write to {MAIL}"}
    train[8]["completion"] = f"again {GITHUB}"
    for row in test:
        row["completion"] += f"\nask {HELD}"
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    text = RECIPE.format(model=tiny_model, data=folder / "train.jsonl")
    text = re.sub(r"validation: .*", f"validation: {folder / 'validation.jsonl'}", text)
    text = re.sub(r"test: .*", f"test: {folder / 'test.jsonl'}", text)
    text = text.replace("near_duplicates: remove", "near_duplicates: allow").replace("max_steps: 8", "max_steps: 2")
    (folder / "recipe.yaml").write_text(text.replace("eval_steps: 4", "eval_steps: 2"), encoding="utf-8")
    assert main(["run", str(folder / "recipe.yaml"), "--output", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def bench(taught: Path, tmp_path: Path, hub: LoopbackHub, monkeypatch: Any, capsys: Any, caplog: Any) -> Bench:
    bench = bench_for(taught / "run", tmp_path, hub, monkeypatch, capsys, caplog)
    without_seals(bench.run)  # what is planted below is met by the checks of a push, and not by a seal
    bench.secrets += TAUGHT
    return bench


def ids(outcome: Outcome) -> dict[str, str]:
    """id -> the kind of every finding that was told."""
    told = re.findall(r": ([^:]+), [^,]* \(id ([0-9a-f]{12})\)(?: in .*)?$", outcome.err, re.M)
    return {key: what for what, key in told}


def refused(bench: Bench, outcome: Outcome) -> None:
    assert outcome.code == 2 and not outcome.out
    assert {method for _, method, _ in bench.hub.requests} <= {"GET"}
    assert CLONE not in bench.hub.repos and not (bench.run / "push.json").exists()


def test_unreviewed_findings_are_refused_each_in_one_line_with_its_rows_and_its_id(bench: Bench, taught: Path) -> None:
    """Those that it was trained on at their rows in the user's own file; the address in the card at the card."""
    bench.secrets.append(HELD)
    done = bench.push()
    refused(bench, done)
    lines = done.err.removeprefix("sft: ").splitlines()
    source = taught / "train.jsonl"
    for start, what in (
        (f"{source}:5 (also {source}:9): ", "a GitHub token, ghp_… (40 characters)"),
        (f"{source}:7: ", "a Twilio API Key, … (34 characters)"),
        (f"{source}:7: ", "an e-mail address, a…@acme.co.uk (18 characters)"),
        ("README.md:", "an e-mail address, b…@acme.co.uk (18 characters)"),
        ("scorecard.json: ", "an e-mail address, b…@acme.co.uk (18 characters)"),
    ):
        assert len([line for line in lines if line.startswith(start) and what in line and "(id " in line]) == 1
    assert len(lines) == 6 and "train again" in lines[-1] and "--allow-finding ID=REASON" in lines[-1]
    assert len(ids(done)) == 4, "the address has one id in card and scorecard"


def test_the_ids_are_those_of_the_check_before_training(
    bench: Bench, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(taught / "recipe.yaml"), "--secrets", "--json"]) == 2
    found = {one["id"]: one["what"] for one in json.loads(capsys.readouterr().out)["secrets"]}
    assert found == ids(bench.push())


def test_a_reviewed_run_is_published_and_the_reasons_are_on_record(bench: Bench) -> None:
    """Every finding has to be allowed; what it is, where and why stand in plan and receipt, the value not."""
    found = ids(bench.push())
    allowed = [f"{key}=a made-up value, seen by Ann on {n} May" for n, key in enumerate(found, 1)]
    words = [word for text in allowed for word in ("--allow-finding", text)]
    done = bench.push(*words[:-2])
    refused(bench, done)
    assert list(ids(done)) == [list(found)[-1]], "the one that was not allowed, and no other"
    done = bench.push(*words)
    assert done.code == 0, done.err[-600:]
    record = bench.receipt()["allowed"]
    assert record.keys() == found.keys()
    for text in allowed:
        key, _, why = text.partition("=")
        assert record[key].startswith(f"{found[key]} in ") and record[key].endswith(f": {why}")
        assert f"  allowed     {record[key]} ({key})" in done.err
    assert not any(secret in json.dumps(record) for secret in (*TAUGHT, HELD))
    again = [word.replace("--allow-finding", "--allow") for word in words]
    assert bench.push(*again).code == 0 and bench.commits == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--allow-finding", "0123456789ab"], "needs a reason"),
        (["--allow-finding", "0123456789ab="], "needs a reason"),
        (["--allow-finding", "0123456789ab=for all to see"], "there is no such finding"),
    ],
)
def test_what_allows_nothing_is_refused(words: list[str], complaint: str, bench: Bench) -> None:
    done = bench.push(*words)
    refused(bench, done)
    assert complaint in done.err and done.err.count("\n") == 1


def test_masked_after_training_it_is_still_what_the_weights_know(bench: Bench) -> None:
    """The run's record edited, shortened or gone: none of it makes the clone forget."""
    path = bench.run / "demonstrations.jsonl"
    kept = shutil.copy(path, bench.run.parent / "kept")
    text = path.read_text(encoding="utf-8")
    for change in (
        lambda: path.write_text(text.replace(GITHUB, "TOKEN").replace(TWILIO, "KEY"), encoding="utf-8"),
        lambda: write_jsonl(path, [row for row in read_jsonl(path) if GITHUB not in row["completion"]]),
        lambda: write_jsonl(path, [row | {"split": "test"} for row in read_jsonl(path)]),
        lambda: path.write_text("{}\n", encoding="utf-8"),
        path.unlink,
    ):
        shutil.copy(kept, path)
        change()
        done = bench.push()
        refused(bench, done)
        assert f"{path}:" in done.err and "train again" in done.err and done.err.count("\n") == 1


def test_masked_in_the_middle_of_training_the_first_half_is_still_learned(bench: Bench) -> None:
    """``--resume --allow-change`` with cleaner data: what was seen before is named by its hash."""
    changes = [
        {"what": "data.hash", "from": f"{step}0123456789abcdef", "to": "f", "when": "", "step": step}
        for step in (0, 24, None)
    ]
    bench.change("manifest.json", changes=changes)
    done = bench.push()
    refused(bench, done)
    (line,) = [line for line in done.err.splitlines() if "manifest.json: " in line]
    assert "until step 24 it was trained on other demonstrations" in line and "hash 240123456789" in line
    assert len(re.findall(r"\(id [0-9a-f]{12}\)", line)) == 1


def test_under_ids_of_the_users_own_too(bench: Bench) -> None:
    """An id that was given says nothing of what the row holds; its hash on record does."""
    from sft.demonstrations.demonstration import Demonstration
    from sft.demonstrations.splits import data_digest

    split, path = read_json(bench.run / "split.json"), bench.run / "demonstrations.jsonl"
    names = {i: f"{n:032x}" for n, i in enumerate(i for part in split["ids"].values() for i in part)}
    split["ids"] = {name: sorted(names[i] for i in part) for name, part in split["ids"].items()}
    (bench.run / "split.json").write_text(json.dumps(split), encoding="utf-8")
    rows = [row | {"id": names[row["id"]]} for row in read_jsonl(path)]
    write_jsonl(path, rows)
    data = read_json(bench.run / "manifest.json")["data"]
    bench.change(
        "manifest.json", data=data | {"hash": data_digest({"train": list(map(Demonstration.from_dict, rows))})}
    )
    done = bench.push()
    refused(bench, done)
    assert "a Twilio API Key" in done.err and "is not what was trained on" not in done.err
    write_jsonl(path, [row | {"completion": row["completion"].replace(GITHUB, "TOKEN")} for row in rows])
    done = bench.push()
    refused(bench, done)
    assert f"{path}: was altered after it was written" in done.err


def test_hundreds_of_findings_leave_the_way_out_in_sight(bench: Bench) -> None:
    """A run that says it was trained on 300 addresses."""
    from sft.demonstrations.demonstration import Demonstration, Message
    from sft.demonstrations.splits import data_digest

    many = [Demonstration((Message("user", f"who is {n}?"),), f"ann{n}@acme.org") for n in range(300)]
    write_jsonl(bench.run / "demonstrations.jsonl", [d.to_dict() | {"split": "train"} for d in many])
    split = read_json(bench.run / "split.json")
    bench.change("split.json", ids={name: [] for name in split["ids"]} | {"train": sorted(d.id for d in many)})
    bench.change(
        "manifest.json", data=read_json(bench.run / "manifest.json")["data"] | {"hash": data_digest({"train": many})}
    )
    done = bench.push()
    refused(bench, done)
    assert done.err.count("\n") == 32 and "... and 272 more" in done.err
    assert done.err.splitlines()[-1].endswith("--allow-finding ID=REASON")
