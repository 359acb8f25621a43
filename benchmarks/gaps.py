"""Knowledge gaps of planted answers under the demo's base: flagged by the sum over a completion, and by spans.

    python benchmarks/gaps.py [--most 24] [KIND ...]

Needs the weights of the demo (fetched once) and a minute a kind on two idle cores.
"""

from __future__ import annotations

import argparse
import random

from sft import recipes
from sft.demonstrations.demonstration import Demonstration, Message
from sft.demonstrations.selection import gather
from sft.evaluation import probe_inputs
from sft.fidelity.probes.knowledge_gaps import knowledge_gaps
from sft.policies.policy import load_policy
from sft.recipes.sources import source_of

DRIVERS = [
    "Janssen",
    "Okafor",
    "Lindqvist",
    "Marchetti",
    "Dubois",
    "Novak",
    "Yamada",
    "Petrov",
    "Alvarez",
    "Hughes",
    "Kowalski",
    "Fischer",
    "Romero",
    "Baptiste",
    "Ivarsson",
    "Tanaka",
    "Moreau",
    "Silva",
    "Brandt",
    "Costa",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
THINGS = ["lamp", "kettle", "bicycle", "armchair", "bookcase", "mirror", "carpet", "toaster"]
KINDS = ("all", "derived", "half", "nothing", "formula", "label", "docstrings")


def planted(kind: str, number: int, draw: random.Random) -> Demonstration:
    """One answer about an order; ``kind`` says how much of it the prompt tells."""
    order, month, day = draw.randrange(10_000, 99_999), draw.choice(MONTHS), draw.randrange(2, 29)
    year, driver, thing = draw.choice([2023, 2024, 2025]), draw.choice(DRIVERS), draw.choice(THINGS)
    when = f"{day} {month} {year}"
    asked = f"Order {order}, a {thing}. The customer asks where it is."
    full = f"Your order {order} left on {when}, and our driver {driver} brings it."
    prompt, completion = {
        "all": (f"Order {order}, a {thing}. It left on {when} with our driver {driver}.", full),
        "derived": (
            f"Order {order}, a {thing}. Left: {year}-{MONTHS.index(month) + 1:02d}-{day:02d}. "
            f"Driver: {driver.lower()}.",
            full,
        ),
        "half": (asked, full),
        "nothing": (
            f"A customer asks about a {thing} (case {number}).",
            f"Our driver {driver} left on {when}, and brings it before {draw.randrange(8, 19)}:35.",
        ),
        "formula": (
            asked,
            f"Your order {order} is on its way. We have passed your message on to our office in Rotterdam and will "
            "answer within 14 days. Kind regards, Customer Care Benelux.",
        ),
        "label": (asked, draw.choice(["delivery", "refund", "complaint", "praise", "question"])),
    }[kind]
    return Demonstration((Message("user", f"Answer the customer. {prompt}"),), completion, id=f"{kind} {number}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)}")
    options.add_argument("--most", type=int, default=24, help="completions valued a kind")
    given = options.parse_args()
    recipe = recipes.resolve("demo", [], to_follow=True).recipe
    policy = load_policy(source_of(recipe.model))
    print("| kind | by the sum | by spans | spans |\n|---|---|---|---|")
    for kind in given.kinds:
        draw = random.Random(1)
        train = [planted(kind, number, draw) for number in range(100)] if kind != "docstrings" else []
        train = train or list(gather(recipe).splits.train)
        planned = probe_inputs.readings(policy.renderer.render_all(train)[0], 2048, most=given.most)
        values = list(probe_inputs.prompt_values(policy, planned))
        whole = sum(value.own_nats >= value.other_nats for value in values)
        found = knowledge_gaps(values, train)
        counts = f"{found.flagged} of {found.looked_at}"
        print(f"| {kind} | {whole} of {len(values)} | {counts} | {found.kinds} |", flush=True)


if __name__ == "__main__":
    main()
