"""Marks of a template in the texts themselves: ``### Response:``, ``</s>``, a word that ends every answer.

The model's own template writes where a turn begins and ends. Marks that were left in the texts by another one would be
learned and written as words. No tokenizer is asked: what a special token is spelled like is known well enough.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft.demonstrations import columns
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.table import Words

__all__ = ["TemplateMark", "TemplateMarks"]

#: What no expert writes but about templates.
_CERTAIN = re.compile(
    r"<\|[A-Za-z0-9_/]{1,40}\|>|<\uff5c[^\uff5c<>\n]{1,40}\uff5c>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk)>|\A\s*<s>|</s>(?=\s*\Z)"
    r"|^#{2,4} ?(?:Instruction|Input|Response|Human|Assistant|User|System) ?:",
    re.MULTILINE,
)
#: What experts write too: a mark only where a good part of the texts has it at the same place.
_PERHAPS = re.compile(
    r"^(?:#{2,4} ?)?(?:Q|A|Question|Answer|Human|Assistant|USER|ASSISTANT|User|Bot|Response|Output|Completion) ?:",
    re.MULTILINE,
)
_PERHAPS_SHARE = 0.1
#: Texts that are looked at for what is a mark by its frequency, evenly chosen; fewer than so many say nothing.
_LOOKED_AT, _LEAST = 2_000, 20
#: Share of the completions that one word ends, from which it is named.
_ENDS = 0.95
_SHOWN = 6
_CLOSING = ".!?\u2026\u3002\uff01\uff1f\"'\u201d)]}"
_LIKE_A_MARK = re.compile(r"[#*=~|-]{2,}|[<\[({|#*]+/?[A-Za-z_ ]+[>\])}|#*]+|[#*]{0,3}[A-Z]{3,}[#*.]{0,3}")


@dataclass(frozen=True, slots=True)
class TemplateMark:
    """``text`` stands in ``count`` of the ``where`` ("prompts" or "completions"), first at the address ``first``."""

    text: str
    where: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class TemplateMarks:
    """``marks``: the most frequent first. ``ending``: the word that ends nearly every completion, or ""."""

    marks: tuple[TemplateMark, ...]
    ending: str = ""

    @classmethod
    def among(cls, demonstrations: Sequence[Demonstration]) -> TemplateMarks:
        """Of the last turn of every prompt, what it begins with, and every completion."""
        counts: Counter[tuple[str, str]] = Counter()
        first: dict[tuple[str, str], str] = {}
        for place, words in enumerate(columns.said(demonstrations)):
            for where, text in _texts(words):
                if "<" in text or "[" in text or "#" in text:
                    for mark in {found[0].strip() for found in _CERTAIN.finditer(text)}:
                        counts[mark, where] += 1
                        if (mark, where) not in first:
                            first[mark, where] = demonstrations[place].address
        looked_at = demonstrations[:: max(1, len(demonstrations) // _LOOKED_AT)]
        if len(looked_at) >= _LEAST:
            some: Counter[tuple[str, str]] = Counter()
            for d, words in zip(looked_at, columns.said(looked_at), strict=True):
                for where, text in _texts(words):
                    for mark in {found[0].strip() for found in _PERHAPS.finditer(text)}:
                        some[mark, where] += 1
                        first.setdefault((mark, where), d.address)
            scale = len(demonstrations) / len(looked_at)
            counts.update({key: round(n * scale) for key, n in some.items() if n >= _PERHAPS_SHARE * len(looked_at)})
        marks = [TemplateMark(*key, count, first[key]) for key, count in counts.most_common()]
        return cls(tuple(marks), _ending([d.completion for d in looked_at]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def in_words(self) -> list[str]:
        """What was found and what to do, as one sentence a kind; nothing where there is nothing."""
        said = []
        if self.marks:
            shown = [f"'{one.text}' in {one.count:,} {one.where} ({one.first})" for one in self.marks[:_SHOWN]]
            more = f" and {len(self.marks) - _SHOWN:,} more" if len(self.marks) > _SHOWN else ""
            said.append(
                f"Marks of a template stand in the texts: {', '.join(shown)}{more}. The model's own template writes "
                "where a turn begins and ends, and these would be learned as words: take them out of the file, with "
                "what is no part of what was asked or answered."
            )
        if self.ending:
            said.append(
                f"Nearly every completion ends with '{self.ending}'. If it marks the end for a template, take it out "
                "of the file, for the model's own ends a turn; if it is how the expert ends, let it stand."
            )
        return said


def _texts(words: Words) -> Iterator[tuple[str, str]]:
    _, prompt, completion = words
    yield "prompts", prompt[0]
    if len(prompt) > 1:
        yield "prompts", prompt[-1]
    yield "completions", completion


def _ending(completions: Sequence[str]) -> str:
    """The word behind the end of nearly all ``completions``, which are different texts otherwise.

    It stands behind a sentence or on a line of its own, or looks like a mark (``END``, ``###``): that sentences of one
    form have one last word is nothing to tell.
    """
    rows = [text.rstrip().rpartition(last[0]) for text in completions if (last := text.split()[-1:])]
    words = Counter(word for before, word, _ in rows if before.strip())
    word, count = words.most_common(1)[0] if words else ("", 0)
    before = [text for text, last, _ in rows if last == word and text.strip()]
    if len(completions) < _LEAST or count < _ENDS * len(completions) or len(set(before)) < count / 2:
        return ""
    closed = sum(text.endswith("\n") or text.rstrip()[-1] in _CLOSING for text in before)
    return word if _LIKE_A_MARK.fullmatch(word) or (closed >= _ENDS * count and any(map(str.isalpha, word))) else ""
