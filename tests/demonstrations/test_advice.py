"""Every remedy that `sft check` names is followed here, word for word, and works: each of these failed once."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main

Captured = pytest.CaptureFixture[str]


def words(draw: random.Random, count: int) -> str:
    return " ".join("".join(draw.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(count))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe(*lines: str, path: str = "x.jsonl") -> None:
    text = f"model:\n  name: base\ndemonstrations:\n  path: {path}\n"
    Path("r.yaml").write_text(text + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def said(capsys: Captured, *command: str) -> str:
    """What is said where `sft check` refuses."""
    capsys.readouterr()
    assert main(["check", *command]) == 2
    return capsys.readouterr().err


def passes(capsys: Captured, *command: str) -> dict[str, Any]:
    """The findings, where nothing would stop a run."""
    capsys.readouterr()
    assert main(["check", *command, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert min(found["splits"].values()) > 0
    return found


def talk(*turns: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(turns)]


def test_dialogues_that_open_alike_get_a_name_each(capsys: Captured) -> None:
    """ "Gather about 30 groups or more, raise the share, or try another split.seed" helped none of 200 dialogues."""
    draw = random.Random(0)
    talks = [talk("Hello", "What can I fix?", f"My rake broke at {words(draw, 5)}", words(draw, 4)) for _ in range(200)]
    write("x.jsonl", [{"messages": turns, "ticket": n} for n, turns in enumerate(talks)])
    refusal = said(capsys, "x.jsonl")
    assert "200 dialogues open with 'Hello', and dialogues that open alike are one group" in refusal
    assert "in a column 'group', or name the column that tells them apart (demonstrations.columns.group)" in refusal
    assert "gather" not in refusal and "split.seed" not in refusal
    write("y.jsonl", [{"messages": turns, "group": f"talk {n}"} for n, turns in enumerate(talks)])
    assert passes(capsys, "y.jsonl")["groups"] == 200
    recipe("  columns: {group: ticket}")
    assert passes(capsys, "r.yaml")["groups"] == 200


def test_one_prompt_for_all_rows_is_told_apart_in_the_prompt(capsys: Captured) -> None:
    draw = random.Random(1)
    rows = [{"prompt": "Write a tweet.", "completion": words(draw, 9), "subject": words(draw, 3)} for _ in range(60)]
    write("x.jsonl", rows)
    refusal = said(capsys, "x.jsonl")
    assert "60 of 60 rows have one prompt, 'Write a tweet.'" in refusal and "group" in refusal.partition("60 of 60")[0]
    assert "write into each prompt what tells the rows apart, a subject or a title" in refusal
    write("x.jsonl", [row | {"prompt": f"Write a tweet about {row['subject']}."} for row in rows])
    assert passes(capsys, "x.jsonl")["prompts"] == 60


def test_a_column_of_two_groups_is_replaced_by_a_finer_one(capsys: Captured) -> None:
    draw = random.Random(2)
    rows = [
        {"prompt": words(draw, 9), "completion": words(draw, 9), "group": "AB"[n % 2], "chapter": f"chapter {n // 5}"}
        for n in range(200)
    ]
    write("x.jsonl", rows)
    refusal = said(capsys, "x.jsonl")
    assert "100 of 200 rows are of the group 'A', and a group stays in one split; name a column with more" in refusal
    recipe("  columns: {group: chapter}")
    assert passes(capsys, "r.yaml")["groups"] == 40


def test_a_row_that_joins_all_groups_gets_one_of_its_own(capsys: Captured) -> None:
    draw = random.Random(3)
    shared = {"prompt": "Are you there?", "completion": "I am."}
    rows = [shared | {"group": f"g{n}"} for n in range(60)]
    rows += [{"prompt": words(draw, 9), "completion": words(draw, 9), "group": f"g{n % 60}"} for n in range(120)]
    write("x.jsonl", rows)
    refusal = said(capsys, "x.jsonl")
    assert (
        "x.jsonl:1 stands in 60 groups, and groups with a row in common are one; give that row a group of its"
        in refusal
    )
    write("y.jsonl", [row | {"group": "greeting"} if row["prompt"] == shared["prompt"] else row for row in rows])
    assert passes(capsys, "y.jsonl")["splits"]["train"] > 60
    write("z.jsonl", [row for row in rows if row["prompt"] != shared["prompt"]])
    passes(capsys, "z.jsonl")


@pytest.mark.parametrize("rows", [1, 3])
def test_a_limit_of_too_few_rows_is_named(rows: int, capsys: Captured) -> None:
    """It was taken for rows that join groups, of which there were none, and the refusal was an empty line."""
    draw = random.Random(5)
    write("x.jsonl", [{"prompt": words(draw, 9), "completion": words(draw, 9)} for _ in range(40)])
    recipe(f"  limit: {rows}")
    refusal = said(capsys, "r.yaml")
    assert f"demonstrations.limit is {rows}, raise it where there are more" in refusal
    assert f"{rows} different prompt group" in refusal


def test_the_seed_that_is_named_works(capsys: Captured) -> None:
    """40 groups were told to be about 30 or more, and to try another seed."""
    draw = random.Random(4)
    write("x.jsonl", [{"prompt": words(draw, 9), "completion": words(draw, 9)} for _ in range(40)])
    refused = 0
    for seed in range(20):
        recipe("split:", "  validation: 0.05", f"  seed: {seed}")
        if main(["check", "r.yaml"]):
            refused += 1
            named = re.search(r"set split\.seed: (\d+), with which each gets some", capsys.readouterr().err)
            assert named is not None
            recipe("split:", "  validation: 0.05", f"  seed: {named[1]}")
            passes(capsys, "r.yaml")
    assert refused


def test_what_a_plain_file_is_advised_can_be_done_with_it(capsys: Captured) -> None:
    """A file was told to set split.seed, which it has no place for, and columns in a recipe that it does not have."""
    draw = random.Random(5)
    write("x.jsonl", [{"prompt": words(draw, 9), "completion": words(draw, 9), "who": "ada"} for _ in range(6)])
    assert main(["check", "x.jsonl"]) == 2
    shown = capsys.readouterr()
    assert "name it with --column FIELD=NAME" in shown.out and "demonstrations.columns" not in shown.out
    told = re.search(
        r"set split\.seed: (\d+), .*; split\.seed is a key of a recipe: `sft (recipes copy smollm2-lora recipe\.yaml)` "
        r"makes one, in which this file is demonstrations\.path$",
        shown.err,
    )
    assert told is not None
    assert main(told[2].split()) == 0
    text = Path("recipe.yaml").read_text(encoding="utf-8").replace("demonstrations.jsonl", "x.jsonl")
    Path("recipe.yaml").write_text(text.replace("split:\n", f"split:\n  seed: {told[1]}\n"), encoding="utf-8")
    assert "is a key of a recipe" not in json.dumps(passes(capsys, "recipe.yaml"))
    assert main(["check", "x.jsonl", "--column", "expert=who"]) == 2
    assert "ada 6" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["10", "'10'", "10%", "'0.1'", "0.1 ", "true", "0", "150"])
def test_a_share_is_written_as_one_whatever_was_written(given: str, capsys: Captured) -> None:
    """``split.test: 10`` was told to be a file called 10."""
    draw = random.Random(5)
    write("x.jsonl", [{"prompt": words(draw, 9), "completion": words(draw, 9)} for _ in range(100)])
    recipe("split:", f"  test: {given}")
    if given != "0.1 ":
        refusal = said(capsys, "r.yaml")
        remedy = re.search(r"; write (0\.1)(?: for (?:10 %|a tenth), or the name of a file| without quotes)\n", refusal)
        assert remedy is not None and refusal.count("\n") == 1, refusal
        recipe("split:", f"  test: {remedy[1]}")
    passes(capsys, "r.yaml")


@pytest.mark.parametrize(
    ("line", "remedy", "mended"),
    [
        ("do_train: true", "the command decides this: sft train", ""),
        ("max_samples: 60", "write demonstrations.limit", "  limit: 60"),
        ("val_size: 0.2", "write split.validation", "split: {validation: 0.2}"),
        ("sample_packing: true", "write training.packing", "training: {packing: true}"),
        ("use_peft: true", "write adapter.method: lora, dora, rslora, qlora or full", "adapter: {method: lora}"),
        ("lora_target: all", "write adapter.target_modules", "adapter: {target_modules: all-linear}"),
        ("group_by_length: true", "write train_sampling_strategy: group_by_length",
         "training: {train_sampling_strategy: group_by_length}"),
        ("optim: adamw_torch", "write it under training:", "training: {optim: adamw_torch}"),
        ("r: 8", "write it under adapter:", "adapter: {r: 8}"),
        ("roles_to_train: [assistant]", "the expert's completions are learned and nothing else", ""),
        ("mix_strategy: concat", "write demonstrations.path with every file", ""),
        ("num_epochs: 3", "write training.num_train_epochs", "training: {num_train_epochs: 3}"),
        ("warmup_ratio: 0.1", "write warmup_steps: 0.03", "training: {warmup_steps: 0.03}"),
    ],
)  # fmt: skip
def test_what_a_name_from_elsewhere_points_at_is_a_recipe(
    line: str, remedy: str, mended: str, capsys: Captured
) -> None:
    draw = random.Random(6)
    write("x.jsonl", [{"prompt": words(draw, 9), "completion": words(draw, 9)} for _ in range(100)])
    recipe(line)
    refusal = said(capsys, "r.yaml")
    assert remedy in refusal and refusal.count("\n") == 1
    recipe(mended)
    passes(capsys, "r.yaml")


def test_leaks_are_removed_or_kept_together(capsys: Captured) -> None:
    draw = random.Random(7)
    rows = [{"prompt": words(draw, 14), "completion": words(draw, 9)} for _ in range(100)]
    rows += [row | {"prompt": f"{row['prompt']} {words(draw, 1)}"} for row in rows]
    write("x.jsonl", rows)
    refusal = said(capsys, "x.jsonl")
    assert "set split.near_duplicates to remove" in refusal and "give rows that belong together one group" in refusal
    recipe("split:", "  near_duplicates: remove")
    found = passes(capsys, "r.yaml")
    assert found["splits"]["train"] == 200 - found["splits"]["test"] - found["splits"]["validation"] - len(
        found["leaks"]
    )
    write("y.jsonl", [row | {"group": f"g{n % 100}"} for n, row in enumerate(rows)])
    assert sum(passes(capsys, "y.jsonl")["splits"].values()) == 200
