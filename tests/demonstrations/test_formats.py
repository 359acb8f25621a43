"""Every row of a file becomes demonstrations or a complaint with its line; none disappears."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import nonsense, texts

from sft.cli import main
from sft.demonstrations.demonstration import Message, prompt_key
from sft.demonstrations.file_rows import Broken, _Json
from sft.demonstrations.formats import Reading, joined, read, write_rejected
from sft.demonstrations.naming import named
from sft.demonstrations.row_fields import RowReader
from sft.errors import DemonstrationsError, Problem, SourceError

GOOD = {"prompt": "What is it?", "completion": "A cat."}
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


def lines(path: Path, *rows: Any) -> Path:
    """Rows as JSON Lines; a ``str`` is written as it stands."""
    written = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(f"{row}\n" for row in written).encode("utf-8", "surrogatepass"))
    return path


def pairs(reading: Reading) -> list[tuple[str, str]]:
    return [(d.prompt[-1].content, d.completion) for d in reading.demonstrations]


def complaints(path: Path, **options: Any) -> list[str]:
    return [str(problem).removeprefix(str(path)) for problem in read(path, **options).problems]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(path))


# -- layouts ----------------------------------------------------------------------------------------------


def test_prompt_and_completion_as_text(tmp_path: Path) -> None:
    row = GOOD | {"system": "Be brief.", "expert": 7, "group": 3.0, "references": ["A dog.", "A cow."], "score": 1}
    reading = read(lines(tmp_path / "x.jsonl", row, GOOD | {"system": "", "expert": None, "references": []}))
    first, second = reading.demonstrations
    assert first.prompt == (Message("system", "Be brief."), Message("user", "What is it?"))
    assert (first.expert, first.group, first.references) == ("7", "3", ("A dog.", "A cow."))
    assert second.prompt == (Message("user", "What is it?"),) and second.group == second.key
    assert (first.source and first.source.line, second.source and second.source.line) == (1, 2)
    assert (reading.format, reading.ignored, reading.problems) == ("prompt_completion", ("score",), ())


def test_prompt_and_completion_as_messages(tmp_path: Path) -> None:
    prompt = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Who?"},
    ]
    completion = [{"role": "assistant", "content": "Me."}]
    path = lines(tmp_path / "x.jsonl", {"prompt": prompt, "completion": completion, "system": "Sys"})
    (demonstration,) = read(path).demonstrations
    assert [m.role for m in demonstration.prompt] == ["system", "user", "assistant", "user"]
    assert demonstration.completion == "Me."


def test_alpaca(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"instruction": "Sum up", "input": "1 2", "output": "3"},
        {"instruction": "Say hi", "input": " ", "output": "hi"},
        {"instruction": "Go on", "output": "on", "history": [["a", "b"]]},
    )
    reading = read(path)
    assert pairs(reading)[:2] == [("Sum up\n\n1 2", "3"), ("Say hi", "hi")]
    assert [d.completion for d in reading.demonstrations[2:]] == ["b", "on"] and not complaints(path)


@pytest.mark.parametrize("layout", ["messages", "sharegpt"])
def test_a_dialogue_is_one_demonstration_per_expert_turn(tmp_path: Path, layout: str) -> None:
    said = [("system", "S"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2")]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    rows = {
        "messages": {"messages": [{"role": role, "content": text} for role, text in said]},
        "sharegpt": {"conversations": [{"from": names[role], "value": text} for role, text in said]},
    }
    reading = read(lines(tmp_path / "x.jsonl", rows[layout]))
    assert (reading.format, reading.rows, reading.unrolled) == (layout, 1, 1)
    first, second = reading.demonstrations
    assert ([m.content for m in first.prompt], first.completion) == (["S", "u1"], "a1")
    assert ([m.content for m in second.prompt], second.completion) == (["S", "u1", "a1", "u2"], "a2")
    assert first.group == second.group == prompt_key(first.prompt)


def test_dialogues_with_one_opening_share_a_group(tmp_path: Path) -> None:
    """Their first prompts are equal: in different splits, the one would give the other away."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    more = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye"}]
    reading = read(lines(tmp_path / "x.jsonl", {"messages": turns}, {"messages": turns + more}))
    assert len({d.group for d in reading.demonstrations}) == 1


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([("human", "a")], "does not end with an expert's turn"),
        ([("human", "a"), ("gpt", "b"), ("human", "c")], "does not end with an expert's turn"),
        ([("human", "a"), ("human", "b"), ("gpt", "c")], "message 2 is the user's, where the assistant's must stand"),
        ([("human", "a"), ("system", "b"), ("gpt", "c")], "message 2 is the system's"),
        ([("human", "a"), ("observation", "b"), ("gpt", "c")], "message 2 is the tool's, where the assistant's"),
        ([("human", "a"), ("narrator", "b"), ("gpt", "c")], "[2]' has the unknown role 'narrator'"),
        ([("human", "a"), ("gpt", " ")], "[2].value' is blank"),
        ([("human", None), ("gpt", "b")], "[1].value' is null"),
        ([], "is empty"),
        ("hello", "must be a list of messages, not text"),
        ([3], "[1]' is a number, not a message"),
    ],
)
def test_a_dialogue_that_makes_no_sense_is_refused_with_its_place(tmp_path: Path, turns: Any, why: str) -> None:
    talk = [{"from": t[0], "value": t[1]} if isinstance(t, tuple) else t for t in turns]
    path = lines(tmp_path / "x.jsonl", {"conversations": turns if isinstance(turns, str) else talk})
    (complaint,) = complaints(path)
    assert complaint.startswith(":1: 'conversations") and why in complaint


