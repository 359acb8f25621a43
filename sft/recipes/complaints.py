"""What a rule says about a recipe, before it is known on which line; and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Complaint", "Idle", "nearest", "unknown"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One broken rule at ``loc`` (keys from the section down).

    ``involves``: the other keys that the rule looked at; while one of those is itself in error, the
    complaint may be a consequence of it and is kept back.
    """

    loc: tuple[str, ...]
    message: str
    remedy: str
    involves: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Idle:
    """A key that means nothing beside the keys it ``involves``."""

    key: str
    message: str
    involves: tuple[tuple[str, ...], ...]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name a person most likely meant by ``name``, or None when none is close."""
    spellings = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower().replace("-", "_").replace(" ", "_")
    if wanted in spellings:
        return spellings[wanted]
    close = difflib.get_close_matches(wanted[:80], spellings, n=1, cutoff=0.6)
    return spellings[close[0]] if close else None


def unknown(loc: tuple[str, ...], what: str, known: Iterable[str]) -> Complaint:
    """The complaint about a name at ``loc`` that is not ``what`` (as in ``a key of split``)."""
    known = tuple(known)
    close = nearest(loc[-1], known)
    if close is not None:
        return Complaint(loc, f"is not {what}", f"did you mean {close}?")
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return Complaint(loc, f"is not {what}", f"known are {shown}")
