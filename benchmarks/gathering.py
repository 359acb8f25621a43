"""The page of ``sft collect``: what a kill loses, how fast drafts are on the disk, how large it is; and its statistics.

    python benchmarks/gathering.py                 kills, load, size, start: about two minutes, alone on the machine
    python benchmarks/gathering.py --statistics    the intervals of rounds by simulation: a minute

Everything goes through the real server on 127.0.0.1. Figures: ``docs/decisions.md``, "The page that experts write on".
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sft.demonstrations.messages import Message
from sft.gathering.folder import Gathering
from sft.gathering.items import Item, item_id
from sft.gathering.scripted import Client
from sft.metrics import intervals
from sft.metrics.intervals import Sample

#: Kills under load; seconds between an expert's drafts; seconds that the load lasts.
KILLS, PAUSE, LASTS = 30, 0.8, 12


def made(folder: Path, experts: int, items: int) -> dict[str, str]:
    """A gathering in ``folder``; a link's token for each expert."""
    with Gathering.create(folder) as gathering:
        prompts = [(Message("user", f"What does function number {n} do, and why?"),) for n in range(items)]
        gathering.add([Item(item_id(prompt), prompt) for prompt in prompts])
        return {name: gathering.invite(name) for name in [f"e{n}" for n in range(experts)]}


def started(folder: Path) -> tuple[subprocess.Popen[str], str, tuple[float, float]]:
    """The page in a process of its own, its address, and the seconds until it was there, by the clock and of a CPU."""
    began = time.monotonic()
    command = [sys.executable, "-m", "sft", "collect", str(folder), "--no-open"]
    one = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert one.stdout is not None
    address = ""
    for line in one.stdout:
        if found := re.match(r"\w+: (http://\S+)/enter/", line):
            address = found[1]
        if line.startswith("owner: "):
            break
    spent = Path(f"/proc/{one.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    cpu = (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")
    return one, address, (time.monotonic() - began, cpu)