def test_references_cannot_belong_to_a_whole_dialogue(tmp_path: Path) -> None:
    turns = [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]
    (complaint,) = complaints(lines(tmp_path / "x.jsonl", {"messages": turns, "references": ["x"]}))
    assert "'references' cannot belong to all 2 expert turns" in complaint


def test_columns_named_by_the_caller(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"question": "Q", "answer": "A", "who": "ann", "prompt": "not this"})
    reading = read(path, columns={"prompt": "question", "completion": "answer", "expert": "who"})
    assert pairs(reading) == [("Q", "A")]
    assert reading.demonstrations[0].expert == "ann" and reading.ignored == ("prompt",)


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([{"question": "Q", "answer": "A"}], {}, "columns found: 'question', 'answer', nearest: 'question' for "
         "'prompt', 'answer' for 'completion'); name your columns in the recipe, "
         "demonstrations.columns: {prompt: question, completion: answer}"),
        ([{"Question": "Q", "Answer": "A", "Source": "S"}], {}, "{prompt: Question, completion: Answer}; "
         "to `sft check`, --column prompt=Question --column completion=Answer"),
        ([{"prompt": "Q", "completio": "A"}], {}, "nearest: 'completio' for 'completion'"),
        ([{"prompt": "Q"}, {"completion": "A"}], {}, "no row has both 'prompt' and 'completion'"),
        ([GOOD], {"columns": {"prompt": "promt"}}, "no row has 'promt' (columns found: 'prompt', 'completion', "
         "nearest: 'prompt' for 'promt')"),
        ([GOOD], {"columns": {"expert": "author"}}, "no row has 'author'"),
        ([GOOD], {"columns": {"promt": "prompt"}}, "columns cannot name 'promt'; did you mean 'prompt'?"),
        ([GOOD], {"format": "alpacca"}, "format 'alpacca' is unknown; did you mean 'alpaca'?"),
        ([GOOD], {"format": "messages"}, "no row has 'messages'"),
        ([GOOD], {"format": "alpaca", "columns": {"prompt": "prompt"}}, "set format to 'columns', not 'alpaca'"),
    ],
)  # fmt: skip
def test_missing_columns_are_named_with_a_way_out(tmp_path: Path, rows: Any, options: Any, says: str) -> None:
    assert says in refusal(lines(tmp_path / "x.jsonl", *rows), **options)


# -- complaints -------------------------------------------------------------------------------------------


