"""What people do with a gathering that it was not made for: by hand, at once, elsewhere, again, and in between."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from gatherings import Client, gathering, served

from sft.gathering import pages
from sft.gathering.desk import Desk
from sft.gathering.events import Event, write_events

# -- at once ----------------------------------------------------------------------------------------------------


def test_a_window_is_told_its_own_revision_and_not_the_next_ones(tmp_path: Path) -> None:
    """Two windows wrote within one wait for the disk. The first was told the revision of the second, whose text it had
    never seen and wrote over with its next key.
    """
    with gathering(tmp_path / "g", 1) as made, served(made) as (page, who):
        item, said = who["ada"].next(), dict[str, int]()

        def draft(text: str, rev: int) -> None:
            one = Client(page.address)
            one.cookie = who["ada"].cookie
            said[text] = one.do("draft", item=item, text=text, rev=rev, window=text)[1]["rev"]
            one.close()

        with (
            page.desk.lock
        ):  # the thread that writes has the first in hand and waits; the other two are written at once
            threads = [threading.Thread(target=draft, args=(text, rev)) for rev, text in enumerate("abc")]
            for thread in threads:
                thread.start()
                time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert said == {"a": 1, "b": 2, "c": 3}


def test_a_page_takes_hardly_longer_behind_thousands_of_answers(tmp_path: Path) -> None:
    """Every page looked through all answers twice: 13 microseconds of a processor for each of them, 40 ms of 3,000."""
    took = {}
    for answers in (100, 3_000):
        with gathering(tmp_path / str(answers), answers + 2) as made:
            text, at = "word " * 30, "2026-03-01T10:00:00.000+00:00"
            items = [one.id for one in made.state([]).order()[:-2]]
            write_events(made.events_path, [Event(n, at, "submitted", item, "ada", rev=1, text=text)
                                            for n, item in enumerate(items, 1)])  # fmt: skip
            desk, spent = Desk(made), []
            for _ in range(9):
                began = time.thread_time()
                item = desk.state.next_for("ada")
                assert item is not None and f">{answers}</span> of {answers + 2}" in pages.item(desk, item, "ada")
                spent.append(time.thread_time() - began)
            desk.close()
        took[answers] = min(spent)
    assert (took[3_000] - took[100]) / 2_900 < 4e-6, took
