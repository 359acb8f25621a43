"""Shortcuts a clone has to beat: what needs no learning, and R, K and P not even a model.

R answers with the completion of the nearest training prompt, K with one constant completion, P with the
prompt itself. B3 prompts the base model with three demonstrations chosen here. All of them are functions
of the content alone: the order of the training rows, the machine and the run cannot change them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations import Demonstration, HeldOut, Message, fingerprint, prompt_text
from sft.observations import Completion

__all__ = ["b3_demonstrations", "constant", "copied_prompt", "floor_completions", "nearest", "nearness_to_training"]

#: Cells of one dense block of similarities: 80 MB.
_BLOCK = 10_000_000
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


def _similarities(
    train: Sequence[Demonstration], held_out: Sequence[HeldOut]
) -> Iterator[tuple[Sequence[HeldOut], NDArray[np.float64]]]:
    """Cosines of held-out prompts with the training prompts in the order given, a block of rows at a time.

    Vectors are character TF-IDF fitted on the training prompts; the last digits of the sums are rounded off.
    """
    vectoriser = _vectoriser()
    known = vectoriser.fit_transform(_nfc([prompt_text(d.prompt) for d in train])).T.tocsr()
    rows = max(1, _BLOCK // len(train))
    for start in range(0, len(held_out), rows):
        block = held_out[start : start + rows]
        asked = vectoriser.transform(_nfc([prompt_text(h.prompt) for h in block]))
        yield block, np.round((asked @ known).toarray(), _TIE)


def nearest(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, Completion]:
    """R: for each held-out prompt the completion of the most similar training prompt, by held-out id.

    Similarity is the cosine of character TF-IDF vectors fitted on the training prompts; ties go to the
    smallest training id. Raises ``ValueError`` without training demonstrations.
    """
    ordered = _by_id(train)
    found: dict[str, Completion] = {}
    for block, similarity in _similarities(ordered, held_out):
        for item, index in zip(block, similarity.argmax(axis=1), strict=True):
            found[item.id] = Completion(item.id, ordered[int(index)].completion, finished=True)
    return found


def nearness_to_training(train: Sequence[Demonstration], held_out: Sequence[HeldOut]) -> dict[str, float]:
    """How like its nearest training prompt each held-out prompt is, by held-out id: the cosine R goes by, 0 to 1.

    Raises ``ValueError`` without training demonstrations.
    """
    found: dict[str, float] = {}
    for block, similarity in _similarities(_by_id(train), held_out):
        found |= {item.id: float(cosine) for item, cosine in zip(block, similarity.max(axis=1), strict=True)}
    return found


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