def kills() -> None:
    """Answers that were acknowledged before a ``kill -9``, and how many of them are gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "g"
        tokens = made(folder, 4, 4000)
        said: dict[tuple[str, str], str] = {}

        def work(name: str, address: str) -> None:
            try:
                client = Client(address, tokens[name])
                while item := client.next():
                    text = f"{name} {len(said)} " + "word " * 40
                    if client.do("submitted", item=item, text=text, rev=0)[0] == 200:
                        said[item, name] = text
            except Exception:  # the server was killed in the middle of an answer
                return

        for death in range(KILLS):
            one, address, _ = started(folder)
            threads = [threading.Thread(target=work, args=(name, address)) for name in tokens]
            for thread in threads:
                thread.start()
            goal, end = len(said) + 10 + 7 * death % 40, time.monotonic() + 20
            while len(said) < goal and time.monotonic() < end:
                time.sleep(0.005)
            one.send_signal(signal.SIGKILL)
            one.wait()
            for thread in threads:
                thread.join()
        state = Gathering.open(folder).state()
        lost = sum(state.work(*key).text != text for key, text in said.items())
        print(f"kills {KILLS}, acknowledged {len(said)}, lost {lost}")


def load(experts: int) -> None:
    """How long a draft takes to be on the disk, with so many experts who each send one every 0.8 seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "g"
        tokens = made(folder, experts, experts)
        one, address, _ = started(folder)
        took: list[float] = []

        def work(name: str, number: int) -> None:
            client = Client(address, tokens[name])
            item = client.next()
            client.get(f"/item/{item}")
            time.sleep(PAUSE * number / experts)
            end, rev = time.monotonic() + LASTS, 0
            while time.monotonic() < end:
                began = time.monotonic()
                status, answer = client.do("draft", item=item, text="word " * 60 + str(rev), rev=rev)
                took.append(time.monotonic() - began)
                rev = answer["rev"]
                assert status == 200
                time.sleep(max(0.0, PAUSE - took[-1]))
            client.close()

        threads = [threading.Thread(target=work, args=(name, n)) for n, name in enumerate(tokens)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.terminate()
        one.wait()
        half, most = np.percentile(np.array(took) * 1000, [50, 95])
        print(f"experts {experts:2d}: {len(took)} drafts, median {half:.0f} ms, p95 {most:.0f} ms")


def size() -> None:
    """Seconds until the page is there, and what the first item costs a browser."""
    with tempfile.TemporaryDirectory() as place:
        tokens = made(Path(place) / "g", 1, 10)
        one, address, took = started(Path(place) / "g")
        client = Client(address, tokens["e0"])
        item = client.next()
        sizes = {path: len(client.get(path)[1]) for path in (f"/item/{item}", "/static/page.css", "/static/page.js")}
        one.terminate()
        one.wait()
        print(f"start {took[0]:.2f} s ({took[1]:.2f} s of a CPU)")
        print(f"{len(sizes)} requests, {sum(sizes.values())} bytes: {list(sizes.values())}")


def statistics() -> None:
    """Type I error, coverage and power of the intervals that rounds go by."""
    draw = np.random.default_rng(0)

    def share(worlds: int, once: Callable[[], bool]) -> str:
        return f"{100 * sum(once() for _ in range(worlds)) / worlds:.1f} %"

    def anchoring(items: int, difference: float, spread: float) -> bool:
        blind = round(0.3 * items)
        one, other = draw.normal(difference, spread, items - blind), draw.normal(0, spread, blind)
        found = intervals.welch([(Sample(list(one)), Sample(list(other)))])
        return found.low is not None and found.low > 0

    for items, visible in ((100, 9.9), (200, 6.9), (400, 4.9)):
        called = share(2000, lambda n=items: anchoring(n, 0.0, 14))
        print(f"anchoring, {items} items: of none {called} called above 0; of {visible} points "
              f"{share(1000, lambda n=items, d=visible: anchoring(n, d, 14))} seen")  # fmt: skip

    def copycat(items: int, share_copied: float, right: float) -> tuple[bool, bool]:
        """Called by the mean, and by texts that are the clone's letter by letter; ``right``: written so anyhow."""
        counts = items - (blind := round(0.3 * items)), blind
        same = [draw.random(n) < right for n in counts]
        same[0] |= draw.random(counts[0]) < share_copied
        drafted, others = (np.where(own, 100, draw.normal(35, 14, len(own))) for own in same)
        found = intervals.welch([(Sample(list(drafted)), Sample(list(others)))])
        equal = intervals.newcombe(*((int(own.sum()), len(own)) for own in same))
        return found.low is not None and found.low > 0, equal.low is not None and equal.low > 0

    for items, part in ((100, 0.2), (200, 0.1), (200, 0.0)):
        for right in (0.0, 0.05, 0.3):
            called = np.array([copycat(items, part, right) for _ in range(2000)])
            mean, whole, either = 100 * np.array([*called.mean(axis=0), called.any(axis=1).mean()])
            print(f"a copycat in {part:.0%} of {items} items, {right:.0%} of the texts right anyhow: by the mean "
                  f"{mean:.1f} %, by whole texts {whole:.1f} %, by either {either:.1f} %")  # fmt: skip

    def arms(seeds: int, gain: float) -> bool:
        prompts = draw.normal(40, 14, 200)
        one, other = (prompts + draw.normal(0, 1.3, (seeds, 1)) + draw.normal(0, 12, (seeds, 200)) for _ in range(2))
        found = intervals.two_way(one + gain, other)
        return found.low is not None and found.low > 0

    for seeds in (3, 5):
        none, five = share(2000, lambda s=seeds: arms(s, 0.0)), share(1000, lambda s=seeds: arms(s, 5.0))
        print(f"correction helps, {seeds} seeds an arm: of none {none} called so; of 5 points {five} seen")


if __name__ == "__main__":
    if "--statistics" in sys.argv:
        statistics()
    else:
        size()
        for count in (1, 10, 50):
            load(count)
        kills()
