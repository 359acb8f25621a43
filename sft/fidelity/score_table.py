"""Scores by system and prompt: the lines of ``scores.jsonl``, and their means with intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.fidelity.conventions import LEVEL
from sft.fidelity.scorecard import Gain, SystemScores
from sft.fidelity.scoring import CHECKER, Scoring
from sft.metrics import intervals
from sft.metrics.intervals import estimates
from sft.runs.machine import in_parts
from sft.runs.records import Completion

__all__ = ["ScoreRow", "ScoreTable", "score_rows", "word_count"]

#: Experts of a prompt who are compared with all others of it, drawn where there are more: the work would grow with
#: the square of their number.
TURNS = 16
#: Texts from which on scoring takes seconds, and all cores.
MANY = 10_000

#: One line of ``scores.jsonl``: id, cluster, system, then metrics in points and what the counts need.
#: Metrics are None where the prompt is unscored; lengths and flags are None for E, which is not one text.
ScoreRow = dict[str, Any]


def score_rows(
    held_out: Sequence[HeldOut],
    completions: Mapping[str, Mapping[str, Completion]],
    scoring: Scoring = Scoring(),  # noqa: B008  (frozen)
) -> list[ScoreRow]:
    """Scores of every system on every held-out prompt, prompt by prompt: the lines of ``scores.jsonl``.

    ``completions``: system -> held-out id -> completion. E needs none: each reference is scored against
    the others of its prompt, leave-one-out. Multiple references count as their mean, and in ``chrf_max`` (or whatever
    the headline is) as the nearest of them; there everybody leaves one reference out in turn, so that E, which has one
    less, is no worse off. A checker is content with any of them.
    Of more than :data:`TURNS` references to a prompt, that many are drawn by its id, each against all the others:
    that leaves the mean of both figures as it would be with all (a U-statistic's incomplete form, Blom 1976).
    Raises ``UserError`` as :class:`Scoring` does.
    """
    scoring.demand_of(held_out)
    if scoring.by_leaves:
        scoring = scoring.with_calls(held_out)
    asked = [(item, {system: written.get(item.id) for system, written in completions.items()}) for item in held_out]
    systems = max(1, len(completions))
    return [row for rows in in_parts(_some_rows, asked, scoring, least=MANY // systems, title="scores") for row in rows]


def _some_rows(asked: Sequence[tuple[HeldOut, Mapping[str, Completion | None]]], scoring: Scoring) -> list[ScoreRow]:
    """The lines of some prompts, each with what every system wrote."""
    rows: list[ScoreRow] = []
    plain = scoring.plain
    for asked_item, written in asked:
        item = replace(asked_item, references=tuple(map(plain, asked_item.references)))
        head = {"id": item.id, "cluster": item.cluster}
        expert = _mean([len(metrics.nfc(text)) for text in item.references])
        for system, completion in written.items():
            row: ScoreRow = {**head, "system": system, **dict.fromkeys((*scoring.columns, *scoring.labels))}
            row |= {scoring.nearest: None, "characters": None, "expert_characters": expert, "words": None}
            row |= {"finished": None, "empty": None}
            if completion is not None:
                text = plain(completion.text)
                row |= _of_text(item, text, item.references, scoring)
                row |= {"characters": len(metrics.nfc(text)), "words": word_count(text)}
                row |= {"finished": completion.finished, "empty": not text.strip()}
            rows.append(row)
        if len(item.references) > 1:
            rows.append({**head, "system": "E", **_another_expert(item, scoring)})
    return rows


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _of_text(item: HeldOut, text: str, references: Sequence[str], scoring: Scoring) -> dict[str, float | None]:
    """Every column of one text against ``references``."""
    pairs = [scoring.of_pair(text, reference, item) for reference in references]
    found: dict[str, float | None] = {name: _mean([scores[name] for scores in pairs]) for name in pairs[0]}
    if scoring.checker:
        found[CHECKER] = scoring.right(item, text, references)
    if scoring.headline == CHECKER:
        return found | {scoring.nearest: found[CHECKER]}
    return found | {scoring.nearest: _nearest([scores[scoring.headline] for scores in pairs])}


def _nearest(scores: Sequence[float]) -> float:
    """The best of ``scores``, one left out in turn: the second best counts once, the best all other times."""
    if len(scores) == 1:
        return scores[0]
    *_, second, best = sorted(scores)
    return ((len(scores) - 1) * best + second) / len(scores)


def _another_expert(item: HeldOut, scoring: Scoring) -> dict[str, float | None]:
    """Each reference, or each of those drawn, against all the others of its prompt."""
    references = item.references
    turns = list(range(len(references)))
    if len(turns) > TURNS:  # drawn from the texts in their own order: that of the file must not change a figure
        turns.sort(key=references.__getitem__)
        turns = random.Random(item.id).sample(turns, TURNS)
    nearest: list[float] = []
    pairs: list[dict[str, float]] = []
    right: list[float | None] = []
    for turn in turns:
        others = [other for place, other in enumerate(references) if place != turn]
        scored = [scoring.of_pair(references[turn], other, item) for other in others]
        pairs += scored
        if scoring.checker:
            right.append(scoring.right(item, references[turn], others))
        if scoring.headline != CHECKER:
            nearest.append(max(scores[scoring.headline] for scores in scored))
    found: dict[str, float | None] = {name: _mean([scores[name] for scores in pairs]) for name in pairs[0]}
    if scoring.checker:
        known = [value for value in right if value is not None]
        found[CHECKER] = _mean(known) if known else None
    return found | {scoring.nearest: found[CHECKER] if scoring.headline == CHECKER else _mean(nearest)}


def word_count(text: str) -> int:
    """Words as the metrics see them, or pieces between white space where a text has none."""
    return len(metrics.words(text)) or len(text.split())


class ScoreTable:
    """Rows by system and prompt, in held-out order. Raises ``ValueError`` when held-out ids repeat."""

    def __init__(
        self,
        held_out: Sequence[HeldOut],
        rows: Sequence[ScoreRow],
        scoring: Scoring = Scoring(),  # noqa: B008  (frozen)
    ) -> None:
        self.scoring = scoring
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
            system: [key for key in self.clusters if key in found and found[key][scoring.headline] is not None]
            for system, found in self._rows.items()
        }
        self.systems = {system for system, ids in self._ids.items() if ids}

    def ids(self, system: str) -> list[str]:
        """Scored prompts of ``system``."""
        return self._ids.get(system, [])

    def scores(self, system: str) -> dict[str, float]:
        """The headline score of every scored prompt, in held-out order."""
        return {key: float(self._rows[system][key][self.scoring.headline]) for key in self.ids(system)}

    def column(self, system: str, name: str, ids: Sequence[str]) -> list[float]:
        """One column of the rows of ``system``."""
        rows = self._rows[system]
        return [float(rows[key][name]) for key in ids]

    def known(self, system: str, name: str) -> list[str]:
        """Scored prompts of ``system`` that have a value in a column, which a checker leaves out where it can say
        nothing."""
        return [key for key in self.ids(system) if self._rows[system][key].get(name) is not None]

    def right(self) -> dict[str, dict[str, bool]]:
        """Which completions of each system the checker found right, where it could say anything."""
        known = {system: self.known(system, CHECKER) for system in self.systems - {"E"}}
        return {
            system: {key: self._rows[system][key][CHECKER] == 100 for key in keys}
            for system, keys in known.items()
            if keys
        }

    def labels(self, ids: Sequence[str]) -> list[str]:
        """Clusters of ``ids``."""
        return [self.clusters[key] for key in ids]

    def lengths(self, system: str) -> tuple[int, ...]:
        """Words per completion."""
        return tuple(int(v) for v in self.column(system, "words", self.ids(system)))

    def summary(self, system: str, level: float = 0.95) -> SystemScores:
        """Means over scored prompts: our metrics in points, others as they are, rates as shares, length as a ratio.

        ``level``: of their intervals.
        """
        ids = self.ids(system)
        labels = self.labels(ids)
        nearest, first = self.scoring.nearest, self._rows[system][ids[0]]
        names = [*self.scoring.columns, *([nearest] if self.several and nearest in first else [])]
        have = {name: self.known(system, name) for name in names}
        scores = {
            name: estimates.points(self.column(system, name, keys), self.labels(keys), level)
            for name, keys in have.items()
            if keys
        }
        for name in self.scoring.labels:
            values = self.column(system, name, ids)
            own_points = name == self.scoring.headline
            scores[name] = (
                estimates.points(values, labels, level) if own_points else estimates.mean(values, labels, level=level)
            )
        if system == "E":
            note = f"each expert against the others, on {len(ids)} prompts answered by several"
            if self._drawn:
                note += f"; {TURNS} of them, drawn, on {self._drawn} prompts answered by more than {TURNS}"
            return SystemScores(system, scores, note)
        scores["stop_rate"] = estimates.share(self.column(system, "finished", ids), labels, level)
        scores["empty_rate"] = estimates.share(self.column(system, "empty", ids), labels, level)
        columns = [self.column(system, name, ids) for name in ("characters", "expert_characters")]
        scores["length_ratio"] = estimates.ratio(columns[0], columns[1], labels, level)
        absent = len(self.clusters) - len(ids)
        note = f"{absent} of {len(self.clusters)} prompts unscored" if absent else ""
        return SystemScores(system, scores, note)

    def gain(self, floor: str, seed: int, clones: int = 1) -> Gain:
        """The clone minus ``floor`` on the prompts that both were scored on, in headline points.

        ``clones``: how many were judged on these prompts; the verdict's level is corrected for it (Bonferroni).
        """
        both = set(self.ids(floor))
        ids = [key for key in self.ids("tuned") if key in both]
        if not ids:
            raise UserError(f"fidelity: the clone and {floor} share no scored prompt; run `sft evaluate`")
        name = self.scoring.headline
        differences = np.subtract(self.column("tuned", name, ids), self.column(floor, name, ids))
        labels = self.labels(ids)
        level = 1 - LEVEL / clones
        return Gain(
            floor,
            estimates.mean(differences, labels),
            intervals.sign_flip(differences, labels, seed=seed),
            intervals.smallest_visible_gain(differences, labels, level=level),
            intervals.skewness(differences, labels),
            intervals.hall_p(differences, labels),
            level,
            intervals.clustered_t(differences, labels, level).low if clones > 1 else None,
        )
