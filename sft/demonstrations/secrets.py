"""Secrets in bytes: tokens, keys, passwords of the environment, and who the user is. Nothing is sent anywhere.

:func:`secrets_in` looks through a file of any kind, weights and pickles included; :func:`in_demonstrations` looks
through what an expert wrote, where e-mail addresses and the home folders of others count too. What is found
is never repeated in full.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.personal import numbers
from sft.demonstrations.presidio import found_by_presidio, is_here
from sft.errors import UserError
from sft.runs.private import PERSONAL, internal_hosts, personal
from sft.runs.tokens import Bytes, Found, Hit, continues, hit_of, passwords, placeholder, places, tokens
from sft.runs.visible import plain

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

__all__ = ["Finding", "demand", "detectors", "in_demonstrations", "secrets_in", "to_text"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret. ``id``: of its kind and its value, the same in every file and every time, so that it can be allowed.

    ``path``: as it was given. ``excerpt``: what may be shown of it. ``line``: 1-based; None where there are no lines.
    ``others``: the addresses of the other rows that have it. ``around``: the text that it stands in, to judge by, it
    and whatever else was found there left out; "" where there is no text.
    """

    id: str
    path: str
    what: str
    excerpt: str
    line: int | None = None
    others: tuple[str, ...] = ()
    around: str = ""

    @property
    def address(self) -> str:
        """Where a person finds it: ``path:line``, or ``path``."""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        named = list(self.others[:3])
        if len(self.others) > 3:
            named.append(f"{len(self.others) - 3:,} more")
        also = f" (also {', '.join(named)})" if named else ""
        seen = f" in {plain(self.around)!r}" if self.around else ""
        return f"{self.address}{also}: {self.what}, {self.excerpt} (id {self.id}){seen}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"address": self.address, "others": list(self.others)}


def secrets_in(
    path: str,
    data: Bytes,
    *,
    environment: Mapping[str, str] = os.environ,
    people: bool = False,
    settings: bool = False,
) -> list[Finding]:
    """Every secret in ``data``, the content of the file that is called ``path``: in the order found, each value once.

    Secret are tokens by their issuers' prefixes, private keys, passwords in URLs; in text also passwords by the names
    that they are given to, headers that log somebody in, and what the detectors of ``detect-secrets`` know; the value
    of every variable of ``environment`` whose name says so (``HF_TOKEN``, ``DB_PASSWORD``); and the home folder and the
    user's name. To find a token that is only in memory, add it to ``environment`` under such a name. ``people``:
    e-mail addresses, telephone numbers, IBANs and cards too, in a text that people wrote. ``settings``: these and
    hosts of a network of somebody's own, in a text of settings and remarks.

    Short words are in every text, so a value counts from 8 characters on (16 if it is one word of lower-case letters),
    a user's name from 5 on (6 in bytes that are no text), as a whole word, if it is not the name of many (``root``),
    and a home folder if it is not one that everybody has.
    """
    text = b"\0" not in data[:65536]
    kinds = ["an e-mail address"] if people or settings else []
    hits = sorted(_hits(data, _known(environment), text=text, people=kinds))
    if settings and text:
        hits = sorted([*hits, *internal_hosts(data)])
    found: dict[str, Finding] = {}
    for place, end, hit in hits:
        if hit.id not in found:
            line = 1 + data[:place].count(b"\n") if text else None
            begins = max(0, place - 4096)
            part = bytes(data[begins : end + 4096]) if text else b""
            seen = _around(part, place - begins, end - begins, hits, begins) if text else ""
            found[hit.id] = Finding(hit.id, path, hit.what, hit.excerpt, line, around=seen)
    return list(found.values())


