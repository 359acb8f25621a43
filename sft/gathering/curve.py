"""The learning curve over correction rounds, what acceptance and anchoring were, and whether correcting helped.

Rules that are binding: only answers written blind measure anything; acceptance and edits are of items drawn at random;
one comparison is declared (the last round against the first), the others are corrected; and that *correction* helped is
said only beside a control of as many plain answers, with three runs an arm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sft import metrics
from sft.demonstrations.messages import prompt_text
from sft.demonstrations.stored import load_splits
from sft.errors import RunError
from sft.fidelity.compare import Prompt, Side, paired
from sft.fidelity.rounds import Anchoring, Corrected, CurvePoint, RoundAsked, Rounds
from sft.gathering.dialogue_turns import own_scores
from sft.gathering.export import distance, how
from sft.gathering.figures import by_expert, figures
from sft.gathering.folder import Gathering
from sft.gathering.rounds import parent_of, round_of, seeds_of
from sft.gathering.state import Answer, Standing
from sft.metrics import METRICS, intervals
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import Sample, estimates
from sft.runs.atomic_files import write_json
from sft.runs.run import Run

__all__ = ["anchoring_of", "chain_of", "put_on_record", "rounds_of"]

#: Items of each kind that are shown to be read.
SHOWN = 3


def chain_of(run: Run) -> list[Run]:
    """The runs that led to ``run``, round 0 first. Raises ``RunError`` where one is gone."""
    found = [run]
    while (place := parent_of(found[0])) is not None:
        if not (place / "manifest.json").exists():
            raise RunError(f"{found[0].path}: learned from corrections of {place}, which is not there; put it back")
        found.insert(0, Run.open(place))
    return found


def put_on_record(run: Run, chain: Sequence[Run] = (), plain: Sequence[Run] = ()) -> Rounds:
    """Work the rounds that led to ``run`` out, and write them into it. ``chain``: its runs, found unless given."""
    found = rounds_of(chain or chain_of(run), plain)
    write_json(run.rounds_path, found.to_dict())
    return found


def rounds_of(chain: Sequence[Run], plain: Sequence[Run] = ()) -> Rounds:
    """What the rounds of ``chain`` came to; ``plain``: runs of the control. Raises ``RunError``."""
    gathering = _gathering(chain[-1])
    state, clones = gathering.state(), gathering.clone_texts()
    arms = [_Arm.of(run) for run in chain]
    controls = [_Arm.of(run) for run in plain]
    every = [run for arm in (*arms, *controls) for run in arm.runs]
    sides, clusters = paired(every)
    at = iter(sides)
    for arm in (*arms, *controls):
        arm.sides = [next(at) for _ in arm.runs]
    clusters = {prompt: label for prompt, label in clusters.items() if all(prompt in side.scores for side in sides)}
    by_round = _by_round(state)
    points = _points(arms, clusters, by_round, clones)
    last = controls[-1] if controls else None
    differences = arms[-1].mean(clusters) - arms[0].mean(clusters)
    judged = _OwnPath.of([*arms, *controls])
    forced = _helps(arms[-1].scores(clusters), last.scores(clusters), list(clusters.values())) if last else None
    own = judged.helps(arms[-1], last) if last is not None else None
    card = sides[0].card
    return Rounds(
        headline=sides[0].card.headline,
        points=judged.beside(arms, points),
        plain=judged.beside([arms[0], *controls], _points([arms[0], *controls], clusters, by_round, clones))[1:],
        asked=tuple(
            _asked(gathering, state, chain[-1], number, answers, clones) for number, answers in by_round.items()
        ),
        anchoring=anchoring_of([one for some in by_round.values() for one in some], clones),
        anchored=_by_expert([one for some in by_round.values() for one in some], clones),
        helps=own or forced,
        helps_forced=forced if own is not None else None,
        helps_seeds=judged.runs(arms[-1], last)
        if own is not None
        else (len(arms[-1].runs), len(last.runs if last else ())),
        beside={name: one for name in (*card.floors, "E") if (one := card.scores_of(name).get(card.headline))},
        smallest=intervals.smallest_visible_gain(differences, list(clusters.values()), two_sided=True),
        looks=sum(run.times_looked("test") for run in every),
        experts={name: (one.answers, round(one.minutes, 1)) for name, one in by_expert(state).items()},
        agreement=figures(state).agreement,
        guidelines=len(gathering.settings.guidelines),
        dialogues=any(one.item.dialogue for some in by_round.values() for one in some),
        examples=tuple(_examples(state, by_round, clones)),
    )


def _gathering(run: Run) -> Gathering:
    known = run.manifest.get("parent")
    if not isinstance(known, dict):
        raise RunError(f"{run.path}: is of round 0; name a run that learned from corrections (sft correct RUN --train)")
    place = (run.path / str(known["gathering"])).resolve()
    if not (place / "gathering.json").exists():
        raise RunError(f"{run.path}: learned from the gathering {place}, which is not there; put it back")
    return Gathering.open(place)


# -- the curve -----------------------------------------------------------------------------------------------


@dataclass
class _Arm:
    """One point of the curve: runs that differ in the seed alone, and what each brings."""

    runs: list[Run]
    sides: list[Side]

    @classmethod
    def of(cls, run: Run) -> _Arm:
        return cls(seeds_of(run), [])

    def scores(self, clusters: Mapping[Prompt, str]) -> np.ndarray:
        """Score of every run on every prompt, shape (runs, prompts)."""
        return np.array([[side.scores.get(prompt, np.nan) for prompt in clusters] for side in self.sides])

    def mean(self, clusters: Mapping[Prompt, str]) -> np.ndarray:
        """Mean over runs, prompt by prompt."""
        return self.scores(clusters).mean(axis=0)


def _points(
    arms: Sequence[_Arm],
    clusters: Mapping[Prompt, str],
    by_round: Mapping[int, Sequence[Answer]],
    clones: Mapping[str, str],
) -> tuple[CurvePoint, ...]:
    labels = list(clusters.values())
    base = arms[0].mean(clusters)
    gains = [arm.mean(clusters) - base for arm in arms[1:]]
    tests = [intervals.sign_flip(gain, labels, two_sided=True) for gain in gains]
    adjusted = [*intervals.holm(tests[:-1]), *tests[-1:]]  # the last against the first was declared
    found = []
    for place, arm in enumerate(arms):
        number = round_of(arm.runs[0])
        score = METRICS.get(arm.sides[0].card.headline, metrics.chrf)
        fresh = [a for a in by_round.get(number + 1, ()) if _measures(a)]
        values = [score(clones[a.item.id], a.text) for a in fresh if a.item.id in clones]
        own = [a.item.group or a.item.key for a in fresh if a.item.id in clones]
        gap = None
        if len(values) > 1:
            gap = intervals.welch([(Sample(values, own), Sample(list(arm.mean(clusters)), labels))])
        parent = arm.runs[0].manifest.get("parent") or {}
        minutes = sum(a.seconds for k, some in by_round.items() if k <= number for a in some) / 60
        found.append(
            CurvePoint(
                round=number,
                run=arm.runs[0].path.name,
                score=estimates.points(list(arm.mean(clusters)), labels),
                gain=estimates.mean(gains[place - 1], labels) if place else None,
                adjusted=adjusted[place - 1] if place else None,
                answers=int(parent.get("new_rows") or 0),
                minutes=round(minutes, 1),
                fresh=estimates.apart(estimates.points(values, own)) if values else None,
                gap=gap,
                seeds=len(arm.runs),
            )
        )
    return tuple(found)


class _OwnPath:
    """What clones do in later turns of held-out dialogues, their own turns before them; of every run replayed.

    ``turns``: (dialogue, turn) that all of them answered; ``scores``: run -> one each, in that order.
    """

    def __init__(self, scores: Mapping[Path, Mapping[tuple[str, int], float]]) -> None:
        known = [one for one in scores.values() if one]
        self.turns = [key for key in known[0] if all(key in one for one in known)] if known else []
        self.labels = [name for name, _ in self.turns]
        self.scores = {run: [one[key] for key in self.turns] for run, one in scores.items() if one and self.turns}

    @classmethod
    def of(cls, arms: Sequence[_Arm]) -> _OwnPath:
        score = METRICS.get(arms[0].sides[0].card.headline, metrics.chrf)
        return cls({run.path: own_scores(run, score) for arm in arms for run in arm.runs})

    def of_arm(self, arm: _Arm) -> np.ndarray:
        """Scores of the arm's runs that were replayed, shape (runs, turns)."""
        return np.array([self.scores[run.path] for run in arm.runs if run.path in self.scores])

    def runs(self, *arms: _Arm | None) -> tuple[int, int]:
        """How many runs of either arm were replayed."""
        first, second = (0 if arm is None else len(self.of_arm(arm)) for arm in arms)
        return first, second

    def helps(self, last: _Arm, control: _Arm) -> Estimate | None:
        """As :func:`_helps`; None where an arm was not replayed."""
        if not min(self.runs(last, control)):
            return None
        return _helps(self.of_arm(last), self.of_arm(control), self.labels)

    def beside(self, arms: Sequence[_Arm], points: Sequence[CurvePoint]) -> tuple[CurvePoint, ...]:
        """The points of ``arms``, the first of which is round 0, with these figures where there are any."""
        found, base = [], self.of_arm(arms[0])
        for place, (arm, point) in enumerate(zip(arms, points, strict=True)):
            if len(own := self.of_arm(arm)):
                point = replace(point, own=estimates.points(list(own.mean(axis=0)), self.labels))
                if place and len(base):
                    gains = list(own.mean(axis=0) - base.mean(axis=0))
                    p = intervals.sign_flip(gains, self.labels, two_sided=True)
                    point = replace(point, own_gain=estimates.mean(gains, self.labels), own_p=p)
            found.append(point)
        return tuple(found)


