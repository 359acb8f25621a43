"""How well the expert has been cloned: from completions and token scores to a :class:`Scorecard`.

The clone ("tuned") is compared, prompt by prompt, with shortcuts that need no learning (B0, B3, R, K, P)
and, where a prompt was answered twice, with another expert (E). A system's score on a prompt is the mean
over the prompt's references; a prompt without a completion is unscored and counted, never zero.
Everything here is arithmetic on what is on disk: no model, no draw without a seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft import intervals, metrics
from sft.demonstrations import HeldOut, fingerprint, prompt_text
from sft.errors import UserError
from sft.observations import Completion, TokenScores
from sft.probes import estimates
from sft.scorecards import (
    SYSTEMS,
    Estimate,
    Example,
    Gain,
    Guardrail,
    Scorecard,
    SurvivalPoint,
    SystemScores,
)
from sft.verdicts import FLOORS, GUARDRAIL_LIMITS, Evidence, bar_points, judge

__all__ = ["HEADLINE", "Row", "measure", "score_rows"]

#: The metric that gains and verdicts are about: chrF with beta 1, which does not pay ramblers.
HEADLINE = "chrf"
#: Systems whose log loss the clone's is compared with.
IMITATION_FLOORS = ("B0", "B3")
#: Tokens a survival curve is drawn for.
SURVIVAL_TOKENS = 512
#: Kind of example -> how many.
EXAMPLES = {"worst": 10, "best": 5, "typical": 5, "earliest divergence": 5}

#: One line of ``scores.jsonl``: id, cluster, system, then metrics in points and what the counts need.
#: Metrics are None where the prompt is unscored; lengths and flags are None for E, which is not one text.
Row = dict[str, Any]
Scores = Mapping[str, Mapping[str, TokenScores]]


def score_rows(held_out: Sequence[HeldOut], completions: Mapping[str, Mapping[str, Completion]]) -> list[Row]:
    """Scores of every system on every held-out prompt, prompt by prompt: the lines of ``scores.jsonl``.

    ``completions``: system -> held-out id -> completion. E needs none: each reference is scored against
    the others of its prompt, leave-one-out. Multiple references count as their mean.
    """
    rows: list[Row] = []
    for item in held_out:
        head = {"id": item.id, "cluster": item.cluster}
        expert = _mean([len(metrics.nfc(text)) for text in item.references])
        for system, written in completions.items():
            completion = written.get(item.id)
            row: Row = {**head, "system": system, **dict.fromkeys(metrics.METRICS)}
            row |= {"characters": None, "expert_characters": expert, "words": None}
            row |= {"finished": None, "empty": None}
            if completion is not None:
                text = completion.text
                row |= _mean_scores([(text, reference) for reference in item.references])
                row |= {"characters": len(metrics.nfc(text)), "words": _word_count(text)}
                row |= {"finished": completion.finished, "empty": not text.strip()}
            rows.append(row)
        if len(item.references) > 1:
            pairs = [
                (text, other)
                for i, text in enumerate(item.references)
                for j, other in enumerate(item.references)
                if i != j
            ]
            rows.append({**head, "system": "E", **_mean_scores(pairs)})
    return rows


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_scores(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    scored = [metrics.score(text, reference) for text, reference in pairs]
    return {name: _mean([scores[name] for scores in scored]) for name in metrics.METRICS}


def _word_count(text: str) -> int:
    return len(metrics.words(text)) or len(text.split())


def measure(
    held_out: Sequence[HeldOut],
    completions: Mapping[str, Mapping[str, Completion]],
    token_scores: Scores | None = None,
    *,
    bar: Mapping[str, float] | None = None,
    signature: Mapping[str, Any] | None = None,
    split: str = "test",
    rows: Sequence[Row] | None = None,
    guardrails: Sequence[Guardrail] = (),
    seed: int = 0,
) -> Scorecard:
    """Everything there is to say about one checkpoint on one held-out set.

    ``completions``: system -> held-out id -> completion; needs "tuned" and at least one floor.
    ``token_scores``: system -> held-out id -> teacher-forced scores of the first reference.
    ``bar``: metric -> what the user asks for (see ``verdicts.bar_points``). ``rows``: what
    :func:`score_rows` gave before, to save scoring again. ``guardrails``: further red lines, measured
    elsewhere. ``signature`` is completed with data hash, counts and metric versions.
    Raises ``UserError`` when there is nothing to measure or the bar names no metric of ours.
    """
    token_scores = token_scores or {}
    bars = bar_points(bar or {})
    if not held_out:
        raise UserError("fidelity: there are no held-out prompts; set split.test above 0")
    table = _Table(held_out, score_rows(held_out, completions) if rows is None else rows)
    floors = [floor for floor in FLOORS if table.ids(floor)]
    if not table.ids("tuned") or not floors:
        raise UserError(
            "fidelity: completions of the clone and of at least one shortcut "
            f"({', '.join(FLOORS)}) are needed; run `sft evaluate` first"
        )
    systems = [*(s for s in SYSTEMS if s in table.systems), *sorted(table.systems - set(SYSTEMS))]
    summary = tuple(table.summary(system, seed) for system in systems)
    gains = tuple(table.gain(floor, HEADLINE, seed) for floor in floors)
    floor, saved, p_value = _imitation(table.clusters, token_scores, seed)
    missing = _unscored(held_out, table, ["tuned", *floors], token_scores)
    red_lines = (*_guardrails(table, len(missing)), *guardrails)
    tuned = next(s.scores for s in summary if s.system == "tuned")
    another = next((s.scores[HEADLINE] for s in summary if s.system == "E"), None)
    if another is not None and 2 * another.n <= len(held_out):
        another = None  # too few prompts with two experts to call this a set with several
    measured = {system: scores for system, scores in token_scores.items() if _known(table.clusters, scores)}
    return Scorecard(
        verdict=judge(
            Evidence(
                headline=HEADLINE,
                n=len(table.ids("tuned")),
                clusters=len({table.clusters[key] for key in table.ids("tuned")}),
                gains=gains,
                imitation=saved,
                imitation_p=p_value,
                guardrails=red_lines,
                tuned=tuned[HEADLINE],
                bar={name: (tuned[name], points) for name, points in bars.items()},
                experts_agree=another,
            )
        ),
        headline=HEADLINE,
        gain=min(gains, key=lambda gain: gain.estimate.value),
        gains=gains,
        imitation_gain=saved,
        imitation_floor=floor,
        systems=summary,
        bits_per_byte={s: _bits_per_byte(table.clusters, scores, seed) for s, scores in measured.items()},
        action={s: _action(table.clusters, scores) for s, scores in measured.items()},
        survival={s: _survival(table.clusters, scores) for s, scores in measured.items()},
        lengths={
            "expert": tuple(_word_count(item.references[0]) for item in held_out),
            **{s: table.lengths(s) for s in systems if s != "E"},
        },
        guardrails=red_lines,
        examples=_examples(held_out, table, completions, token_scores.get("tuned", {})),
        signature=_signature(held_out, signature or {}, len(set(table.clusters.values())), seed),
        split=split,
        n=len(held_out),
        clusters=len(set(table.clusters.values())),
        unscored=len(missing),
        bar=bars,
    )


class _Table:
    """Rows by system and prompt, in held-out order."""

    def __init__(self, held_out: Sequence[HeldOut], rows: Sequence[Row]) -> None:
        self.clusters = {item.id: item.cluster for item in held_out}
        if len(self.clusters) != len(held_out):
            raise ValueError("held-out ids repeat; merge demonstrations of one prompt with held_out()")
        self._rows: dict[str, dict[str, Row]] = {}
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

    def score(self, system: str, key: str) -> float | None:
        """The headline score of one prompt, if there is one."""
        value = self._rows.get(system, {}).get(key, {}).get(HEADLINE)
        return None if value is None else float(value)

    def column(self, system: str, name: str, ids: Sequence[str]) -> list[float]:
        rows = self._rows[system]
        return [float(rows[key][name]) for key in ids]

    def labels(self, ids: Sequence[str]) -> list[str]:
        return [self.clusters[key] for key in ids]

    def lengths(self, system: str) -> tuple[int, ...]:
        return tuple(int(v) for v in self.column(system, "words", self.ids(system)))

    def summary(self, system: str, seed: int) -> SystemScores:
        """Means over scored prompts: metrics in points, rates as shares, length against the expert's."""
        ids = self.ids(system)
        labels = self.labels(ids)
        scores = {name: estimates.points(self.column(system, name, ids), labels) for name in metrics.METRICS}
        if system == "E":
            note = f"each expert against the others, on {len(ids)} prompts answered by several"
            return SystemScores(system, scores, note)
        scores["stop_rate"] = estimates.share(self.column(system, "finished", ids), labels)
        scores["empty_rate"] = estimates.share(self.column(system, "empty", ids), labels)
        columns = [self.column(system, name, ids) for name in ("characters", "expert_characters")]
        scores["length_ratio"] = estimates.ratio(columns[0], columns[1], labels, seed)
        absent = len(self.clusters) - len(ids)
        note = f"{absent} of {len(self.clusters)} prompts unscored" if absent else ""
        return SystemScores(system, scores, note)

    def gain(self, floor: str, name: str, seed: int) -> Gain:
        """The clone minus ``floor`` on the prompts that both were scored on."""
        both = set(self.ids(floor))
        ids = [key for key in self.ids("tuned") if key in both]
        if not ids:
            raise UserError(f"fidelity: the clone and {floor} share no scored prompt; run `sft evaluate`")
        differences = np.subtract(self.column("tuned", name, ids), self.column(floor, name, ids))
        labels = self.labels(ids)
        return Gain(
            floor,
            estimates.estimate(intervals.clustered_t(differences, labels)),
            intervals.sign_flip(differences, labels, seed=seed),
            intervals.smallest_visible_gain(differences, labels),
        )


