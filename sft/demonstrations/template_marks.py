"""Marks of a template in the texts themselves: ``### Response:``, ``</s>``, a word that ends every answer.

The model's own template writes where a turn begins and ends. Marks that were left in the texts by another one would be
learned and written as words. No tokenizer is asked: what a special token is spelled like is known well enough.
"""

from __future__ import annotations

import json
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
    r"|<(?:bos|eos|pad|unk)>|\A\s*<image>|<image>(?=\s*\Z)|\A\s*<s>|</s>(?=\s*\Z)"
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
#: What a program writes where it has no value, or shows where it has no room, as the whole of a text.
_NO_VALUE = re.compile(
    r"#(?:NAME\?|REF!|VALUE!|DIV/0!|N/A|NULL!|NUM!|SPILL!|CALC!|#{2,})|nan|NaN|None|null|NULL|<NA>|NaT|undefined"
    r"|\[object Object\]|\d(?:[.,]\d+)?E[+-]\d{2,}"
)
#: Pairs of quotation marks that a text may stand in as a whole.
_QUOTES = ("''", '""', "\u201c\u201d", "\u2018\u2019", "\u201e\u201c", "\u00ab\u00bb")
_SHOWN = 6
_SHORT = 40
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

    ``thoughts`` and ``calls``: those that completions spell in a way that is learned as words. ``no_values``: texts
    that a program wrote where it had none. ``quotes``: the pair that nearly every completion stands in, or "".
    ``unlisted``: functions that completions call and their rows do not list. ``escaped``: line breaks as two letters.
    """

    marks: tuple[TemplateMark, ...]
    ending: str = ""
    thoughts: tuple[TemplateMark, ...] = ()
    calls: tuple[TemplateMark, ...] = ()
    no_values: tuple[TemplateMark, ...] = ()
    quotes: str = ""
    unlisted: tuple[TemplateMark, ...] = ()
    escaped: tuple[TemplateMark, ...] = ()

    @classmethod
    def among(cls, demonstrations: Sequence[Demonstration]) -> TemplateMarks:
        """Of the last turn of every prompt, what it begins with, and every completion."""
        counts, spelled, empty = _MarkTally(), _MarkTally(), _MarkTally()
        for place, words in enumerate(columns.said(demonstrations)):
            for kind, mark in _spelled(words[2]):
                called = demonstrations[place].calls if kind == "calls" else ()
                if not called:
                    spelled.add(mark, kind, demonstrations, place)
                for name in _unlisted(demonstrations[place]) if called else ():
                    spelled.add(name, "unlisted", demonstrations, place)
            for where, text in _texts(words):
                if len(text) < _SHORT and _NO_VALUE.fullmatch(text.strip()):
                    empty.add(text.strip(), where, demonstrations, place)
                if "<" in text or "[" in text or "#" in text:
                    for mark in dict.fromkeys(found[0].strip() for found in _CERTAIN.finditer(text)):
                        counts.add(mark, where, demonstrations, place)
        escaped = _MarkTally()
        looked_at = demonstrations[:: max(1, len(demonstrations) // _LOOKED_AT)]
        if len(looked_at) >= _LEAST:
            some = _MarkTally()
            for place, words in enumerate(columns.said(looked_at)):
                for where, text in _texts(words):
                    if "\\n" in text and "\n" not in text:
                        escaped.add("\\n", where, looked_at, place)
                    for mark in dict.fromkeys(found[0].strip() for found in _PERHAPS.finditer(text)):
                        some.add(mark, where, looked_at, place)
            scale = len(demonstrations) / len(looked_at)
            for key, (count, first) in some.found.items():
                if count >= _PERHAPS_SHARE * len(looked_at):
                    counts.found[key] = (round(count * scale), counts.found.get(key, (0, first))[1])
        often = tuple(one for one in escaped.marks() if one.count >= _PERHAPS_SHARE * len(looked_at))
        thoughts, calls, unlisted = (spelled.marks(kind) for kind in ("thoughts", "calls", "unlisted"))
        known = {one.text for one in (*thoughts, *calls)}
        marks = tuple(one for one in counts.marks() if not (one.where == "completions" and one.text in known))
        completions = [d.completion for d in looked_at]
        return cls(marks, _ending(completions), thoughts, calls, empty.marks(), _quotes(completions), unlisted, often)

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
        if self.unlisted:
            said.append(
                f"Functions are called that their rows do not list: {_shown(self.unlisted)}. Add them to tools, or "
                "mend their names: the model is told of the others alone."
            )
        if self.no_values:
            said.append(
                f"A program seems to have written texts where it had no value, or changed one: "
                f"{_shown(self.no_values)}. Fill in what was said or remove the row; if somebody said it, let it stand."
            )
        if self.escaped:
            said.append(
                f"Line breaks seem to stand as the letters \\n, in texts that have no other: {_shown(self.escaped)}. "
                "Put line breaks in their place, or they are learned as letters; where they are meant, let them stand."
            )
        if self.quotes:
            said.append(
                f"Nearly every completion stands in quotation marks ({' '.join(self.quotes)}), which would be learned "
                "with it: take them out of the file, unless the expert wrote them."
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


class _MarkTally:
    """How often marks were seen, and where each was first."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, mark: str, where: str, demonstrations: Sequence[Demonstration], place: int) -> None:
        """One more of ``mark``."""
        seen = self.found.get((mark, where))
        self.found[mark, where] = (seen[0] + 1, seen[1]) if seen else (1, demonstrations[place].address)

    def marks(self, kind: str = "") -> tuple[TemplateMark, ...]:
        """The most frequent first; of one ``kind`` those of completions."""
        ranked = sorted(self.found.items(), key=lambda item: -item[1][0])
        return tuple(
            TemplateMark(mark, "completions" if kind else where, count, first)
            for (mark, where), (count, first) in ranked
            if kind in ("", where)
        )


def _unlisted(demonstration: Demonstration) -> list[str]:
    """Names of the functions that it calls and its row does not list; none where it lists none at all."""
    if demonstration.prompt[0].role != "tools":
        return []
    listed = {tool.get("function", tool).get("name") for tool in json.loads(demonstration.prompt[0].content)}
    return list(dict.fromkeys(call.name for call in demonstration.calls if call.name not in listed))


def _quotes(completions: Sequence[str]) -> str:
    """The quotation marks that nearly all completions stand in, as a pair, or ""."""
    if len(completions) < _LEAST:
        return ""
    ends = Counter(text[0] + text[-1] for each in completions if len(text := each.strip()) > 1)
    pair, count = ends.most_common(1)[0] if ends else ("", 0)
    return pair if pair in _QUOTES and count >= _ENDS * len(completions) else ""


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
