"""Word shingles of texts as 64-bit hashes, many texts at once, and which of them belong to a template.

What a word is, and what boilerplate: :mod:`sft.demonstrations.near_duplicates`. Hashes are fixed: the same texts give
the same numbers in every process.
"""

from __future__ import annotations

import string
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.messages import without_invisible

__all__ = [
    "BASE", "BOILERPLATE_LEAST", "CHUNK", "CHUNK_TEXTS", "HASH_BITS", "I64", "U64", "Boilerplate", "among",
    "boilerplate_of", "chunks", "distinct", "mixed", "parted",
]  # fmt: skip

BOILERPLATE_SHARE = 0.1
BOILERPLATE_COUNT = 50
BOILERPLATE_LEAST = 8
PIECES = 2  # as many times rarer than boilerplate are pieces of the template
CHUNK = 1 << 20  # characters of text hashed at once
CHUNK_TEXTS = 1 << 15  # and no more texts than this, so that 16 bits can number them
HASH_BITS = np.uint64(48)  # of a shingle, where the other 16 bits say which text or pair it belongs to
_SAMPLE = 20_000  # texts among which boilerplate is counted

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_SIGNS = "+-*/=<>^%#"
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")
#: Of ASCII, what is left out where it stands: the apostrophe, and what nobody sees.
_UNREAD = bytes(code for code in range(128) if chr(code) == "'" or not without_invisible(chr(code)))
#: Scripts that put no space between words: one character is taken for one word.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # fmt: skip
_SEPARATOR, _LETTER, _SIGN = 0, 1, 2
_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[[ord(c) for c in string.ascii_letters + string.digits]] = _LETTER
_CLASS[128:] = _LETTER  # what of non-ASCII text is no word has become a space before
_CLASS[[ord(c) for c in _SIGNS]] = _SIGN
BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(BASE, -1, 1 << 64)
_PLACES = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)
_END = np.uint64(0x8EBC6AF09C88C6E3)  # stands for the word behind the last


