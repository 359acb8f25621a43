"""CSV and TSV: every physical line is in a row that is read or in a complaint with its text, whatever quotes do."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft.cli import main
from sft.demonstrations.formats import Reading, read, write_rejected
from sft.errors import SourceError

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def table(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


def pairs(reading: Reading) -> list[tuple[str, str]]:
    return [(d.prompt[-1].content, d.completion) for d in reading.demonstrations]


def refused(path: Path) -> list[tuple[int, str]]:
    """Line and text of what ``rejected.jsonl`` gets."""
    out = path.with_name("rejected.jsonl")
    write_rejected(out, read(path).rejected)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]
    return [(row["line"], row["row"]) for row in rows]


# -- small files that failed -----------------------------------------------------------------------------------


def test_an_open_quote_swallows_no_row(tmp_path: Path) -> None:
    """Four rows read as two: the completion of the first was three lines long, and nothing was said."""
    path = table(tmp_path / "x.csv", 'prompt,completion\nask 1,"say 1\nask 2,say 2\nask 3,say 3"\nask 4,say 4\n')
    assert pairs(read(path)) == [("ask 4", "say 4")]
    assert refused(path) == [(2, 'ask 1,"say 1'), (3, "ask 2,say 2"), (4, 'ask 3,say 3"')]
    rows = "".join(f"ask {n},say {n}\n" for n in range(500))
    path = table(tmp_path / "x.csv", f'prompt,completion\nask,"say\n{rows}ask,say"\nlast,one\n')
    assert len(read(path).demonstrations) == 501
    assert refused(path) == [(2, 'ask,"say'), (503, 'ask,say"')]


def test_the_line_after_a_fault_is_a_row_of_its_own(tmp_path: Path) -> None:
    """It was in no fate: the parser had read it to find out that the line before it was wrong."""
    path = table(tmp_path / "x.csv", 'prompt,completion\nask 1,"say 1\nask 2,"say 2"\nask 3,say 3\n')
    assert pairs(read(path)) == [("ask 2", "say 2"), ("ask 3", "say 3")]
    assert refused(path) == [(2, 'ask 1,"say 1')]


def test_a_blank_before_a_quote_costs_no_row_before_it(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", 'prompt,completion\nask 1,"say 1"\nask 2, "say 2"\nask 3,"say 3"\n')
    assert pairs(read(path)) == [("ask 1", "say 1"), ("ask 3", "say 3")]
    assert refused(path) == [(3, 'ask 2, "say 2"')]


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path: Path) -> None:
    """One in a thousand rows became a completion of 996 lines."""
    rows = [f"ask {n} about rakes,say {n}" for n in range(1000)]
    rows[3] = 'ask 3 about rakes,"say 3'
    path = table(tmp_path / "x.csv", "\n".join(["prompt,completion", *rows, ""]))
    reading = read(path)
    assert (reading.rows, len(reading.demonstrations)) == (1000, 999)
    assert refused(path) == [(5, rows[3])]


def test_one_odd_quote_does_not_turn_a_quoted_file_of_tabs_into_a_plain_one(tmp_path: Path) -> None:
    path = table(tmp_path / "x.tsv", 'prompt\tcompletion\nask 1\t"say ""one"""\n"Big" rake\tok\n')
    assert pairs(read(path)) == [("ask 1", 'say "one"')]
    assert refused(path) == [(3, '"Big" rake\tok')]


def test_in_a_plain_file_of_tabs_a_line_that_is_quoted_is_not_read_as_text(tmp_path: Path) -> None:
    plain = "".join(f'question {n}\tHe said "no {n}\n' for n in range(5)) + 'q\t"unclosed\n'
    path = table(tmp_path / "x.tsv", f'prompt\tcompletion\n{plain}ask\t"say ""one"""\n')
    assert [completion for _, completion in pairs(read(path))] == [f'He said "no {n}' for n in range(5)] + ['"unclosed']
    assert refused(path) == [(8, 'ask\t"say ""one"""')]


@pytest.mark.parametrize(
    ("row", "read_as"),
    [
        ('p,5" rake', ("p", '5" rake')),
        ('p,say "so"', ("p", 'say "so"')),
        ('a "b",c', ('a "b"', "c")),
    ],
)
def test_where_no_cell_begins_with_a_quote_quotes_are_characters(
    tmp_path: Path, row: str, read_as: tuple[str, str]
) -> None:
    path = table(tmp_path / "x.csv", f"prompt,completion\n{row}\nx,y\n")
    assert pairs(read(path)) == [read_as, ("x", "y")]
    path = table(tmp_path / "x.csv", f'prompt,completion\n{row}\nx,"y, z"\n')
    assert pairs(read(path)) == [("x", "y, z")] and refused(path) == [(2, row)]


