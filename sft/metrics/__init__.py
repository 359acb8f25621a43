"""Rules that compare what a system wrote with what an expert wrote.

Every metric is a plain function ``(prediction, reference) -> points``, 0 to 100, listed in
:data:`METRICS`. Folders named ``sft_*`` hold thin ``evaluate.Metric`` faces over the same functions:
``evaluate.load(str(face_path("chrf")))`` works offline. Importing this module imports none of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from sft.metrics.overlap import (
    chrf,
    chrf2,
    edit_similarity,
    exact_match,
    exact_match_normalised,
    rouge_l,
    token_f1,
)
from sft.metrics.text import nfc, words

__all__ = [
    "FACES",
    "METRICS",
    "chrf",
    "chrf2",
    "edit_similarity",
    "exact_match",
    "exact_match_normalised",
    "face_path",
    "nfc",
    "rouge_l",
    "score",
    "score_batch",
    "signatures",
    "token_f1",
    "words",
]

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

#: Metrics that have an ``evaluate.Metric`` face, in the folder ``sft_{name}``.
FACES = tuple(METRICS)


def score(prediction: str, reference: str) -> dict[str, float]:
    """Every metric for one pair of texts, in points."""
    return {name: function(prediction, reference) for name, function in METRICS.items()}


def score_batch(name: str, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Metric ``name`` for parallel lists. Raises ``KeyError`` for a name that is none of ours, ``ValueError``
    where the lists differ in length."""
    function = METRICS[name]
    return [function(p, r) for p, r in zip(predictions, references, strict=True)]


def face_path(name: str) -> Path:
    """Folder to hand to ``evaluate.load`` for metric ``name``; raises ``KeyError`` for any other name."""
    if name not in FACES:
        raise KeyError(name)
    return Path(str(resources.files(__package__).joinpath(f"sft_{name}")))


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
