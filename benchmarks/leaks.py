"""What the gate between training and held-out prompts finds of planted leaks, and what it takes for one that is none.

    python benchmarks/leaks.py --chat qna_chitchat_witty.tsv --glosses wordnet30.jsonl.gz --e2e devset.csv

Of each set 20 % of the prompts are held out. Into training go, of each kind of edit, copies of 60 held-out prompts.
Told is the share of the other training prompts that are called near-duplicates, and of each kind the share of copies
that is found. ``--chat``: questions and answers (TSV). ``--glosses``: definitions (JSON Lines), asked for in one way,
in five, and with two instructions before long texts. ``--e2e``: meaning representations (CSV). Made up here: prompts of
slots.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from check import ASKED

from sft.demonstrations.demonstration import Demonstration, Message
from sft.demonstrations.splits import find_leaks

EACH = 60
OPENERS = ("Please answer the question: {}", "Could you tell me, {}")
MARKS = ("\u00ad", "\u200b", "\u200d", "\u200e", "\u2060", "\ufeff", "\ufe0f")

Edit = Callable[[str, random.Random], str]


def _swapped(text: str, draw: random.Random) -> str:
    """Two letters of one word in the wrong order."""
    words = text.split()
    place = draw.choice([n for n, word in enumerate(words) if len(word) > 2] or [0])
    letters = list(words[place])
    at = draw.randrange(max(1, len(letters) - 1))
    letters[at : at + 2] = reversed(letters[at : at + 2])
    return " ".join([*words[:place], "".join(letters), *words[place + 1 :]])


def _dropped(text: str, draw: random.Random) -> str:
    words = text.split()
    del words[draw.randrange(len(words))]
    return " ".join(words)


def _marked(text: str, draw: random.Random) -> str:
    """Three marks within words that nobody sees."""
    for _ in range(3):
        place = draw.choice([n for n in range(1, len(text)) if text[n - 1].isalpha() and text[n].isalpha()] or [1])
        text = text[:place] + draw.choice(MARKS) + text[place:]
    return text


def _opened(text: str, _: random.Random) -> str:
    """The same under the other opener."""
    one, other = (opener.partition("{")[0] for opener in OPENERS)
    return other + text.removeprefix(one) if text.startswith(one) else one + text.removeprefix(other)


EDITS: dict[str, Edit] = {
    "looks the same": _marked,
    "quoted": lambda text, _: f'"{text}"',
    "please behind": lambda text, _: text.rstrip("?.! ") + " please",
    "hello before": lambda text, _: f"Hello, {text}",
    "typing error": _swapped,
    "word dropped": _dropped,
}


def measured(prompts: list[str], edits: dict[str, Edit]) -> tuple[float, dict[str, float]]:
    """Share of training prompts that are called near-duplicates though none was planted; and of each kind, found."""
    draw = random.Random(0)
    prompts = list(dict.fromkeys(prompts))
    draw.shuffle(prompts)
    held, train = prompts[: len(prompts) // 5], prompts[len(prompts) // 5 :]
    planted = [(kind, edit(text, draw)) for kind, edit in edits.items() for text in draw.sample(held, EACH)]

    def rows(texts: list[str]) -> list[Demonstration]:
        return [Demonstration((Message("user", text),), "an answer") for text in texts if text.strip()]

    own = rows(train)
    copies = [(kind, row) for (kind, text) in planted for row in rows([text])]
    found = find_leaks({"train": [*own, *(row for _, row in copies)], "validation": [], "test": rows(held)})
    leaked = {id(leak.source) for leak in found}
    kinds = {kind: [id(row) in leaked for other, row in copies if other == kind] for kind in edits}
    return sum(id(row) in leaked for row in own) / len(own), {kind: sum(one) / len(one) for kind, one in kinds.items()}


def sets(options: argparse.Namespace) -> Iterator[tuple[str, list[str], dict[str, Edit]]]:
    """Name, prompts, and what is done to those that are planted."""
    draw = random.Random(1)
    if options.chat:
        with options.chat.open(encoding="utf-8") as file:
            yield "chat", [line.split("\t")[0] for line in list(file)[1:]], EDITS
    if options.glosses:
        with gzip.open(options.glosses, "rt", encoding="utf-8") as file:
            glosses = draw.sample([json.loads(line) for line in file], 16_000)
        yield "glosses, one way", [f"Which {g['pos']} means: {g['definition']}?" for g in glosses[:6000]], EDITS
        facts = [
            {"lemma": one["lemmas"][0], "pos": one["pos"], "other": two["definition"]}
            for one, two in zip(glosses[:6000], glosses[6000:12000], strict=True)
        ]
        yield "glosses, five ways", [ASKED[n % 5].format(**fact) for n, fact in enumerate(facts)], EDITS
        long = ["; ".join(g["definition"] for g in glosses[n : n + 4]) for n in range(0, 16_000, 4)]
        yield (
            "two openers, long",
            [OPENERS[n % 2].format(text) for n, text in enumerate(long)],
            EDITS | {"opener": _opened},
        )
    if options.e2e:
        with options.e2e.open(encoding="utf-8", newline="") as file:
            yield "E2E", [row["mr"] for row in csv.DictReader(file)], EDITS
    values = {"kind": ["lamp", "fan", "heater"], "alarm": ["yes", "no"], "side": ["north", "south", "east", "west"]}
    values |= {"mode": ["auto", "manual"], "door": ["open", "shut"]}
    slots = [
        ", ".join([f"device[unit {n} of row {n * 7 % 97}]", *(f"{k}[{v}]" for k, v in zip(values, mixed, strict=True))])
        for n in range(60)
        for mixed in itertools.product(*values.values())
    ]
    yield "slots", slots, EDITS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--chat", "--glosses", "--e2e"):
        options.add_argument(name, type=Path)
    kinds = [*EDITS, "opener"]
    print(f"| set | prompts | taken for one | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 3)}")
    for name, prompts, edits in sets(options.parse_args()):
        wrong, found = measured(prompts, edits)
        shares = [f"{found[kind]:.0%}" if kind in found else "" for kind in kinds]
        print(f"| {name} | {len(set(prompts)):,} | {wrong:.1%} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
