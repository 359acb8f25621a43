"""Which pictures a report shows: from a scorecard, a training log and a ledger to drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft.fidelity.scorecard import Scorecard
from sft.reports.illustrations import along, compared, habits, training
from sft.reports.illustrations.training import fate_kind, ledger_pictures, losses
from sft.reports.illustrations.widths import WIDTHS
from sft.runs.run import Run

__all__ = ["WIDTHS", "fate_kind", "ledger_pictures", "losses", "pictures"]


def pictures(run: Run, card: Scorecard, log: Sequence[Mapping[str, Any]]) -> dict[str, list[Markup]]:
    """Picture -> drawn at each of WIDTHS; a picture with nothing to show is left out."""
    drawn: dict[str, list[Markup]] = {}
    for width in WIDTHS:
        found = [
            *compared.drawn(card, width),
            *along.drawn(card, width),
            *habits.drawn(card, width),
            *training.drawn(run, card, log, width),
        ]
        for name, svg in found:
            drawn.setdefault(name, []).append(Markup(svg))
    return drawn
