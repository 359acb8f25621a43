"""Looking through files and demonstrations with every detector there is."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, chain, islice

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.secrets.findings import Finding
from sft.demonstrations.secrets.machine import Known, known
from sft.runs.private import PERSONAL, Bytes, Found, personal, tokens

__all__ = ["in_demonstrations", "secrets_in"]


def secrets_in(
    path: str, data: Bytes, *, environment: Mapping[str, str] = os.environ, mail: bool = False
) -> list[Finding]:
    """Every secret in ``data``, the content of the file that is called ``path``: in the order found, each value once.

    Secret are tokens by their issuers' prefixes, private keys, passwords in URLs; in text also what the detectors of
    ``detect-secrets`` know; the value of every variable of ``environment`` whose name says so (``HF_TOKEN``,
    ``DB_PASSWORD``); and the home folder and the user's name. To find a token that is only in memory, add it to
    ``environment`` under such a name. ``mail``: e-mail addresses too, in a text that holds demonstrations.

    Short words are in every text, so a value counts from 8 characters on (16 if it is one word of lower-case letters),
    a user's name from 5 on (6 in bytes that are no text), as a whole word, if it is not the name of many (``root``),
    and a home folder if it is not one that everybody has.
    """
    lines = _is_text(data)
    found: dict[str, Finding] = {}
    for place, _, hit in sorted(
        _hits(data, known(environment), text=lines, people=["an e-mail address"] if mail else [])
    ):
        if hit.id not in found:
            found[hit.id] = Finding(hit.id, path, hit.what, hit.excerpt, _line(data, place) if lines else None)
    return list(found.values())


def in_demonstrations(
    demonstrations: Iterable[Demonstration], *, environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """As :func:`secrets_in`, and e-mail addresses and home folders: each value once, at the row that has it first.

    ``path`` and ``line`` of a finding are the row's; the beginning of its id where it came from no file.
    """
    looked_for = known(environment)
    found: dict[str, Finding] = {}
    others: dict[str, dict[str, None]] = {}
    rows = iter(demonstrations)
    while part := list(islice(rows, 4096)):  # looked through at once, which takes a tenth of the time
        texts = ["\n".join((*(turn.content for turn in d.prompt), d.completion, *d.references)) for d in part]
        data = b"\n\0\n".join(pieces := [text.encode("utf-8") for text in texts])
        ends = list(accumulate(len(piece) + 3 for piece in pieces))
        for place, _, hit in sorted(_hits(data, looked_for, text=True, people=PERSONAL)):
            d = part[bisect_right(ends, place)]
            if hit.id not in found:
                file, line = (d.source.file, d.source.line) if d.source else (d.address, None)
                found[hit.id] = Finding(hit.id, file, hit.what, hit.excerpt, line)
            elif d.address != found[hit.id].address:
                others.setdefault(hit.id, {})[d.address] = None
    return [replace(one, others=tuple(others.get(one.id, ()))) for one in found.values()]


def _hits(data: Bytes, looked_for: Known, *, text: bool, people: Iterable[str]) -> Iterator[Found]:
    """Every secret in ``data``, and what ``people`` names; nothing twice: a token of ours goes before what is in it."""
    ours = sorted(tokens(data, text=text))
    yield from ours
    yield from looked_for.within(data, text=text)
    if not text:
        return
    from sft.demonstrations.secrets.library import detected  # with an HTTP client that is of no use to us

    starts = [start for start, _, _ in ours]
    reached = [0, *accumulate((end for _, end, _ in ours), max)]
    for start, end, hit in chain(detected(data), personal(data, people)):
        if reached[bisect_left(starts, end)] <= start:
            yield start, end, hit


def _is_text(data: Bytes, looked_at: int = 65536) -> bool:
    return b"\0" not in data[:looked_at]


def _line(data: Bytes, place: int) -> int:
    return 1 + data[:place].count(b"\n")
