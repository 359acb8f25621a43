"""Which held-out prompts are one observation: those that an interval must not count as several.

Prompts of one group are. So are, though nobody has said so, wordings of one question and questions with one answer:
six facts in twenty wordings each are six observations, and an interval over 120 covers half as often as it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sft.demonstrations.demonstration import HeldOut, folded, prompt_text
from sft.demonstrations.near_duplicates import BOILERPLATE_LEAST, families

__all__ = ["joined"]

#: Equal references join their prompts from so many words on, or from so many characters where a script has no spaces
#: between words. Shorter ones (labels, numbers, "yes") are equal by chance.
WORDS, CHARACTERS = 4, 24
#: Word-shingle Jaccard similarity from which two prompts are near-duplicates; the splits' own.
ALIKE = 0.8


def joined(held_out: Sequence[HeldOut]) -> list[HeldOut]:
    """``held_out`` with one cluster for all that hang together, named as the first of them was.

    Prompts hang together that share a cluster, that have the same references, each of some length (case and white space
    aside), or that are near-duplicates; and whatever hangs together with those.
    """
    root: dict[str, str] = {}

    def top(name: str) -> str:
        while (above := root.setdefault(name, name)) != name:
            root[name], name = root.get(above, above), above
        return name

    order = {name: number for number, name in reversed(list(enumerate(item.cluster for item in held_out)))}

    def join(one: str, other: str) -> None:
        first, second = sorted((top(one), top(other)), key=order.__getitem__)
        root[second] = first

    seen: dict[frozenset[str], str] = {}
    for item in held_out:
        texts = frozenset(map(folded, item.references))
        if all(len(text.split()) >= WORDS or len(text) >= CHARACTERS for text in texts):
            join(seen.setdefault(texts, item.cluster), item.cluster)
    if len(held_out) >= BOILERPLATE_LEAST:  # of fewer nobody can tell what is the form that all have
        alike = families([prompt_text(item.prompt) for item in held_out], ALIKE)
        for item, number in zip(held_out, alike, strict=True):
            join(held_out[number].cluster, item.cluster)
    return [replace(item, cluster=top(item.cluster)) for item in held_out]
