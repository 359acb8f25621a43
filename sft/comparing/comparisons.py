"""The nouns of a comparison, and how it is written: as text, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft import drawings
from sft.drawings import Dot
from sft.phrases import metric_name, system_name
from sft.scorecards import Estimate, Gain
from sft.typography import figure, plain, shown

__all__ = ["LEVEL", "NOTE", "Comparison", "Contender", "Pair", "aligned"]

#: Widths of a picture, in CSS pixels: on a desk, on a phone.
WIDTHS = (800, 342)
#: Adjusted p-values up to this one tell a pair apart.
LEVEL = 0.05
NOTE = (
    "This speaks of these checkpoints. The same recipe trained with another seed gives another checkpoint, so a claim "
    "about a recipe needs at least three training seeds of each."
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One run: its clone's headline ``score`` and what else its scorecard says.

    ``gain``: over the best shortcut; ``bits``: bits per byte of the expert's completions, stop token included.
    ``looks``: how often the test split was looked at.
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
        if self.smallest_visible is None:
            return "not told apart (prompts of so few groups can show no difference)"
        if round(self.smallest_visible, 9) == 0:
            return "not told apart (the two differ by the same on every prompt)"
        return f"not told apart (smallest visible difference {self.smallest_visible:.1f} points)"


@dataclass(frozen=True, slots=True)
class Comparison:
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        pairs = [asdict(pair) | {"words": pair.words} for pair in self.pairs]
        return asdict(self) | {"pairs": pairs, "level": LEVEL, "note": NOTE}

    def to_text(self) -> str:
        """Two tables for a terminal, and the notes."""
        name = metric_name(self.headline)
        rows = [["run", name, "over best shortcut", "bits/byte", "stops", "looks", "verdict"]]
        rows += [[*_cells(one), str(one.looks), one.rung] for one in self.contenders]
        pairs = [["pair", f"{name}, difference", "bits/byte, difference", "p", "p (Holm)", "verdict"]]
        pairs += [
            [
                f"{pair.first} - {pair.second}",
                figure(pair.difference, signed=True),
                _bits(pair.bits, signed=True),
                f"{pair.p_value:.4f}",
                f"{pair.adjusted:.4f}",
                pair.words,
            ]
            for pair in self.pairs
        ]
        floors = [f"{floor}: {system_name(floor)}" for floor in {one.gain.floor: None for one in self.contenders}]
        about = f"{self.n} held-out prompts{_groups(self)}, the same for all; in brackets: 95 % intervals"
        return "\n".join([about, "", *aligned(rows), *floors, "", *aligned(pairs), "", *self.notes, NOTE])

    def to_html(self) -> str:
        """One page that loads nothing and runs no script."""
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

        environment = Environment(
            loader=PackageLoader("sft", "report_templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"figure": figure, "plain": plain, "shown": shown, "system": system_name}
        pictures = {
            name: [Markup(draw(width)) for width in WIDTHS]
            for name, draw in (("scores", self._scores), ("differences", self._differences))
        }
        return environment.get_template("compare.html.j2").render(
            comparison=self,
            headline=metric_name(self.headline),
            groups=_groups(self),
            pictures=pictures,
            title=self.title,
            sentence=self.sentence,
            level=LEVEL,
            note=NOTE,
        )

    def _scores(self, width: int) -> str:
        ahead = {pair.closer for pair in self.pairs} - {""}
        ranked = sorted(self.contenders, key=lambda one: -one.score.value)
        dots = [
            Dot(c.name, c.score.value, c.score.low, c.score.high, figure(c.score), "tuned", strong=c.name in ahead)
            for c in ranked
        ]
        axis = f"{metric_name(self.headline)} of the clone, points"
        return drawings.dots(dots, key="scores", title="How close each clone comes", width=width, axis=axis)

    def _differences(self, width: int) -> str:
        dots = [
            Dot(
                f"{pair.first} \N{MINUS SIGN} {pair.second}",
                pair.difference.value,
                pair.difference.low,
                pair.difference.high,
                figure(pair.difference, signed=True),
                "tuned" if pair.closer else "other",
                strong=bool(pair.closer),
            )
            for pair in self.pairs
        ]
        axis = f"difference in {metric_name(self.headline)} points: right of 0 the first is closer to the expert"
        return drawings.dots(
            dots, key="differences", title="Differences between the clones", width=width, axis=axis, signed=True
        )


def _groups(comparison: Comparison) -> str:
    return "" if comparison.clusters == comparison.n else f" in {comparison.clusters} groups"


def _bits(estimate: Estimate | None, *, signed: bool = False) -> str:
    return figure(estimate, "bits", signed=signed)


def _cells(one: Contender) -> list[str]:
    """Name, score, gain with the shortcut's name, bits per byte, stop rate."""
    gain = f"{figure(one.gain.estimate, signed=True)} ({one.gain.floor})"
    return [one.name, figure(one.score), gain, _bits(one.bits), figure(one.stop_rate, "share")]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns two spaces apart."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
