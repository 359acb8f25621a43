"""Planted truths, section by section: how often a fault that was planted is found, and a perfect clone accused.

    python benchmarks/planted_truths.py --worlds 200       # and benchmarks/planted.py, looks.py, simulations.py

Every row is a kind of clone, made anew in each world, at 30, 100 and 300 prompts; a figure is the share of the worlds
in which the product says what the row's head names. What should be said stands beside it. The worlds of tests are
used where there are any (`tests/toys/planted_*.py`).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "toys"))

import planted
import planted_actions
import planted_orders
import planted_thirds
import planted_trigrams
import simulations

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out
from sft.demonstrations.near_duplicates import joined
from sft.fidelity import floors
from sft.fidelity.conventions import CLONED_CHECKED, beyond_chance, gain_shown
from sft.fidelity.probes.memorisation import memorisation
from sft.fidelity.probes.underachieving import underachieving
from sft.fidelity.score_table import ScoreTable, score_rows
from sft.fidelity.scoring import Scoring
from sft.metrics import intervals
from sft.metrics.estimate import Estimate
from sft.runs.records import Completion

SIZES = (30, 100, 300)
#: (number of prompts, world) -> whether it is said.
Trial = Callable[[int, int], bool]
Row = tuple[str, str, Trial]


def below(found: Estimate, value: float = 0.0) -> bool:
    return found.high is not None and found.high < value


def above(found: Estimate, value: float = 0.0) -> bool:
    return found.low is not None and found.low > value


# -- 1: the action decides ----------------------------------------------------------------------------------------


def leads(kind: str, headline: str) -> Trial:
    """Whether the clone is shown to lead both other systems, by a headline."""

    def trial(prompts: int, world: int) -> bool:
        items, written = dict[str, HeldOut](), dict[str, dict[str, Completion]]()
        for row in planted_actions.tool_calls(kind, world, prompts):
            key = row["prompt"]
            items[key] = HeldOut(key, (Message("user", key),), (row["reference"],), ("",), key)
            written.setdefault(row["system"], {})[key] = Completion(key, row["completion"], True)
        scoring = Scoring(headline, checker="json" if headline == "checker" else "").lean((), ())
        asked = list(items.values())
        table = ScoreTable(asked, score_rows(asked, written, scoring), scoring)
        return all(gain_shown(table.gain(floor, world)) for floor in ("B0", "B3"))

    return trial


def right_enough(clone: float, expert: float) -> Trial:
    """Whether the checker's part of "cloned" holds; both are right by chance."""

    def trial(prompts: int, world: int) -> bool:
        draw = np.random.default_rng([world, prompts])
        ours, theirs = (100.0 * (draw.random(prompts) < share) for share in (clone, expert))
        return above(intervals.clustered_t(ours - theirs), -CLONED_CHECKED)

    return trial


def named(writer: planted.Writer, step: str) -> Trial:
    """Whether the scorecard says that setting ``step`` aside would give another verdict ("": that anything would)."""

    def trial(prompts: int, world: int) -> bool:
        train, asked = planted.world(prompts, world)
        shortcuts = {
            "B0": planted.written(asked, planted.base, 10 * world + 1),
            "B3": planted.written(asked, planted.shots, 10 * world + 2),
            **floors.floor_completions(train, asked),
        }
        rows = score_rows(asked, shortcuts)
        found = planted.card(asked, train, shortcuts, rows, (writer, 1.0), 1.0, world).if_normalised
        return found is not None and step in (*found.steps, "")

    return trial


ACTIONS: list[Row] = [
    *(
        (f"calls {words}: leads by {headline}", truth, leads(kind, headline))
        for kind, words, truths in (
            ("perfect", "as the expert writes them", ("yes", "yes", "yes")),
            ("turned", "right, keys in another order", ("yes", "yes", "yes")),
            ("wrong", "all wrong by one night", ("no", "by leaves, yes", "no")),
        )
        for headline, truth in zip(("chrf", "json", "checker"), truths, strict=True)
    ),
    ("right in 95 of 100, as another expert: no worse by 5 points", "yes", right_enough(0.95, 0.95)),
    ("right in 90 of 100, another expert in 95: the same", "no: at the limit", right_enough(0.90, 0.95)),
    ("a false fact in 24 of 100, another expert in 1: the same", "no", right_enough(0.76, 0.99)),
    (
        "another expert in capitals: case would change it",
        "yes",
        named(lambda *at: planted.perfect(*at).upper(), "case"),
    ),
    (
        "another expert in a fence: fence would change it",
        "where it decides",
        named(lambda *at: f"```text\n{planted.perfect(*at)}\n```", "fence"),
    ),
    ("another expert as he writes: a step would change it", "no", named(planted.perfect, "")),
    ("the base in capitals: a step would change it", "no", named(lambda *at: planted.base(*at).upper(), "")),
]


# -- 2: the limits of cloning --------------------------------------------------------------------------------------


def rises(kind: str) -> Trial:
    return lambda prompts, world: below(planted_thirds.measured(kind, prompts, world).rise)