def _known(clusters: Mapping[str, str], scores: Mapping[str, TokenScores]) -> list[TokenScores]:
    """Token scores of held-out prompts, in held-out order."""
    return [scores[key] for key in clusters if key in scores]


def _bits(scores: Sequence[TokenScores], *, stop: bool = True) -> NDArray[np.float64]:
    """Bits per completion, shape (n,), with or without the stop token at its end."""
    return np.array([math.fsum(s.nats if stop else s.nats[:-1]) for s in scores]) / math.log(2)


def _bits_per_byte(clusters: Mapping[str, str], scores: Mapping[str, TokenScores], seed: int) -> dict[str, Estimate]:
    known = _known(clusters, scores)
    labels, sizes = [clusters[s.id] for s in known], [s.bytes for s in known]
    return {
        "with_stop": estimates.ratio(_bits(known), sizes, labels, seed),
        "without_stop": estimates.ratio(_bits(known, stop=False), sizes, labels, seed),
    }


def _imitation(
    clusters: Mapping[str, str], token_scores: Scores, seed: int
) -> tuple[str, Estimate | None, float | None]:
    """Bits per byte that the clone saves over the better base, on prompts both were scored on; with p."""
    candidates: list[tuple[float, str, Estimate, float]] = []
    tuned = token_scores.get("tuned", {})
    for floor in IMITATION_FLOORS:
        other = token_scores.get(floor, {})
        ids = [key for key in clusters if key in tuned and key in other]
        if not ids:
            continue
        labels, sizes = [clusters[key] for key in ids], [tuned[key].bytes for key in ids]
        bits = _bits([other[key] for key in ids])
        saved = bits - _bits([tuned[key] for key in ids])
        estimate, p_value = estimates.ratio(saved, sizes, labels, seed), intervals.sign_flip(saved, labels, seed=seed)
        candidates.append((float(bits.sum()) / sum(sizes), floor, estimate, p_value))
    if not candidates:
        return "", None, None
    _, floor, estimate, p_value = min(candidates, key=lambda c: c[0])
    return floor, estimate, p_value


