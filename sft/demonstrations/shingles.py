"""Word shingles of texts as 64-bit hashes, many texts at once, and which of them belong to a template.

What a word is, and what boilerplate: :mod:`sft.demonstrations.near_duplicates`. Hashes are fixed: the same texts give
the same numbers in every process.
"""

from __future__ import annotations

import string
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.columns import texts_at
from sft.demonstrations.messages import without_invisible

__all__ = [
    "BASE", "BOILERPLATE_LEAST", "CHUNK", "CHUNK_TEXTS", "HASH_BITS", "I64", "U64", "Boilerplate", "Pieces", "among",
    "boilerplate_of", "chunks", "firsts", "grown", "mixed", "within_runs",
]  # fmt: skip

BOILERPLATE_SHARE = 0.1
BOILERPLATE_COUNT = 50
BOILERPLATE_LEAST = 8
PIECES = 2  # as many times rarer than boilerplate are pieces of the template
CHUNK = 1 << 20  # characters of text hashed at once
CHUNK_TEXTS = 1 << 15  # and no more texts than this, so that 16 bits can number them
HASH_BITS = np.uint64(48)  # of a shingle, where the other 16 bits say which text or pair it belongs to
_HASH = (np.uint64(1) << HASH_BITS) - np.uint64(1)
_JOINT = "\n\n"  # stands between the turns of a prompt's text
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
_AFTER = _END * _PLACES


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


@dataclass(frozen=True, slots=True)
class Pieces:
    """Many texts, each as what it has beyond the one before, where it begins with all of that.

    The prompts of a dialogue are such a run: whatever is worked out for one is a part of what the next needs, and work
    is linear in the dialogue, not in all its prompts. ``texts``: a whole text, or what follows the one before;
    ``grows``: (n,) whether it is that.
    """

    texts: list[str]
    grows: NDArray[np.bool_]

    @property
    def first(self) -> I64:
        """(n,): the first text of each text's run."""
        return np.maximum.accumulate(np.where(self.grows, 0, np.arange(len(self.texts))))

    def cut(self, places: NDArray[np.bool_]) -> Pieces:
        """Runs that end before each of ``places`` (n,): the text there stands in full and begins another."""
        texts, grows, first = list(self.texts), self.grows & ~places, self.first
        for place in np.flatnonzero(places & self.grows).tolist():
            texts[place] = "".join(self.texts[first[place] : place + 1])
        return Pieces(texts, grows)


@dataclass(frozen=True, slots=True)
class _Shingles:
    """``whole``: shingles, each with the first text of its run that has it, ``whole_of``; ``ends`` and ``ends_of``:
    the ends of texts; ``first``: (n,) the first text of each text's run.

    An end is the last two words and the end itself, as a third, and counts twice: a word that is another one changes
    three shingles within a text and a single one at its end. It is no shingle, but for a text of one or two words.
    """

    whole: U64
    whole_of: I64
    ends: U64
    ends_of: I64
    first: I64


def _shingles(pieces: Pieces) -> _Shingles:
    hashes, counts = _words([_folded(text) for text in pieces.texts])
    first = pieces.first
    upto = np.cumsum(counts)  # words up to the end of each text
    begun = (upto - counts)[first]
    length = upto - begun  # words of each text, those of its run before it among them
    few = _behind(length < 3) & pieces.grows  # a text of two words is a shingle; in a longer one it is none
    if few.any():
        return _shingles(pieces.cut(few))
    piece_of = np.repeat(np.arange(len(first)), counts)
    terms = [hashes * place for place in _PLACES]
    third = np.arange(2, len(hashes))
    third = third[first[piece_of[third]] == first[piece_of[third - 2]]] if len(third) else third
    whole = mixed(terms[0][third - 2] + terms[1][third - 1] + terms[2][third])
    whole_of = piece_of[third]
    one, two, more = (np.flatnonzero(some) for some in (length == 1, length == 2, length >= 3))
    ending = terms[0][upto[two] - 2] + terms[1][upto[two] - 1] + _AFTER[2]
    single = terms[0][upto[one] - 1] + _AFTER[1] + _AFTER[2]
    if len(one) or len(two):
        whole, whole_of = _sorted_by([whole, mixed(single), mixed(ending)], [whole_of, one, two])
    behind = terms[0][upto[more] - 2] + terms[1][upto[more] - 1] + _AFTER[2]
    ends, ends_of = _sorted_by([mixed(behind), mixed(behind ^ _END), mixed(ending ^ _END)], [more, more, two])
    return _Shingles(whole, whole_of, ends, ends_of, first)


