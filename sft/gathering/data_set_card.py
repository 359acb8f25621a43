"""The card of a gathering that is published: who wrote, how, by which guidelines, how alike, and what is missing.

Times are told of all experts together, and only where there are three: of two, each could work out the other's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from sft import __version__
from sft.demonstrations.demonstration import HOWS
from sft.gathering.curve import anchoring_of
from sft.gathering.figures import figures
from sft.gathering.folder import Gathering
from sft.gathering.items import Item
from sft.gathering.state import Standing
from sft.metrics.estimate import figure
from sft.reports.text import cell, fenced

__all__ = ["Facts", "card_of_data_set"]

#: Experts from whom on times are told, of all of them together.
_PEOPLE = 3
_MEANS = dict(
    zip(
        HOWS,
        (
            "written without having seen a clone's text",
            "a clone's text, left as it was",
            "a clone's text, half of its characters or more kept",
            "another text, with a clone's in view",
            "a clone's beginning, then other words",
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card tells of. ``rows`` and ``items``: as published; ``left_out``: what -> how many; ``names``: expert
    -> what the card calls them; ``marked``: whether held-out rows are among them.
    """

    gathering: Gathering
    state: Standing
    clones: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    items: Sequence[Item]
    names: Mapping[str, str]
    repo: str
    licence: str | None
    left_out: Mapping[str, int]
    marked: bool
    checksums: Mapping[str, str]


def card_of_data_set(facts: Facts) -> str:
    """Markdown with its metadata."""
    experts = Counter(row["expert"] for row in facts.rows)
    lines = [f"# {cell(facts.repo.rpartition('/')[2])}", "", _opening(facts, len(experts)), "", *_table(facts, experts)]
    lines += ["", "## How to load it", "", *_loading(facts)]
    lines += ["", "## How each answer came about", "", *_hows(facts), *_anchoring(facts)]
    lines += ["", "## How alike the experts write", "", *_agreement(facts)]
    lines += ["", "## Guidelines", "", *_guidelines(facts)]
    lines += ["", "## What was left out", "", *_left_out(facts)]
    lines += ["", "## Known gaps", "", *(f"- {gap}" for gap in _gaps(facts, len(experts)))]
    lines += ["", "## Checksums", "", fenced("\n".join(f"{sha}  {name}" for name, sha in facts.checksums.items()))]
    return f"---\n{_metadata(facts)}---\n\n" + "\n".join(lines) + "\n"


def _metadata(facts: Facts) -> str:
    head: dict[str, Any] = {"license": facts.licence} if facts.licence else {}
    head |= {
        "task_categories": ["text-generation"],
        "tags": ["sft", "demonstrations", "behavioural-cloning"],
        "configs": [{"config_name": "default", "data_files": "demonstrations.jsonl"}],
    }
    return yaml.safe_dump(head, allow_unicode=True, sort_keys=False)


def _opening(facts: Facts, experts: int) -> str:
    who = "one expert" if experts == 1 else f"{experts} experts"
    return (
        f"What {who} wrote for {len({row['gathered']['item'] for row in facts.rows})} prompts, on a page of their own "
        f"machine (`sft collect`, sft {__version__}): for a language model to learn their writing from."
    )


def _table(facts: Facts, experts: Counter[str]) -> list[str]:
    rounds = Counter(row["gathered"]["round"] for row in facts.rows)
    setup = facts.gathering.settings
    table = {
        "Demonstrations": f"{len(facts.rows)}: " + ", ".join(f"{n} of round {k}" for k, n in sorted(rounds.items())),
        "Experts": ", ".join(f"{cell(name)} ({n})" for name, n in sorted(experts.items(), key=_number)),
        "Items asked": f"{len(facts.items)}, each of {setup.answers} experts or more; drawn by content hash, seed "
        f"{setup.seed}",
        "Licence": facts.licence or "not stated: nobody may use the data without asking",
    }
    if len(experts) >= _PEOPLE and (of_all := figures(facts.state)).seconds is not None:
        low, middle, high = of_all.seconds
        minutes = sum(one.minutes for one in of_all.experts.values())
        table["Work"] = (
            f"{minutes:.0f} active minutes of all experts; an answer took {middle:.0f} s (quartiles {low:.0f} and "
            f"{high:.0f})"
        )
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in table.items())]


def _number(one: tuple[str, int]) -> tuple[int, str]:
    digits = one[0].rpartition("-")[2]
    return (int(digits) if digits.isdigit() else 0, one[0])