def in_demonstrations(
    demonstrations: Iterable[Demonstration], *, environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """As :func:`secrets_in`, and e-mail addresses and home folders: each value once, at the row that has it first.

    ``path`` and ``line`` of a finding are the row's; the beginning of its id where it came from no file.
    """
    known = _known(environment)
    found: dict[str, Finding] = {}
    others: dict[str, dict[str, None]] = {}
    rows = iter(demonstrations)
    while part := list(islice(rows, 4096)):  # looked through at once, which takes a tenth of the time
        texts = ["\n".join((*(turn.content for turn in d.prompt), d.completion, *d.references)) for d in part]
        data = b"\n\0\n".join(pieces := [text.encode("utf-8") for text in texts])
        ends = list(accumulate(len(piece) + 3 for piece in pieces))
        hits = sorted(_hits(data, known, text=True, people=PERSONAL))
        for place, end, hit in hits:
            number = bisect_right(ends, place)
            d = part[number]
            if hit.id not in found:
                file, line = (d.source.file, d.source.line) if d.source else (d.address, None)
                begins = ends[number - 1] if number else 0
                seen = _around(pieces[number], place - begins, end - begins, hits, begins)
                found[hit.id] = Finding(hit.id, file, hit.what, hit.excerpt, line, around=seen)
            elif d.address != found[hit.id].address:
                others.setdefault(hit.id, {})[d.address] = None
    return [replace(one, others=tuple(others.get(one.id, ()))) for one in found.values()]


#: So many bytes of the text on either side of what was found are shown.
_SHOWN = 32


def _around(text: bytes, start: int, end: int, hits: Sequence[Found], offset: int) -> str:
    """The line of ``text`` around what was found from ``start`` to ``end``, without that and every other of ``hits``.

    ``offset``: where ``text`` begins in what the hits are places of.
    """
    stop = text.find(b"\n", end)
    first = max(text.rfind(b"\n", 0, start) + 1, start - _SHOWN)
    last = min(len(text) if stop < 0 else stop, end + _SHOWN)
    near = bisect_left(hits, offset + first - 4096, key=lambda one: one[0])
    shown, at = b"", first
    for begins, ends, _ in hits[near:]:
        begins, ends = begins - offset, ends - offset
        if begins >= last:
            break
        if ends > at:
            shown += text[at : max(at, begins)] + b"[...]"
            at = ends
    return (shown + text[at : max(at, last)]).decode("utf-8", "ignore").strip()


def to_text(findings: Sequence[Finding], *, shown: int = 100) -> str:
    """How many of each kind, the most frequent first; then one line a finding, at most ``shown``."""
    if not findings:
        return (
            "No secrets: no tokens, keys, passwords, e-mail addresses, telephone, card or account numbers or home "
            "folders were found."
        )
    kinds = Counter(one.what for one in findings)
    lines = [f"{_counted(findings)}: " + ", ".join(f"{what} ({count:,})" for what, count in kinds.most_common())]
    lines += [f"  {one}" for one in findings[:shown]]
    if len(findings) > shown:
        lines.append(f"  ... and {len(findings) - shown:,} more; --json has all of them")
    return "\n".join(lines)


def demand(name: str, findings: Sequence[Finding]) -> None:
    """Raise the ``UserError`` that says what to do about ``findings`` in what is called ``name``, if there are any."""
    if findings:
        each = "it" if len(findings) == 1 else "them"
        raise UserError(
            f"{name}: {_counted(findings)} in what a clone would learn by heart and may repeat; mask {each} or take "
            "the rows out, for `sft push` refuses a run that was trained on one unless it is told each finding's id "
            "and why everybody may see it: --allow-finding ID=REASON"
        )


def _counted(findings: Sequence[Finding]) -> str:
    return f"{len(findings):,} secret{'' if len(findings) == 1 else 's'}"


def _hits(data: Bytes, known: Sequence[_Known], *, text: bool, people: Iterable[str]) -> Iterator[Found]:
    """Every secret in ``data``, and what ``people`` names; nothing twice: a token of ours goes before what is in it."""
    ours = sorted(tokens(data, text=text))
    yield from ours
    for one in known:
        for place in places(data, one.form) if text or one.in_bytes else ():
            end = place + len(one.form)
            if not (one.starts and continues(data, place - 1)) and not (one.ends and continues(data, end)):
                yield place, end, one.hit
    if not text:
        return
    people = list(people)
    for further in (
        _detected(data), passwords(data), personal(data, people), _numbers(data, people), _by_presidio(data, people)
    ):  # fmt: skip
        starts = [start for start, _, _ in ours]
        reached = [0, *accumulate((end for _, end, _ in ours), max)]
        new = [one for one in further if reached[bisect_left(starts, one[1])] <= one[0]]
        yield from new
        ours = sorted([*ours, *new])


def _by_presidio(data: Bytes, people: Sequence[str]) -> Iterator[Found]:
    """What Presidio's recognisers are sure of, where it is installed; as :func:`_numbers`."""
    if not people or not is_here():
        return
    at = 0
    for line in bytes(data).split(b"\n"):
        text = line.decode("utf-8", "surrogateescape")
        for start, end, what in found_by_presidio(text):
            value = text[start:end].encode("utf-8", "surrogateescape")
            begins = at + len(text[:start].encode("utf-8", "surrogateescape"))
            yield begins, begins + len(value), hit_of(what, value)
        at += len(line) + 1


_NUMBERS = {"[IBAN]": "an IBAN", "[card]": "a card number", "[phone]": "a telephone number"}


def _numbers(data: Bytes, people: Sequence[str]) -> Iterator[Found]:
    """IBANs, card numbers and telephone numbers in the text ``data``, where anything of ``people`` is looked for."""
    if not people:
        return
    ended = -1
    for match in _DIGITS.finditer(data):
        if match.start() < ended:
            continue  # of a line that was looked through
        begun, ended = data.rfind(b"\n", 0, match.start()) + 1, data.find(b"\n", match.end())
        ended = len(data) if ended < 0 else ended
        line = data[begun:ended].decode("utf-8", "surrogateescape")
        for start, end, mask in numbers(line):
            at = begun + len(line[:start].encode("utf-8", "surrogateescape"))
            value = line[start:end].encode("utf-8", "surrogateescape")
            yield (
                at,
                at + len(value),
                hit_of(_NUMBERS[mask], b"".join(value.split()), public=4 if mask == "[IBAN]" else 3),
            )


#: What every line with one of these numbers has: four of its digits or letters together, or a plus before a digit.
_DIGITS = re.compile(rb"\d{4}|[A-Za-z]{2}\d\d|\+[ (]{0,2}\d|\xef\xbc\x8b")


# -- what this machine is known to hold: the values of its secret-looking variables, its home folder, its user ------

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


@dataclass(frozen=True, slots=True)
class _Known:
    """A value as a file would write it. ``starts``, ``ends``: only where a word begins there, or is over.

    ``in_bytes``: whether it is looked for in what is no text, too.
    """

    form: bytes
    hit: Hit
    starts: bool = False
    ends: bool = False
    in_bytes: bool = True


def _known(environment: Mapping[str, str]) -> list[_Known]:
    """What to look for by its value. Of the process's own environment, the system is asked for what it leaves out."""
    home, user = environment.get("HOME", ""), environment.get("LOGNAME") or environment.get("USER", "")
    if environment is os.environ:
        with suppress(RuntimeError, OSError, KeyError, ImportError):  # an account without a home, or without a name
            home = home or str(Path.home())
        with suppress(OSError, KeyError, ImportError):
            user = user or getpass.getuser()
    found = [
        _Known(form, hit_of(f"the value of {name}", value.strip().encode("utf-8", "surrogateescape")))
        for name, value in environment.items()
        if _NAMES_OF_SECRETS.search(name) and not _NAMES_OF_PLACES.search(name) and _opens_something(value.strip())
        for form in _forms(value.strip())
    ]
    if len(re.findall(r"[/\\]+[^/\\]+", home)) > 1:
        what = "this machine's home folder"
        found += [_Known(form, hit_of(what, form), ends=True) for form in _forms(home.rstrip("/\\"))]
    if user.lower() not in _ANYBODY and len(name := user.encode()) >= 5:
        found.append(_Known(name, hit_of("this machine's user name", name), True, True, in_bytes=len(name) >= 6))
    return found


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


# -- the detectors of detect-secrets: tokens of eleven issuers, in text. Their patterns only; nothing is verified ----
# Verifying would send what was found to whoever issued it. The library's own scan of a line is not used either: it
# asks every word for its entropy, which says twelve false things a row of human writing. Figures: docs/decisions.md.

#: Guesses: by an optional name (`key: ...`, which any table has), and addresses, which are no secrets.
_GUESSES = {
    "Cloudant Credentials", "IBM COS HMAC Credentials", "IBM Cloud IAM Key", "Public IP (ipv4)",
    "SoftLayer Credentials",
}  # fmt: skip
#: What our own kinds find in any bytes, newer shapes too; some of these take the square of a line's length.
_OURS = {
    "Basic Auth Credentials", "GitHub Token", "JSON Web Token", "NPM tokens", "OpenAI Token", "Private Key",
    "PyPI Token", "Stripe Access Key",
}  # fmt: skip
#: What is no ASCII becomes a space, so that a place in the text is the place in the bytes.
_ASCII = bytes(range(128)) + b" " * 128


@cache
def detectors() -> tuple[tuple[str, RegexBasedDetector], ...]:
    """What each finds, in words, and itself."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class  # with an HTTP client
    from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector

    known: Mapping[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
    return tuple(
        (name if name.endswith("s") else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}", detector())
        for name, detector in sorted(known.items())
        if name not in _GUESSES | _OURS and issubclass(detector, RegexBasedDetector)
    )


def _detected(data: Bytes) -> Iterator[Found]:
    """Every token in the text ``data``, whole words alone."""
    text = bytes(data).translate(_ASCII).decode("ascii")
    for what, detector in detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                # Without its surroundings where the detector tells them apart. Short groups are prefixes.
                long = [group for group in match.groups() if group and len(group) >= 16]
                value = max(long, key=len, default=match[0]).strip(" \t\r\n\"'=:")
                start = match.start() + match[0].index(value)
                end = start + len(value)
                if (
                    not placeholder(value.encode())
                    and any(letter.isdigit() for letter in value)
                    and not continues(data, start - 1)
                    and not continues(data, end)
                    and any(detector.analyze_string(match[0]))  # some look into what they found
                ):
                    yield start, end, hit_of(what, value.encode())
