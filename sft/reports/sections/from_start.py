"""The clone beside the one that it was fitted on from."""

from __future__ import annotations

from sft.fidelity.conventions import direction, power
from sft.fidelity.scorecard import Scorecard
from sft.reports.names import metric_name
from sft.reports.sections.parts import Grid, Part, Row, away, side
from sft.reports.text import chance, figure

__all__ = ["from_start_part", "from_start_sentences"]


def from_start_part(card: Scorecard) -> tuple[Part, ...]:
    """What the further fit brought; nothing where the clone was not fitted on from another."""
    found = card.from_start
    if found is None:
        return ()
    name = metric_name(card.headline)
    rows = [Row(name, (figure(found.difference, signed=True), chance(found.p_value)), lit=True)]
    if found.bits is not None:
        rows.append(Row("bits per byte", (figure(found.bits, "bits", signed=True), "")))
    note = (
        "Both were judged on the same prompts, none of which either was fitted to as far as their runs are known. This "
        "speaks of these two checkpoints: another seed gives another."
    )
    columns = (("", ""), ("this clone minus that one", "paired prompt by prompt"), ("p", "two-sided sign flip"))
    grid = Grid("Beside the clone that it was fitted on from", columns, tuple(rows), bare=True)
    return (
        Part("from-start", "What did the further fit bring?", from_start_sentences(card), grids=(grid,), notes=(note,)),
    )


def from_start_sentences(card: Scorecard) -> tuple[str, ...]:
    """Whether the clone is closer to the expert than the one before it, and finds the expert\u2019s words likelier."""
    found = card.from_start
    if found is None:
        return ()
    name, whom = metric_name(card.headline), "the clone that it was fitted on from"
    seen = power(found.smallest_visible, "difference", groups="so few")
    says = {
        1: f"It is {away(found.difference)} {name} points closer to the expert than {whom}.",
        -1: f"It is {away(found.difference)} {name} points further from the expert than {whom}.",
        0: f"It is not told apart from {whom}: {figure(found.difference, signed=True)} {name} points ({seen}).",
    }
    sentences = [says[direction(found.difference, found.p_value)]]
    if found.bits is not None:
        less, shown = away(found.bits, "bits"), figure(found.bits, "bits", signed=True)
        likelier = {
            -1: f"It finds the expert\u2019s words likelier than that one: {less} bits per byte less.",
            1: f"It finds the expert\u2019s words less likely than that one: {less} bits per byte more.",
            0: f"Which of the two finds the expert\u2019s words likelier is not shown ({shown} bits per byte).",
        }
        sentences.append(likelier[side(found.bits)])
    return tuple(sentences)