def test_every_problem_comes_at_once_with_file_line_field_rule_and_remedy(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"prompt": "", "completion": None},
        GOOD,
        "",
        {"prompt": 3, "completion": "x"},
        {"prompt": "x"},
        '{"prompt": "x", "completion": "\\ud83d"}',
        '{"prompt": "a", "prompt": "b", "completion": "c"}',
        '{"prompt": "a", "completion": NaN}',
        '{"prompt": "a", "completion": "c"} {}',
        [1],
        '{"prompt": "a", "completion": ' + "9" * 5000 + "}",
        '{"prompt": "a", "deep": ' + "[" * 200_000 + "}",
        '{"prompt": "a", completion: 1}',
        {"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "completion": "c"},
        {"prompt": "a", "completion": [{"role": "user", "content": "c"}]},
        '{"prompt": "a", "comp',
    )
    reading = read(path)
    assert complaints(path) == [
        ":1: 'prompt' is blank; write one or remove the row",
        ":1: 'completion' is null; fill it in or remove the row",
        ":4: 'prompt' must be text, not a number; write it as text",
        ":5: 'completion' is missing; add it (the row has 'prompt')",
        ":6: 'completion' holds a lone surrogate at character 1; replace the broken character (half of an emoji)",
        ":7: 'prompt' is written twice in one object; keep one",
        ":8: 'completion' is NaN (an empty cell); fill it in or remove the row",
        ":9: holds more than one value (a second one starts at character 36); write one object per line",
        ":10: is a list, not an object with columns; write the row as an object",
        ":11: holds a number with thousands of digits; write it as text or remove it",
        ":12: is nested too deep to be read; flatten the row or remove it",
        ":13: is not JSON (Expecting property name enclosed in double quotes at character 17); mend or remove the row",
        ":14: 'prompt' has a user message where the assistant's turn must stand (system first, then user and assistant "
        "in turn); put the turns in order: system, user, assistant, ..., user",
        ":15: 'completion' must be text or begin with an assistant's message; write what the expert wrote",
        ":16: is cut short (the JSON ends at character 21); write the row again in full",
    ]
    assert (reading.rows, len(reading.rejected), pairs(reading)) == (15, 14, [("What is it?", "A cat.")])
    with pytest.raises(DemonstrationsError, match="14 of 15 rows cannot become demonstrations"):
        reading.demand()


def test_rejected_rows_are_written_with_their_reasons(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        {"prompt": "é", "completion": ""},
        '{"prompt": "a", "completion": "\\ud83d"}',
        '{"prompt": "a", "completion": NaN}',
        "{oops",
        {"prompt": "", "completion": "x", "deep": json.loads("[" * 400 + "]" * 400)},
    )
    out = tmp_path / "rejected.jsonl"
    with pytest.raises(SourceError):  # no row has a chance, and each still has its reason below
        read(tmp_path / "missing.jsonl")
    write_rejected(out, read(path).rejected)
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["line"] for row in written] == [1, 2, 3, 4, 5]
    assert written[0] == {
        "file": str(path),
        "line": 1,
        "reasons": ["'completion' is blank; write one or remove the row"],
        "row": {"prompt": "é", "completion": ""},
    }
    assert written[3]["row"] == "{oops"
    assert not list(tmp_path.glob("*.partial"))


def test_a_reading_that_loses_a_row_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="must account for every row"):
        Reading((), (), rows=1, unrolled=0)


@in_one_folder
@given(st.lists(st.fixed_dictionaries({"prompt": texts | nonsense, "completion": texts | nonsense}), min_size=1))
def test_rows_in_are_demonstrations_or_complaints_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    written = [json.dumps(row, default=lambda raw: raw.decode("latin-1")) for row in rows]
    reading = read(lines(tmp_path / "x.jsonl", *written))
    assert reading.rows == len(rows) == len(reading.demonstrations) + len(reading.rejected)
    at = [d.source.line for d in reading.demonstrations if d.source] + [each.line for each in reading.rejected]
    assert sorted(at) == list(range(1, len(rows) + 1))
    assert {problem.line for problem in reading.problems} == {each.line for each in reading.rejected}


# -- files ------------------------------------------------------------------------------------------------


