"""Measured runs of planted clones."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import factories

from sft.demonstrations.demonstration import HeldOut, held_out
from sft.fidelity import stored
from sft.fidelity.comparison import Comparison, Pair
from sft.fidelity.floors import copied_prompt
from sft.runs.records import Completion
from sft.runs.run import Run, write_jsonl

PROMPTS = 60


@cache
def asked() -> tuple[HeldOut, ...]:
    """Held-out prompts that are independent of each other."""
    return tuple(replace(item, cluster=item.id) for item in held_out(map(factories.demonstration, range(PROMPTS))))


def clone(item: HeldOut, right: float, seed: int) -> str:
    """The expert's sentence, every word of it kept with probability ``right``."""
    draw = random.Random(f"{seed} {item.id}")
    words = item.references[0].split()
    return " ".join(word if draw.random() < right else draw.choice(factories.NOUNS) for word in words)


def planted(
    folder: Path,
    right: float,
    *,
    seed: int = 0,
    nats: float | None = 0.5,
    items: Sequence[HeldOut] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """A measured run whose clone keeps a share ``right`` of the expert's words and spends ``nats`` on each.

    Without seals, so that a test may plant other scores in it.
    """
    items = asked() if items is None else items
    draw = random.Random(seed)
    systems = {"tuned": [Completion(i.id, clone(i, right, seed), True) for i in items]}
    systems["P"] = list(copied_prompt(items).values())
    with Run.create(folder, **({"recipe": {"resolved": dict(recipe)}} if recipe else {})) as run:
        for system, written in systems.items():
            write_jsonl(run.completions_path(system), map(asdict, written))
        if nats is not None:
            scored = [factories.token_scores(item, nats, 0.9, draw) for item in items]
            write_jsonl(run.token_scores_path("tuned"), map(asdict, scored))
        stored.write_measurement(run, items, {"split": "test", "systems": list(systems)})
        run.look("test", "planted")
        stored.remeasure(run)
    return factories.without_seals(folder)


def only(found: Comparison) -> Pair:
    (pair,) = found.pairs
    return pair
