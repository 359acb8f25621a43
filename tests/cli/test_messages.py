"""What a message says about itself, through the commands: what is learned of a dialogue, and by which template."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main
from sft.runs.atomic_files import write_jsonl

pytestmark = pytest.mark.engine

Captured = pytest.CaptureFixture[str]
#: ChatML with a switch: what stands before every answer.
SWITCHED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def dialogue(number: int, *, marked: bool) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"What is the tide of day {number}?"},
        {"role": "assistant", "content": f"never learn {number}"} | ({"weight": 0} if marked else {}),
        {"role": "user", "content": f"And of day {number + 1}?"},
        {"role": "assistant", "content": f"It is high at {number} of the clock."},
    ]
    return {"messages": turns}


def recipe(folder: Path, name: Path, rows: list[dict[str, Any]], **sections: Any) -> Path:
    write_jsonl(folder / "d.jsonl", rows)
    training = {"max_steps": 2, "eval_steps": 1, "save_steps": 1, "per_device_train_batch_size": 4}
    whole = {
        "model": {"name": str(name)} | sections.pop("model", {}),
        "demonstrations": {"path": str(folder / "d.jsonl")} | sections.pop("demonstrations", {}),
        "split": {"validation": 0.2, "test": 0.2, "near_duplicates": "remove"},
        "training": training,
    }
    path = folder / "r.yaml"
    path.write_text(json.dumps(whole), encoding="utf-8")  # JSON is YAML
    return path


def previewed(path: Path, capsys: Captured) -> str:
    assert main(["preview", str(path), "--rows", "50"]) == 0
    return capsys.readouterr().out


def test_a_preview_says_how_many_rows_are_left_out_and_its_command_says_why(
    tiny_model: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rejected and repeated rows were passed over without a word."""
    monkeypatch.chdir(tmp_path)
    sound = [{"prompt": f"What of day {n}?", "completion": f"High at {n}."} for n in range(30)]
    path = recipe(tmp_path, tiny_model, sound)
    assert "neither in the fit" not in previewed(path, capsys)
    broken = [{"prompt": f"And of night {n}?", "completion": " "} for n in range(3)]
    recipe(tmp_path, tiny_model, [*sound, *broken, *sound[:2]])
    assert main(["preview", str(path), "--set", "split.seed=7"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    command = f"sft check {path} --set split.seed=7 --rejected rejected.jsonl"
    counts = "5 of 35 rows are neither in the fit nor held out (3 invalid, 2 duplicate)"
    assert last == f"{counts}; `{command}` says why."
    assert main(shlex.split(command)[1:]) == 2, "rows are rejected"
    assert "2 rows repeat another word for word" in capsys.readouterr().out
    assert len(Path("rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("marked", [True, False])
def test_a_turn_marked_as_never_to_be_learned_is_context(
    marked: bool, tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Without the mark the same turn is a completion of its own."""
    path = recipe(tmp_path, tiny_model, [dialogue(n, marked=marked) for n in range(0, 60, 2)])
    assert main(["check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["demonstrations"] == (30 if marked else 60)
    assert "never learn" in previewed(path, capsys)


def test_a_template_option_is_in_the_prompt_and_in_the_saved_template(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Whoever loads what was saved, and names no option, writes what was trained."""
    from transformers import AutoTokenizer

    template = tmp_path / "t.jinja"
    told = "{% if style %}<|im_start|>system\n{{ style }}<|im_end|>\n{% endif %}"
    template.write_text(told + SWITCHED, encoding="utf-8")
    model = {"template": str(template), "template_options": {"style": "Answer as the harbour master."}}
    path = recipe(tmp_path, tiny_model, [dialogue(n, marked=True) for n in range(0, 60, 2)], model=model)
    assert "Answer as the harbour master." in previewed(path, capsys)
    assert main(["train", str(path), "--output", str(tmp_path / "run")]) == 0
    saved = AutoTokenizer.from_pretrained(tmp_path / "run" / "adapter")
    asked = [{"role": "user", "content": "Which tide?"}]
    text = saved.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nAnswer as the harbour master.<|im_end|>\n")


def test_an_option_that_no_template_reads_is_one_sentence(tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    model = {"template_options": {"styel": "short"}}
    path = recipe(tmp_path, tiny_model, [dialogue(n, marked=True) for n in range(0, 60, 2)], model=model)
    assert main(["preview", str(path)]) == 2
    assert "model.template_options: 'styel' is nothing that the chat template" in capsys.readouterr().err


def test_a_completion_that_spells_a_special_token_is_refused_until_its_meaning_is_said(
    tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    rows = [{"prompt": f"How does turn {n} begin?", "completion": f"With <|im_start|>, {n} times."} for n in range(30)]
    path = recipe(tmp_path, tiny_model, rows)
    assert main(["preview", str(path)]) == 2
    assert "demonstrations.special_tokens" in capsys.readouterr().err
    for meant in ("text", "tokens"):
        path = recipe(tmp_path, tiny_model, rows, demonstrations={"special_tokens": meant})
        assert "im_start" in previewed(path, capsys)


def test_roles_of_other_names_and_neighbours_of_one_role(tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    rows = [
        {
            "messages": [
                {"role": "asker", "content": f"What of day {n}?"},
                {"role": "asker", "content": "And quickly."},
                {"role": "assistant", "content": f"High at {n}."},
            ]
        }
        for n in range(30)
    ]
    path = recipe(tmp_path, tiny_model, rows)
    assert main(["check", str(path)]) == 2 and "name it in demonstrations.roles" in capsys.readouterr().err
    roles = {"roles": {"asker": "user"}}
    path = recipe(tmp_path, tiny_model, rows, demonstrations=roles)
    assert main(["check", str(path)]) == 2 and "demonstrations.neighbours" in capsys.readouterr().err
    path = recipe(tmp_path, tiny_model, rows, demonstrations=roles | {"neighbours": "join"})
    assert main(["check", str(path)]) == 0
