"""Prompts that experts answered in different ways: how alike the answers are, which one most gave, and what to do.

A clone that is fitted to all of them learns a mixture; a recipe may take one expert, or a vote. What one expert
answered to one prompt in several ways, a mail to a subject for one, is no conflict: that is how this expert acts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import fmean

import numpy as np

from sft import metrics
from sft.demonstrations import columns
from sft.demonstrations.demonstration import Demonstration, prompt_text
from sft.metrics.estimate import Estimate
from sft.metrics.text import plain_words
from sft.runs.hashes import fingerprint

__all__ = [
    "ConflictingPrompt", "Conflicts", "Handling", "SeveralAnswers", "Vote", "answered_again", "ballots", "conflicting",
    "conflicts", "majority",
]  # fmt: skip

#: Completions of one prompt that are compared with each other, drawn where there are more.
AT_MOST_EACH = 4
#: Answers that are compared, and completions each is compared with, at most, to decide a vote that is tied.
_COMPARED = 16


def answered_again(demonstrations: Sequence[Demonstration]) -> tuple[list[list[Demonstration]], list[list[int]]]:
    """The demonstrations of every prompt that has several, and the places of those; both in their order."""
    keys = columns.labels(demonstrations, "key")
    places = np.flatnonzero(np.bincount(keys)[keys] > 1) if len(keys) else keys
    rows: dict[int, list[Demonstration]] = {}
    where: dict[int, list[int]] = {}
    for d, place in zip(columns.picked(demonstrations, places), places.tolist(), strict=True):
        rows.setdefault(int(keys[place]), []).append(d)
        where.setdefault(int(keys[place]), []).append(place)
    return list(rows.values()), list(where.values())


# -- how alike the answers are -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Training prompts that were answered in different ways.

    ``agreement``: chrF points of their completions against each other; ``handled``: what the recipe did.
    """

    prompts: int
    conflicting: int
    agreement: Estimate | None
    handled: str


def conflicts(train: Sequence[Demonstration], handled: str, *, seed: int = 0, at_most: int = 1000) -> Conflicts:
    """Training prompts with more than one completion, and how alike these are.

    ``agreement``: every two demonstrations of such a prompt against each other in chrF points, a mean per prompt,
    over ``at_most`` prompts and four demonstrations of each (drawn by ``seed`` where there are more).
    ``prompts`` counts all training prompts.
    """
    prompts = len(np.unique(columns.labels(train, "key")))
    differing = [rows for rows in answered_again(train)[0] if len({row.completion for row in rows}) > 1]
    differing.sort(key=lambda rows: rows[0].key)
    if not differing:
        return Conflicts(prompts, 0, None, handled)
    from sft.metrics.intervals import estimates  # with scipy, which takes a while

    draw = random.Random(seed)
    looked_at = draw.sample(differing, at_most) if len(differing) > at_most else differing
    scores, labels = [], []
    for rows in looked_at:
        rows = sorted(rows, key=lambda row: (row.id, row.completion))
        chosen = draw.sample(rows, AT_MOST_EACH) if len(rows) > AT_MOST_EACH else rows
        scores.append(fmean([metrics.chrf(a.completion, b.completion) for a, b in combinations(chosen, 2)]))
        labels.append(rows[0].group)
    return Conflicts(prompts, len(differing), estimates.points(scores, labels), handled)


# -- a vote --------------------------------------------------------------------------------------------------


def ballots(demonstrations: Sequence[Demonstration]) -> list[list[list[Demonstration]]]:
    """Every prompt with different completions: its rows by answer, the answer given most often first.

    Answers are the same whose words are: case, white space and outer punctuation aside. Where one named expert gave all
    of them, there is nothing to vote on.
    """
    return _ballots(answered_again(demonstrations)[0])


def _ballots(prompts: Iterable[list[Demonstration]]) -> list[list[list[Demonstration]]]:
    found = []
    for rows in prompts:
        if len({d.completion for d in rows}) == 1 or _one_named(rows):
            continue
        answers: dict[tuple[str, ...], list[Demonstration]] = {}
        for d in rows:
            answers.setdefault(plain_words(d.completion), []).append(d)
        found.append(sorted(answers.values(), key=len, reverse=True))
    return found


def _one_named(rows: Sequence[Demonstration]) -> bool:
    return rows[0].expert != "" and all(d.expert == rows[0].expert for d in rows)


@dataclass(frozen=True, slots=True)
class Vote:
    """Rows in their order: those whose answer was given most often, and the others. ``tied``: prompts without one."""

    kept: Sequence[Demonstration]
    outvoted: Sequence[Demonstration]
    tied: int


