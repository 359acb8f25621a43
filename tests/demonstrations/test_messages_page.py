"""``docs/messages.md`` is a program: every file in it goes to ``sft check``, and what stands under it comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from repository import ROOT

from sft.cli import main

PAGE = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
#: (the file, what stands under it)
FILES = re.findall(r"```jsonl\n(.*?)```\n(.*?)\n", PAGE, re.DOTALL)
Captured = pytest.CaptureFixture[str]


def test_every_block_says_what_comes_of_it() -> None:
    assert len(FILES) == PAGE.count("```jsonl") > 9
    assert all(re.match(r"Demonstrations: \d+\.|Refused: `.+`$", under) for _, under in FILES)


@pytest.mark.parametrize(("rows", "under"), FILES, ids=range(len(FILES)))
def test_what_the_page_says_of_a_file_comes_of_it(tmp_path: Path, capsys: Captured, rows: str, under: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(rows, encoding="utf-8")
    assert main(["check", str(path), "--json"]) == 2  # one row is too few to hold any out
    out, err = capsys.readouterr()
    found = json.loads(out)
    if refused := re.fullmatch(r"Refused: `(.+)`", under):
        assert found["demonstrations"] == 0 and f":1: {refused[1]}\n" in err
        return
    assert f"Demonstrations: {found['demonstrations']}." in under
    assert [note for note in found["notes"] if note not in under] == []
    assert ("Thoughts: " in under) == bool(found["thinking"]) and str(found["thinking"]) in (
        under if found["thinking"] else "0"
    )


def test_the_recipe_of_the_page_is_one(tmp_path: Path, capsys: Captured) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    rows = [
        {"messages": [{"role": "customer", "content": f"Tide {n}?"}, {"role": "customer", "content": "Quickly."},
                      {"role": "agent", "content": f"At {n}."}]}
        for n in range(60)
    ]  # fmt: skip
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = block.replace("model:\n", "model:\n  name: owner/model\n").replace(
        "demonstrations:\n", f"demonstrations:\n  path: {tmp_path / 'd.jsonl'}\n"
    )
    (tmp_path / "r.yaml").write_text(f"{recipe}split: {{near_duplicates: remove}}\n", encoding="utf-8")
    assert main(["check", str(tmp_path / "r.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["demonstrations"] == 60
