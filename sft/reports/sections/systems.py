"""Who comes how close: every system, and what the clone gains over each shortcut."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.conventions import rests_on_few
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import (
    KINDS,
    dot,
)

__all__ = ["drawn", "pictures"]


def drawn(card: Scorecard) -> list[tuple[str, Estimate]]:
    """Every system with its headline score, but for another expert's of a few prompts: its bar would cross the page."""
    found = [(s.system, s.scores[card.headline]) for s in card.systems if card.headline in s.scores]
    return [(system, score) for system, score in found if not (system == "E" and rests_on_few(score))]


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    name = metric_name(card.headline)
    systems = [
        dot(system_name(s, card.names), e, KINDS.get(s, "other"), strong=s == "tuned")
        for s, e in sorted(drawn(card), key=lambda pair: -pair[1].value)
    ]
    if systems:
        yield (
            "systems",
            charts.dots(
                systems,
                key="systems",
                title=f"{name} of every system, with 95 % intervals",
                axis=f"{name}, agreement with the expert (points of 100)",
            ),
        )
    gains = [
        dot(
            f"over {system_name(g.floor, card.names)}",
            g.estimate,
            "tuned",
            signed=True,
            strong=g.floor == card.gain.floor,
        )
        for g in sorted(card.gains, key=lambda g: g.estimate.value)
    ]
    if gains:
        yield (
            "gains",
            charts.dots(
                gains,
                key="gains",
                title=f"How many {name} points the clone gains over each shortcut",
                axis=f"clone minus shortcut ({name} points)",
                signed=True,
            ),
        )
