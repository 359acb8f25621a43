"""What earlier versions left is opened, reported, measured again and gone on with; see ``tests/data/earlier``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from repository import TESTS

from sft.cli import main
from sft.runs.run import read_json, read_jsonl

pytestmark = pytest.mark.engine

EARLIER = TESTS / "data" / "earlier"
OLDEST = ["named-hashes", "unnamed-hashes"]


@pytest.fixture(params=sorted(path.name for path in EARLIER.iterdir() if path.is_dir()))
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what one earlier version left; paths in it are relative to it, and commands are run there."""
    folder = shutil.copytree(EARLIER / request.param, tmp_path / "there")
    monkeypatch.chdir(folder)
    return folder


def manifest(run: str) -> dict[str, Any]:
    return dict(read_json(Path(run, "manifest.json")))


def to_twelve_digits(value: Any) -> Any:
    """Processors of other makes sum in another order, which moves a figure's last digit."""
    if isinstance(value, dict):
        return {name: to_twelve_digits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [to_twelve_digits(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def replaced(path: Path, split: str) -> None:
    """Put other completions in the place of all that are in ``split``; ids and everything else stay."""
    rows = read_jsonl(path)
    assert any(row["split"] == split for row in rows)
    for row in rows:
        if row["split"] == split:
            row["completion"] = "mauve"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_they_are_small_and_name_no_machine() -> None:
    files = [path for path in EARLIER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_050_000
    for path in files:
        assert not any(mark in path.read_bytes() for mark in (b"/home/", b"/root/", b"/tmp/", b"/Users/")), path


def test_a_finished_run_is_reported_as_it_was(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report, from the scorecard on file and from the observations: the same figures."""
    before = read_json(Path("finished/scorecard.json"))
    assert main(["report", "finished"]) == 0 and Path("finished/report.html").exists()
    capsys.readouterr()
    assert main(["report", "finished", "--recompute", "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    after["gain"] = {name: after["gain"][name] for name in before["gain"]}  # it says more now
    for name in ("systems", "gain", "n", "bits_per_byte"):
        assert to_twelve_digits(after[name]) == to_twelve_digits(before[name]), name
    assert after["verdict"]["rung"] == before["verdict"]["rung"], "in words of the present release"


def test_a_finished_run_is_measured_again_from_what_is_on_file(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it is made anew, for nothing has changed: a hash by another rule was taken for another split."""
    written = Path("finished/completions-tuned.jsonl").read_bytes()
    assert main(["evaluate", "finished"]) == 0
    assert "reused: what tuned wrote" in capsys.readouterr().err
    assert Path("finished/completions-tuned.jsonl").read_bytes() == written
    assert len(manifest("finished")["looks"]) == 2


@pytest.mark.parametrize("there", OLDEST, indirect=True)
def test_what_prompts_tell_is_measured_again_where_no_tokens_were_recorded(there: Path) -> None:
    """They were looked at as wholes: a formula was flagged, and an invented date beside a copied number was not."""
    rows = read_jsonl(Path("finished/prompt-values.jsonl"))
    assert rows and not any("token_ends" in row for row in rows)
    assert main(["report", "finished", "--recompute"]) == 0
    assert "for completions as a whole only" in read_json(Path("finished/scorecard.json"))["absent"]["gaps"]
    assert main(["evaluate", "finished"]) == 0
    card = read_json(Path("finished/scorecard.json"))
    assert card["gaps"]["looked_at"] == len(rows) and set(card["gaps"]["kinds"]) == {"figure", "name", "rare word"}
    found = {row["id"]: row for row in read_jsonl(Path("finished/prompt-values.jsonl"))}
    for row in rows:
        again = found[row["id"]]
        assert again["own_nats"] == pytest.approx(row["own_nats"], abs=1e-3)
        assert len(again["own_token_nats"]) == len(again["other_token_nats"]) == len(again["token_ends"]) > 0


@pytest.mark.parametrize("there", OLDEST, indirect=True)
def test_floors_that_came_later_are_asked_of_no_earlier_run(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Computed again it is held to the shortcuts it was measured with; measured again, to those of the present too."""
    assert main(["report", "finished", "--recompute", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert {gain["floor"] for gain in card["gains"]} == set(card["floors"]) == {"B0", "B3", "R", "K", "P"}
    assert not any(reason.startswith("not measured") for reason in card["verdict"]["reasons"])
    assert main(["evaluate", "finished", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert {gain["floor"] for gain in card["gains"]} == set(card["floors"]) == {"B0", "B3", "R", "RK", "K", "P"}
    assert not any(reason.startswith("not measured") for reason in card["verdict"]["reasons"])


def test_a_finished_run_is_known_to_be_trained(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "recipe.yaml", "--output", "finished", "--resume"]) == 0
    assert "is trained already" in capsys.readouterr().err
    assert "changes" not in manifest("finished")


def test_a_run_stopped_halfway_goes_on_to_the_end(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run made forty commits ago could not: "another data.hash", of the same data. Its end is that of ``finished``.

    Losses are compared to 1e-4: the machine that made them rounded in its own way.
    """
    assert main(["train", "recipe.yaml", "--output", "halfway", "--resume"]) == 0
    assert "changed" not in capsys.readouterr().err
    found = manifest("halfway")
    assert found.get("changes", []) == [] and found["training"]["steps"] == 12
    assert found["data"] == manifest("finished")["data"] and found["split"] == manifest("finished")["split"]
    losses = [{r["step"]: r["loss"] for r in read_jsonl(Path(run, "log.jsonl")) if "loss" in r} for run in RUNS]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and len(losses[0]) == 12
    assert main(["evaluate", "halfway"]) == 0


RUNS = ("halfway", "finished")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "finished"],
        ["report", "finished", "--recompute"],
        ["train", "recipe.yaml", "--output", "finished", "--resume"],
        ["train", "recipe.yaml", "--output", "halfway", "--resume"],
        ["export", "finished", "--merged", "merged"],
    ],
    ids=" ".join,
)
def test_other_completions_under_the_ids_on_record_are_refused(
    there: Path, capsys: pytest.CaptureFixture[str], words: list[str], split: str
) -> None:
    """With every test completion replaced, `sft evaluate` said nothing, and chrF fell from 5.98 to 0.23."""
    run = next(name for name in RUNS if name in words)
    replaced(Path(run, "demonstrations.jsonl"), split)
    before = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"sft: {run}/demonstrations.jsonl: was altered after it was written; restore it from a copy")
    after = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file() and path.name != ".lock"}
    before.pop(Path(run, "manifest.json")), after.pop(Path(run, "manifest.json"))
    assert after == before


def test_a_key_that_is_refused_now_keeps_no_run_shut(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trainer took ``dataloader_drop_last`` then. The clone is measured all the same; a new fit is refused."""
    path = Path("finished/recipe.resolved.yaml")
    text = path.read_text(encoding="utf-8").replace("\ntraining:\n", "\ntraining:\n  dataloader_drop_last: true\n", 1)
    path.write_text(text, encoding="utf-8")
    assert "dataloader_drop_last" in text and main(["evaluate", "finished"]) == 0
    capsys.readouterr()
    assert main(["train", str(path), "--output", "again"]) == 2
    assert "'training.dataloader_drop_last' cannot be set here" in capsys.readouterr().err


@pytest.mark.parametrize("there", ["splits-v2"], indirect=True)
def test_rows_stay_where_an_earlier_rule_placed_them_as_long_as_they_are_the_same(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts that look the same stood on both sides then, and one side is theirs now; the run goes on as it was."""
    recorded = read_json(Path("halfway/split.json"))
    assert "rule" not in recorded
    assert main(["check", "recipe.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] != recorded["counts"]
    before = Path("halfway/split.json").read_bytes(), Path("halfway/demonstrations.jsonl").read_bytes()
    data = Path("demonstrations.jsonl")
    rows = data.read_text(encoding="utf-8").splitlines(keepends=True)
    for changed in (rows[1:], [*rows, rows[0].replace("0:", "99:")], [rows[0].replace("0:", "99:"), *rows[1:]]):
        data.write_text("".join(changed), encoding="utf-8")
        assert main(["train", "recipe.yaml", "--output", "halfway", "--resume"]) == 2
        assert "was started with another data.hash" in capsys.readouterr().err
    data.write_text("".join(reversed(rows)), encoding="utf-8")
    words = ["train", "recipe.yaml", "--output", "halfway", "--resume", "--set", "training.max_steps=4"]
    assert main([*words, "--allow-change"]) == 0
    assert (Path("halfway/split.json").read_bytes(), Path("halfway/demonstrations.jsonl").read_bytes()) == before
    assert [change["what"] for change in manifest("halfway")["changes"]] == ["recipe.training.max_steps"]
