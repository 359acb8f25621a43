"""Parts of the held-out prompts: where the score is high, and where low."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sft.fidelity.findings import Stratum
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Mark
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import (
    DASH,
    Grid,
    Part,
    Row,
    absent,
    apart,
    dot,
    side,
)
from sft.reports.text import figure

__all__ = ["pictures", "strata_part", "strata_sentence"]


def strata_part(card: Scorecard) -> Part:
    """Parts of the held-out prompts."""
    name, heading = metric_name(card.headline), "Where is its score high, and where low?"
    if not card.strata:
        return Part("strata", heading, absent=absent(card, "strata"))
    rows = tuple(
        Row(
            f"{part.by}: {part.label}",
            (
                str(part.n),
                figure(part.score),
                figure(part.gain, signed=True) if part.gain else DASH,
                figure(part.saved, "bits", signed=True) if part.saved else DASH,
            ),
        )
        for part in card.strata
    )
    columns = (
        ("Prompts", ""),
        ("n", ""),
        (name, "points"),
        ("gain", f"over {system_name(card.gain.floor, card.names)}, points"),
        ("saved", "bits per byte against the better base model"),
    )
    reading = (
        "The held-out prompts cut into parts; each dot is the clone's score in one. The dashed line is its score over "
        "all. A bar wholly to the left of it is a part with lower scores; prompts that leave more to choose have them "
        "with a perfect clone, too."
    )
    sentence = strata_sentence(card.strata, name)
    grid = Grid("Parts of the held-out prompts", columns, rows)
    return Part("strata", heading, (sentence,) if sentence else (), reading, (grid,))


def strata_sentence(parts: Sequence[Stratum], points: str) -> str:
    """In which part of the prompts the clone's score is lowest and highest.

    Not where it is weak: where experts differ more among themselves a perfect clone scores lower, too.
    """
    if len(parts) < 2:
        return ""
    low, high = min(parts, key=lambda p: p.score.value), max(parts, key=lambda p: p.score.value)
    sure = (
        "the two intervals do not overlap"
        if apart(high.score, low.score) > 0
        else "the two intervals overlap, so that may be chance"
    )
    unshown = [part for part in parts if part.gain is not None and side(part.gain) <= 0]
    tail = f" In {len(unshown)} of {len(parts)} parts no gain over the best shortcut is shown." if unshown else ""
    return (
        f"Its score is lowest in the part \u201c{low.label}\u201d ({low.by}): {figure(low.score)} {points} points; "
        f"highest in \u201c{high.label}\u201d ({high.by}): {figure(high.score)}; {sure}. A part can be low because "
        f"its prompts leave more to choose, for a perfect clone as well.{tail}"
    )


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    if card.strata:
        yield "strata", _strata(card, metric_name(card.headline))


def _strata(card: Scorecard, name: str) -> str:
    whole = card.scores_of("tuned").get(card.headline)
    rows = [
        dot(f"{part.label} (n\u00a0=\u00a0{part.n})", part.score, "tuned", group=f"by {part.by}")
        for part in card.strata
    ]
    return charts.dots(
        rows,
        key="strata",
        title="The clone's score in each part of the prompts",
        axis=f"{name} of the clone in this part of the prompts (points)",
        marks=[Mark(whole.value, f"all prompts: {figure(whole).split(' ')[0]}")] if whole is not None else [],
    )
