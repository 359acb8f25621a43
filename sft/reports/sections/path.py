"""The chapter on the expert's path: leaving it, going on from it, being sure on it; and how the clone's own differs."""

from __future__ import annotations

from collections.abc import Sequence

from sft.fidelity.scorecard import Calibration, Scorecard, SurvivalPoint
from sft.metrics.estimate import Estimate
from sft.reports import meanings
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import DASH, Chapter, Grid, Part, Row, absent
from sft.reports.text import figure

__all__ = ["path"]


def path(card: Scorecard) -> Chapter:
    """How long does it stay on the expert's path, and what does it write from there?"""
    return Chapter(
        "path",
        "How long does it stay on the expert\u2019s path?",
        "A clone writes one token after another, each on top of its own earlier ones. Leaving the path that one expert "
        "took is no error by itself: another expert leaves it too. Whether errors add up along the clone\u2019s own "
        "text is not measured here.",
        (_survival(card), _prefix(card), _calibration(card), _own_words(card)),
    )


def _survival(card: Scorecard) -> Part:
    heading = "Until it leaves it"
    known = {s: points for s, points in card.survival.items() if points and s in ("tuned", "B0")}
    if "tuned" not in known:
        why = (
            "Not scored: this run holds no token scores of the clone, so it is not known which of the expert\u2019s "
            "words it would have chosen."
        )
        return Part("survival", heading, absent=why)
    last = max(point.token for points in known.values() for point in points)
    tokens = [token for token in (1, 2, 5, 10, 20, 50, 100, 200) if token <= last]
    rows = tuple(
        Row(system_name(s), tuple(_at(points, token) for token in tokens), s == "tuned") for s, points in known.items()
    )
    reading = (
        "Read along with the expert, one token at a time, and ask what the model would write next. The height is the "
        "share of completions that it would have begun exactly as the expert did, up to that token. The higher a curve "
        "stays, the more of the expert\u2019s choices it makes; shaded bands are 95 % intervals."
    )
    columns = (("Share still on the path, after tokens", ""), *((str(token), "") for token in tokens))
    grid = Grid("Survival", columns, rows)
    return Part("survival", heading, (meanings.survival(card.survival),), reading, (grid,))


def _at(points: Sequence[SurvivalPoint], token: int) -> str:
    reached = [point.share for point in points if point.token <= token]
    return f"{100 * (reached[-1] if reached else 1.0):.0f} %"


def _prefix(card: Scorecard) -> Part:
    heading, name = "Given the expert\u2019s beginning", metric_name(card.headline)
    tuned = card.prefix.get("tuned", ())
    if not tuned:
        return Part("prefix", heading, absent=absent(card, "prefix"))

    def row(label: str, system: str, part: str = "score", signed: bool = False) -> Row:
        by_share: dict[float, Estimate | None] = {p.share: getattr(p, part) for p in card.prefix.get(system, ())}
        known = [by_share.get(point.share) for point in tuned]
        cells = tuple(figure(e, signed=signed) if e else DASH for e in known)
        return Row(label, cells, system == "tuned" and part == "score")

    rows = (
        row("the clone, after the expert\u2019s beginning", "tuned"),
        row("the clone, after its own beginning", "own"),
        row("difference: what the expert\u2019s beginning is worth", "tuned", "regained", True),
        row("another expert", "E"),
        row("another expert minus the clone by itself", "own", "excess", True),
    )
    columns = (
        (f"{name} of the rest, points", ""),
        *((f"{100 * point.share:.0f} % given", f"n = {point.score.n}") for point in tuned),
    )
    reading = (
        "Each curve is held to what is left of the expert\u2019s text after the share below. The blue one was given "
        "the expert\u2019s first part and goes on from there; the dashed one is what the clone wrote in the same place "
        "by itself. How far they part is what it is worth to be told how the expert began, to a perfect clone as well. "
        "The green curve is another expert, who went there by his own way too. What is left gets shorter to the right, "
        "and with it every difference: that the curves draw nearer or apart says nothing of errors adding up."
    )
    grid = Grid("Prefix forcing", columns, tuple(r for r in rows if set(r.cells) != {DASH}))
    sentences = (meanings.prefix(card.prefix, name), meanings.excess(card.prefix, name))
    return Part("prefix", heading, tuple(filter(None, sentences)), reading, (grid,))


def _calibration(card: Scorecard) -> Part:
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
    sentence = meanings.on_path(card.calibration.get("tuned"), card.calibration.get("B0"))
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


def _own_words(card: Scorecard) -> Part:
    """What the clone writes by itself, held to the expert's words and judged by nothing."""
    heading, part = "How often its own words are the expert\u2019s", card.calibration.get("own")
    if part is None:
        why = absent(card, "calibration of own", "how sure the clone is of its own words was not recorded")
        return Part("own_words", heading, absent=why)
    columns = (("Whose", ""), ("the expert\u2019s", "share of its tokens"), ("tokens", ""))
    rows = (Row("the clone\u2019s", (figure(part.accuracy, "share"), str(sum(b.tokens for b in part.bins))), True),)
    return Part("own_words", heading, (meanings.own_words(part),), grids=(Grid("Own words", columns, rows, bare=True),))


def _calibrated(label: str, part: Calibration) -> Row:
    figures = [
        figure(part.confidence, "share"),
        figure(part.accuracy, "share"),
        figure(part.overconfidence, "share", signed=True),
        figure(part.error, "share"),
        str(sum(b.tokens for b in part.bins)),
    ]
    return Row(label, tuple(figures), label.startswith("the clone"))
