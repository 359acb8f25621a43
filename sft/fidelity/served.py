"""Is the text that a server writes the text that was measured, and if not: where do they part, and why?

Pure comparison of what is on file: the run's own completions (``measured``), the server's, and what it said when the
prompts that part were put to it in other ways. ``evaluation.served`` asks; ``reports.served`` has the words.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.score_table import score_rows
from sft.fidelity.scoring import Scoring
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import Completion, Served

__all__ = [
    "CAUSES",
    "Defaults",
    "Evidence",
    "Parting",
    "Serving",
    "cause_of",
    "common",
    "compare",
    "drift",
]

#: Why two texts part, in the order in which it is looked for; the first that holds is given.
#: refused: the server refuses the prompt. elsewhere: the words are in another field of the answer. space: the texts
#: differ by white space at an end. sampling: asked twice, two answers. template: the server's prompt is not the run's,
#: or given the run's own it writes the measured text. stop: it goes on behind the measured end. limit: it writes more
#: than it was asked for. cut: it ends at a limit of its own. base: it is what the base model wrote. unexamined: more
#: prompts part than are looked into. close: the clone finds the token that was served nearly as likely as its own
#: (:func:`closeness`). choice: it does not, and the server's log-probabilities are the clone's. weights: neither.
CAUSES = (
    "refused", "elsewhere", "space", "sampling", "template", "stop", "limit", "cut", "base", "unexamined", "close",
    "choice", "weights",
)  # fmt: skip
#: Up to so many nats between the clone's own token and another, rounding or quantised weights can put the other first.
CLOSE_NATS = 1.0
#: The same in units of the mean distance between the server's log-probabilities and the clone's, where that is known.
CLOSE_DRIFTS = 20.0
#: Up to so many nats of that distance the server computes what the clone computes; in 4 bits it is 0.005 to 0.03.
SAME_NATS = 0.003


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one prompt whose texts part.

    ``again``: the same question a second time. ``rendered``: the answer on the completions route to the run's own
    rendered prompt; None where that is the question itself, or the server has no such route. ``same_prompt``: whether
    the prompt that the server renders is the run's, None where it does not tell. ``base``: what the base model wrote.
    ``prompt_tokens``: of the run's prompt. ``token``: index of the first measured token (the end counts as one) that
    is not in both. ``margin``: how much likelier the clone finds its own token there than the one that was served, in
    nats. None: not known.
    """

    measured: Completion
    served: Served
    examined: bool = False
    again: Served | None = None
    rendered: Served | None = None
    same_prompt: bool | None = None
    base: str | None = None
    prompt_tokens: int = 0
    token: int | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Parting:
    """Where one prompt's texts part, and why. ``character``: how many they share; the rest of both follows.

    ``scores``: the clone's own and the served one, in headline points.
    ``prompt``: how what was asked last begins.
    """

    id: str
    cause: str
    character: int
    token: int | None
    margin: float | None
    measured: str
    served: str
    reason: str
    scores: tuple[float, float]
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What clients get that leave settings out. ``asked``: prompts; ``sampled``: of these, those whose answers without
    a temperature differ; ``unlimited``: prompts asked without ``max_tokens``; ``cut``: of these, those that were cut;
    ``cut_tokens``: at how many tokens, at least."""

    asked: int = 0
    sampled: int = 0
    unlimited: int = 0
    cut: int = 0
    cut_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """The whole comparison.

    ``same``: prompts whose texts are one; ``unended``: of these, those whose measured text ended by itself and whose
    answer went on, in tokens that do not show, up to a limit. ``facts``: what was asked, where and how. ``drift``: mean
    distance in nats between the server's log-probability of a token and the clone's own, with the number of tokens;
    None where either is not known. ``prompt``: (the run's prompt, the server's) from where they differ to where they
    agree again; None where they do not differ, or the server does not tell.
    """

    n: int
    same: int
    unended: int
    scores: Mapping[str, Estimate]
    difference: Estimate
    partings: tuple[Parting, ...]
    defaults: Defaults
    drift: tuple[float, int] | None = None
    prompt: tuple[str, str] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    headline: str = "chrf"

    @property
    def causes(self) -> dict[str, int]:
        """Cause -> prompts, the most frequent first."""
        return dict(Counter(one.cause for one in self.partings).most_common())

    @property
    def sentence(self) -> str:
        """The verdict."""
        whole = f"the served text is the measured text for {self.same} of {self.n} prompts"
        parts = f"; {self.n - self.same} part" if self.same < self.n else ""
        return whole + parts + (f"; {self.unended} do not end there" if self.unended else "")

    @property
    def margins(self) -> list[float]:
        """Nats between the clone's own token and the served one, where texts part by the weights or by the choice."""
        return [p.margin for p in self.partings if p.cause in ("close", "choice", "weights") and p.margin is not None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        margins = self.margins
        return asdict(self) | {
            "identical": self.same == self.n and not self.unended,
            "sentence": self.sentence,
            "causes": self.causes,
            "median_margin": statistics.median(margins) if margins else None,
        }


def common(one: str, other: str) -> int:
    """How many characters both texts begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def closeness(drift: tuple[float, int] | None) -> float:
    """Up to how many nats between two tokens rounding explains that the other one was taken."""
    return CLOSE_NATS if drift is None else min(CLOSE_NATS, CLOSE_DRIFTS * drift[0])


def cause_of(known: Evidence, drift: tuple[float, int] | None = None, *, never_stops: bool = False) -> str:
    """One of :data:`CAUSES`. ``never_stops``: most answers go on behind the measured end, which rounding never does."""
    measured, served = known.measured, known.served
    if served.refused:
        return "refused"
    if served.elsewhere:
        return "elsewhere"
    if served.text.strip() == measured.text.strip():
        return "space"
    if known.again is not None and known.again.text != served.text:
        return "sampling"
    if _by_template(known):
        return "template"
    close = known.margin is not None and known.margin <= closeness(drift)
    same_policy = drift is not None and drift[0] <= SAME_NATS
    if goes_on(known) and (never_stops or not (close or same_policy)):
        return "stop"
    if served.text.startswith(measured.text) and not measured.finished and not close:
        return "limit"
    if measured.text.startswith(served.text) and served.reason == "length":
        return "cut"
    if known.base is not None and served.text == known.base:
        return "base"
    if not known.examined:
        return "unexamined"
    if close:
        return "close"
    return "choice" if same_policy else "weights"


def goes_on(known: Evidence) -> bool:
    """Whether the answer is the measured text, which ended there, and more."""
    return known.measured.finished and len(known.measured.text) < len(known.served.text) and (
        known.served.text.startswith(known.measured.text)
    )  # fmt: skip


def _by_template(known: Evidence) -> bool:
    """Whether the prompt is another: the server says so, or counts it otherwise, or answers the run's own as measured.

    A tie is no proof: where the clone's two likeliest tokens are close, the same prompt can be answered in two ways.
    """
    if known.same_prompt is not None:
        return not known.same_prompt
    if known.rendered is None:
        return False
    counts_alike = known.rendered.prompt_tokens == known.prompt_tokens != 0
    if counts_alike and known.served.prompt_tokens:
        return known.served.prompt_tokens != known.prompt_tokens or known.rendered.text == known.measured.text
    return known.rendered.text == known.measured.text


def drift(served: Sequence[tuple[Served, int]], confidences: Mapping[str, Sequence[float]]) -> tuple[float, int] | None:
    """Mean distance in nats between two log-probabilities of one token, and over how many tokens.

    ``served``: answers, each with how many of the measured tokens it begins with; ``confidences``: prompt id ->
    probability that the clone gave each token it wrote. None where no token is known from both.
    """
    apart = [
        abs(nats + math.log(p))
        for answer, shared in served
        for nats, p in zip(answer.nats[:shared], confidences.get(answer.id, ()), strict=False)
        if p > 0
    ]
    return (statistics.fmean(apart), len(apart)) if apart else None


def compare(
    items: Sequence[HeldOut],
    measured: Mapping[str, Completion],
    served: Mapping[str, Served],
    evidence: Mapping[str, Evidence],
    drift: tuple[float, int] | None = None,
    scoring: Scoring = Scoring(),  # noqa: B008  (frozen)
    **more: Any,
) -> Serving:
    """The comparison over ``items``, paired prompt by prompt. ``evidence``: of every prompt whose texts part.

    ``scoring``: by which the clone was measured. ``drift``: as in :class:`Serving`. ``more``: fields of
    :class:`Serving` that are not computed here.
    """
    answers = {key: Completion(key, one.text, one.finished, one.tokens) for key, one in served.items()}
    rows = score_rows(items, {"tuned": measured, "served": answers}, scoring)
    # A checker says nothing of a prompt whose references have no answer; neither text has points there.
    points = {(row["system"], row["id"]): float(row[scoring.headline] or 0.0) for row in rows if row["system"] != "E"}
    clusters = [item.cluster for item in items]
    own, theirs = ([points[system, item.id] for item in items] for system in ("tuned", "served"))
    ended = sum(one.finished for one in measured.values())
    never_stops = 2 * sum(map(goes_on, evidence.values())) > ended
    partings = [
        _parting(
            item,
            known,
            cause_of(known, drift, never_stops=never_stops),
            (points["tuned", item.id], points["served", item.id]),
        )
        for item in items
        if (known := evidence.get(item.id)) is not None
    ]
    return Serving(
        n=len(items),
        same=len(items) - len(partings),
        unended=sum(measured[i.id].finished and served[i.id].reason == "length" for i in items if i.id not in evidence),
        scores={"tuned": estimates.points(own, clusters), "served": estimates.points(theirs, clusters)},
        difference=estimates.mean([b - a for a, b in zip(own, theirs, strict=True)], clusters),
        partings=tuple(partings),
        drift=drift,
        headline=scoring.headline,
        **more,
    )


def _parting(item: HeldOut, known: Evidence, cause: str, scores: tuple[float, float]) -> Parting:
    shared = common(known.measured.text, known.served.text)
    return Parting(
        item.id, cause, shared, known.token, known.margin, known.measured.text[shared:],
        known.served.text[shared:], known.served.reason, scores, item.asked,
    )  # fmt: skip