def _action(clusters: Mapping[str, str], scores: Mapping[str, TokenScores]) -> dict[str, Estimate]:
    """Token means, stop token included: does the policy choose what the expert chose at each step?

    The names are those of imitation learning (``imitation``'s behavioural cloning): top1 and top5 are
    shares, prob_true_act a probability, entropy and neglogp nats.
    """
    known = _known(clusters, scores)
    kinds = {cluster: code for code, cluster in enumerate(dict.fromkeys(clusters.values()))}
    labels = np.repeat([kinds[clusters[s.id]] for s in known], [len(s.nats) for s in known])
    nats = np.array([value for s in known for value in s.nats])
    ranks = np.array([rank for s in known for rank in s.ranks])
    entropies = np.array([value for s in known for value in s.entropies])
    shares = {
        "top1": (ranks < 1).astype(float),
        "top5": (ranks < 5).astype(float),
        "prob_true_act": np.exp(-nats),
    }
    found = {n: estimates.estimate(intervals.clustered_t(v, labels), bounds=(0, 1)) for n, v in shares.items()}
    for name, values in {"entropy": entropies, "neglogp": nats}.items():
        found[name] = estimates.estimate(intervals.clustered_t(values, labels))
    return found


def _left_at(scores: TokenScores) -> int | None:
    """The 1-based token at which greedy decoding leaves the expert's path; None if it never does."""
    return next((position for position, rank in enumerate(scores.ranks, 1) if rank > 0), None)


