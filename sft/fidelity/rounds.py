"""What correction rounds have come to: the nouns of the learning curve, of acceptance and of anchoring.

``rounds.json`` of a run holds one :class:`Rounds`. Scores are points of the headline unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sft.errors import RunError
from sft.metrics.estimate import Estimate
from sft.runs.atomic_files import read_json
from sft.runs.run import Run

__all__ = ["Anchoring", "Corrected", "CurvePoint", "RoundAsked", "Rounds", "read_rounds"]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One clone of the chain. ``score``: on the held-out prompts; ``gain``: over round 0, paired.

    ``adjusted``: p-value of the gain; of the last round as it is (the comparison that was declared), of the others by
    Holm. ``answers`` and ``minutes``: new answers, and active minutes of experts, that it learned from beside round 0.
    ``fresh``: its score on answers to prompts drawn at random and written blind for the round after it, before anybody
    trained on them; ``gap``: that minus the held-out score. ``seeds``: runs that differ in the seed alone.
    ``own``: its score in later turns of held-out dialogues with its own turns in the context, over all runs that were
    replayed, ``own_gain`` over round 0 and its p-value.
    """

    round: int
    run: str
    score: Estimate
    gain: Estimate | None
    adjusted: float | None
    answers: int
    minutes: float
    fresh: Estimate | None
    gap: Estimate | None
    seeds: int
    own: Estimate | None = None
    own_gain: Estimate | None = None
    own_p: float | None = None


@dataclass(frozen=True, slots=True)
class RoundAsked:
    """What one round asked and got. ``how``: how answers came about -> how many; ``fates``: where they went.

    ``acceptance``: share of drafted items drawn at random whose clone's text was accepted; ``judged``: share of blind
    ones whose writer would have accepted it; ``talked``: the first less the second. ``hter``: edits a word of the
    final text. ``chosen``: acceptance of items that were chosen to be hard.
    """

    round: int
    items: int
    answers: int
    minutes: float
    how: dict[str, int]
    fates: dict[str, int]
    acceptance: Estimate | None
    judged: Estimate | None
    talked: Estimate | None
    hter: Estimate | None
    chosen: Estimate | None
    chosen_by: str = "random"


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How much nearer the final text is to the clone's where the expert saw it: drafted minus blind, chrF points.

    ``smallest``: the difference that so many items would have shown in four of five cases. ``same``: share of final
    texts that are the clone's, letter by letter, drafted minus blind: few that are copied whole move no mean by much.
    """

    difference: Estimate
    smallest: float | None
    drafted: int
    blind: int
    same: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """One item to read: what the clone wrote, and what the expert made of it. ``why``: how it came about, or more."""

    why: str
    prompt: str
    clone: str
    text: str
    expert: str


@dataclass(frozen=True, slots=True)
class Rounds:
    """The chain of runs that ends in this one. ``points``: round 0 first; ``plain``: the control, if it was run.

    ``anchored``: the same of each expert who had items of both kinds. ``helps``: the last round minus the control, over
    prompts and seeds where both have two runs or more, else over prompts; of dialogues on the clones' own path, and
    ``helps_forced`` is then the same with the expert's turns before each; ``helps_seeds``: runs of either arm.
    ``beside``: system -> score of round 0's floors and of another expert, on the same prompts.
    ``smallest``: the gain over round 0 that the prompts would have shown. ``looks``: how often the held-out prompts
    were looked at, over the whole chain. ``experts``: name -> (answers, active minutes); ``agreement``: of experts with
    each other, blind. ``guidelines``: versions. ``dialogues``: whether prompts have turns of the clone in them.
    """

    headline: str
    points: tuple[CurvePoint, ...]
    plain: tuple[CurvePoint, ...]
    asked: tuple[RoundAsked, ...]
    anchoring: Anchoring | None
    anchored: dict[str, Anchoring]
    helps: Estimate | None
    helps_seeds: tuple[int, int]
    smallest: float | None
    looks: int
    experts: dict[str, tuple[int, float]]
    agreement: Estimate | None
    guidelines: int
    dialogues: bool
    examples: tuple[Corrected, ...]
    helps_forced: Estimate | None = None
    beside: dict[str, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


_ROUNDS = TypeAdapter(Rounds)


def read_rounds(run: Run) -> Rounds | None:
    """The rounds that led to ``run``; None where it is of round 0. Raises ``RunError`` for a file that is damaged."""
    if not run.rounds_path.exists():
        return None
    try:
        return _ROUNDS.validate_python(read_json(run.rounds_path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{run.rounds_path}: {where}: {first['msg']}; write it again: sft compare --rounds {run.path}"
        ) from None
