"""What a rule says about a recipe, before it is known on which line; and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Complaint", "Location", "about", "idle", "nearest", "not_among", "twice", "unknown"]

#: Keys from the top of a recipe, or of a section, down to a value.
Location = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Complaint:
    """One broken rule at ``loc``, in words.

    ``beside``: the other keys that the rule looked at; while one of those is itself in error, the
    complaint may be a consequence of it and is kept back. ``idle``: the key means nothing beside those: it is
    refused when it is given, and left out when the recipe is written.
    """

    loc: Location
    message: str
    remedy: str
    beside: tuple[Location, ...] = ()
    idle: bool = False

    def within(self, section: Location) -> Complaint:
        """The same, where its places are seen from the top."""
        beside = tuple((*section, *loc) for loc in self.beside)
        return Complaint((*section, *self.loc), self.message, self.remedy, beside)


def about(key: str, message: str, remedy: str, *beside: str) -> Complaint:
    """The complaint about one key of a section, which other keys ``beside`` it have to do with."""
    return Complaint((key,), message, remedy, tuple((other,) for other in beside))


def idle(key: str, message: str, *beside: str) -> Complaint:
    """The complaint about a key that means nothing beside others."""
    return Complaint((key,), f"has no meaning {message}", "remove it", tuple((other,) for other in beside), idle=True)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name a person most likely meant by ``name``, or None when none is close."""
    spellings = {candidate.lower(): candidate for candidate in known}
    wanted = name.lower().replace("-", "_").replace(" ", "_")
    if wanted in spellings:
        return spellings[wanted]
    close = difflib.get_close_matches(wanted[:80], spellings, n=1, cutoff=0.6)
    return spellings[close[0]] if close else None


def unknown(loc: Location, what: str, known: Iterable[str]) -> Complaint:
    """The complaint about a name at ``loc`` that is not ``what`` (as in ``a key of split``)."""
    known = tuple(known)
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    close = nearest(loc[-1], known)
    return Complaint(loc, f"is not {what}", f"did you mean {close}?" if close is not None else f"known are {shown}")


def not_among(key: str, value: str, what: str, known: Iterable[str]) -> Complaint:
    """The complaint about a key's ``value``, which is not ``what`` (as in ``a tracker``), with the nearest that is.

    What goes on where ``value`` ends comes first, as it is listed: by ``adamw`` people mean ``adamw_torch``.
    """
    known = tuple(known)
    longer = next((name for name in known if name.startswith(f"{value.lower()}_")), None)
    close = longer if longer is not None else nearest(value, known)
    remedy = f"did you mean {close}?" if close is not None else f"it takes one of {', '.join(known)}"
    return about(key, f"is {value!r:.80}, not {what}", remedy)


def twice(key: str, names: tuple[str, ...], what: str) -> Iterator[Complaint]:
    """The complaint about a key that lists a ``what`` twice, or nothing."""
    if len(set(names)) < len(names):
        yield about(key, f"names a {what} twice", f"list each {what} once")
