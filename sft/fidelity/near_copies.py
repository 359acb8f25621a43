"""Which texts are, but for a few characters, a text of another list.

Nearly the same means an edit similarity (``metrics.edit_similarity``, after folding) of 95 % or more. Texts are
compared with rapidfuzz, but only with candidates: an edit destroys at most eight of a text's 8-grams, so two texts that
are nearly the same share one of the rarest 8-grams of either, if enough of them are looked at (the prefix filter of
set-similarity joins; Chaudhuri, Ganti & Kaushik 2006). Work is linear in the number of texts: of one text at most
:data:`CANDIDATES` are compared, those that share most of these 8-grams. The price: where hundreds of texts come out of
one template, a pair may, rarely, be missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sft.metrics import nfc

__all__ = ["folded", "nearly_in"]

#: Edit similarity from which a text is nearly another one.
ALIKE = 0.95
#: Letters of an n-gram, and other texts that one text is compared with at most.
LETTERS, CANDIDATES = 8, 64
#: Places looked up for one text at most: beyond, its rarest n-grams are so common that the likeliest are among these.
_PLACES = 20_000
#: Odd number that letters are hashed with by their place, modulo 2**64.
_PLACE = np.uint64(0x9E3779B97F4A7C15)

U64 = NDArray[np.uint64]


def folded(text: str) -> str:
    """``text`` in NFC, case folded, white space collapsed: what a copy is compared by."""
    return " ".join(nfc(text.casefold()).split())


def nearly_in(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each of ``texts`` is one of ``others``, or nearly so; both are folded first."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    known = list(dict.fromkeys(map(folded, others)))
    exact = set(known)
    grams = [np.unique(_hashed(text)) for text in known]
    keys = np.concatenate(grams) if grams else np.zeros(0, dtype=np.uint64)
    place = np.argsort(keys, kind="stable")
    keys = keys[place]
    homes = np.repeat(np.arange(len(known)), [len(one) for one in grams])[place]
    answers: dict[str, bool] = {}
    for text in dict.fromkeys(map(folded, texts)):
        answers[text] = text in exact
        if answers[text] or not (allowed := math.floor(len(text) * (1 / ALIKE - 1))):
            continue
        likely = _candidates(np.unique(_hashed(text)), allowed, keys, homes)
        choices = [known[home] for home in likely if abs(len(known[home]) - len(text)) <= allowed]
        found = process.extractOne(text, choices, scorer=Levenshtein.normalized_similarity, score_cutoff=ALIKE)
        answers[text] = found is not None
    return np.array([answers[folded(text)] for text in texts], dtype=bool)


def _candidates(mine: U64, allowed: int, keys: U64, homes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Texts that share one of the rarest n-grams with ``mine``: more of them than ``allowed`` edits can destroy."""
    first, last = np.searchsorted(keys, mine, side="left"), np.searchsorted(keys, mine, side="right")
    rarest = np.argsort(last - first, kind="stable")[: LETTERS * allowed + 1]
    found, places = [], 0
    for gram in rarest[last[rarest] > first[rarest]]:
        found.append(homes[first[gram] : last[gram]])
        places += len(found[-1])
        if places > _PLACES:
            break
    if not found:
        return np.zeros(0, dtype=np.intp)
    homes_found, shared = np.unique(np.concatenate(found), return_counts=True)
    return homes_found[np.argsort(-shared, kind="stable")[:CANDIDATES]]


def _hashed(text: str) -> U64:
    """A number for every n-gram of ``text``, in its order."""
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    count = len(letters) - LETTERS + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    grams = np.zeros(count, dtype=np.uint64)
    for number in range(LETTERS):
        grams = grams * _PLACE + letters[number : number + count] + np.uint64(1)
    return grams
