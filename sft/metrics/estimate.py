"""A figure with its interval: what statistics return and scorecards hold."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval. ``low``/``high`` are None when none can be had; ``method`` says why."""

    value: float
    low: float | None
    high: float | None
    level: float
    method: str
    n: int
