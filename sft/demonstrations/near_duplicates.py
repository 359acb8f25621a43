"""Near-duplicate prompts: which texts of one list nearly repeat a text of another.

*Near* means that the Jaccard similarity of the two texts' word 3-shingles reaches a threshold. A text of
one or two words is one shingle, so short texts are near only when their words are the same.

- **Words.** After NFKC and case folding: runs of letters, digits and marks. Scripts written without spaces
  (Chinese, Japanese, Thai, ...), emoji, and signs that change a meaning (``+ - * / = < > ^ % #``) count one
  character as one word, so that "2 + 3" is not "2 - 3". Apostrophes vanish; a hyphen inside a word parts it.
- **Boilerplate.** A shingle in more than a tenth of the texts (and more than 50 of them, or more than half
  of a set smaller than 100; fewer than 8 texts have none) is a template's, not a text's: it is left out of the
  comparison, unless nothing else is left. Otherwise a long instruction shared by all prompts would make
  every prompt the near-duplicate of every other.
- **Finding.** 64 minimum hashes per text (Broder 1997) are cut into bands (Leskovec, Rajaraman & Ullman,
  *Mining of Massive Datasets*, ch. 3) wide enough to find at least 98 % of the pairs at the threshold and
  more of those above it. Every candidate's similarity is then worked out from the shingles, so a pair that
  is reported is near (shingles are compared by 48-bit hash).
- **No quadratic case.** In one band a text meets at most 32 others: those of its bucket that agree with it
  furthest into the next band. By their hashes the two likeliest are compared exactly, and after 8 exact
  comparisons in vain a text is let go. Work is linear in the number of texts, whatever they say.
  The price: in a family of hundreds of half-alike texts a pair may, rarely, be missed.

Hashes are fixed: the same texts give the same answer in every process.
"""

from __future__ import annotations

import os
import string
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOILERPLATE_LEAST", "Near", "families", "find_near"]

HASHES = 64
BUCKET_LIMIT = 32
EXACT_LIMIT = 8
BOILERPLATE_SHARE = 0.1
BOILERPLATE_COUNT = 50
BOILERPLATE_LEAST = 8
_RECALL = 0.98  # wanted at the threshold itself; above it more
_SAMPLE = 20_000  # texts among which boilerplate is counted
_CHUNK = 1 << 20  # characters of text hashed at once
_CHUNK_TEXTS = 1 << 15  # and no more texts than this, so that 16 bits can number them
_PAIRS = 1 << 18  # candidate pairs looked at together
_HOMES = 24  # leading bits of a bucket's name
_CORES = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

_HASH_BITS = np.uint64(48)  # of a shingle, where the other 16 bits say which text or pair it belongs to

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Near:
    """Text ``row`` of the first list is near text ``other`` of the second; ``similarity`` is in (0, 1]."""

    row: int
    other: int
    similarity: float


def find_near(
    texts: Sequence[str], others: Sequence[str], threshold: float, *, corpus: Sequence[str] | None = None
) -> list[Near]:
    """For each of ``texts`` the nearest found among ``others``, if its similarity reaches ``threshold``.

    ``threshold``: above 0, at most 1. ``corpus``: all texts of the set, where ``texts`` and ``others`` are a part of
    it, to tell what is boilerplate. At most one :class:`Near` per text, in the order of ``texts``.
    Where both are one and the same list, no text is its own nearest. Raises ``ValueError`` for another threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a similarity threshold lies above 0 and at most at 1, not at {threshold}")
    boilerplate = _boilerplate([*texts, *others] if corpus is None else corpus)
    left, right = (_Signatures(each, boilerplate, _rows_per_band(threshold)) for each in (texts, others))
    best = np.full(len(texts), -1, dtype=np.int64)
    similarity, tried = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    compared: I64 = np.empty(0, dtype=np.int64)
    for band in range(left.bands.shape[1]):
        looked_at = [compared]
        open_ = (similarity[left.filled] < threshold) & (tried[left.filled] < EXACT_LIMIT)
        for rows, near in _candidates(left, right, band, left.filled[open_]):
            if texts is others:
                rows, near = rows[rows != near], near[rows != near]
            rows, near = _likeliest(rows, near, _agreement(left.marks[rows], right.marks[near]), threshold)
            pairs = rows * len(others) + near
            new = ~_among(pairs, compared)
            looked_at.append(pairs[new])
            rows, near = rows[new], near[new]
            exact = _jaccard(texts, others, rows, near, boilerplate)
            order = np.lexsort((-near, exact))  # ascending, so that the last of a row to be written is its best
            rows, near, exact = rows[order], near[order], exact[order]
            better = exact > similarity[rows]
            best[rows[better]], similarity[rows[better]] = near[better], exact[better]
            tried += np.bincount(rows, minlength=len(texts))
        compared = np.sort(np.concatenate(looked_at))
    found = np.flatnonzero(similarity >= threshold)
    return [Near(int(row), int(best[row]), float(similarity[row])) for row in found]


def families(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the number of the first text that it is near to, over however many steps; its own where it is near
    to none.

    Each text is linked with the nearest other; then the families among themselves, by their first texts, until nothing
    is near. Raises ``ValueError`` as :func:`find_near` does.
    """
    root = list(range(len(texts)))
    first = root[:]
    while len(first) > 1:
        asked = [texts[number] for number in first]
        pairs = [(first[near.row], first[near.other]) for near in find_near(asked, asked, threshold, corpus=texts)]
        for pair in pairs:
            low, high = sorted(_root(root, number) for number in pair)
            root[high] = low
        remaining = [number for number in first if root[number] == number]
        if len(remaining) == len(first):
            break
        first = remaining
    return [_root(root, number) for number in range(len(texts))]


