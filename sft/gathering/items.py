"""What is asked: an item is one prompt to be answered. All drawing is by content hash, before a page opens.

drawn    "audit": at random; "chosen": by a rule that looks for what is hard
shown    "blind": written without having seen the clone's text; "drafted": the clone's text stands above
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sft.demonstrations.messages import Message, order_fault, prompt_key
from sft.runs.hashes import fingerprint

__all__ = ["Item", "asked_again", "drawn_first", "item_id", "marked", "rank", "share_of", "shared"]


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt to be answered. ``round``: 0 for demonstrations, k for what corrects the clone of round k - 1.

    ``shared``: every expert answers it. ``score``: what chose it. ``reference``: an answer that was in the file of
    prompts, shown to nobody. ``dialogue`` and ``turn``: which expert turn of which dialogue, from 0. ``only``: the one
    expert who is asked, whose own prompt it is; "" for anybody. ``again``: the item whose prompt it asks once more.
    """

    id: str
    prompt: tuple[Message, ...]
    group: str = ""
    round: int = 0
    drawn: str = "audit"
    shown: str = "blind"
    shared: bool = False
    score: float | None = None
    reference: str = ""
    dialogue: str = ""
    turn: int = 0
    only: str = ""
    again: str = ""

    def __post_init__(self) -> None:
        if self.drawn not in ("audit", "chosen") or self.shown not in ("blind", "drafted"):
            raise ValueError(f"an item is drawn 'audit' or 'chosen' and shown 'blind' or 'drafted', not {self.drawn!r} "
                             f"and {self.shown!r}")  # fmt: skip
        if fault := order_fault(self.prompt):
            raise ValueError(f"the prompt of item {self.id} {fault}")

    @property
    def key(self) -> str:
        """The prompt's key (``prompt_key``)."""
        return prompt_key(self.prompt)

    def to_row(self) -> dict[str, Any]:
        """JSON-ready values; what is at its default is left out."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {f.name: row[f.name] for f in fields(self) if f.name in ("id", "round") or row[f.name] != f.default}
        return kept | {"prompt": [turn.to_dict() for turn in self.prompt]}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Item:
        """Inverse of :meth:`to_row`. Raises ``ValueError`` for anything else."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in row.items() if name in known}
        try:
            turns = tuple(map(Message.from_dict, row["prompt"]))
            return cls(**(values | {"prompt": turns}))
        except (KeyError, TypeError) as error:
            raise ValueError(f"is no item ({type(error).__name__}: {error})") from None


def item_id(prompt: Sequence[Message], round: int = 0, *more: Any) -> str:
    """The id of an item: the same for the same prompt in the same round, whatever else is asked."""
    return fingerprint([prompt_key(tuple(prompt)), round, *more])[:12]


def rank(seed: int, *what: Any) -> str:
    """Where something comes in an order that hangs on its content and the seed alone."""
    return fingerprint([seed, *what])


def share_of(items: Iterable[Item], share: float, seed: int, about: str) -> set[str]:
    """Ids of ``share`` of the items, drawn by content hash: each by itself, so that appending changes nothing."""
    return {one.id for one in items if int(rank(seed, about, one.id)[:13], 16) / 16**13 < share}


def drawn_first(items: Sequence[Item], count: int, seed: int, about: str) -> set[str]:
    """Ids of exactly ``count`` of the items, those that come first by content hash."""
    ranked = sorted(items, key=lambda one: rank(seed, about, one.id))
    return {one.id for one in ranked[:count]}


def marked(items: Iterable[Item], chosen: set[str], change: Callable[[Item], Item]) -> list[Item]:
    """The items in their order, those whose id is ``chosen`` changed."""
    return [change(one) if one.id in chosen else one for one in items]


def shared(items: Sequence[Item], share: float, seed: int) -> list[Item]:
    """The items, a ``share`` of them marked as asked of every expert."""
    return marked(items, share_of(items, share, seed, "shared"), lambda one: replace(one, shared=True))


def asked_again(items: Sequence[Item], share: float, seed: int) -> list[Item]:
    """Items that ask a ``share`` of the prompts once more: what an expert says to them shows how steady that is."""
    drawn = share_of(items, share, seed, "again")
    return [replace(one, id=item_id(one.prompt, one.round, "again"), again=one.id) for one in items if one.id in drawn]
