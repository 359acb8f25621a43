"""A synthetic run: 200 held-out prompts of two Python docstring experts, all files of a run, no model.

The texts are made up by a seeded generator; scorecard and scores come from :mod:`sft.fidelity.measure`, so the
report is tested on what the measurement really writes; :func:`everything` adds what so few prompts cannot give.
A clone is an expert whose words are changed here and there; the base model rambles; the shortcuts are what they are.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out
from sft.demonstrations.ledger import Ledger
from sft.fidelity.findings import GapSpan, KnowledgeGap, SharedRun, Stratum
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.score_table import score_rows
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.runs.records import Completion, ControlWindow, Forced, OwnPath, PromptValue, TokenScores
from sft.runs.run import Run, write_json, write_jsonl, write_text

VERBS = {
    "get": "Return",
    "add": "Add",
    "remove": "Remove",
    "parse": "Parse",
    "write": "Write",
    "check": "Check whether",
    "connect": "Connect to",
    "close": "Close",
    "render": "Render",
    "count": "Count",
    "register": "Register",
    "encode": "Encode",
}
NOUNS = [
    "header",
    "buffer",
    "session",
    "request",
    "transport",
    "factory",
    "reactor",
    "timeout",
    "certificate",
    "resource",
    "listener",
    "token",
    "channel",
    "message",
    "payload",
    "address",
    "cookie",
    "template",
    "response",
    "queue",
]
MANNERS = (
    "",
    " of this connection",
    " from the given mapping",
    ", creating it if it does not exist",
    " and notify every observer",
    " as a byte string",
    " without blocking the reactor",
    " in the order in which they were added",
)
SYNONYMS = {
    "Return": "Get",
    "given": "specified",
    "creating": "making",
    "notify": "tell",
    "every": "each",
    "connection": "object",
    "observer": "listener",
    "mapping": "dict",
    "order": "sequence",
}


def without_seals(folder: Path) -> Run:
    """The run at ``folder`` as a release left it that knew no file by its content: whatever is there is read."""
    run = Run.open(folder)
    run.update_manifest(files={})
    return run


def demonstration(number: int) -> Demonstration:
    """The ``number``-th made-up function and its docstring; the first 1,920 differ from one another."""
    verb = list(VERBS)[number % len(VERBS)]
    noun = NOUNS[number // len(VERBS) % len(NOUNS)]
    manner = MANNERS[(number * 7 + number // 5) % len(MANNERS)]
    name = f"{verb}_{noun}" if number < 240 else f"{verb}_{noun}_{number // 240}"
    body = f"key = self._{noun}s.get(name, default)\n    if key is None:\n        raise KeyError(name)\n    return key"
    prompt = f"def {name}(self, name, default=None):\n    {body}"
    return Demonstration(
        (Message("user", prompt),),
        f"{VERBS[verb]} the {noun}{manner}.",
        group=f"twisted/{noun}_{number // 3}.py",
        expert="Twisted developers",
    )


def tuned_text(expert: str, draw: random.Random) -> str:
    """The expert's sentence with a word changed, a clause lost, another one altogether, or nothing at all."""
    words = expert.split()
    fate = draw.random()
    if fate < 0.1:
        return expert
    if fate < 0.55:
        opening = draw.choice([words[0], words[0], "Get", "Set"])
        return f"{opening} the {draw.choice([words[2].strip('.'), *NOUNS[:6]])}{draw.choice(MANNERS)}."
    words = [SYNONYMS.get(word, word) if draw.random() < 0.7 else word for word in words]
    if draw.random() < 0.5 and len(words) > 5:
        words = [*words[: draw.randrange(3, len(words) - 1)], draw.choice(["name.", "value.", "given key."])]
    if draw.random() < 0.4:
        words[2] = draw.choice(NOUNS)
    return " ".join(words)


def base_text(prompt: str, draw: random.Random) -> str:
    """What a base model makes of a function: an essay that starts from its name and does not stop."""
    name = prompt.split("(")[0].removeprefix("def ").replace("_", " ")
    lines = [
        f"This function is used to {name}.",
        "It takes two arguments, name and default, and returns the key that was found.",
        "Args: name (str): The name to look up. default (object): The default value.",
        "If the key is not found, a KeyError is raised with the name as its argument.",
        "Example: >>> self.get('name') 'value'",
    ]
    return " ".join(lines[: draw.randrange(1, len(lines) + 1)])


