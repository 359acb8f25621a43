"""The nouns of a measurement: estimates, systems, gains, the verdict, and the :class:`Scorecard`.

Pure data, written to and read from ``scorecard.json``; ``fidelity`` computes it, ``reports`` draws it.
Scores are in points (0 to 100) unless a name says otherwise; every :class:`Estimate` carries its
interval or, with ``low`` and ``high`` empty, says in ``method`` why it has none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from sft.demonstrations.conflicts import Conflicts
from sft.metrics.estimate import Estimate

__all__ = [
    "EARLIER_FLOORS",
    "PROFILES",
    "RUNGS",
    "SYSTEMS",
    "UNJUDGED",
    "BesideBase",
    "Calibration",
    "CalibrationBin",
    "Closure",
    "Compounding",
    "Example",
    "ExpertScore",
    "Forgetting",
    "Gain",
    "GapSpan",
    "Guardrail",
    "KnowledgeGap",
    "KnowledgeGaps",
    "LostAnswer",
    "Memorisation",
    "OwnWords",
    "PrefixPoint",
    "Scorecard",
    "SharedRun",
    "Stratum",
    "SurvivalPoint",
    "SystemScores",
    "Underachieving",
    "Verdict",
]

#: id -> what it is in plain words, in the order a table shows them.
SYSTEMS = {
    "tuned": "the clone",
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

    ``smallest_visible``: the gain this many prompts would have shown with 80 % probability by the verdict's own
    rule; None where there are too few clusters to show any. ``skewness`` of the differences, and ``skew_p``, one-sided,
    with it taken into account (``intervals.hall_p``); None with fewer than three clusters, and in older scorecards.
    """

    floor: str
    estimate: Estimate
    p_value: float
    smallest_visible: float | None
    skewness: float | None = None
    skew_p: float | None = None


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
    """The answer in words: the rung reached, why not higher, and the one thing to do next.

    ``shortfall``: a sentence of its own where the clone is shown *not* to be cloned: what is missing and how much
    of the way is closed; "" otherwise.
    """

    rung: str
    sentence: str
    reasons: tuple[str, ...]
    next_step: str
    shortfall: str = ""


#: What stands in a scorecard until ``verdict.judge`` has read it: the verdict rests on all the rest.
UNJUDGED = Verdict("", "", (), "")


@dataclass(frozen=True, slots=True)
class Closure:
    """How much of the distance from the best floor to another expert the clone has closed.

    ``surplus``: mean of s(tuned) - margin * s(E) - (1 - margin) * s(floor), points: above 0, at least ``margin`` of
    the distance is closed. ``share``: the share closed (Fieller); its bounds are None where no bounded interval
    exists. ``finding``: "cloned", "not cloned" or "undecided", by the interval of ``surplus`` (a share that no
    interval bounds can still be decided). ``expert``: mean score of another expert on the same prompts.
    """

    floor: str
    margin: float
    surplus: Estimate
    share: Estimate
    tuned: Estimate
    expert: Estimate
    p_value: float
    finding: str


@dataclass(frozen=True, slots=True)
class ExpertScore:
    """The clone against one named expert. ``own``: the clone was fitted to this one.

    ``score``: headline points of the clone against this expert's completions; ``agreement``: of the other experts
    against them (None: nobody else answered these prompts). ``lead``: own experts' score minus this one's, paired
    by prompt, with the Holm-adjusted one-sided ``p_value``; both None for an own expert.
    """

    expert: str
    own: bool
    score: Estimate
    agreement: Estimate | None
    lead: Estimate | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class PrefixPoint:
    """One point of a prefix-forcing curve: the rest of the expert's completion, after its first ``share``.

    ``score``: headline points of what was written against that rest. ``excess`` (on the curve "own"): what another
    expert's rest scores minus that, paired; None without another expert. ``regained`` (on the curve "tuned"): what
    going on from the expert's own beginning scores, minus what going on from the clone's own does, paired.
    """

    share: float
    score: Estimate
    excess: Estimate | None
    regained: Estimate | None = None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Tokens of like confidence: their mean confidence and how often they were right, with a 95 % interval."""

    confidence: float
    accuracy: float
    low: float
    high: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against accuracy. ``overconfidence``: mean confidence minus accuracy, 0 to 1, signed; a finding
    on the expert's path only.

    ``error``: expected calibration error, the mean distance of the two over ``bins`` of equal size.
    """

    bins: tuple[CalibrationBin, ...]
    error: Estimate
    confidence: Estimate
    accuracy: Estimate
    overconfidence: Estimate


