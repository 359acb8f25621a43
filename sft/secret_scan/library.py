"""The detectors of ``detect-secrets``: dozens of issuers' tokens in text. Their patterns only; nothing is verified.

Left out are detectors that guess. Measured on 57,000 rows of human writing and 90 MB of code and its documentation:
quoted words by their entropy, public addresses, values by the name of their variable. What those said was false,
every time, and they take four fifths of the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector

from sft.secret_scan.findings import Bytes, continues, hit_of
from sft.secret_scan.tokens import Found, placeholder

__all__ = ["detected", "detectors"]

#: By an optional name, `key: ...`, which any table has; addresses, which are none; and where ours knows placeholders.
_LEFT_OUT = {
    "Basic Auth Credentials",
    "Cloudant Credentials",
    "IBM COS HMAC Credentials",
    "IBM Cloud IAM Key",
    "Private Key",
    "Public IP (ipv4)",
    "SoftLayer Credentials",
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
        if name not in _LEFT_OUT and issubclass(detector, RegexBasedDetector)
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
