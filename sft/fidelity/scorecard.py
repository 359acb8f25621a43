"""The nouns of a measurement: systems, gains, guardrails, the verdict, and the :class:`Scorecard` that holds them all.

Pure data, written to and read from ``scorecard.json``; ``fidelity`` computes it, ``reports`` draws it.
Scores are in points (0 to 100) unless a name says otherwise; every :class:`Estimate` carries its
interval or, with ``low`` and ``high`` empty, says in ``method`` why it has none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from sft.demonstrations.conflicts import Conflicts
from sft.fidelity.findings import (
    Calibration,
    Closure,
    Compounding,
    Example,
    ExpertScore,
    Forgetting,
    FromStart,
    Giveaway,
    KnowledgeGaps,
    Memorisation,
    OwnWords,
    PrefixPoint,
    Stratum,
    SurvivalPoint,
    Thoughts,
    Underachieving,
)
from sft.metrics.estimate import Estimate, figure
from sft.runs.tabular import Tabular, as_table

__all__ = [
    "COMPLETIONS_ALONE",
    "EARLIER_FLOORS",
    "FAILS",
    "NO_BASE",
    "PASSES",
    "PROFILES",
    "RUNGS",
    "SYSTEMS",
    "UNJUDGED",
    "Gain",
    "Guardrail",
    "IfNormalised",
    "Scorecard",
    "SystemScores",
    "Verdict",
]

#: id -> what it is in plain words, in the order a table shows them.
SYSTEMS = {
    "tuned": "the clone",
    "start": "the clone that it was fitted on from",
    "B0": "base model, zero-shot",
    "B3": "base model, three demonstrations in the prompt",
    "R": "completion of the nearest training prompt",
    "RK": "the most typical completion of the twenty nearest training prompts",
    "K": "one constant completion, the most typical of the training set",
    "L": "training completions of the usual length, drawn",
    "P": "the prompt, copied",
    "E": "another expert",
}

#: The floors of a run that was measured before there were others, and whose files name none.
EARLIER_FLOORS = ("B0", "B3", "R", "K", "P")

#: Verdict rungs, worst first.
RUNGS = (
    "no evidence of cloning",
    "imitates",
    "learned from the demonstrations",
    "meets your bar",
    "cloned, within the margin",
)

#: In place of a rung where the likelihoods that every rung asks for are not there: of nobody, or of no base model.
COMPLETIONS_ALONE, NO_BASE = "not judged: completions alone", "not judged: no base model beside it"
#: The same where a bar decides.
PASSES, FAILS = "passes your bar", "does not pass your bar"

#: How much is measured. ``fast`` generates for no base model; ``full`` adds what costs as much again.
PROFILES = ("fast", "standard", "full")


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

    ``smallest_visible``: the gain whose interval this many prompts would have put above 0 with 80 % probability, by the
    verdict's rule but for skewness; None where there are too few clusters to show any. ``skewness`` of the differences,
    and ``skew_p``, one-sided, with it taken into account (``intervals.hall_p``); None with fewer than three clusters,
    and in older scorecards.
    ``level``: of the verdict, above 0.95 from the second clone on that is judged on these prompts; ``low``: the bound
    at that level, None where that is the estimate's own.
    """

    floor: str
    estimate: Estimate
    p_value: float
    smallest_visible: float | None
    skewness: float | None = None
    skew_p: float | None = None
    level: float = 0.95
    low: float | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One red line. ``limit`` is in the units of ``value``; ``least`` is a second one, below it, where there is one.

    ``state``: "red" where the interval of ``value`` lies beyond the limit, "green" where it lies inside, "amber" where
    it straddles it. ``caps``: red keeps the verdict at "imitates". ``settled_by``: about how many prompts (windows of
    plain text for "forgetting") settle what is amber, if the value stays; None where no number does.
    """

    name: str
    value: Estimate
    limit: float
    state: Literal["red", "amber", "green"]
    meaning: str
    least: float | None = None
    caps: bool = True
    settled_by: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer in words: the rung reached, or what stands in its place; why not higher; and the one thing to do next.

    ``shortfall``: a sentence of its own where the clone is shown *not* to be cloned: what is missing and how much
    of the way is closed; "" otherwise.
    """

    rung: str
    sentence: str
    reasons: tuple[str, ...]
    next_step: str
    shortfall: str = ""


