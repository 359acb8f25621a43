"""chrF of many texts among each other: for medoids, where the texts meet again and again.

:func:`sft.metrics.chrf` counts the n-grams of two texts anew for every pair. Here each text is counted once, and what
some of them share is one sparse product: the 380 pairs of twenty sentences take a millisecond, not forty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sft.metrics.overlap import CHAR_ORDER
from sft.metrics.text import nfc

__all__ = ["CountedTexts"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

#: Odd numbers that n-grams are hashed with, modulo 2**64: for the place of a letter in the n-gram, for how often the
#: text had the n-gram before, and for the order.
_PLACE, _BEFORE, _ORDER = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


class CountedTexts:
    """Texts with their character n-grams counted."""

    def __init__(self, texts: Sequence[str]) -> None:
        plain = ["".join(nfc(text).split()) for text in texts]
        self._lengths = np.array([len(text) for text in plain], dtype=np.int64)
        texts_of, keys, orders = _ngrams(plain, self._lengths)
        _, columns, counts = np.unique(keys, return_inverse=True, return_counts=True)
        kept = counts[columns] > 1  # what one text alone has is shared with nobody
        place = np.flatnonzero(kept)[np.argsort(texts_of[kept], kind="stable")]
        self._columns = columns[place]
        self._parts = 1.0 / (self._lengths[texts_of[place]] - orders[place])
        self._starts = np.searchsorted(texts_of[place], np.arange(len(texts) + 1))
        self._seat = np.empty(len(counts), dtype=np.int64)

    def chrf(self, chosen: Sequence[int] | I64) -> F64:
        """chrF with beta 1, in points, between all of the texts at the places ``chosen``: shape (n, n), symmetric.

        What ``metrics.chrf`` gives for each pair, to the ninth digit.
        """
        from scipy.sparse import csr_matrix

        places = np.array(chosen)
        spans = [slice(self._starts[place], self._starts[place + 1]) for place in places]
        columns, count = self._renumbered(np.concatenate([self._columns[span] for span in spans]))
        parts = np.concatenate([self._parts[span] for span in spans])
        ends = np.cumsum([0, *(span.stop - span.start for span in spans)])
        shape = (len(spans), max(1, count))
        # Not a product of full matrices: those are so small that starting threads for them takes longer, and threads
        # add up in another order each time.
        shares, counts = (csr_matrix((data, columns, ends), shape=shape) for data in (parts, np.ones(len(parts))))
        precision = (shares @ counts.T).toarray()
        lengths = self._lengths[places]
        orders = np.minimum(np.minimum.outer(lengths, lengths), CHAR_ORDER)
        both = (precision + precision.T) * np.maximum(orders, 1)
        found = np.divide(200.0 * precision * precision.T, both, where=both > 0, out=np.zeros_like(both))
        found[(places[:, None] == places) & (orders > 0)] = 100.0  # what nobody else has was left out
        return np.round(found, 9)

    def _renumbered(self, columns: I64) -> tuple[I64, int]:
        """Columns numbered from 0 without gaps, and how many there are."""
        order = np.arange(len(columns))
        self._seat[columns] = order  # of places with one column the last is kept, for all of them
        seat = self._seat[columns]
        return (np.cumsum(seat == order) - 1)[seat], int((seat == order).sum())


def _ngrams(texts: Sequence[str], lengths: I64) -> tuple[I64, U64, I64]:
    """Every n-gram of every text: which text, a hash of the n-gram and of its number there, and its order less one.

    The second "an" of a text counts as another n-gram than the first, so that what two texts share is an intersection
    of sets.
    """
    joined = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(joined))
    found: list[tuple[I64, U64, I64]] = []
    grams = np.zeros(len(joined), dtype=np.uint64)
    for order in range(CHAR_ORDER):
        grams = grams[: max(0, len(joined) - order)] * _PLACE + joined[order:] + np.uint64(1)
        whole = left[: len(grams)] > order
        texts_here, keys = text_of[: len(grams)][whole], grams[whole]
        place = np.lexsort((keys, texts_here))
        texts_here, keys = texts_here[place], keys[place]
        first = np.ones(len(keys), dtype=bool)
        first[1:] = (texts_here[1:] != texts_here[:-1]) | (keys[1:] != keys[:-1])
        starts = np.flatnonzero(first)
        before = np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
        keys = keys + before.astype(np.uint64) * _BEFORE + np.uint64(order) * _ORDER
        found.append((texts_here, keys, np.full(len(keys), order, dtype=np.int64)))
    texts_found, keys_found, orders = zip(*found, strict=True)
    return np.concatenate(texts_found), np.concatenate(keys_found), np.concatenate(orders)
