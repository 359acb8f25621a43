"""Everything that a scorecard is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from sft.demonstrations.demonstration import Demonstration, HeldOut
from sft.fidelity.scoring import JSON, Scoring
from sft.runs.records import Completion, ControlWindow, Forced, OwnPath, PromptValue, TokenScores

__all__ = ["Observations"]


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything a scorecard is computed from. Mappings are system -> held-out id -> what was observed.

    ``train``: the demonstrations the clone learned from; empty where they are not known. ``samples``: the clone's
    completions at temperature 1, one mapping (id -> completion) a round. ``forced``: system -> rows.
    ``control``: "base" and "tuned" -> windows. ``contaminated``: held-out ids with a near-duplicate left in training;
    None where nobody looked. ``checker``: how an answer is judged right (see ``checkers``); "" for none.
    ``curve``: how validation loss ended: "falling", "rose", "flat", or "" where it was not measured.
    ``metrics``: ``evaluate`` modules beside ours. ``headline`` and ``normalise``: see :class:`Scoring`.
    ``conflicts``: what the recipe did where experts contradict each other ("keep", "majority", or an expert's name).

    How it was asked for: ``bar``: metric -> what the user wants reached (see ``conventions.bar_points``).
    ``profile``: "fast", "standard" or "full". ``split``: which one the prompts are of, and ``looks``, how often it was
    looked at, ``clones``: how many were judged on it. ``seed``: of every draw.
    ``floors``: the shortcuts that are asked for, measured or not (empty: all of ``conventions.FLOORS``, and L where it
    was measured); ``names``: system -> what it is in plain words, where that is not what ``SYSTEMS`` says.
    ``signature``: how the texts came about (template hash, decoding), which the scorecard's is completed from.
    """

    held_out: Sequence[HeldOut]
    completions: Mapping[str, Mapping[str, Completion]]
    token_scores: Mapping[str, Mapping[str, TokenScores]] = field(default_factory=dict)
    _: KW_ONLY
    train: Sequence[Demonstration] = ()
    samples: Sequence[Mapping[str, Completion]] = ()
    forced: Mapping[str, Sequence[Forced]] = field(default_factory=dict)
    own_path: Mapping[str, OwnPath] = field(default_factory=dict)
    control: Mapping[str, Sequence[ControlWindow]] = field(default_factory=dict)
    prompt_values: Sequence[PromptValue] = ()
    contaminated: frozenset[str] | None = None
    checker: str = ""
    curve: str = ""
    conflicts: str = "keep"
    metrics: Sequence[str] = ()
    headline: str = "chrf"
    normalise: Sequence[str] = ()
    bar: Mapping[str, float] = field(default_factory=dict)
    profile: str = "standard"
    split: str = "test"
    looks: int = 0
    clones: int = 1
    seed: int = 0
    floors: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    signature: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scoring(self) -> Scoring:
        """How the completions are scored."""
        steps = tuple(self.normalise)
        return Scoring(self.headline, tuple(self.metrics), self.checker, steps, leaves=JSON in self.bar)
