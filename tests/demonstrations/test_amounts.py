"""How much of each source is learned: entries of ``path``, weights, replay, and a share that stands beside a file."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from selection_rows import row, sizes

from sft import recipes
from sft.cli import main
from sft.demonstrations.plain_text import PlainText
from sft.demonstrations.selection import Gathered, gather
from sft.demonstrations.stored import load_splits
from sft.errors import DemonstrationsError, RecipeError, RunError, SourceError, SplitError
from sft.recipes import Resolved
from sft.runs.run import Run
from sft.training.start import prepare

Captured = pytest.CaptureFixture[str]
NAMED = "columns: {prompt: question, completion: answer}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.jsonl", [row(n) for n in range(200)])
    write("b.jsonl", [{"question": row(n)["prompt"], "answer": f"answer {n}"} for n in range(200, 400)])
    write("general.jsonl", [row(n) for n in range(5000, 5200)])


def write(name: str, rows: list[Any]) -> None:
    Path(name).write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


def resolved(path: str, *lines: str, split: str = "{validation: 0.2, test: 0.2}") -> Resolved:
    section = "".join(f"  {line}\n" for line in lines)
    return recipes.parse(f"model: {{name: base}}\ndemonstrations:\n  path: {path}\n{section}split: {split}\n")


def gathered(path: str, *lines: str, **options: Any) -> Gathered:
    return gather(resolved(path, *lines, **options).recipe)


def held_out(made: Gathered) -> list[str]:
    return sorted(d.id for name in ("validation", "test") for d in made.splits.parts[name])


# -- sources that differ ----------------------------------------------------------------------------------


def test_the_remedy_for_a_second_source_with_other_columns_is_followed(capsys: Captured) -> None:
    """Columns that fitted one file made the other one unreadable, and the advice went round in a circle."""
    head, tail = "model: {name: base}\ndemonstrations:\n", "split: {validation: 0.2, test: 0.2}\n"
    Path("r.yaml").write_text(f"{head}  path: [a.jsonl, b.jsonl]\n{tail}", encoding="utf-8")
    assert main(["check", "r.yaml"]) == 2
    said = capsys.readouterr().err
    entry = "{path: b.jsonl, columns: {prompt: question, completion: answer}}"
    assert f"name your columns in the recipe, demonstrations.path: [{entry}, ...]" in said and "--column" not in said
    Path("r.yaml").write_text(f"{head}  path: [a.jsonl, {entry}]\n{tail}", encoding="utf-8")
    assert main(["check", "r.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["demonstrations"] == 400


def test_an_entry_has_the_columns_of_the_section_unless_it_has_its_own() -> None:
    made = gathered("[b.jsonl, {path: a.jsonl, columns: {}}]", NAMED)
    assert sum(sizes(made).values()) == 400
    write("c.json", [{"instruction": row(n)["prompt"], "output": "x"} for n in range(900, 930)])
    with pytest.raises(SourceError, match=r"demonstrations.path: \[\{path: c.json, columns: \{prompt: instruction"):
        gathered("[b.jsonl, c.json]", NAMED)
    assert sum(sizes(gathered("[b.jsonl, {path: c.json, format: alpaca, columns: {}}]", NAMED)).values()) == 230


def test_a_source_is_limited_by_content() -> None:
    entry = f"{{path: b.jsonl, limit: 30, {NAMED}}}"
    made = gathered(f"[a.jsonl, {entry}]")
    files = Counter(d.source.file for part in made.splits.parts.values() for d in part if d.source)
    assert files == {"a.jsonl": 200, "b.jsonl": 30} and made.ledger.fates["filtered"] == 170
    lines = Path("b.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("b.jsonl").write_text("".join(reversed(lines)), encoding="utf-8")
    assert {d.id for d in gathered(f"[a.jsonl, {entry}]").splits.train} == {d.id for d in made.splits.train}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("[a.jsonl, {path: b.jsonl, wieght: 2}]",
         "'demonstrations.path[2].wieght' is not a key of demonstrations.path; did you mean weight?"),
        ("[{path: b.jsonl, weight: 0}]", "'demonstrations.path[1].weight' is 0 but must be a number above 0"),
        ("[{path: b.jsonl, weight: '2'}]", "'demonstrations.path[1].weight' is \"2\" but must be a number"),
        ("[a.jsonl, {weight: 2}]", "'demonstrations.path[2].path' is missing"),
        ("[a.jsonl, 3]", "'demonstrations.path' is [a.jsonl, 3] but must be text or a list of texts and mappings"),
        ("{path: b.jsonl}",
         "is a mapping but must be text or a list of texts and mappings; put it into a list: [{...}]"),
        ("[a.jsonl, {path: a.jsonl, weight: 2}]", "names a file twice; list each file once"),
        ("[{path: b.jsonl, columns: {promt: q}}]", "'demonstrations.path[1].columns.promt' is not a key of "
         "demonstrations.columns; did you mean prompt?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_entry_is_said_of_its_place(path: str, says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        gathered(path)
    assert says in str(refused.value) and "\n" not in str(refused.value)


# -- weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.3, 0.999, 1, 1.5, 3])
def test_a_weight_repeats_or_thins_training_rows_alone(weight: float) -> None:
    plain = gathered(f"[a.jsonl, {{path: b.jsonl, {NAMED}}}]")
    made = gathered(f"[a.jsonl, {{path: b.jsonl, weight: {weight}, {NAMED}}}]")
    assert held_out(made) == held_out(plain)
    of_b = {d.id for d in plain.splits.train if d.source and d.source.file == "b.jsonl"}
    passes = Counter({d.id: made.splits.times.get(d.id, 1) for d in made.splits.train})
    assert all(passes[d.id] == 1 for d in made.splits.train if d.id not in of_b)
    counts = {passes[one] for one in of_b}
    assert counts <= {int(weight), int(weight) + 1} and (len(counts) == 2) == (weight in (0.3, 1.5))
    assert abs(sum(passes[one] for one in of_b) / len(of_b) - weight) < 0.15
    fates = made.ledger.fates
    assert fates.get("thinned", 0) == len(plain.splits.train) - len(made.splits.train) == fates_of(passes, of_b, 0)
    assert fates.get("repeated", 0) == sum(count - 1 for count in passes.values())
    assert made.ledger.total == sum(fates.values()) == 400 + fates.get("repeated", 0)


def fates_of(passes: Counter[str], rows: set[str], count: int) -> int:
    return sum(passes[one] == count for one in rows)


def test_what_a_weight_chose_it_chooses_again() -> None:
    """In another order, beside more rows, and under a larger weight."""
    kept = {d.id for d in gathered("[{path: a.jsonl, weight: 0.4}]").splits.train}
    write("a.jsonl", [row(n) for n in (*range(199, -1, -1), *range(600, 700))])
    more = gathered("[{path: a.jsonl, weight: 0.4}]").splits.train
    assert kept < {d.id for d in more}
    assert kept < {d.id for d in gathered("[{path: a.jsonl, weight: 0.7}]").splits.train}
    times = gathered("[{path: a.jsonl, weight: 2.4}]").splits.times
    assert kept <= {one for one, count in times.items() if count == 3}


def test_the_turns_of_a_dialogue_stay_together() -> None:
    def talk(number: int) -> list[dict[str, str]]:
        said = [(f"{row(number)['prompt']}", "u"), ("yes?", "a"), (f"and {number}?", "u"), (f"no {number}", "a")]
        return [{"role": "user" if who == "u" else "assistant", "content": text} for text, who in said]

    write("talks.jsonl", [{"messages": talk(n)} for n in range(100)])
    train = gathered("[{path: talks.jsonl, weight: 0.5}]").splits.train
    lines = Counter(d.source.line for d in train if d.source)
    assert set(lines.values()) == {2} and 15 < len(lines) < 60


def test_a_run_keeps_what_it_learns_and_how_often(tmp_path: Path) -> None:
    weighed = resolved(
        f"[a.jsonl, {{path: b.jsonl, weight: 2.5, {NAMED}}}]", "replay: {path: general.jsonl, share: 0.1}"
    )
    run = prepare(weighed, tmp_path / "run")
    run.close()
    made, stored = gather(weighed.recipe).splits, load_splits(Run.open(tmp_path / "run"))
    assert (stored.times, stored.replay) == (made.times, made.replay) and stored.parts == made.parts
    assert len(made.replay) == round((len(made.train) + sum(made.times.values()) - len(made.times)) / 9)
    with prepare(weighed, tmp_path / "run", resume=True):
        pass
    general = Path("general.jsonl").read_bytes()
    write("general.jsonl", [row(n) for n in range(6000, 6200)])
    with pytest.raises(RunError, match=r"was started with another split\.hash"):
        prepare(weighed, tmp_path / "run", resume=True)
    Path("general.jsonl").write_bytes(general)
    path = tmp_path / "run" / "replay.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("answer 50", "answer 70", 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"replay\.jsonl: was altered after it was written; restore it from a copy"):
        load_splits(Run.open(tmp_path / "run"))


# -- replay -----------------------------------------------------------------------------------------------------


def test_general_rows_are_learned_and_nothing_else() -> None:
    plain = gathered("a.jsonl")
    made = gathered("a.jsonl", "replay: {path: general.jsonl, share: 0.25}")
    assert made.splits.parts == plain.splits.parts
    assert len(made.splits.replay) == round(len(plain.splits.train) / 3)
    fates = made.ledger.fates
    assert fates["replayed"] == len(made.splits.replay) and fates["spare"] == 200 - fates["replayed"]
    assert made.ledger.rows == 400 == sum(fates.values())


def test_general_rows_that_give_held_out_prompts_away_are_left_out() -> None:
    """Whatever the recipe lets leak among the demonstrations: there are others to take."""
    test = gathered("a.jsonl").splits.test
    asked = [d.prompt[-1].content for d in test]
    leaking = [{"prompt": text, "completion": "seen"} for text in asked]
    leaking += [{"prompt": f"{text} please", "completion": "seen"} for text in asked]
    write("general.jsonl", [*leaking, *(row(n) for n in range(5000, 5200))])
    made = gathered("a.jsonl", "replay: {path: general.jsonl, share: 0.5}")
    assert all(d.completion != "seen" for d in made.splits.replay)
    assert 0 < made.ledger.fates["leaked"] <= len(leaking)


def test_plain_text_is_general_too_and_is_looked_through() -> None:
    test = gathered("a.jsonl").splits.test
    draw = random.Random(0)
    pages = [" ".join(draw.choices(["rain", "stone", "lamp", "north", "cup", "river"], k=60)) for _ in range(100)]
    pages[:10] = [f"{page} {test[0].prompt[-1].content} {page}" for page in pages[:10]]
    write("pages.jsonl", [{"text": page} for page in pages])
    made = gathered("a.jsonl", "replay: {path: pages.jsonl, share: 0.4}")
    assert all(isinstance(d, PlainText) for d in made.splits.replay) and made.splits.replay
    assert not any(test[0].prompt[-1].content in d.completion for d in made.splits.replay)


def test_too_few_general_rows_are_refused_with_a_share_that_works(capsys: Captured) -> None:
    write("general.jsonl", [row(n) for n in range(5000, 5010)])
    with pytest.raises(SplitError) as refused:
        gathered("a.jsonl", "replay: {path: general.jsonl, share: 0.5}")
    said = str(refused.value)
    assert "demonstrations.replay.share: 0.5 asks for" in said and "general.jsonl has 10; write 0." in said
    share = said.split("; write ")[1].split(" or less")[0]
    assert 0 < len(gathered("a.jsonl", f"replay: {{path: general.jsonl, share: {share}}}").splits.replay) <= 10
    Path("r.yaml").write_text(
        "model: {name: base}\ndemonstrations:\n  path: a.jsonl\n  replay: {path: general.jsonl, share: 0.5}\n", "utf-8"
    )
    assert main(["check", "r.yaml"]) == 2 and "asks for" in capsys.readouterr().err


def test_a_bad_general_row_is_said_with_its_line(capsys: Captured) -> None:
    write("general.jsonl", [{"prompt": "a", "completion": " "}, *(row(n) for n in range(5000, 5100))])
    with pytest.raises(DemonstrationsError, match=r"general\.jsonl:1: 'completion' is blank"):
        gathered("a.jsonl", "replay: {path: general.jsonl, share: 0.1}")
    Path("r.yaml").write_text(
        "model: {name: base}\ndemonstrations:\n  path: a.jsonl\n  replay: {path: general.jsonl, share: 0.1}\n", "utf-8"
    )
    assert main(["check", "r.yaml"]) == 2 and "general.jsonl:1: 'completion' is blank" in capsys.readouterr().err
    assert main(["check", "r.yaml", "--keep-going"]) == 0
    assert "replay" in (said := capsys.readouterr().out) and "general rows of 101" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("replay: general.jsonl", "'demonstrations.replay' is \"general.jsonl\" but must be a mapping of keys"),
        ("replay: {path: general.jsonl}", "'demonstrations.replay.share' is missing"),
        ("replay: {path: general.jsonl, share: 20}",
         "'demonstrations.replay.share' is 20 but must be a number above 0 and below 1; write 0.2 for 20 %"),
        ("replay: {path: a.jsonl, share: 0.2}", "is a file of the demonstrations too, whose rows are held out in part"),
        ("share: 0.2", "'demonstrations.share' is not a key of demonstrations; write it under demonstrations.replay:"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_replay_is_said(line: str, says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        gathered("a.jsonl", line)
    assert says in str(refused.value)


# -- a share beside a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "share"), [("test", "validation"), ("validation", "test")])
def test_a_share_may_stand_beside_a_file(file: str, share: str) -> None:
    write("apart.jsonl", [row(n) for n in range(700, 740)])
    made = gathered("a.jsonl", split=f"{{{file}: apart.jsonl, {share}: 0.2, seed: 1}}")
    assert sizes(made)[file] == 40 and 20 < sizes(made)[share] < 60
    assert sum(sizes(made).values()) == 240 == sum(made.ledger.fates.values())
    again = gathered("a.jsonl", split=f"{{{file}: apart.jsonl, {share}: 0.2, seed: 2}}")
    assert {d.id for d in again.splits.parts[share]} != {d.id for d in made.splits.parts[share]}


def test_a_validation_row_that_gives_the_test_file_away_is_a_leak() -> None:
    write("apart.jsonl", [row(n, completion="again") for n in range(190, 230)])
    with pytest.raises(SplitError, match="10 demonstrations would give held-out prompts away"):
        gathered("a.jsonl", split="{test: apart.jsonl, validation: 0.5}")
    made = gathered("a.jsonl", split="{test: apart.jsonl, validation: 0.5, near_duplicates: remove}")
    assert made.ledger.fates["leaked"] == 10 and sizes(made)["test"] == 40
