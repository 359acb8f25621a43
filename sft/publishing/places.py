"""Paths of this machine, looked for in everything that is published."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sft.demonstrations.secrets import Finding
from sft.recipes.sources import cache_dir
from sft.runs.private import texts_in, whole
from sft.runs.run import Run

__all__ = ["known_places", "paths_in"]

#: Folders of people, wherever a file was written.
_PEOPLE = re.compile(
    rb"(?<![\w/.~%-])(?:/home/[^/\s\"'<>\\]+|/Users/[^/\s\"'<>\\]+|/root|[A-Za-z]:\\{1,2}Users\\{1,2}[^\\\s\"'<>]+"
    rb"|file://)[/\\]+[\w.+-]+"
)
#: A path from the root on, as a whole.
_ROOTED = re.compile(rb"(?<![\w/.~:%@+-])/[\w.@+-]+(?:/[\w.@+-]+)+")
#: Where every machine has the same files, so that to name one says nothing of this one.
_ANYWHERE = (b"bin", b"dev", b"etc", b"lib", b"lib64", b"opt", b"proc", b"sbin", b"sys", b"usr", b"var")
#: Words and word pieces, in which anything may stand beside anything.
_VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model")


def known_places(run: Run) -> list[str]:
    """Folders and files of this machine that the run has to do with, longest first."""
    named = [run.path, Path.cwd(), Path(tempfile.gettempdir()), cache_dir()]
    written = {text for text in texts_in(run.manifest) if _rooted(text)}
    named += map(Path, sorted(written))
    with suppress(RuntimeError):
        named.append(Path.home())
    for name in ("HF_HOME", "HF_HUB_CACHE", "VIRTUAL_ENV"):
        if os.environ.get(name):
            named.append(Path(os.environ[name]))
    known = {text for text in written if text.startswith("~") and len(Path(text).parts) > 1}
    for path in named:
        with suppress(OSError, RuntimeError):
            for form in (path.expanduser(), path.expanduser().resolve()):
                if form.is_absolute() and len(form.parts) > 2:
                    known.add(str(form))
    return sorted(known, key=lambda text: (-len(text), text))


def _rooted(text: str) -> bool:
    """Whether ``text`` is a whole path from the root or the home folder on."""
    return text.startswith(("/", "~")) and "\n" not in text and len(text) < 4096


def paths_in(name: str, data: bytes, places: Iterable[str]) -> list[Finding]:
    """Every path of this machine, or in a person's folder, in the file ``name`` with the content ``data``.

    Also any other path that is there on this machine and not on every one; in configuration (``*.json`` but
    vocabularies), any value that as a whole is a path from the root on.
    """
    found = {}
    for place in places:
        raw = place.encode("utf-8", "surrogateescape")
        if re.search(whole(place).encode("utf-8", "surrogateescape"), data):
            found[raw] = "a path of this machine"
    if b"\0" not in data[:65536]:
        if name not in _VOCABULARY:
            for match in _PEOPLE.finditer(data):
                if not any(known in match[0] or match[0] in known for known in found):
                    found[match[0]] = "a path in somebody's folder"
            for match in _ROOTED.finditer(data):
                if not any(known in match[0] or match[0] in known for known in found) and _is_there(match[0]):
                    found[match[0]] = "a path of this machine"
        if name.endswith(".json") and name not in (*_VOCABULARY, "scorecard.json"):
            for match in re.finditer(rb'": *"((?:~|[A-Za-z]:)?[/\\][^"\n]*[/\\][^"\n]*)"', data):
                if not any(known in match[1] or match[1] in known for known in found):
                    found[match[1]] = "a path from the root of a disk"
    return [Finding(_id(raw), name, what, _shown(raw), _line(data, raw)) for raw, what in sorted(found.items())]


def _is_there(raw: bytes) -> bool:
    """Whether there is something at the path ``raw``, which may end with the full stop of a sentence."""
    if raw.split(b"/")[1] in _ANYWHERE:
        return False
    with suppress(OSError, ValueError):
        return Path(os.fsdecode(raw.rstrip(b"."))).exists()
    return False


def _id(raw: bytes) -> str:
    return hashlib.sha256(b"path\0" + raw).hexdigest()[:12]


def _shown(raw: bytes) -> str:
    """The first name and the last: the user knows it from them, and nobody else."""
    names = [part for part in re.split(r"[/\\]+", raw.decode("utf-8", "replace")) if part]
    return f"/{names[0]}/\N{HORIZONTAL ELLIPSIS}/{names[-1]}" if len(names) > 2 else "/".join(["", *names])


def _line(data: bytes, raw: bytes) -> int | None:
    return 1 + data[: data.find(raw)].count(b"\n") if b"\0" not in data[:65536] else None
