"""Which training prompts are most like a held-out one: cosines of character TF-IDF.

Those of scikit-learn's ``TfidfVectorizer(analyzer="char_wb")``, but for the order of the n-grams, and several times as
fast: n-grams lie inside words, so each distinct word is cut up once, and a text is the sum of its words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.runs.machine import CORES

__all__ = ["NEIGHBOURS", "CharacterVectors", "nearest_prompts"]

#: Letters of an n-gram, and the odd number that they are hashed with by their place, modulo 2**64.
SHORTEST, LONGEST, _PLACE = 3, 5, np.uint64(0x9E3779B97F4A7C15)
#: Nearest prompts that are looked for: RK takes the medoid of so many.
NEIGHBOURS = 20
#: Cells of one dense block of similarities: 80 MB.
_BLOCK = 10_000_000
#: An n-gram is common when it is in this share of the texts.
_COMMON = 0.02
#: Similarities closer than this are ties: sums of floats may differ in the last digits.
_TIE = 9


class CharacterVectors:
    """Unit vectors of texts in NFC: 3- to 5-grams inside words, weighed by TF-IDF as fitted on ``texts``.

    It needs neither a language nor a tokenizer. ``fitted``: those of ``texts``, a sparse row each. Raises
    ``ValueError`` where no text has a word.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        words, had = _words(texts)
        if not words:
            raise ValueError("no text has a word, so there are no n-grams to compare")
        self._grams = _Grams(words)
        counts = _sorted(had @ self._grams.of(words))
        self._weights = TfidfTransformer().fit(counts)
        self.fitted = self._weights.transform(counts, copy=False)

    def of_blocks(self, texts: Sequence[str], rows: int) -> Any:
        """A function from the place of a text to the vectors of it and those behind it, ``rows`` of them at most."""
        words, had = _words(texts)
        cut = self._grams.of(words)
        return lambda start: self._weights.transform(_sorted(had[start : start + rows] @ cut), copy=False)


class _Grams:
    """The 3- to 5-grams of words with a blank at either end, each a hash of 64 bits; in the order of these."""

    def __init__(self, words: Sequence[str]) -> None:
        _, hashes = _cut(words)
        self._known = np.unique(hashes)

    def of(self, words: Sequence[str]) -> Any:
        """How often each word has each n-gram that is known: sparse, (words, n-grams)."""
        from scipy.sparse import csr_matrix

        rows, hashes = _cut(words)
        columns = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        there = self._known[columns] == hashes
        shape = (len(words), len(self._known))
        return csr_matrix((np.ones(int(there.sum())), (rows[there], columns[there])), shape=shape)


def _cut(words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Of every n-gram of every word: the place of the word, and the hash of its letters."""
    joined = "".join(f" {word} " for word in words).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(word) + 2 for word in words], dtype=np.int64)
    word_of = np.repeat(np.arange(len(words)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(letters))
    rows, hashes = [], []
    grams = np.zeros(len(letters), dtype=np.uint64)
    for size in range(1, LONGEST + 1):
        grams = grams[: max(0, len(letters) - size + 1)] * _PLACE + letters[size - 1 :] + np.uint64(1)
        if size >= SHORTEST:
            whole = left[: len(grams)] >= size
            rows.append(word_of[: len(grams)][whole])
            hashes.append(grams[whole])
    return np.concatenate(rows), np.concatenate(hashes)


def _words(texts: Sequence[str]) -> tuple[list[str], Any]:
    """The words of texts in NFC and small letters, each once, and how often each text has each: sparse."""
    from scipy.sparse import csr_matrix

    numbers: dict[str, int] = {}
    found: list[int] = []
    ends = [0]
    for text in texts:
        found += [numbers.setdefault(w, len(numbers)) for w in unicodedata.normalize("NFC", text).lower().split()]
        ends.append(len(found))
    had = csr_matrix((np.ones(len(found)), found, ends), shape=(len(texts), len(numbers)))
    had.sum_duplicates()
    return list(numbers), had


def _sorted(counts: Any) -> Any:
    """Columns in order, for sums of floats hang on it."""
    counts.sort_indices()
    return counts


@lru_cache(maxsize=1)
def nearest_prompts(
    known: tuple[str, ...], asked: tuple[str, ...], block: int = _BLOCK
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of each text in ``asked``, the places of the twenty most similar ones in ``known``, nearest first; their cosines.

    Both of shape (asked, 20), or fewer where ``known`` is smaller; of equals the first comes first. ``block``: cells
    of a dense block of similarities.

    Vectors are character TF-IDF fitted on ``known``; the last digits of the sums are rounded off. The last answer is
    kept: R, RK and the parts by distance to training ask the same.
    """
    vectors = CharacterVectors(known)
    common = _common(vectors.fitted, block)
    dense, sparse = vectors.fitted[:, common].toarray().T, vectors.fitted[:, ~common].T.tocsr()
    count = min(NEIGHBOURS, len(known))
    places, cosines = np.empty((len(asked), count), dtype=np.intp), np.empty((len(asked), count))
    rows = max(1, block // max(len(known), len(dense)))
    block_from = vectors.of_blocks(asked, rows)

    def fill(start: int) -> None:
        these = block_from(start)
        similarity = (these[:, ~common] @ sparse).toarray()
        similarity += these[:, common].toarray() @ dense
        least = np.round(np.partition(similarity, len(known) - count, axis=1)[:, len(known) - count], _TIE)
        for row, (of_one, bound) in enumerate(zip(similarity, least, strict=True), start):
            near = np.flatnonzero(of_one >= bound - 10.0**-_TIE)  # rounding all of them takes longer than the sums
            values = np.round(of_one[near], _TIE)
            near, values = near[values >= bound], values[values >= bound]
            order = np.argsort(-values, kind="stable")[:count]
            places[row], cosines[row] = near[order], values[order]

    with ThreadPoolExecutor(CORES) as threads:  # products of matrices leave Python's lock to others
        list(threads.map(fill, range(0, len(asked), rows)))
    return places, cosines


def _common(vectors: Any, block: int) -> NDArray[np.bool_]:
    """The n-grams that so many texts have that their products go faster as full matrices than number by number.

    At most ``block`` cells of them. ``vectors``: sparse, shape (texts, n-grams).
    """
    texts, ngrams = vectors.shape
    having = np.bincount(vectors.indices, minlength=ngrams)
    most = np.argsort(-having, kind="stable")[: block // texts]
    common = np.zeros(ngrams, dtype=bool)
    common[most] = having[most] > _COMMON * texts
    return common
