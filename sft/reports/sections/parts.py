"""The nouns of a report's body: chapters of parts, each with a finding in words, a picture, tables and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports.charts import Dot
from sft.reports.names import METRIC_NAMES, metric_name, system_name
from sft.reports.text import figure
from sft.runs.visible import plain

__all__ = [
    "DASH",
    "KINDS",
    "Chapter",
    "Grid",
    "Part",
    "Quotation",
    "Row",
    "absent",
    "apart",
    "away",
    "by_system",
    "claimed",
    "dot",
    "hundredfold",
    "listed",
    "rate",
    "side",
    "turned",
]

DASH = "\N{EM DASH}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a :class:`Grid`; ``lit`` rows are the clone's."""

    name: str
    cells: tuple[str, ...]
    lit: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. ``columns``: (name, what it means), the first for the row's name. ``bare``: no picture stands for it."""

    label: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Quotation:
    """Other people's words: what they are about, and (label, text, whose: class of a colour) of each.

    ``marks``: (begin, end) of what is marked in the last of the texts, in characters; empty where nothing is.
    """

    about: str
    texts: tuple[tuple[str, str, str], ...]
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement. ``meanings``: sentences about this clone; ``reading``: how to read the picture of that key.

    ``absent``: why there is nothing, as a sentence; then all else is empty. ``notes``: what of it is missing, or how
    it was measured.
    """

    key: str
    heading: str
    meanings: tuple[str, ...] = ()
    reading: str = ""
    grids: tuple[Grid, ...] = ()
    samples: tuple[Quotation, ...] = ()
    samples_label: str = ""
    notes: tuple[str, ...] = ()
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Parts that answer one question; ``lead`` says what it is about."""

    key: str
    heading: str
    lead: str
    parts: tuple[Part, ...]


def absent(card: Scorecard, section: str, otherwise: str = "this scorecard does not say why") -> str:
    """Why ``section`` was not measured, as a sentence."""
    return f"Not measured: {card.absent.get(section, otherwise).rstrip('. ')}."


#: Sections of older scorecards that are no longer measured, nor shown.
_GIVEN_UP = ("off_path",)


def claimed(chapters: Sequence[Chapter], more: Sequence[Part], card: Scorecard) -> list[tuple[str, str]]:
    """Sections that are absent by the scorecard and of which no part says so: (section, sentence)."""
    parts = [part for chapter in chapters for part in chapter.parts] + list(more)
    said = " ".join(sentence for part in parts for sentence in (part.absent, *part.notes)).casefold()
    sentences = [(section, absent(card, section)) for section in card.absent if section not in _GIVEN_UP]
    return [(section, sentence) for section, sentence in sentences if sentence.casefold() not in said]


def by_system(
    label: str,
    found: Mapping[str, Mapping[str, Estimate]],
    names: Sequence[str],
    *,
    bare: bool = False,
    systems: Mapping[str, str] | None = None,
) -> Grid:
    """Systems by figures; a figure that a system lacks is a dash. ``systems``: ``Scorecard.names``."""
    columns = [(metric_name(name), METRIC_NAMES.get(name, ("", "", "bits"))[1]) for name in names]
    styles = [METRIC_NAMES.get(name, ("", "", "bits"))[2] for name in names]
    rows = tuple(
        Row(
            "the expert" if system == "expert" else system_name(system, systems),
            tuple(
                figure(scores[name], style) if name in scores else DASH
                for name, style in zip(names, styles, strict=True)
            ),
            system == "tuned",
        )
        for system, scores in found.items()
    )
    return Grid(label, (("System", ""), *columns), rows, bare)


# -- sentences ----------------------------------------------------------------------------------------------------


def side(estimate: Estimate | None, of: float = 0.0) -> int:
    """1 where the interval lies above ``of``, -1 below it, 0 where it contains it or there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return 0
    return int(estimate.low > of) - int(estimate.high < of)


def apart(one: Estimate | None, other: Estimate | None) -> int:
    """1 where the whole interval of ``one`` lies above that of ``other``, -1 below, 0 where that is not shown."""
    if one is None or other is None or None in (one.low, one.high, other.low, other.high):
        return 0
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None
    return int(one.low > other.high) - int(one.high < other.low)


def turned(estimate: Estimate) -> Estimate:
    """The same difference, taken the other way round."""
    low = None if estimate.high is None else -estimate.high
    high = None if estimate.low is None else -estimate.low
    return Estimate(-estimate.value, low, high, estimate.level, estimate.method, estimate.n)


def away(estimate: Estimate, style: str = "points") -> str:
    """The size of a difference whose direction the sentence tells."""
    return figure(estimate if estimate.value >= 0 else turned(estimate), style)


def hundredfold(estimate: Estimate) -> Estimate:
    """A share as a number of percentage points."""
    ends = [None if end is None else 100 * end for end in (estimate.low, estimate.high)]
    return Estimate(100 * estimate.value, ends[0], ends[1], estimate.level, estimate.method, estimate.n)


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def rate(share: float) -> str:
    """A share that is no measurement, in whole per cent."""
    return f"{100 * share:.0f} %"


# -- pictures -----------------------------------------------------------------------------------------------------

#: System -> class of its colour.
KINDS = {"tuned": "tuned", "B0": "base", "B3": "base3", "E": "expert", "expert": "expert"}


def dot(
    label: str,
    estimate: Estimate,
    kind: str,
    *,
    style: str = "points",
    signed: bool = False,
    strong: bool = False,
    ghost: float | None = None,
    group: str = "",
) -> Dot:
    """A row for an estimate: its figure in words, shares drawn in per cent. The label may be other people's words."""
    scale = 100 if style == "share" else 1
    low, high = (None if end is None else scale * end for end in (estimate.low, estimate.high))
    shown = figure(estimate, style, signed=signed)
    return Dot(plain(label), scale * estimate.value, low, high, shown, kind, strong, ghost, plain(group))
