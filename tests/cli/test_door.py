"""Whatever a verb prints goes through one door: characters that hide, reorder or overwrite others are spelled out."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from sft.cli import main
from sft.cli.door import Door, as_json

Captured = pytest.CaptureFixture[str]
#: Clears the screen, writes a title, goes back in the line, reverses what follows, and is a C1 control.
NAME = "Ann\x1b[2J\x1b]0;title\x07\rBen\u202elive\u009b1m"
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def rows(path: Path, *more: dict[str, str]) -> Path:
    """Demonstrations of an expert with a dangerous name; two of one prompt, so that it is told."""
    made = [{"prompt": f"what is {n % 7}?", "completion": f"it is {n}", "expert": f"{NAME}{n % 2}"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*made, *more]), encoding="utf-8")
    return path


def test_names_from_anybody_do_not_command_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    """`sft check` wrote an expert's name as it stood, and the terminal obeyed it."""
    main(["check", str(rows(tmp_path / "x.jsonl"))])
    out, err = capsys.readouterr()
    assert "\u27e8U+001B\u27e9[2J" in out and not HIDDEN.search(out + err)


def test_so_it_is_with_complaints_and_words_of_the_command(tmp_path: Path, capsys: Captured) -> None:
    for words in (
        ["check", f"{tmp_path}/{NAME}.jsonl"],
        ["report", f"{tmp_path}/{NAME}"],
        ["check", str(tmp_path), "--x" + NAME],
    ):
        try:
            status = main(words)
        except SystemExit as stop:  # of argparse
            status = stop.code
        out, err = capsys.readouterr()
        assert status == 2 and "U+001B" in err and not HIDDEN.search(out + err)


def test_json_is_the_same_value(tmp_path: Path, capsys: Captured) -> None:
    main(["check", str(rows(tmp_path / "x.jsonl", {"prompt": NAME, "completion": ""})), "--json"])
    out = capsys.readouterr().out
    assert not HIDDEN.search(out) and json.loads(out)
    value = {NAME: [NAME, "\u2028", "\ud83d", "\U0001f600", "\\u202e", "\n"]}
    assert json.loads(as_json(value)) == value and not HIDDEN.search(as_json(value))


def test_progress_bars_may_go_back_in_their_line_and_nothing_else_may() -> None:
    """tqdm begins with a carriage return, and moves between bars; text of others in a bar stays visible."""
    stream = io.StringIO()
    door = Door(stream, bars=True)
    for text in ("\r 10%|##   | a\x1bb", "\n\x1b[A", "a\rb", "\x1b[2J"):
        assert door.write(text) == len(text)
    assert stream.getvalue() == (
        "\r 10%|##   | a\u27e8U+001B\u27e9b" + "\n\x1b[A" + "a\u27e8U+000D\u27e9b" + "\u27e8U+001B\u27e9[2J"
    )


@pytest.mark.engine
@pytest.mark.parametrize("what", ["endless template", "deep config", "deep tokenizer", "device"])
def test_a_model_folder_that_never_ends_is_one_sentence(
    what: str, tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """A template is a program, a configuration may be nested without end, and a link may lead to a device."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    name = {"deep config": "config.json", "device": "config.json"}.get(what, "tokenizer_config.json")
    if what == "endless template":
        loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        (folder / "chat_template.jinja").write_text(loop, encoding="utf-8")
    elif what == "device":
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
    else:
        (folder / name).write_text('{"a":' * 60000 + "1" + "}" * 60000, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f'{{"prompt": "what is {n}?", "completion": "it is {n}"}}\n' for n in range(40)))
    recipe.write_text(f"model: {{name: {folder}}}\ndemonstrations: {{path: {data}}}\nfidelity: {{max_new_tokens: 4}}\n")
    assert main(["preview", str(recipe)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("sft: ") and err.count("\n") == 1 and "Traceback" not in err, err
