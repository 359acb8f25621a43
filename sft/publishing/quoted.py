"""Held-out demonstrations that stand word for word in what is published, and a scorecard and card without any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import prompt_text
from sft.fidelity.scorecard import Scorecard
from sft.fidelity.stored import read_held_out
from sft.runs.private import texts_in
from sft.runs.run import Run

__all__ = ["NOTHING_QUOTED", "Quoted", "quoted", "without_examples"]

#: A shorter text may be in any other by chance.
_SHORTEST = 16
_SHOWN, _LENGTH = 3, 100


@dataclass(frozen=True, slots=True)
class Quoted:
    """``count`` of ``of`` held-out demonstrations stand word for word in ``files``; ``shown``: three, shortened.

    ``why``: why there are none, where that was asked for.
    """

    count: int
    of: int
    files: tuple[str, ...]
    shown: tuple[str, ...]
    why: str = ""

    def to_lines(self) -> list[str]:
        """For the plan."""
        if not self.of:
            return []
        if not self.count:
            return [f"none of {self.of:,} held-out demonstrations{f' ({self.why})' if self.why else ''}"]
        which = f"{self.count:,} of {self.of:,} held-out demonstrations"
        stand = "stands" if self.count == 1 else "stand"
        lines = [f"{which} {stand} word for word in {' and '.join(self.files)}; --no-examples leaves them out"]
        return lines + [f"  {one}" for one in self.shown]


NOTHING_QUOTED = Quoted(0, 0, (), ())


def quoted(run: Run, folder: Path, card: Scorecard, *, why: str = "") -> Quoted:
    """What of the held-out demonstrations of ``run`` stands in scorecard and card in ``folder``."""
    if not run.held_out_path.exists():
        return NOTHING_QUOTED
    items = read_held_out(run)
    texts = {
        "scorecard.json": "\n".join(texts_in(json.loads((folder / "scorecard.json").read_bytes()))),
        "README.md": (folder / "README.md").read_text(encoding="utf-8"),
    }
    examples = {one.id for one in card.examples}
    found, files = [], set[str]()
    for item in items:
        own = [text for text in item.references if len(text) >= _SHORTEST]
        here = {name for name, text in texts.items() if any(one in text for one in own)}
        if item.id in examples:
            here.add("scorecard.json")
        if here:
            files |= here
            found.append(f"{_short(prompt_text(item.prompt))} -> {_short(item.references[0])}")
    return Quoted(len(found), len(items), tuple(name for name in texts if name in files), tuple(found[:_SHOWN]), why)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LENGTH else f"{words[: _LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"


def without_examples(value: Any) -> Any:
    """The JSON ``value`` of a scorecard without the texts of demonstrations and completions: its figures."""
    if isinstance(value, dict):
        return {key: [] if key == "examples" else without_examples(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_examples(part) for part in value]
    return value
