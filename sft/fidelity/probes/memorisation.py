"""Does the clone repeat its training text more than the expert repeats himself?

An expert has phrases, so a clone that has caught the manner shares runs of words with the training completions.
What tells is the excess over what the held-out experts, who never saw the training set either, share with it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations.demonstration import Demonstration, HeldOut
from sft.fidelity.findings import Memorisation, SharedRun
from sft.fidelity.near_copies import folded, nearly_in
from sft.fidelity.probes import Absent
from sft.metrics import intervals, nfc
from sft.metrics.intervals import estimates
from sft.metrics.text import words
from sft.runs.records import Completion

__all__ = ["longest_runs", "memorisation"]

I64 = NDArray[np.int64]

#: Runs shown at most, longest first.
EXAMPLES = 5
#: A completion is a copy where so much of its words is one run of a training completion's, and the run either so many
#: words long or as large a part of the training completion too. Without that a terse clone would be called a copier:
#: of shell commands cut to 60 % of their words, 36 % are part of some training command, of whole ones 10 %.
COPIED, AT_LENGTH = 0.9, 10


def memorisation(
    held_out: Sequence[HeldOut], tuned: Mapping[str, Completion], train: Sequence[Demonstration], *, seed: int
) -> Memorisation:
    """Longest runs of words shared with any training completion, and verbatim copies of one.

    The expert's run on a prompt is the mean over its references. A copy is a training completion word for word (in
    NFC, case folded, white space collapsed), or nearly: an edit similarity of 95 % (``near_copies``), or a run of 90 %
    of its words (:data:`COPIED`). The expert's is looked for in the first reference. That the clone's copies are more
    is tested by mid-p
    McNemar, or where prompts come in clusters by flipping the signs of whole clusters.
    Examples are the clone's longest runs that are longer than nine in ten of the experts' texts share, each run once.
    ``seed`` is that of the sign flips. Raises ``Absent`` without training demonstrations or completions.
    """
    items = [item for item in held_out if item.id in tuned]
    if not train:
        raise Absent("the training demonstrations are not known")
    if not items:
        raise Absent("the clone wrote nothing")
    labels = [item.cluster for item in items]
    written = [tuned[item.id].text for item in items]
    references = [text for item in items for text in item.references]
    # Of training completions that hold one run the shortest comes first, of which the run is the largest part.
    sizes = [len(words(demonstration.completion)) for demonstration in train]
    shortest = sorted(range(len(train)), key=sizes.__getitem__)
    train = [train[place] for place in shortest]
    learned = [demonstration.completion for demonstration in train]
    runs, starts, sources = longest_runs([*written, *references], learned)
    own, experts = runs[: len(items)], runs[len(items) :]
    counts = [len(item.references) for item in items]
    firsts = np.cumsum([0, *counts[:-1]])
    typical = np.add.reduceat(experts, firsts) / counts

    texts = [*written, *(item.references[0] for item in items)]
    places = np.concatenate([np.arange(len(items)), len(items) + firsts])
    known = {folded(text) for text in learned}
    exact = np.array([folded(text) in known for text in texts])
    near = nearly_in(texts, learned) | _mostly_one_run(
        texts, runs[places], np.array([*sorted(sizes), 0])[sources[places]]
    )
    copied, repeated = np.split(exact | near, 2)
    verbatim = np.split(exact, 2)
    bound = float(np.quantile(experts, 0.9))
    shown: dict[str, SharedRun] = {}
    for place in sorted(range(len(items)), key=lambda i: (-own[i], items[i].id)):
        if own[place] <= bound or len(shown) == EXAMPLES:
            break
        first, count = int(starts[place]), int(own[place])
        run = " ".join(words(written[place])[first : first + count])
        if run not in shown:
            text = _stretch(written[place], first, count)
            source = train[sources[place]]
            item = items[place]
            shown[run] = SharedRun(item.id, text, count, source.id, source.address, item.asked)
    return Memorisation(
        longest={
            "tuned": estimates.mean(own, labels, (0, math.inf)),
            "expert": estimates.mean(typical, labels, (0, math.inf)),
        },
        excess=estimates.mean(own - typical, labels),
        copies={"tuned": estimates.share(copied, labels), "expert": estimates.share(repeated, labels)},
        verbatim={who: estimates.share(one, labels) for who, one in zip(("tuned", "expert"), verbatim, strict=True)},
        p_value=_more(copied, repeated, labels, seed),
        examples=tuple(shown.values()),
    )


def longest_runs(texts: Sequence[str], learned: Sequence[str]) -> tuple[I64, I64, I64]:
    """How many words in a row each text shares with any of ``learned``, at which word they start, and with which.

    Words are those of ``metrics.words``; three vectors of shape (n,): 0, 0 and -1 where nothing is shared. Of equal
    runs the first counts, and of the training texts that hold it the first.

    The n-grams of the texts are numbered for growing n, and only places of both sides that still match go on: exact,
    and little is left after a few steps. n grows by a quarter; texts lost on the way are looked at again step by step.
    """
    numbers: dict[str, int] = {}
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    sources = sorted({text: place for place, text in reversed(list(enumerate(learned)))}.items(), key=lambda s: s[1])
    mine, begins = _joined(distinct, numbers)
    theirs, origins = _joined((text for text, _ in sources), numbers)
    best, start, source = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64), np.full(len(begins), -1)

    def record(n: int, mine: _Places, theirs: _Places) -> NDArray[np.bool_]:
        """Which texts still share a run of ``n`` words."""
        text_of = np.searchsorted(begins, mine.at, side="right") - 1
        reached, first = np.unique(text_of, return_index=True)
        example = np.empty(int(mine.grams.max(initial=-1)) + 1, dtype=np.int64)
        example[theirs.grams[::-1]] = theirs.at[::-1]  # of places with one n-gram the first is written last
        found = example[mine.grams[first]]
        best[reached], start[reached] = n, mine.at[first] - begins[reached]
        source[reached] = np.searchsorted(origins, found, side="right") - 1
        alive = np.zeros(len(begins), dtype=bool)
        alive[reached] = True
        return alive

    n, (mine, theirs) = 1, _shared(mine.at, mine.grams, theirs.at, theirs.grams)
    alive = record(n, mine, theirs)
    while alive.any():
        by = max(1, n // 4)
        longer = _grown(mine, theirs, by)
        still = record(n + by, *longer)
        if by > 1:  # a text that shares no run of n + by words may share one of n + 1 to n + by - 1
            lost = (alive & ~still)[np.searchsorted(begins, mine.at, side="right") - 1]
            slow, m = (_Places(mine.at[lost], mine.grams[lost]), theirs), n
            while len(slow[0].at):
                slow, m = _grown(*slow, 1), m + 1
                record(m, *slow)
        n, (mine, theirs), alive = n + by, longer, still
    learned_at = np.array([*(place for _, place in sources), -1])  # a source of -1, nothing shared, stays -1
    index = [distinct[text] for text in texts]
    return best[index], start[index], learned_at[source[index]]


@dataclass(frozen=True, slots=True)
class _Places:
    """Places in joined texts, ascending, and the number of the n-gram that starts at each."""

    at: I64
    grams: I64


def _joined(texts: Iterable[str], numbers: dict[str, int]) -> tuple[_Places, I64]:
    """Words of all texts, numbered as first met, and where each text begins; texts stand one place apart."""
    split = [words(text) for text in texts]
    lengths = np.array([len(text) for text in split], dtype=np.int64)
    every = [numbers.setdefault(word, len(numbers)) for text in split for word in text]
    at = np.arange(len(every)) + np.repeat(np.arange(len(split)), lengths)
    return _Places(at, np.array(every, dtype=np.int64)), np.cumsum(lengths + 1) - lengths - 1


def _grown(mine: _Places, theirs: _Places, by: int) -> tuple[_Places, _Places]:
    """From n-grams to those of ``by`` words more that both sides have, ``by`` at most n.

    Such a one is two n-grams that overlap or touch, so no word of it is left out, and none stands in another text.
    """
    count = max(int(side.grams.max(initial=0)) for side in (mine, theirs)) + 1
    pairs: list[I64] = []
    for side in (mine, theirs):
        place = np.minimum(np.searchsorted(side.at, side.at + by), len(side.at) - 1)
        on = side.at[place] == side.at + by
        pairs += [side.at[on], side.grams[on] * count + side.grams[place[on]]]
    return _shared(*pairs)


def _shared(my_places: I64, mine: I64, their_places: I64, theirs: I64) -> tuple[_Places, _Places]:
    """The places on both sides whose n-gram, however numbered, the other side has too, numbered anew."""
    known, grams = np.unique(mine, return_inverse=True)
    place = np.minimum(np.searchsorted(known, theirs), max(len(known) - 1, 0))
    hit = known[place] == theirs if len(known) else np.zeros(len(theirs), dtype=bool)
    their_places, theirs = their_places[hit], place[hit]
    common = np.zeros(len(known), dtype=bool)
    common[theirs] = True
    on = common[grams]
    return _Places(my_places[on], grams[on]), _Places(their_places, theirs)


def _mostly_one_run(texts: Sequence[str], runs: I64, sizes: I64) -> NDArray[np.bool_]:
    """Whether each text is, but for a few words, one run of a training completion that has ``sizes`` words.

    ``runs``: words of the longest run that the text shares with it.
    """
    mine = np.array([len(words(text)) for text in texts])
    of_both = runs >= COPIED * np.maximum(mine, sizes)
    return (runs > 0) & (of_both | ((runs >= COPIED * mine) & (runs >= AT_LENGTH)))


def _more(copied: NDArray[np.bool_], repeated: NDArray[np.bool_], labels: Sequence[str], seed: int) -> float:
    if len(set(labels)) < len(labels):
        return intervals.sign_flip(np.subtract(copied, repeated, dtype=np.float64), labels, seed=seed)
    return intervals.mcnemar_mid_p(int((copied & ~repeated).sum()), int((repeated & ~copied).sum()), one_sided=True)


def _stretch(text: str, first: int, count: int) -> str:
    """The part of ``text`` that its words ``first`` to ``first + count`` take up, as it was written."""
    text = nfc(text)
    wanted = words(text)
    ends = range(len(text) + 1)
    start = bisect_left(ends, first + 1, key=lambda end: len(words(text[:end]))) - 1
    end = bisect_left(ends, True, key=lambda end: words(text[:end])[: first + count] == wanted[: first + count])
    part = text[start:end]
    return part if words(part) == wanted[first : first + count] else " ".join(wanted[first : first + count])