@dataclass(frozen=True, slots=True)
class IfNormalised:
    """What would be decided with further ``steps`` of ``fidelity.normalise``: ``rung``, the ``gain`` over what is then
    the best shortcut, and the ``share`` of the distance to another expert, where there is one."""

    steps: tuple[str, ...]
    rung: str
    gain: Gain
    share: Estimate | None = None


#: What stands in a scorecard until ``verdict.judge`` has read it: the verdict rests on all the rest.
UNJUDGED = Verdict("", "", (), "")


@dataclass(frozen=True, slots=True)
class Scorecard(Tabular):
    """Everything measured on one held-out set, recomputable from the observations of a run.

    ``bits_per_byte``: system -> {"with_stop": ..., "without_stop": ...}, or {"as_given": ...} where a file tells a sum
    for each text. ``action``: system ->
    {"top1", "top5", "prob_true_act", "entropy", "neglogp"}: shares and probabilities 0 to 1, nats.
    ``lengths``: system, or "expert", -> words per completion, in held-out order. ``signature``: data hash,
    n, clusters, template hash, decoding, metric versions.

    ``corpus``: system -> {"bleu", "chrf_pp"}, points; "tuned" has {"bleu_one_out", "chrf_pp_one_out"} too, against as
    many references as E has, to be held beside E. ``manner``: system, or "expert", -> {"rep_4",
    "distinct_2", "distinct_outputs": shares; "length_spread": standard deviation of the length over the expert's}, as
    far as each can be had.
    ``prefix``: rests of "tuned" after the expert's beginning, "own" after the clone's own, "E" of another expert.
    ``impostor``: "sampled", "greedy", "base", "experts" -> AUC,
    0.5 for a coin, below it by chance only. ``giveaways``: of each of these whose AUC is shown above 0.5, the habits
    that tell it from the expert, strongest first; empty where no habit looked for does.
    ``self_agreement``: "tuned", "experts", "difference", points. ``calibration``: "tuned", "B0" on the expert's path;
    "own": its ``accuracy`` is how often the clone's own tokens are the expert's, and nothing else of it is a finding,
    for another good answer counts as wrong there. ``checked``: how often the checker
    finds the clone right less how often another expert, points, paired; None without a checker or another expert.
    ``absent``: section -> why it was not measured. ``clones``: how many were
    judged on these prompts so far, this one included. ``held_to``: where they are several, the figures that the top
    rung and a bar ask a bound of, with intervals of the level that this asks ("sampled", "checked", and metrics).
    ``looks``: how often this split was looked at.
    ``floors``: the shortcuts that a clone which has learned is ahead of, measured or not. ``names``: system -> what it
    is in plain words, where that is not what ``SYSTEMS`` says.
    ``if_normalised``: what setting something aside in every text would change, where it would change the verdict.
    ``accumulated`` and ``off_path`` are read in older scorecards and no longer measured: the one fell with the length
    of what is left of a text, the other called calibrated clones overconfident (docs/decisions.md).
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
    largest_cluster: int = 0
    unscored: int = 0
    bar: dict[str, float] = field(default_factory=dict)
    profile: str = "standard"
    looks: int = 0
    clones: int = 1
    held_to: dict[str, Estimate] = field(default_factory=dict)
    closure: Closure | None = None
    experts: tuple[ExpertScore, ...] = ()
    conflicts: Conflicts | None = None
    corpus: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    manner: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    prefix: dict[str, tuple[PrefixPoint, ...]] = field(default_factory=dict)
    accumulated: Estimate | None = None
    impostor: dict[str, Estimate] = field(default_factory=dict)
    giveaways: dict[str, tuple[Giveaway, ...]] = field(default_factory=dict)
    self_agreement: dict[str, Estimate] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    off_path: Estimate | None = None
    own_words: OwnWords | None = None
    compounding: Compounding | None = None
    thoughts: Thoughts | None = None
    checked: Estimate | None = None
    memorisation: Memorisation | None = None
    forgetting: tuple[Forgetting, ...] = ()
    gaps: KnowledgeGaps | None = None
    underachieving: Underachieving | None = None
    strata: tuple[Stratum, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    floors: tuple[str, ...] = EARLIER_FLOORS
    names: dict[str, str] = field(default_factory=dict)
    if_normalised: IfNormalised | None = None
    from_start: FromStart | None = None
    schema_version: int = 2

    def scores_of(self, system: str) -> dict[str, Estimate]:
        """Metric -> estimate of ``system``; empty where it was not measured."""
        return next((one.scores for one in self.systems if one.system == system), {})

    def decides(self, name: str, shown: Estimate) -> Estimate:
        """The figure whose bounds decide: at the level of all clones judged here where they are several."""
        return self.held_to.get(name, shown)

    def to_text(self) -> str:
        """The verdict in words."""
        parts = [f"Verdict: {self.verdict.rung}", self.verdict.sentence, self.verdict.shortfall]
        parts += [f"  - {reason}" for reason in self.verdict.reasons]
        return "\n".join([part for part in parts if part] + [f"Next: {self.verdict.next_step}"])

    def table(self) -> list[dict[str, Any]]:
        """A row an estimate: which ``part`` it is of, whose, of what, its interval and unit.

        Parts are "score" (points, shares, ratios), "lead" (the clone's over a shortcut, points), "bits per byte" and
        "guardrail".
        """
        rows = [
            *(("score", one.system, name, found) for one in self.systems for name, found in one.scores.items()),
            *(("lead", gain.floor, self.headline, gain.estimate) for gain in self.gains),
            *(
                ("bits per byte", system, name, found)
                for system, kinds in self.bits_per_byte.items()
                for name, found in kinds.items()
            ),
            *(("guardrail", "tuned", rail.name, rail.value) for rail in self.guardrails),
        ]
        return [
            {"part": part, "system": system, "name": self.names.get(system) or SYSTEMS.get(system, system)}
            | {"figure": name, "value": found.value, "low": found.low, "high": found.high, "level": found.level}
            | {"method": found.method, "n": found.n}
            for part, system, name, found in rows
        ]

    def _repr_html_(self) -> str:
        """What Jupyter shows: the verdict, and the systems beside each other."""
        leads = {gain.floor: gain.estimate for gain in self.gains}
        rows = [
            {
                "system": self.names.get(one.system) or SYSTEMS.get(one.system, one.system),
                self.headline: figure(one.scores[self.headline]) if self.headline in one.scores else None,
                "the clone's lead": figure(leads[one.system], signed=True) if one.system in leads else None,
            }
            for one in self.systems
        ]
        return f"{Tabular._repr_html_(self)}{as_table(rows)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scorecard:
        """Inverse of :meth:`to_dict`; raises pydantic's ``ValidationError`` on anything else.

        Guardrails of older scorecards say only whether they are red: what is not is read as green, as it was judged.
        They held the clone against one base only, the better one on the same prompts.
        """
        rails, under = value.get("guardrails"), value.get("underachieving")
        if isinstance(rails, list | tuple):
            value = value | {"guardrails": [_with_state(rail) for rail in rails]}
        if isinstance(under, dict) and "beside" not in under and "base" in under:
            one = {name: under.get(name) for name in ("base", "difference", "lost", "won", "p_value")}
            value = value | {"underachieving": under | {"beside": [one]}}
        return _reader().validate_python(value)


@cache  # making one takes longer than reading ten scorecards
def _reader() -> TypeAdapter[Scorecard]:
    return TypeAdapter(Scorecard)


def _with_state(rail: Any) -> Any:
    if isinstance(rail, dict) and isinstance(rail.get("red"), bool) and "state" not in rail:
        return {key: part for key, part in rail.items() if key != "red"} | {"state": "red" if rail["red"] else "green"}
    return rail
