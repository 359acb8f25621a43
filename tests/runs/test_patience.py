"""How long a server is waited for."""

from __future__ import annotations

import pytest

from sft.runs.patience import Patience, is_doubtful, is_loopback, seconds_asked


@pytest.mark.parametrize(("seconds", "tries"), [(0, 1), (1, 2), (3, 3), (60, 7), (63, 7), (64, 8), (600, 16)])
def test_patience_lasts_as_long_as_is_asked_for(seconds: float, tries: int) -> None:
    """1, 2, 4, ... seconds, then a minute each time."""
    slept: list[float] = []
    patience = Patience.lasting(seconds, answer_seconds=5, sleep=slept.append)
    assert patience.tries == tries and patience.answer_seconds == 5
    for number in range(tries - 1):
        patience.pause(number, None)
    assert sum(slept) >= seconds and (not slept or sum(slept[:-1]) < seconds)


def test_a_server_may_ask_for_a_pause_up_to_a_minute() -> None:
    slept: list[float] = []
    patience = Patience(sleep=slept.append)
    for asked in (0.0, 7.0, 7200.0):
        patience.pause(0, asked)
    assert slept == [0, 7, 60]
    assert seconds_asked({"retry-after": "7"}) == 7 and seconds_asked({"retry-after": "Wed, 21 Oct"}) is None


def test_what_is_worth_asking_again() -> None:
    assert all(map(is_doubtful, (408, 425, 429, 500, 503))) and not any(map(is_doubtful, (200, 400, 401, 404, 422)))
    assert is_loopback("http://127.0.0.1:1") and is_loopback("http://[::1]:1") and not is_loopback("http://10.0.0.1")
