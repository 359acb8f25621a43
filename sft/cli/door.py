"""The door that every line goes through which any verb prints, to standard output or standard error.

Characters that hide, reorder or overwrite others are spelled out there (``runs.visible``): names of experts, of
files and what a server says come from anybody, and a terminal obeys what it is told.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from sft.runs.visible import plain, spelled_in_json

__all__ = ["Door", "as_json", "coloured", "open_door"]

#: How a progress bar goes back to the beginning of its line, or up to another's.
_BAR = re.compile(r"(?:\r|\n|\x1b\[A)*")


class Door:
    """A stream as it is, but for what is written to it. ``bars``: whether progress bars may go back in their line.

    ``behind``: the stream itself, for what sets colours of its own making and has made visible what it got from others.
    """

    def __init__(self, behind: TextIO, *, bars: bool = False) -> None:
        self.behind, self._bars = behind, bars

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def write(self, text: str) -> int:
        """Write ``text``, every character of it visible."""
        start = _BAR.match(text).end() if self._bars else 0  # type: ignore[union-attr]
        self.behind.write(text[:start] + plain(text[start:]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def open_door() -> Iterator[None]:
    """Inside, standard output and standard error are behind the door; a door within a door is one."""
    before = sys.stdout, sys.stderr
    sys.stdout = before[0] if isinstance(before[0], Door) else Door(before[0])
    sys.stderr = before[1] if isinstance(before[1], Door) else Door(before[1], bars=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def coloured(text: str, end: str = "\n") -> None:
    """Print words of our own with the colours that we set in them: they pass by the door."""
    print(text, end=end, file=getattr(sys.stdout, "behind", sys.stdout))


def as_json(value: Any) -> str:
    """``value`` in one line of JSON, in which the door finds nothing to spell out: it is the same value."""
    return spelled_in_json(json.dumps(value, ensure_ascii=False))
