"""How long to wait for somebody else's server, and how often to ask it again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

__all__ = ["DOUBTFUL", "Patience", "is_doubtful", "is_loopback", "seconds_asked", "within"]

#: Answers after which it is open whether the server did what was asked, or will do it when asked again.
DOUBTFUL = (408, 409, 412, 423, 425, 429)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, in seconds, and how often to ask. ``sleep``: how to wait."""

    connect_seconds: float = 10.0
    answer_seconds: float = 120.0
    tries: int = 6
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    sleep: Callable[[float], object] = time.sleep

    @classmethod
    def lasting(cls, seconds: float, *, answer_seconds: float, sleep: Callable[[float], object] = time.sleep) -> Self:
        """So many tries that the pauses between them come to ``seconds`` or more; 0 is one try."""
        usual = cls()
        tries, waited = 1, 0.0
        while waited < seconds:
            pause = usual.first_pause_seconds * 2 ** (tries - 1)
            tries, waited = tries + 1, waited + min(pause, usual.longest_pause_seconds)
        return cls(answer_seconds=answer_seconds, tries=tries, sleep=sleep)

    def pause(self, number: int, asked_seconds: float | None) -> None:
        """Wait after try ``number`` (from 0): as long as the server asked for, or twice as long each time; capped."""
        wanted = asked_seconds if asked_seconds is not None else self.first_pause_seconds * 2**number
        self.sleep(min(wanted, self.longest_pause_seconds))


def is_doubtful(code: int) -> bool:
    """Whether an answer with the status ``code`` is worth asking again."""
    return code >= 500 or code in DOUBTFUL


def seconds_asked(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` asks for; None where it is not there, or a date."""
    asked = headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else None


def is_loopback(endpoint: str) -> bool:
    """Whether ``endpoint`` is on this machine."""
    return (urlsplit(endpoint).hostname or "") in _LOOPBACK


class _TooLong(BaseException):
    """So that nothing on the way takes it for an error of its own."""


@contextmanager
def within(seconds: float, error: Exception) -> Iterator[None]:
    """Raise ``error`` where what is inside computes for longer than ``seconds``: a program of somebody else's may never
    end. Other programs on the machine do not count.

    By a signal of the system's, which the main thread alone gets; elsewhere, and inside another, nothing is limited.
    """

    def ring(*_: object) -> None:
        raise _TooLong

    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_VIRTUAL)[0]:
        yield
        return
    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _TooLong:
        raise error from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
