"""Where demonstrations come from: packed files, folders, patterns, standard input, lists; no row gets lost."""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from repository import ROOT
from selection_rows import row, write

from sft.cli import main
from sft.demonstrations.formats import read, read_source
from sft.errors import SourceError
from sft.recipes import Columns


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What ``sft check --json`` says, whatever it thinks of it."""
    main(["check", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def zstd(path: Path, data: bytes) -> None:
    with pyarrow.output_stream(str(path), compression="zstd") as file:
        file.write(data)


ROWS = "".join(json.dumps(row(n)) + "\n" for n in range(60)).encode()


# -- packed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".zst"])
def test_a_packed_file_is_read_as_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], packed: str
) -> None:
    path = tmp_path / f"x.jsonl{packed}"
    write_packed = {
        ".gz": lambda p, d: p.write_bytes(gzip.compress(d)),
        ".bz2": lambda p, d: p.write_bytes(bz2.compress(d)),
        ".zst": zstd,
    }
    write_packed[packed](path, ROWS)
    found = checked(capsys, str(path))
    assert (found["rows"], found["demonstrations"]) == (60, 60)
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], b"nothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"x\.jsonl\.\w+: cannot be unpacked") as refusal:
            read(path)
        assert "\n" not in str(refusal.value)


def test_packed_tables_and_files_of_several_members(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"prompt,completion\na,b\n") + gzip.compress(b'c,"d\n'))
    reading = read(path)
    assert (len(reading.demonstrations), [each.row for each in reading.rejected]) == (1, ['c,"d'])


# -- folders and patterns -----------------------------------------------------------------------------------------


def test_a_folder_is_all_that_can_be_read_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shards"
    (folder / "b").mkdir(parents=True)
    (folder / "_temporary").mkdir()
    write(folder / "a.jsonl", [row(n) for n in range(30)])
    parquet.write_table(pyarrow.Table.from_pylist([row(n) for n in range(30, 60)]), folder / "b" / "part-0.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([row(0)])[:0], folder / "b" / "part-1.parquet")
    for name in ("_SUCCESS", ".part-0.crc", "_temporary/x.jsonl", "README.md"):
        (folder / name).write_text("nothing to read")
    found = checked(capsys, str(folder))
    assert (found["rows"], found["demonstrations"]) == (60, 60)
    assert found["notes"] == [
        f"{folder}: 1 other file is not read (README.md).",
        f"{folder}: 1 of 3 files are empty ({folder}/b/part-1.parquet).",
    ]
    addresses = {d.source.file for d in read_source(str(folder)).demonstrations if d.source}
    assert addresses == {f"{folder}/a.jsonl", f"{folder}/b/part-0.parquet"}
    for empty in (tmp_path / "none", folder / "_temporary"):
        empty.mkdir(exist_ok=True)
    with pytest.raises(SourceError, match="no file in this folder ends in one of"):
        read_source(str(tmp_path / "none"))


def test_a_pattern_is_all_that_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    for number, name in enumerate(("a.jsonl", "b.jsonl", "deep/c.jsonl")):
        write(tmp_path / name, [row(n) for n in range(number * 20, number * 20 + 20)])
    monkeypatch.chdir(tmp_path)
    for pattern, rows in (("*.jsonl", 40), ("**/*.jsonl", 60), (f"{tmp_path}/[ab].jsonl", 40), ("deep/?.jsonl", 20)):
        assert checked(capsys, pattern)["rows"] == rows
    assert main(["check", "*.csv"]) == 2
    assert "*.csv: no file fits this pattern; it is looked for from" in capsys.readouterr().err
    write(tmp_path / "odd[1].jsonl", [row(1)])  # a file of that very name is no pattern
    assert len(read_source("odd[1].jsonl").demonstrations) == 1


def test_several_files_are_checked_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(write(tmp_path / f"{n}.jsonl", [row(each) for each in range(n, n + 40)])) for n in (0, 30)]
    found = checked(capsys, *files)
    assert (found["rows"], found["duplicates"], found["path"]) == (80, 10, ", ".join(files))
    assert main(["check", files[0], files[0]]) == 2
    assert f"{files[0]}: is named twice" in capsys.readouterr().err
    assert main(["check", files[0], "demo"]) == 2
    assert "demo: is a recipe; check it by itself" in capsys.readouterr().err


# -- standard input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        b"\xef\xbb\xbf" + ROWS,
        json.dumps([row(n) for n in range(60)]).encode(),
        json.dumps([row(n) for n in range(60)], indent=1).encode(),
        b"prompt,completion\n" + b"".join(f"{n}: what?,that {n}\n".encode() for n in range(60)),
        b"prompt\tcompletion\n" + b"".join(f"{n}: what?\tthat {n}\n".encode() for n in range(60)),
    ],
    ids=["lines", "marked", "array", "spread", "csv", "tsv"],
)
def test_standard_input_is_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    piped(monkeypatch, data)
    found = checked(capsys, "-")
    assert (found["rows"], found["demonstrations"], found["path"]) == (60, 60, "standard input")


def test_complaints_about_standard_input_name_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, ROWS + b'{"prompt": "a"}\n')
    assert main(["check", "-", "--rejected", str(tmp_path / "rejected.jsonl")]) == 2
    assert "standard input:61: 'completion' is missing" in capsys.readouterr().err
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["file"] == "standard input"
    for data, says in (
        (b"", "is empty"),
        (gzip.compress(ROWS), "standard input: is packed (.gz); unpack it on the way"),
    ):
        piped(monkeypatch, data)
        assert main(["check", "-"]) == 2
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


def test_completions_come_on_standard_input_or_in_a_folder_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{n}: what?", "completion": f"that {n}", "reference": f"that, {n}"} for n in range(40)]
    data = "".join(json.dumps(each) + "\n" for each in rows)
    folder = tmp_path / "written"
    folder.mkdir()
    write(folder / "a.jsonl", rows[:20])
    write(folder / "b.jsonl", rows[20:])
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(data.encode()))
    found = []
    for words in ([str(folder)], [str(tmp_path / "x.jsonl.gz")], [f"{folder}/*.jsonl"], ["-"]):
        piped(monkeypatch, data.encode())
        assert main(["score", *words, "--fast", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["headline"])
    assert all(each == found[0] for each in found)
    piped(monkeypatch, (data + '{"prompt": "a"}\n').encode())
    assert main(["score", "-"]) == 2
    assert "standard input:41: 'completion' is missing" in capsys.readouterr().err
    write(folder / "c.jsonl", [{"prompt": "odd", "completion": "x"}])
    assert main(["score", str(folder)]) == 2
    assert f"{folder}/c.jsonl:1: 'reference' is missing in every row of this prompt" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["spark_shards.py", "ray_shards.py"])
def test_a_job_of_the_docs_writes_columns_that_are_read_as_they_are(job: str) -> None:
    """They were run by hand (docs/larger.md); neither engine is here, so what they name is held to what is read."""
    tree = ast.parse((ROOT / "docs" / job).read_text(encoding="utf-8"))
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "COLUMNS"
    ]
    assert {"prompt", "completion"} <= names.keys() <= Columns.model_fields.keys()


# -- names that are no files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "   ", "hub:mine.jsonl", "hub:", "data:", "wheel:x"])
def test_a_name_that_can_be_none_is_one_sentence(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A variable of the shell that was not set, and an address without its owner, ended in a traceback."""
    with suppress(SystemExit):
        assert main(["check", name]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("sft") and len(said) < 200 and "Traceback" not in said, said


@pytest.mark.parametrize("words", [["score", ""], ["report", ""], ["run", "x.yaml", "--output", ""], ["import", ""]])
def test_an_empty_word_is_not_the_folder_that_one_is_in(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "is empty; is a variable of the shell not set?" in capsys.readouterr().err


def test_an_option_may_be_empty_that_names_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "x.jsonl").write_bytes(ROWS)
    assert main(["check", str(path), "--encoding", ""]) == 0, capsys.readouterr().err


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Whoever read its beginning waited for ever for a second one."""
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(SourceError, match="is a pipe or a device, whose bytes come once; write them into a file"):
        read(tmp_path / "x.jsonl")


def test_what_is_packed_twice_is_to_be_unpacked_once(tmp_path: Path) -> None:
    """Its name already ended in what it was told to end in."""
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.compress(ROWS)))
    with pytest.raises(SourceError, match="is packed with gzip once more within; unpack it once"):
        read(path)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert len(read(path).demonstrations) == 60


def test_links_of_a_folder_are_accounted_for(tmp_path: Path) -> None:
    """A shard that was not fetched, and a folder of shards elsewhere, were left out without a word."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.jsonl").write_bytes(ROWS)
    (tmp_path / "x" / "more").symlink_to(tmp_path / "elsewhere")
    (found,) = read_source(str(tmp_path / "x")).notes
    assert "links to folders are not followed (more); name the folders beside this one" in found
    (tmp_path / "x" / "b.jsonl").symlink_to("nowhere")
    with pytest.raises(
        SourceError, match=r"b\.jsonl: is a link to a file that is not there; fetch the file, or remove"
    ):
        read_source(str(tmp_path / "x"))
    (tmp_path / "x" / "b.jsonl").unlink()
    assert len(read_source(str(tmp_path / "x")).demonstrations) == 60
