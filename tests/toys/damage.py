"""Exports damaged at random: cut, with bytes turned, taken out, put in and repeated, as disks and tools do it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

#: What is put in: ends of lines and structures, marks, halves of letters, long runs.
_SPLINTERS = (
    b"\0", b"\n", b"\r", b"\r\n\r\n", b'"', b"'", b",", b"{", b"}", b"[", b"]", b"<", b">", b"</", b"&#x0;", b"\\u0000",
    b"\\ud83d", b"\xff\xfe", b"\xed\xa0\xbd", b"\xe2\x80\x8e", b"From ", b": ", b"-- \n", b"null", b"1e999", b"-1",
    b"99999999999999999999", b"a" * 5000, b"<div>" * 500, b"[" * 2000, b"> " * 500, b"=?utf-8?q?=?=", b"\x1e", b"\x1f",
)  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    """``data`` with one to four faults."""
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data) + 1)
        end = min(len(data), place + draw.choice((1, 2, 9, 80, 600)))
        kind = draw.randrange(7)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[end:]
        elif kind == 2:
            data = data[:place] + draw.choice(_SPLINTERS) + data[place:]
        elif kind == 3:
            data = data[:end] + data[place:]
        elif kind == 4:
            data = data[:place] + draw.randbytes(end - place) + data[end:]
        elif kind == 5:
            old = draw.choice((b":", b'"', b"\n", b",", b"2026", b"text", b"Ada", b"<p>", b"-", b"{"))
            data = data.replace(old, draw.choice(_SPLINTERS), draw.choice((1, -1)))
        else:
            data = bytes(byte ^ draw.choice((1, 32, 128)) if draw.random() < 0.02 else byte for byte in data)
    return data


def damage(source: Path, draw: random.Random, spared: Callable[[Path], bool] = lambda path: False) -> None:
    """Damage one file of the export at ``source``, of those that are not ``spared``."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    path = draw.choice([path for path in files if not spared(path)])
    path.write_bytes(damaged(path.read_bytes(), draw))
