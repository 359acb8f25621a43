"""How wide pictures are, and which colours stand for whom."""

from __future__ import annotations

from sft.metrics.estimate import Estimate
from sft.metrics.text import plain
from sft.reports.charts import Dot
from sft.reports.text import figure

__all__ = ["KINDS", "WIDTHS", "dot"]

#: Widths of a picture, in CSS pixels: on a desk, on a phone.
WIDTHS = (800, 342)
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