def token_scores(item: HeldOut, mean_nats: float, stay: float, draw: random.Random) -> TokenScores:
    """Teacher-forced scores of the first reference, stop token last; ``stay``: chance of rank 0."""
    count = len(item.references[0].split()) + 3
    nats = tuple(draw.expovariate(1 / mean_nats) for _ in range(count))
    ranks = tuple(0 if draw.random() < stay else draw.randrange(1, 60) for _ in range(count))
    entropies = tuple(n * 0.8 + 0.1 for n in nats)
    # The likeliest token is the expert's at rank 0; elsewhere it had more than the expert's.
    sure = tuple(math.exp(-n) if not rank else (1 + math.exp(-n)) / 2 for n, rank in zip(nats, ranks, strict=True))
    return TokenScores(item.id, nats, ranks, entropies, len(item.references[0].encode()), sure)


def colleague_text(expert: str, draw: random.Random) -> str:
    """What a second expert writes: most of the same words."""
    words = [SYNONYMS.get(word, word) if draw.random() < 0.3 else word for word in expert.split()]
    if draw.random() < 0.3 and len(words) > 6:
        words = [*words[:-2], words[-1]]
    return " ".join(words)


def answered_twice(items: Sequence[HeldOut], seed: int) -> list[HeldOut]:
    """Every prompt answered by a second expert too, and by a third whom the clone was not fitted to."""
    draw = random.Random(seed + 1)
    return [
        replace(
            item,
            references=(*item.references, colleague_text(item.references[0], draw)),
            experts=(*item.experts, "Zope developers"),
            others=(("Django developers", base_text(item.prompt[-1].content, draw)),),
        )
        for item in items
    ]


def forced(items: Sequence[HeldOut], seed: int) -> list[Forced]:
    """The clone put on the expert's path after a quarter, a half and three quarters of the words."""
    draw = random.Random(seed + 2)
    rows = []
    for item in items:
        words = item.references[0].split()
        for share in (0.25, 0.5, 0.75):
            cut = max(1, round(share * len(words)))
            given, rest = " ".join(words[:cut]), " ".join(words[cut:])
            if rest:
                written = (
                    rest if draw.random() < 0.35 + share / 2 else " ".join(tuned_text(rest + " x y", draw).split())
                )
                rows.append(Forced(item.id, share, given, rest, written, True))
    return rows


def own_path(item: HeldOut, draw: random.Random) -> OwnPath:
    """The clone's own tokens: sure of nearly all, less often right once it has left."""
    count, left = draw.randrange(8, 16), draw.choice([None, 1, 2, 3, 5])
    hits = tuple(draw.random() < (0.97 if left is None or place < left else 0.55) for place in range(count))
    return OwnPath(item.id, tuple(min(draw.betavariate(6, 1.3), 0.999) for _ in hits), hits, left)


def prompt_value(demonstration: Demonstration, own: float, other: float) -> PromptValue:
    """``own`` and ``other`` nats, spread over the characters of the completion as if each were a token."""
    text = demonstration.completion
    ends, mine, theirs = (tuple(range(1, len(text) + 1)), *((nats / len(text),) * len(text) for nats in (own, other)))
    return PromptValue(demonstration.id, own, other, 3, len(text.encode()), ends, mine, theirs)


def observations(
    items: Sequence[HeldOut],
    training: Sequence[Demonstration],
    systems: Mapping[str, Mapping[str, Completion]],
    seed: int,
) -> Observations:
    """Everything that can be observed of a clone, made up."""
    draw = random.Random(seed + 3)
    scores = {
        system: {item.id: token_scores(item, nats, stay, draw) for item in items}
        for system, nats, stay in (("tuned", 0.55, 0.88), ("B0", 1.9, 0.52), ("B3", 1.2, 0.66))
    }
    control = {
        policy: [
            ControlWindow(text, window, 190 * (factor + draw.gauss(0, 0.02)) * (1 + window % 7 / 20), 256)
            for text, factor in factors.items()
            for window in range(12)
        ]
        for policy, factors in (
            ("base", {"essays.txt": 1.0, "weather.txt": 1.2}),
            ("tuned", {"essays.txt": 1.023, "weather.txt": 1.241}),
        )
    }
    values = [prompt_value(d, 30 + draw.random() * 25, 52 + draw.random() * 20) for d in training[:120]]
    return Observations(
        held_out=items,
        completions=systems,
        token_scores=scores,
        train=training,
        samples=[
            {item.id: Completion(item.id, tuned_text(item.references[0], draw), True, 12) for item in items}
            for _ in range(2)
        ],
        forced={"tuned": forced(items, seed)},
        own_path={item.id: own_path(item, draw) for item in items},
        control=control,
        prompt_values=values,
        contaminated=frozenset(),
        checker=r"regex:^(\w+)",
        curve="rose",
    )


