"""Rows and recipes for what is selected and split."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sft.demonstrations.selection import Gathered
from sft.recipes import Demonstrations, Model, Recipe, Split

WORDS = [f"{a}{b}" for a in ("bar", "dun", "fel", "gor", "hin", "kal", "lom") for b in ("ado", "ent", "ipi", "ozu")]


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row whose prompt is near no other's."""
    words = " ".join(random.Random(number).choices(WORDS, k=9))
    return {"prompt": f"question {number}: {words}", "completion": f"answer {number}"} | fields


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def recipe(path: Path, split: dict[str, Any] | None = None, **section: Any) -> Recipe:
    return Recipe(
        model=Model(name="not-needed"),
        demonstrations=Demonstrations(path=str(path), **section),
        split=Split(**{"validation": 0.2, "test": 0.2} | (split or {})),
    )


def sizes(gathered: Gathered) -> dict[str, int]:
    return {name: len(part) for name, part in gathered.splits.parts.items()}
