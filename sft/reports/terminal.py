"""A scorecard for a terminal."""

from __future__ import annotations

from sft.fidelity.conventions import rests_on_few
from sft.fidelity.guardrails import settled_in_words, unseen, written
from sft.fidelity.scorecard import Scorecard
from sft.reports.compare_page import aligned
from sft.reports.names import metric_name, system_name
from sft.reports.text import figure, in_groups

__all__ = ["to_text"]


def to_text(card: Scorecard) -> str:
    """A compact scorecard for a terminal: every system's row, guardrails that are red or not settled."""
    gains = {gain.floor: figure(gain.estimate, signed=True) for gain in card.gains}
    names = [card.headline, "rouge_l", "exact_match"]
    rows = [["system", *map(metric_name, names), "clone's lead", "length", "stops", ""]]
    for system in card.systems:
        found = system.scores
        cells = [figure(found[name]) if name in found else "" for name in names]
        if system.system == "E" and card.headline in found and rests_on_few(found[card.headline]):
            cells = [f"too few to say ({found[card.headline].n} prompts)", *[""] * (len(names) - 1)]
        length = figure(found["length_ratio"], "ratio") if "length_ratio" in found else ""
        stops = figure(found["stop_rate"], "share") if "stop_rate" in found else ""
        name = system_name(system.system, card.names)
        lead = gains.get(system.system, "")
        rows.append([system.system, *cells, lead, length, stops, name if name != system.system else ""])
    groups = in_groups(card.n, card.clusters, card.largest_cluster)
    lines = [f"{card.n} held-out prompts{groups}; in brackets: 95 % intervals", "", *aligned(rows)]
    rails = [f"red: {rail.name} {written(rail)[0]}; {rail.meaning}" for rail in card.guardrails if rail.state == "red"]
    rails += [
        f"not settled: {rail.name} {written(rail)[0]}, the limit is {written(rail)[1]}; {settled_in_words(rail)}"
        for rail in card.guardrails
        if rail.state == "amber" and not unseen(rail)
    ]
    return "\n".join([*lines, *([""] if rails else []), *rails])
