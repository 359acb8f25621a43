"""What gives a clone away, in words: the habits that its texts have and the expert's have not, or the other way round.

The impostor test says whether a classifier tells two writers apart, not by what. Here a fixed list of habits that a
person sees (how a text begins and ends, its layout, its length), and the commonest words of both, are counted in the
same pairs of texts. Which beginnings, endings and words are looked for is settled by both writers' texts together,
without sight of who wrote what, and Holm's correction is over all that were looked for: where nothing differs, a habit
is named in one of twenty sets at most, and only where the classifier tells them apart already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.conventions import beyond_chance
from sft.fidelity.findings import Giveaway, MarkedPair
from sft.fidelity.probes.impostors import texts_against_experts
from sft.metrics import intervals, nfc
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.metrics.text import words
from sft.runs.records import Completion

__all__ = ["giveaways", "habits_apart"]

Flags = NDArray[np.bool_]
Kind = Literal["format", "length", "words"]
Span = tuple[int, int]

#: Habits named of one system at most, pairs of texts shown of each, and characters shown around a mark.
NAMED, SHOWN, AROUND = 5, 2, 60
#: Habits that differ by less than this share of the texts are not named, however sure it is that they differ.
MATERIAL = 0.1
#: A habit that stands inside a stronger one in this share of the texts that have it is a part of that one.
INSIDE = 0.9
#: Words named of one system at most.
NAMED_WORDS = 3
#: A text is the shorter one from this share of the other's characters on.
SHORTER = 0.9
#: Beginnings, endings and words looked for: the commonest.
BEGINNINGS, ENDINGS, WORDS = 12, 8, 80


@dataclass(frozen=True, slots=True)
class _Habit:
    """``has`` and ``lacks``: how a text with it, and one without, is spoken of. ``find``: where it stands in a text.

    Of habits of one ``place`` the strongest is named.
    """

    has: str
    lacks: str
    kind: Kind
    place: str
    find: Callable[[str], Span | None]


def giveaways(
    held_out: Sequence[HeldOut],
    systems: Mapping[str, Mapping[str, Completion]],
    found: Mapping[str, Estimate],
    *,
    seed: int,
    at_most: int = 2000,
) -> dict[str, tuple[Giveaway, ...]]:
    """Name -> habits that tell the system from the expert, strongest first, where its AUC in ``found`` is above 0.5.

    Of the pairs of texts that ``impostors`` looked at with the same arguments. An empty tuple says that no habit looked
    for is shown to differ by a tenth of the texts.
    """
    pairs = texts_against_experts(held_out, systems, seed=seed, at_most=at_most)
    told = [name for name, auc in found.items() if auc.low is not None and auc.low > 0.5]
    return {name: habits_apart(pairs[name]) for name in told if name in pairs}


def habits_apart(pairs: Sequence[tuple[HeldOut, str, str]]) -> tuple[Giveaway, ...]:
    """Habits of the first text of each pair that the second has more seldom, strongest first."""
    own = [nfc(text).strip() for _, text, _ in pairs]
    expert = [nfc(text).strip() for _, _, text in pairs]
    labels = [item.cluster for item, _, _ in pairs]
    candidates = [(habit, _flags(habit, own), _flags(habit, expert)) for habit in _looked_for(own, expert)]
    candidates += _lengths(own, expert)
    sure = intervals.holm([_p_value(ours, theirs, labels) for _, ours, theirs in candidates])
    shown = [
        candidate
        for candidate, p_value in zip(candidates, sure, strict=True)
        if beyond_chance(p_value) and abs(_difference(*candidate[1:])) >= MATERIAL
    ]
    named: list[tuple[_Habit, Flags, Flags]] = []
    for candidate in sorted(shown, key=lambda one: -abs(_difference(*one[1:]))):
        if len(named) < NAMED and not _told_already(candidate, named, own):
            named.append(candidate)
    return tuple(_giveaway(*one, labels, pairs, own, expert) for one in named)


def _looked_for(own: Sequence[str], expert: Sequence[str]) -> list[_Habit]:
    """The fixed habits, then the commonest beginnings, endings and words of both writers together."""
    both = [*own, *expert]
    first = Counter(text.split(maxsplit=1)[0] for text in both if text)
    last = Counter(text[-1] for text in both if text and not text[-1].isalnum() and text[-1] not in STOPS)
    common = Counter(word for text in both for word in set(words(text)))
    found = list(LAYOUT)
    for word, _ in first.most_common(BEGINNINGS):
        pattern = rf"\A{re.escape(word)}(?!\S)"
        said = f"begins with \u201c{word}\u201d", f"does not begin with \u201c{word}\u201d"
        found.append(_by(pattern, *said, place="start"))
    for sign, _ in last.most_common(ENDINGS):
        said = f"ends with \u201c{sign}\u201d", f"does not end with \u201c{sign}\u201d"
        found.append(_by(rf"{re.escape(sign)}\Z", *said, place="end"))
    found += MARKS
    for word, _ in common.most_common(WORDS):
        pattern = rf"(?i)(?<!\w){re.escape(word)}(?!\w)"
        said = f"has the word \u201c{word}\u201d", f"lacks the word \u201c{word}\u201d"
        found.append(_by(pattern, *said, kind="words"))
    return found


def _by(pattern: str, has: str, lacks: str, *, kind: Kind = "format", place: str = "") -> _Habit:
    search = re.compile(pattern).search

    def find(text: str) -> Span | None:
        match = search(text)
        return match.span() if match else None

    return _Habit(has, lacks, kind, place or has, find)


def _small_start(text: str) -> Span | None:
    return (0, 1) if text[:1].islower() else None


def _small_throughout(text: str) -> Span | None:
    return (0, min(len(text), AROUND)) if text.islower() else None


#: What a sentence may stop with, in more than one script.
STOPS = ".\u3002\uff61\u0964"
#: Looked for in every text; of two that are equally strong the earlier is named.
LAYOUT = (
    _by(r"```[^`\n]*\n?", "has a code fence", "has no code fence", place="fence"),
    _by(rf"[{STOPS}][\"'\u201d\u2019)\]]*\Z", "ends with a full stop", "ends without a full stop", place="end"),
    _by(r"(?<=\S)[ \u00a0]{2,}(?=\S)", "has two blanks in a row", "has no two blanks in a row"),
    _by(r"[\t\u00a0\u2000-\u200b\u3000]", "has a tab or another odd blank", "has no tab or other odd blank"),
    _by(r"\w ([.,;:!?])(?!\S)", "has a blank before a punctuation mark", "has no blank before a punctuation mark"),
    _by(r"(?m)^[ \t]*([-*\u2022]|\d+[.)]) ", "has a list", "has no list", place="lines"),
    _by(r"\n[ \t]*\n", "has an empty line", "has no empty line", place="lines"),
    _by(r"\n", "has a line break", "has no line break", place="lines"),
    _by(r"(?m)^#{1,6} ", "has a heading", "has no heading"),
    _by(r"\*\*\S", "has bold letters", "has no bold letters"),
    _Habit(
        "is in small letters throughout", "is not in small letters throughout", "format", "start", _small_throughout
    ),
    _Habit("begins with a small letter", "does not begin with a small letter", "format", "start", _small_start),
)
#: The same, for signs that may be part of how a text begins or ends.
MARKS = (
    _by(r"(?<!`)`[^`\n]+`(?!`)", "has code between backticks", "has no code between backticks"),
    _by(r"[\"]", "has straight quotation marks", "has no straight quotation marks", place="quotes"),
    _by(r"[\u201c\u201d\u2018]", "has curly quotation marks", "has no curly quotation marks", place="quotes"),
    _by(r"[\u2013\u2014]", "has a dash", "has no dash"),
    _by(r"!", "has an exclamation mark", "has no exclamation mark"),
    _by(r"\?", "has a question mark", "has no question mark"),
    _by(r"\(", "has a bracket", "has no bracket"),
    _by(r"[\u2600-\u27bf\U0001f300-\U0001faff]", "has an emoji", "has no emoji"),
    _by(r"https?://", "has a link", "has no link", kind="words"),
    _by(r"\d", "has a figure", "has no figure", kind="words"),
)


def _lengths(own: Sequence[str], expert: Sequence[str]) -> list[tuple[_Habit, Flags, Flags]]:
    """Which of the two texts on one prompt is the shorter one."""
    ours, theirs = (np.array([len(text) for text in texts], dtype=np.float64) for texts in (own, expert))
    said = "is clearly the shorter of the two", "is clearly the longer of the two"
    habit = _Habit(*said, "length", "length", lambda text: None)
    return [(habit, ours < SHORTER * theirs, theirs < SHORTER * ours)]


def _flags(habit: _Habit, texts: Sequence[str]) -> Flags:
    return np.array([habit.find(text) is not None for text in texts], dtype=bool)


def _difference(ours: Flags, theirs: Flags) -> float:
    return float(ours.mean() - theirs.mean())


def _p_value(ours: Flags, theirs: Flags, labels: Sequence[str]) -> float:
    """Mid-p McNemar, two-sided, each cluster one vote for whoever has the habit more often in it."""
    _, codes = np.unique(np.array(labels), return_inverse=True)
    votes = np.sign(np.bincount(codes, weights=np.subtract(ours, theirs, dtype=np.float64)))
    return intervals.mcnemar_mid_p(int((votes > 0).sum()), int((votes < 0).sum()))


def _told_already(
    candidate: tuple[_Habit, Flags, Flags], named: Sequence[tuple[_Habit, Flags, Flags]], own: Sequence[str]
) -> bool:
    """Whether a habit is another face of a stronger one: of the same place, what follows from it, or a part of it."""
    habit, ours, theirs = candidate
    lacked = _difference(ours, theirs) < 0
    if habit.kind == "words" and sum(other.kind == "words" for other, _, _ in named) == NAMED_WORDS:
        return True
    for other, others_ours, others_theirs in named:
        if habit.place == other.place or (other.place == "fence" and habit.place in ("start", "end", "lines")):
            return True
        shorter = other.kind == "length" and _difference(others_ours, others_theirs) > 0
        if shorter and lacked and habit.kind == "words":
            return True
        if not lacked and _difference(others_ours, others_theirs) > 0 and _inside(habit, other, own):
            return True
    return False


def _inside(habit: _Habit, other: _Habit, texts: Sequence[str]) -> bool:
    spans = [(span, other.find(text)) for text in texts if (span := habit.find(text)) is not None]
    inside = [whole is not None and whole[0] <= part[0] and part[1] <= whole[1] for part, whole in spans]
    return bool(inside) and sum(inside) >= INSIDE * len(inside)


def _giveaway(
    habit: _Habit,
    ours: Flags,
    theirs: Flags,
    labels: Sequence[str],
    pairs: Sequence[tuple[HeldOut, str, str]],
    own: Sequence[str],
    expert: Sequence[str],
) -> Giveaway:
    """The habit as the system's: what it lacks is turned around. A length has no turning: the longer is no shorter."""
    has = _difference(ours, theirs) > 0
    if habit.kind == "length":
        ours, theirs = (ours, theirs) if has else (theirs, ours)
    elif not has:
        ours, theirs = ~ours, ~theirs
    places: list[int] = np.flatnonzero(ours & ~theirs)[:SHOWN].tolist()
    return Giveaway(
        habit=habit.has if has else habit.lacks,
        kind=habit.kind,
        system=estimates.share(ours, labels),
        expert=estimates.share(theirs, labels),
        difference=intervals.share_difference(ours, theirs, labels),
        examples=tuple(_marked(pairs[place][0], habit, own[place], expert[place], has=has) for place in places),
    )


def _marked(item: HeldOut, habit: _Habit, own: str, expert: str, *, has: bool) -> MarkedPair:
    """Both texts around the habit, which stands between \u27e6 and \u27e7 in the one that has it."""
    key, asked = item.id, item.asked
    span = habit.find(own if has else expert)
    holder, other = (own, expert) if has else (expert, own)
    if span is None:
        return MarkedPair(key, _around(own, (0, 0)), _around(expert, (0, 0)), asked)
    start, end = span
    marked = _around(f"{holder[:start]}\u27e6{holder[start:end]}\u27e7{holder[end:]}", (start, end + 2))
    at_end = len(holder) - end < start
    plain = _around(other, (len(other), len(other)) if at_end else (0, 0))
    return MarkedPair(key, marked, plain, asked) if has else MarkedPair(key, plain, marked, asked)


def _around(text: str, span: Span) -> str:
    start, end = max(span[0] - AROUND, 0), span[1] + AROUND
    cut = text[start:end]
    more = "\N{HORIZONTAL ELLIPSIS}"
    return f"{more if start else ''}{cut}{more if end < len(text) else ''}"
