"""Shortcuts a clone has to beat: what needs no learning, and R, K and P not even a model.

R answers with the completion of the nearest training prompt, K with one constant completion, P with the
prompt itself. B3 prompts the base model with three demonstrations chosen here. All of them are functions
of the content alone: the order of the training rows, the machine and the run cannot change them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, prompt_text
from sft.runs.hashes import fingerprint
from sft.runs.records import Completion

__all__ = ["b3_demonstrations", "constant", "copied_prompt", "floor_completions", "nearest", "nearness_to_training"]

#: Cells of one dense block of similarities: 80 MB.
_BLOCK = 10_000_000
#: An n-gram is common when it is in this share of the texts.
_COMMON = 0.02
#: Similarities closer than this are ties: sums of floats may differ in the last digits.
_TIE = 9


def _by_id(train: Sequence[Demonstration]) -> list[Demonstration]:
    """Training demonstrations in an order of their own. Raises ``ValueError`` when there are none."""
    if not train:
        raise ValueError("floors need at least one training demonstration")
    return sorted(train, key=lambda d: (d.id, d.completion))


def _vectoriser() -> Any:
    """Character TF-IDF: 3- to 5-grams inside words, which needs neither a language nor a tokenizer."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float64)


def _nfc(texts: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", text) for text in texts]


@lru_cache(maxsize=1)
def nearest_prompts(
    known: tuple[str, ...], asked: tuple[str, ...], block: int = _BLOCK
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Of each text in ``asked``, the place of the most similar one in ``known``, the first of equals, and its cosine.

    ``block``: cells of a dense block of similarities.

    Vectors are character TF-IDF fitted on ``known``; the last digits of the sums are rounded off. The last answer is
    kept: R and the parts by distance to training ask the same, and it takes a quarter of a scorecard's time.
    """
    vectoriser = _vectoriser()
    vectors = vectoriser.fit_transform(_nfc(known))
    common = _common(vectors, block)
    dense, sparse = vectors[:, common].toarray().T, vectors[:, ~common].T.tocsr()
    places, cosines = np.empty(len(asked), dtype=np.intp), np.empty(len(asked))
    rows = max(1, block // max(len(known), len(dense)))
    for start in range(0, len(asked), rows):
        part = slice(start, start + rows)
        these = vectoriser.transform(_nfc(asked[part]))
        similarity = (these[:, ~common] @ sparse).toarray()
        similarity += these[:, common].toarray() @ dense
        similarity = np.round(similarity, _TIE, out=similarity)
        places[part], cosines[part] = similarity.argmax(axis=1), similarity.max(axis=1)
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


def _texts(rows: Sequence[Demonstration] | Sequence[HeldOut]) -> tuple[str, ...]:
    return tuple(prompt_text(row.prompt) for row in rows)


def nearest(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """R: for each held-out prompt the completion of the most similar training prompt, by held-out id.

    Similarity is the cosine of character TF-IDF vectors fitted on the training prompts; ties go to the
    smallest training id. Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    places, _ = nearest_prompts(_texts(ordered), _texts(held_out))
    return {
        item.id: Completion(item.id, ordered[place].completion, finished=True)
        for item, place in zip(held_out, places.tolist(), strict=True)
    }


def nearness_to_training(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, float]:
    """How like its nearest training prompt each held-out prompt is, by held-out id: the cosine R goes by, 0 to 1.

    Raises ``ValueError`` without training demonstrations.
    """
    _, cosines = nearest_prompts(_texts(_by_id(train)), _texts(held_out))
    return dict(zip((item.id for item in held_out), cosines.tolist(), strict=True))


def constant(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """K: the most typical training completion, given to every held-out prompt.

    It is the medoid under character TF-IDF: highest mean cosine to all training completions, ties to the
    smallest id. Cosines of unit vectors add up, so one sum over the set replaces the n**2 comparisons
    that a chrF medoid takes (50 million for 10,000 completions, about an hour).
    Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    vectors = _vectoriser().fit_transform(_nfc([d.completion for d in ordered]))
    total = np.asarray(vectors.sum(axis=0)).ravel()
    typical = ordered[int(np.round((vectors @ total) / len(ordered), _TIE).argmax())]
    return {item.id: Completion(item.id, typical.completion, finished=True) for item in held_out}


def copied_prompt(held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """P: the last user message, word for word.

    Not the whole prompt: a system message or earlier turns, the same for every row, would only dilute the
    copy and make the shortcut easier to beat.
    """
    return {item.id: Completion(item.id, item.prompt[-1].content, finished=True) for item in held_out}


def floor_completions(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, dict[str, Completion]]:
    """The floors that need no model: system ("R", "K", "P") -> held-out id -> completion."""
    return {
        "R": nearest(train, held_out),
        "K": constant(train, held_out),
        "P": copied_prompt(held_out),
    }


def _length(demonstration: Demonstration) -> int:
    """Characters of prompt and completion."""
    return len(prompt_text(demonstration.prompt)) + len(demonstration.completion)


def b3_demonstrations(train: Sequence[Demonstration], count: int = 3) -> list[Demonstration]:
    """The demonstrations shown to the base model in B3: ``count`` of them (fewer if the set is smaller).

    Among those whose prompt and completion together are no longer, in characters, than the median, those
    with the smallest content hash: fixed for a data set, of no one's choosing, and short enough to fit.
    A prompt, and as far as possible a completion, is shown once; a set too small for that gives its
    shortest. Raises ``ValueError`` without any.
    """
    ordered = sorted(_by_id(train), key=lambda d: fingerprint(d.to_dict(content_only=True)))
    median = float(np.median([_length(d) for d in ordered]))
    pool = [d for d in ordered if _length(d) <= median]
    if len({d.prompt for d in pool}) < count:
        pool = sorted(ordered, key=_length)
    chosen: list[Demonstration] = []
    spare: list[Demonstration] = []
    prompts: set[tuple[Message, ...]] = set()
    for demonstration in pool:
        if demonstration.prompt in prompts:
            continue
        prompts.add(demonstration.prompt)
        repeats = any(demonstration.completion == other.completion for other in chosen)
        (spare if repeats else chosen).append(demonstration)
        if len(chosen) == count:
            break
    return [*chosen, *spare][:count]
