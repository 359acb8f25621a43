"""Tokens, passwords and keys, known by the prefixes that their issuers gave them, in any bytes.

This is the one table of them: commands, recipes, demonstrations and what is published are looked through with it. What
the library of detectors (``demonstrations.secrets``) has no kind for, or finds in text alone, is here, and everything
that may stand in weights and pickles. What has no prefix is known by what stands before it (:func:`passwords`), in
text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
    _kind("a Groq key", "gsk_", r"[A-Za-z0-9]{40,}"),
    _kind("an xAI key", "xai-", r"[A-Za-z0-9]{60,}"),
    _kind("a Perplexity key", "pplx-", r"[A-Za-z0-9]{40,}"),
    _kind("a Replicate token", "r8_", r"[A-Za-z0-9]{37}(?![A-Za-z0-9])"),
    _kind("a Weights & Biases key", "wandb_v1_", r"[A-Za-z0-9_]{40,}"),
    *(
        _kind("a Weights & Biases key", name, r"[\\\"']{0,3} ?[=:] ?[\\\"']{0,3}[0-9a-f]{40}(?![A-Za-z0-9])")
        for name in ("WANDB_API_KEY", "wandb_api_key")
    ),
    *(
        _kind("a Cohere key", name, r"[\\\"']{0,3} ?[=:] ?[\\\"']{0,3}[A-Za-z0-9]{40}(?![A-Za-z0-9])")
        for name in ("CO_API_KEY", "COHERE_API_KEY", "cohere_api_key")
    ),
    _kind("a Google client secret", "GOCSPX-", r"[A-Za-z0-9_-]{28}(?![A-Za-z0-9_-])"),
    _kind("a Google access token", "ya29.", r"[A-Za-z0-9_-]{30,}"),
    _kind("an Azure signature", "sig=", r"[A-Za-z0-9%+/]{43,60}(?:%3[Dd]|=)", _random),
    *(_kind("a DigitalOcean token", f"do{letter}_v1_", r"[0-9a-f]{64}(?![A-Za-z0-9])") for letter in "por"),
    _kind("a Heroku token", "HRKU-", r"[A-Za-z0-9_-]{36,}"),
    _kind("a Stripe webhook's secret", "whsec_", r"[A-Za-z0-9+/]{24,}"),
    *(_kind("a Shopify token", f"shp{two}_", r"[0-9A-Fa-f]{32}(?![A-Za-z0-9])") for two in ("at", "ss", "ca", "pa")),
    *(_kind("a Docker token", f"dckr_{kind}_", r"[A-Za-z0-9_-]{27,}") for kind in ("pat", "oat")),
    _kind("a Databricks token", "dapi", r"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    *(_kind("a Linear key", f"lin_{kind}_", r"[A-Za-z0-9]{40,}") for kind in ("api", "oauth")),
    _kind("a Notion token", "ntn_", r"[A-Za-z0-9]{40,}"),
    _kind("a Notion token", "secret_", r"[A-Za-z0-9]{43}(?![A-Za-z0-9])", _random),
    *(_kind("a Vault token", f"hv{letter}.", r"[A-Za-z0-9_-]{24,}", _random) for letter in "sbr"),
    _kind("an age key", "AGE-SECRET-KEY-1", r"[02-9AC-HJ-NP-Z]{58}"),
    _kind("a Terraform token", ".atlasv1.", r"[A-Za-z0-9_-]{60,}"),
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


# -- what has no prefix: by the words before it, in text ----------------------------------------------------------

#: How names end that a password or a key is given to.
_PASSWORDS = (b"password", b"passwd", b"passphrase", b"pwd")
_KEYS = tuple(
    b"%s%s%s" % (one, between, other)
    for one, other in (
        (b"secret", b"key"),
        (b"api", b"key"),
        (b"access", b"key"),
        (b"auth", b"token"),
        (b"access", b"token"),
    )
    for between in (b"_", b"-", b"")
)
_QUOTED = re.compile(rb"\\?[\"']?\]?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}\\?([\"'])([^\s\"'\\]{6,200})\\?\1")
#: As a file of settings has it, without quotes: then with letters and digits in it, or it may be any word.
_SETTING = re.compile(rb"[ \t]{0,3}[:=][ \t]{0,3}([^\s\"'<>{}$()\[\],;]{6,200})[ \t]*(?=[\r\n]|$)")
_HEADER = re.compile(
    rb"(?i)(?<![A-Za-z])(basic|bearer)[ \t]{1,3}([A-Za-z0-9._~+/-]{12,4096}={0,2})(?![A-Za-z0-9._~+/=-])"
)
#: Not a password but the word for one, or what stands where one is to be filled in.
_STANDS_FOR_ONE = re.compile(
    rb"(?i)(?:my|your|the|some|new|old|user|db|test|a)?[_-]?(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|value|string|text|"
    rb"required|optional|hidden|none|null|true|false|example|changeme|placeholder)[_-]?(?:here|key|\d{0,3})"
    rb"|[<{$%\[(].*|.*[>}\])]|x+|\*+|\.+|process\.env.*|os\.environ.*"
)


def passwords(data: Bytes) -> Iterator[Found]:
    """Every password and key in the text ``data`` that is given to a name (``password = "..."``, as in a program or a
    file of settings), and every header that logs somebody in (``Authorization: Basic ...``, ``Bearer ...``).
    """
    small = bytes(data).lower()
    for name in (*_PASSWORDS, b"secret", *_KEYS):
        for place in places(small, name):
            quoted = _QUOTED.match(data, place + len(name))
            if quoted is not None:
                if _is_password(quoted[2]):
                    yield quoted.start(2), quoted.end(2), hit_of("a password or key", quoted[2])
            elif name in _PASSWORDS and (match := _SETTING.match(data, place + len(name))):
                value = match[1]
                if _is_password(value) and re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value):
                    yield match.start(1), match.end(1), hit_of("a password or key", value)
    for match in _HEADER.finditer(data):
        if _logs_in(match[1].lower(), match[2]):
            yield match.start(2), match.end(2), hit_of(f"a {match[1].decode().lower()} header", match[2])


def _is_password(value: bytes) -> bool:
    return not placeholder(value) and not _STANDS_FOR_ONE.fullmatch(value)


def _logs_in(kind: bytes, value: bytes) -> bool:
    """Whether ``value`` is what a header of this ``kind`` carries: a name and a password in base64, or a long token."""
    if kind == b"bearer":
        return len(value) >= 20 and _random(value)
    try:
        name, sign, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    return bool(sign and name and password) and (name + password).isascii() and not placeholder(password)
