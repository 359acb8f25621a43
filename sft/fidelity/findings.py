"""What the probes find, a noun for each: pure data, held by the :class:`~sft.fidelity.scorecard.Scorecard`.

Shares are from 0 to 1 and scores in points unless a name says otherwise; every :class:`Estimate` carries its interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sft.metrics.estimate import Estimate

__all__ = [
    "BesideBase",
    "Calibration",
    "CalibrationBin",
    "Closure",
    "Compounding",
    "Example",
    "ExpertScore",
    "Forgetting",
    "FromStart",
    "GapSpan",
    "Giveaway",
    "KnowledgeGap",
    "KnowledgeGaps",
    "LostAnswer",
    "MarkedPair",
    "Memorisation",
    "OwnWords",
    "PrefixPoint",
    "SharedRun",
    "Stratum",
    "SurvivalPoint",
    "Thoughts",
    "Underachieving",
]


@dataclass(frozen=True, slots=True)
class Closure:
    """How much of the distance from the best floor to another expert the clone has closed.

    ``surplus``: mean of s(tuned) - margin * s(E) - (1 - margin) * s(floor), points: above 0, at least ``margin`` of
    the distance is closed. ``share``: the share closed (Fieller); its bounds are None where no bounded interval
    exists. ``finding``: "cloned", "not cloned" or "undecided", by the interval of ``surplus`` (a share that no
    interval bounds can still be decided). ``expert``: mean score of another expert on the same prompts.
    ``level``, ``low``: as of a ``Gain``, what "cloned" is held to from the second clone on.
    """

    floor: str
    margin: float
    surplus: Estimate
    share: Estimate
    tuned: Estimate
    expert: Estimate
    p_value: float
    finding: str
    level: float = 0.95
    low: float | None = None


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
    """A run of words that a completion shares with a training completion. ``source``: id of the demonstration.

    ``address``: where a person finds that demonstration, ``prompt``: how what was asked last begins; "" in scorecards
    that know ids alone.
    """

    id: str
    text: str
    words: int
    source: str
    address: str = ""
    prompt: str = ""


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
class Thoughts:
    """What is thought before answers, beside what experts thought, on the ``n`` prompts whose thoughts are known.

    By system: ``thinks``, the share of completions with a thought; ``score``, chrF points of the thoughts; ``bits``,
    bits per byte of the first expert's thought. Of the clone: ``length``, its thoughts' characters over the experts';
    ``unanswered``, the share of its completions that end inside the thought.
    """

    thinks: dict[str, Estimate]
    score: dict[str, Estimate]
    bits: dict[str, Estimate]
    length: Estimate
    unanswered: Estimate
    n: int


@dataclass(frozen=True, slots=True)
class Underachieving:
    """Right answers by ``checker``: ``right`` is system -> share; ``beside``: the clone against each base."""

    checker: str
    right: dict[str, Estimate]
    beside: tuple[BesideBase, ...]
    examples: tuple[LostAnswer, ...]


@dataclass(frozen=True, slots=True)
class MarkedPair:
    """A system's and the expert's text for the prompt ``id``, around a habit between white square brackets.

    ``prompt``: how what was asked last begins; "" in scorecards that know its id alone.
    """

    id: str
    system: str
    expert: str
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Giveaway:
    """A habit by which a system's texts are told from the expert's, in words that follow "it".

    ``system``, ``expert``: shares of their texts with it; ``difference``: the first minus the second, paired by prompt.
    ``kind``: whether beginning, ending or layout ("format"), the length, or words.
    """

    habit: str
    kind: Literal["format", "length", "words"]
    system: Estimate
    expert: Estimate
    difference: Estimate
    examples: tuple[MarkedPair, ...] = ()


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
class FromStart:
    """The clone minus the clone that it was fitted on from, on the ``difference.n`` prompts that both were scored on.

    ``difference``: headline points, paired; ``p_value``: two-sided sign flip; ``smallest_visible``: the difference that
    these prompts would have shown in four of five cases, None where they can show none. ``bits``: the same in bits per
    byte of the expert's completions, below 0 where the clone finds them likelier; None without token scores.
    """

    difference: Estimate
    p_value: float
    smallest_visible: float | None
    bits: Estimate | None
