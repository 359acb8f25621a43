"""Clones that are as sure as they are right, surer, and less sure, by construction."""

from __future__ import annotations

import random

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.findings import OwnWords
from sft.fidelity.probes.calibration import own_words
from sft.runs.records import Completion

WORDS = [a + b for a in "bcdfgh" for b in ("ala", "eno", "iri", "omu", "uta")]
LENGTH = 20


class Trigrams:
    """An expert who draws each word given the two before; ``power`` above 1 sharpens the chances, below 1 flattens."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.known = draw, dict[tuple[str, str], tuple[list[str], list[float]]]()

    def chances(self, before: tuple[str, str]) -> tuple[list[str], list[float]]:
        if before not in self.known:
            self.known[before] = (self.draw.sample(WORDS, 4), [0.6, 0.25, 0.1, 0.05])
        return self.known[before]

    def text(self, start: tuple[str, str], draw: random.Random, power: float = 1.0, *, greedy: bool = False) -> str:
        before, said = start, []
        for _ in range(LENGTH):
            words, chances = self.chances(before)
            word = words[0] if greedy else draw.choices(words, [chance**power for chance in chances])[0]
            said.append(word)
            before = before[1], word
        return " ".join(said)


def measured(power: float, prompts: int, seed: int, references: int = 1) -> OwnWords:
    draw = random.Random(f"{power} {prompts} {seed}")
    language = Trigrams(draw)
    items, written, samples = [], {}, {}
    for number in range(prompts):
        start, key = (draw.choice(WORDS), draw.choice(WORDS)), f"p{number}"
        texts = tuple(language.text(start, draw) for _ in range(references))
        items.append(HeldOut(key, (Message("user", " ".join(start)),), texts, ("",) * references, key))
        written[key] = Completion(key, language.text(start, draw, greedy=True), True)
        samples[key] = Completion(key, language.text(start, draw, power), True)
    return own_words(items, written, [samples])


def topics(prompts: int, seed: int, *, settled: bool) -> OwnWords:
    """Ten equally good answers: a clone that draws among them as experts do, or one that has settled on one."""
    draw = random.Random(f"topics {prompts} {seed}")
    answers = [" ".join(draw.choices(WORDS, k=12)) for _ in range(10)]
    items, written, samples = [], {}, {}
    for number in range(prompts):
        key = f"p{number}"
        items.append(HeldOut(key, (Message("user", key),), (draw.choice(answers),), ("",), key))
        written[key] = Completion(key, draw.choice(answers), True)
        samples[key] = Completion(key, written[key].text if settled else draw.choice(answers), True)
    return own_words(items, written, [samples])