def _loading(facts: Facts) -> list[str]:
    return [
        "```python",
        "from datasets import load_dataset",
        "",
        f'rows = load_dataset("{facts.repo}", split="train")',
        "```",
        "",
        f"Recipes of sft read it as `demonstrations.path: hub:{facts.repo}`; `sft check hub:{facts.repo}` looks it "
        "through.",
        "",
        "A row has `prompt` (messages), `completion`, `expert`, `group` where there is one, and `gathered`: `item`, "
        "its `round` (0: demonstrations; k: corrections of the clone of round k - 1), `how` the answer came about, "
        "whether the item was `drawn` at random (`audit`) or `chosen` by a rule, the version of the `guidelines`, and "
        "beside a clone's text the `edits` and the `kept_prefix` in characters.",
    ]


def _hows(facts: Facts) -> list[str]:
    counts = Counter(row["gathered"]["how"] for row in facts.rows)
    lines = ["| how | answers | share | |", "|---|---:|---:|---|"]
    lines += [f"| {how} | {n} | {n / len(facts.rows):.0%} | {_MEANS[how]} |" for how in HOWS if (n := counts[how])]
    for one in facts.gathering.settings.rounds:
        lines += [
            "",
            f"Round {one['number']} corrects the clone with the weights `{one['weights_hash']}`: items chosen by "
            f"`{one['chosen_by']}`, {one['audit']:.0%} drawn at random whatever the rule, {one['blind']:.0%} written "
            "before the clone's text was seen.",
        ]
    return lines


def _anchoring(facts: Facts) -> list[str]:
    answers = [one for one in facts.state.answers() if one.item.round]
    found = anchoring_of(answers, facts.clones) if answers else None
    if found is None:
        return []
    smallest = f"; {found.smallest:.1f} points would have been seen in four of five cases" if found.smallest else ""
    return [
        "",
        f"Anchoring: where the expert saw the clone's text, the final one is nearer to it by "
        f"{figure(found.difference, signed=True)} chrF points ({found.drafted} drafted and {found.blind} blind "
        f"answers{smallest}).",
    ]


def _agreement(facts: Facts) -> list[str]:
    found = figures(facts.state)
    if found.agreement is None:
        why = "one expert" if len(found.experts) < 2 else "no item was answered blind by two"
        return [f"Unknown: {why}."]
    lines = [
        f"chrF {figure(found.agreement)} between two experts' blind answers to the same prompt, on "
        f"{found.agreement.n} prompts; the same words: {figure(found.same, 'share')}."
    ]
    if found.again is not None:
        lines.append(f"An expert with themselves, asked again: chrF {figure(found.again)} on {found.again.n} prompts.")
    return lines


def _guidelines(facts: Facts) -> list[str]:
    versions = facts.gathering.settings.guidelines
    if not versions:
        return ["None were given."]
    under = Counter(row["gathered"]["guidelines"] for row in facts.rows)
    lines = [f"{len(versions)} version{'' if len(versions) == 1 else 's'}; the last is in force."]
    if under[""]:
        lines += ["", f"{under['']} answers were written before there were any."]
    for number, digest in enumerate(versions, start=1):
        text = fenced(facts.gathering.guideline(digest))
        lines += ["", f"Version {number} (`{digest}`), {under[digest]} answers:", "", text]
    return lines


def _left_out(facts: Facts) -> list[str]:
    lines = [f"- {count} {what}" for what, count in facts.left_out.items()]
    return [*lines, "- drafts, times, and what clones wrote"]


def _gaps(facts: Facts, experts: int) -> Iterator[str]:
    if experts == 1:
        yield "One expert wrote all of it, so that nobody knows how far another would agree."
    drafted = sum(row["gathered"]["how"] != "blind" for row in facts.rows)
    if drafted:
        yield (
            f"{drafted} answers were written with a clone's text in view and may keep its words; only those that are "
            "`blind` say how the expert writes."
        )
    if any(row["gathered"]["drawn"] == "chosen" for row in facts.rows):
        yield "Items that are `chosen` are harder than others; only `audit` ones stand for the pool of prompts."
    if facts.marked:
        yield "Rows with `held_out: true` are what a clone is judged on: train on them, and it can no longer be."
    if facts.gathering.settings.own_prompts:
        yield "Some prompts are the experts' own."
    yield "Tokens, keys, addresses and home folders were looked for; what a text tells between the lines was not."
