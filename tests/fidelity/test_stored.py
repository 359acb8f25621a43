"""A scorecard can be had again from the files of a run: the same figures, no model, and every altered file is named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from twenty_prompts import ASKED, LIKELIER, SHORTCUTS, TRAIN, near_miss, written

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message
from sft.errors import RunError
from sft.fidelity import stored
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.runs.records import ControlWindow, Forced, OwnPath, PromptValue
from sft.runs.run import Run, read_json, read_jsonl, write_jsonl

TUNED = written(near_miss)
FACTS = {
    "split": "test",
    "profile": "standard",
    "systems": ["tuned", *SHORTCUTS],
    "bar": {"chrf": 50},
    "checker": "",
    "conflicts": "keep",
    "near_threshold": 0.8,
    "seed": 3,
    "signature": {"decoding": "greedy"},
}


def own_path(item: HeldOut) -> OwnPath:
    return OwnPath(item.id, (0.9, 0.8, 0.7), (True, False, True), 1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was measured: every file but the scorecard."""
    with Run.create(tmp_path / "run") as made:
        write_jsonl(made.demonstrations_path, (d.to_dict() | {"split": "train"} for d in TRAIN))
        for system, by_id in {"tuned": TUNED, **SHORTCUTS}.items():
            write_jsonl(made.completions_path(system), map(asdict, by_id.values()))
        for system, scores in LIKELIER.items():
            write_jsonl(made.token_scores_path(system), map(asdict, scores.values()))
        write_jsonl(made.own_path_path, (asdict(own_path(item)) for item in ASKED))
        stored.write_measurement(made, ASKED, FACTS)
        made.look("test", "report")
    return Run.open(tmp_path / "run")


def test_the_scorecard_is_that_of_the_observations(run: Run) -> None:
    card = stored.remeasure(run)
    direct = measure(
        Observations(
            ASKED,
            {"tuned": TUNED, **SHORTCUTS},
            LIKELIER,
            train=TRAIN,
            own_path={item.id: own_path(item) for item in ASKED},
            contaminated=frozenset(),
            bar={"chrf": 50},
            signature={"decoding": "greedy"},
            looks=1,
            seed=3,
        )
    )
    assert card == direct and card.looks == 1 and card.bar == {"chrf": 50}
    first = run.scorecard_path.read_bytes()
    stored.remeasure(run)
    assert run.scorecard_path.read_bytes() == first
    assert len(read_jsonl(run.scores_path)) == len(ASKED) * (1 + len(SHORTCUTS))