def _survival(clusters: Mapping[str, str], scores: Mapping[str, TokenScores]) -> tuple[SurvivalPoint, ...]:
    """Share still on the expert's path after each token; a completion that ends there is censored."""
    left = [(_left_at(s), len(s.ranks)) for s in _known(clusters, scores)]
    steps = intervals.kaplan_meier(
        [token or length for token, length in left],
        [token is not None for token, _ in left],
        limit=SURVIVAL_TOKENS,
    )
    return tuple(SurvivalPoint(step.time, step.share, step.low, step.high) for step in steps)


def _unscored(held_out: Sequence[HeldOut], table: _Table, systems: Sequence[str], token_scores: Scores) -> list[str]:
    """Prompts on which the comparison is not complete: a completion or a token score is missing."""
    written = [set(table.ids(system)) for system in systems]
    teacher_forced = [set(token_scores[s]) for s in ("tuned", *IMITATION_FLOORS) if token_scores.get(s)]
    complete = set.intersection(*written, *teacher_forced)
    return [item.id for item in held_out if item.id not in complete]


def _guardrails(table: _Table, unscored: int) -> tuple[Guardrail, ...]:
    ids = table.ids("tuned")
    labels = table.labels(ids)
    running_on = [1 - flag for flag in table.column("tuned", "finished", ids)]
    found = {
        "not stopping": (estimates.share(running_on, labels), "share of completions cut at the length limit"),
        "empty": (estimates.share(table.column("tuned", "empty", ids), labels), "share of completions without a word"),
        "unscored": (
            estimates.estimate(intervals.wilson(unscored, len(table.clusters))),
            "share of held-out prompts for which some system has no completion or score",
        ),
    }
    return tuple(
        Guardrail(name, value, GUARDRAIL_LIMITS[name], value.value > GUARDRAIL_LIMITS[name], meaning)
        for name, (value, meaning) in found.items()
    )


def _examples(
    held_out: Sequence[HeldOut],
    table: _Table,
    completions: Mapping[str, Mapping[str, Completion]],
    tuned: Mapping[str, TokenScores],
) -> tuple[Example, ...]:
    """Worst, best and typical prompts by the clone's score, then earliest divergences; ties by id.

    The first three kinds share no prompt: a small set fills worst first, then best, then typical.
    """
    items = {item.id: item for item in held_out}
    ids = table.ids("tuned")
    score = dict(zip(ids, table.column("tuned", HEADLINE, ids), strict=True))
    middle = float(np.median(list(score.values())))
    worst = sorted(ids, key=lambda key: (score[key], key))[: EXAMPLES["worst"]]
    rest = [key for key in ids if key not in worst]
    best = sorted(rest, key=lambda key: (-score[key], key))[: EXAMPLES["best"]]
    rest = [key for key in rest if key not in best]
    typical = sorted(rest, key=lambda key: (abs(score[key] - middle), key))[: EXAMPLES["typical"]]
    left = [(_left_at(tuned[key]), key) for key in ids if key in tuned]
    earliest = sorted((token, key) for token, key in left if token is not None)
    chosen = {
        "best": best,
        "typical": typical,
        "worst": worst,
        "earliest divergence": [key for _, key in earliest[: EXAMPLES["earliest divergence"]]],
    }
    found: list[Example] = []
    for kind, keys in chosen.items():
        for key in keys:
            written = {system: by_id[key].text for system, by_id in completions.items() if key in by_id}
            scores = {system: table.score(system, key) for system in (*written, "E")}
            known = {system: value for system, value in scores.items() if value is not None}
            item = items[key]
            found.append(Example(kind, key, prompt_text(item.prompt), item.references[0], written, known))
    return tuple(found)


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("numpy", "scipy")}


def _signature(held_out: Sequence[HeldOut], given: Mapping[str, Any], clusters: int, seed: int) -> dict[str, Any]:
    """What the numbers hang on: the caller's part (template hash, decoding), completed with ours."""
    return {
        "held_out_hash": fingerprint([asdict(item) for item in held_out]),
        "n": len(held_out),
        "clusters": clusters,
        "headline": HEADLINE,
        "metrics": metrics.signatures(),
        "intervals": "CR2 clustered t (Bell & McCaffrey df); Wilson; cluster bootstrap "
        f"{intervals.DRAWS} draws; sign-flip {intervals.FLIPS} draws; Greenwood log-log; 95 %",
        "seed": seed,
        **_versions(),
        **given,
    }
