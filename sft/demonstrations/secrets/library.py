"""The detectors of ``detect-secrets``: tokens of eleven issuers, in text. Their patterns only; nothing is verified.

Verifying would send what was found to whoever issued it. The library's own scan of a line is not used either: it asks
every word for its entropy, which says twelve false things a row of human writing. Figures: docs/decisions.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector

from sft.runs.private import Bytes, Found, continues, hit_of, placeholder

__all__ = ["detected", "detectors"]

#: Guesses: by an optional name (`key: ...`, which any table has), and addresses, which are no secrets.
_GUESSES = {
    "Cloudant Credentials",
    "IBM COS HMAC Credentials",
    "IBM Cloud IAM Key",
    "Public IP (ipv4)",
    "SoftLayer Credentials",
}
#: What our own kinds find in any bytes, newer shapes too; some of these take the square of a line's length.
_OURS = {
    "Basic Auth Credentials",
    "GitHub Token",
    "JSON Web Token",
    "NPM tokens",
    "OpenAI Token",
    "Private Key",
    "PyPI Token",
    "Stripe Access Key",
}
#: What is no ASCII becomes a space, so that a place in the text is the place in the bytes.
_ASCII = bytes(range(128)) + b" " * 128


@cache
def detectors() -> tuple[tuple[str, RegexBasedDetector], ...]:
    """What each finds, in words, and itself."""
    known: Mapping[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
    return tuple(
        (name if name.endswith("s") else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}", detector())
        for name, detector in sorted(known.items())
        if name not in _GUESSES | _OURS and issubclass(detector, RegexBasedDetector)
    )


def detected(data: Bytes) -> Iterator[Found]:
    """Every token in the text ``data``, whole words alone."""
    text = bytes(data).translate(_ASCII).decode("ascii")
    for what, detector in detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                value = _value(match)
                start = match.start() + match[0].index(value)
                end = start + len(value)
                if (
                    _genuine(value)
                    and not continues(data, start - 1)
                    and not continues(data, end)
                    and any(detector.analyze_string(match[0]))  # some look into what they found
                ):
                    yield start, end, hit_of(what, value.encode())


def _value(match: re.Match[str]) -> str:
    """What was found, without its surroundings where the detector tells them apart. Short groups are prefixes."""
    long = [group for group in match.groups() if group and len(group) >= 16]
    return max(long, key=len, default=match[0]).strip(" \t\r\n\"'=:")


def _genuine(value: str) -> bool:
    return not placeholder(value.encode()) and any(letter.isdigit() for letter in value)
