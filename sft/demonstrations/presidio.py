"""Numbers that countries give to people, and addresses of machines and purses, by Presidio's pattern recognisers.

An extra (``personal``): without the package nothing of it is looked for. Patterns and checksums alone, no model of a
language; of its recognisers those that found nothing, or nothing false, in what people wrote (docs/decisions.md).
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

__all__ = ["TAKEN", "found_by_presidio", "is_here", "recognisers"]

#: Name of a recogniser -> what it finds, and the lowest score that counts (1: its checksum is right).
TAKEN = {
    "CryptoRecognizer": ("a purse of a cryptocurrency", 1.0),
    "DeSocialSecurityRecognizer": ("a German insurance number", 1.0),
    "EsNieRecognizer": ("a Spanish foreigner's number", 1.0),
    "FiPersonalIdentityCodeRecognizer": ("a Finnish identity code", 1.0),
    "IpRecognizer": ("an IP address", 0.6),
    "ItFiscalCodeRecognizer": ("an Italian tax code", 1.0),
    "KrRrnRecognizer": ("a Korean resident's number", 1.0),
    "MacAddressRecognizer": ("a MAC address", 0.6),
    "SePersonnummerRecognizer": ("a Swedish personal number", 1.0),
    "UsSsnRecognizer": ("a US social security number", 0.5),
}


#: What all that they find has: a digit, or two pairs of letters of a hardware address.
_PERHAPS = re.compile(r"\d|[A-Fa-f]{2}[:-][A-Fa-f]{2}")


@cache
def is_here() -> bool:
    """Whether Presidio is installed."""
    return importlib.util.find_spec("presidio_analyzer") is not None


@cache
def recognisers(*, everything: bool = False) -> dict[str, Any]:
    """Name -> recogniser; those of :data:`TAKEN`, or ``everything`` that goes by patterns. Empty without Presidio."""
    if not is_here():
        return {}
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    from presidio_analyzer import PatternRecognizer, predefined_recognizers

    found = {}
    for name in dir(predefined_recognizers) if everything else TAKEN:
        made = getattr(predefined_recognizers, name, None)
        if isinstance(made, type) and issubclass(made, PatternRecognizer) and made is not PatternRecognizer:
            found[name] = made()
    return found


def found_by_presidio(text: str) -> Iterator[tuple[int, int, str]]:
    """Every number and address in ``text`` that one of :data:`TAKEN` is sure of: begin, end, what."""
    if not _PERHAPS.search(text):
        return
    for name, recogniser in recognisers().items():
        what, sure = TAKEN[name]
        for hit in recogniser.analyze(text, recogniser.supported_entities, None):
            if hit.score >= sure:
                yield hit.start, hit.end, what