def _measures(answer: Answer) -> bool:
    """Whether an answer may measure a clone: drawn at random, and written before the clone's text was seen."""
    return answer.item.drawn == "audit" and answer.item.shown == "blind" and not answer.clone


def _helps(last: np.ndarray, control: np.ndarray, labels: Sequence[str]) -> Estimate:
    """Corrections minus as many plain answers, each (runs, prompts): over prompts and runs where both arms have two."""
    if min(len(last), len(control)) > 1:
        return intervals.two_way(last, control, labels)
    return estimates.mean(list(last.mean(axis=0) - control.mean(axis=0)), labels)


# -- the answers ---------------------------------------------------------------------------------------------


def _by_round(state: Standing) -> dict[int, list[Answer]]:
    """Correction round -> its answers."""
    found: dict[int, list[Answer]] = {}
    for one in state.answers():
        if one.item.round:
            found.setdefault(one.item.round, []).append(one)
    return dict(sorted(found.items()))


def _asked(
    gathering: Gathering, state: Standing, run: Run, number: int, answers: Sequence[Answer], clones: Mapping[str, str]
) -> RoundAsked:
    drafted = [a for a in answers if a.item.shown == "drafted" and a.clone and a.item.id in clones]
    audit = [a for a in drafted if a.item.drawn == "audit"]
    blind = [a for a in answers if _measures(a) and a.judged]
    ours = {name for name, one in state.items.items() if one.round == number}
    withdrawn = sum(task.withdrawn and name in ours for (name, _), task in state.works.items())
    trained = sum(d.origin is not None and d.origin.round == number for d in load_splits(run).train)
    facts = next((row for row in gathering.settings.rounds if row["number"] == number), {})
    accepted, would = _accepted(audit, clones), [a.judged == "yes" for a in blind]
    talked = None
    if accepted and would:
        talked = intervals.newcombe((sum(accepted), len(accepted)), (sum(would), len(would)))
    return RoundAsked(
        round=number,
        items=len(ours),
        answers=len(answers),
        minutes=round(sum(a.seconds for a in answers) / 60, 1),
        how=dict(Counter(how(clones.get(a.item.id) if a.clone else None, a.text) for a in answers)),
        fates={"trained": trained, "withdrawn": withdrawn, "not trained": max(0, len(answers) - trained)},
        acceptance=_share(accepted, audit),
        judged=_share(would, blind),
        talked=talked,
        hter=_hter(audit, clones),
        chosen=_share(_accepted(hard := [a for a in drafted if a.item.drawn == "chosen"], clones), hard),
        chosen_by=str(facts.get("chosen_by", "random")),
    )


