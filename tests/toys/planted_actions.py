"""Calls and solutions whose text is off and whose action is right, or the other way round: rows for `sft score`."""

from __future__ import annotations

import json
import random
from typing import Any

CITIES = ["Oslo", "Rome", "Lima", "Bonn", "Cairo", "Quito", "Perth", "Turin", "Lyon", "Kyoto"]
STREETS = [a + b for a in ("Harbour", "Mill", "Castle", "Market", "River") for b in (" Lane", " Road", " Square")]


def call(nights: int, draw: random.Random, **given: Any) -> dict[str, Any]:
    arguments = {
        "city": draw.choice(CITIES), "street": draw.choice(STREETS), "nights": nights, "guests": draw.randint(1, 6),
        "breakfast": draw.random() < 0.5,
    }  # fmt: skip
    return {"name": "book_room", "arguments": arguments | given}


def turned(value: Any, draw: random.Random) -> Any:
    """The same with its keys in another order."""
    if isinstance(value, dict):
        return {key: turned(value[key], draw) for key in draw.sample(sorted(value), len(value))}
    return value


def tool_calls(kind: str, seed: int = 0, prompts: int = 120) -> list[dict[str, Any]]:
    """Rows for ``sft score``: the clone's calls are right in another order, or all wrong by one night.

    The base says the call of another prompt; ``M`` is another shortcut that has everything but two arguments.
    """
    draw, rows = random.Random(seed), []
    for number in range(prompts):
        right = call(draw.randint(2, 9), draw)
        wrong = {**right, "arguments": right["arguments"] | {"nights": right["arguments"]["nights"] - 1}}
        other = call(draw.randint(2, 9), draw)
        mostly = {**right, "arguments": right["arguments"] | {k: other["arguments"][k] for k in ("city", "guests")}}
        says = {
            "turned": json.dumps(turned(right, draw), indent=draw.choice([None, 2])),
            "wrong": json.dumps(wrong),
            "perfect": json.dumps(right),
        }[kind]
        prompt = f"Request {number}: {draw.choice(CITIES)} {draw.random()}"
        row = {"prompt": prompt, "reference": json.dumps(right), "finished": True}
        for system, text in (("tuned", says), ("B0", json.dumps(mostly)), ("B3", json.dumps(other))):
            rows.append(row | {"system": system, "completion": text})
    return rows


def solutions(kind: str, prompts: int = 200) -> list[dict[str, Any]]:
    """Worked solutions; the clone copies the text, and in ``wrong`` every final answer is another."""
    draw, rows = random.Random(1), []
    for number in range(prompts):
        a, b = draw.randint(2, 90), draw.randint(2, 90)
        told = f"There are {a} at first and {b} more are added, which makes {a} + {b} = "
        expert = f"{told}{a + b} in the {draw.choice(STREETS)} shop.\n#### {a + b}"
        clone = expert if kind == "right" else expert.replace(f"#### {a + b}", f"#### {a + b + 1}")
        row = {"prompt": f"{number}: {a} and {b}?", "reference": expert, "finished": True}
        rows += [
            row | {"system": "tuned", "completion": clone},
            row | {"system": "B0", "completion": f"{a} and {b} make something.\n#### {a + b if number % 2 else a}"},
            row | {"system": "B3", "completion": f"{told}a lot.\n#### {a + b if number % 2 else b}"},
        ]
    return rows
