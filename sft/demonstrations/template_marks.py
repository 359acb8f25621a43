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
#: How thoughts are spelled that nobody reads as one, at the beginning of an answer or with the closing tag alone.
_THOUGHT = re.compile(
    r"\A\s*(?:<(?:reasoning|reflection|scratchpad|inner_monologue|thoughts?|seed:think|(?=\w*[A-Z])(?i:think(?:ing)?))>"
    r"|\[THINK\]|\u25c1think\u25b7|<\|channel\|>analysis)|</think(?:ing)?>"
)
#: How calls of functions are spelled that stand in a text as its words.
_CALL = re.compile(r"<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_calls?_(?:begin|section_begin)\|>|<function=")
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
    """``marks``: the most frequent first. ``ending``: the word that ends nearly every completion, or "".

    ``thoughts`` and ``calls``: those that completions spell in a way that is learned as words.
    """

    marks: tuple[TemplateMark, ...]
    ending: str = ""
    thoughts: tuple[TemplateMark, ...] = ()
    calls: tuple[TemplateMark, ...] = ()

    @classmethod
    def among(cls, demonstrations: Sequence[Demonstration]) -> TemplateMarks:
        """Of the last turn of every prompt, what it begins with, and every completion."""
        counts: Counter[tuple[str, str]] = Counter()
        first: dict[tuple[str, str], str] = {}
        spelled: Counter[tuple[str, str]] = Counter()
        for place, words in enumerate(columns.said(demonstrations)):
            for kind, mark in _spelled(words[2]):
                if kind == "thoughts" or not demonstrations[place].calls:
                    spelled[mark, kind] += 1
                    first.setdefault((mark, kind), demonstrations[place].address)
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
        thoughts, calls = (
            tuple(TemplateMark(m, "completions", n, first[m, k]) for (m, k), n in spelled.most_common() if k == kind)
            for kind in ("thoughts", "calls")
        )
        known = {one.text for one in (*thoughts, *calls)}
        marks = [one for one in marks if not (one.where == "completions" and one.text in known)]
        return cls(tuple(marks), _ending([d.completion for d in looked_at]), thoughts, calls)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def in_words(self) -> list[str]:
        """What was found and what to do, as one sentence a kind; nothing where there is nothing."""
        said = []
        if self.thoughts:
            said.append(
                f"Thoughts seem to stand in completions as words: {_shown(self.thoughts)}. Write each as "
                "<think>...</think> before the answer, or as reasoning_content of a message, to keep it apart "
                "(demonstrations.thoughts says what becomes of it); if it is meant to be read, let it stand."
            )
        if self.calls:
            said.append(
                f"Calls of functions stand in completions as words: {_shown(self.calls)}. Write them as tool_calls of "
                "a message, and the model's own template writes them in its form; if they are meant as text, let them "
                "stand."
            )
        if self.marks:
            said.append(
                f"Marks of a template stand in the texts: {_shown(self.marks)}. The model's own template writes "
                "where a turn begins and ends, and these would be learned as words: take them out of the file, with "
                "what is no part of what was asked or answered."
            )
        if self.ending:
            said.append(
                f"Nearly every completion ends with '{self.ending}'. If it marks the end for a template, take it out "
                "of the file, for the model's own ends a turn; if it is how the expert ends, let it stand."
            )
        return said


def _shown(marks: Sequence[TemplateMark]) -> str:
    named = [f"'{one.text}' in {one.count:,} {one.where} ({one.first})" for one in marks[:_SHOWN]]
    return ", ".join(named) + (f" and {len(marks) - _SHOWN:,} more" if len(marks) > _SHOWN else "")


def _spelled(completion: str) -> Iterator[tuple[str, str]]:
    """(``thoughts`` or ``calls``, how it is spelled) of what a completion holds as words."""
    if "<" in completion or "[T" in completion or "\u25c1" in completion:
        for kind, pattern in (("thoughts", _THOUGHT), ("calls", _CALL)):
            if found := pattern.search(completion):
                yield kind, found[0].strip()


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
