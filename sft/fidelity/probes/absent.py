"""What a probe raises where it has nothing to measure."""

from __future__ import annotations

__all__ = ["Absent"]


class Absent(Exception):
    """There is nothing to measure; the message says why, as half a sentence ("the prompts have one expert each")."""
