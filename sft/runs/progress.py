"""Progress on stderr: a bar on a terminal, a line now and then where there is none, nothing with ``--quiet``.

A job's log that holds a bar holds one line of ten thousand characters; lines can be read, and searched.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["PATIENCE", "QUIET", "Lines", "bar", "is_quiet"]

#: The variable that keeps progress back, in the processes that a verb starts too.
QUIET = "SFT_QUIET"
#: A line is written when a tenth more of the work is done, or this many seconds after the last one.
_SECONDS = 60.0
#: Seconds of silence before work is told of that is mostly over by then.
PATIENCE = 5.0


def is_quiet() -> bool:
    """Whether progress is kept back (``--quiet``)."""
    return os.environ.get(QUIET, "") not in ("", "0")


def bar(total: int, title: str, unit: str, *, initial: int = 0, shown: bool = True, after: float = 0.0) -> Any:
    """What shows that ``initial`` of ``total`` units are done: ``update(n)``, ``set_postfix_str(text)``, ``close()``.

    A context manager, as tqdm's bar is; on a terminal it is that bar. ``shown``: False in a process that says nothing.
    ``after``: seconds before anything is said, for what is mostly over by then.
    """
    if shown and not is_quiet() and sys.stderr.isatty():
        from tqdm import tqdm  # not for whoever is told in lines

        return tqdm(total=total, initial=initial, desc=title, unit=unit, file=sys.stderr, delay=after)
    return Lines(total, title, unit, initial=initial, shown=shown and not is_quiet(), after=after)


class Lines:
    """Progress as lines: what is done of how much, the time it took, and the time that is left at this pace."""

    def __init__(
        self, total: int, title: str, unit: str, *, initial: int = 0, shown: bool = True, after: float = 0.0
    ) -> None:
        self.n, self.total, self._title, self._unit = initial, total, title, unit
        self._initial, self._shown, self._more, self._after = initial, shown, "", after
        self._began = self._last = time.monotonic()
        self._said = initial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """``n`` more are done; a line, where that is much."""
        self.n += n
        now = time.monotonic()
        if self.n - self._said >= max(1.0, self.total / 10) or self.n == self.total or now - self._last >= _SECONDS:
            self._say(now)

    def set_postfix_str(self, text: str) -> None:
        """What further lines end with."""
        self._more = text

    def close(self) -> None:
        """A last line, where something is done that no line has told."""
        if self.n > self._said:
            self._say(time.monotonic())

    def __str__(self) -> str:
        return self._line(time.monotonic())

    def _line(self, now: float) -> str:
        spent, done = now - self._began, self.n - self._initial
        left = f", about {_clock(spent / done * (self.total - self.n))} left" if done and self.n < self.total else ""
        more = f", {self._more}" if self._more else ""
        return f"{self._title}: {self.n:,} of {self.total:,} {self._unit}s in {_clock(spent)}{left}{more}"

    def _say(self, now: float) -> None:
        self._said, self._last = self.n, now
        if self._shown and now - self._began >= self._after:
            sys.stderr.write(f"{self._line(now)}\n")


def _clock(seconds: float) -> str:
    """``4 s``, ``2:05``, ``1:02:05``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
