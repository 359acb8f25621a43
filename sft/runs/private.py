"""What others may not read: tokens and personal addresses, which are found, and paths, which are taken out.

Tokens are known by the prefixes that their issuers gave them, so that they can be found in any bytes. This is the one
table of them: commands, recipes, demonstrations and what is published are looked through with it. What the library of
detectors (``demonstrations.secrets``) has no kind for, or finds in text alone, is here: Hugging Face, Anthropic,
Google and newer OpenAI and GitHub tokens above all, and everything that may stand in weights and pickles.

There is one rule of what a path is, and two of what it becomes: a manifest keeps the user's paths, with ``~`` for the
home folder (:func:`presentable`); what is published has the last names of paths alone (:func:`shortened`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.runs.atomic_files import finite

Bytes = bytes | mmap.mmap


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


#: Where a value begins, where it ends, and what it is.
Found = tuple[int, int, Hit]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of token. ``anchor``: bytes it begins with, which are searched first; ``pattern``: the whole of it.

    ``public``: how many of its first bytes may be shown. ``genuine``: whether a value is one, and no placeholder.
    ``lines``: whether it goes over lines, whose ends are not part of it.
    """

    what: str
    anchor: bytes
    pattern: re.Pattern[bytes]
    public: int
    genuine: Callable[[bytes], bool]
    lines: bool = False


def placeholder(value: bytes) -> bool:
    """``hf_xxxxxxxx``, and the keys of documentation that have EXAMPLE in them: they open nothing."""
    return len(set(value)) <= 5 or b"EXAMPLE" in value.upper()


def _varied(value: bytes) -> bool:
    return not placeholder(value)


def _random(value: bytes) -> bool:
    """A long run of letters and digits, both in it: ``sk-learn-as-a-dash-separated-name`` is none."""
    runs = re.findall(rb"[A-Za-z0-9]{16,}", value)
    return _varied(value) and any(re.search(rb"\d", run) and re.search(rb"[A-Za-z]", run) for run in runs)


def _password(url: bytes) -> bool:
    """A URL whose password is one, and not the word for it or a name to fill in."""
    password = url.rpartition(b"@")[0].rpartition(b":")[2]
    return not re.fullmatch(rb"(?i)(pass(word|wd)?|pwd|secret|token|x+|\*+|\.+)|[<{$%\[].*", password)


def _kind(what: str, anchor: str, rest: str, genuine: Callable[[bytes], bool] = _varied) -> _Kind:
    pattern = re.compile(re.escape(anchor.encode()) + rest.encode())
    return _Kind(what, anchor.encode(), pattern, len(anchor), genuine)


#: In weights, which are random bytes, a prefix of three is followed by twenty letters and digits once in 10^19 places,
#: so that length does not matter.
_TOKENS = (
    _kind("a Hugging Face token", "hf_", r"[A-Za-z0-9]{30,}"),
    _kind("a Hugging Face organisation token", "api_org_", r"[A-Za-z0-9]{30,}"),
    _kind("a secret key (OpenAI, Anthropic and others)", "sk-", r"[A-Za-z0-9_-]{20,}", _random),
    *(
        _kind("a GitHub token", f"gh{letter}_", r"[A-Za-z0-9]{36,}")
        for letter in ("p", "o", "u", "s", "r")  # personal, OAuth, user, server, refresh
    ),
    _kind("a GitHub token", "github_pat_", r"[A-Za-z0-9_]{50,}"),
    _kind("a GitLab token", "glpat-", r"[A-Za-z0-9_-]{20,}"),
    _kind("an AWS access key", "AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _kind("an AWS access key", "ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    *(
        _kind("an AWS secret key", name, r"[\\\"']{0,3} ?[=:] ?[\\\"']{0,3}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
        for name in ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey")
    ),
    _kind("a Google API key", "AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    *(_kind("a Slack token", f"xox{letter}-", r"[A-Za-z0-9-]{20,}", _random) for letter in "abeoprs"),
    _kind("a Stripe key", "sk_live_", r"[A-Za-z0-9]{20,}"),
    _kind("a Stripe key", "rk_live_", r"[A-Za-z0-9]{20,}"),
    _kind("an npm token", "npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _kind("a PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{50,}"),
    _kind("a JSON web token", "eyJ", r"[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    _Kind(
        "a private key",
        b"-----BEGIN ",
        # With what follows: to allow the one of a textbook is not to allow every other.
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?(?:-----(?:\\[nr]|[A-Za-z0-9+/=\s]){0,600})?"
        ),
        11,
        lambda value: True,
        lines=True,
    ),
    _Kind(
        "a password in a URL",
        b"://",
        re.compile(rb"://[\w.%+-]{0,64}:[^\s/:@?#\x00-\x1f\x7f-\xff]{3,128}@[A-Za-z0-9\[]"),
        3,
        _password,
    ),
)
#: How lines end in a key, as it is and as JSON writes it.
_LINE_ENDS = re.compile(rb"\\[nr]|\s")

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


def tokens(data: Bytes, *, text: bool, placeholders: bool = False) -> Iterator[Found]:
    """Every token in ``data``; ``text``: whether it has words, of which a token is never the end.

    ``placeholders``: also what has the form of a token and opens nothing.
    """
    for kind in _TOKENS:
        for place in places(data, kind.anchor):
            # Within a longer word it is none: `task-...` holds `sk-`. In a pickle a length stands before it, any byte.
            if text and kind.anchor[:1].isalnum() and continues(data, place - 1):
                continue
            match = kind.pattern.match(data, place)
            if match is None:
                continue
            if kind.genuine(match[0]) or (placeholders and kind.genuine in (_varied, _password)):
                value = _LINE_ENDS.sub(b"", match[0]) if kind.lines else match[0]
                yield place, match.end(), hit_of(kind.what, value, kind.public)


def token_lines(text: str) -> list[int]:
    """The lines of ``text``, 1-based, with what has the form of a token, be it a placeholder for one."""
    data = text.encode("utf-8", "surrogatepass")
    return sorted({1 + data.count(b"\n", 0, place) for place, _, _ in tokens(data, text=True, placeholders=True)})


def personal(data: Bytes, kinds: Iterable[str] = tuple(PERSONAL)) -> Iterator[Found]:
    """Every e-mail address and home folder in ``data``."""
    for what in kinds:
        for match in PERSONAL[what].finditer(data):
            if not _NOBODY.fullmatch(match[0]):
                yield match.start(), match.end(), hit_of(what, match[0])


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
