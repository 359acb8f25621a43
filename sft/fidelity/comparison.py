"""The nouns of a comparison."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sft.fidelity.conventions import LEVEL, no_spread, power
from sft.fidelity.scorecard import Gain
from sft.metrics.estimate import Estimate
from sft.runs.tabular import Tabular

__all__ = ["NOTE", "Comparison", "Contender", "Pair"]

NOTE = (
    "This speaks of these checkpoints. The same recipe trained with another seed gives another checkpoint, so a claim "
    "about a recipe needs at least three training seeds of each."
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One run: its clone's headline ``score`` and what else its scorecard says.

    ``gain``: over the best shortcut; ``bits``: bits per byte of the expert's completions, stop token included.
    ``looks``: how often the test split was looked at. ``shortcut``: the best shortcut in plain words.
    """

    name: str
    path: str
    score: Estimate
    gain: Gain
    bits: Estimate | None
    stop_rate: Estimate | None
    rung: str
    looks: int
    split: str
    shortcut: str


@dataclass(frozen=True, slots=True)
class Pair:
    """``first`` minus ``second`` on the ``difference.n`` prompts that both were scored on, in headline points.

    ``bits``: the same in bits per byte, so below 0 ``first`` finds the expert's words likelier; None where either has
    no token scores. ``p_value``: two-sided sign flip; ``adjusted``: Holm's over all pairs. ``smallest_visible``: the
    difference that these prompts would have shown with 80 % probability, by the verdict's rule of power at the level
    of Holm's first step (``intervals.smallest_visible_gain``); None where they can show nothing.
    ``closer``: the name of the run shown to be closer to the expert, "" where the two are not told apart.
    ``differs``: keys of the recipes in which the two differ.
    """

    first: str
    second: str
    difference: Estimate
    bits: Estimate | None
    p_value: float
    adjusted: float
    smallest_visible: float | None
    closer: str
    differs: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict on this pair."""
        if self.closer:
            return f"{self.closer} is closer"
        # How many groups it takes hangs on how many pairs there are, so the sentence names no number.
        if self.smallest_visible is not None and no_spread(self.smallest_visible) and no_spread(self.difference.value):
            return "not told apart (both come as close on every prompt)"
        return f"not told apart ({power(self.smallest_visible, 'difference', groups='so few')})"


@dataclass(frozen=True, slots=True)
class Comparison(Tabular):
    """Runs side by side, and every pair of them. ``n`` prompts in ``clusters``; ``notes``: what to know besides."""

    headline: str
    n: int
    clusters: int
    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the whole comes to, in a few words."""
        if len(self.pairs) == 1:
            return self.pairs[0].words.partition(" (")[0]
        apart = sum(bool(pair.closer) for pair in self.pairs)
        return f"{apart or 'none'} of {len(self.pairs)} pairs told apart"

    @property
    def sentence(self) -> str:
        """Every pair's verdict, in words."""
        return ". ".join(f"{pair.first} and {pair.second}: {pair.words}" for pair in self.pairs[:6]) + (
            "." if len(self.pairs) <= 6 else f". And {len(self.pairs) - 6} pairs more."
        )

    def to_text(self) -> str:
        """What the whole comes to, every pair's verdict, and what to know besides."""
        return "\n".join([f"{self.title[0].upper()}{self.title[1:]}. {self.sentence}", *self.notes, NOTE])

    def table(self) -> list[dict[str, Any]]:
        """A row a pair: ``first`` minus ``second`` in points of the headline, with its interval and adjusted p."""
        return [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference.value,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "adjusted p": pair.adjusted,
                "smallest visible": pair.smallest_visible,
                "closer": pair.closer or None,
                "prompts": pair.difference.n,
            }
            for pair in self.pairs
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        pairs = [asdict(pair) | {"words": pair.words} for pair in self.pairs]
        return asdict(self) | {"pairs": pairs, "level": LEVEL, "note": NOTE}
