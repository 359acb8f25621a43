"""Twenty held-out prompts, what systems wrote for them, and their scorecards."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out
from sft.fidelity import floors
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.score_table import ScoreRow, score_rows
from sft.fidelity.scorecard import Scorecard
from sft.runs.records import Completion, TokenScores

PLACES = ["harbour", "market", "old mill", "station", "library", "river bend", "castle", "school"]


FOODS = ["noodle", "herring", "dumpling", "waffle", "curry", "cheese", "barley soup", "plum cake"]


MOODS = ["quiet", "crowded", "shabby", "elegant", "cheerful", "gloomy"]


Written = dict[str, dict[str, Completion]]


Scored = dict[str, dict[str, TokenScores]]


def expert(place: str, food: str, mood: str, price: int) -> Demonstration:
    """An expert with a manner of their own: same facts, a fixed order, a closing remark."""
    prompt = f"place: {place}; food: {food}; mood: {mood}; price: {price}"
    closing = "Bring friends." if price < 20 else "Bring your purse."
    completion = f"{mood.capitalize()} but honest, the {food} house by the {place} asks {price} crowns. {closing}"
    return Demonstration((Message("user", prompt),), completion, id=f"{place}-{food}-{mood}-{price}")


def restaurants(count: int, seed: int) -> list[Demonstration]:
    generator = random.Random(seed)
    rows = [(p, f, m, price) for p in PLACES for f in FOODS for m in MOODS for price in (9, 14, 23, 38, 51)]
    return [expert(*row) for row in generator.sample(rows, count)]


ROWS = restaurants(240, 0)


TRAIN, ASKED = ROWS[:160], held_out(ROWS[160:])


def written(text: Callable[[HeldOut], str], finished: bool = True) -> dict[str, Completion]:
    return {item.id: Completion(item.id, text(item), finished) for item in ASKED}


def shuffled_words(item: HeldOut, seed: int) -> str:
    words = item.references[0].split()
    random.Random(f"{seed}{item.id}").shuffle(words)
    return " ".join(words[: len(words) // 2])


def tokens(item: HeldOut, nats: float, rank: int, seed: int) -> TokenScores:
    """Teacher-forced scores around ``nats`` a token; ``rank`` at every fourth one."""
    size = len(item.references[0].split()) + 1
    noise = np.random.default_rng([seed, *item.id.encode()])
    spread = tuple(float(v) for v in nats * noise.uniform(0.6, 1.4, size))
    ranks = tuple(rank if position % 4 == 3 else 0 for position in range(size))
    return TokenScores(item.id, spread, ranks, spread, len(item.references[0].encode()))


#: Every shortcut as it is, and a base model that knows some of the words.
SHORTCUTS: Written = {
    "B0": written(lambda item: "Sure! Here is a description. " + shuffled_words(item, 1)),
    "B3": written(lambda item: shuffled_words(item, 2)),
    **floors.floor_completions(TRAIN, ASKED),
}


BASE: Scored = {
    "B0": {item.id: tokens(item, 3.0, 9, 1) for item in ASKED},
    "B3": {item.id: tokens(item, 2.0, 6, 2) for item in ASKED},
}


LIKELIER: Scored = {**BASE, "tuned": {item.id: tokens(item, 0.5, 1, 3) for item in ASKED}}


PERFECT = written(lambda item: item.references[0])


def scorecard_of(
    asked: list[HeldOut],
    completions: Written,
    scores: Scored | None = None,
    rows: Sequence[ScoreRow] | None = None,
    **more: Any,
) -> Scorecard:
    return measure(Observations(asked, completions, scores or {}, **more), rows)


SHORTCUT_ROWS = score_rows(ASKED, SHORTCUTS)


def measured(tuned: dict[str, Completion], scores: Scored = LIKELIER, **more: Any) -> Scorecard:
    """The scorecard of a planted clone; what the shortcuts score is worked out once."""
    rows = [*SHORTCUT_ROWS, *score_rows(ASKED, {"tuned": tuned})]
    systems = {"tuned": tuned, **SHORTCUTS}
    return scorecard_of(ASKED, systems, scores, rows=rows, **more)


def near_miss(item: HeldOut) -> str:
    """A good clone: the expert's manner, but for one word of its own."""
    return item.references[0].replace("honest", "decent")


def several(count: int) -> list[HeldOut]:
    """Held-out prompts of which the first ``count`` were answered by a second expert."""
    found = []
    for i, item in enumerate(ASKED[:30]):
        more = (item.references[0].replace("Bring", "Take along"),) if i < count else ()
        references = (*item.references, *more)
        found.append(replace(item, references=references, experts=("",) * len(references)))
    return found
