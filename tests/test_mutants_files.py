"""Reading and writing at the edges: many files one after the other, and rows cut at every place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sft import formats

#: Writes one file 200 times over, where a process may hold 64 open.
MANY = """
import resource, sys
from pathlib import Path
from sft.files import read_json, write_json
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for number in range(200):
    write_json(Path(sys.argv[1]), {"number": number})
print(read_json(Path(sys.argv[1])))
"""


def test_a_thousand_writes_leave_nothing_open(tmp_path: Path) -> None:
    """The folder is synced after each write; whatever that opens and does not close ends a long fit."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "x.json")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "{'number': 199}\n"), done.stderr


ROW = {"prompt": "a", "completion": 'say "b"', "weights": [1, {"x": None}]}


@pytest.mark.parametrize("end", ["", "   ", "\t"])
def test_a_row_cut_at_any_place_is_called_cut_short_or_no_json_with_the_place(tmp_path: Path, end: str) -> None:
    """Cut inside a text, after a value, a comma or a colon: cut short. Inside ``null``: the word is no JSON."""
    whole = json.dumps(ROW)
    word = whole.index("null")
    for length in range(1, len(whole)):
        cut = whole[:length].rstrip()
        path = tmp_path / "cut.jsonl"
        path.write_text(f'{{"prompt": "p", "completion": "c"}}\n{cut}{end}\n', encoding="utf-8")
        (problem,) = formats.read(path).problems
        assert problem.line == 2
        if word < length < word + 4:
            assert f"is not JSON (Expecting value at character {word + 1})" in str(problem)
        else:
            assert f"is cut short (the JSON ends at character {len(cut)})" in str(problem), cut


def test_a_mistake_inside_a_row_is_not_called_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "p", "completion": "c"}\n{"prompt": "p" "completion": "c"}\n', encoding="utf-8")
    (problem,) = formats.read(path).problems
    assert "is not JSON" in str(problem) and "at character 16" in str(problem)