@in_one_folder
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]))
def test_every_kind_of_file_gives_back_what_was_written(tmp_path: Path, rows: list[tuple[str, str]], kind: str) -> None:
    path = tmp_path / f"x{kind}"
    if kind == ".jsonl":
        lines(path, *({"prompt": p, "completion": c} for p, c in rows))
    elif kind == ".json":
        path.write_text(json.dumps([{"prompt": p, "completion": c} for p, c in rows], indent=1), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == ".tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writerows([("prompt", "completion"), *rows])
    assert pairs(read(path)) == rows


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    said = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], None]
    parquet.write_table(pyarrow.table({"messages": said, "expert": ["ann", None]}), path)
    reading = read(path)
    assert pairs(reading) == [("a", "b")]
    assert complaints(path) == [":2: 'messages' must be a list of messages, not null; write [{role, content}, ...]"]
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not a Parquet file that can be read" in refusal(path)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_json_lines_are_cut_at_line_feeds_only(tmp_path: Path, separator: str) -> None:
    """``str.splitlines`` also cuts inside a completion."""
    row = json.dumps({"prompt": "a", "completion": f"b{separator}c"}, ensure_ascii=False)
    reading = read(lines(tmp_path / "x.jsonl", row, row))
    assert [d.completion for d in reading.demonstrations] == [f"b{separator}c"] * 2


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
def test_byte_order_mark_and_carriage_returns_are_no_part_of_the_text(tmp_path: Path, kind: str) -> None:
    body = {
        ".jsonl": json.dumps(GOOD),
        ".json": f"[\n{json.dumps(GOOD)}\n]",
        ".csv": "prompt,completion\nWhat is it?,A cat.",
    }
    path = tmp_path / f"x{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + body[kind].replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert pairs(read(path)) == [("What is it?", "A cat.")]


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("x.jsonl", b"", ": is empty"),
        ("x.jsonl", b"\n \n", ": is empty"),
        ("x.json", b" ", ": is empty"),
        ("x.json", b"[ ]", ": is empty"),
        ("x.csv", b"prompt,completion\n", ": has no row below its header"),
        ("x.txt", b"hello", ": files ending in '.txt' are not understood; convert it to one of .jsonl"),
        ("x.jsonl.gz", b"\x1f\x8b", ": cannot be unpacked ("),
        ("x.txt.gz", b"\x1f\x8b", ": files ending in '.txt' are not understood"),
        ("x.jsonl", '{"prompt": "a"}'.encode("utf-16"), ": is UTF-16, not UTF-8; set demonstrations."
         "encoding: utf-16 (to `sft check`, --encoding utf-16), or save it again as UTF-8"),
        ("x.jsonl", '{"prompt": "a"}'.encode("utf-16-le"), "; set demonstrations.encoding: utf-16-le"),
        ("x.jsonl", b'{"prompt": "a"}\n{"prompt": "caf\xe9 "}\n', ":2: is not UTF-8 (byte 0xe9 at place 16), and "
         "reads as Windows-1252; set demonstrations.encoding: cp1252 (to `sft check`, --encoding cp1252)"),
        ("x.csv", b"prompt,completion\ncaf\xe9,b\n", ":2: is not UTF-8"),
        ("x.jsonl", b'[{"prompt": "a", "completion": "b"}]', ": holds a JSON array, not one object per line; rename it "
         "to x.json"),
        ("x.jsonl", b'{\n "prompt": "a"\n}', ": holds an object spread over several lines"),
        ("x.json", b'{"rows": [1]}', ": holds one object, not an array of rows; write the array under 'rows' on"),
        ("x.json", b'"a"', ": does not start with '['"),
        ("x.json", b'[\n{"prompt": "a", "completion": "b"},\n{"prompt": ', ":3: row 2 of the array is cut short"),
        ("x.json", b'[\n{"prompt": "a", "completion": "b"}\n{}]', ":3: the array has '{' where ',' must stand"),
        ("x.json", b'[{"prompt": "a", "completion": "b"}', ":1: the array is cut short after row 1"),
        ("x.json", b"[{}] x", ": something follows the array's closing ']'"),
        ("x.json", b"[" * 200_000, ":1: row 1 of the array is nested too deep to be read"),
        ("x.csv", b"prompt,prompt\na,b\n", ":1: the header names 'prompt' twice"),
        ("x.csv", b"prompt,completion\ra,b\rc,d\r", ": its lines end in carriage returns alone, as old Macs wrote"),
        ("x.csv", b'prompt,"completion\na,b\n', ":1: the header breaks the quoting rules"),
        ("x.parquet", b"PAR1 no", ": is not a Parquet file that can be read"),
        # Files that are another kind than their name says: cp1252 or UTF-16 was advised, and rows of nothing were read.
        ("x.csv", b"PK\x03\x04\x14\xef", ": is a zip archive, as Excel's workbooks are; save the sheet as 'CSV UTF-8'"),
        ("x.jsonl", b"\xd0\xcf\x11\xe0\xa1\xb1", ": is a workbook of an old Excel; save the sheet"),
        ("x.csv", b"\x1f\x8b\x08\x00abc", ": is packed with gzip; let its name end in .gz"),
        ("x.tsv", b"PAR1\x15", ": is a Parquet file; let its name end in .parquet"),
        ("x.csv", b"<!DOCTYPE html><html>Sign in</html>", ": is a web page or XML, and no file of rows"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", ": is a pointer of Git LFS"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", ": is a pointer of Git LFS"),
        ("x.csv", b'[{"prompt": "a", "completion": "b"}]', ": holds JSON and no table; let its name end in .json"),
        ("x.csv", b'{"prompt": "a", "completion": "b"}\n', ": holds JSON and no table; let its name end in .jsonl"),
        ("x.jsonl", b"prompt,completion\na,b\n", ": holds a table and no JSON; let its name end in .csv or .tsv"),
        # Tables whose first line is not the names.
        ("x.csv", b"# of the shop\nprompt,completion\na,b\n", ":2: names the columns, where line 1 must; remove the"),
        ("x.csv", b"Shop,\n\nprompt,completion\na,b\n", ":3: names the columns, where line 1 must; remove the lines"),
        ("x.csv", b"What is a tide?,The sea.\nWhat is an ebb?,Less sea.\n", "; line 1 is taken for the names of the"),
        ("x.csv", b"prompt^completion\na^b\n", "; part the columns by ',', ';', '|' or a tab"),
        # JSON whose rows stand elsewhere.
        ("x.json", b'{"train": [{"a": 1}], "test": [{"a": 1}]}', "; write the arrays under 'train' and 'test' into"),
        ("x.json", b'{"prompt": ["a", "b"], "completion": ["c", "d"]}', "; its columns are lists: write them as rows"),
        ("x.json", b'{"prompt": {"0": "a"}, "completion": {"0": "b"}}', "; its columns are objects: write them as"),
        ("x.json", b'{"7": {"prompt": "a"}, "8": {"prompt": "b"}}', "; its values are rows: write them as an array"),
        ("x.json", b'[{"prompt": "a", "completion": "b"},\n]', ":2: a comma stands before the array's closing ']'"),
        ("x.jsonl", b'{"prompt": "a"}\r{"prompt": "b"}\r', ": its lines end in carriage returns alone"),
        ("x.jsonl", b'{"row": {"prompt": "a", "completion": "b"}}\n', "; the columns stand within 'row': write"),
        ("x.jsonl", b'{"turns": ["a", "b"]}\n', "; 'turns' is a list of texts: write it as messages, [{role, content}"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_as_a_whole_gets_one_sentence(tmp_path: Path, name: str, raw: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    assert refusal(path).startswith(says) or says in refusal(path)


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        (
            "x.jsonl",
            '["a", "b"]\n["c", "d"]\n',
            ":1: is a list, not an object with columns; write the row as an object",
        ),
        ("x.jsonl", '[{"role": "user"}]\n[{"role": "user"}]\n', ':1: is a list, .*; write it as {"messages": [...]}'),
        ("x.jsonl", '{"prompt": "a", "completion": "b"},\n', ":1: ends with a comma; take it away, for each line"),
        ("x.jsonl", "{'prompt': 'a'}\n", ":1: is not JSON .*; write it as json.dumps does, with double quotes"),
        ("x.csv", "prompt,completion\na,b\nprompt,completion\nc,d\n", ":3: repeats the header; remove the line"),
        ("x.csv", "prompt,completion\na,b\n\ufeffprompt,completion\nc,d\n", ":3: repeats the header; remove"),
        ("x.csv", 'prompt,completion\n"a", "b, c"\n', ":2: has a blank before the quote at character 6; write the"),
        ("x.csv", "messages\n\"[{'role': 'user'}]\"\n", ":2: 'messages' .* not text; write it as json.dumps does"),
    ],
)
def test_a_row_of_another_form_is_refused_with_what_helps(tmp_path: Path, name: str, raw: str, says: str) -> None:
    """Each of these was advised what did not help, or read as a demonstration that nobody wrote."""
    path = tmp_path / name
    path.write_text(raw, encoding="utf-8")
    found = [str(problem) for problem in read(path).problems]
    pattern = re.escape(name + says).replace(re.escape(".*"), ".*")
    assert any(re.search(pattern, each) for each in found), found


