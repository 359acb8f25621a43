"""Files of completions to score."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import factories

PROMPTS = 40


Row = dict[str, Any]


def rows(count: int = PROMPTS, **fields: Any) -> list[Row]:
    """One row a prompt: a clone that gets most words right."""
    made = []
    for number in range(count):
        shown = factories.demonstration(number)
        text = factories.tuned_text(shown.completion, random.Random(number))
        made.append({"prompt": shown.prompt[-1].content, "completion": text, "reference": shown.completion} | fields)
    return made


def write(path: Path, given: Sequence[Any]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def training(path: Path, numbers: Sequence[int] = range(200, 260)) -> Path:
    shown = map(factories.demonstration, numbers)
    return write(path, [{"prompt": d.prompt[-1].content, "completion": d.completion} for d in shown])
