"""Near-duplicate prompts: which texts of one list nearly repeat a text of another.

*Near* means that the Jaccard similarity of the two texts' word 3-shingles reaches a threshold. A text of
one or two words is one shingle, so short texts are near only when their words are the same.

- **Words.** Without what nobody sees, after NFKC and case folding: runs of letters, digits and marks. Scripts
  written without spaces (Chinese, Japanese, Thai, ...), emoji, and signs that change a meaning
  (``+ - * / = < > ^ % #``) count one character as one word, so that "2 + 3" is not "2 - 3". Apostrophes vanish; a
  hyphen inside a word parts it.
- **Boilerplate.** A shingle in more than a tenth of the texts (and more than 50 of them, or more than half
  of a set smaller than 100; fewer than 8 texts have none) is a template's, not a text's: it is left out of the
  comparison, unless nothing else is left. Otherwise a long instruction shared by all prompts would make
  every prompt the near-duplicate of every other.
- **Slots.** ``alarm[yes]`` and ``alarm[no]``, each in half of the texts, are boilerplate too, and yet a difference. So
  where each of two texts has pieces of the template (shingles, or the last words, half as frequent as boilerplate)
  that the other has not, those count among what only one of them has. Where but one of two texts has some,
  they count for nothing: a typing error, a word put in or a missing instruction makes no other question.
- **Finding.** 64 minimum hashes per text (Broder 1997) are cut into bands (Leskovec, Rajaraman & Ullman,
  *Mining of Massive Datasets*, ch. 3) wide enough to find at least 98 % of the pairs at the threshold and
  more of those above it. Every candidate's similarity is then worked out from the shingles, so a pair that
  is reported is near (shingles are compared by 48-bit hash).
- **No quadratic case.** In one band a text meets at most 32 others: those of its bucket that agree with it
  furthest into the next band, and in how they fill the template. By their hashes the two likeliest are compared
  exactly, and after 8 exact comparisons in vain a text is let go. Work is linear in the number of texts, whatever
  they say. The price: in a family of hundreds of half-alike texts a pair may, rarely, be missed.

Hashes are fixed: the same texts give the same answer in every process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations import shingles
from sft.demonstrations.demonstration import HeldOut, folded, prompt_text
from sft.demonstrations.shingles import I64, U64, Boilerplate, Pieces, within_runs
from sft.demonstrations.similarity import counted_differences, similarities

__all__ = ["Near", "families", "find_near", "joined"]

HASHES = 64
BUCKET_LIMIT = 32
EXACT_LIMIT = 8
_RECALL = 0.98  # wanted at the threshold itself; above it more
_PAIRS = 1 << 18  # candidate pairs looked at together
_ROWS = 1 << 20  # rows whose buckets are looked up together
_HOMES = 24  # leading bits of a bucket's name
_CORES = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Near:
    """Text ``row`` of the first list is near text ``other`` of the second; ``similarity`` is in (0, 1]."""

    row: int
    other: int
    similarity: float


def find_near(
    texts: Sequence[str], others: Sequence[str], threshold: float, *, corpus: Sequence[str] | Boilerplate | None = None
) -> list[Near]:
    """For each of ``texts`` the nearest found among ``others``, if its similarity reaches ``threshold``.

    ``threshold``: above 0, at most 1. ``corpus``: all texts of the set, where ``texts`` and ``others`` are a part of
    it, to tell what is boilerplate; or that itself. At most one :class:`Near` per text, in the order of ``texts``.
    Where both are one and the same list, no text is its own nearest. Raises ``ValueError`` for another threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a similarity threshold lies above 0 and at most at 1, not at {threshold}")
    whole = [*texts, *others] if corpus is None else corpus
    boilerplate = whole if isinstance(whole, Boilerplate) else shingles.boilerplate_of(whole)
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
            rows, near = _likeliest(rows, near, _estimated(left, right, rows, near), threshold)
            pairs = rows * len(others) + near
            new = ~shingles.among(pairs, compared)
            looked_at.append(pairs[new])
            rows, near = rows[new], near[new]
            characters = left.characters[rows].astype(np.int64) + right.characters[near]
            exact = similarities(texts, others, rows, near, characters, boilerplate)
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
    boilerplate = shingles.boilerplate_of(texts)
    while len(first) > 1:
        asked = [texts[number] for number in first]
        found = find_near(asked, asked, threshold, corpus=boilerplate)
        pairs = [(first[near.row], first[near.other]) for near in found]
        for one, other in pairs:
            _join(root, one, other)
        remaining = [number for number in first if root[number] == number]
        if len(remaining) == len(first):
            break
        first = remaining
    return [_root(root, number) for number in range(len(texts))]


def _root(root: list[int], number: int) -> int:
    while root[number] != number:
        root[number] = number = root[root[number]]
    return number


def _join(root: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(root, one), _root(root, other)))
    root[high] = low


