"""Paths of this machine: which there are, and where one stands in what would be published."""

from __future__ import annotations

import hashlib
import json
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

__all__ = ["forms_of", "known_places", "of_this_machine", "paths_in"]

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
    written = {text for text in texts_in(run.manifest) if _rooted(text)}
    return forms_of([run.path, *map(Path, sorted(written)), *of_this_machine()], written)


def of_this_machine() -> list[Path]:
    """Folders that everything here has to do with."""
    named = [Path.cwd(), Path(tempfile.gettempdir()), cache_dir()]
    with suppress(RuntimeError):
        named.append(Path.home())
    for name in ("HF_HOME", "HF_HUB_CACHE", "VIRTUAL_ENV"):
        if os.environ.get(name):
            named.append(Path(os.environ[name]))
    return named


def forms_of(named: Iterable[Path], written: Iterable[str] = ()) -> list[str]:
    """How the paths ``named`` may be written, with those ``written`` from the home folder on, longest first."""
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
    found: dict[bytes, str] = {}
    text = b"\0" not in data[:65536]

    def is_new(raw: bytes) -> bool:
        return not any(known in raw or raw in known for known in found)

    for place in places:
        if re.search(whole(place).encode("utf-8", "surrogateescape"), data):
            found[place.encode("utf-8", "surrogateescape")] = "a path of this machine"
    if text and name not in _VOCABULARY:
        for match in _PEOPLE.finditer(data):
            if is_new(match[0]):
                found[match[0]] = "a path in somebody's folder"
        for match in _ROOTED.finditer(data):
            if is_new(match[0]) and _is_there(match[0]):
                found[match[0]] = "a path of this machine"
        if name.endswith(".json") and name != "scorecard.json":
            for value in _values(data):
                if _FROM_A_ROOT.fullmatch(value) and is_new(raw := value.encode("utf-8", "surrogatepass")):
                    found[raw] = "a path from the root of a disk"
    return [
        Finding(
            id=hashlib.sha256(b"path\0" + raw).hexdigest()[:12],
            path=name,
            what=what,
            excerpt=_shown(raw),
            line=1 + data[: data.find(raw)].count(b"\n") if text else None,
        )
        for raw, what in sorted(found.items())
    ]


#: A value that as a whole is a path: from the root or the home folder on, from a drive's, or of another machine.
_FROM_A_ROOT = re.compile(r"(?:~|[A-Za-z]:)?/[^\n]*/[^\n]*|[A-Za-z]:\\[^\n]*\\[^\n]*|\\\\[^\\\n]+\\[^\n]+")


def _values(data: bytes) -> list[str]:
    """Every text of a JSON file, as its reader has it; none of a file that is not one."""
    try:
        return list(texts_in(json.loads(data)))
    except (ValueError, RecursionError):
        return []


def _is_there(raw: bytes) -> bool:
    """Whether there is something at the path ``raw``, which may end with the full stop of a sentence."""
    if raw.split(b"/")[1] in _ANYWHERE:
        return False
    with suppress(OSError, ValueError):
        return Path(os.fsdecode(raw.rstrip(b"."))).exists()
    return False


def _shown(raw: bytes) -> str:
    """The first name and the last: the user knows it from them, and nobody else."""
    names = [part for part in re.split(r"[/\\]+", raw.decode("utf-8", "replace")) if part]
    return f"/{names[0]}/\N{HORIZONTAL ELLIPSIS}/{names[-1]}" if len(names) > 2 else "/".join(["", *names])
