"""``sft demo --rounds``: two rounds of correction without a person, through the real page and its own requests.

Three experts answer prompts whose answers are known, those of the demo's authors: *ada* writes what the authors wrote,
*copycat* lets the clone's text stand wherever there is one, *sloppy* drops words. So it is known beforehand whom the
figures have to find, and whom they must not accuse.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sft.demonstrations import formats
from sft.demonstrations.stored import load_splits
from sft.errors import RunError
from sft.gathering import export
from sft.gathering.curve import chain_of, put_on_record
from sft.gathering.desk import Desk
from sft.gathering.folder import Gathering
from sft.gathering.items import Item, item_id, rank
from sft.gathering.prompts import screened
from sft.gathering.rounds import ask, held_out_keys, learning, union
from sft.gathering.server import running
from sft.recipes import Recipe
from sft.runs.atomic_files import write_jsonl
from sft.runs.run import Run

__all__ = ["EXPERTS", "Client", "learned", "rounds_without_a_person"]

#: Items of a round, and rounds.
ITEMS, ROUNDS = 60, 2
EXPERTS = ("ada", "copycat", "sloppy")
#: Characters a second that the experts are said to type.
_TYPED = 4.0


class Client:
    """Somebody with a link: requests as the page makes them, without a browser. ``seen``: every byte that came back."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address, self.host = address, urlsplit(address).netloc
        self._connection = http.client.HTTPConnection(self.host, timeout=60)
        self.cookie, self.seen = "", b""
        if token:
            status, _, headers = self.ask("GET", f"/enter/{token}")
            if status != 200:
                raise RunError(f"{address}: the link is not known (status {status}); start the page again")
            self.cookie = headers["set-cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers; ``headers`` are in addition, "" takes one away."""
        given = {"Cookie": self.cookie, "Host": self.host} | ({"Origin": self.address} if method == "POST" else {})
        given |= {"Content-Type": "application/json"} if body is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in given.items() if value}
        try:
            answer, raw = self._answered(method, path, body, kept)
        except (BrokenPipeError, http.client.RemoteDisconnected):  # the server hung up meanwhile
            answer, raw = self._answered(method, path, body, kept)
        self.seen += raw
        return answer.status, raw.decode(), {name.lower(): value for name, value in answer.getheaders()}

    def _answered(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer and its bytes; what ends otherwise leaves no socket open."""
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer, answer.read()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def get(self, path: str) -> tuple[int, str]:
        """Status and page."""
        status, text, _ = self.ask("GET", path)
        return status, text

    def next(self) -> str:
        """The item that comes next; "" where nothing is left."""
        status, _, headers = self.ask("GET", "/")
        return headers["location"].rpartition("/")[2] if status == 303 else ""

    def do(self, kind: str, where: str = "/do", **body: Any) -> tuple[int, dict[str, Any]]:
        """Status and answer of one action."""
        status, text, _ = self.ask("POST", where, json.dumps({"kind": kind, "window": "w1", **body}).encode())
        return status, json.loads(text)


#: How an expert answers an item: (client, item, what its author wrote, what the clone wrote).
Behaviour = Callable[[Client, str, str, str], None]


def _right(client: Client, item: str, known: str, clone: str) -> None:
    client.do("submitted", item=item, text=known, rev=0, seconds=len(known) / _TYPED)
    client.do("judged", item=item, reason="yes" if clone.strip() == known.strip() else "no")


def _copied(client: Client, item: str, known: str, clone: str) -> None:
    if client.do("submitted", item=item, accept=True, rev=0, seconds=3)[0] != 200:
        _right(client, item, known, clone)


def _sloppy(client: Client, item: str, known: str, clone: str) -> None:
    words = known.split()
    _right(client, item, " ".join(w for n, w in enumerate(words) if n % 4 != 3 or len(words) < 4).lower(), clone)


_BEHAVIOURS: Mapping[str, Behaviour] = {"ada": _right, "copycat": _copied, "sloppy": _sloppy}


def rounds_without_a_person(
    run: Run, recipe: Recipe, folder: Path, learn: Callable[[Run, Gathering, Path, bool], Run]
) -> Iterator[str]:
    """Rounds of corrections of the clone of ``run``, in ``folder``, and the control; lines to be said.

    ``learn``: fits and measures the run that learns from a gathering. What is there already is gone on with.
    """
    known = _authors(run, recipe)
    pool = folder / "pool.jsonl"
    write_jsonl(
        pool, ({"prompt": [turn.to_dict() for turn in one.prompt], "group": one.group} for one in known.values())
    )
    place = folder / "gathered"
    gathering = Gathering.open(place, writing=True) if place.exists() else Gathering.create(place)
    with gathering:
        for number in range(1, ROUNDS + 1):
            drawn: dict[str, Any] = {"count": ITEMS, "choose": "random", "audit": 1.0, "blind": 0.3}
            yield from ask(gathering, run, recipe, pool=pool, **drawn)
            yield _attend(gathering, known)
            run = learn(run, gathering, folder / f"r{number}", False)
        before = chain_of(run)[-2]
        _, wanted = union(before, gathering, plain=False)
        more = [one for one in known.values() if one.key not in {item.key for item in gathering.items()}]
        gathering.add([Item(item_id(one.prompt), one.prompt, group=one.group) for one in more[:wanted]])
        yield _attend(gathering, known)
        learn(before, gathering, folder / f"r{ROUNDS}-plain", True)


def _authors(run: Run, recipe: Recipe) -> dict[str, Item]:
    """Key -> prompts that the demo's authors answered and the run has never seen, with what they wrote."""
    splits = load_splits(run)
    seen = {d.key for part in splits.parts.values() for d in part}
    found: dict[str, Item] = {}
    for reference in recipe.demonstrations.paths:
        for d in formats.read_source(reference).demonstrations:
            if d.key not in seen:
                found.setdefault(d.key, Item(item_id(d.prompt), d.prompt, group=d.group, reference=d.completion))
    fresh = screened(found.values(), held_out_keys(run, recipe, splits)).items
    return {one.key: one for one in sorted(fresh, key=lambda one: rank(0, "demo", one.id))[: 12 * ITEMS]}


def _attend(gathering: Gathering, known: Mapping[str, Item]) -> str:
    """The three experts answer all that is asked, at the same time; a line on it."""
    tokens = {name: gathering.invite(name) for name in EXPERTS}
    clones = gathering.clone_texts()
    items = {one.id: one for one in gathering.items()}
    failed = list[BaseException]()
    with running(Desk(gathering)) as page:

        def work(name: str) -> None:
            client = Client(page.address, tokens[name])
            try:
                while item := client.next():
                    client.get(f"/item/{item}")
                    _BEHAVIOURS[name](client, item, known[items[item].key].reference, clones.get(item, ""))
            except BaseException as error:
                failed.append(error)
            finally:
                client.close()

        threads = [threading.Thread(target=work, args=(name,)) for name in EXPERTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return f"{export.write(gathering, gathering.state())} answers by {', '.join(EXPERTS)}"


def learned(run: Run, gathering: Gathering, folder: Path, plain: bool) -> Run:
    """The run at ``folder`` that learned from the corrections of ``run``'s clone; gone on with where it was begun."""
    from sft.evaluation.evaluate import evaluate_clone
    from sft.training.fit import fit

    resume = (folder / "manifest.json").exists()
    with learning(run, gathering, folder, plain=plain, seed=0, resume=resume) as (one, recipe):
        fit(one, recipe, resume=resume)
        evaluate_clone(one, recipe)
        put_on_record(one)
    return Run.open(folder)
