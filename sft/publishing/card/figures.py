"""The figures of a card: tables, a picture of text, metadata.

A hub shows what is in the repository and nothing drawn by a program in the page, and a picture file would need
a browser to be made and a second look to be checked. So the picture is made of characters: it is read
wherever the card is, and it is text that a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.fidelity.conventions import rests_on_few, visible_points
from sft.fidelity.guardrails import STATES, written
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports.names import METRIC_NAMES, metric_name, system_name
from sft.reports.text import chance, figure

__all__ = ["Table", "metadata_of", "picture", "tables"]

DASH = "\N{EM DASH}"

_WRITTEN = ("chrf", "chrf2", "rouge_l", "token_f1", "edit_similarity", "exact_match", "exact_match_normalised")
_MANNER = ("stop_rate", "empty_rate", "length_ratio")
_LIKELIHOOD = ("with_stop", "top1", "top5")


@dataclass(frozen=True, slots=True)
class Table:
    """``columns``: the first is the rows'. Every cell is a text without markup."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(card: Scorecard) -> tuple[Table, ...]:
    """The base model and the clone, everybody's score, the clone's lead, and the guardrails."""
    found = [_from_base_to_clone(card), _everybody(card), _lead(card)]
    return tuple(table for table in (*found, _guardrails(card)) if table.rows)


def _of(card: Scorecard, system: str) -> dict[str, Estimate]:
    """Every figure of one system, by metric."""
    return {**card.scores_of(system), **card.bits_per_byte.get(system, {}), **card.action.get(system, {})}


def _shown(found: Mapping[str, Estimate], metric: str) -> str:
    return figure(found[metric], METRIC_NAMES.get(metric, ("", "", "points"))[2]) if metric in found else DASH


def _from_base_to_clone(card: Scorecard) -> Table:
    base, tuned = _of(card, "B0"), _of(card, "tuned")
    order = dict.fromkeys((card.headline, *_WRITTEN, *_LIKELIHOOD, *_MANNER))
    rows = tuple(
        (f"{metric_name(metric)}: {METRIC_NAMES.get(metric, ('', ''))[1]}", _shown(base, metric), _shown(tuned, metric))
        for metric in order
        if metric in tuned
    )
    columns = ("measure", "base model, zero-shot", "the clone")
    return Table("From the base model to the clone", columns, rows)


def _everybody(card: Scorecard) -> Table:
    """What takes no training, and another expert where one is known."""
    metrics = tuple(dict.fromkeys((card.headline, "chrf2", "rouge_l", "exact_match")))
    order = [s.system for s in card.systems]
    rows = tuple((system_name(s, card.names), *(_shown(_of(card, s), metric) for metric in metrics)) for s in order)
    unknown = "" if "E" in order else f"How close another expert comes is not known: {card.absent.get('closure', '')}."
    notes = [f"{system_name(s.system, card.names)}: {s.note}." for s in card.systems if s.note]
    note = " ".join([unknown if card.absent.get("closure") else "", *notes]).strip()
    return Table("Shortcuts and another expert", ("system", *map(metric_name, metrics)), rows, note)


def _lead(card: Scorecard) -> Table:
    rows = tuple(
        (
            system_name(gain.floor, card.names) + (" (the one that counts)" if gain.floor == card.gain.floor else ""),
            figure(gain.estimate, signed=True),
            chance(gain.p_value),
            visible_points(gain.smallest_visible),
        )
        for gain in sorted(card.gains, key=lambda gain: gain.estimate.value)
    )
    saved = card.imitation_gain
    note = ""
    if saved is not None:
        note = f"Surprise saved at the expert\u2019s own words: {figure(saved, 'bits', signed=True)} bits per byte."
    if (closure := card.closure) is not None:
        way = f"the way from {system_name(closure.floor, card.names)} to another expert"
        closed = f"{figure(closure.share, 'share')} ({closure.finding})"
        if rests_on_few(closure.expert):
            closed = f"too few to say, {closure.expert.n} prompts were answered by two experts"
        note += f" Share closed of {way}: {closed}."
    columns = ("the clone\u2019s lead over", f"{metric_name(card.headline)} points", "p", "smallest lead visible")
    return Table("The clone\u2019s lead", columns, rows, note.strip())


def _guardrails(card: Scorecard) -> Table:
    rows = []
    for rail in card.guardrails:
        rows.append((f"{rail.name}: {rail.meaning}", *written(rail), STATES[rail.state]))
    return Table("Guardrails", ("guardrail", "measured", "limit", "state"), tuple(rows))


def picture(card: Scorecard, width: int = 48) -> str:
    """Every system's headline score with its interval, on one scale from 0, as lines of text."""
    found = [
        (system_name(s.system, card.names), s.scores[card.headline])
        for s in card.systems
        if card.headline in s.scores and not (s.system == "E" and rests_on_few(s.scores[card.headline]))
    ]
    if not found:
        return ""
    top = 10 * max(1, math.ceil(max(e.value if e.high is None else e.high for _, e in found) / 10))
    names = max(len(name) for name, _ in found)

    def place(value: float) -> int:
        return round(min(max(value / top, 0), 1) * (width - 1))

    lines = [f"{metric_name(card.headline)}, 0 to {top}; a dot for the mean, a bar for its 95 % interval"]
    for name, e in sorted(found, key=lambda pair: -pair[1].value):
        track = [" "] * width
        if e.low is not None and e.high is not None:
            low, high = place(e.low), place(e.high)
            track[low : high + 1] = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (high - low + 1)
        track[place(e.value)] = "\N{BLACK CIRCLE}"
        lines.append(f"{name:<{names}} |{''.join(track)}| {figure(e)}")
    return "\n".join(lines)


def metadata_of(card: Scorecard) -> list[dict[str, Any]]:
    """The clone's main figures for ``model-index``: metric type, value, and a name that tells the interval and n."""
    tuned = _of(card, "tuned")
    wanted = [(metric_name(m), m, tuned[m]) for m in dict.fromkeys((card.headline, *_WRITTEN[:3])) if m in tuned]
    wanted += [(metric_name(m), "bits_per_byte", tuned[m]) for m in ("with_stop",) if m in tuned]
    lead = f"{metric_name(card.headline)} lead over the best shortcut ({system_name(card.gain.floor, card.names)})"
    wanted.append((lead, f"{card.headline}_lead", card.gain.estimate))
    return [
        {"type": kind, "value": round(e.value, 4), "name": f"{name}{_interval(e)}, n = {e.n}"}
        for name, kind, e in wanted
    ]


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f", {100 * estimate.level:g} % interval {estimate.low:.2f} to {estimate.high:.2f}"
