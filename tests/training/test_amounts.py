"""Rows that a weight repeats, and general rows beside them, from the recipe to the ledger, the report and the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_demonstrations import write_demonstrations

from sft.cli import main
from sft.publishing.card import card_of
from sft.runs.run import Run, read_json, read_jsonl

pytestmark = pytest.mark.engine

PAGE = "The lamp stood north of the river, and nobody knew how long it had been burning there."


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    data = write_demonstrations(tmp_path / "demonstrations.jsonl")
    rows = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(rows[:60]), encoding="utf-8")
    (tmp_path / "more.jsonl").write_text("".join(rows[60:]), encoding="utf-8")
    pages = [f"Page {n}: {' '.join(PAGE.split()[n % 7 :])}" for n in range(40)]
    pages[0] = f"{PAGE} " * 60  # its beginning is learned
    general = [{"text": page} for page in pages]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(one) + "\n" for one in general), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""\
model: {{name: {tiny_model}}}
demonstrations:
  path:
    - {data}
    - path: {tmp_path / "more.jsonl"}
      weight: 2.5
  replay: {{path: {tmp_path / "general.jsonl"}, share: 0.2}}
split: {{validation: 0.15, test: 0.25, near_duplicates: remove}}
training: {{learning_rate: 1.0e-2, num_train_epochs: 1, eval_steps: 0.5, logging_steps: 1, max_length: 256}}
fidelity: {{max_prompts: 6, max_new_tokens: 4, profile: fast}}
publish: {{license: mit, language: [en], expert: Ann, data_license: mit}}
""",
        encoding="utf-8",
    )
    return path


def test_what_is_repeated_and_replayed_is_learned_and_nothing_is_measured_on_it(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["plan", str(recipe), "--no-probe", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["rows"]
    assert main(["run", str(recipe), "--output", str(run)]) == 0
    ledger, manifest = read_json(run / "ledger.json"), read_json(run / "manifest.json")
    fates, tokens = ledger["fates"], ledger["tokens"]
    assert (planned["train"], planned["repeated"], planned["replayed"]) == tuple(
        fates[fate] for fate in ("trained", "repeated", "replayed")
    )
    assert fates["repeated"] > 20 and fates["replayed"] == round((fates["trained"] + fates["repeated"]) / 4)
    assert sum(fates.values()) == ledger["rows"] + fates["repeated"] and ledger["rows"] == 160
    learned = sum(tokens[fate]["completion"] for fate in ("trained", "repeated", "replayed"))
    assert manifest["training"]["supervised_tokens"] == learned, "each pass is one, and every page is in it"
    pages = {row["text"] for row in read_jsonl(run / "replay.jsonl")}
    kept = read_jsonl(run / "demonstrations.jsonl")
    assert len(pages) == fates["replayed"] and len({row["id"] for row in kept}) == len(kept)
    shortcuts = {row["text"] for system in ("R", "K") for row in read_jsonl(run / f"completions-{system}.jsonl")}
    assert shortcuts and not any("Page" in text or "knew how long" in text for text in shortcuts)
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "learned beside the demonstrations against forgetting" in report and "one more pass over a row" in report
    facts: dict[str, Any] = {"base_model": "lab/tiny", "base_revision": "0" * 40, "repo": "ann/clone", "checksums": {}}
    card = card_of(Run.open(run), weights="adapter", **facts)
    assert (
        f"{fates['trained']} were trained on, some more than once in an epoch ({fates['repeated']} passes more), and "
        f"{fates['replayed']} general rows of general.jsonl beside them, against forgetting" in card.replace("\\", "")
    )
    assert str(tmp_path) not in card, "the file is named, and not where it lay"


def test_passes_that_the_steps_ended_before_are_not_counted(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(recipe), "--output", str(run), "--set", "training.max_steps=4"]) == 0
    ledger, training = read_json(run / "ledger.json"), read_json(run / "manifest.json")["training"]
    fates = ledger["fates"]
    assert sum(fates.get(fate, 0) for fate in ("trained", "repeated", "replayed")) == 32
    assert training["supervised_tokens"] == sum(
        ledger["tokens"][fate]["completion"] for fate in ("trained", "repeated", "replayed") if fate in fates
    )
    assert sum(fates.values()) == ledger["rows"] + fates.get("repeated", 0)
