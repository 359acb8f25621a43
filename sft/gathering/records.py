"""What an importer yields: messages of chats, pieces of writing, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sft.demonstrations.demonstration import Source
from sft.gathering.source_files import SourceFiles

__all__ = ["ImportOptions", "Importer", "Piece", "Record", "Said", "Unread", "Written"]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What ``sft import`` was options for; the names are those of its options."""

    kind: str = "auto"
    me: tuple[str, ...] = ()
    expert: str = ""
    since: datetime | None = None
    min_words: int = 1
    mask_others: bool = False
    personal: str = "mask"
    region: str = ""
    names: str = ""
    rule: str = "auto"
    join_minutes: int = 5
    turns: int = 8
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a chat.

    ``people``: what its author is called, first the name that is shown. ``at``: as the export has it, without a zone.
    ``thread``: where its chat has threads. ``fate``: why it is no writing of its author ("wordless", "forwarded").
    ``mine``: the export says that it is of whoever exported it.
    """

    place: Source
    chat: str
    people: tuple[str, ...]
    at: datetime
    text: str
    thread: str = ""
    fate: str = ""
    mine: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A prompt and what was written for it. ``others``: the prompt is in the words of somebody else."""

    prompt: str
    completion: str
    others: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A mail, a document, a commit, an answered question; ``pairs`` are all of one ``group``.

    ``people``, ``at``, ``fate`` and ``mine`` as in :class:`Said`; ``at`` is None where nothing says when.
    ``torn``: letters of it, or of what it answers, were cut in the middle and are left out.
    """

    place: Source
    people: tuple[str, ...]
    at: datetime | None
    group: str
    pairs: tuple[Piece, ...] = ()
    fate: str = ""
    mine: bool = False
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """A record that cannot be read: where, why, what to do, and its text as far as it is known."""

    place: Source
    message: str
    remedy: str
    raw: object = ""


Record = Said | Written | Unread


@dataclass(frozen=True, slots=True)
class Importer:
    """One source: how it is recognised and read, and what a card says of it.

    ``prompt``, ``completion``, ``group``: the rule, each in half a sentence. ``flaws``: what is lost or uncertain.
    ``needs_me``: whether its records have authors, of whom one must be named.
    """

    name: str
    about: str
    prompt: str
    completion: str
    group: str
    flaws: tuple[str, ...]
    recognises: Callable[[SourceFiles], bool]
    records: Callable[[SourceFiles, ImportOptions], Iterator[Record]]
    needs_me: bool = True
