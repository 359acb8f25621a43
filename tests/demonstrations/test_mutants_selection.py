"""The ledger of what was gathered: every file counts, dialogues give more rows, and what nobody met is not listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selection_rows import recipe, row, sizes, write

from sft.demonstrations.selection import gather
from sft.errors import DemonstrationsError


def dialogue(number: int) -> dict[str, Any]:
    """Two answers of the expert: two demonstrations in one row."""
    said = [row(2 * number)["prompt"], "first answer", row(2 * number + 1)["prompt"], "second answer"]
    return {"messages": [{"role": r, "content": c} for r, c in zip(("user", "assistant") * 2, said, strict=True)]}


def test_dialogues_of_every_file_are_in_the_ledger(tmp_path: Path) -> None:
    """Of ready-made validation and test files too; what nothing happened to is not listed."""
    train = write(tmp_path / "train.jsonl", [dialogue(n) for n in range(10)])
    validation = write(tmp_path / "validation.jsonl", [dialogue(n) for n in range(10, 14)])
    test = write(tmp_path / "test.jsonl", [dialogue(n) for n in range(20, 23)])
    made = gather(recipe(train, {"validation": str(validation), "test": str(test)}))
    assert (made.ledger.rows, made.ledger.unrolled) == (17, 17)
    assert made.ledger.fates == {"trained": 20, "validation": 8, "test": 6}
    assert sizes(made) == {"train": 20, "validation": 8, "test": 6}


def test_what_is_wrong_is_counted_over_all_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [*(row(n) for n in range(9)), {"prompt": 3}])
    validation = write(tmp_path / "validation.jsonl", [row(20), row(21, completion=" ")])
    test = write(tmp_path / "test.jsonl", [row(30), row(31), {}])
    wanted = recipe(train, {"validation": str(validation), "test": str(test)})
    with pytest.raises(DemonstrationsError) as refused:
        gather(wanted)
    assert "3 of 15 rows cannot become demonstrations" in refused.value.summary
    wrong = dict.fromkeys(problem.path for problem in refused.value.problems)
    assert list(wrong) == [str(train), str(validation), str(test)]
    made = gather(wanted, keep_going=True)
    assert made.ledger.fates == {"invalid": 3, "trained": 9, "validation": 1, "test": 2} and len(made.rejected) == 3


def test_what_leaks_is_counted_once_and_is_no_longer_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [row(n) for n in range(9)])
    validation = write(tmp_path / "validation.jsonl", [row(1), row(20)])
    test = write(tmp_path / "test.jsonl", [row(1), row(2), row(30)])
    made = gather(recipe(train, {"validation": str(validation), "test": str(test), "near_duplicates": "remove"}))
    assert made.ledger.fates == {"leaked": 3, "trained": 7, "validation": 1, "test": 3}
    assert len(made.leaks) == 3
