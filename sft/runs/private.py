"""What others may not read: personal addresses, which are found, and paths, which are taken out.

There is one rule of what a path is, and two of what it becomes: a manifest keeps the user's paths, with ``~`` for the
home folder (:func:`presentable`); what is published has the last names of paths alone (:func:`shortened`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft.runs.atomic_files import finite
from sft.runs.tokens import Bytes, Found, hit_of

#: What somebody can be found by; only in what experts wrote, for licences and vocabularies are full of addresses.
PERSONAL = {
    "an e-mail address": re.compile(rb"(?<![\w.+-])\w[\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"),
    "a home folder": re.compile(rb"(?:/home/|/Users/|\b[A-Za-z]:\\{1,2}Users\\{1,2})[A-Za-z0-9][\w.-]*"),
}
#: Addresses at the names that are kept for examples (RFC 2606), and folders of nobody.
_NOBODY = re.compile(
    rb"(?i).*@(?:.*\.)?example\.(?:com|net|org|edu)|.*\.(?:example|test|invalid|localhost)"
    rb"|.*[/\\](?:user|username|you|name|me|shared|public|default|guest|runner|vscode|jovyan)"
)


#: Names that only a network of somebody's own knows, and its numbers: where settings and remarks are published.
_INTERNAL = re.compile(
    rb"(?<![\w.@-])(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,5}"
    rb"(?:internal|intranet|intern|local|localdomain|lan|corp|home\.arpa)(?![\w-]|\.\w)"
    rb"|(?:10(?:\.\d{1,3}){3}|192\.168(?:\.\d{1,3}){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})(?![\w.]))"
)


def personal(data: Bytes, kinds: Iterable[str] = tuple(PERSONAL)) -> Iterator[Found]:
    """Every e-mail address and home folder in ``data``."""
    for what in kinds:
        for match in PERSONAL[what].finditer(data):
            if not _NOBODY.fullmatch(match[0]):
                hit = hit_of(what, match[0])
                if what == "an e-mail address":  # the domain may be seen, to judge by
                    shown = match[0][:1] + b"\xe2\x80\xa6@" + match[0].rpartition(b"@")[2]
                    hit = replace(hit, excerpt=f"{shown.decode('utf-8', 'replace')} ({len(match[0])} characters)")
                yield match.start(), match.end(), hit


def internal_hosts(data: Bytes) -> Iterator[Found]:
    """Every host in ``data`` that only a network of somebody's own knows, by the end of its name or by its number."""
    for match in _INTERNAL.finditer(data):
        yield match.start(), match.end(), hit_of("an internal host", match[0], public=3)


# -- paths ------------------------------------------------------------------------------------------------------

#: A path from the root on, of two names or more, or below a home or parent folder; not within a URL or a longer path.
_NAME = r"[/\\][\w.@+ -]*[\w.@+-]"
_PATH = re.compile(rf"(?<![\w/.~:%-])(?:(?:~|\.\.)(?:{_NAME})+|(?:[A-Za-z]:)?(?:{_NAME}){{2,}})[/\\]?")


def presentable(value: Any) -> Any:
    """JSON-ready ``value`` in which the user's home folder is written ``~``: a manifest may be published."""
    try:
        home = str(Path.home())
    except RuntimeError:  # no home
        home = "/"
    if home == "/":
        return finite(value)
    pattern = re.compile(rf"(?<![\w/.~-]){re.escape(home)}(?![\w.-])")
    return finite(_changed(value, lambda text: pattern.sub("~", text)))


def shortened(value: Any, places: Sequence[str] | None = None) -> Any:
    """JSON-ready ``value`` whose paths are cut down to their last names.

    ``places``: folders and files of this machine, the longest first, for a text in which people may have written of
    paths of theirs: only these are cut, and what lies in such a folder is called by its path in there. None: every
    path from the root of a disk, a home or a parent folder on.
    """
    if places is None:
        return _changed(value, _last_names)

    def cut(text: str) -> str:
        for place in places:
            if place in text:
                name = Path(place).name.replace("\\", r"\\")
                text = re.sub(whole(place), name, re.sub(f"{whole(place)}/", "", text))
        return text

    return _changed(value, cut)


def whole(place: str) -> str:
    """A pattern for the path ``place``, where it is not a part of another name."""
    return rf"(?<![\w.-]){re.escape(place)}(?![\w-])"


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from texts_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with ``change`` made to every text in it but the names."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, os.PathLike):
        return change(os.fspath(value))
    if isinstance(value, Mapping):
        return {str(key): _changed(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(part, change) for part in value]
    return value


def _last_names(text: str) -> str:
    """A word of a command as a whole, what stands behind its ``=``, or every path in a text."""
    head, sign, tail = text.rpartition("=")
    if tail.startswith(("/", "~", "..")) and not re.search(r"\s", tail):
        return f"{head}{sign}{Path(tail).name}"
    return _PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)
