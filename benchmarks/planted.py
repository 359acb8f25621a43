"""How often a planted clone gets each verdict: over and over, with another held-out set and other experts' words.

    python benchmarks/planted.py --repeats 20

A world of restaurant descriptions in which every prompt is answered by two of many experts of one manner, in
clusters of two prompts. Every clone finds the experts' words likelier than the base model does, so that nothing
but what it writes holds it back; "no better than the base" is the exception.
"""

from __future__ import annotations

import argparse
import collections
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out
from sft.fidelity import floors
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.score_table import ScoreRow, score_rows
from sft.fidelity.scorecard import RUNGS, Scorecard
from sft.runs.records import Completion, TokenScores

PLACES = ["harbour", "market", "old mill", "station", "library", "river bend", "castle", "school", "bridge", "theatre"]
FOODS = ["noodle", "herring", "dumpling", "waffle", "curry", "cheese", "barley soup", "plum cake", "lentil", "trout"]
MOODS = ["quiet", "crowded", "shabby", "elegant", "cheerful", "gloomy"]
OPENINGS = ["but honest", "yet honest", "and friendly", "but sincere", "and honest", "yet warm"]
HOUSES = ["house", "place", "kitchen", "parlour"]
CHEAP = ["Bring friends.", "Bring the children.", "Come hungry.", "Bring everyone."]
DEAR = ["Bring your purse.", "Mind the bill.", "Save up first.", "Bring a banker."]
TRAIN = 200

Writer = Callable[[HeldOut, random.Random], str]


def manner(prompt: str, draw: random.Random) -> str:
    """What one of the experts writes: the same facts in the same order, in words of his own choice."""
    place, food, mood, price = (part.split(": ")[1] for part in prompt.split("; "))
    closing = draw.choice(CHEAP if int(price) < 25 else DEAR)
    house, opening = draw.choice(HOUSES), draw.choice(OPENINGS)
    return f"{mood.capitalize()} {opening}, the {food} {house} by the {place} asks {price} crowns. {closing}"


