"""The body of a report: every measurement of a scorecard as findings, pictures, tables and samples, or why not.

Words and numbers only: the templates decide how a chapter looks in HTML and in Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass

from sft.fidelity.scorecard import Scorecard
from sft.reports.sections import manner, others, path
from sft.reports.sections.parts import Chapter, Grid, Part, Row, Sample, claimed

__all__ = ["Body", "Chapter", "Grid", "Part", "Row", "Sample", "body"]


@dataclass(frozen=True, slots=True)
class Body:
    """``beside``: parts that belong to the first chapter, which compares all systems. ``chapters``: the rest.

    ``unplaced``: (section, sentence) of what is absent and has no place of its own.
    """

    beside: tuple[Part, ...]
    chapters: tuple[Chapter, ...]
    unplaced: tuple[tuple[str, str], ...]


def body(card: Scorecard) -> Body:
    """Everything that ``card`` holds beside its headline."""
    beside = (others.strata(card), others.corpus(card))
    chapters = (
        others.others(card),
        path.path(card),
        manner.manner(card),
        manner.limits(card),
        manner.costs(card),
    )
    return Body(beside, chapters, tuple(claimed(chapters, beside, card)))
