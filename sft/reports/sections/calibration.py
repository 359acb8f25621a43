"""Whether it is as right as it is sure, and how often its own words are the expert's."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.findings import Calibration, OwnWords
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Panel, Series
from sft.reports.sections.parts import (
    KINDS,
    Grid,
    Part,
    Row,
    absent,
    away,
    hundredfold,
    side,
)
from sft.reports.text import figure

__all__ = [
    "calibration_part",
    "itself_sentence",
    "on_path_sentence",
    "own_words_part",
    "own_words_sentence",
    "pictures",
]


def calibration_part(card: Scorecard) -> Part:
    """How sure each policy was on the expert's path, and how often it was right."""
    heading = "Is it as right as it is sure, on the expert\u2019s path?"
    notes = [
        f"{words}: {absent(card, section)[:1].lower()}{absent(card, section)[1:]}"
        for section, words in (
            ("calibration of tuned", "The clone on the expert\u2019s path"),
            ("calibration of B0", "The base model on the expert\u2019s path"),
            ("calibration of B3", "The base model with demonstrations, on the expert\u2019s path"),
        )
        if section in card.absent
    ]
    found = [
        ("the clone", card.calibration.get("tuned")),
        ("the base model", card.calibration.get("B0")),
    ]
    if not any(part for _, part in found):
        why = absent(card, "calibration", "how sure the policies are of each token was not recorded")
        return Part("calibration", heading, notes=tuple(notes), absent=why)
    columns = (
        ("Policy", ""),
        ("sure", "mean confidence"),
        ("right", "tokens that were right"),
        ("overconfident", "sure minus right"),
        ("calibration error", "mean distance of the two, by groups"),
        ("tokens", ""),
    )
    rows = tuple(_calibrated(label, part) for label, part in found if part is not None)
    sentence = on_path_sentence(card.calibration.get("tuned"), card.calibration.get("B0"))
    reading = (
        "The expert\u2019s tokens are put into groups by how sure the model was of its own choice there; the dot says "
        "how often that choice was the expert\u2019s. On the dashed line it is as sure as it is right, below it surer."
    )
    return Part(
        "calibration",
        heading,
        (sentence,) if sentence else (),
        reading,
        (Grid("Confidence and accuracy", columns, rows),),
        notes=tuple(notes),
    )


def _calibrated(label: str, part: Calibration) -> Row:
    figures = [
        figure(part.confidence, "share"),
        figure(part.accuracy, "share"),
        figure(part.overconfidence, "share", signed=True),
        figure(part.error, "share"),
        str(sum(b.tokens for b in part.bins)),
    ]
    return Row(label, tuple(figures), label.startswith("the clone"))


def on_path_sentence(tuned: Calibration | None, base: Calibration | None) -> str:
    """Confidence against accuracy while the expert leads, where every token has one right answer."""
    if tuned is None:
        return ""
    beside = "" if base is None else f"; the base model, {_off(base)}"
    return f"On the expert's path the clone is {_off(tuned)}{beside}."


def own_words_part(card: Scorecard) -> Part:
    """What the clone writes by itself, held to the expert's words and to its own samples."""
    heading, tokens, words = (
        "How often its own words are the expert\u2019s",
        card.calibration.get("own"),
        card.own_words,
    )
    if tokens is None and words is None:
        why = absent(card, "calibration of own", "how sure the clone is of its own words was not recorded")
        return Part("own_words", heading, absent=why)
    rows = []
    if tokens is not None:
        count = f"{sum(b.tokens for b in tokens.bins)} tokens"
        rows.append(Row("its tokens, the expert\u2019s", (figure(tokens.accuracy, "share"), count), True))
    if words is not None:
        of = f"{words.n} prompts"
        rows += [
            Row("its words, the expert\u2019s", (figure(words.expert, "share"), of), True),
            Row("its words, its own samples\u2019", (figure(words.itself, "share"), of)),
            Row("difference", (figure(words.difference, "share", signed=True), of)),
        ]
    notes = () if words is not None else (f"Beside its own samples: {absent(card, 'own_words').lower()}",)
    columns = (("Whose", ""), ("share", "in common, in order"), ("of", ""))
    sentences = (own_words_sentence(tokens), itself_sentence(words))
    return Part(
        "own_words",
        heading,
        tuple(filter(None, sentences)),
        grids=(Grid("Own words", columns, tuple(rows), bare=True),),
        notes=notes,
    )


def itself_sentence(part: OwnWords | None) -> str:
    """Whether the clone is as varied as the experts: a calibrated one's words are as often its samples' as theirs."""
    if part is None:
        return ""
    beside = f"{figure(part.itself, 'share')} of the words that it writes are its own samples', and "
    beside += f"{figure(part.expert, 'share')} the expert's"
    gap = hundredfold(part.difference)
    if side(gap) < 0:
        return (
            f"On its own path it is surer than the experts bear out: {beside}, {away(gap)} percentage points fewer, "
            "where a calibrated clone has as many of the one as of the other."
        )
    if side(gap) > 0:
        return (
            f"On its own path it is less sure than the experts bear out: {beside}, {away(gap)} percentage points more, "
            "where a calibrated clone has as many of the one as of the other."
        )
    return (
        f"On its own path it is not shown to be surer or less sure than the experts bear out: {beside} "
        f"(difference {figure(gap, signed=True)} percentage points)."
    )


def own_words_sentence(own: Calibration | None) -> str:
    """How often the clone's own words are the expert's: no judgement, for another good answer has other words."""
    if own is None:
        return ""
    return (
        f"Of the tokens that it writes by itself, {figure(own.accuracy, 'share')} are the expert's, in the same order. "
        "That is not how often it is right: another good answer has other words."
    )


def _off(part: Calibration) -> str:
    """As in "62.0 % sure and 58.0 % right on average, overconfident by 4.0 [2.1, 5.9] percentage points"."""
    gap = hundredfold(part.overconfidence)
    means = f"{100 * part.confidence.value:.1f} % sure and {100 * part.accuracy.value:.1f} % right on average"
    if side(gap) > 0:
        return f"{means}, overconfident by {away(gap)} percentage points"
    if side(gap) < 0:
        return f"{means}, more often right than it is sure, by {away(gap)} percentage points"
    return f"{means}, which is no clear difference ({figure(gap, signed=True)} percentage points)"


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    if card.calibration.keys() & {"tuned", "B0"}:
        yield "calibration", _calibration(card)


def _calibration(card: Scorecard) -> str:
    def series(label: str, part: Calibration, kind: str) -> Series:
        return Series(label, [(b.confidence, b.accuracy, b.low, b.high) for b in part.bins], kind)

    names = {"tuned": "the clone", "B0": "base model"}
    # The clone's own path has no place here: another good answer would count as wrong.
    led = [series(names[s], card.calibration[s], KINDS[s]) for s in ("B0", "tuned") if s in card.calibration]
    panels = [Panel("On the expert's path", led)]
    said = "; ".join(
        f"{panel.title}, {s.label}: {len(s.points)} groups of tokens, {s.points[0][1]:.0%} right at "
        f"{s.points[0][0]:.0%} sure to {s.points[-1][1]:.0%} right at {s.points[-1][0]:.0%} sure"
        for panel in panels
        for s in panel.series
        if s.points
    )
    return charts.squares(
        panels,
        key="calibration",
        title="Is it right as often as it is sure?",
        description=f"Confidence against accuracy. {said}.",
        x_axis="how sure it was of its token",
        y_axis="how often the token was the expert's",
        above="more often right than sure",
        below="surer than right",
    )
