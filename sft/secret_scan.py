"""Secrets in bytes: tokens, keys, passwords of the environment, and who the user is. Nothing is sent anywhere.

:func:`secrets_in` looks through a file of any kind, weights and pickles included; :func:`in_demonstrations` looks
through what an expert wrote, where e-mail addresses and the home folders of others count too. What is found
is never repeated in full.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import mmap
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from sft.demonstrations import Demonstration

__all__ = ["Finding", "in_demonstrations", "secrets_in"]

Bytes = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret. ``id``: of its kind and its value, the same in every file and every time, so that it can be allowed.

    ``path``: as it was given. ``excerpt``: what may be shown of it. ``line``: 1-based; None where there are no lines.
    """

    id: str
    path: str
    what: str
    excerpt: str
    line: int | None = None

    @property
    def address(self) -> str:
        """Where a person finds it: ``path:line``, or ``path``."""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        return f"{self.address}: {self.what}, {self.excerpt} (id {self.id})"


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of token. ``anchor``: bytes it begins with, which are searched first; ``pattern``: the whole of it.

    ``public``: how many of its first bytes may be shown. ``genuine``: whether a value is one, and no placeholder.
    """

    what: str
    anchor: bytes
    pattern: re.Pattern[bytes]
    public: int
    genuine: Callable[[bytes], bool]


def _varied(value: bytes) -> bool:
    """No placeholder: ``hf_xxxxxxxx`` and the keys that documentation ends in EXAMPLE open nothing."""
    return len(set(value)) > 5 and not value.upper().endswith(b"EXAMPLE")


def _random(value: bytes) -> bool:
    """A long run of letters and digits, both in it: ``sk-learn-as-a-dash-separated-name`` is none."""
    runs = re.findall(rb"[A-Za-z0-9]{16,}", value)
    return _varied(value) and any(re.search(rb"\d", run) and re.search(rb"[A-Za-z]", run) for run in runs)


def _password(url: bytes) -> bool:
    """A URL whose password is one, and not the word for it or a name to fill in."""
    password = url.rpartition(b"@")[0].rpartition(b":")[2]
    return not re.fullmatch(rb"(?i)(pass(word|wd)?|pwd|secret|token|x+|\*+|\.+)|[<{$%\[].*", password)


def _always(value: bytes) -> bool:
    return True


def _kind(what: str, anchor: str, rest: str, genuine: Callable[[bytes], bool] = _varied) -> _Kind:
    pattern = re.compile(re.escape(anchor.encode()) + rest.encode())
    return _Kind(what, anchor.encode(), pattern, len(anchor), genuine)


#: Tokens by the prefix that their issuers gave them, so that they can be found. In weights, which are random bytes, a
#: prefix of three is followed by twenty letters and digits once in 10^19 places, so that length does not matter.
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
    _kind("a Google API key", "AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    *(_kind("a Slack token", f"xox{letter}-", r"[A-Za-z0-9-]{20,}", _random) for letter in "abeoprs"),
    _kind("a Stripe key", "sk_live_", r"[A-Za-z0-9]{20,}"),
    _kind("a Stripe key", "rk_live_", r"[A-Za-z0-9]{20,}"),
    _kind("an npm token", "npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _kind("a PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{50,}"),
    _kind("a JSON web token", "eyJ", r"[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    _Kind("a private key", b"-----BEGIN ", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY"), 11, _always),
    _Kind(
        "a password in a URL",
        b"://",
        re.compile(rb"://[\w.%+-]{0,64}:[^\s/:@?#\x00-\x1f\x7f-\xff]{3,128}@[A-Za-z0-9\[]"),
        3,
        _password,
    ),
)

#: What somebody can be found by; only in what experts wrote, for licences and vocabularies are full of addresses.
_PERSONAL = (
    ("an e-mail address", re.compile(rb"(?<![\w.+-])\w[\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")),
    ("a home folder", re.compile(rb"(?:/home/|/Users/|\b[A-Za-z]:\\{1,2}Users\\{1,2})[A-Za-z0-9][\w.-]*")),
)  # fmt: skip
#: Addresses at the names that are kept for examples (RFC 2606), and folders of nobody.
_NOBODY = re.compile(
    rb"(?i).*@(?:.*\.)?example\.(?:com|net|org|edu)|.*\.(?:example|test|invalid|localhost)"
    rb"|.*[/\\](?:user|username|you|name|me|shared|public|default|guest|runner|vscode|jovyan)"
)
_NAMES_OF_SECRETS = re.compile(
    r"(?:^|_)(?:TOKENS?|SECRETS?|\w*PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|CREDENTIALS?|AUTH|APIKEY|KEYS?)(?:_|$)", re.I
)
#: Where such a name says where a secret is, or which, and not what it is.
_NAMES_OF_PLACES = re.compile(
    r"_(?:FILE|PATH|DIR|HOME|SOCK|SOCKET|URL|URI|HOST|NAME|ID|TYPE|MODE|TTL|ARN)$|^PWD$|^OLDPWD$|PUBLIC", re.I
)
#: Accounts that many machines have: to read of one says nothing of whoever pushes.
_ANYBODY = {
    "root", "user", "users", "admin", "administrator", "ubuntu", "debian", "fedora", "centos", "runner", "jovyan",
    "nobody", "docker", "vscode", "vagrant", "ec2-user", "azureuser", "guest", "default", "worker", "jenkins",
}  # fmt: skip


def secrets_in(path: str, data: Bytes, *, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Every secret in ``data``, the content of the file that is called ``path``: in the order found, each value once.

    Secret are tokens by their issuers' prefixes, private keys, passwords in URLs; the value of every variable of
    ``environment`` whose name says so (``HF_TOKEN``, ``DB_PASSWORD``); and the home folder and the user's name. To
    find a token that is only in memory, add it to ``environment`` under such a name.

    Short words are in every text, so a value counts from 8 characters on (16 if it is one word of lower-case letters),
    a user's name from 5 on (6 in bytes that are no text), as a whole word, if it is not the name of many (``root``),
    and a home folder if it is not one that everybody has.
    """
    lines = _is_text(data)
    found: dict[str, Finding] = {}
    for place, hit in sorted(_hits(data, _known(environment), text=lines)):
        found.setdefault(hit.id, Finding(hit.id, path, hit.what, hit.excerpt, _line(data, place) if lines else None))
    return list(found.values())