def test_no_model_is_needed(run: Run) -> None:
    code = (
        "import sys; from sft.fidelity import stored; from sft.runs.run import Run\n"
        f"stored.remeasure(Run.open({str(run.path)!r}))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'evaluate'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_held_out_prompts_survive_the_trip(run: Run) -> None:
    item = HeldOut(
        "x", (Message("system", "s"), Message("user", "\u2028 é")), ("a", "b"), ("ann", ""), "g", (("bob", "c"),)
    )
    stored.write_measurement(run, [item], FACTS)
    assert stored.read_held_out(run) == [item]


def test_rows_of_other_prompts_are_left_out(run: Run) -> None:
    """A smaller look at the same run takes its own prompts only, whatever lies on file from a larger one."""
    stored.write_measurement(run, ASKED[:20], FACTS)
    card = stored.remeasure(run)
    assert card.n == 20 and card.unscored == 0
    assert {s.scores["chrf"].n for s in card.systems} == {20}


def test_a_base_that_did_not_write_may_have_been_scored(run: Run) -> None:
    """An evaluation cut short: how likely the base finds the expert's words is known, what it would write is not."""
    run.completions_path("B0").unlink()
    facts = FACTS | {"systems": ["tuned", "R", "K", "P"], "scored": ["tuned", "B0"], "profile": "fast"}
    stored.write_measurement(run, ASKED, facts)
    card = stored.remeasure(run)
    assert card.imitation_floor == "B0" and set(card.bits_per_byte) == {"tuned", "B0"}
    assert {s.system for s in card.systems} == {"tuned", "R", "K", "P"} and card.profile == "fast"


def test_every_probe_file_is_read(run: Run) -> None:
    write_jsonl(run.samples_path(0), map(asdict, TUNED.values()))
    write_jsonl(run.samples_path(1), map(asdict, list(TUNED.values())[:5]))
    row = asdict(Forced("ignored", 0.5, "a", "b", "c", True))
    write_jsonl(run.forced_path("tuned"), [row | {"id": ASKED[0].id}, row | {"id": "another"}])
    window = asdict(ControlWindow("licence", 0, 10.0, 20))
    for policy in ("base", "tuned"):
        write_jsonl(run.control_path(policy), [window])
    write_jsonl(run.prompt_values_path, [asdict(PromptValue(TRAIN[0].id, 5.0, 9.0, 2, 30))])
    found = stored.observe(run)
    assert [len(one) for one in found.samples] == [len(ASKED)], "a round that was cut short is not used"
    assert [row.id for row in found.forced["tuned"]] == [ASKED[0].id]
    assert found.control["base"] == [ControlWindow("licence", 0, 10.0, 20)]
    assert found.prompt_values[0].other_nats == 9.0
    assert found.own_path[ASKED[0].id] == own_path(ASKED[0])


def test_near_duplicates_left_in_training_are_found(run: Run) -> None:
    prompt = ASKED[0].prompt[-1].content
    copy = Demonstration((Message("user", f"{prompt}!"),), "A different answer.", id="copy")
    rows = [d.to_dict() | {"split": "train"} for d in (*TRAIN, copy)]
    write_jsonl(run.demonstrations_path, rows)
    assert stored.observe(run).contaminated == {ASKED[0].id}
    card = stored.remeasure(run)
    red = {guardrail.name: guardrail for guardrail in card.guardrails}["contamination"]
    assert red.value.value == pytest.approx(1 / len(ASKED)) and red.state == "red"
    assert card.verdict.next_step.startswith("fix the data")
    # A split that removed them has none, however the rest looks to a search that does not know what went.
    for choice, found in (("remove", set()), ("refuse", set()), ("allow", {ASKED[0].id})):
        run.update_manifest(recipe={"resolved": {"split": {"near_duplicates": choice}}})
        assert stored.observe(run).contaminated == found


@pytest.mark.parametrize(
    "losses, word",
    [([2.0, 1.5, 1.2], "falling"), ([2.0, 1.2, 1.3], "rose"), ([2.0, 1.2, 1.199], "flat"), ([1.2], ""), ([], "")],
)
def test_how_training_ended(run: Run, losses: list[float], word: str) -> None:
    rows: list[dict[str, Any]] = [{"step": 10 * i, "loss": 1.0} for i in range(4)]
    write_jsonl(run.log_path, [*rows, *({"step": 10 * i, "eval_loss": loss} for i, loss in enumerate(losses))])
    assert stored.observe(run).curve == word


def test_the_correction_sheet_holds_what_went_wrong(run: Run) -> None:
    card = stored.remeasure(run)
    rows = read_jsonl(run.corrections_path)
    worst = {example.id for example in card.examples if example.kind == "worst"}
    assert worst <= {row["id"] for row in rows} and len({row["id"] for row in rows}) == len(rows) <= 20
    row = rows[0]
    item = next(item for item in ASKED if item.id == row["id"])
    assert row["prompt"] == [{"role": "user", "content": item.prompt[0].content}]
    assert (row["completion"], row["clone"]) == (item.references[0], TUNED[item.id].text)


def test_what_is_missing_or_altered_is_named(run: Run) -> None:
    path = run.completions_path("tuned")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], '{"id": "x", "txt": "?"}\n', *lines[1:]]), encoding="utf-8")
    with pytest.raises(RunError, match=r"completions-tuned\.jsonl:2: has no 'text'; restore it"):
        stored.remeasure(run)
    path.write_text("".join(lines), encoding="utf-8")
    run.measurement_path.write_text(json.dumps(FACTS)[:30], encoding="utf-8")
    with pytest.raises(RunError, match=r"measurement\.json"):
        stored.remeasure(run)
    run.held_out_path.unlink()
    with pytest.raises(RunError, match="nothing has been measured yet"):
        stored.remeasure(run)
    assert not run.scorecard_path.exists() and read_json(run.manifest_path)
