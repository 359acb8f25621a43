"""Manner and limits: told apart by a classifier, alike among themselves, gaps, right answers, copies, forgetting."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.conventions import CLONED_AUC, GUARDRAIL_LIMITS
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Dot, Mark, Share
from sft.reports.illustrations.widths import KINDS, dot
from sft.reports.names import IMPOSTORS, metric_name, system_name

__all__ = ["drawn"]


def drawn(card: Scorecard, width: int) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    name = metric_name(card.headline)
    impostors = [
        dot(IMPOSTORS[kind][0], card.impostor[kind], IMPOSTORS[kind][1], style="ratio", strong=kind == "sampled")
        for kind in IMPOSTORS
        if kind in card.impostor
    ]
    if impostors:
        yield (
            "impostor",
            charts.dots(
                impostors,
                key="impostor",
                title="Can a classifier tell who wrote it?",
                width=width,
                axis="AUC: how often it picks the impostor out of two texts",
                include=(0.4, 1.0),
                marks=[
                    Mark(0.5, "0.50: guessing"),
                    Mark(CLONED_AUC, f"{CLONED_AUC:.2f}: a clone's interval must lie below"),
                ],
            ),
        )
    yield from _alike(card, name, width)
    yield from _limits(card, width)
    yield from _costs(card, width)


def _alike(card: Scorecard, name: str, width: int) -> Iterator[tuple[str, str]]:
    found = card.self_agreement
    rows = [
        dot(label, found[key], kind)
        for key, label, kind in (
            ("tuned", "two samples of the clone", "tuned"),
            ("experts", "two experts", "expert"),
        )
        if key in found
    ]
    if rows:
        yield (
            "self_agreement",
            charts.dots(
                rows,
                key="self_agreement",
                title="How alike two answers to one prompt are",
                width=width,
                axis=f"{name} of one answer against the other (points)",
            ),
        )


def _limits(card: Scorecard, width: int) -> Iterator[tuple[str, str]]:
    gaps = card.gaps
    if gaps is not None and gaps.looked_at:
        parts = [
            Share("the prompt helps the base model", gaps.looked_at - gaps.flagged, "expert"),
            Share("it does not", gaps.flagged, "base"),
        ]
        title = "Training completions for which the prompt tells the model something"
        yield "gaps", charts.shares(parts, key="gaps", title=title, width=width)
    under = card.underachieving
    if under is not None and under.right:
        ranked = sorted(under.right.items(), key=lambda pair: -pair[1].value)
        rows = [dot(system_name(s), e, KINDS.get(s, "other"), style="share", strong=s == "tuned") for s, e in ranked]
        yield (
            "underachieving",
            charts.dots(
                rows,
                key="underachieving",
                title="Who is right how often",
                width=width,
                axis="right answers by the checker",
                unit=" %",
            ),
        )


def _costs(card: Scorecard, width: int) -> Iterator[tuple[str, str]]:
    repeated = card.memorisation
    if repeated is not None and repeated.longest:
        rows: list[Dot] = [
            dot(label, repeated.longest[key], KINDS[key], strong=key == "tuned")
            for key, label in (("tuned", "the clone"), ("expert", "held-out experts"))
            if key in repeated.longest
        ]
        yield (
            "memorisation",
            charts.dots(
                rows,
                key="memorisation",
                title="Longest run of words shared with a training completion",
                width=width,
                axis="words in a row, mean over the held-out prompts",
            ),
        )
    if card.forgetting:
        limit = GUARDRAIL_LIMITS["forgetting"]
        yield (
            "forgetting",
            charts.dots(
                [dot(part.text, part.rise, "tuned", style="share", signed=True) for part in card.forgetting],
                key="forgetting",
                title="How much more surprised it is by plain text than the base model",
                width=width,
                axis="rise of bits per byte over the base model's",
                signed=True,
                unit=" %",
                marks=[Mark(100 * limit, f"limit: {100 * limit:.0f} %")],
            ),
        )
