"""The nouns of a report's body: chapters of parts, each with a finding in words, a picture, tables and samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports.names import METRIC_NAMES, metric_name, system_name
from sft.reports.text import figure

__all__ = ["DASH", "Chapter", "Grid", "Part", "Row", "Sample", "absent", "by_system", "claimed"]

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
class Sample:
    """Other people's words: what they are about, and (label, text, whose: class of a colour) of each."""

    about: str
    texts: tuple[tuple[str, str, str], ...]


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
    samples: tuple[Sample, ...] = ()
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
    label: str, found: Mapping[str, Mapping[str, Estimate]], names: Sequence[str], *, bare: bool = False
) -> Grid:
    """Systems by figures; a figure that a system lacks is a dash."""
    columns = [(metric_name(name), METRIC_NAMES.get(name, ("", "", "bits"))[1]) for name in names]
    styles = [METRIC_NAMES.get(name, ("", "", "bits"))[2] for name in names]
    rows = tuple(
        Row(
            "the expert" if system == "expert" else system_name(system),
            tuple(
                figure(scores[name], style) if name in scores else DASH
                for name, style in zip(names, styles, strict=True)
            ),
            system == "tuned",
        )
        for system, scores in found.items()
    )
    return Grid(label, (("System", ""), *columns), rows, bare)
