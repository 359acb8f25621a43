"""How alike two prompts are, exactly: the Jaccard similarity of their word 3-shingles, for many pairs at once.

What a shingle is, what of it is boilerplate, and what a difference in filling in a template counts:
:mod:`sft.demonstrations.near_duplicates`. The prompts of a dialogue, each of which goes on from the one before, share
one list of their shingles in the order in which they first stand: every prompt has a beginning of it. So no word is
looked at once for each prompt that it stands in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations import shingles
from sft.demonstrations.columns import texts_at
from sft.demonstrations.shingles import HASH_BITS, I64, U64, Boilerplate, Pieces, within_runs

__all__ = ["counted_differences", "similarities"]

_CHARACTERS = 4 * shingles.CHUNK  # of whole texts, compared at once
_PAIRS = 1 << 14  # and no more pairs than this, so that 16 bits can number them


@dataclass(frozen=True, slots=True)
class _Sets:
    """Different 48-bit hashes of each of ``n`` texts.

    Text ``i`` has ``values[starts[i] : starts[i] + sizes[i]]``, which others of its run have too, each a longer or
    shorter part, and none of them twice. ``starts``, ``sizes``: (n,).
    """

    values: U64
    starts: I64
    sizes: I64

    @classmethod
    def of(cls, values: U64, counts: I64, first: I64) -> _Sets:
        """``values``: of each text the ``counts`` that it has beyond the one before in its run; ``first``: (n,)."""
        text_of = np.repeat(np.arange(len(counts)), counts)
        values, text_of = shingles.firsts(values, first[text_of], text_of)
        order = np.argsort(text_of, kind="stable")  # a run's in the order in which they first stand
        values, text_of = values[order], text_of[order]
        own = np.bincount(text_of, minlength=len(counts))
        return cls(values, (np.cumsum(own) - own)[first], within_runs(np.add, own, first))

    def spread(self, side: I64) -> tuple[U64, I64]:
        """The hashes of text ``side[i]`` for every pair ``i``, and the pair of each."""
        each = self.sizes[side]
        offset = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        return self.values[np.repeat(self.starts[side], each) + offset], np.repeat(np.arange(len(side)), each)


def similarities(
    texts: Sequence[str], others: Sequence[str], rows: I64, near: I64, characters: I64, boilerplate: Boilerplate
) -> NDArray[np.float64]:
    """Exact similarity of the pairs ``(texts[rows[i]], others[near[i]])``: (n,), each in [0, 1].

    ``characters``: (n,) about so many have both texts of a pair; of those that are looked at together memory depends.
    """
    result = np.zeros(len(rows))
    size = np.cumsum(characters)
    start, room = 0, _CHARACTERS
    while start < len(rows):
        most = np.searchsorted(size, (size[start - 1] if start else 0) + room, side="right")
        here = slice(start, max(min(int(most), start + _PAIRS), start + 1))
        chosen, one, other = _chosen(texts, others, rows[here], near[here])
        result[here] = _alike(chosen, one, other, boilerplate)
        # Prompts of dialogues are read once and not for each pair: as much is read at once where there are more pairs.
        read = sum(map(len, chosen.texts))
        saved = (size[here.stop - 1] - (size[start - 1] if start else 0)) / max(read, 1)
        start, room = here.stop, int(_CHARACTERS * min(max(saved, 1), 4))
    return result


def _chosen(texts: Sequence[str], others: Sequence[str], rows: I64, near: I64) -> tuple[Pieces, I64, I64]:
    """Each text of the pairs once, and of each pair the places of its two there."""
    mine, row_at = np.unique(rows, return_inverse=True)
    theirs, near_at = np.unique(near, return_inverse=True)
    every = chain(texts_at(texts, mine), texts_at(others, theirs))
    (chosen,) = shingles.chunks(every, characters=math.inf, most=math.inf)
    return chosen, row_at, near_at + len(mine)


def _alike(chosen: Pieces, row_at: I64, near_at: I64, boilerplate: Boilerplate) -> NDArray[np.float64]:
    found = shingles.grown(chosen, boilerplate)
    shared, one, other = _compared([_Sets.of(*found.telling, found.first)], row_at, near_at)
    alone = np.arange(len(chosen.texts))  # an end is a text's own: the next of its run ends elsewhere
    filled = [_Sets.of(*found.pieces, found.first), _Sets.of(*found.ends, alone)]
    different = counted_differences(*_compared(filled, row_at, near_at)[1:])
    return np.asarray(shared / np.maximum(shared + one + other + different, 1))


def _compared(sets: Sequence[_Sets], one: I64, other: I64) -> tuple[I64, I64, I64]:
    """How many different hashes texts ``one[i]`` and ``other[i]`` both have, and how many only the one or the other.

    ``sets``: what a text has stands in one or in several, in each something else.
    """
    spread = [each.spread(side) for side in (one, other) for each in sets]
    tagged = np.concatenate([(pair.astype(np.uint64) << HASH_BITS) | values for values, pair in spread])
    tagged.sort()
    twice = tagged[1:][tagged[1:] == tagged[:-1]] >> HASH_BITS  # once from each side
    shared = np.bincount(twice.astype(np.int64), minlength=len(one))
    sizes = np.sum([each.sizes for each in sets], axis=0)
    return shared, sizes[one] - shared, sizes[other] - shared


def counted_differences(mine: NDArray, theirs: NDArray) -> NDArray:
    """What counts of the pieces that only one of two texts has: all of them where each has some, and none elsewhere."""
    return np.where((mine > 0) & (theirs > 0), mine + theirs, 0)