def _labels(answers: Iterable[Answer]) -> list[str]:
    return [a.item.group or a.item.key for a in answers]


def _accepted(answers: Sequence[Answer], clones: Mapping[str, str]) -> list[bool]:
    return [how(clones[a.item.id], a.text) == "accepted" for a in answers]


def _share(flags: Sequence[bool], answers: Sequence[Answer]) -> Estimate | None:
    return estimates.share([float(flag) for flag in flags], _labels(answers)) if flags else None


def _hter(answers: Sequence[Answer], clones: Mapping[str, str]) -> Estimate | None:
    """Edits over words of the final texts, summed (Snover et al. 2006)."""
    pairs = [distance(clones[a.item.id], a.text) for a in answers]
    if not sum(words for _, words in pairs):
        return None
    edits, words = zip(*pairs, strict=True)
    return estimates.apart(estimates.ratio(edits, words, _labels(answers)))


def anchoring_of(answers: Sequence[Answer], clones: Mapping[str, str]) -> Anchoring | None:
    """How alike final and clone's text are, drafted less blind, among the items drawn at random and the others."""
    strata, equal = [], []
    for drawn in ("audit", "chosen"):
        parts, alike = [], []
        for seen in (True, False):
            some = [a for a in answers if a.item.drawn == drawn and a.item.id in clones
                    and (a.item.shown == "drafted") is seen and bool(a.clone) is seen]  # fmt: skip
            parts.append(Sample([metrics.chrf(a.text, clones[a.item.id]) for a in some], _labels(some)))
            alike.append((sum(_accepted(some, clones)), len(some)))
        if parts[0].values and parts[1].values:
            strata.append((parts[0], parts[1]))
            equal.append(alike)
    if not strata:
        return None
    difference = estimates.apart(intervals.welch(strata))
    return Anchoring(
        difference,
        None if difference.low is None else intervals.visible_difference(strata),
        sum(len(one.values) for one, _ in strata),
        sum(len(other.values) for _, other in strata),
        intervals.newcombe(_summed(drafted for drafted, _ in equal), _summed(blind for _, blind in equal)),
    )