def _root(root: list[int], number: int) -> int:
    while root[number] != number:
        root[number] = number = root[root[number]]
    return number


# -- words and shingles ---------------------------------------------------------------------------------

_SIGNS = "+-*/=<>^%#"
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")
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
_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 1 << 64)
_PLACES = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)


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
        return text.lower().replace("'", "").encode("ascii")
    text = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return text.translate(_TABLE).encode("utf-8")


def _mixed(values: U64) -> U64:
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
    with np.errstate(over="ignore"):
        powers, inverses = (np.full(count, base, dtype=np.uint64) for base in (_BASE, _INVERSE))
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
    with np.errstate(over="ignore"):
        powers, unshift = _powers(len(raw))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(powers * (raw.astype(np.uint64) + np.uint64(1)))])
        hashes = _mixed((sums[ends] - sums[starts]) * unshift[starts])
    before_end = np.searchsorted(starts, np.cumsum(lengths))  # words that start before each text ends
    return hashes, np.diff(before_end, prepend=0)


def _shingles(texts: Sequence[str]) -> tuple[U64, I64]:
    """Hashes of every text's word 3-shingles, repeats included, and how many each text has: (s,), (n,)."""
    hashes, counts = _words([_folded(text) for text in texts])
    text_of = np.repeat(np.arange(len(texts)), counts)
    left = np.repeat(np.cumsum(counts), counts) - np.arange(len(hashes))  # words from here to the text's end
    with np.errstate(over="ignore"):
        shingles = hashes * _PLACES[0]
        for place in (1, 2):
            further = np.concatenate([hashes[place:], np.zeros(min(place, len(hashes)), np.uint64)])
            shingles += np.where(left > place, further * _PLACES[place], np.uint64(0))
        shingles = _mixed(shingles)
    whole = (left >= 3) | ((counts[text_of] < 3) & (left == counts[text_of]))
    return shingles[whole], np.bincount(text_of[whole], minlength=len(texts))


def _telling(texts: Sequence[str], boilerplate: U64) -> tuple[U64, I64]:
    """:func:`_shingles` without boilerplate, except for texts of which nothing would be left."""
    values, counts = _shingles(texts)
    if not len(boilerplate):
        return values, counts
    text_of = np.repeat(np.arange(len(texts)), counts)
    telling = ~_among(values >> (np.uint64(64) - _HASH_BITS), boilerplate)
    telling |= np.bincount(text_of[telling], minlength=len(texts))[text_of] == 0
    return values[telling], np.bincount(text_of[telling], minlength=len(texts))


def _among(values: NDArray, ascending: NDArray) -> NDArray[np.bool_]:
    """Which of ``values`` stand in the sorted array ``ascending``."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[place] == values)


def _distinct(values: U64, counts: I64) -> tuple[U64, I64]:
    """Each text's shingles once, as 48-bit hashes, and the text each belongs to, sorted by text."""
    text_of = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    tagged = (text_of << _HASH_BITS) | (values >> (np.uint64(64) - _HASH_BITS))
    tagged.sort()
    new = np.ones(len(tagged), dtype=bool)
    new[1:] = tagged[1:] != tagged[:-1]
    tagged = tagged[new]
    return tagged & ((np.uint64(1) << _HASH_BITS) - np.uint64(1)), (tagged >> _HASH_BITS).astype(np.int64)