@dataclass(frozen=True, slots=True)
class SharedRun:
    """A run of words that a completion shares with a training completion. ``source``: id of the demonstration."""

    id: str
    text: str
    words: int
    source: str


@dataclass(frozen=True, slots=True)
class Memorisation:
    """What the clone repeats of its training completions, beside what the held-out experts repeat of them.

    ``longest``: "tuned" and "expert" -> mean longest shared run of words; ``excess``: the difference, paired.
    ``copies``: "tuned" and "expert" -> share of completions that are a training completion word for word, or nearly;
    ``p_value``: one-sided, that the clone's are more (mid-p McNemar). ``examples``: the longest of the clone's.
    ``verbatim``: as ``copies``, word for word only; empty in scorecards whose ``copies`` are just these.
    """

    longest: dict[str, Estimate]
    excess: Estimate
    copies: dict[str, Estimate]
    p_value: float
    examples: tuple[SharedRun, ...]
    verbatim: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One plain control text: bits per byte of both policies, and ``rise``, the clone's over the base's minus 1."""

    text: str
    windows: int
    base: Estimate
    tuned: Estimate
    rise: Estimate


@dataclass(frozen=True, slots=True)
class GapSpan:
    """Characters ``start`` to ``end`` of a completion that neither its prompt nor the base model tells.

    ``kind``: "figure", "name" or "rare word". ``own_bits``: the base model's surprise after the completion's own
    prompt; ``other_bits``: the mean of the same after others' prompts.
    """

    start: int
    end: int
    kind: str
    own_bits: float
    other_bits: float


@dataclass(frozen=True, slots=True)
class KnowledgeGap:
    """A training completion with ``spans`` that its prompt does not tell. ``bits``: gained per byte by reading it."""

    id: str
    address: str
    prompt: str
    completion: str
    bits: float
    spans: tuple[GapSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class KnowledgeGaps:
    """What training completions say that neither their prompts nor the base model tell, span by span.

    ``share`` of the training completions ``looked_at`` that have such a span; ``kinds``: how many spans of each kind
    (empty in scorecards of earlier versions, which flagged completions as a whole); ``bits``: mean bits per byte that
    reading the prompt gives the base; ``examples``: the worst.
    """

    looked_at: int
    flagged: int
    share: Estimate
    bits: Estimate
    examples: tuple[KnowledgeGap, ...]
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """A prompt that ``system``, a base model, answered right and the clone wrong. ``base``: that system's answer."""

    id: str
    prompt: str
    expert: str
    base: str
    tuned: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class BesideBase:
    """The clone's right answers beside those of one ``base`` (B0 or B3), on the prompts that all have.

    ``difference``: clone minus base, a share; ``lost`` prompts only that base got right, ``won`` only the clone.
    ``p_value``: two-sided mid-p McNemar, or the two-sided sign-flip test where prompts come in clusters; Holm-adjusted
    over the bases.
    """

    base: str
    difference: Estimate
    lost: int
    won: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Underachieving:
    """Right answers by ``checker``: ``right`` is system -> share; ``beside``: the clone against each base."""

    checker: str
    right: dict[str, Estimate]
    beside: tuple[BesideBase, ...]
    examples: tuple[LostAnswer, ...]


@dataclass(frozen=True, slots=True)
class Stratum:
    """Part of the held-out prompts. ``by``: what they were parted by; ``label``: which part.

    ``gain``: over the best shortcut of the whole set; ``saved``: bits per byte saved against the better base.
    """

    by: str
    label: str
    n: int
    score: Estimate
    gain: Estimate | None
    saved: Estimate | None


@dataclass(frozen=True, slots=True)
class OwnWords:
    """How often the words that the clone writes are another's, in common and in order with the nearest of ``texts``.

    ``expert``: the references'; ``itself``: texts sampled from the clone at temperature 1, as many, as if they were the
    expert's. ``difference``: expert minus itself, paired by prompt. Around 0 the clone is as varied as the experts are;
    below 0 it repeats itself more than they do, above 0 less.
    """

    expert: Estimate
    itself: Estimate
    difference: Estimate
    n: int