class _Table(dict[int, str]):
    """For ``str.translate``: what becomes of each character outside ASCII, worked out when first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if code < 128:
            kept = character
        elif category in ("So", "Sm") or any(low <= code <= high for low, high in _UNSPACED):
            kept = f" {character} "
        else:
            kept = character if category[0] in "LNM" else " "
        self[code] = kept
        return kept


_TABLE = _Table()


def _folded(text: str) -> bytes:
    if text.isascii():
        return text.lower().encode("ascii").translate(None, _UNREAD)
    text = unicodedata.normalize("NFKC", without_invisible(text)).casefold().translate(_APOSTROPHES)
    return text.translate(_TABLE).encode("utf-8")


def mixed(values: U64) -> U64:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(count: int) -> tuple[U64, U64]:
    """``count`` powers of the base of the rolling hash, and of its inverse modulo 2**64."""
    powers, inverses = _powers_up_to(1 << (count - 1).bit_length())
    return powers[:count], inverses[:count]


@lru_cache(maxsize=4)
def _powers_up_to(count: int) -> tuple[U64, U64]:
    powers, inverses = (np.full(count, base, dtype=np.uint64) for base in (BASE, _INVERSE))
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)


def _words(folded: Sequence[bytes]) -> tuple[U64, I64]:
    """64-bit hash of every word of every text, and how many words each text has: (w,), (n,)."""
    lengths = np.fromiter((len(text) + 1 for text in folded), dtype=np.int64, count=len(folded))
    raw = np.frombuffer(b" ".join([*folded, b""]), dtype=np.uint8)
    kind = _CLASS[raw]
    letter = kind == _LETTER
    inner = np.flatnonzero(raw == ord("-"))
    inner = inner[(inner > 0) & (inner < len(raw) - 1)]
    digit = (raw >= ord("0")) & (raw <= ord("9"))
    inside = letter[inner - 1] & letter[inner + 1] & ~(digit[inner - 1] & digit[inner + 1])
    kind[inner[inside]] = _SEPARATOR
    before = np.concatenate([[False], letter[:-1]])
    after = np.concatenate([letter[1:], [False]])
    sign = kind == _SIGN
    starts = np.flatnonzero(sign | (letter & ~before))
    ends = np.flatnonzero(sign | (letter & ~after)) + 1
    powers, unshift = _powers(len(raw))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(powers * (raw.astype(np.uint64) + np.uint64(1)))])
    hashes = mixed((sums[ends] - sums[starts]) * unshift[starts])
    before_end = np.searchsorted(starts, np.cumsum(lengths))  # words that start before each text ends
    return hashes, np.diff(before_end, prepend=0)


def _shingles(texts: Sequence[str]) -> tuple[U64, I64, NDArray[np.bool_]]:
    """Of the 3-shingles of all texts, and of their ends, the hash, the text, and whether it is a shingle: (s,) each.

    An end is the last two words and the end itself, as a third, and counts twice: a word that is another one changes
    three shingles within a text and a single one at its end. It is no shingle, but for a text of one or two words.
    """
    hashes, counts = _words([_folded(text) for text in texts])
    text_of = np.repeat(np.arange(len(texts)), counts)
    left = np.repeat(np.cumsum(counts), counts) - np.arange(len(hashes))  # words from here to the text's end
    shingles = hashes * _PLACES[0]
    for place in (1, 2):
        further = np.concatenate([hashes[place:], np.zeros(min(place, len(hashes)), np.uint64)])
        shingles += np.where(left > place, further, _END) * _PLACES[place]
    whole = (left >= 3) | ((counts[text_of] < 3) & (left == counts[text_of]))
    again = np.flatnonzero((left == 1) & ~whole)
    shingles[again] = shingles[again - 1] ^ _END
    return mixed(shingles), text_of, whole


def _short(values: U64) -> U64:
    return values >> (np.uint64(64) - HASH_BITS)


@dataclass(frozen=True, slots=True)
class Boilerplate:
    """What many texts of a set say: sorted 48-bit hashes of shingles.

    ``shingles``: they say nothing of a text. ``pieces``: those and shingles half as frequent, ends of texts among
    them, by which it is seen that two texts fill a template in different ways.
    """

    shingles: U64
    pieces: U64


def boilerplate_of(texts: Sequence[str]) -> Boilerplate:
    """The template of a set of ``texts`` (counted in a sample drawn by content); empty for a handful."""
    if len(texts) > _SAMPLE:
        marks = np.fromiter((zlib.crc32(t.encode("utf-8")) for t in texts), dtype=np.uint32, count=len(texts))
        texts = [texts[place] for place in np.argsort(marks, kind="stable")[:_SAMPLE]]
    limit = max(min(BOILERPLATE_COUNT, len(texts) / 2), BOILERPLATE_SHARE * len(texts))
    seen: tuple[list[U64], list[U64]] = ([], [])
    for chunk in chunks(texts if len(texts) >= BOILERPLATE_LEAST else []):
        values, text_of, whole = _shingles(chunk)
        for found, some in zip(seen, (whole, ~whole), strict=True):
            found.append(distinct(values[some], np.bincount(text_of[some], minlength=len(chunk)))[0])
    (values, counts), (ends, times) = (
        np.unique(np.concatenate([np.empty(0, np.uint64), *found]), return_counts=True) for found in seen
    )
    rarer = max(limit / PIECES, BOILERPLATE_LEAST)
    return Boilerplate(values[counts > limit], np.union1d(values[counts > min(limit, rarer)], ends[times > rarer]))


def parted(texts: Sequence[str], boilerplate: Boilerplate) -> tuple[U64, I64, U64, I64]:
    """The telling shingles of many texts, and how many each text has; and the same of their pieces of the template.

    Telling is what is no boilerplate; where nothing else is left of a text, all of it.
    """
    values, text_of, whole = _shingles(texts)
    pieces, telling = among(_short(values), boilerplate.pieces), whole.copy()
    telling[pieces] &= ~among(_short(values[pieces]), boilerplate.shingles)
    telling |= whole & (np.bincount(text_of[telling], minlength=len(texts))[text_of] == 0)
    one, other = (np.bincount(text_of[some], minlength=len(texts)) for some in (telling, pieces))
    return values[telling], one, values[pieces], other


def among(values: NDArray, ascending: NDArray) -> NDArray[np.bool_]:
    """Which of ``values`` stand in the sorted array ``ascending``."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[place] == values)


def distinct(values: U64, counts: I64) -> tuple[U64, I64]:
    """Each text's shingles once, as 48-bit hashes, and the text each belongs to, sorted by text."""
    text_of = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    tagged = (text_of << HASH_BITS) | _short(values)
    tagged.sort()
    new = np.ones(len(tagged), dtype=bool)
    new[1:] = tagged[1:] != tagged[:-1]
    tagged = tagged[new]
    return tagged & ((np.uint64(1) << HASH_BITS) - np.uint64(1)), (tagged >> HASH_BITS).astype(np.int64)


def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """``texts`` in pieces of so many characters that they are hashed at once."""
    piece, size = list[str](), 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= CHUNK or len(piece) == CHUNK_TEXTS:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
