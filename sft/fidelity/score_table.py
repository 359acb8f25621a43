"""Scores by system and prompt: the lines of ``scores.jsonl``, and their means with intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.fidelity.scorecard import Gain, SystemScores
from sft.metrics import intervals, modules
from sft.metrics.intervals import estimates
from sft.runs.machine import in_parts
from sft.runs.records import Completion

__all__ = ["HEADLINE", "ScoreRow", "ScoreTable", "score_rows", "word_count"]

#: The metric that gains and verdicts are about: chrF with beta 1, which does not pay ramblers.
HEADLINE = "chrf"
#: The headline against the nearest of several references, where the mean over them is the headline.
NEAREST = f"{HEADLINE}_max"
#: Experts of a prompt who are compared with all others of it, drawn where there are more: the work would grow with
#: the square of their number.
TURNS = 16
#: Texts from which on scoring takes seconds, and all cores.
MANY = 10_000

#: One line of ``scores.jsonl``: id, cluster, system, then metrics in points and what the counts need.
#: Metrics are None where the prompt is unscored; lengths and flags are None for E, which is not one text.
ScoreRow = dict[str, Any]


def score_rows(
    held_out: Sequence[HeldOut], completions: Mapping[str, Mapping[str, Completion]], further: Sequence[str] = ()
) -> list[ScoreRow]:
    """Scores of every system on every held-out prompt, prompt by prompt: the lines of ``scores.jsonl``.

    ``completions``: system -> held-out id -> completion. E needs none: each reference is scored against
    the others of its prompt, leave-one-out. Multiple references count as their mean, and in ``chrf_max`` as the
    nearest of them; there everybody leaves one reference out in turn, so that E, which has one less, is no worse off.
    Of more than :data:`TURNS` references to a prompt, that many are drawn by its id, each against all the others:
    that leaves the mean of both figures as it would be with all (a U-statistic's incomplete form, Blom 1976).
    ``further``: ``evaluate`` modules beside ours (``metrics.modules``), each a column under its label.
    """
    asked = [(item, {system: written.get(item.id) for system, written in completions.items()}) for item in held_out]
    systems = max(1, len(completions))
    return [row for rows in in_parts(_some_rows, asked, tuple(further), least=MANY // systems) for row in rows]


def _some_rows(
    asked: Sequence[tuple[HeldOut, Mapping[str, Completion | None]]], further: Sequence[str]
) -> list[ScoreRow]:
    """The lines of some prompts, each with what every system wrote."""
    rows: list[ScoreRow] = []
    for item, written in asked:
        head = {"id": item.id, "cluster": item.cluster}
        expert = _mean([len(metrics.nfc(text)) for text in item.references])
        for system, completion in written.items():
            names = (*metrics.METRICS, *map(modules.label, further), NEAREST)
            row: ScoreRow = {**head, "system": system, **dict.fromkeys(names)}
            row |= {"characters": None, "expert_characters": expert, "words": None}
            row |= {"finished": None, "empty": None}
            if completion is not None:
                text = completion.text
                scored = [_scores(text, reference, further) for reference in item.references]
                row |= _means(scored) | {NEAREST: _nearest([scores[HEADLINE] for scores in scored])}
                row |= {"characters": len(metrics.nfc(text)), "words": word_count(text)}
                row |= {"finished": completion.finished, "empty": not text.strip()}
            rows.append(row)
        if len(item.references) > 1:
            rows.append({**head, "system": "E", **_another_expert(item, further)})
    return rows


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _scores(text: str, reference: str, further: Sequence[str]) -> dict[str, float]:
    """All metrics for one pair: ours in points, others in a unit of their own."""
    return metrics.score(text, reference) | {modules.label(n): modules.load(n)(text, reference) for n in further}


def _means(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: _mean([scores[name] for scores in scored]) for name in scored[0]}


def _nearest(scores: Sequence[float]) -> float:
    """The best of ``scores``, one left out in turn: the second best counts once, the best all other times."""
    if len(scores) == 1:
        return scores[0]
    *_, second, best = sorted(scores)
    return ((len(scores) - 1) * best + second) / len(scores)


def _another_expert(item: HeldOut, further: Sequence[str]) -> dict[str, float]:
    """Each reference, or each of those drawn, against all the others of its prompt."""
    references = item.references
    turns = list(range(len(references)))
    if len(turns) > TURNS:  # drawn from the texts in their own order: that of the file must not change a figure
        turns.sort(key=references.__getitem__)
        turns = random.Random(item.id).sample(turns, TURNS)
    scored = [[_scores(references[i], other, further) for j, other in enumerate(references) if i != j] for i in turns]
    nearest = _mean([max(scores[HEADLINE] for scores in one) for one in scored])
    return _means([scores for one in scored for scores in one]) | {NEAREST: nearest}


def word_count(text: str) -> int:
    """Words as the metrics see them, or pieces between white space where a text has none."""
    return len(metrics.words(text)) or len(text.split())


class ScoreTable:
    """Rows by system and prompt, in held-out order. Raises ``ValueError`` when held-out ids repeat."""

    def __init__(self, held_out: Sequence[HeldOut], rows: Sequence[ScoreRow], further: Sequence[str] = ()) -> None:
        self.further = [modules.label(name) for name in further]
        self.clusters = {item.id: item.cluster for item in held_out}
        if len(self.clusters) != len(held_out):
            raise ValueError("held-out ids repeat; merge demonstrations of one prompt with held_out()")
        self.several = any(len(item.references) > 1 for item in held_out)
        self._drawn = sum(len(item.references) > TURNS for item in held_out)
        self._rows: dict[str, dict[str, ScoreRow]] = {}
        for row in rows:
            if row["id"] in self.clusters:
                self._rows.setdefault(row["system"], {})[row["id"]] = row
        self._ids = {
            system: [key for key in self.clusters if key in found and found[key][HEADLINE] is not None]
            for system, found in self._rows.items()
        }
        self.systems = {system for system, ids in self._ids.items() if ids}

    def ids(self, system: str) -> list[str]:
        """Scored prompts of ``system``."""
        return self._ids.get(system, [])

    def scores(self, system: str) -> dict[str, float]:
        """The headline score of every scored prompt, in held-out order."""
        return {key: float(self._rows[system][key][HEADLINE]) for key in self.ids(system)}

    def column(self, system: str, name: str, ids: Sequence[str]) -> list[float]:
        """One column of the rows of ``system``."""
        rows = self._rows[system]
        return [float(rows[key][name]) for key in ids]

    def labels(self, ids: Sequence[str]) -> list[str]:
        """Clusters of ``ids``."""
        return [self.clusters[key] for key in ids]

    def lengths(self, system: str) -> tuple[int, ...]:
        """Words per completion."""
        return tuple(int(v) for v in self.column(system, "words", self.ids(system)))

    def summary(self, system: str) -> SystemScores:
        """Means over scored prompts: our metrics in points, others as they are, rates as shares, length as a ratio."""
        ids = self.ids(system)
        labels = self.labels(ids)
        names = [*metrics.METRICS, *([NEAREST] if self.several and NEAREST in self._rows[system][ids[0]] else [])]
        scores = {name: estimates.points(self.column(system, name, ids), labels) for name in names}
        scores |= {name: estimates.mean(self.column(system, name, ids), labels) for name in self.further}
        if system == "E":
            note = f"each expert against the others, on {len(ids)} prompts answered by several"
            if self._drawn:
                note += f"; {TURNS} of them, drawn, on {self._drawn} prompts answered by more than {TURNS}"
            return SystemScores(system, scores, note)
        scores["stop_rate"] = estimates.share(self.column(system, "finished", ids), labels)
        scores["empty_rate"] = estimates.share(self.column(system, "empty", ids), labels)
        columns = [self.column(system, name, ids) for name in ("characters", "expert_characters")]
        scores["length_ratio"] = estimates.ratio(columns[0], columns[1], labels)
        absent = len(self.clusters) - len(ids)
        note = f"{absent} of {len(self.clusters)} prompts unscored" if absent else ""
        return SystemScores(system, scores, note)

    def gain(self, floor: str, seed: int) -> Gain:
        """The clone minus ``floor`` on the prompts that both were scored on, in headline points."""
        both = set(self.ids(floor))
        ids = [key for key in self.ids("tuned") if key in both]
        if not ids:
            raise UserError(f"fidelity: the clone and {floor} share no scored prompt; run `sft evaluate`")
        differences = np.subtract(self.column("tuned", HEADLINE, ids), self.column(floor, HEADLINE, ids))
        labels = self.labels(ids)
        return Gain(
            floor,
            estimates.mean(differences, labels),
            intervals.sign_flip(differences, labels, seed=seed),
            intervals.smallest_visible_gain(differences, labels),
            intervals.skewness(differences, labels),
            intervals.hall_p(differences, labels),
        )