# -- finding candidates -----------------------------------------------------------------------------------


def _rows_per_band(threshold: float) -> int:
    """The widest band of which 64 hashes hold enough to find a pair at ``threshold`` as often as wanted."""
    for rows in range(HASHES // 2, 1, -1):
        if 1 - (1 - threshold**rows) ** (HASHES // rows) >= _RECALL:
            return rows
    return 1


class _Signatures:
    """``bands``: (n, bands) 32-bit bucket names; ``marks``: (n, 64) low bytes of the minimum hashes; ``filled``: the
    texts that have a word at all; ``characters``, ``sizes``: how many a text has, and how many telling shingles. Of its
    pieces of the template ``pieces``: (n, 4) a bit for each; ``filling``: (n, bands) low bytes of their minimum hashes.
    """

    def __init__(self, texts: Sequence[str], boilerplate: Boilerplate, rows: int) -> None:
        self.bands = np.zeros((len(texts), HASHES // rows), dtype=np.uint32)
        self.marks = np.zeros((len(texts), HASHES), dtype=np.uint8)
        self.sizes = np.zeros(len(texts), dtype=np.int32)
        self.characters = np.zeros(len(texts), dtype=np.int32)
        self.pieces = np.zeros((len(texts), 4), dtype=np.uint64)
        self.filling = np.zeros(self.bands.shape, dtype=np.uint8)

        def sign(first: int, chunk: Pieces) -> I64:
            found = shingles.grown(chunk, boilerplate)
            counts = within_runs(np.add, found.telling[1], found.first)
            here = np.flatnonzero(counts)
            lengths = np.fromiter(map(len, chunk.texts), dtype=np.int32, count=len(chunk.texts))
            self.characters[first : first + len(lengths)] = within_runs(np.add, lengths, chunk.first)
            self.sizes[first + here] = counts[here]
            minima = within_runs(np.minimum, _minima(*found.telling), found.first)[here]
            self.marks[first + here] = minima.astype(np.uint8)
            for band in range(self.bands.shape[1]):
                self.bands[first + here, band] = _bucket(minima[:, band * rows : (band + 1) * rows])
            owned = within_runs(np.add, found.pieces[1], found.first) + found.ends[1]
            some = np.flatnonzero(owned)
            whole, ends = (_bits(*each) for each in (found.pieces, found.ends))
            self.pieces[first + some] = (within_runs(np.bitwise_or, whole, found.first) | ends)[some]
            inside, behind = (_minima(*each, HASHES // rows) for each in (found.pieces, found.ends))
            filling = np.minimum(within_runs(np.minimum, inside, found.first), behind)
            self.filling[first + some] = filling[some].astype(np.uint8)
            return first + here

        filled, asked, first = [np.empty(0, dtype=np.int64)], deque[Future[I64]](), 0
        with ThreadPoolExecutor(_CORES) as threads:  # numpy lets go of the interpreter while it counts
            for chunk in shingles.chunks(texts):
                asked.append(threads.submit(sign, first, chunk))
                first += len(chunk.texts)
                if len(asked) > 2 * _CORES:  # texts may be on disk, and not all of them fit into memory
                    filled.append(asked.popleft().result())
        self.filled = np.concatenate([*filled, *(one.result() for one in asked)])


_MULTIPLIERS = shingles.mixed(np.arange(1, HASHES + 1, dtype=np.uint64) * np.uint64(shingles.BASE)) | np.uint64(1)


def _minima(values: U64, counts: I64, hashes: int = HASHES) -> NDArray[np.uint32]:
    """MinHash by multiply-shift of the mixed shingles: (n, hashes) for ``n`` texts of ``counts`` shingles each; of none
    the highest number.
    """
    minima = np.full((len(counts), hashes), 0xFFFFFFFF, dtype=np.uint32)
    here = np.flatnonzero(counts)
    if not len(here):
        return minima
    starts = np.cumsum(counts[here]) - counts[here]
    for place, multiplier in enumerate(_MULTIPLIERS[:hashes]):
        hashed = ((values * multiplier) >> np.uint64(32)).astype(np.uint32)
        minima[here, place] = np.minimum.reduceat(hashed, starts)
    return minima


def _bits(values: U64, counts: I64) -> U64:
    """For ``n`` texts of ``counts`` hashes each, 256 bits in which those of its hashes are set: (n, 4)."""
    found, here = np.zeros((len(counts), 4), dtype=np.uint64), np.flatnonzero(counts)
    bits = np.zeros((len(values), 4), dtype=np.uint64)
    place = (values >> np.uint64(62)).astype(np.int64)
    bits[np.arange(len(values)), place] = np.uint64(1) << ((values >> np.uint64(56)) & np.uint64(63))
    if len(here):
        found[here] = np.bitwise_or.reduceat(bits, np.cumsum(counts[here]) - counts[here], axis=0)
    return found


def _bucket(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    name = np.zeros(len(minima), dtype=np.uint64)
    for column in minima.T:
        name = shingles.mixed(name * np.uint64(shingles.BASE) + column)
    return (name >> np.uint64(32)).astype(np.uint32)


def _candidates(left: _Signatures, right: _Signatures, band: int, rows: I64) -> Iterator[tuple[I64, I64]]:
    """Pairs (row of left, row of right) that share the band's bucket, at most 32 per row, in blocks."""
    following = (band + 1) % left.bands.shape[1]

    def names(side: _Signatures, chosen: I64) -> U64:
        high, low = (side.bands[chosen, each].astype(np.uint64) for each in (band, following))
        one, other = (side.filling[chosen, each].astype(np.uint64) for each in (band, following))
        return (high << np.uint64(32)) | (low >> np.uint64(16) << np.uint64(16)) | (one << np.uint64(8)) | other

    known = names(right, right.filled)
    order = np.argsort(known, kind="stable")
    known, others = known[order], right.filled[order]
    there = np.zeros(1 << _HOMES, dtype=bool)  # most texts have no partner: that is seen here without a search
    there[known >> np.uint64(64 - _HOMES)] = True
    for first in range(0, len(rows), _ROWS):  # what is worked out for a row is forgotten soon
        yield from _within(left, band, rows[first : first + _ROWS], names, there, known, others)


def _within(
    left: _Signatures,
    band: int,
    rows: I64,
    names: Callable[[_Signatures, I64], U64],
    there: NDArray[np.bool_],
    known: U64,
    others: I64,
) -> Iterator[tuple[I64, I64]]:
    """Of some rows. ``known``: names of buckets in their order, ``others``: the row of the right that has each."""
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


def _estimated(left: _Signatures, right: _Signatures, rows: I64, near: I64) -> NDArray[np.float64]:
    """Roughly the similarity of the pairs, of 64: how many marks agree, less what they differ in as their template is
    filled in.
    """
    eights = (left.marks[rows] == right.marks[near]).view(np.uint64)  # eight bytes are added at a time
    agreement = (eights.sum(axis=1) * np.uint64(0x0101010101010101)) >> np.uint64(56)
    mine, theirs = left.pieces[rows], right.pieces[near]
    different = counted_differences(*(np.bitwise_count(own).sum(axis=1) for own in (mine & ~theirs, theirs & ~mine)))
    size = np.maximum(left.sizes[rows], right.sizes[near])
    return np.asarray(agreement * (size / np.maximum(size + different, 1)))


def _likeliest(rows: I64, near: I64, estimated: NDArray[np.float64], threshold: float) -> tuple[I64, I64]:
    """The pairs worth an exact look: within three standard errors of the threshold, and a row's best two."""
    likely = estimated >= HASHES * threshold - 3 * np.sqrt(HASHES * threshold * (1 - threshold))
    rows, near, estimated = rows[likely], near[likely], estimated[likely]
    order = np.argsort(rows * 1024 - np.rint(estimated * 8).astype(np.int64), kind="stable")
    rows, near = rows[order], near[order]
    kept = np.ones(len(rows), dtype=bool)
    kept[2:] = rows[2:] != rows[:-2]
    return rows[kept], near[kept]


# -- which held-out prompts are one observation ---------------------------------------------------------------
# Prompts of one group are. So are, though nobody has said so, wordings of one question and questions with one answer:
# six facts in twenty wordings each are six observations, and an interval over 120 covers half as often as it says.

#: Equal references join their prompts from so many words on, or from so many characters where a script has no spaces
#: between words. Shorter ones (labels, numbers, "yes") are equal by chance.
WORDS, CHARACTERS = 4, 24
#: Word-shingle Jaccard similarity from which two prompts are near-duplicates; the splits' own.
ALIKE = 0.8


def joined(held_out: Sequence[HeldOut]) -> list[HeldOut]:
    """``held_out`` with one cluster for all that hang together, named as the first of them was.

    Prompts hang together that share a cluster, that have the same references, each of some length (case and white space
    aside), or that are near-duplicates; and whatever hangs together with those.
    """
    number = {name: place for place, name in enumerate(dict.fromkeys(item.cluster for item in held_out))}
    names, root = list(number), list(range(len(number)))
    seen: dict[frozenset[str], str] = {}
    for item in held_out:
        texts = frozenset(map(folded, item.references))
        if all(len(text.split()) >= WORDS or len(text) >= CHARACTERS for text in texts):
            _join(root, number[seen.setdefault(texts, item.cluster)], number[item.cluster])
    if len(held_out) >= shingles.BOILERPLATE_LEAST:  # of fewer nobody can tell what is the form that all have
        alike = families([prompt_text(item.prompt) for item in held_out], ALIKE)
        for item, first in zip(held_out, alike, strict=True):
            _join(root, number[held_out[first].cluster], number[item.cluster])
    return [replace(item, cluster=names[_root(root, number[item.cluster])]) for item in held_out]
