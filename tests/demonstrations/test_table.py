"""Large files: demonstrations on disk are those in memory to the last field, and answer alike whatever is asked."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import strategies
from hypothesis import strategies as st
from selection_rows import recipe, row, write

from sft.cli import main
from sft.demonstrations import check, columns, conflicts, few_groups, readings, selection, splits
from sft.demonstrations.both_sides import OnBothSides
from sft.demonstrations.demonstration import Call, Demonstration, Message, Origin, Source, written_calls
from sft.demonstrations.table import DemonstrationTable
from sft.demonstrations.template_marks import TemplateMarks
from sft.errors import SourceError

CALL = Call("weather", '{"city": "Oslo"}')
#: Of every kind that a row can be, in few words, so that prompts, groups and contents are often the same.
KINDS = st.builds(
    lambda d, thought, origin, calls: Demonstration(
        d.prompt,
        written_calls(d.completion, (CALL,)) if calls else d.completion,
        group=d.group,
        expert=d.expert,
        source=d.source,
        references=d.references,
        thought=thought,
        calls=(CALL,) if calls else (),
        origin=origin,
    ),
    strategies.demonstrations(strategies.few_texts, turns=2),
    st.sampled_from(["", "", "so it is"]),
    st.sampled_from([None, None, Origin("i1", 1, "edited"), Origin("i2", 0, "blind")]),
    st.sampled_from([False, False, True]),
)


def addresses(demonstrations: Sequence[Demonstration]) -> list[Any]:
    return [(d.to_dict(), d.key) for d in demonstrations]


@hypothesis.given(st.lists(KINDS, max_size=12))
@hypothesis.settings(max_examples=40)
def test_what_is_put_into_a_table_comes_out_of_it(made: list[Demonstration]) -> None:
    table = DemonstrationTable.of(made)
    assert addresses(table) == addresses(made)
    assert addresses(table[1:7:2]) == addresses(made[1:7:2])
    assert [table[place].to_dict() for place in range(-len(made), len(made))] == [d.to_dict() for d in made * 2]
    said = [[(list(one), list(other), text) for one, other, text in columns.said(each)] for each in (table, made)]
    assert said[0] == said[1]
    for function in (columns.group_names, columns.keys_and_groups, columns.completions):
        assert list(function(table)) == list(function(made))
    assert list(columns.PromptTexts(table)) == list(columns.PromptTexts(made))
    for flag in (columns.THOUGHT, columns.THINKS, columns.DRAFTED):
        assert columns.flagged(table, flag).tolist() == columns.flagged(made, flag).tolist()
    assert columns.ends_row(table).tolist() == columns.ends_row(made).tolist()
    for column in ("key", "group", "content"):
        one, other = (columns.labels(each, column) for each in (table, made))  # type: ignore[arg-type]
        assert (one[:, None] == one).tolist() == (other[:, None] == other).tolist()


@hypothesis.given(st.lists(KINDS, min_size=1, max_size=14), st.integers(0, 3))
@hypothesis.settings(max_examples=60)
def test_whatever_is_asked_of_a_table_is_what_a_list_answers(made: list[Demonstration], seed: int) -> None:
    table = DemonstrationTable.of(made)
    one, other = splits.together(table), splits.together(made)
    assert addresses(one) == addresses(other)
    for mine, theirs in zip(splits.deduplicate(one), splits.deduplicate(other), strict=True):
        assert addresses(mine) == addresses(theirs)
    kept, same = conflicts.majority(one), conflicts.majority(other)
    assert (addresses(kept.kept), addresses(kept.outvoted)) == (addresses(same.kept), addresses(same.outvoted))
    assert conflicts.conflicting(one) == conflicts.conflicting(other)
    assert conflicts.SeveralAnswers.among(one) == conflicts.SeveralAnswers.among(other)
    assert TemplateMarks.among(one) == TemplateMarks.among(other)
    assert few_groups.cause(one) == few_groups.cause(other)
    assert few_groups.joined(one) == few_groups.joined(other)
    some = {d.key for d in made[::2]}
    assert addresses(columns.with_keys(one, some)) == addresses(columns.with_keys(other, some))
    sides = np.array([(seed + place) % 3 for place in range(len(made))])
    parts, lists = (
        {name: columns.picked(each, sides == number) for number, name in enumerate(splits.NAMES)}
        for each in (one, other)
    )
    leaks, again = splits.find_leaks(parts), splits.find_leaks(lists)
    assert [str(leak) for leak in leaks] == [str(leak) for leak in again]
    assert OnBothSides.among(parts) == OnBothSides.among(lists)
    (mine, gone), (theirs, left) = splits.without_leaks(parts, leaks), splits.without_leaks(lists, again)
    assert gone == left
    assert {name: addresses(part) for name, part in mine.items()} == {n: addresses(p) for n, p in theirs.items()}


def dialogue(number: int, turns: int) -> dict[str, Any]:
    said = [{"role": "user", "content": row(10**6 + number)["prompt"]}]
    for turn in range(turns):
        asked = row(10**7 + 10 * number + turn)["prompt"]
        said += [{"role": "assistant", "content": f"well, {turn} it is"}, {"role": "user", "content": asked}]
    return {"messages": said[:-1]}


def many_rows(count: int) -> list[dict[str, Any]]:
    """Rows of every kind: repeated, contradicted, nearly repeated, of named experts and groups."""
    draw, made = random.Random(0), []
    for number in range(count):
        one = row(number, expert=draw.choice(["ann", "bob"]), group=f"g{number // 2}")
        kind = draw.random()
        if number and kind < 0.1:
            one = dict(made[-1], group=f"g{number}")
        elif number and kind < 0.2:
            one = dict(made[-1], completion=f"another {number}", expert="cid")
        elif number and kind < 0.3:
            one = dict(made[-1], prompt=f"{made[-1]['prompt']} please", group=f"h{number}")
        made.append(one)
    return made


def as_tables(found: readings.Readings) -> readings.Readings:
    tables = [replace(each, demonstrations=DemonstrationTable.of(each.demonstrations)) for each in found.training]
    return readings.Readings(tables, {})


@pytest.mark.parametrize(
    "section",
    [{}, {"conflicts": "majority"}, {"expert": "ann"}, {"limit": 150, "duplicates": "keep"}],
    ids=["all", "majority", "one expert", "some"],
)
def test_a_large_file_is_checked_and_divided_as_a_small_one(tmp_path: Path, section: dict[str, Any]) -> None:
    """The same file, its demonstrations as objects and as a table: every figure of the audit, and every split."""
    path = write(tmp_path / "x.jsonl", many_rows(400))
    asked = recipe(path, split={"near_duplicates": "remove"}, **section)
    small = readings.read(asked)
    large = as_tables(small)
    found = []
    for each in (small, large):
        decided, settled = each.settled(asked)
        division = selection.divide(decided, settled)
        parts, gone = splits.without_leaks(division.parts, division.leaks)
        audit = check.audit(str(path), settled.demonstrations, parts=parts, leaks=division.leaks, recipe=decided)
        counts = (division.filtered, division.duplicates, division.outvoted, division.tied, gone)
        found.append((audit.to_text(), json.dumps(audit.to_dict(), default=repr), counts, addresses(parts["train"])))
    assert found[0] == found[1]
    tables = [isinstance(each.training[0].demonstrations, DemonstrationTable) for each in (small, large)]
    assert tables == [False, True]


def test_thoughts_are_settled_in_a_table_too(tmp_path: Path) -> None:
    rows = [row(n, completion=f"<think>so {n}</think>it is {n}") for n in range(30)]
    asked = recipe(write(tmp_path / "x.jsonl", rows), thoughts="context")
    small = readings.read(asked)
    large = as_tables(small)
    for mode in ("keep", "off", "context"):
        asked = recipe(tmp_path / "x.jsonl", thoughts=mode)
        (one,), (other,) = (each.settled(asked)[1].training for each in (small, large))
        assert addresses(one.demonstrations) == addresses(other.demonstrations)


def test_sft_check_of_a_file_that_stays_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand rows and more: what was planted is found, dialogues among it, and the scratch file is gone."""
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    plain = [row(n) for n in range(readings.IN_MEMORY)]
    plain += [plain[7]] * 5 + [dict(plain[9], completion="another")] * 2
    files = [write(tmp_path / "a.jsonl", plain), write(tmp_path / "b.jsonl", [dialogue(n, 3) for n in range(40)])]
    assert main(["check", *map(str, files), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["demonstrations"], found["unrolled"]) == (len(plain) + 40, len(plain) + 120, 80)
    assert (found["duplicates"], found["prompts"], found["groups"]) == (6, len(plain) - 7 + 120, len(plain) - 7 + 40)
    assert found["several"]["others"] == 1
    assert sum(found["splits"].values()) == found["demonstrations"] - 6
    assert list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_a_scratch_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    made = [Demonstration((Message("user", f"{n}: {'x' * 20_000}"),), "y", source=Source("x", n)) for n in range(60)]
    with pytest.raises(
        SourceError, match=r"large file cannot be kept here .*; free some space, or name another folder"
    ):
        DemonstrationTable.of(made, tmp_path / "nowhere")
