"""A round of dialogues: the user's turns as they were, the clone's own turns between them, the expert asked at each."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft.demonstrations.messages import Message, opening, prompt_key
from sft.errors import UserError
from sft.gathering import choosing
from sft.gathering.folder import Gathering
from sft.gathering.items import Item, item_id, rank
from sft.gathering.prompts import read_prompts, screened

__all__ = ["ask_dialogues", "dialogues_in"]


def dialogues_in(
    pool: Path, gathering: Gathering, trained: Mapping[str, Sequence[Message]], number: int
) -> Generator[str, None, dict[str, tuple[Message, ...]]]:
    """Dialogue -> turns, of those in ``pool`` with several turns of the user that may be asked; lines to be said.

    The assistant's turns in the file are nobody's: the clone's own stand in their place.
    """
    longest: dict[str, Item] = {}
    for one in read_prompts(pool, round=number)[0]:
        name = prompt_key(opening(one.prompt))
        if sum(turn.role == "user" for turn in one.prompt) > 1 and len(one.prompt) > len(
            longest.get(name, one).prompt[1:]
        ):
            longest[name] = replace(one, group=one.group or name)
    fresh = screened((one for name, one in longest.items() if name not in trained), gathering.held_out())
    if fresh.refused:
        yield fresh.in_words(gathering.held_out()) + "."
    if longest and not fresh.items:
        raise UserError(f"{pool}: has no dialogue that may be asked; name others")
    return {prompt_key(opening(one.prompt)): (*one.prompt, Message("assistant", "…")) for one in fresh.items}


def ask_dialogues(
    gathering: Gathering, clone: Any, known: Mapping[str, tuple[Message, ...]], facts: dict[str, Any], count: int
) -> Iterator[str]:
    """Items from the user's turns of the dialogues ``known``, the clone's own turns in between."""
    from sft.gathering.clone import replayed

    seed, number = gathering.settings.seed, facts["number"]
    ranked = sorted(known, key=lambda name: rank(seed, "dialogue", number, name))
    chosen, turns = list[str](), 0
    while ranked and turns < count:
        chosen.append(ranked.pop(0))
        turns += sum(turn.role == "assistant" for turn in known[chosen[-1]])
    wanted = [Item(item_id(known[name][:1], number, name), known[name][:-1], round=number) for name in chosen]
    drawn = choosing.draw(wanted, len(wanted), choose="random", audit=1.0, blind=facts["blind"], seed=seed, scores={})
    by_id = {one.id: one for one in drawn}
    items = replayed(clone, gathering.clone_path(number), {name: known[name] for name in chosen},
                     {name: by_id[one.id] for name, one in zip(chosen, wanted, strict=True)})  # fmt: skip
    gathering.add(items)
    yield (
        f"Round {number}: {len(chosen)} dialogues, {len(items)} turns with the clone's own before them. The clone "
        "sees its own mistakes; here corrections are worth more than demonstrations."
    )
