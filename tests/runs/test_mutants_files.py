"""Reading and writing at the edges: many files one after the other, and rows cut at every place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sft.demonstrations import formats
from sft.errors import RunError, SourceError
from sft.runs.atomic_files import write_json
from sft.runs.hashes import weights_hash

#: Writes one file 200 times over, where a process may hold 64 open.
MANY = """
import resource, sys
from pathlib import Path
from sft.runs.atomic_files import read_json, write_json
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


def test_the_hash_of_weights_is_of_every_byte_and_name_and_of_nothing_else(tmp_path: Path) -> None:
    """Of the safetensors files where there are any; of the ``.bin`` files else."""
    found = {}
    for case, held in {
        "whole": {"a.safetensors": b"one", "b.safetensors": b"two"},
        "beside others": {"a.safetensors": b"one", "b.safetensors": b"two", "README.md": b"{}", "a.bin": b"pickle"},
        "another configuration": {"a.safetensors": b"one", "b.safetensors": b"two", "adapter_config.json": b"{}"},
        "other bytes": {"a.safetensors": b"one", "b.safetensors": b"twp"},
        "other names": {"a.safetensors": b"one", "c.safetensors": b"two"},
        "a part": {"a.safetensors": b"one"},
        "pickles": {"a.bin": b"one"},
        "other pickles": {"a.bin": b"two"},
    }.items():
        folder = tmp_path / case
        folder.mkdir()
        for name, content in held.items():
            (folder / name).write_bytes(content)
        found[case] = weights_hash(folder)
    assert found.pop("beside others") == found["whole"]
    assert len(set(found.values())) == len(found)
    assert {len(value.removeprefix("v2:")) for value in found.values()} == {32}


def test_a_file_that_cannot_be_read_is_not_said_to_be_written(tmp_path: Path) -> None:
    """Each with the system's own word for it, and what to look at."""
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(RunError, match=r"a\.safetensors cannot be read: a folder stands there"):
        weights_hash(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot be written: a folder stands there, or a file where a folder should"):
        write_json(tmp_path / "file" / "x.json", {})
    with pytest.raises(RunError, match=r"cannot be written: it is not there; check the folder's name"):
        write_json(tmp_path / "nowhere" / "x.json", {})


@pytest.mark.parametrize("end", ["", " ", "\n\n"])
def test_an_array_cut_inside_a_row_says_which_row_whatever_white_space_follows(tmp_path: Path, end: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('[\n{"prompt": "p", "completion": "c"},\n{"prompt":' + end, encoding="utf-8")
    with pytest.raises(SourceError, match=r"x\.json:3: row 2 of the array is cut short"):
        formats.read(path)


def test_an_array_with_a_row_nested_too_deep_ends_there(tmp_path: Path) -> None:
    """Nobody knows where such a row ends, so what follows is not read as if it were the next one."""
    path = tmp_path / "x.json"
    deep = "[" * 100_000 + "]" * 100_000
    path.write_text(f'[{{"prompt": "p", "completion": {deep}}},\n{{"prompt": "q", "completion": "c"}}]', "utf-8")
    with pytest.raises(SourceError, match=r"row 1 of the array is nested too deep .*nothing after it can be read"):
        formats.read(path)