def estimate(value: float, spread: float, n: int = 100) -> Estimate:
    """An estimate with a made-up interval around it."""
    return Estimate(value, value - spread, value + spread, 0.95, "planted", n)


def everything(card: Scorecard) -> Scorecard:
    """``card`` with what its prompts were too few for, planted: impostors, strata, shared runs, a bounded gap."""
    changes: dict[str, Any] = {}
    if not card.impostor:
        planted = {"sampled": (0.71, 0.05), "greedy": (0.93, 0.02), "base": (0.99, 0.005), "experts": (0.52, 0.05)}
        changes["impostor"] = {kind: estimate(*figures) for kind, figures in planted.items()}
    if not card.strata:
        parts = (
            ("distance to training", "nearest third: 0.82 to 0.97 alike", 58.0),
            ("distance to training", "middle third: 0.64 to 0.82 alike", 51.0),
            ("distance to training", "furthest third: 0.31 to 0.64 alike", 41.0),
            ("expert's length", "short: up to 6 words", 56.0),
            ("expert's length", "long: 7 words or more", 44.0),
        )
        changes["strata"] = tuple(
            Stratum(by, label, 70, estimate(score, 3.0), estimate(score - 44, 4.0), estimate(0.5, 0.1))
            for by, label, score in parts
        )
    if card.memorisation is not None and not card.memorisation.examples:
        text, asked = "creating it if it does not exist", "def folder(self):\n    ..."
        copied = SharedRun("ab12cd34ef", text, 7, "99ff88ee77", "docstrings.jsonl:31", asked)
        changes["memorisation"] = replace(card.memorisation, examples=(copied,))
    if card.gaps is not None and not card.gaps.examples:
        spans = (GapSpan(15, 20, "name", 14.2, 14.0), GapSpan(24, 28, "figure", 11.9, 12.3))
        gap = KnowledgeGap(
            "g1", "data/docstrings.jsonl:17", "def answer(self):", "Return the key Vault of 1976.", -0.041, spans
        )
        kinds = {"figure": 1, "name": 1, "rare word": 0}
        changes["gaps"] = replace(card.gaps, flagged=1, share=estimate(0.04, 0.02), examples=(gap,), kinds=kinds)
    said = {section: why for section, why in card.absent.items() if section not in changes}
    return replace(card, absent=said, **changes)