def surer(power: float, *, less: bool = False) -> Trial:
    side = above if less else below
    return lambda prompts, world: side(planted_trigrams.measured(power, prompts, world).difference)


def settled(on_one: bool) -> Trial:
    return lambda prompts, world: below(planted_trigrams.topics(prompts, world, settled=on_one).difference)


def has_gaps(kind: str) -> Trial:
    """Whether more of the completions are flagged than slips of the base can be: a twentieth."""
    return lambda prompts, world: above(planted_orders.found_in(kind, prompts, world).share, 0.05)


def lost(points: float) -> Trial:
    """Whether the clone is said to be right less often than a base, which it is by so many points."""

    def trial(prompts: int, world: int) -> bool:
        draw = np.random.default_rng([world, prompts])
        chances = draw.beta(2, 2, prompts)
        keys = [f"p{n}" for n in range(prompts)]
        items = [HeldOut(key, (Message("user", key),), ("x",), ("",), key) for key in keys]
        right = {
            system: dict(zip(keys, (draw.random(prompts) < chances - off / 100).tolist(), strict=True))
            for system, off in (("tuned", points), ("B0", 0.0), ("B3", 0.0))
        }
        wrote = {system: {key: Completion(key, "x", True) for key in keys} for system in right}
        found = underachieving(items, wrote, "exact", right, {key: key for key in keys})
        return any(beyond_chance(one.p_value) and one.difference.value < 0 for one in found.beside)

    return trial


LIMITS: list[Row] = [
    *(
        (
            f"errors along the text, {kind}: errors add up",
            "yes" if kind == "rising" else "no (promise: 2.5 %)",
            rises(kind),
        )
        for kind in ("rising", "perfect", "constant", "falling", "truncated", "consensus")
    ),
    ("calibrated trigram clone: surer than the expert bears out", "no (2.5 %)", surer(1.0)),
    ("the same: less sure", "no (2.5 %)", surer(1.0, less=True)),
    ("sharpened (power 3): surer", "yes", surer(3.0)),
    ("flattened (power 0.3): less sure", "yes", surer(0.3, less=True)),
    ("ten equally good topics, drawn evenly: surer", "no (2.5 %)", settled(False)),
    ("ten equally good topics, one said for ever: surer", "yes", settled(True)),
    *(
        (f"answers, {kind}: knowledge gaps, more than slips", truth, has_gaps(kind))
        for kind, truth in (
            ("all in the prompt", "no"),
            ("half", "yes"),
            ("nothing", "yes"),
            ("formula", "no"),
            ("formula beside a copy", "no"),
            ("label", "no"),
        )
    ),
    ("as often right as both bases: underachieves", "no (2.5 %)", lost(0)),
    ("right 10 points less often: underachieves", "yes", lost(10)),
    ("right 20 points less often: underachieves", "yes", lost(20)),
]


# -- 3: what counts as one -----------------------------------------------------------------------------------------


def holds(join: bool) -> Trial:
    """Whether the interval of a mean holds the truth, where facts recur in as many wordings as there are facts."""

    def trial(prompts: int, world: int) -> bool:
        draw = random.Random(f"{prompts} {world}")
        facts = round(prompts**0.5)
        answers = [" ".join(draw.choices(planted_thirds.STOCK, k=8)) for _ in range(facts)]
        levels = [draw.gauss(0, 1) for _ in range(facts)]
        items, values = [], []
        for number in range(prompts):
            asked = (Message("user", " ".join(draw.choices(planted_thirds.STOCK, k=14))),)
            items.append(HeldOut(f"p{number}", asked, (answers[number % facts],), ("",), f"c{number}"))
            values.append(levels[number % facts] + draw.gauss(0, 0.5))
        labels = [item.cluster for item in (joined(items) if join else items)]
        found = intervals.clustered_t(values, labels)
        return not above(found) and not below(found)

    return trial


def called_a_gain(noise: Any, *, skew: bool = True, gain: float = 0.0) -> Trial:
    """The verdict's rule on differences of mean ``gain`` standard errors."""

    def trial(prompts: int, world: int) -> bool:
        labels, draw = np.arange(prompts), np.random.default_rng([world, prompts])
        rule = simulations.rule(lambda labels: gain / np.sqrt(labels.size), noise, skew=skew)
        return bool(rule(draw, labels, world))

    return trial


COUNTS: list[Row] = [
    ("facts in several wordings, joined: the 95 % interval holds", "yes (95 %)", holds(True)),
    ("*the same, each prompt by itself*", "yes (95 %)", holds(False)),
    *(
        (f"no gain, {name} differences: called one{after}", "no (2.5 %)", called_a_gain(noise, skew=not after))
        for name, noise in (
            ("normal", simulations.normal),
            ("exponential", simulations.mirrored),
            ("lognormal", simulations.heavy),
            ("rarely disastrous", simulations.disasters),
        )
        for after in ("", " (*without Hall's test*)")
    ),
    ("a gain of 2.8 standard errors, normal: called one", "80 %", called_a_gain(simulations.normal, gain=2.8)),
    ("a gain of 2.8 standard errors, exponential: called one", "80 %", called_a_gain(simulations.mirrored, gain=2.8)),
]


