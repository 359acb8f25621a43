"""A figure with its interval: what statistics return and scorecards hold, and how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Estimate", "figure"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. ``low``/``high`` are None when none can be had; ``method`` says why."""

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    n: int


def figure(estimate: Estimate | None, style: str = "points", *, signed: bool = False) -> str:
    """``47.3 [45.1, 49.5]``; in per cent for a ``share``; the value alone where there is no interval."""
    if estimate is None:
        return "not measured"
    scale, digits, unit = {
        "points": (1, 1, ""),
        "share": (100, 1, " %"),
        "ratio": (1, 2, ""),
        "bits": (1, 3, ""),
    }[style]
    sign = "+" if signed else ""

    def number(value: float) -> str:
        shown = f"{scale * value:{sign}.{digits}f}"
        return re.sub(r"^[+-](0(\.0+)?)$", r"\1", shown).replace("-", "\N{MINUS SIGN}")

    if estimate.low is None or estimate.high is None:
        return number(estimate.value) + unit
    return f"{number(estimate.value)}{unit} [{number(estimate.low)}, {number(estimate.high)}]"
