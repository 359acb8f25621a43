"""How the columns of a file are called, in a recipe and on the command line: each name does what the recipe says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from selection_rows import row

from sft import recipes
from sft.cli import main
from sft.demonstrations.formats import read
from sft.demonstrations.selection import Gathered, gather
from sft.errors import RecipeError, SourceError

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: list[Any]) -> None:
    Path(name).write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


def gathered(*lines: str, path: str = "x.jsonl", split: str = "{validation: 0.2, test: 0.2}") -> Gathered:
    """What a recipe with these ``lines`` under demonstrations makes of ``path``."""
    section = "".join(f"  {line}\n" for line in lines)
    text = f"model: {{name: base}}\ndemonstrations:\n  path: {path}\n{section}split: {split}\n"
    return gather(recipes.parse(text).recipe)


def prompts(made: Gathered) -> set[str]:
    return {"|".join(turn.content for turn in d.prompt) for part in made.splits.parts.values() for d in part}


def dolly(number: int) -> dict[str, str]:
    """A row in the columns of Dolly; two in three have no context."""
    asked = row(number)
    context = "" if number % 3 else f"What is known of {number}."
    return {"instruction": asked["prompt"], "context": context, "response": asked["completion"], "category": "qa"}


# -- input, and templates ---------------------------------------------------------------------------------


def test_the_remedy_for_the_columns_of_dolly_is_followed(capsys: Captured) -> None:
    """``context`` had no column: the advice was prompt and completion, and what the prompt was about was lost."""
    write("x.jsonl", [dolly(n) for n in range(100)])
    assert main(["check", "x.jsonl"]) == 2
    said = capsys.readouterr().err
    line = "columns: {prompt: instruction, input: context, completion: response}"
    assert f"demonstrations.{line};" in said
    options = said.split("to `sft check`, ")[1].split()
    assert main(["check", "x.jsonl", *options]) == 0
    assert "Columns that no demonstration uses: category." in capsys.readouterr().out
    expected = {
        f"{d['instruction']}\n\n{d['context']}" if d["context"] else d["instruction"] for d in map(dolly, range(100))
    }
    assert prompts(gathered(line)) == expected


def test_alpaca_rows_may_call_their_input_otherwise() -> None:
    write("x.jsonl", [dolly(n) | {"output": f"answer {n}"} for n in range(60)])
    made = gathered("columns: {input: context}")
    assert f"{dolly(0)['instruction']}\n\n{dolly(0)['context']}" in prompts(made)
    assert made.ledger.rows == 60


def test_a_template_leaves_out_the_paragraph_that_is_blank(capsys: Captured) -> None:
    write("x.jsonl", [dolly(n) | {"year": 2000 + n} for n in range(60)])
    made = gathered(
        r'columns: {prompt: "{instruction}\n\nIn {{short}}, of {year}:\n\nGiven: {context}", completion: response}'
    )
    said = dolly(1)["instruction"]
    assert {f"{said}\n\nIn {{short}}, of 2001:", f"{dolly(3)['instruction']}\n\nIn {{short}}, of 2003:\n\nGiven: "
            "What is known of 3."} <= prompts(made)  # fmt: skip
    assert (
        main(["check", "x.jsonl", "--column", r"prompt={instruction}\n\n{context}", "--column", "completion=response"])
        == 0
    )
    assert "blank in the prompt's template are {context} in 40 rows" in capsys.readouterr().out


def test_braces_in_a_cell_are_words() -> None:
    write("x.jsonl", [{"q": f"{row(n)['prompt']} {{context}} {{}}", "context": "c", "a": "b"} for n in range(60)])
    assert f"{row(7)['prompt']} {{context}} {{}}\nc" in prompts(
        gathered(r'columns: {prompt: "{q}\n{context}", completion: a}')
    )


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (r'"{question}\n\n{contxt}"',
         "no row has 'contxt' (columns found: 'question', 'context', 'completion', nearest: 'context' for 'contxt'); "
         "mend 'contxt' in place 2 of the template in demonstrations.columns.prompt"),
        ('"{question"', "columns.prompt' has a { that belongs to no column; write {{ for the sign itself"),
        ('"Ask: {}"', "has a place without a name, {}; write a column's name in it"),
        ('"{{question}}"', "names no column; write the name of each in braces, {question}"),
        (r"'{question}\n{context}'", r'a new line was meant; write it in double quotes: "{question}\n{context}"'),
        ("{question}", 'is a mapping but must be text or empty; write "{question}" in quotes'),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_meant_is_refused_with_its_place(template: str, says: str) -> None:
    write("x.jsonl", [{"question": f"q {n}", "context": "c", "completion": "a"} for n in range(60)])
    with pytest.raises((RecipeError, SourceError)) as refused:
        gathered(f"columns: {{prompt: {template}}}")
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_row_without_a_word_for_its_template_is_rejected_alone(capsys: Captured) -> None:
    rows: list[Any] = [{"q": row(n)["prompt"], "c": "", "completion": "a"} for n in range(60)]
    write("x.jsonl", [*rows, {"q": " ", "c": None, "completion": "a"}, {"q": ["a"], "c": "b", "completion": "a"}])
    assert main(["check", "x.jsonl", "--column", "prompt={q}\n{c}"]) == 2
    said = capsys.readouterr().err
    assert "x.jsonl:61: 'q' is blank, and so is 'c'; write one or remove the row" in said
    assert "x.jsonl:62: 'q' is a list, and place 1 of the prompt's template is for text; write it as text" in said


# -- messages, and their keys -------------------------------------------------------------------------------


def talk(number: int, role: str = "role", content: str = "content") -> list[dict[str, str]]:
    return [{role: "user", content: row(number)["prompt"]}, {role: "assistant", content: f"answer {number}"}]


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value"), ("speaker", "text"), ("author", "body")])
def test_the_remedy_for_a_dialogue_of_another_name_is_followed(keys: tuple[str, str], capsys: Captured) -> None:
    """The advice for ``conversation`` was "completion: conversation"."""
    write("x.jsonl", [{"conversation": talk(n, *keys), "id": n} for n in range(60)])
    assert main(["check", "x.jsonl"]) == 2
    said = capsys.readouterr().err
    named = said.split("demonstrations.")[1].split(";")[0]
    assert "messages: conversation" in named and ("role: " in named) is (keys[0] in ("speaker", "author"))
    assert main(["check", "x.jsonl", *said.split("to `sft check`, ")[1].split()]) == 0
    assert prompts(gathered(named)) == {row(n)["prompt"] for n in range(60)}


def test_keys_of_messages_are_asked_for_by_their_names(capsys: Captured) -> None:
    write("x.jsonl", [{"messages": talk(n, "sender", "msg")} for n in range(60)])
    assert main(["check", "x.jsonl"]) == 2
    said = capsys.readouterr().err
    assert (
        "x.jsonl:1 and 59 more (2, 3, 4, ...): 'messages[1]' has no 'role' (its keys are 'sender', 'msg'); name "
        in said
    )
    named = said.split("demonstrations.")[1].split("\n")[0]
    assert named == ("columns: {role: sender, content: msg}; to `sft check`, --column role=sender --column content=msg")
    assert len(prompts(gathered(named.partition(";")[0]))) == 60
    with pytest.raises(Exception, match=r"has no 'sendr' \(its keys are 'sender', 'msg'\)"):
        gathered("columns: {role: sendr, content: msg}")


def test_a_dialogue_beside_a_prompt_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'demonstrations.columns.prompt' is named beside messages, which hold"):
        gathered("columns: {messages: talk, prompt: q}")
    with pytest.raises(RecipeError, match=r"is alpaca, and columns.messages names a dialogue; write messages"):
        gathered("format: alpaca", "columns: {messages: talk}")


# -- a constant system message -------------------------------------------------------------------------------


def test_a_constant_system_message_stands_where_a_row_has_none() -> None:
    rows: list[dict[str, Any]] = [row(n) for n in range(40)]
    rows += [row(n, system="Be brief.") for n in range(40, 60)]
    rows += [{"prompt": talk(n)[:1], "completion": talk(n)[1:]} for n in range(60, 70)]
    write("x.jsonl", rows)
    found = prompts(gathered('system: "You are Ada."'))
    assert {f"You are Ada.|{row(n)['prompt']}" for n in (*range(40), *range(60, 70))} <= found
    assert {f"Be brief.|{row(n)['prompt']}" for n in range(40, 60)} <= found and len(found) == 70
    write("x.jsonl", [{"messages": [{"role": "system", "content": "Own."}, *talk(n)]} for n in range(30)]
          + [{"messages": talk(n)} for n in range(30, 60)])  # fmt: skip
    found = prompts(gathered('system: "You are Ada."'))
    assert {f"Own.|{row(1)['prompt']}", f"You are Ada.|{row(31)['prompt']}"} <= found and len(found) == 60


def test_a_column_in_the_place_of_the_message_is_said_and_the_remedy_works() -> None:
    write("x.jsonl", [row(n, persona=f"You are {n % 2}.") for n in range(60)])
    with pytest.raises(SourceError) as refused:
        gathered("system: persona")
    remedy = str(refused.value).split("write it as demonstrations.")[1]
    assert remedy == "columns: {system: persona}"
    assert f"You are 1.|{row(1)['prompt']}" in prompts(gathered(remedy))


# -- references -----------------------------------------------------------------------------------------------


def table(numbers: range) -> str:
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["prompt", "completion", "others"])
    lines.writerows([row(n)["prompt"], f"answer {n}", json.dumps([f"other {n}", "third"])] for n in numbers)
    return text.getvalue()


def test_a_list_of_references_is_read_from_every_kind_of_table() -> None:
    """From standard input and in a packed file it was one reference that began with a bracket."""
    Path("x.csv").write_text(table(range(60)), encoding="utf-8")
    Path("x.csv.gz").write_bytes(gzip.compress(table(range(60)).encode()))
    for path in ("x.csv", "x.csv.gz"):
        made = gathered("columns: {references: others}", path=path)
        assert {d.references for d in made.splits.test} == {
            (f"other {d.completion[7:]}", "third") for d in made.splits.test
        }
    command = [sys.executable, "-m", "sft", "check", "-", "--column", "references=others"]
    piped = table(range(60)).replace("third", " ", 1)
    said = subprocess.run(command, input=piped, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "standard input:2: 'others' is blank (number 2)" in said.stderr


def test_references_may_stand_in_the_test_file_alone() -> None:
    """A named column of references had to be in every file, though nobody is trained on one."""
    for name, start, extra in (("train", 0, {}), ("validation", 60, {}), ("test", 80, {"alt": ["another"]})):
        write(f"{name}.jsonl", [row(n, **extra) for n in range(start, start + 20)])
    split = "{validation: validation.jsonl, test: test.jsonl}"
    made = gathered("columns: {references: alt}", path="train.jsonl", split=split)
    assert {d.references for d in made.splits.test} == {("another",)}
    with pytest.raises(SourceError, match=r"train.jsonl: no row has 'alternatives' .*; mend demonstrations.columns"):
        gathered("columns: {references: alternatives}", path="train.jsonl", split=split)


# -- files that are held out ---------------------------------------------------------------------------------


def test_the_remedy_for_a_test_file_of_other_columns_is_followed(capsys: Captured) -> None:
    """The one place for names was that of the training rows: a test file of another make could not be named."""
    write("x.jsonl", [row(n) for n in range(60)])
    write("t.jsonl", [{"question": each["prompt"], "answer": each["completion"]} for each in map(row, range(100, 110))])
    with pytest.raises(SourceError) as refused:
        gathered(split="{validation: 0.2, test: t.jsonl}")
    line = "split.test: {path: t.jsonl, columns: {prompt: question, completion: answer}}"
    assert str(refused.value).endswith(f"name your columns in the recipe, {line}")
    made = gathered(split=f"{{validation: 0.2, test: {line.partition(': ')[2]}}}")
    assert {name: len(part) for name, part in made.splits.parts.items() if name == "test"} == {"test": 10}
    assert len(made.splits.validation) + len(made.splits.train) == 60 and made.splits.validation
    # The other way round: one line for the training rows, and the test file keeps its own names.
    write("x.jsonl", [{"question": each["prompt"], "answer": each["completion"]} for each in map(row, range(60))])
    write("t.jsonl", [row(n) for n in range(100, 110)])
    with pytest.raises(SourceError) as refused:
        gathered(split="{validation: 0.2, test: t.jsonl}")
    named = "columns: {prompt: question, completion: answer}"
    assert f"name your columns in the recipe, demonstrations.{named}; to" in str(refused.value)
    with pytest.raises(SourceError) as refused:
        gathered(named, split="{validation: 0.2, test: t.jsonl}")
    line = str(refused.value).rpartition("name your columns in the recipe, split.test: ")[2]
    assert line == "{path: t.jsonl, columns: {prompt: prompt, completion: completion}}"
    assert len(gathered(named, split=f"{{validation: 0.2, test: {line}}}").splits.test) == 10


def test_one_line_names_the_columns_of_both_files() -> None:
    for name, numbers in (("x.jsonl", range(60)), ("t.jsonl", range(100, 110))):
        write(name, [{"question": each["prompt"], "answer": each["completion"]} for each in map(row, numbers)])
    with pytest.raises(SourceError) as refused:
        gathered(split="{validation: 0.2, test: t.jsonl}")
    named = str(refused.value).rpartition("name your columns in the recipe, demonstrations.")[2].partition(";")[0]
    assert len(gathered(named, split="{validation: 0.2, test: t.jsonl}").splits.test) == 10


def test_a_test_file_of_dialogues_beside_rows_of_prompts() -> None:
    write("x.jsonl", [row(n) for n in range(60)])
    write("t.jsonl", [{"talk": talk(n)} for n in range(100, 110)])
    made = gathered(split="{validation: 0.2, test: {path: t.jsonl, format: messages, columns: {messages: talk}}}")
    assert len(made.splits.test) == 10 and all(d.prompt[-1].role == "user" for d in made.splits.test)


@pytest.mark.parametrize("word", ["prompt=question", "completion=answer"])
def test_a_column_named_though_the_file_has_the_usual_ones_is_to_be_left_out(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--column prompt=prompt` was advised."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a b", "completion": "c d"}\n', encoding="utf-8")
    assert main(["check", str(path), "--column", word]) == 2
    said = capsys.readouterr().err
    assert "the columns have the usual names: leave theirs out" in said and "prompt=prompt" not in said


@pytest.mark.parametrize(
    "row",
    [
        {"system_prompt": "Be brief.", "question": "ask", "response": "say"},
        {"systemInstruction": {"parts": [{"text": "Be brief."}]},
         "contents": [{"role": "user", "parts": [{"text": "ask"}]}, {"role": "model", "parts": [{"text": "say"}]}]},
    ],
    ids=["OpenOrca", "Gemini"],
)  # fmt: skip
def test_who_does_as_is_said_loses_no_system_message(
    row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names that were advised were those of prompt and completion alone."""
    (path := tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["check", str(path)]) == 2
    options = capsys.readouterr().err.partition("to `sft check`, ")[2].split()
    columns = dict(option.split("=") for option in options if option != "--column")
    (one,) = read(path, columns=columns).demonstrations
    assert [turn.content for turn in one.prompt] == ["Be brief.", "ask"] and one.completion == "say"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("prompt={", "--column prompt: has a { that belongs to no column; write {{ for the sign itself"),
        ("prompt={}", "--column prompt: "),
        ("completion={a}{b}", "makes the completion of several columns"),
        ("references=nope", "mend demonstrations.columns in the recipe, or what --column names"),
    ],
)
def test_a_name_that_cannot_be_is_one_sentence(word: str, said: str, capsys: Captured) -> None:
    """A brace by itself ended in a traceback."""
    write("x.jsonl", [{"prompt": "a", "completion": "b"}])
    assert main(["check", "x.jsonl", "--column", word]) == 2
    assert said in capsys.readouterr().err


def test_a_column_that_is_named_twice_is_refused(capsys: Captured) -> None:
    """The second name won without a word."""
    write("x.jsonl", [{"prompt": "a", "completion": "b"}])
    assert main(["check", "x.jsonl", "--column", "prompt=prompt", "--column", "prompt=completion"]) == 2
    assert "--column prompt: is given twice, as prompt and completion; give one of them" in capsys.readouterr().err