def _sorted_by(values: Sequence[U64], texts: Sequence[I64]) -> tuple[U64, I64]:
    of = np.concatenate(texts)
    order = np.argsort(of, kind="stable")
    return np.concatenate(values)[order], of[order]


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
        texts = list(texts_at(texts, np.sort(np.argsort(marks, kind="stable")[:_SAMPLE])))
    limit = max(min(BOILERPLATE_COUNT, len(texts) / 2), BOILERPLATE_SHARE * len(texts))
    seen: tuple[list[tuple[U64, I64]], ...] = ([], [])
    for pieces in chunks(texts if len(texts) >= BOILERPLATE_LEAST else []):
        found = _shingles(pieces)
        last = np.searchsorted(found.first, found.first, side="right")  # behind the last text of each one's run
        # A shingle stands in the text that has it first, and in all of its run that follow.
        values, text_of = firsts(found.whole, found.first[found.whole_of], found.whole_of)
        seen[0].append((values, last[text_of] - text_of))
        values, _ = firsts(found.ends, found.ends_of, found.ends_of)
        seen[1].append((values, np.ones(len(values), dtype=np.int64)))
    (values, counts), (ends, times) = (_counted(each) for each in seen)
    rarer = max(limit / PIECES, BOILERPLATE_LEAST)
    return Boilerplate(values[counts > limit], np.union1d(values[counts > min(limit, rarer)], ends[times > rarer]))


def firsts(values: U64, owner: I64, text_of: I64) -> tuple[U64, I64]:
    """Each owner's values once, as 48-bit hashes, and the first of the texts that each stands in."""
    tagged, places = np.unique((owner.astype(np.uint64) << HASH_BITS) | _short(values), return_index=True)
    return tagged & _HASH, text_of[places]


def _counted(seen: Sequence[tuple[U64, I64]]) -> tuple[U64, NDArray[Any]]:
    """Different values, ascending, and in how many texts each stands."""
    values, inverse = np.unique(np.concatenate([np.empty(0, np.uint64), *(v for v, _ in seen)]), return_inverse=True)
    weights = np.concatenate([np.empty(0, np.int64), *(weight for _, weight in seen)])
    return values, np.bincount(inverse, weights, minlength=len(values))


@dataclass(frozen=True, slots=True)
class Parted:
    """What tells texts apart, of each what it has beyond the one before in its run: values, then how many a text has.

    ``telling``: shingles that are no boilerplate. ``pieces``: shingles of the template. ``ends``: those of its ends
    that are pieces of the template, which the next text of the run has not. ``first``: (n,) the first of each run.
    """

    telling: tuple[U64, I64]
    pieces: tuple[U64, I64]
    ends: tuple[U64, I64]
    first: I64


def grown(pieces: Pieces, boilerplate: Boilerplate) -> Parted:
    """The telling shingles of many texts (what is no boilerplate), and their pieces of the template.

    Where nothing but boilerplate is in a text, all of it is telling; a run ends where that is no longer so.
    """
    found = _shingles(pieces)
    count = len(pieces.texts)
    own = among(_short(found.whole), boilerplate.pieces)
    telling = ~own
    telling[own] = ~among(_short(found.whole[own]), boilerplate.shingles)
    has = np.bincount(found.whole_of[telling], minlength=count)
    empty = within_runs(np.add, has, found.first) == 0
    if empty.any():
        filled = _behind(empty) & ~empty & (found.first < np.arange(count))
        if filled.any():
            return grown(pieces.cut(filled), boilerplate)
        telling |= empty[found.whole_of]
        has = np.bincount(found.whole_of[telling], minlength=count)
    ends = among(_short(found.ends), boilerplate.pieces)
    return Parted(
        (found.whole[telling], has),
        (found.whole[own], np.bincount(found.whole_of[own], minlength=count)),
        (found.ends[ends], np.bincount(found.ends_of[ends], minlength=count)),
        found.first,
    )


def within_runs(gather: np.ufunc, values: NDArray[Any], first: I64) -> NDArray[Any]:
    """``values`` (n, ...), each gathered with those before it in its run (``first``: the first of each one's)."""
    if (first == np.arange(len(first))).all():
        return values
    values = values.copy()
    begins = np.flatnonzero(first == np.arange(len(first)))
    for start, size in zip(begins.tolist(), np.diff(begins, append=len(first)).tolist(), strict=True):
        if size > 1:
            values[start : start + size] = gather.accumulate(values[start : start + size], axis=0)
    return values


def among(values: NDArray, ascending: NDArray) -> NDArray[np.bool_]:
    """Which of ``values`` stand in the sorted array ``ascending``."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[place] == values)


def chunks(texts: Iterable[str], *, characters: float = CHUNK, most: float = CHUNK_TEXTS) -> Iterator[Pieces]:
    """``texts`` in pieces of so many ``characters``, and of ``most`` texts, that they are hashed at once.

    In each a text that begins with all of the one before, and then a turn, goes on from it.
    """
    held, grows, size, before = list[str](), list[bool](), 0, ""
    for text in texts:
        grew = (
            bool(held) and len(text) > len(before) and text.startswith(before) and text.startswith(_JOINT, len(before))
        )
        held.append(text[len(before) :] if grew else text)
        grows.append(grew)
        size += len(held[-1])
        before = text
        if size >= characters or len(held) == most:
            yield Pieces(held, np.array(grows))
            held, grows, size, before = [], [], 0, ""
    if held:
        yield Pieces(held, np.array(grows))


def _behind(true: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each text whether it is ``true`` of the one before."""
    return np.concatenate([np.zeros(min(len(true), 1), dtype=bool), true[:-1]])
