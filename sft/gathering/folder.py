"""A gathering: a folder of prompts, experts and what they wrote. All of it can be read by a person.

gathering.json        settings, rounds, versions of the guidelines, what may never be asked
experts.json          name -> hashes of links, when added: for its owner's eyes (mode 0600), never exported
guidelines (folder)   every version, by its hash
items.jsonl           one line an item
clone-K.jsonl         what the clone of round K wrote for its items
events.jsonl          what every expert did; the only truth
demonstrations.jsonl  derived from the events, written anew after each batch and at the end
held-out-keys.json    prompts and groups that may never be asked
.lock                 one server a folder
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from sft.errors import RunError, UserError
from sft.gathering.events import Event, read_events
from sft.gathering.items import Item
from sft.gathering.shapes import json_of, rows_of
from sft.gathering.state import Standing
from sft.runs.atomic_files import Held, let_go, locked, read_json, write_json, write_jsonl, write_text
from sft.runs.hashes import fingerprint
from sft.runs.machine import sentences
from sft.runs.run import now
from sft.runs.visible import plain

__all__ = ["Gathering", "HeldOutKeys", "Setup"]

SCHEMA_VERSION = 1
#: Links of an expert that stay good, the newest ones; each start of the page makes one more.
_LINKS = 20
#: Characters of a name.
_LONGEST_NAME = 60
#: Unseen, and part of how Persian names and some emoji are written.
_JOINERS = "\u200c\u200d"


@dataclass(slots=True)
class Setup:
    """``gathering.json``. ``rounds``: what is on record of each round, in order; ``guidelines``: hashes, oldest first.

    ``overlap``: share of the items that every expert answers. ``held_out``: hashes of what may never be asked.
    """

    id: str
    created: str
    seed: int = 0
    answers: int = 1
    overlap: float = 0.1
    order: str = "random"
    dialogues: bool = False
    own_prompts: bool = False
    rounds: list[dict[str, Any]] = field(default_factory=list)
    guidelines: list[str] = field(default_factory=list)
    held_out: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class HeldOutKeys:
    """Prompts and groups that may never be asked, for a clone is judged on them; ``run``: whose they are.

    ``prompts``: their texts, near-duplicates of which are refused too, from a likeness of ``threshold`` on.
    """

    keys: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    prompts: tuple[str, ...] = ()
    threshold: float = 0.8
    run: str = ""


class Gathering(Held):
    """Build one with :meth:`create` or :meth:`open`; one held for writing has the folder's lock until :meth:`close`."""

    def __init__(self, path: Path, settings: Setup, lock: IO[str] | None) -> None:
        self.path = path
        self.settings = settings
        self._lock = lock

    # The files.

    @property
    def events_path(self) -> Path:
        """What every expert did."""
        return self.path / "events.jsonl"

    @property
    def items_path(self) -> Path:
        """What is asked."""
        return self.path / "items.jsonl"

    @property
    def demonstrations_path(self) -> Path:
        """What recipes and ``sft check`` read."""
        return self.path / "demonstrations.jsonl"

    def clone_path(self, round: int) -> Path:
        """What the clone wrote for the items of ``round``, which correct the clone of the round before."""
        return self.path / f"clone-{round}.jsonl"

    @classmethod
    def create(cls, path: Path, **settings: Any) -> Self:
        """A new gathering at ``path``, held for writing. Raises ``RunError`` where something else is there."""
        refuse_other(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = locked(path)
        made = cls(path, Setup(id=secrets.token_hex(4), created=now(), **settings), lock)
        try:
            made.save()
        except BaseException:
            let_go(lock)
            raise
        return made

    @classmethod
    def open(cls, path: Path, *, writing: bool = False) -> Self:
        """The gathering at ``path``. Raises ``RunError`` for a folder that is none, of a newer schema, or in use."""
        if not is_gathering(path):
            refuse_other(path)
            raise RunError(f"{path}: there is no gathering; make one with `sft collect PROMPTS --into {path}`")
        lock = locked(path) if writing else None
        try:
            found = read_json(path / "gathering.json")
            version = found.get("schema_version") if isinstance(found, dict) else None
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise RunError(f"{path}: was made by a newer sft (schema {version}, this sft reads up to "
                               f"{SCHEMA_VERSION}); upgrade sft")  # fmt: skip
            try:
                return cls(path, Setup(**json_of(path / "gathering.json")), lock)
            except TypeError as error:
                raise RunError(f"{path / 'gathering.json'}: {error}; restore it from a copy") from None
        except BaseException:
            if lock is not None:
                let_go(lock)
            raise

    def save(self) -> None:
        """Write ``gathering.json``."""
        write_json(self.path / "gathering.json", asdict(self.settings))

    # Items and where they stand.

    def items(self) -> list[Item]:
        """What is asked, in the order of the file. Raises ``RunError`` where it is damaged."""
        if not self.items_path.exists():
            return []
        found = []
        for number, row in enumerate(rows_of(self.items_path), start=1):
            try:
                found.append(Item.from_row(row))
            except ValueError as error:
                raise RunError(f"{self.items_path}:{number}: {error}; restore it from a copy") from None
        return found

    def add(self, items: Iterable[Item]) -> list[Item]:
        """Ask these too; those that are asked already are passed over. What was added."""
        there = self.items()
        known = {one.id for one in there}
        new = [one for one in items if one.id not in known]
        if new:
            write_jsonl(self.items_path, (one.to_row() for one in (*there, *new)))
        return new

    def state(self, events: Sequence[Event] | None = None) -> Standing:
        """Where everything stands. ``events``: those so far, read unless given. Raises ``RunError``."""
        one, known = self.settings, self.experts()
        made = Standing(self.items(), answers=one.answers, seed=one.seed, in_order=one.order == "file")
        made.experts |= {name: True for name in known if name}
        found = read_events(self.events_path) if events is None else events
        for event in found:
            made.apply(event)
        self._refuse_lost(found)
        if known:  # whoever was renamed or taken out of the file by hand has no link, and is waited for no longer
            made.experts |= {name: False for name in made.experts if name not in known}
        return made

    def _refuse_lost(self, events: Sequence[Event]) -> None:
        """Raise ``RunError`` where a file is gone that answers are in, before one is made that has none."""
        if not events and self.demonstrations_path.exists() and self.demonstrations_path.stat().st_size:
            path, of = self.events_path, f"{self.demonstrations_path.name} was made of"
        elif not self.items_path.exists() and any(event.item for event in events):
            path, of = self.items_path, f"{self.events_path.name} has answers to what stood in"
        else:
            return
        raise RunError(f"{path}: is not there, or empty, and {of} it; restore it from a copy")

    def refuse_unwritten(self) -> None:
        """Raise ``RunError`` where a clone has not written, or no longer, for each item of its round."""
        texts, asked = self.clone_texts(), dict[int, list[str]]()
        for one in self.items():
            if one.round and not one.only:
                asked.setdefault(one.round, []).append(one.id)
        runs = {row["number"]: os.path.normpath(self.path / row["run"]) for row in self.settings.rounds}
        for number in sorted({*runs, *asked}):
            items = asked.get(number, [])
            written = sum(one in texts for one in items)
            if items and written == len(items):
                continue
            remedy = "restore the file from a copy"
            if number in runs:
                remedy = f"let it go on: sft correct {runs[number]} --into {self.path} --resume"
                remedy += "" if items else " --prompts FILE"
            raise RunError(f"{self.clone_path(number)}: the clone has written for {written} of {len(items)} items of "
                           f"round {number}; {remedy}")  # fmt: skip

    def clone_texts(self) -> dict[str, str]:
        """Item -> what a clone wrote for it, of every round."""
        found: dict[str, str] = {}
        for path in sorted(self.path.glob("clone-*.jsonl")):
            found |= {row["id"]: row["text"] for row in rows_of(path)}
        return found

    # Experts and their links.

    def experts(self) -> dict[str, list[str]]:
        """Name -> hashes of the links; "" is the owner."""
        path = self.path / "experts.json"
        return {name: one["tokens"] for name, one in json_of(path).items()} if path.exists() else {}

    def invite(self, name: str) -> str:
        """A new link's token for ``name``, who is added where nobody has that name; ``""`` is the owner.

        Tokens are kept as hashes; earlier ones stay good, so that a page that is open goes on after a restart.
        """
        path = self.path / "experts.json"
        known = json_of(path) if path.exists() else {}
        token, one = secrets.token_urlsafe(16), known.setdefault(name, {"added": now(), "tokens": []})
        one["tokens"] = [*one["tokens"], token_hash(token)][-_LINKS:]
        write_json(path, known)
        path.chmod(0o600)
        return token

    def holder(self, token: str) -> str | None:
        """Whose link has this token; None for one that is not known. Compared in constant time."""
        asked, found = token_hash(token), None
        for name, hashes in self.experts().items():
            for one in hashes:
                if hmac.compare_digest(one, asked):
                    found = name
        return found

    # Guidelines.

    def guidelines(self) -> tuple[str, str, int]:
        """Hash, text and number of the version in force; ``("", "", 0)`` where there are none."""
        if not self.settings.guidelines:
            return "", "", 0
        newest = self.settings.guidelines[-1]
        return newest, self.guideline(newest), len(self.settings.guidelines)

    def guideline(self, version: str) -> str:
        """The text of one version. Raises ``RunError`` where it is gone, or is no text."""
        path = self.path / "guidelines" / f"{version}.md"
        with sentences(path, reading=True):
            raw = path.read_bytes()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise RunError(f"{path}: is not UTF-8 text as it was written; restore it from a copy") from None

    def set_guidelines(self, text: str) -> str:
        """Put a version in force and keep those before it; its hash."""
        digest = fingerprint(text)[:16]
        if digest != self.guidelines()[0]:
            folder = self.path / "guidelines"
            folder.mkdir(exist_ok=True)
            write_text(folder / f"{digest}.md", text)
            self.settings.guidelines.append(digest)
            self.save()
        return digest

    # What may never be asked.

    def held_out(self) -> HeldOutKeys:
        """Prompts and groups that a clone is judged on."""
        path = self.path / "held-out-keys.json"
        if not path.exists():
            return HeldOutKeys()
        row = json_of(path)
        return HeldOutKeys(
            frozenset(row["keys"]), frozenset(row["groups"]), tuple(row["prompts"]), row["threshold"], row["run"]
        )

    def freeze(self, keys: HeldOutKeys) -> None:
        """Never ask these from now on. Raises ``RunError`` where another run froze others."""
        row = asdict(keys) | {"keys": sorted(keys.keys), "groups": sorted(keys.groups), "prompts": sorted(keys.prompts)}
        facts = {"keys_hash": fingerprint(row["keys"]), "groups_hash": fingerprint(row["groups"]), "run": keys.run}
        known = self.settings.held_out
        if known and known["keys_hash"] != facts["keys_hash"]:
            raise RunError(
                f"{self.path}: the prompts held out in {known['run']} were frozen here, and those of {keys.run} are "
                "others; a clone of other held-out prompts is corrected in a gathering of its own: --into"
            )
        if not known:
            write_json(self.path / "held-out-keys.json", row)
            self.settings.held_out = facts
            self.save()


def is_gathering(path: Path) -> bool:
    """Whether the folder at ``path`` is a gathering."""
    return (path / "gathering.json").is_file()


def refuse_other(path: Path) -> None:
    """Raise ``RunError`` where ``path`` is something that a gathering cannot be made of."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; name a new or empty folder for the gathering with --into")
    if (path / "manifest.json").exists():
        raise RunError(f"{path}: is a run; name another folder for the gathering with --into")
    held = sorted(entry.name for entry in path.iterdir() if entry.name != ".lock") if path.is_dir() else []
    if held:
        raise RunError(f"{path}: is not empty (it holds {held[0]}) and is no gathering; name a new or empty folder")


def token_hash(token: str) -> str:
    """What is kept of a link."""
    return hashlib.sha256(token.encode()).hexdigest()


def refuse_names(names: Sequence[str]) -> None:
    """Raise ``UserError`` for a name that cannot be an expert's, or stands there twice."""
    for name in names:
        if name == "owner":
            raise UserError("--expert owner: is whose page shows how far it is; give the expert another name")
        unseen = any(unicodedata.category(c) == "Cf" and c not in _JOINERS for c in name)  # two would look like one
        if not name.strip() or plain(name) != name or unseen or "\n" in name or len(name) > _LONGEST_NAME:
            raise UserError(
                f"--expert {plain(name)[:80]!r}: is no name (1 to {_LONGEST_NAME} characters that can be seen); "
                "write one such as ada"
            )
        if names.count(name) > 1:
            raise UserError(f"--expert {name}: is named twice; two people need two names")
