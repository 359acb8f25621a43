"""Paths of this machine, taken out of what others may read: one rule of what a path is, and two of what it becomes.

A manifest keeps the user's paths, with ``~`` for the home folder (:func:`presentable`); what is published has the last
names of paths alone (:func:`shortened`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft.runs.atomic_files import finite

__all__ = ["presentable", "shortened", "texts_in", "whole"]

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
