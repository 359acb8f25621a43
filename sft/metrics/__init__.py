"""How alike two texts are; intervals and tests, as pure arithmetic."""

from sft.metrics.modules import module_path
from sft.metrics.overlap import (
    METRICS,
    chrf,
    chrf2,
    edit_similarity,
    exact_match,
    exact_match_normalised,
    rouge_l,
    score,
    signatures,
    token_f1,
)
from sft.metrics.text import nfc, words

__all__ = [
    "METRICS",
    "chrf",
    "chrf2",
    "edit_similarity",
    "exact_match",
    "exact_match_normalised",
    "module_path",
    "nfc",
    "rouge_l",
    "score",
    "signatures",
    "token_f1",
    "words",
]