def in_demonstrations(
    demonstrations: Iterable[Demonstration], *, environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """As :func:`secrets_in`, and e-mail addresses and home folders: each value once, at the row that has it first.

    ``path`` and ``line`` of a finding are the row's; the beginning of its id where it came from no file.
    """
    known = _known(environment)
    found: dict[str, Finding] = {}
    rows = iter(demonstrations)
    while part := list(islice(rows, 4096)):  # looked through at once, which takes a tenth of the time
        texts = ["\n".join((*(turn.content for turn in d.prompt), d.completion, *d.references)) for d in part]
        data = b"\n\0\n".join(pieces := [text.encode("utf-8") for text in texts])
        ends = list(accumulate(len(piece) + 3 for piece in pieces))
        for place, hit in sorted([*_hits(data, known, text=True), *_personal(data)]):
            d = part[bisect_right(ends, place)]
            file, line = (d.source.file, d.source.line) if d.source else (d.address, None)
            found.setdefault(hit.id, Finding(hit.id, file, hit.what, hit.excerpt, line))
    return list(found.values())


@dataclass(frozen=True, slots=True, order=True)
class _Hit:
    """A value found: what it is, what may be shown of it, and an id that does not give it away."""

    what: str
    excerpt: str
    id: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What this machine is known to hold. ``secrets``: each as a file would write it, and as what it is found.

    ``homes``: the home folder in its ways of writing; ``user``: the user's name, empty where it says nothing.
    """

    secrets: tuple[tuple[bytes, _Hit], ...]
    homes: tuple[bytes, ...]
    user: bytes


def _hit(what: str, value: bytes, public: int = 0) -> _Hit:
    shown = value[:public].decode("ascii", "replace")
    digest = hashlib.sha256(what.encode() + b"\0" + value).hexdigest()
    return _Hit(what, f"{shown}\N{HORIZONTAL ELLIPSIS} ({len(value)} characters)", digest[:12])


def _hits(data: Bytes, known: _Known, *, text: bool) -> Iterator[tuple[int, _Hit]]:
    """Every secret with its place in ``data``."""
    for kind in _TOKENS:
        for place in _places(data, kind.anchor):
            # Within a longer word it is none: `task-...` holds `sk-`. In a pickle a length stands before it, any byte.
            if text and kind.anchor[:1].isalnum() and _continues(data, place - 1):
                continue
            match = kind.pattern.match(data, place)
            if match is not None and kind.genuine(match[0]):
                yield place, _hit(kind.what, match[0], kind.public)
    for form, hit in known.secrets:
        for place in _places(data, form):
            yield place, hit
    for home in known.homes:
        for place in _places(data, home):
            if not _continues(data, place + len(home)):
                yield place, _hit("this machine's home folder", home)
    if len(known.user) >= (5 if text else 6):
        for place in _places(data, known.user):
            if not _continues(data, place - 1) and not _continues(data, place + len(known.user)):
                yield place, _hit("this machine's user name", known.user)


def _personal(data: bytes) -> Iterator[tuple[int, _Hit]]:
    for what, pattern in _PERSONAL:
        for match in pattern.finditer(data):
            if not _NOBODY.fullmatch(match[0]):
                yield match.start(), _hit(what, match[0])


def _places(data: Bytes, wanted: bytes) -> Iterator[int]:
    place = data.find(wanted)
    while place >= 0:
        yield place
        place = data.find(wanted, place + 1)


def _continues(data: Bytes, place: int) -> bool:
    """Whether the byte at ``place`` belongs to a word, so that what was found is only a part of one."""
    byte = data[place : place + 1] if place >= 0 else b""
    return byte.isalnum() or byte in (b"_", b"-")


def _is_text(data: Bytes, looked_at: int = 65536) -> bool:
    return b"\0" not in data[:looked_at]


def _line(data: Bytes, place: int) -> int:
    return 1 + data[:place].count(b"\n")


def _known(environment: Mapping[str, str]) -> _Known:
    """What to look for by its value. Of the process's own environment, the system is asked for what it leaves out."""
    home, user = environment.get("HOME", ""), environment.get("LOGNAME") or environment.get("USER", "")
    if environment is os.environ:
        with suppress(RuntimeError, OSError, KeyError, ImportError):  # an account without a home, or without a name
            home = home or str(Path.home())
        with suppress(OSError, KeyError, ImportError):
            user = user or getpass.getuser()
    secrets = [
        (form, _hit(f"the value of {name}", value.strip().encode("utf-8", "surrogateescape")))
        for name, value in environment.items()
        if _NAMES_OF_SECRETS.search(name) and not _NAMES_OF_PLACES.search(name) and _opens_something(value.strip())
        for form in _forms(value.strip())
    ]
    homes = _forms(home.rstrip("/\\")) if len(re.findall(r"[/\\]+[^/\\]+", home)) > 1 else ()
    return _Known(tuple(secrets), tuple(homes), b"" if user.lower() in _ANYBODY else user.encode())


def _opens_something(value: str) -> bool:
    """Long enough that no text has it by chance; no number, no word, no path."""
    if len(value) < 8 or value.isdigit() or (len(value) < 16 and re.fullmatch(r"[a-z]+|[A-Z]+", value)):
        return False
    with suppress(OSError, ValueError):  # no path at all
        return not (value.startswith(("/", "~")) and Path(value).expanduser().exists())
    return True


def _forms(value: str) -> list[bytes]:
    """How ``value`` stands in a file: as it is, and as JSON writes it."""
    forms = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    return [form.encode("utf-8", "surrogateescape") for form in dict.fromkeys(forms)]