def _boilerplate(texts: Sequence[str]) -> U64:
    """Sorted hashes of the shingles that belong to a template (counted in a sample drawn by content)."""
    if len(texts) > _SAMPLE:
        marks = np.fromiter((zlib.crc32(t.encode("utf-8")) for t in texts), dtype=np.uint32, count=len(texts))
        texts = [texts[place] for place in np.argsort(marks, kind="stable")[:_SAMPLE]]
    if len(texts) < BOILERPLATE_LEAST:
        return np.empty(0, dtype=np.uint64)
    limit = max(min(BOILERPLATE_COUNT, len(texts) / 2), BOILERPLATE_SHARE * len(texts))
    seen = [_distinct(*_shingles(chunk))[0] for chunk in _chunks(texts)]
    values, counts = np.unique(np.concatenate(seen), return_counts=True)
    return values[counts > limit]


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= _CHUNK or place - start == _CHUNK_TEXTS - 1:
            yield texts[start : place + 1]
            start, size = place + 1, 0
    if start < len(texts):
        yield texts[start:]


# -- finding candidates -----------------------------------------------------------------------------------


def _rows_per_band(threshold: float) -> int:
    """The widest band of which 64 hashes hold enough to find a pair at ``threshold`` as often as wanted."""
    for rows in range(HASHES // 2, 1, -1):
        if 1 - (1 - threshold**rows) ** (HASHES // rows) >= _RECALL:
            return rows
    return 1


class _Signatures:
    """``bands``: (n, bands) 32-bit bucket names; ``marks``: (n, 64) low bytes of the minimum hashes;
    ``filled``: the texts that have a word at all.
    """

    def __init__(self, texts: Sequence[str], boilerplate: U64, rows: int) -> None:
        self.bands = np.zeros((len(texts), HASHES // rows), dtype=np.uint32)
        self.marks = np.zeros((len(texts), HASHES), dtype=np.uint8)

        def sign(first: int, chunk: Sequence[str]) -> I64:
            values, counts = _telling(chunk, boilerplate)
            here = np.flatnonzero(counts)
            minima = _minima(values, counts[here])
            self.marks[first + here] = minima.astype(np.uint8)
            for band in range(self.bands.shape[1]):
                self.bands[first + here, band] = _bucket(minima[:, band * rows : (band + 1) * rows])
            return first + here

        chunks = list(_chunks(texts))
        starts = accumulate(map(len, chunks), initial=0)
        with ThreadPoolExecutor(_CORES) as threads:  # numpy lets go of the interpreter while it counts
            filled = list(threads.map(sign, starts, chunks))
        self.filled = np.concatenate([np.empty(0, dtype=np.int64), *filled])


def _multipliers() -> U64:
    with np.errstate(over="ignore"):
        return _mixed(np.arange(1, HASHES + 1, dtype=np.uint64) * np.uint64(_BASE)) | np.uint64(1)


def _minima(values: U64, counts: I64) -> NDArray[np.uint32]:
    """MinHash by multiply-shift of the mixed shingles: (n, 64) for ``n`` texts of ``counts`` > 0 shingles."""
    minima = np.empty((len(counts), HASHES), dtype=np.uint32)
    if not len(counts):
        return minima
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    with np.errstate(over="ignore"):
        for place, multiplier in enumerate(_multipliers()):
            hashed = ((values * multiplier) >> np.uint64(32)).astype(np.uint32)
            minima[:, place] = np.minimum.reduceat(hashed, starts)
    return minima


def _bucket(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore"):
        name = np.zeros(len(minima), dtype=np.uint64)
        for column in minima.T:
            name = _mixed(name * np.uint64(_BASE) + column)
    return (name >> np.uint64(32)).astype(np.uint32)


def _candidates(left: _Signatures, right: _Signatures, band: int, rows: I64) -> Iterator[tuple[I64, I64]]:
    """Pairs (row of left, row of right) that share the band's bucket, at most 32 per row, in blocks."""
    following = (band + 1) % left.bands.shape[1]

    def names(side: _Signatures, chosen: I64) -> U64:
        high, low = side.bands[chosen, band].astype(np.uint64), side.bands[chosen, following].astype(np.uint64)
        return (high << np.uint64(32)) | low

    known = names(right, right.filled)
    order = np.argsort(known, kind="stable")
    known, others = known[order], right.filled[order]
    there = np.zeros(1 << _HOMES, dtype=bool)  # most texts have no partner: that is seen here without a search
    there[known >> np.uint64(64 - _HOMES)] = True
    rows = rows[there[left.bands[rows, band] >> np.uint32(32 - _HOMES)]]
    wanted = names(left, rows)
    bucket = wanted & np.uint64(0xFFFFFFFF00000000)
    low = np.searchsorted(known, bucket)
    high = np.searchsorted(known, bucket | np.uint64(0xFFFFFFFF), side="right")
    # In a crowded bucket, take the window around where the next band's bucket would put this text.
    place = np.searchsorted(known, wanted) - BUCKET_LIMIT // 4
    low = np.where(high - low > BUCKET_LIMIT, np.clip(place, low, np.maximum(high - BUCKET_LIMIT, low)), low)
    count = np.minimum(high - low, BUCKET_LIMIT)
    rows, low, count = rows[count > 0], low[count > 0], count[count > 0]
    total = np.cumsum(count)
    for start in range(0, len(rows), _PAIRS // BUCKET_LIMIT):
        part = slice(start, start + _PAIRS // BUCKET_LIMIT)
        each, first = count[part], total[part][0] - count[part][0]
        offset = np.arange(each.sum()) - np.repeat(total[part] - each - first, each)
        yield np.repeat(rows[part], each), others[np.repeat(low[part], each) + offset]


def _agreement(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> I64:
    """How many of the 64 marks agree, row by row: eight bytes are added at a time."""
    eights = (left == right).view(np.uint64)
    with np.errstate(over="ignore"):
        total = (eights.sum(axis=1) * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return total.astype(np.int64)


def _likeliest(rows: I64, near: I64, agreement: I64, threshold: float) -> tuple[I64, I64]:
    """The pairs worth an exact look: within three standard errors of the threshold, and a row's best two."""
    likely = agreement >= HASHES * threshold - 3 * np.sqrt(HASHES * threshold * (1 - threshold))
    rows, near, agreement = rows[likely], near[likely], agreement[likely]
    order = np.argsort(rows * (HASHES + 1) + HASHES - agreement, kind="stable")
    rows, near = rows[order], near[order]
    kept = np.ones(len(rows), dtype=bool)
    kept[2:] = rows[2:] != rows[:-2]
    return rows[kept], near[kept]


def _jaccard(
    texts: Sequence[str], others: Sequence[str], rows: I64, near: I64, boilerplate: U64
) -> NDArray[np.float64]:
    """Exact Jaccard similarity of the pairs ``(texts[rows[i]], others[near[i]])``: (n,)."""
    result = np.zeros(len(rows))
    sizes = np.fromiter((len(texts[r]) + len(others[o]) for r, o in zip(rows, near, strict=True)), np.int64, len(rows))
    block = np.maximum(np.cumsum(sizes) // (4 * _CHUNK), np.arange(len(rows)) >> 14)
    for number in range(int(block[-1]) + 1 if len(block) else 0):
        here = np.flatnonzero(block == number)
        if not len(here):
            continue
        mine, row_at = np.unique(rows[here], return_inverse=True)
        theirs, near_at = np.unique(near[here], return_inverse=True)
        chosen = [*(texts[each] for each in mine), *(others[each] for each in theirs)]
        values, text_of = _distinct(*_telling(chosen, boilerplate))
        count = np.bincount(text_of, minlength=len(chosen))
        pairs = [_spread(side, count) for side in (row_at, near_at + len(mine))]
        tagged = np.concatenate([(pair.astype(np.uint64) << _HASH_BITS) | values[place] for pair, place in pairs])
        tagged.sort()
        twice = tagged[1:][tagged[1:] == tagged[:-1]] >> _HASH_BITS  # once from each side
        shared = np.bincount(twice.astype(np.int64), minlength=len(here))
        total = count[row_at] + count[near_at + len(mine)]
        result[here] = shared / np.maximum(total - shared, 1)
    return result


def _spread(side: I64, count: I64) -> tuple[I64, I64]:
    """Places of the shingles of text ``side[i]``, for every pair ``i``: (pair of each, place of each)."""
    first, each = np.cumsum(count) - count, count[side]
    offset = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    return np.repeat(np.arange(len(side)), each), np.repeat(first[side], each) + offset