# -- 4: floors -----------------------------------------------------------------------------------------------------


def copies(kind: str) -> Trial:
    """Whether the guardrail of copies is red: in the world of restaurants, where two experts answer each prompt."""

    def trial(prompts: int, world: int) -> bool:
        train, asked = planted.world(prompts, world)
        nearest, draw = floors.nearest(train, asked), random.Random(world)
        written = {}
        for item in asked:
            text = nearest[item.id].text if kind != "perfect" else planted.perfect(item, draw)
            if kind == "dropped full stop":
                text = text.removesuffix(".")
            elif kind == "swapped price":
                text = text.replace(" crowns", " euros")
            written[item.id] = Completion(item.id, text, True)
        found = memorisation(asked, written, train, seed=world)
        return found.copies["tuned"].value > found.copies["expert"].value and beyond_chance(found.p_value)

    return trial


COPIES: list[Row] = [
    ("a third expert: copies", "no (5 %)", copies("perfect")),
    ("a retriever: copies", "yes", copies("verbatim")),
    ("a retriever that drops the full stop: copies", "yes", copies("dropped full stop")),
    ("a retriever that swaps a word: copies", "yes", copies("swapped price")),
]


def essays(draw: random.Random, count: int) -> list[tuple[str, str]]:
    """(prompt, essay of about 80 words): the prompt's six words stand in it, the others as often as in a language."""
    weights = [1 / (rank + 2) for rank in range(len(planted_thirds.STOCK))]
    found = []
    for _ in range(count):
        asked = draw.sample(planted_thirds.STOCK, 6)
        body = draw.choices(planted_thirds.STOCK, weights, k=draw.randint(70, 90))
        for word in asked:
            body.insert(draw.randrange(len(body)), word)
        found.append((" ".join(asked), " ".join(body)))
    return found


def leads_over(shortcuts: tuple[str, ...], kept: float) -> Trial:
    """Whether a clone leads ``shortcuts``: it has ``kept`` of the reference's words, the others from another essay."""

    def trial(prompts: int, world: int) -> bool:
        draw = random.Random(f"{prompts} {world}")
        rows = essays(draw, 200 + prompts)
        made = [Demonstration((Message("user", asked),), text, id=str(n)) for n, (asked, text) in enumerate(rows)]
        train, asked = made[:200], held_out(made[200:])
        found = floors.floor_completions(train, asked)
        wrote = {}
        for item, (_, other) in zip(asked, essays(draw, prompts), strict=True):
            both = zip(item.references[0].split(), other.split() * 2, strict=False)
            wrote[item.id] = Completion(item.id, " ".join(a if draw.random() < kept else b for a, b in both), True)
        systems = {"tuned": wrote, **{name: found[name] for name in shortcuts}}
        table = ScoreTable(asked, score_rows(asked, systems, Scoring().lean((), ())), Scoring().lean((), ()))
        return all(gain_shown(table.gain(name, world)) for name in shortcuts)

    return trial


LENGTHS: list[Row] = [
    ("long answers, nothing of the prompt: leads L", "no (2.5 %)", leads_over(("L",), 0.0)),
    ("the same: leads K", "no", leads_over(("K",), 0.0)),
    ("long answers, a third of the words right: leads all", "yes", leads_over(("R", "RK", "K", "P", "L"), 1 / 3)),
]

SECTIONS = {
    "1. The action decides, not the string": ACTIONS,
    "2. The limits of cloning": LIMITS,
    "3. What counts as one": COUNTS,
    "4. Copies are no clone": COPIES,
    "4. A text of the usual length is no answer": LENGTHS,
}
#: Worlds of what takes long, as a share of those that are asked for.
DEAR = {
    "1. The action decides, not the string": 0.25,
    "4. Copies are no clone": 0.1,
    "4. A text of the usual length is no answer": 0.5,
}


def lines(worlds: int, only: str) -> Iterator[str]:
    for title, rows in SECTIONS.items():
        chosen = [row for row in rows if only.lower() in f"{title} {row[0]}".lower()]
        if not chosen:
            continue
        count = max(1, round(worlds * DEAR.get(title, 1.0)))
        yield f"\n## {title}\n\n{count} worlds a figure; % in which it is said.\n"
        yield "| planted: said | should it be? | " + " | ".join(f"n = {size}" for size in SIZES) + " |"
        yield "|---|---|" + "---|" * len(SIZES)
        for name, truth, trial in chosen:
            found = [100 * sum(trial(size, world) for world in range(count)) / count for size in SIZES]
            yield f"| {name} | {truth} | " + " | ".join(f"{share:.1f}" for share in found) + " |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--worlds", type=int, default=200)
    options.add_argument("--only", default="", help="sections and rows whose name contains this")
    given = options.parse_args()
    began = time.process_time()
    for line in lines(given.worlds, given.only):
        print(line, flush=True)
    print(f"\n{time.process_time() - began:.0f} s of one core, beside other jobs.")


if __name__ == "__main__":
    main()
