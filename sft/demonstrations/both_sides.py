"""Completions that stand on both sides of a split under other prompts: one question in two wordings, perhaps.

Prompts are compared by what they say (``near_duplicates``), so a question in quite other words is not found; its answer
may be the same, word for word. Whether it is one question nobody can tell here, for a fixed answer is given to many. So
such completions are counted and shown, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft.demonstrations import columns
from sft.demonstrations.demonstration import Demonstration

__all__ = ["LONG", "OnBothSides"]

#: Characters from which two completions are not the same by chance; shorter are labels, numbers, "I do not know".
LONG = 40


@dataclass(frozen=True, slots=True)
class OnBothSides:
    """``count`` of ``held_out`` completions, all of those held out, stand in training too.

    ``examples``: addresses of a demonstration in training and of one held out, and the text; of three texts.
    """

    count: int
    held_out: int
    examples: tuple[tuple[str, str, str], ...]

    @classmethod
    def among(cls, parts: Mapping[str, Sequence[Demonstration]]) -> OnBothSides:
        """Of splits without leaks; case and white space around a text aside."""
        held_out = columns.joined([parts["validation"], parts["test"]])
        train, asked = _hashes(parts["train"]), _hashes(held_out)
        perhaps = asked[np.isin(asked, train)]  # 64 bits; that the texts are equal is seen below
        learned: dict[str, Demonstration] = {}
        for d in columns.picked(parts["train"], np.isin(train, perhaps) & (train != 0)):
            learned.setdefault(_plain(d.completion), d)
        pairs = [
            (learned.get(_plain(d.completion)), d)
            for d in columns.picked(held_out, np.isin(asked, perhaps) & (asked != 0))
        ]
        found = [(one, other) for one, other in pairs if one is not None]
        shown = {one.id: (one.address, other.address, one.completion) for one, other in reversed(found)}
        return cls(len(found), len(held_out), tuple(shown.values())[:-4:-1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        keys = ("train", "held_out", "completion")
        examples = [dict(zip(keys, each, strict=True)) for each in self.examples]
        return {"count": self.count, "held_out": self.held_out, "examples": examples}

    def __str__(self) -> str:
        """How many, what that may mean, and the examples; "" where there are none."""
        if not self.count:
            return ""
        stand = "completion stands" if self.count == 1 else "completions stand"
        text = (
            f"{self.count:,} of {self.held_out:,} held-out {stand} in training too, under other prompts. "
            "Where these ask the same in other words, give the rows one group (demonstrations.columns.group), and they "
            "stay on one side; a fixed answer to many questions may stay."
        )
        pairs = [f"  {one} (train) and {other}: {' '.join(text.split())[:100]}" for one, other, text in self.examples]
        return "\n".join([text, *pairs])


def _hashes(demonstrations: Sequence[Demonstration]) -> NDArray[np.int64]:
    """Of every completion, as it is compared; 0 of those that are not long enough."""
    texts = columns.completions(demonstrations)
    found = ((hash(_plain(text)) or 1) if len(text) >= LONG else 0 for text in texts)
    return np.fromiter(found, dtype=np.int64, count=len(demonstrations))


def _plain(text: str) -> str:
    return text.strip().casefold()