def world(n: int, seed: int) -> tuple[list[Demonstration], list[HeldOut]]:
    """Training demonstrations, and ``n`` prompts that two experts answered."""
    draw = random.Random(seed)
    facts = [(p, f, m, price) for p in PLACES for f in FOODS for m in MOODS for price in range(9, 60, 5)]
    made = []
    for i, (place, food, mood, price) in enumerate(draw.sample(facts, TRAIN + n)):
        prompt = f"place: {place}; food: {food}; mood: {mood}; price: {price}"
        made.append(Demonstration((Message("user", prompt),), manner(prompt, draw), id=str(i)))
    asked = []
    for i, item in enumerate(held_out(made[TRAIN:])):
        second = manner(item.prompt[0].content, draw)
        asked.append(replace(item, references=(item.references[0], second), experts=("a", "b"), cluster=str(i // 2)))
    return made[:TRAIN], asked


def written(asked: Sequence[HeldOut], writer: Writer, seed: int, finished: float = 1.0) -> dict[str, Completion]:
    draw = random.Random(seed)
    return {item.id: Completion(item.id, writer(item, draw), draw.random() < finished) for item in asked}


def tokens(asked: Sequence[HeldOut], nats: float, seed: int) -> dict[str, TokenScores]:
    draw = np.random.default_rng(seed)
    found = {}
    for item in asked:
        size = len(item.references[0].split()) + 1
        spent = tuple(float(v) for v in nats * draw.gamma(2, 0.5, size=size) * np.exp(0.3 * draw.normal()))
        found[item.id] = TokenScores(item.id, spent, (0,) * size, spent, len(item.references[0].encode()))
    return found


def perfect(item: HeldOut, draw: random.Random) -> str:
    """One more expert of the same manner."""
    return manner(item.prompt[0].content, draw)


def base(item: HeldOut, draw: random.Random) -> str:
    """Half of the words of the prompt, and some of its own."""
    words = item.prompt[0].content.replace(";", "").replace(":", "").split()
    return "Sure! " + " ".join(draw.sample(words, len(words) // 2)) + " is nice."


def shots(item: HeldOut, draw: random.Random) -> str:
    """What three demonstrations in the prompt give: the manner, and every other fact."""
    words = perfect(item, draw).split()
    return " ".join(word for word in words if draw.random() < 0.5)


def clones(train: Sequence[Demonstration], asked: Sequence[HeldOut]) -> dict[str, tuple[Writer, float]]:
    """Name -> what it writes, and how often it stops by itself."""
    shortcuts = floors.floor_completions(train, asked)

    def shortcut(system: str) -> Writer:
        return lambda item, draw: shortcuts[system][item.id].text

    def forgetful(item: HeldOut, draw: random.Random) -> str:
        return " ".join(word for word in perfect(item, draw).split() if draw.random() < 0.92)

    def half(item: HeldOut, draw: random.Random) -> str:
        return perfect(item, draw) if draw.random() < 0.5 else shortcuts["R"][item.id].text

    return {
        "perfect (a third expert)": (perfect, 1.0),
        "perfect, but drops every twelfth word": (forgetful, 1.0),
        "half perfect, half retriever (copies verbatim)": (half, 1.0),
        "prompt copier": (shortcut("P"), 1.0),
        "retriever": (shortcut("R"), 1.0),
        "constant": (shortcut("K"), 1.0),
        "mute": (lambda item, draw: "", 1.0),
        "rambler": (lambda item, draw: perfect(item, draw) + " Also worth knowing:" * 40, 0.0),
        "never stops": (perfect, 0.0),
        "no better than the base": (base, 1.0),
    }


def card(
    asked: Sequence[HeldOut],
    train: Sequence[Demonstration],
    shortcuts: Mapping[str, Mapping[str, Completion]],
    rows: Sequence[ScoreRow],
    clone: tuple[Writer, float],
    nats: float,
    seed: int,
) -> Scorecard:
    writer, finished = clone
    tuned = written(asked, writer, 10 * seed + 3, finished)
    scores = {s: tokens(asked, level, 10 * seed + k) for k, (s, level) in enumerate((("B0", 3.0), ("B3", 2.5)))}
    observed = Observations(
        asked,
        {"tuned": tuned, **shortcuts},
        {**scores, "tuned": tokens(asked, nats, 10 * seed + 5)},
        train=train,
        samples=(written(asked, writer, 10 * seed + 4, finished),),
        seed=seed,
    )
    return measure(observed, [*rows, *score_rows(asked, {"tuned": tuned})])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=10, help="worlds a size")
    options.add_argument("--sizes", type=int, nargs="+", default=[30, 260], help="held-out prompts")
    given = options.parse_args()
    began = time.perf_counter()
    print("\n## Verdicts of planted clones: how often each is given, in %")
    for n in given.sizes:
        found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for seed in range(given.repeats):
            train, asked = world(n, seed)
            shortcuts = {
                "B0": written(asked, base, 10 * seed + 1),
                "B3": written(asked, shots, 10 * seed + 2),
                **floors.floor_completions(train, asked),
            }
            rows = score_rows(asked, shortcuts)
            for name, clone in clones(train, asked).items():
                nats = 2.5 if name.startswith("no better") else 1.0
                measured = card(asked, train, shortcuts, rows, clone, nats, seed)
                found[name][measured.verdict.rung] += 1
                if measured.closure is not None:
                    found[name]["finding: " + measured.closure.finding] += 1
        findings = ["finding: cloned", "finding: not cloned"]
        columns = [rung for rung in RUNGS if rung != "meets your bar"] + findings
        print(f"\n### {n} prompts of two experts each, {given.repeats} worlds\n")
        print(f"| clone | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, counts in found.items():
            print(f"| {name} | {' | '.join(f'{100 * counts[c] / given.repeats:.0f}' for c in columns)} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s on one core.")


if __name__ == "__main__":
    main()
