"""Who comes how close: systems, gains, the way to another expert, named experts, parts of the prompts."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.conventions import percent
from sft.fidelity.scorecard import Closure, Scorecard
from sft.reports import charts
from sft.reports.charts import Entry, Mark, Place
from sft.reports.illustrations.widths import KINDS, dot
from sft.reports.names import metric_name, system_name
from sft.reports.text import figure

__all__ = ["drawn", "floor_score"]

#: Experts drawn at most; a table beside the picture holds them all.
EXPERTS = 16


def drawn(card: Scorecard, width: int) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    name = metric_name(card.headline)
    yield from _systems(card, name, width)
    if card.closure is not None and card.closure.expert.value > floor_score(card.closure):
        yield "closure", _closure(card.closure, name, width)
    if card.experts:
        yield "experts", _experts(card, name, width)
    if card.strata:
        yield "strata", _strata(card, name, width)


def _systems(card: Scorecard, name: str, width: int) -> Iterator[tuple[str, str]]:
    scored = [(s.system, s.scores[card.headline]) for s in card.systems if card.headline in s.scores]
    systems = [
        dot(system_name(s), e, KINDS.get(s, "other"), strong=s == "tuned")
        for s, e in sorted(scored, key=lambda pair: -pair[1].value)
    ]
    if systems:
        yield (
            "systems",
            charts.dots(
                systems,
                key="systems",
                title=f"{name} of every system, with 95 % intervals",
                width=width,
                axis=f"{name}, agreement with the expert (points of 100)",
            ),
        )
    gains = [
        dot(f"over {system_name(g.floor)}", g.estimate, "tuned", signed=True, strong=g.floor == card.gain.floor)
        for g in sorted(card.gains, key=lambda g: g.estimate.value)
    ]
    if gains:
        yield (
            "gains",
            charts.dots(
                gains,
                key="gains",
                title=f"How many {name} points the clone gains over each shortcut",
                width=width,
                axis=f"clone minus shortcut ({name} points)",
                signed=True,
            ),
        )


def floor_score(part: Closure) -> float:
    """Mean score of the best floor on the prompts of ``part``, which its surplus was made with."""
    return (part.tuned.value - part.margin * part.expert.value - part.surplus.value) / (1 - part.margin)


def _closure(part: Closure, name: str, width: int) -> str:
    share = part.share
    shown = f"{percent(share)} of the way, {part.tuned.value:.1f} points".replace(" [", "\u00a0[").replace(
        " p", "\u00a0p"
    )
    return charts.track(
        Place("the clone", share.value, shown, "tuned", share.low, share.high),
        Place(f"best shortcut: {system_name(part.floor)}", 0.0, f"{floor_score(part):.1f} points", "other"),
        Place("another expert", 1.0, f"{part.expert.value:.1f} points", "expert"),
        Place(f"{100 * part.margin:.0f} % of the way counts as cloned", part.margin, "", "other"),
        key="closure",
        title="How much of the way from the best shortcut to another expert is closed",
        width=width,
        axis=f"share of the distance in {name}, with its 95 % interval",
    )


def _experts(card: Scorecard, name: str, width: int) -> str:
    rows = [
        dot(
            f"{part.expert}, whom it was fitted to" if part.own else part.expert,
            part.score,
            "tuned" if part.own else "other",
            strong=part.own,
            ghost=part.agreement.value if part.agreement else None,
        )
        for part in card.experts[:EXPERTS]
    ]
    entries = [Entry("the clone against this expert", "tuned", "dot")]
    if any(part.agreement for part in card.experts[:EXPERTS]):
        entries.append(Entry("other experts against this one", "expert", "ghost"))
    return charts.dots(
        rows,
        key="experts",
        title="How close the clone comes to each expert by name",
        width=width,
        axis=f"{name} against that expert's own completions (points)",
        entries=entries,
    )


def _strata(card: Scorecard, name: str, width: int) -> str:
    whole = next((s.scores[card.headline] for s in card.systems if s.system == "tuned"), None)
    rows = [
        dot(f"{part.label} (n\u00a0=\u00a0{part.n})", part.score, "tuned", group=f"by {part.by}")
        for part in card.strata
    ]
    return charts.dots(
        rows,
        key="strata",
        title="The clone's score in each part of the prompts",
        width=width,
        axis=f"{name} of the clone in this part of the prompts (points)",
        marks=[Mark(whole.value, f"all prompts: {figure(whole).split(' ')[0]}")] if whole is not None else [],
    )