def _summed(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """(texts that are the clone's, texts) over strata."""
    hits, texts = zip(*counts, strict=True)
    return sum(hits), sum(texts)


def _by_expert(answers: Sequence[Answer], clones: Mapping[str, str]) -> dict[str, Anchoring]:
    """Expert -> anchoring, of those who have it with an interval."""
    found = {
        name: anchoring_of([a for a in answers if a.expert == name], clones) for name in {a.expert for a in answers}
    }
    return {name: one for name, one in sorted(found.items()) if one is not None and one.difference.low is not None}


def _examples(
    state: Standing, by_round: Mapping[int, Sequence[Answer]], clones: Mapping[str, str]
) -> Iterable[Corrected]:
    """Three items of each kind, the three largest edits, and an item whose experts differ."""
    known = [a for some in by_round.values() for a in some if a.item.id in clones]

    def shown(why: str, a: Answer) -> Corrected:
        return Corrected(why, prompt_text(a.prompt), clones[a.item.id], a.text, a.expert)

    for kind in ("accepted", "continued", "edited", "rewritten", "blind"):
        some = [a for a in known if how(clones[a.item.id] if a.clone else None, a.text) == kind]
        yield from (shown(kind, a) for a in some[:SHOWN])
    edits = sorted((a for a in known if a.clone), key=lambda a: -distance(clones[a.item.id], a.text)[0])
    yield from (shown("among the largest edits", a) for a in edits[:SHOWN])
    for name, some in state.by_item().items():
        if name in clones and state.status(state.items[name], some) == "contested":
            yield from (shown("contested", a) for a in some[:2])
            break
