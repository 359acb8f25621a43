"""Gatherings for tests, and experts without a browser: the same requests that the page sends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from sft.gathering.desk import Desk
from sft.gathering.folder import Gathering
from sft.gathering.items import Item, item_id
from sft.gathering.scripted import Client as Requests
from sft.gathering.server import Page, running
from sft.runs.atomic_files import write_jsonl

#: The beginning of what a clone wrote.
CLONE = "ZEBRA-CROSSING is what the clone wrote for this item, and it is long enough to go on from."


def asked(count: int, *, round: int = 0, **more: Any) -> list[Item]:
    """``count`` items, each a question of its own."""
    from sft.demonstrations.demonstration import Message

    prompts = [(Message("user", f"What does function number {n} do, and why?"),) for n in range(count)]
    return [Item(item_id(prompt, round), prompt, round=round, **more) for prompt in prompts]


def gathering(
    folder: Path, items: Sequence[Item] | int = 6, experts: Sequence[str] = ("ada",), **setup: Any
) -> Gathering:
    """A new gathering, held for writing, with ``experts`` and their items."""
    made = Gathering.create(folder, **setup)
    made.add(asked(items) if isinstance(items, int) else items)
    for name in experts:
        made.invite(name)
    return made


class Client(Requests):
    """As the demo's scripted experts, and one step more."""

    def answer(self, text: str, item: str = "", **body: Any) -> str:
        """Open the next item (or ``item``), submit ``text``; the item."""
        item = item or self.next()
        assert self.get(f"/item/{item}")[0] == 200
        status, answer = self.do("submitted", item=item, text=text, rev=0, **body)
        assert status == 200, answer
        return item


@contextmanager
def served(made: Gathering, **where: Any) -> Iterator[tuple[Page, dict[str, Client]]]:
    """Inside, the page of ``made`` is served; a client for every expert, and for the "owner"."""
    names = [name for name in made.experts() if name]
    tokens = {name or "owner": made.invite(name) for name in (*names, "")}
    with running(Desk(made), **where) as page:
        clients = {name: Client(page.address, token) for name, token in tokens.items()}
        try:
            yield page, clients
        finally:
            for one in clients.values():
                one.close()


def submitted(page: Page, *answers: tuple[str, str, str], **body: Any) -> None:
    """Have each (expert, item, text) submitted at the desk behind the page, all with one wait for the disk or two."""
    actions = [
        page.desk.act(who, "submitted", {"item": item, "text": text, "rev": 0, **body}) for who, item, text in answers
    ]
    assert all(action.events.result(60) for action in actions)


def texts(folder: Path) -> dict[str, str]:
    """Item -> what its demonstration says, of a gathering with one expert."""
    rows = [
        json.loads(line) for line in (folder / "demonstrations.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    return {row["gathered"]["item"]: row["completion"] for row in rows}


def corrected(folder: Path, *, shown: str, count: int = 3, **setup: Any) -> Gathering:
    """A gathering with items of round 1 for which a clone wrote."""
    items = asked(count, round=1, shown=shown)
    made = gathering(folder, items, **setup)
    write_jsonl(made.clone_path(1), ({"id": one.id, "text": f"{CLONE} {n}", "finished": True}
                                     for n, one in enumerate(items)))  # fmt: skip
    return made


def started(folder: Path, *words: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """``sft collect`` in a process of its own, and the links that it printed."""
    command = [sys.executable, "-m", "sft", "collect", str(folder), "--no-open", *words]
    one = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    links: dict[str, str] = {}
    assert one.stdout is not None
    for line in one.stdout:
        if found := re.match(r"(\w+): (http://\S+)", line):
            links[found[1]] = found[2]
        if "owner" in links:
            return one, links
    raise AssertionError(one.communicate()[1])


def attended(words: Sequence[str], behave: Callable[[dict[str, Client]], None]) -> tuple[int, str]:
    """Run ``sft WORDS``, which opens a page, while experts ``behave`` in a thread; then the owner closes the round.

    The exit status, and what was printed.
    """
    from sft.cli import main

    said, failed = io.StringIO(), list[BaseException]()

    def attend() -> None:
        try:
            end = time.monotonic() + 600  # the clone writes first, on a machine with other things to do
            while not re.search(r"(?m)^owner: .*\n", said.getvalue()):
                assert time.monotonic() < end and not over.is_set(), said.getvalue()
                time.sleep(0.05)
            links = dict(re.findall(r"(?m)^(\w+): (http://\S+)$", said.getvalue()))
            clients = {
                name: Client(link.partition("/enter/")[0], link.rpartition("/")[2]) for name, link in links.items()
            }
            try:
                behave(clients)
            finally:
                clients["owner"].do("closed", "/owner/do")
                for one in clients.values():
                    one.close()
        except BaseException as error:
            failed.append(error)
            os.kill(os.getpid(), signal.SIGINT)  # the page would wait for ever

    over = threading.Event()
    thread = threading.Thread(target=attend)
    thread.start()
    try:
        with redirect_stdout(said):  # pytest's own capture is not made for two threads
            status = main([*words, "--no-open"])
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]
    return status, said.getvalue()