@pytest.mark.parametrize(
    "completion",
    ["Dear Ann,\nthanks, I will.\nBob", "two\nlines", "a,\nb", "\n\nblank lines\n", 'a "quoted"\nline', "x\r\ny, z"],
)
def test_a_cell_of_several_lines_is_a_cell(tmp_path: Path, completion: str) -> None:
    """In the first column and in the last one, beside rows of one line."""
    out = io.StringIO()
    rows = [("plain", "row"), ("letter", completion), (completion, "answer"), ("plain", "row 2")]
    csv.writer(out, lineterminator="\n").writerows([("prompt", "completion"), *rows])
    assert pairs(read(table(tmp_path / "x.csv", out.getvalue()))) == rows


def test_a_table_within_a_cell_is_read_where_every_cell_is_quoted(tmp_path: Path) -> None:
    """The remedy of the complaint: in a file that quotes all cells, a line without quotes is no row."""
    rows = [("make a table", "a,b\n1,2\n3,4"), ("p", "c")]
    for quoting, there in ((csv.QUOTE_MINIMAL, rows[1:]), (csv.QUOTE_ALL, rows)):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n", quoting=quoting).writerows([("prompt", "completion"), *rows])
        assert pairs(read(table(tmp_path / "x.csv", out.getvalue()))) == there


def test_lines_of_a_damaged_cell_are_no_rows(tmp_path: Path) -> None:
    """The quote before it, or after it, is lost: each of its lines might be a row by itself, and the first one is."""
    body = "prompt,completion,expert\na,b,ann\nq,{}dear Ann, as\nit was, so be it\nyours{},bob\nc,d,ann\n"
    for opening, closing in (('"', ""), ("", '"')):
        path = table(tmp_path / "x.csv", body.format(opening, closing) + 'x,"y, z",ann\n')
        assert pairs(read(path)) == [("a", "b"), ("c", "d"), ("x", "y, z")]
        assert [line for line, _ in refused(path)] == [3, 4, 5]


# -- any rows, any damage --------------------------------------------------------------------------------------

letters = st.sampled_from([*'ab ,;"\n\t', "\r\n", "é", "say ", "word", "\u2028"])
cells = st.lists(letters, min_size=1, max_size=12).map("".join).filter(lambda text: bool(text.strip()))
rows_of_cells = st.lists(st.tuples(cells, cells), min_size=1, max_size=8)


def written(rows: list[tuple[str, str]], delimiter: str, quoting: int) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(
        [("prompt", "completion"), *rows]
    )
    return out.getvalue()


def accounted(path: Path, delimiter: str) -> None:
    """Every line below the header that is not blank is in one row or one complaint, and complaints have its text."""
    lines = path.read_bytes().decode("utf-8").split("\n")
    reading = read(path)
    seen: list[int] = []
    for d in reading.demonstrations:
        assert d.source is not None
        last = d.source.line + d.prompt[-1].content.count("\n") + d.completion.count("\n")
        seen += [number for number in range(d.source.line, last + 1) if lines[number - 1].strip()]
    for each in reading.rejected:
        if isinstance(each.row, str):
            assert each.row == lines[each.line - 1].rstrip("\r")
        extent = sum(str(cell).count("\n") for cell in each.row.values()) if isinstance(each.row, dict) else 0
        seen += [n for n in range(each.line, each.line + extent + 1) if lines[n - 1].strip()]
    there = [number for number, line in enumerate(lines, 1) if number > 1 and line.strip()]
    assert sorted(seen) == there


@in_one_folder
@given(rows_of_cells, st.sampled_from([(",", ".csv"), (";", ".csv"), ("\t", ".tsv")]))
def test_what_is_written_is_read_or_refused_and_never_altered(
    tmp_path: Path, rows: list[tuple[str, str]], kind: tuple[str, str]
) -> None:
    delimiter, suffix = kind
    path = table(tmp_path / f"x{suffix}", written(rows, delimiter, csv.QUOTE_ALL))
    assert pairs(read(path)) == rows
    path = table(tmp_path / f"x{suffix}", written(rows, delimiter, csv.QUOTE_MINIMAL))
    accounted(path, delimiter)


