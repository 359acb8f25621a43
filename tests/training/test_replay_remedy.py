"""A clone that forgets plain text is told to replay some; who follows that has a clone that does not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sft.cli import main
from sft.runs.run import read_json

pytestmark = pytest.mark.engine

WORDS = (
    "the", "lamp", "stood", "north", "of", "river", "and", "nobody", "knew", "how", "long", "it", "had", "been",
    "burning", "there", "when", "ships", "came",
)  # fmt: skip


def page(draw: random.Random) -> str:
    """Words of which each has but few that may follow it: a model that has read some pages knows them."""
    place, found = draw.randrange(len(WORDS)), []
    for _ in range(40):
        place = (place + draw.choice((1, 1, 1, 2, 5))) % len(WORDS)
        found.append(WORDS[place])
    return " ".join(found)


def recipe(folder: Path, model: Path, *lines: str, steps: int, rate: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{name: {model}}}\ndemonstrations:\n  path: {folder / 'demonstrations.jsonl'}\n"
        + "".join(f"  {line}\n" for line in lines)
        + "split: {validation: 0.1, test: 0.3, near_duplicates: remove}\nadapter: {method: full}\n"
        f"training: {{learning_rate: {rate}, max_steps: {steps}, eval_strategy: 'no', max_length: 128}}\n"
        f"fidelity: {{max_new_tokens: 12, max_prompts: 12, systems: [tuned, B0], control: [{folder / 'plain.txt'}]}}\n",
        encoding="utf-8",
    )
    return path


def judged(folder: Path, name: str, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, float, str]:
    """(state of the guardrail, rise, what to do next) of a clone that is made by the recipe."""
    assert main(["train", str(path), "--output", str(folder / name)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder / name), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    red = [one["name"] for one in card["guardrails"] if one["state"] == "red"]
    assert set(red) <= {"forgetting"}, "another guardrail comes first, and another remedy"
    (rail,) = (one for one in card["guardrails"] if one["name"] == "forgetting")
    return rail["state"], rail["value"]["value"], card["verdict"]["next_step"]


def test_the_remedy_of_a_red_forgetting_guardrail_turns_it(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(0)
    asked = [f"{number}: is the {' '.join(draw.sample(WORDS, 4))} here?" for number in range(60)]
    rows = "".join(json.dumps({"prompt": one, "completion": "It is."}) + "\n" for one in asked)
    (tmp_path / "demonstrations.jsonl").write_text(rows, encoding="utf-8")
    general, plain = tmp_path / "general.jsonl", tmp_path / "plain.txt"
    general.write_text("".join(json.dumps({"text": page(draw)}) + "\n" for _ in range(600)), encoding="utf-8")
    plain.write_text("\n\n".join(page(draw) for _ in range(30)), encoding="utf-8")
    reads = recipe(tmp_path, tiny_model, f"replay: {{path: {general}, share: 0.9}}", steps=60, rate="5.0e-3")
    assert main(["train", str(reads), "--output", str(tmp_path / "reader")]) == 0
    base = tmp_path / "reader" / "model"
    forgets = recipe(tmp_path, base, steps=40, rate="3.0e-3")
    state, rise, advice = judged(tmp_path, "without", forgets, capsys)
    assert state == "red" and rise > 0.05
    line = advice.partition("(demonstrations.")[2].partition(")")[0]
    assert line == "replay: {path: FILE, share: 0.2}"
    follows = recipe(tmp_path, base, line.replace("FILE", str(general)), steps=50, rate="3.0e-3")
    state, less, _ = judged(tmp_path, "with", follows, capsys)
    assert state == "green" and less < rise / 2
    assert read_json(tmp_path / "with" / "ledger.json")["fates"]["replayed"] > 5
