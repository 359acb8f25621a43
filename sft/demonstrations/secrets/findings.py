"""What was found: named, numbered and addressed, and never repeated."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Bytes", "Finding", "Hit", "continues", "hit_of", "places"]

Bytes = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret. ``id``: of its kind and its value, the same in every file and every time, so that it can be allowed.

    ``path``: as it was given. ``excerpt``: what may be shown of it. ``line``: 1-based; None where there are no lines.
    ``others``: the addresses of the other rows that have it.
    """

    id: str
    path: str
    what: str
    excerpt: str
    line: int | None = None
    others: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where a person finds it: ``path:line``, or ``path``."""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        return f"{self.address}{self._elsewhere()}: {self.what}, {self.excerpt} (id {self.id})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"address": self.address, "others": list(self.others)}

    def _elsewhere(self, shown: int = 3) -> str:
        named = list(self.others[:shown])
        if len(self.others) > shown:
            named.append(f"{len(self.others) - shown:,} more")
        return f" (also {', '.join(named)})" if named else ""


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A value found: what it is, what may be shown of it, and an id that does not give it away."""

    what: str
    excerpt: str
    id: str


def hit_of(what: str, value: bytes, public: int = 0) -> Hit:
    """The hit of ``value``, whose first ``public`` bytes may be shown."""
    shown = value[:public].decode("ascii", "replace")
    digest = hashlib.sha256(what.encode() + b"\0" + value).hexdigest()
    return Hit(what, f"{shown}\N{HORIZONTAL ELLIPSIS} ({len(value)} characters)", digest[:12])


def places(data: Bytes, wanted: bytes) -> Iterator[int]:
    """Where ``wanted`` begins in ``data``, every time."""
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)


def continues(data: Bytes, place: int) -> bool:
    """Whether the byte at ``place`` belongs to a word, so that what was found is only a part of one."""
    byte = data[place : place + 1] if place >= 0 else b""
    return byte.isalnum() or byte in (b"_", b"-")