@in_one_folder
@given(
    rows_of_cells,
    st.sampled_from([(",", ".csv"), ("\t", ".tsv")]),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(['"', ",", "\t", "\n", "\r", '""', "-1"])), max_size=3),
)
def test_no_damage_makes_a_line_vanish(
    tmp_path: Path, rows: list[tuple[str, str]], kind: tuple[str, str], damage: list[tuple[float, str]]
) -> None:
    delimiter, suffix = kind
    text = written(rows, delimiter, csv.QUOTE_MINIMAL)
    header, body = text.split("\n", 1)
    for place, what in damage:
        at = int(place * len(body))
        body = body[:at] + body[at + 1 :] if what == "-1" else body[:at] + what + body[at:]
    path = table(tmp_path / f"x{suffix}", f"{header}\n{body}")
    try:
        accounted(path, delimiter)
    except SourceError as error:
        assert "is empty" in str(error)


# -- Excel -----------------------------------------------------------------------------------------------------


def test_the_delimiter_is_the_header_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A German Excel writes semicolons: there was one complaint a row about commas."""
    rows = "".join(f"ask {n};say {n}, loudly\n" for n in range(60))
    for text, shown in (
        (f"prompt;completion\n{rows}", "';'"),
        (f"sep=;\nprompt;completion\n{rows}", "';'"),
        (f"prompt\tcompletion\n{rows}".replace(";", "\t"), "a tab"),
    ):
        path = table(tmp_path / "x.csv", text)
        assert pairs(read(path))[1] == ("ask 1", "say 1, loudly")
        assert main(["check", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["notes"] == [
            f"{path}: the delimiter is {shown}, for the header has no ','."
        ]
    assert main(["check", str(path)]) == 0
    assert f"{path}: the delimiter is a tab, for the header has no ','." in capsys.readouterr().out


def test_columns_without_a_name_are_called_by_their_place(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", "prompt,completion,,\na,b,,\nc,d,e,\n")
    reading = read(path)
    assert pairs(reading) == [("a", "b"), ("c", "d")] and reading.ignored == ("column 3", "column 4")


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "café — déjà vu"), ("utf-16", "草 café"), ("latin-1", "né")])
def test_another_encoding_is_named_and_the_remedy_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, text: str
) -> None:
    rows = "".join(f"ask {n},{text} {n}\n" for n in range(60))
    path = tmp_path / "x.csv"
    path.write_bytes(f"prompt,completion\n{rows}".encode(encoding))
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    named = "utf-16" if encoding == "utf-16" else "cp1252"
    assert f"demonstrations.encoding: {named} (to `sft check`, --encoding {named})" in said and said.count("\n") == 1
    assert main(["check", str(path), "--encoding", named]) == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{name: m}}\ndemonstrations: {{path: {path}, encoding: {named}}}\n")
    assert main(["check", str(recipe)]) == 0
    # Beside it a file that is UTF-8 stays UTF-8, though the setting would read it as something else.
    other = table(tmp_path / "y.csv", f"prompt,completion\nask,{text}\n")
    assert pairs(read(other, encoding=named)) == [("ask", text)]


def test_what_is_no_windows_text_is_not_called_one(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("prompt,completion\n问题,回答是这样的\n".encode("gb18030"))
    with pytest.raises(SourceError, match="is not UTF-8") as refusal:
        read(path)
    assert "1252" not in str(refusal.value) and "name its encoding in demonstrations.encoding" in str(refusal.value)
    assert pairs(read(path, encoding="gb18030")) == [("问题", "回答是这样的")]
    with pytest.raises(SourceError, match="is neither UTF-8 nor ascii"):
        read(path, encoding="ascii")


@pytest.mark.parametrize("name", ["cp-nothing", "base64", "hex"])
def test_an_encoding_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = table(tmp_path / "x.csv", "prompt,completion\na,b\n")
    assert main(["check", str(path), "--encoding", name]) == 2
    assert f"--encoding {name}: is no encoding of text" in capsys.readouterr().err
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{name: m}}\ndemonstrations: {{path: {path}, encoding: {name}}}\n")
    assert main(["check", str(recipe)]) == 2
    assert "'demonstrations.encoding' is" in capsys.readouterr().err


# -- what other programs make of a table -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16", "utf-32"])
def test_wide_encodings_are_told_and_the_one_that_is_named_reads_the_file(tmp_path: Path, name: str) -> None:
    """Chinese names of columns have no NUL: the file was called Windows-1252, and one of UTF-32 was called UTF-16."""
    path = tmp_path / "x.csv"
    path.write_bytes("提示,completion\n问 1,答 1\n".encode(name))
    with pytest.raises(SourceError) as caught:
        read(path)
    named = str(caught.value).partition("--encoding ")[2].partition(")")[0]
    assert named == name
    assert pairs(read(path, encoding=named, columns={"prompt": "提示"})) == [("问 1", "答 1")]


def test_a_nul_in_a_text_of_single_bytes_makes_no_wide_encoding_of_it(tmp_path: Path) -> None:
    assert len(read(table(tmp_path / "x.csv", "prompt,completion\na\0,b\n")).demonstrations) == 1


def test_marks_that_nobody_sees_are_no_part_of_a_name(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", "\ufeff\ufeffprompt,\u200bcompletion\nask,say\nPrompt,Completion\n")
    assert pairs(read(path)) == [("ask", "say")]
    assert [problem.message for problem in read(path).problems] == ["repeats the header"]


@pytest.mark.parametrize(
    ("line", "why", "mended"),
    [
        ("ask,say,", "has 3 fields where the header names 2; take the ',' at its end away", "ask,say"),
        ("ask", "names 2; write all of them, blank ones too, and quote a field that holds a line break", "ask,say"),
        ('ask, "say, so"', "has a blank before the quote at character 6; write the quote right", 'ask,"say, so"'),
        ('ask, "say"', "has a blank before the quote at character 6; write the quote right", 'ask,"say"'),
    ],
)
def test_the_remedy_for_a_line_mends_it(tmp_path: Path, line: str, why: str, mended: str) -> None:
    """All four were told to quote the fields that hold a comma, or were read with their quotes."""
    (problem,) = read(table(tmp_path / "x.csv", f"prompt,completion\n{line}\n")).problems
    assert why in str(problem)
    assert not read(table(tmp_path / "x.csv", f"prompt,completion\n{mended}\n")).problems


def test_a_name_with_a_blank_is_quoted_where_it_is_to_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "x.csv", "prompt: x,completion #1\nask,say\n")
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert '{prompt: "prompt: x", completion: "completion #1"}' in said
    options = shlex.split(said.partition("to `sft check`, ")[2])
    main(["check", str(path), *options])
    assert "demonstrations    1" in capsys.readouterr().out


def test_what_a_spreadsheet_or_a_dump_puts_in_place_of_a_text_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ "Nothing to mend" was said of a file whose answers were #NAME?."""
    rows = "".join(f"ask {n} of rakes,'say {n} and so on'\n" for n in range(60))
    main(["check", str(table(tmp_path / "x.csv", f"prompt,completion\n{rows}"))])
    assert "Nearly every completion stands in quotation marks (' ')" in capsys.readouterr().out
    rows = rows.replace("'", "") + "What part?,#NAME?\nHow much?,1.23E+15\nand?,#######\nor?,nan\n"
    main(["check", str(table(tmp_path / "x.csv", f"prompt,completion\n{rows}"))])
    said = capsys.readouterr().out
    assert "'#NAME?' in 1 completions" in said and "'1.23E+15'" in said and "'#######'" in said and "'nan'" in said
    assert "Nothing to mend" not in said