def majority(demonstrations: Sequence[Demonstration]) -> Vote:
    """A vote on every prompt with different completions, one vote a row.

    Among answers given equally often, the one most like the prompt's other completions wins (mean chrF), as the
    medoid does in minimum-Bayes-risk decoding (Kumar & Byrne 2004); after that, the content's hash decides.
    """
    gone: set[int] = set()
    known: dict[tuple[str, str], float] = {}
    ties = 0
    rows, where = answered_again(demonstrations)
    places = {id(d): place for one, at in zip(rows, where, strict=True) for d, place in zip(one, at, strict=True)}
    for answers in _ballots(rows):
        tied = [same for same in answers if len(same) == len(answers[0])]
        ties += len(tied) > 1
        winner = tied[0] if len(tied) == 1 else _most_like_the_rest(tied, answers, known)
        gone.update(places[id(d)] for same in answers if same is not winner for d in same)
    lost = np.zeros(len(demonstrations), dtype=bool)
    lost[list(gone)] = True
    return Vote(columns.picked(demonstrations, ~lost), columns.picked(demonstrations, lost), ties)


def _most_like_the_rest(
    tied: list[list[Demonstration]], answers: list[list[Demonstration]], known: dict[tuple[str, str], float]
) -> list[Demonstration]:
    """Of ``tied`` the answer with the highest mean chrF; of a great many, those with the lowest hashes are compared.

    ``known``: chrF of texts in their order, which is the same both ways; answers come back from prompt to prompt.
    """

    def likeness(one: str, other: str) -> float:
        pair = (one, other) if one < other else (other, one)
        if pair not in known:
            known[pair] = metrics.chrf(*pair)
        return known[pair]

    everything = sorted((d for same in answers for d in same), key=lambda d: (d.id, d.completion))

    def rank(same: list[Demonstration]) -> tuple[float, str]:
        own = {id(d) for d in same}
        text = min(d.completion for d in same)
        rest = list(islice((d.completion for d in everything if id(d) not in own), _COMPARED))
        return -math.fsum(likeness(text, other) for other in rest) / len(rest), fingerprint(text)

    if len(tied) > _COMPARED:
        tied = sorted(tied, key=lambda same: fingerprint(min(d.completion for d in same)))[:_COMPARED]
    return min(tied, key=rank)


# -- in words ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConflictingPrompt:
    """One prompt with different completions. ``experts``: how many named experts wrote them.

    ``where``: the address of every row. ``writers``: for each completion, the named experts who wrote it.
    """

    prompt: str
    where: tuple[str, ...]
    completions: tuple[str, ...]
    writers: tuple[tuple[str, ...], ...]
    experts: int

    def __str__(self) -> str:
        """The prompt with its address, then a line per answer under the names of those who gave it; five at most."""
        names = [_short(", ".join(each[:2]) + (", ..." if len(each) > 2 else ""), 32) for each in self.writers[:5]]
        width = max(map(len, names))
        rows = len(self.where) - 1
        lines = [f"  {_short(self.prompt, 72)} ({self.where[0]} and {rows:,} more row{'s' if rows != 1 else ''})"]
        lines += [
            f"    {name:<{width}}{'  ' if width else ''}{_short(text, 100 - width)}"
            for name, text in zip(names, self.completions, strict=False)
        ]
        if len(self.completions) > 5:
            lines.append(f"    ... and {len(self.completions) - 5:,} more")
        return "\n".join(lines)