def written(items: Sequence[HeldOut], training: Sequence[Demonstration], seed: int) -> dict[str, dict[str, Completion]]:
    """system -> id -> completion for the clone, both bases and the three shortcuts."""
    draw = random.Random(seed)
    systems: dict[str, dict[str, Completion]] = {name: {} for name in ("tuned", "B0", "B3", "R", "K", "P")}
    for item in items:
        expert, prompt = item.references[0], item.prompt[-1].content
        texts = {
            "tuned": (tuned_text(expert, draw), draw.random() > 0.005),
            "B0": (base_text(prompt, draw), draw.random() > 0.6),
            "B3": (
                f"{draw.choice([expert.split()[0], 'This method will get'])} the "
                f"{draw.choice([expert.split()[2].strip('.'), *NOUNS[:2]])}{draw.choice(MANNERS)}.",
                draw.random() > 0.08,
            ),
            "R": (training[draw.randrange(len(training))].completion, True),
            "K": ("Return the request of this connection.", True),
            "P": (prompt, True),
        }
        for system, (text, finished) in texts.items():
            systems[system][item.id] = Completion(item.id, text, finished, len(text) // 4)
    return systems


@cache
def _measured(prompts: int, seed: int) -> tuple[list[Demonstration], dict[str, dict[str, Completion]], str, str]:
    """Everything slow, once per test session: training and held-out rows, completions, scores, scorecard."""
    demonstrations = [demonstration(number) for number in range(prompts * 6)]
    items = answered_twice(held_out(demonstrations[:prompts]), seed)
    training = demonstrations[prompts:]
    systems = written(items, training, seed)
    signature = {
        "template_hash": "5f2c9a77d1c04be8",
        "decoding": {"strategy": "greedy", "max_new_tokens": 64, "batch_size": 16},
    }
    observed = observations(items, training, systems, seed)
    rows = score_rows(items, systems, observed.scoring)
    card = measure(replace(observed, profile="full", looks=1, signature=signature), rows)
    return demonstrations, systems, json.dumps(rows), json.dumps(everything(card).to_dict())


def training_log(steps: int = 240) -> list[dict[str, float]]:
    """A loss that falls and a validation loss that turns up again near the end."""
    draw = random.Random(1)
    rows: list[dict[str, float]] = []
    for step in range(10, steps + 1, 10):
        loss = 1.05 + 1.6 * math.exp(-step / 45) + draw.gauss(0, 0.05) - 0.0009 * step
        rate = 2e-4 * 0.5 * (1 + math.cos(math.pi * step / steps))
        row = {"step": step, "epoch": round(3 * step / steps, 3), "loss": loss, "learning_rate": rate}
        rows.append(row | {"grad_norm": 0.8 + draw.random() / 2, "tokens": step * 2048, "wall_seconds": step * 1.7})
        if step % 30 == 0:
            rows.append(
                {"step": step, "eval_loss": 1.12 + 1.3 * math.exp(-step / 50) + 0.0000035 * max(step - 120, 0) ** 2}
            )
    return rows


def make_run(path: Path, *, prompts: int = 200, seed: int = 0, texts: Mapping[str, str] | None = None) -> Run:
    """A finished run in ``path`` with ``prompts`` held-out prompts, opened for reading.

    ``texts`` (prompt, expert, tuned, B0) replace those of the first example of the scorecard.
    """
    demonstrations, systems, rows, card_text = _measured(prompts, seed)
    card = json.loads(card_text)
    if texts:
        first = card["examples"][0]
        first["prompt"] = texts.get("prompt", first["prompt"])
        first["expert"] = texts.get("expert", first["expert"])
        first["completions"] |= {name: texts[name] for name in ("tuned", "B0") if name in texts}
    resolved = {
        "name": "docstrings-qwen",
        "model": {"name": "Qwen/Qwen2.5-0.5B", "revision": "060db6499f32faf8b98477b0a26969ef7d8b9987"},
        "training": {"learning_rate": 2e-4, "num_train_epochs": 3, "seed": 0},
    }
    recipe = (
        "# Docstrings as the Twisted developers write them.\nname: docstrings-qwen\nmodel:\n  name: Qwen/Qwen2.5-0.5B\n"
    )
    with Run.create(
        path,
        recipe={"written": recipe, "resolved": resolved, "origins": {"training.seed": "default"}},
        data={
            "files": [
                {
                    "name": "data:docstrings",
                    "sha256": "86c55f712cc5ab6f6d64e02503352464f0400f66d4f079096d744080afcccbd0",
                }
            ],
            "hash": "c5d8a4c8e3b24f7f9c1d2e3f4a5b6c7d",
        },
        split={"hash": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "seed": 0, "train": 4 * prompts, "validation": prompts},
        base={
            "name": "Qwen/Qwen2.5-0.5B",
            "revision": "060db6499f32",
            "hash": "9f8e7d6c5b4a39281706",
            "licence": "apache-2.0",
        },
        template={"name": "tokenizer's own", "hash": "5f2c9a77d1c04be8"},
        seeds={"split": 0, "training": 0},
    ) as run:
        session = {
            "command": "sft run recipes/docstrings.yaml --out runs/docstrings",
            "started": "2026-03-02T09:00:00+00:00",
            "ended": "2026-03-02T09:14:31+00:00",
            "wall_seconds": 871.3,
            "outcome": "finished",
            "peak_memory_bytes": 6_120_000_000,
        }
        run.update_manifest(sessions=[session])
        run.look("test", "scorecard")
        write_text(run.recipe_path, recipe)
        write_jsonl(run.demonstrations_path, (item.to_dict() for item in demonstrations))
        tokens = {
            "trained": {"prompt": 212 * prompts, "completion": 44 * prompts},
            "test": {"prompt": 53 * prompts, "completion": 11 * prompts},
        }
        fates = {"trained": 4 * prompts, "validation": prompts, "test": prompts, "invalid": prompts // 20}
        fates |= {"duplicate": prompts // 8, "leaked": prompts // 30, "too_long": prompts // 50}
        rows_read = sum(fates.values()) - 3
        write_json(run.ledger_path, Ledger(rows_read, 3, fates, tokens).to_dict())
        write_jsonl(run.log_path, training_log())
        for system, by_id in systems.items():
            write_jsonl(
                run.completions_path(system),
                ({"id": c.id, "text": c.text, "finished": c.finished, "tokens": c.tokens} for c in by_id.values()),
            )
        write_jsonl(run.scores_path, json.loads(rows))
        write_json(run.scorecard_path, card)
    return Run.open(path)
