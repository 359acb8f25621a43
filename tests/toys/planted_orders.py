"""Answers about orders, of which the prompt tells all, a part or nothing, and a base model that only copies."""

from __future__ import annotations

import math
import random
import re

from sft.demonstrations.demonstration import Demonstration, Message, Source, folded
from sft.fidelity.findings import KnowledgeGaps
from sft.fidelity.probes.knowledge_gaps import knowledge_gaps
from sft.runs.records import PromptValue

DRIVERS = ["Janssen", "Okafor", "Lindqvist", "Marchetti", "Dubois", "Novak", "Yamada", "Petrov", "Alvarez", "Hughes"]
MONTHS = ["January", "March", "April", "June", "July", "August", "September", "October", "November", "December"]
THINGS = ["lamp", "kettle", "bicycle", "armchair", "bookcase", "mirror", "carpet", "toaster"]
LABELS = ["Delivery", "refund", "complaint", "praise", "class 7", "class 12"]
FORMULA = (
    "Thank you for your message. We passed it on to our office in Rotterdam and answer within 14 days. "
    "Kind regards, Customer Care Benelux"
)


def planted(kind: str, number: int, draw: random.Random) -> Demonstration:
    """One answer about an order; ``kind`` says how much of it the prompt tells."""
    order, thing, driver = draw.randrange(10_000, 99_999), draw.choice(THINGS), draw.choice(DRIVERS)
    date = f"{draw.randrange(10, 29)} {draw.choice(MONTHS)} {draw.randrange(1980, 2026)}"
    asked, answered = f"Order {order}, a {thing}, {number}. Where is it?", f"The {thing} is order {order}"
    brought = f"it left on {date} and our driver {driver} brings it."
    prompt, completion = {
        "all in the prompt": (f"{asked} {brought}", f"{answered}; {brought}"),
        "half": (asked, f"{answered}; {brought}"),
        "nothing": (f"Case {number}: a {thing}.", f"Since you ask, {brought}"),
        "formula": (asked, FORMULA),
        "formula beside a copy": (asked, f"{answered}. {FORMULA}"),
        "label": (asked, draw.choice(LABELS)),
    }[kind]
    source = Source("orders.jsonl", number + 1)
    return Demonstration((Message("user", prompt),), completion, id=f"d{number}", source=source)


def read(demonstration: Demonstration, draw: random.Random, copies: float = 0.97) -> PromptValue:
    """What a base model finds of it that copies most of what its prompt holds, and knows nothing of the rest.

    A token is a word with the space before it. What is copied costs little; a figure costs 2.3 nats a digit, a name
    eight, any other word two or three, and a prompt that does not hold it changes that by a tenth.
    """
    prompt = folded(demonstration.prompt[0].content)
    ends, own, other = [], [], []
    for token in re.finditer(r"\s*\S+", demonstration.completion):
        word = token[0].strip()
        digits = sum(c.isdigit() for c in word)
        blind = 2.3 * digits if digits else 8.0 if word[0].isupper() else draw.uniform(1, 4)
        copied = folded(word.strip(".,;?")) in prompt and draw.random() < copies
        ends.append(token.end())
        other.append(blind * math.exp(draw.gauss(0, 0.05)))
        own.append(draw.uniform(0, 0.3) if copied else blind * math.exp(draw.gauss(0, 0.05)))
    size = len(demonstration.completion.encode())
    return PromptValue(demonstration.id, sum(own), sum(other), 2, size, tuple(ends), tuple(own), tuple(other))


def found_in(kind: str, n: int, seed: int) -> KnowledgeGaps:
    draw = random.Random(f"{kind} {n} {seed}")
    train = [planted(kind, number, draw) for number in range(n)]
    return knowledge_gaps([read(one, draw) for one in train], train)