def test_the_mark_that_a_joined_file_began_with_is_no_part_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    row = json.dumps(GOOD)
    path.write_text(f"{row}\n\ufeff{row}\n\x1e{row}\n", encoding="utf-8")
    assert pairs(read(path)) == [("What is it?", "A cat.")] * 3


def test_a_list_of_messages_may_be_json_in_a_cell_and_one_message_no_list(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}]
    cell = json.dumps(turns).replace('"', '""')
    rows = {"x.csv": f'messages\n"{cell}"\n', "x.jsonl": json.dumps({"messages": json.dumps(turns)}) + "\n",
            "y.jsonl": json.dumps({"prompt": turns[0], "completion": turns[1]}) + "\n"}  # fmt: skip
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert pairs(read(tmp_path / name)) == [("What is it?", "A cat.")], name


def test_lines_of_utf_8_in_a_file_of_another_encoding_are_not_altered(tmp_path: Path) -> None:
    """The encoding that was advised made Ã¶ of ö in every line that was UTF-8, and there was nothing to mend."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        '{"prompt": "größe", "completion": "groß"}\n'.encode() + b'{"prompt": "wei\xdf", "completion": "s"}\n'
    )
    with pytest.raises(SourceError, match=r":2: is not UTF-8 .* and reads as Windows-1252; .*--encoding cp1252"):
        read(path)
    assert pairs(read(path, encoding="cp1252")) == [("größe", "groß"), ("weiß", "s")]


def test_what_is_no_file_gets_one_sentence(tmp_path: Path) -> None:
    assert ": there is no such file" in refusal(tmp_path / "x.jsonl")
    assert ": is a directory; name a file in it" in refusal(tmp_path)


def test_json_lines_in_a_json_file_are_read_all_the_same(tmp_path: Path) -> None:
    assert len(read(lines(tmp_path / "x.json", GOOD, GOOD)).demonstrations) == 2


def test_a_json_array_tells_the_line_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[\n  {"prompt": "a",\n   "completion": "b"},\n  {"prompt": "",\n  "completion": "b"}, 7]')
    reading = read(path)
    assert [d.source and d.source.line for d in reading.demonstrations] == [2]
    assert [(each.line, each.problems[0].message) for each in reading.rejected] == [
        (4, "is blank"),
        (5, "is a number, not an object with columns"),
    ]


def test_a_file_cut_inside_a_character_loses_its_last_row_only(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", GOOD, {"prompt": "a", "completion": "日本"})
    path.write_bytes(path.read_bytes()[:-5])
    assert [complaint.split(";")[0] for complaint in complaints(path)] == [
        ":2: is cut short (the JSON ends at character 32)"
    ]
    assert len(read(path).demonstrations) == 1


def test_csv_tells_the_line_where_a_row_starts(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        'prompt,completion,references\n"two\nlines",b,"[""c"", ""d""]"\n\nshort\n"bad" quote,b,\n,b,\nq,'
        + "x" * 200_000
        + ",only\n",
        encoding="utf-8",
    )
    reading = read(path)
    assert [(d.source and d.source.line, d.references) for d in reading.demonstrations] == [
        (2, ("c", "d")),
        (8, ("only",)),
    ]
    assert complaints(path) == [
        ":5: has 1 field where the header names 3; write all of them, blank ones too, and quote a field that holds a "
        "line break",
        ':6: breaks the quoting rules at character 6; put the cell in quotes and write each " inside it as ""',
        ":7: 'prompt' is blank; write one or remove the row",
    ]


@pytest.mark.parametrize(
    "answers",
    [
        ['"Hello," she said.', 'He said "no".', "fine"],
        ['"never closed', "fine", "fine", 'closed at last"', 'and "so" on'],
        ['"All of it"', '"half" of it', '"'],
        ['"swallows to the end', "fine", "fine"],
    ],
    ids=["starts with a quotation", "opened in one row and closed in another", "wholly quoted", "one unclosed"],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_in_a_tab_file_without_quoting_a_quote_is_a_character(tmp_path: Path, answers: list[str], ending: str) -> None:
    """Read by the rules of CSV, a row is lost for every such field, or all rows between two of them, unseen."""
    path = tmp_path / "x.tsv"
    rows = [f"question {n}\t{answer}\tann" for n, answer in enumerate(answers)]
    path.write_text(ending.join(["prompt\tcompletion\texpert", *rows, "", ""]), encoding="utf-8", newline="")
    assert pairs(read(path)) == [(f"question {n}", answer) for n, answer in enumerate(answers)]


def test_in_a_tab_file_without_quoting_a_row_too_short_is_one_complaint(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('prompt\tcompletion\na\t"b" c\nshort\n\nd\t"e', encoding="utf-8")
    assert pairs(read(path)) == [("a", '"b" c'), ("d", '"e')]
    assert complaints(path) == [
        ":3: has 1 field where the header names 2; write one tab between two fields, and none inside them"
    ]


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL], ids=["all", "where needed"])
def test_in_a_tab_file_with_quoting_quotes_hold_tabs_and_line_breaks(tmp_path: Path, quoting: Any) -> None:
    rows = [("one\ttab", 'He said "no".'), ("two\nlines", '"All of it"'), ('"', "a\tb\nc\td"), ("p", "c"), ("q", "d")]
    path = tmp_path / "x.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting).writerows([("prompt", "completion"), *rows])
    assert pairs(read(path)) == rows


def test_several_files_are_one_reading(tmp_path: Path) -> None:
    one = lines(tmp_path / "a.jsonl", GOOD, {"prompt": "", "completion": "b"})
    other = lines(tmp_path / "b.jsonl", {"instruction": "i", "output": "o", "score": 1})
    reading = joined([read(one), read(other)])
    assert (reading.rows, len(reading.rejected), reading.format) == (3, 1, "prompt_completion, alpaca")
    assert [d.address for d in reading.demonstrations] == [f"{one}:1", f"{other}:1"]
    assert reading.ignored == ("score",)


def test_nothing_but_broken_rows_is_all_complaints(tmp_path: Path) -> None:
    reading = read(lines(tmp_path / "x.jsonl", "{oops", "7"))
    assert (reading.rows, len(reading.rejected), reading.demonstrations) == (2, 2, ())


def test_rows_read_the_short_way_are_what_the_long_way_gives(tmp_path: Path) -> None:
    """Two sound texts are not looked at twice; whatever surrounds them, the answer and its lines are the same."""
    lines = [
        b"\xef\xbb\xbf" + b'{"prompt": "with a mark in front", "completion": "b"}',
        b'{"prompt": "ends with CR", "completion": "b"}\r',
        b"",
        b"  \t",
        '{"prompt": "a\u2028b", "completion": "c\u2029d\u0085", "note": "unused"}'.encode(),
        b'  {"prompt": "p", "completion": "q", "expert": "ann", "group": "g", "system": "be kind"} ',
        b'{"prompt": "p", "completion": "q", "expert": null, "group": " ", "system": ""}',
        b'{"prompt": "p", "completion": "q", "expert": 7, "group": 2.0}',
        b'{"prompt": "p", "completion": "q", "expert": 0, "group": false}',
        b'{"prompt": "p", "completion": "q", "references": ["r", "s"]}',
        b'{"prompt": "p", "completion": "q", "references": []}',
        b'{"prompt": "p", "completion": "q", "references": null}',
        b'{"prompt": "p", "completion": "q", "expert": "\\u200b"}',
        b'{"prompt": "p", "completion": "q", "system": "\\ud800"}',
        b'{"prompt": "twice", "completion": "q", "prompt": "twice"}',
        b'{"prompt": "\\ud83d", "completion": "half of an emoji"}',
        b'{"prompt": "\\u200b", "completion": "nothing to see"}',
        b'{"prompt": " ", "completion": "blank"}',
        b'{"prompt": "no completion"}',
        b'{"prompt": [{"role": "user", "content": "turns"}], "completion": "q"}',
        b'{"prompt": "p", "completion": ["q"]}',
        b'{"prompt": "two", "completion": "values"} {}',
        b'{"prompt": "cut sho',
        b"[1]",
        b"null",
        b'{"prompt": "no newline at the end", "completion": "b"}',
    ]
    path = tmp_path / "awkward.jsonl"
    path.write_bytes(b"\n".join(lines))
    short = read(path)
    decoder, reader = _Json(), RowReader(str(path), "prompt_completion", named(str(path), "auto", {}), held_out=False)
    taken = 0
    for number, raw in enumerate(lines, 1):
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8").strip()
        if not text:
            continue
        row = decoder.whole(text)
        assert row == decoder.at(text)[0] or isinstance(row, Broken)
        quick = reader.plain(number, row)
        faults: list[Problem] = []
        if quick is not None:
            taken += 1
            assert [quick] == reader.demonstrations(number, row, faults) and not faults
    assert taken > 5
    assert len(short.demonstrations) > 8 and len(short.rejected) > 8 and "note" in short.ignored
    assert [d.source.line for d in short.demonstrations][-1] == len(lines)  # type: ignore[union-attr]


def test_a_broken_byte_is_refused_with_its_line_whichever_way_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n\n{"prompt": "caf\xe9 au lait", "completion": "b"}\n')
    with pytest.raises(SourceError, match=r"latin\.jsonl:3: is not UTF-8 \(byte 0xe9 at place"):
        read(path)


# -- rows that are held out ------------------------------------------------------------------------------------


HELD = {"prompt": "What?", "completion": "That.", "held_out": True, "run": "demo", "clone": "This.", "score": 3.5}


def test_a_row_of_a_correction_sheet_is_refused_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row of the sheet is a held-out prompt, ``sft check`` of it said "Nothing to mend", and training on it
    voids the measurement. The remedies of the sentence are followed here."""
    path = tmp_path / "corrections.jsonl"
    free = [{"prompt": f"{n}: what?", "completion": f"That, {n}."} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*free, HELD]), encoding="utf-8")
    (problem,) = read(path).problems
    assert str(problem).startswith(f"{path}:41: is held out in demo; who trains on it can no longer be judged on it; ")
    assert "leave the row out, or name the file as split.test" in problem.remedy
    assert main(["check", str(path)]) == 2
    out = capsys.readouterr()
    assert "held out in demo" in out.out + out.err and "Nothing to mend" not in out.out
    assert len(read(path, held_out=True).demonstrations) == 41
    path.write_text("".join(json.dumps(row) + "\n" for row in free), encoding="utf-8")
    assert main(["check", str(path)]) == 0
    row = {key: value for key, value in HELD.items() if key != "held_out"}
    path.write_text("".join(json.dumps(one) + "\n" for one in [*free, row]), encoding="utf-8")
    assert main(["check", str(path)]) == 0


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({"held_out": True}, "marked as held out ('held_out': true)"),
        ({"held_out": "True", "run": ""}, "marked as held out"),
        ({"held_out": True, "run": 3}, "marked as held out"),
        ({"held_out": True, "completion": None}, "marked as held out"),
        ({"held_out": False}, ""),
        ({"held_out": None}, ""),
        ({"held_out": "no"}, ""),
        ({"held_out": 1}, "marked as held out"),
        ({"held_out": 0}, ""),
    ],
)
def test_only_a_mark_that_is_true_counts(tmp_path: Path, row: dict[str, Any], refused: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"} | row) + "\n", encoding="utf-8")
    reading = read(path)
    assert [refused in problem.message for problem in reading.problems] == [True] * bool(refused)
    assert "held_out" not in reading.ignored


def test_rejected_rows_leave_nothing_behind_where_they_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--rejected`` left a ``.partial`` behind and named it, where a folder stood in the way too."""
    path, folder = tmp_path / "x.jsonl", tmp_path / "rejected"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3}\n', encoding="utf-8")
    folder.mkdir()
    for target, why in ((folder, "a folder stands there"), (tmp_path / "no" / "x.jsonl", "it is not there")):
        capsys.readouterr()
        assert main(["check", str(path), "--rejected", str(target)]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"sft: {target} cannot be written: ") and why in said and "\n" not in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rejected", "x.jsonl"] and not list(folder.iterdir())
    assert main(["check", str(path), "--rejected", os.devnull]) == 2 and Path(os.devnull).is_char_device()
