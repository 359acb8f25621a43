"""Dialogues of a run turn by turn, and how close its clone comes on its own path: with its own turns in the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.messages import Message
from sft.demonstrations.stored import load_splits
from sft.gathering.items import rank
from sft.runs.atomic_files import read_jsonl
from sft.runs.run import Run

__all__ = ["dialogue_id", "dialogues_of", "held_out_dialogues", "own_scores"]

#: Held-out dialogues that are replayed, at most.
REPLAYED = 60


def dialogues_of(rows: Sequence[Demonstration]) -> dict[str, tuple[Message, ...]]:
    """Dialogue (its group) -> all its turns, of those with more than one turn of the expert."""
    found: dict[str, tuple[Message, ...]] = {}
    for d in rows:
        turns = (*d.prompt, d.answer)
        if sum(turn.role == "assistant" for turn in turns) > 1 and len(turns) > len(found.get(d.group, ())):
            found[d.group] = turns
    return found


def held_out_dialogues(run: Run) -> dict[str, tuple[Message, ...]]:
    """The dialogues of the test split, at most :data:`REPLAYED`, the same for every run that has them."""
    known = dialogues_of(load_splits(run).test)
    return {name: known[name] for name in sorted(known, key=lambda name: rank(0, "held out", name))[:REPLAYED]}


def dialogue_id(name: str) -> str:
    """What a held-out dialogue is called in the file of its turns."""
    return rank(0, "dialogue", name)[:12]


def own_scores(run: Run, score: Callable[[str, str], float]) -> dict[tuple[str, int], float]:
    """(dialogue, turn) -> score of what the clone wrote there on its own path; of second turns and later ones.

    A first turn has nothing of the clone's before it. Empty where nothing was replayed.
    """
    if not run.own_dialogues_path.exists():
        return {}
    written = {row["id"]: row["text"] for row in read_jsonl(run.own_dialogues_path)}
    found = {}
    for name, turns in held_out_dialogues(run).items():
        for turn, said in enumerate(one for one in turns if one.role == "assistant"):
            key = f"{dialogue_id(name)}-{turn}"
            if turn and key in written:
                found[name, turn] = score(written[key], said.content)
    return found
