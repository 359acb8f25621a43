"""Scores of a completion against one expert completion, in points from 0 to 100.

Plain functions ``score(prediction, reference)``; identical texts score 100 in every script. Several
references are the caller's affair (``fidelity`` takes the mean). All texts are compared in NFC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib import metadata

from rapidfuzz.distance import LCSseq, Levenshtein

from sft.metrics.text import nfc, plain_words, words

__all__ = [
    "METRICS",
    "chrf",
    "chrf2",
    "edit_similarity",
    "exact_match",
    "exact_match_normalised",
    "rouge_l",
    "score",
    "signatures",
    "token_f1",
]

#: Longest character n-gram of chrF.
CHAR_ORDER = 6


def _matches(prediction: str, reference: str) -> list[int]:
    """How many character n-grams the texts share, shape (6,), one count per order from 1 to 6.

    Each n-gram becomes one integer, exactly: orders 1 to 3 are numbers in base A, the letters the two
    texts use; orders 4 to 6 are pairs of the (numbered) 3-grams at their two ends. Order n is shifted by
    (n - 1) * ``limit``, so one sort counts all of them, four times as fast as counting strings.
    """
    import numpy as np  # here, for a page that experts wait for compares nothing when it starts

    joined = np.frombuffer((prediction + reference).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    alphabet, letters = np.unique(joined, return_inverse=True)
    pairs = letters[:-1] * alphabet.size + letters[1:]
    triples, ends = np.unique(pairs[:-1] * alphabet.size + letters[2:], return_inverse=True)
    limit = max(alphabet.size**3, triples.size**2)
    orders = [letters, pairs, triples[ends]]
    orders += [ends[: -(n - 3)] * triples.size + ends[n - 3 :] for n in range(4, CHAR_ORDER + 1)]
    shifted = [codes + n * limit for n, codes in enumerate(orders)]
    cut = len(prediction)
    written, written_counts = np.unique(
        np.concatenate([codes[: max(0, cut - n)] for n, codes in enumerate(shifted)]), return_counts=True
    )
    wanted, wanted_counts = np.unique(np.concatenate([codes[cut:] for codes in shifted]), return_counts=True)
    place = np.minimum(np.searchsorted(wanted, written), wanted.size - 1)
    shared = wanted[place] == written
    counts = np.minimum(written_counts[shared], wanted_counts[place[shared]])
    found = np.bincount(written[shared] // limit, weights=counts, minlength=CHAR_ORDER)
    return [int(count) for count in found]


@lru_cache(maxsize=128)
def _precision_recall(prediction: str, reference: str) -> tuple[float, float]:
    """n-gram precision and recall, averaged over the orders that both texts are long enough for."""
    prediction, reference = ("".join(nfc(text).split()) for text in (prediction, reference))
    orders = min(len(prediction), len(reference), CHAR_ORDER)
    if not orders:
        return 0.0, 0.0
    matches = _matches(prediction, reference)
    precision = sum(matches[n] / (len(prediction) - n) for n in range(orders)) / orders
    recall = sum(matches[n] / (len(reference) - n) for n in range(orders)) / orders
    return precision, recall


def chrf(prediction: str, reference: str, beta: float = 1.0) -> float:
    """Character n-gram F-score (Popović 2015): sacreBLEU's sentence chrF at the given ``beta``.

    sacreBLEU's defaults otherwise: orders 1 to 6, no word n-grams, white space ignored, case kept,
    effective order (so one-letter answers can score 100). Counted here because that is four times as fast
    and serves both betas at once; a test holds it to sacreBLEU's own numbers.
    ``beta=1`` weighs precision and recall alike; 2, the usual choice, pays ramblers.
    """
    precision, recall = _precision_recall(prediction, reference)
    if precision + recall == 0:
        return 0.0
    return 100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def chrf2(prediction: str, reference: str) -> float:
    """sacreBLEU's default sentence chrF, recall weighing four times as much as precision."""
    return chrf(prediction, reference, beta=2.0)


def _f1(matches: int, written: int, wanted: int) -> float:
    """100 times the harmonic mean of precision and recall."""
    return 200.0 * matches / (written + wanted) if matches else 0.0


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F-score over the longest common subsequence of words (Lin 2004).

    Equal to rouge-score's default (no stemmer) on ASCII. Where that one has no words at all (other
    scripts, "{}"), these have: see ``words``; a reference of bare symbols is compared by its white-space
    separated pieces. Not Lsum: line breaks are white space.
    """
    written, wanted = words(prediction), words(reference)
    if not wanted:
        written, wanted = tuple(nfc(prediction).split()), tuple(nfc(reference).split())
    # Numbered, so that the result cannot hang on the hashes of strings.
    numbers: dict[str, int] = {}
    common = LCSseq.similarity(
        [numbers.setdefault(word, len(numbers)) for word in written],
        [numbers.setdefault(word, len(numbers)) for word in wanted],
    )
    return _f1(common, len(written), len(wanted))


def token_f1(prediction: str, reference: str) -> float:
    """F-score over the bags of words (SQuAD, Rajpurkar et al. 2016; normalisation of ``plain_words``)."""
    written, wanted = plain_words(prediction), plain_words(reference)
    return _f1((Counter(written) & Counter(wanted)).total(), len(written), len(wanted))


def edit_similarity(prediction: str, reference: str) -> float:
    """100 minus the Levenshtein distance in characters as a percentage of the longer text."""
    return 100.0 * Levenshtein.normalized_similarity(nfc(prediction), nfc(reference))


def exact_match(prediction: str, reference: str) -> float:
    """100 where the texts agree to the letter (NFC; white space at the two ends aside), else 0."""
    return 100.0 * (nfc(prediction).strip() == nfc(reference).strip())


def exact_match_normalised(prediction: str, reference: str) -> float:
    """100 where the texts agree but for case, white space and punctuation around words, else 0."""
    return 100.0 * (plain_words(prediction) == plain_words(reference))


#: Metric name -> function. Names are columns of ``scores.jsonl`` and keys of a recipe's ``fidelity.bar``.
METRICS: dict[str, Callable[[str, str], float]] = {
    "chrf": chrf,
    "chrf2": chrf2,
    "rouge_l": rouge_l,
    "token_f1": token_f1,
    "edit_similarity": edit_similarity,
    "exact_match": exact_match,
    "exact_match_normalised": exact_match_normalised,
}


def score(prediction: str, reference: str, names: Iterable[str] = METRICS) -> dict[str, float]:
    """Every metric of ``names`` for one pair of texts, in points."""
    return {name: METRICS[name](prediction, reference) for name in names}


@cache
def signatures() -> dict[str, str]:
    """How each metric was computed, for a scorecard's signature: settings and library versions."""
    rapidfuzz = metadata.version("rapidfuzz")
    ours = "norm:NFC"
    return {
        "chrf": f"nrefs:mean|case:mixed|eff:yes|nc:6|nw:0|space:no|beta:1|{ours}",
        "chrf2": f"nrefs:mean|case:mixed|eff:yes|nc:6|nw:0|space:no|beta:2|{ours}",
        "rouge_l": f"nrefs:mean|stemmer:no|tokens:unicode, rouge-score on ASCII|{ours}|rapidfuzz:{rapidfuzz}",
        "token_f1": f"nrefs:mean|articles:kept|{ours}",
        "edit_similarity": f"nrefs:mean|Levenshtein over the longer|{ours}|rapidfuzz:{rapidfuzz}",
        "exact_match": f"nrefs:mean|{ours}|strip",
        "exact_match_normalised": f"nrefs:mean|casefold|outer punctuation off|{ours}",
    }
