"""Clones whose errors lie in a known part of their texts, or nowhere."""

from __future__ import annotations

import random
from collections.abc import Callable

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.findings import Compounding
from sft.fidelity.probes.compounding import compounding
from sft.runs.records import Completion

STOCK = [a + b for a in "bcdfghklmnprst" for b in ("ala", "eno", "iri", "omu", "uta", "avi", "esto", "ilma")]
STRANGE = [word + "x" for word in STOCK]
LENGTH = 45


def expert(draw: random.Random, subject: list[str]) -> list[str]:
    """Words on a subject, and freer ones towards the end."""
    free = [draw.random() < 0.1 + 0.3 * n / LENGTH for n in range(LENGTH)]
    return [draw.choice(STOCK if each else subject) for each in free]


def spoilt(words: list[str], draw: random.Random, chance: Callable[[float], float]) -> list[str]:
    return [draw.choice(STRANGE) if draw.random() < chance(n / len(words)) else word for n, word in enumerate(words)]


def measured(kind: str, prompts: int, seed: int) -> Compounding:
    draw = random.Random(f"{kind} {prompts} {seed}")
    items, written = [], {}
    for number in range(prompts):
        subject = draw.sample(STOCK, 12)
        texts = [expert(draw, subject) for _ in range(4)]
        own = expert(draw, subject)
        if kind == "constant":
            own = spoilt(own, draw, lambda _: 0.3)
        elif kind == "rising":
            own = spoilt(own, draw, lambda place: 0.6 * place)
        elif kind == "falling":
            own = spoilt(own, draw, lambda place: 0.6 * (1 - place))
        elif kind == "truncated":
            own = own[: LENGTH // 3]
        elif kind == "consensus":
            own = [draw.choice(subject) for _ in range(LENGTH)]
        references = tuple(" ".join(text) for text in texts[1:])
        items.append(HeldOut(f"p{number}", (Message("user", str(number)),), references, ("", "", ""), f"c{number}"))
        written[f"p{number}"] = Completion(f"p{number}", " ".join(own), kind != "truncated")
    return compounding(items, written)
