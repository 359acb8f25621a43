"""The nouns of a measurement: estimates, systems, gains, the verdict, and the :class:`Scorecard`.

Pure data, written to and read from ``scorecard.json``; ``fidelity`` computes it, ``reports`` draws it.
Scores are in points (0 to 100) unless a name says otherwise; every :class:`Estimate` carries its
interval or, with ``low`` and ``high`` empty, says in ``method`` why it has none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

__all__ = [
    "RUNGS",
    "SYSTEMS",
    "Completion",
    "Estimate",
    "Example",
    "Gain",
    "Guardrail",
    "Scorecard",
    "SurvivalPoint",
    "SystemScores",
    "TokenScores",
    "Verdict",
]

#: id -> what it is in plain words, in the order a table shows them.
SYSTEMS = {
    "tuned": "the clone",
    "B0": "base model, zero-shot",
    "B3": "base model, three demonstrations in the prompt",
    "R": "completion of the nearest training prompt",
    "K": "one constant completion, the most typical of the training set",
    "P": "the prompt, copied",
    "E": "another expert",
}

#: Verdict rungs, worst first.
RUNGS = (
    "no evidence of cloning",
    "imitates",
    "learned from the demonstrations",
    "meets your bar",
)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a system wrote for one held-out prompt. ``finished``: it stopped by itself."""

    id: str
    text: str
    finished: bool
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Teacher-forced scores of one expert completion under one policy.

    The tuples run over the completion's tokens, stop token last. ``nats``: -log p of the expert's token;
    ``ranks``: how many tokens the policy found likelier (0 = it would have written the same);
    ``entropies``: of the policy's next-token distribution, nats. ``bytes``: UTF-8 length of the completion.
    """

    id: str
    nats: tuple[float, ...]
    ranks: tuple[int, ...]
    entropies: tuple[float, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. ``low``/``high`` are None when none can be had; ``method`` says why."""

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    n: int


@dataclass(frozen=True, slots=True)
class SystemScores:
    """One system's row in the table. ``scores``: metric name -> estimate of its mean.

    Metrics are in points; "stop_rate" and "empty_rate" are shares from 0 to 1, "length_ratio" is the
    system's characters over the expert's. E has metrics only.
    """

    system: str
    scores: dict[str, Estimate]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gain:
    """Paired difference tuned minus ``floor`` on the headline score, in points.

    ``smallest_visible``: the gain this many prompts would have shown with 80 % probability (one-sided
    5 %); None where prompts of one cluster only can show nothing.
    """

    floor: str
    estimate: Estimate
    p_value: float
    smallest_visible: float | None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One red line. ``red`` caps the verdict at "imitates"; ``limit`` is in the units of ``value``."""

    name: str
    value: Estimate
    limit: float
    red: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer in words: the rung reached, why not higher, and the one thing to do next."""

    rung: str
    sentence: str
    reasons: tuple[str, ...]
    next_step: str


@dataclass(frozen=True, slots=True)
class SurvivalPoint:
    """Share of completions whose first ``token`` tokens the policy would have written exactly so."""

    token: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out prompt side by side. ``kind``: best, typical, worst or earliest divergence."""

    kind: str
    id: str
    prompt: str
    expert: str
    completions: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything measured on one held-out set, recomputable from ``scores.jsonl`` and completions.

    ``bits_per_byte``: system -> {"with_stop": ..., "without_stop": ...}. ``action``: system ->
    {"top1", "top5", "prob_true_act", "entropy", "neglogp"}: shares and probabilities 0 to 1, nats.
    ``lengths``: system, or "expert", -> words per completion, in held-out order. ``signature``: data hash,
    n, clusters, template hash, decoding, metric versions.
    """

    verdict: Verdict
    headline: str
    gain: Gain
    gains: tuple[Gain, ...]
    imitation_gain: Estimate | None
    imitation_floor: str
    systems: tuple[SystemScores, ...]
    bits_per_byte: dict[str, dict[str, Estimate]]
    action: dict[str, dict[str, Estimate]]
    survival: dict[str, tuple[SurvivalPoint, ...]]
    lengths: dict[str, tuple[int, ...]]
    guardrails: tuple[Guardrail, ...]
    examples: tuple[Example, ...]
    signature: dict[str, Any]
    split: str = "test"
    n: int = 0
    clusters: int = 0
    unscored: int = 0
    bar: dict[str, float] = field(default_factory=dict)
    schema_version: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scorecard:
        """Inverse of :meth:`to_dict`; raises pydantic's ``ValidationError`` on anything else."""
        return TypeAdapter(cls).validate_python(value)
