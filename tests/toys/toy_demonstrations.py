"""A file of demonstrations about boxes of many colours."""

from __future__ import annotations

import json
import random
from pathlib import Path

COLOURS = ("red", "blue", "green", "grey", "white", "black")


def write_demonstrations(path: Path, count: int = 120, seed: int = 0) -> Path:
    """An expert with one habit: he names the colour he is asked about, twice, and stops."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            colour = draw.choice(COLOURS)
            words = " ".join(draw.sample(["box", "door", "hat", "leaf", "lamp", "ship", "stone", "wall"], 3))
            row = {"prompt": f"{number}: the {words} is {colour}", "completion": f"{colour}, {colour}"}
            file.write(json.dumps(row) + "\n")
    return path