def _short(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def conflicting(demonstrations: Sequence[Demonstration]) -> list[ConflictingPrompt]:
    """Prompts with more than one completion, the most disputed first. References are not trained on."""
    found = []
    for rows in answered_again(demonstrations)[0]:
        written: dict[str, dict[str, None]] = {}
        for d in rows:
            written.setdefault(d.completion, {}).update({d.expert: None} if d.expert else {})
        if len(written) > 1:
            found.append(
                ConflictingPrompt(
                    prompt=prompt_text(rows[0].prompt),
                    where=tuple(d.address for d in rows),
                    completions=tuple(written),
                    writers=tuple(map(tuple, written.values())),
                    experts=len({d.expert for d in rows} - {""}),
                )
            )
    return sorted(found, key=lambda conflict: (-conflict.experts, -len(conflict.completions)))


@dataclass(frozen=True, slots=True)
class Handling:
    """What a recipe makes of prompts with different completions.

    ``expert``: whom it clones alone, if anyone. ``conflicts``: its ``demonstrations.conflicts``. ``outvoted``: rows
    that a majority leaves out, or would; ``tied``: prompts where no answer has more votes than another.
    ``others``: completions of other experts for ``others_prompts`` held-out prompts. ``agreement``: how alike the
    completions of different experts are.
    """

    conflicts: str = "keep"
    expert: str | None = None
    outvoted: int = 0
    tied: int = 0
    others: int = 0
    others_prompts: int = 0
    agreement: Conflicts | None = None


@dataclass(frozen=True, slots=True)
class SeveralAnswers:
    """Prompts with different completions. ``conflicts``: those by different named experts, the first few ``examples``.

    ``others``: those by one expert, or by nobody named; ``most``: of these the one with the most completions.
    """

    conflicts: int
    examples: tuple[ConflictingPrompt, ...]
    others: int
    most: ConflictingPrompt | None

    @classmethod
    def among(cls, demonstrations: Sequence[Demonstration]) -> SeveralAnswers:
        """Of examples with the same completions only the first."""
        found = conflicting(demonstrations)
        disputed = [each for each in found if each.experts > 1]
        others = found[len(disputed) :]
        various = tuple({each.completions: each for each in reversed(disputed)}.values())[:-4:-1]
        return cls(len(disputed), various, len(others), others[0] if others else None)

    def in_words(self, handling: Handling, experts: Mapping[str, int]) -> list[str]:
        """What there is, and what the recipe does or could do. ``experts``: name -> demonstrations."""
        lines = []
        if self.conflicts:
            shown = "".join(f"\n{conflict}" for conflict in self.examples)
            text = f"{_prompts(self.conflicts)} different completions by different experts"
            text += _alike(handling, self.conflicts)
            lines += [f"{text}.{shown}", "\n  ".join(_ways_out(handling, [name for name in experts if name]))]
        if self.most is not None:
            lines.append(_by_one(self.others, self.most, handling))
        return lines


def _prompts(count: int) -> str:
    return f"{count:,} {'prompt has' if count == 1 else 'prompts have'}"


def _alike(handling: Handling, count: int) -> str:
    if (alike := handling.agreement) is None or (figure := alike.agreement) is None:
        return ""
    interval = f" [{figure.low:.1f}, {figure.high:.1f}]" if figure.low is not None else ""
    some = f"; from {figure.n:,} of the prompts" if figure.n < count else ""
    return (
        f". Two answers to one prompt are {figure.value:.1f}{interval} alike on average "
        f"(chrF, 100 is the same text{some})"
    )


def _by_one(count: int, most: ConflictingPrompt, handling: Handling) -> str:
    """Of prompts that one expert answered in several ways, or somebody who is not named."""
    known = all(most.writers)
    whose = "by one expert, which is no conflict" if known else "which is no conflict if one expert wrote them"
    text = (
        f"{_prompts(count)} several completions{' ' if known else ', '}{whose}: the clone learns that there is more "
        f"than one answer.\n{most}"
    )
    if known:
        return text
    leaves = (
        f"trains on the answer that most gave to a prompt and leaves {handling.outvoted:,} rows out{_ties(handling)}"
    )
    if handling.conflicts == "majority":
        return f"{text}\n  demonstrations.conflicts: majority {leaves}. Held-out prompts keep every answer."
    return (
        f"{text}\n  If several did, demonstrations.columns.expert says who wrote what, if a column does, and one of "
        f"them can be cloned; or demonstrations.conflicts: majority {leaves}."
    )


def _ties(handling: Handling) -> str:
    return f" ({handling.tied:,} votes are tied: the answer most like the others wins)" if handling.tied else ""


def _ways_out(handling: Handling, named: Sequence[str]) -> list[str]:
    """What the recipe does, or could do, about different experts; ``named``: all who are named, the busiest first."""
    if handling.expert is not None:
        lines = [f"demonstrations.expert: {handling.expert} is cloned, and nobody else."]
        if handling.others:
            answers = f"{handling.others:,} answer{'s' if handling.others != 1 else ''}"
            prompts = f"{handling.others_prompts:,} held-out prompt{'s' if handling.others_prompts != 1 else ''}"
            lines.append(f"The clone is compared with the other experts' {answers} to {prompts} too.")
        return lines
    if handling.conflicts == "majority":
        return [
            "demonstrations.conflicts: majority trains on the answer that most gave to a prompt and leaves "
            f"{handling.outvoted:,} rows out{_ties(handling)}. Held-out prompts keep every answer."
        ]
    return [
        "The clone learns a mixture of all answers (demonstrations.conflicts: keep). Instead,",
        "demonstrations.conflicts: majority would train on the answer that most gave to a prompt, leaving "
        f"{handling.outvoted:,} rows out{_ties(handling)};",
        f"demonstrations.expert: {named[0]} would clone one expert, and compare the clone with the others on held-out "
        "prompts.",
    ]