@dataclass(frozen=True, slots=True)
class Compounding:
    """Whether errors add up along the clone's own text: where its words stop being words that an expert used here.

    ``tuned`` and ``expert``: share of the words in the first, middle and last third of a text that stand in the
    references, the clone's and another expert's, each against the same ones. ``kept``: the clone's share over the
    expert's in each third. ``rise``: what is kept in the last third less what is kept in the first; below 0, errors
    add up.
    ``short``: share of the clone's texts with less than half the words of the shortest reference.
    ``n`` prompts; ``passed_over`` had too few words to be cut in three.
    """

    tuned: tuple[Estimate, Estimate, Estimate]
    expert: tuple[Estimate, Estimate, Estimate]
    kept: tuple[Estimate, Estimate, Estimate]
    rise: Estimate
    short: Estimate
    n: int
    passed_over: int


@dataclass(frozen=True, slots=True)
class SurvivalPoint:
    """Share of completions whose first ``token`` tokens the policy would have written exactly so."""

    token: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out prompt side by side. ``kind``: best, typical, worst, earliest divergence, or "" for the rest."""

    kind: str
    id: str
    prompt: str
    expert: str
    completions: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything measured on one held-out set, recomputable from the observations of a run.

    ``bits_per_byte``: system -> {"with_stop": ..., "without_stop": ...}. ``action``: system ->
    {"top1", "top5", "prob_true_act", "entropy", "neglogp"}: shares and probabilities 0 to 1, nats.
    ``lengths``: system, or "expert", -> words per completion, in held-out order. ``signature``: data hash,
    n, clusters, template hash, decoding, metric versions.

    ``corpus``: system -> {"bleu", "chrf_pp"}, points; "tuned" has {"bleu_one_out", "chrf_pp_one_out"} too, against as
    many references as E has, to be held beside E. ``manner``: system, or "expert", -> {"rep_4",
    "distinct_2", "distinct_outputs": shares; "length_spread": standard deviation of the length over the expert's}, as
    far as each can be had.
    ``prefix``: rests of "tuned" after the expert's beginning, "own" after the clone's own, "E" of another expert.
    ``impostor``: "sampled", "greedy", "base", "experts" -> AUC,
    0.5 for a coin, below it by chance only.
    ``self_agreement``: "tuned", "experts", "difference", points. ``calibration``: "tuned", "B0" on the expert's path;
    "own": its ``accuracy`` is how often the clone's own tokens are the expert's, and nothing else of it is a finding,
    for another good answer counts as wrong there. ``checked``: how often the checker
    finds the clone right less how often another expert, points, paired; None without a checker or another expert.
    ``absent``: section -> why it was not measured. ``looks``: how often
    this split was looked at.
    ``floors``: the shortcuts that a clone which has learned is ahead of, measured or not. ``names``: system -> what it
    is in plain words, where that is not what ``SYSTEMS`` says.
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
    closure: Closure | None = None
    experts: tuple[ExpertScore, ...] = ()
    conflicts: Conflicts | None = None
    corpus: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    manner: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    prefix: dict[str, tuple[PrefixPoint, ...]] = field(default_factory=dict)
    accumulated: Estimate | None = None
    impostor: dict[str, Estimate] = field(default_factory=dict)
    self_agreement: dict[str, Estimate] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)
    off_path: Estimate | None = None
    own_words: OwnWords | None = None
    compounding: Compounding | None = None
    checked: Estimate | None = None
    memorisation: Memorisation | None = None
    forgetting: tuple[Forgetting, ...] = ()
    gaps: KnowledgeGaps | None = None
    underachieving: Underachieving | None = None
    strata: tuple[Stratum, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    floors: tuple[str, ...] = EARLIER_FLOORS
    names: dict[str, str] = field(default_factory=dict)
    schema_version: int = 2

    def scores_of(self, system: str) -> dict[str, Estimate]:
        """Metric -> estimate of ``system``; empty where it was not measured."""
        return next((one.scores for one in self.systems if one.system == system), {})

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
        return TypeAdapter(cls).validate_python(value)


def _with_state(rail: Any) -> Any:
    if isinstance(rail, dict) and isinstance(rail.get("red"), bool) and "state" not in rail:
        return {key: part for key, part in rail.items() if key != "red"} | {"state": "red" if rail["red"] else "green"}
    return rail
