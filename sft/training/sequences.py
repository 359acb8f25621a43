"""Rows as the sequences a model reads while it is fitted: rows of one dialogue in one, short rows behind each other.

A sequence is a list of rows of what was rendered. Usually it is one row. ``joined`` puts the turns of a
dialogue that were unrolled into several rows back into one pass, where that is the same tokens; ``packed``
fills sequences up to a length. Neither changes what a token is predicted from: in a joined sequence
each completion follows its own prompt, and packed rows do not see each other (``batches``).

Without padding, all rows of a batch stand in one line, and what they all begin with stands there once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import pad

from sft.demonstrations.demonstration import Demonstration
from sft.policies.prefix_cache import common_prefix
from sft.policies.rendering import Rendered
from sft.training.attention import BY_ROW
from sft.training.cut_rows import RowCut

#: The label of a position that is not supervised, as every Hugging Face loss reads it.
IGNORED = -100

#: A common beginning shorter than this is not worth the copies that it takes.
SHORTEST_SHARED_PREFIX = 8

Rows = Sequence[tuple[Demonstration, Rendered]]


# -- which rows make a sequence -----------------------------------------------------------------------------


def joined(rows: Rows) -> list[list[int]]:
    """Row numbers by sequence: turns of one dialogue together, where each row is how the next one begins.

    Turns that a template writes differently once others follow (a thought taken out, say) stay apart: their tokens
    are others. Sequences come in the order of their first rows.
    """
    dialogues: dict[object, list[int]] = {}
    for number, (demonstration, _) in enumerate(rows):
        source = demonstration.source
        dialogues.setdefault(number if source is None else (source.file, source.line), []).append(number)
    made: list[list[int]] = []
    for numbers in dialogues.values():
        chains: list[list[int]] = []
        for number in sorted(numbers, key=lambda one: len(rows[one][1])):
            prompt = rows[number][1].prompt_ids
            before = (rows[chain[-1]][1].input_ids for chain in chains)
            home = next((c for c, ids in zip(chains, before, strict=True) if prompt[: len(ids)] == ids), None)
            if home is None:
                chains.append([number])
            else:
                home.append(number)
        made += chains
    return sorted(made)


def packed(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of sequences by pack: each pack holds ``capacity`` tokens at most, by best fit, the longest first.

    At most 11/9 of the packs that are needed (Johnson 1974). A sequence longer than ``capacity`` has its own.
    """
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens that still fit, pack), ascending
    for number in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        place = bisect_left(room, (lengths[number], -1))
        if place < len(room):
            free, pack = room.pop(place)
            packs[pack].append(number)
        else:
            free, pack = capacity, len(packs)
            packs.append([number])
        insort(room, (free - lengths[number], pack))
    return packs


def dataset_of(rows: Rows, sequences: Iterable[Sequence[Sequence[int]]] | None = None) -> Dataset:
    """What the trainer is handed. An item has the ids and labels of its sequences behind each other.

    ``sequences``: for every item its sequences, each by the numbers of its rows in ``rows``; without it every row is
    an item of its own. ``lengths`` are those of the sequences, ``row`` the numbers of all rows in them.
    """
    items = [[[number]] for number in range(len(rows))] if sequences is None else list(sequences)
    columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "labels", "row", "lengths", "length")}
    for item in items:
        ids: list[int] = []
        labels: list[int] = []
        for chain in item:
            whole = rows[chain[-1]][1]
            own = [IGNORED] * len(whole)
            for number in chain:
                rendered = rows[number][1]
                begin = len(rendered) - len(rendered.completion_ids)
                own[begin : len(rendered)] = rendered.completion_ids
            ids += whole.input_ids
            labels += own
        columns["input_ids"].append(ids)
        columns["labels"].append(labels)
        columns["row"].append([number for chain in item for number in chain])
        columns["lengths"].append([len(rows[chain[-1]][1]) for chain in item])
        columns["length"].append(len(ids))
    return Dataset.from_dict(columns)


# -- batches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collator:
    """Items of one sequence each to right-padded tensors ``(batch, longest)``; ``row``: the rows in the batch."""

    filler: int

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad and stack; labels of padding are ignored. Raises ``ValueError`` for packed sequences."""
        if any(len(item["lengths"]) > 1 for item in items):
            raise ValueError("packed sequences in padded rows would see each other")
        longest = max(len(item["input_ids"]) for item in items)

        def padded(key: str, filler: int) -> torch.Tensor:
            return torch.tensor([item[key] + [filler] * (longest - len(item[key])) for item in items])

        lengths = torch.tensor([len(item["input_ids"]) for item in items])
        return {
            "input_ids": padded("input_ids", self.filler),
            "labels": padded("labels", IGNORED),
            "attention_mask": (torch.arange(longest) < lengths.unsqueeze(1)).long(),
            "row": torch.tensor([number for item in items for number in item["row"]]),
        }


@dataclass(frozen=True, slots=True)
class LineCollator:
    """Items to one line ``(1, tokens)`` without padding: what all sequences begin with, then the rest of each.

    ``segments``: the tokens of the common beginning, then of every sequence's rest; attention reads them. No
    token of the common beginning predicts a supervised one, so nothing of any sequence's loss lies in it.
    ``share``: whether there may be such a beginning; under dropout every row wants its own draw. ``attention``: the
    name of the one that keeps rows apart.
    """

    share: bool = True
    attention: str = BY_ROW

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Ids, labels and positions in one line, and where which sequence is."""
        ids, labels = [], []
        for item in items:
            end = 0
            for length in item["lengths"]:
                begin, end = end, end + length
                ids.append(item["input_ids"][begin:end])
                labels.append(item["labels"][begin:end])
        shared = _shared(ids, labels) if self.share else 0
        line, targets, positions = list(ids[0][:shared]), [IGNORED] * shared, list(range(shared))
        for own, wanted in zip(ids, labels, strict=True):
            line += own[shared:]
            targets += wanted[shared:]
            positions += range(shared, len(own))
        return {
            "input_ids": torch.tensor([line]),
            "labels": torch.tensor([targets]),
            "position_ids": torch.tensor([positions]),
            "segments": (shared, *(len(own) - shared for own in ids)),
            "row": torch.tensor([number for item in items for number in item["row"]]),
        }


def _shared(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with and leave unsupervised, one of the prompt's left to each."""
    prompts = (next((place for place, label in enumerate(own) if label != IGNORED), len(own)) for own in labels)
    shared = min(common_prefix(ids), min(prompts) - 1)
    return shared if shared >= SHORTEST_SHARED_PREFIX else 0


def part_of(line: dict[str, Any], cut: RowCut) -> dict[str, Any]:
    """This process's part of what a :class:`LineCollator` made, ``(1, tokens / parts)``, with word of the whole.

    Labels are moved to the tokens that predict them first. A line that does not go into equal parts is filled up by a
    row in which nothing is supervised.
    """
    labels = pad(line["labels"][:, 1:], (0, 1), value=IGNORED)
    missing = -labels.shape[1] % cut.parts
    filled = {
        "input_ids": pad(line["input_ids"], (0, missing)),
        "position_ids": pad(line["position_ids"], (0, missing)),
        "shift_labels": pad(labels, (0, missing), value=IGNORED),
    }
    own = {name: whole.chunk(cut.parts, dim=1)[cut.part].contiguous() for name, whole in filled.items()}
    return own | {"segments": (*line["segments"], missing) if missing else line["segments"], "cut": cut}
