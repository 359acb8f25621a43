"""Which held-out prompts a report shows side by side, and the correction sheet made of the worst of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sft.demonstrations.demonstration import HeldOut, prompt_text
from sft.fidelity.findings import Example
from sft.fidelity.score_table import ScoreTable
from sft.runs.records import Completion

__all__ = ["corrections", "examples"]

#: Kind of example -> how many.
EXAMPLES = {"worst": 10, "best": 5, "typical": 5, "earliest divergence": 10}
#: Edges of the score bands that a report filters by, and how many examples each is filled up to.
BANDS, IN_A_BAND = (0, 20, 40, 60, 80, 100), 8


def examples(
    held_out: Sequence[HeldOut],
    table: ScoreTable,
    completions: Mapping[str, Mapping[str, Completion]],
    left_at: Mapping[str, int | None],
) -> tuple[Example, ...]:
    """Worst, best and typical prompts by the clone's score, earliest divergences, and more of each score band.

    ``left_at``: id -> token at which the clone leaves the expert's path. Ties by id. The first three kinds share
    no prompt: a small set fills worst first, then best, then typical.
    """
    items = {item.id: item for item in held_out}
    score = table.scores("tuned")
    middle = float(np.median(list(score.values())))
    worst = sorted(score, key=lambda key: (score[key], key))[: EXAMPLES["worst"]]
    rest = [key for key in score if key not in worst]
    best = sorted(rest, key=lambda key: (-score[key], key))[: EXAMPLES["best"]]
    rest = [key for key in rest if key not in best]
    typical = sorted(rest, key=lambda key: (abs(score[key] - middle), key))[: EXAMPLES["typical"]]
    earliest = sorted((token, key) for key, token in left_at.items() if token is not None and key in score)
    chosen = {
        "best": best,
        "typical": typical,
        "worst": worst,
        "earliest divergence": [key for _, key in earliest[: EXAMPLES["earliest divergence"]]],
    }
    shown = {key for keys in chosen.values() for key in keys}
    chosen[""] = _filled(score, shown)
    systems = {system: table.scores(system) for system in (*completions, "E") if table.ids(system)}
    found: list[Example] = []
    for kind, keys in chosen.items():
        for key in keys:
            written = {system: by_id[key].text for system, by_id in completions.items() if key in by_id}
            known = {s: systems[s][key] for s in (*written, "E") if key in systems.get(s, {})}
            item = items[key]
            found.append(Example(kind, key, prompt_text(item.prompt), item.references[0], written, known))
    return tuple(found)


def _filled(score: Mapping[str, float], shown: set[str]) -> list[str]:
    """Further prompts, by score, so that every band has some where there are some."""
    more: list[str] = []
    for low, high in pairwise(BANDS):
        # A band holds its lower end and not its upper one, but for the last: 100 has no band above it.
        inside = [key for key, value in score.items() if low <= value < high or value == high == BANDS[-1]]
        wanted = IN_A_BAND - len(shown & set(inside))
        more += sorted(key for key in inside if key not in shown)[: max(0, wanted)]
    return sorted(more, key=lambda key: (score[key], key))


def corrections(held_out: Sequence[HeldOut], shown: Iterable[Example], run: str) -> list[dict[str, Any]]:
    """The correction sheet: the worst completions and the earliest divergences, once each.

    Rows in the shape of demonstrations, with the clone's text and score beside the expert's. These prompts are
    held out, in the run called ``run``, and each row says so, for which ``formats`` refuses it for training.
    """
    items = {item.id: item for item in held_out}
    rows: dict[str, dict[str, Any]] = {}
    for example in shown:
        if example.kind in ("worst", "earliest divergence") and example.id not in rows:
            rows[example.id] = {
                "id": example.id,
                "prompt": [turn.to_dict() for turn in items[example.id].prompt],
                "completion": _as_written(items[example.id], example.expert),
                "clone": example.completions.get("tuned", ""),
                "score": example.scores.get("tuned"),
                "why": example.kind,
                "held_out": True,
                "run": run,
            }
    return list(rows.values())


def _as_written(item: HeldOut, text: str) -> str | list[dict[str, Any]]:
    """The first reference as ``formats`` reads it back: its text or, with a thought or calls, the turn that it is."""
    return [item.demonstration().answer.to_dict()] if item.thoughts or item.calls else text