def test_line_breaks_that_were_escaped_twice_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"ask {n},first line\\nsecond line {n}.\n" for n in range(60))
    main(["check", str(table(tmp_path / "x.csv", f"prompt,completion\n{rows}"))])
    assert "Line breaks seem to stand as the letters \\n" in capsys.readouterr().out
    rows = "".join(f'ask {n},"first line\nputs(""\\n"") {n}"\n' for n in range(60))
    main(["check", str(table(tmp_path / "x.csv", f"prompt,completion\n{rows}"))])
    assert "letters" not in capsys.readouterr().out, "code that prints them"


def test_a_name_is_the_same_with_blanks_around_it(tmp_path: Path) -> None:
    """Two rows of one document lay on both sides of the split, and an expert was two."""
    row = '{"prompt": "%s", "completion": "b", "group": "%s", "expert": "%s"}\n'
    files = {
        "x.csv": "prompt,completion,group,expert\na,b,one ,ada\nc,d,one, ada\n",
        "x.jsonl": row % ("a", "one", "ada") + row % ("c", " one", "ada\\t"),
    }
    for name, text in files.items():
        found = read(table(tmp_path / name, text)).demonstrations
        assert {(d.group, d.expert) for d in found} == {("one", "ada")}


@pytest.mark.parametrize("mark", ["1", "yes", "TRUE", "true"])
def test_a_mark_of_what_is_held_out_counts_in_every_spelling(tmp_path: Path, mark: str) -> None:
    (problem,) = read(table(tmp_path / "x.csv", f"prompt,completion,held_out\na,b,{mark}\n")).problems
    assert "is marked as held out" in problem.message
    assert not read(table(tmp_path / "x.csv", "prompt,completion,held_out\na,b,0\n")).problems


def test_a_tab_within_json_is_called_one(tmp_path: Path) -> None:
    (problem,) = read(table(tmp_path / "x.jsonl", '{"prompt": "a\tb", "completion": "c"}\n')).problems
    assert "holds a tab or a line break within a text (at character 14); write it as \\t or" in str(problem)
