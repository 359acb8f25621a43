"""Spans of a completion that may hold a fact of their own: runs of figures, names, words rare in the training set.

Found by spelling alone. Names are words with a capital that does not begin a sentence, so they are found in scripts
with capitals only; scripts written without spaces between words have figures and nothing else here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sft.demonstrations.demonstration import folded
from sft.metrics.text import unspaced

__all__ = ["KINDS", "RARE_SHARE", "Frequencies", "Span", "spans", "stands_in"]

#: Kinds of spans, in the order a report names them.
KINDS = ("figure", "name", "rare word")
#: A word is rare that stands in one training completion only, or in at most this share of them.
RARE_SHARE = 0.01
#: Letters of a word that can be rare, at least; shorter ones are the grammar's.
_RARE_LETTERS = 4
#: Words of an answer that may be all fact. The first word of a longer one surprises by how the expert begins.
_SHORT_ANSWER = 3

_FIGURE = re.compile(r"(?<![A-Za-z\d])(?:[A-Za-z]+-)?[A-Za-z]*\d[\dA-Za-z]*(?:[.,:/\u2013-][A-Za-z]*\d[\dA-Za-z]*)*")
_THOUSANDS = re.compile(r"(?<=\d)[,\u2019'\u00a0\u202f](?=\d{3}(?!\d))")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_GENITIVE = re.compile(r"['\u2019]s$")
#: What may stand between the end of a sentence, or the beginning of a line, and its first word.
_OPENING = "\"'([{<*_#>\u2018\u201c\u00ab\u201e\u00bf\u00a1-\u2013\u2014\u2022 \t"
_CLOSING = '.!?:;\u2026\n\r"\u201d'


@dataclass(frozen=True, slots=True)
class Span:
    """``text[start:end]`` of a completion, in characters. ``kind``: one of :data:`KINDS`."""

    start: int
    end: int
    kind: str
    text: str


class Frequencies:
    """In how many of the training ``completions`` each word and each run of figures stands, and which recur whole."""

    def __init__(self, completions: Iterable[str]) -> None:
        self.total = 0
        self._pieces: Counter[str] = Counter()
        self._whole: Counter[str] = Counter()
        for text in completions:
            self.total += 1
            self._whole[folded(text)] += 1
            pieces = {folded(piece) for piece, _, _ in _pieces(text)}
            # A word that is written small somewhere is no name, whatever its capital says elsewhere.
            self._pieces.update(pieces | {f"small {word}" for word in _WORD.findall(text) if word.islower()})

    def count(self, piece: str) -> int:
        """Completions in which ``piece`` stands, whatever its case."""
        return self._pieces[folded(piece)]

    def others_share(self, piece: str) -> float:
        """Share of the other completions in which ``piece`` stands too."""
        return max(self.count(piece) - 1, 0) / max(self.total - 1, 1)

    def is_rare(self, word: str) -> bool:
        """Whether ``word`` stands in one completion only, or in next to none."""
        return self.count(word) <= max(1.0, RARE_SHARE * self.total)

    def is_written_small(self, word: str) -> bool:
        """Whether ``word`` stands without a capital in any completion."""
        return self._pieces[f"small {word.lower()}"] > 0

    def recurs(self, text: str) -> bool:
        """Whether ``text`` is, as a whole, the completion of other demonstrations too: a label, a fixed answer."""
        return self._whole[folded(text)] > 1

    @property
    def recurring(self) -> float:
        """Share of completions that recur as a whole."""
        return sum(count for count in self._whole.values() if count > 1) / max(self.total, 1)


def spans(text: str, frequencies: Frequencies) -> list[Span]:
    """The spans of ``text`` in reading order; no two overlap."""
    found = []
    for piece, start, is_figure in _pieces(text):
        kind = "figure" if is_figure else _kind_of(piece, start, text, frequencies)
        if kind:
            found.append(Span(start, start + len(piece), kind, piece))
    return found


def _pieces(text: str) -> Iterator[tuple[str, int, bool]]:
    """(piece, where it begins, whether it is a run of figures) for every word and every run of figures, in order."""
    at = 0
    for figure in _FIGURE.finditer(text):
        yield from _words(text, at, figure.start())
        yield figure[0], figure.start(), True
        at = figure.end()
    yield from _words(text, at, len(text))


def _words(text: str, begin: int, end: int) -> Iterator[tuple[str, int, bool]]:
    for word in _WORD.finditer(text, begin, end):
        bare = _GENITIVE.sub("", word[0])
        if bare and not any(map(unspaced, bare)):
            yield bare, word.start(), False


def _kind_of(word: str, start: int, text: str, frequencies: Frequencies) -> str:
    """ "name", "rare word", or "" for a word that is neither."""
    capital = word[0].isupper() and len(word) > 1
    if capital and not _begins_sentence(text, start) and not frequencies.is_written_small(word):
        return "name"
    if not text[:start].strip(_OPENING) and len(_WORD.findall(text)) > _SHORT_ANSWER:
        return ""
    return "rare word" if len(word) >= _RARE_LETTERS and frequencies.is_rare(word) else ""


def _begins_sentence(text: str, start: int) -> bool:
    before = text[:start].rstrip(_OPENING)
    return not before or before[-1] in _CLOSING or "\n" in text[len(before) : start]


def stands_in(span: Span, prompt: str) -> bool:
    """Whether ``prompt``, which is folded, holds the span: a word within any word, a figure not inside another one.

    Figures are equal with and without leading zeros and thousands separators.
    """
    piece = folded(span.text)
    if span.kind != "figure":
        return piece in prompt
    bare = _THOUSANDS.sub("", piece).lstrip("0") or "0"
    return re.search(rf"(?<!\d)0*{re.escape(bare)}(?!\d)", _THOUSANDS.sub("", prompt)) is not None
