"""The chapter on compounding error: survival, prefix forcing, excess divergence, calibration."""

from __future__ import annotations

from collections.abc import Sequence

from sft import meanings
from sft.chapters.parts import DASH, Chapter, Grid, Part, Row, absent
from sft.phrases import metric_name, system_name
from sft.scorecards import Calibration, Estimate, Scorecard, SurvivalPoint
from sft.typography import figure

__all__ = ["path"]


def path(card: Scorecard) -> Chapter:
    """Does it stay on the expert's path, and what does leaving it cost?"""
    parts = [_survival(card), _prefix(card)]
    if card.prefix.get("tuned"):
        parts.append(_excess(card))
    return Chapter(
        "path",
        "How long does it stay on the expert\u2019s path?",
        "A clone writes one token after another, each on top of its own earlier ones. One that strays has to go on "
        "from a place where no expert ever was, and its errors can add up.",
        (*parts, _calibration(card)),
    )


def _survival(card: Scorecard) -> Part:
    heading = "Until it strays"
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
        "share of completions that it would have begun exactly as the expert did, up to that token. A curve that stays "
        "high makes the expert\u2019s choices; shaded bands are 95 % intervals."
    )
    columns = (("Share still on the path, after tokens", ""), *((str(token), "") for token in tokens))
    grid = Grid("Survival", columns, rows)
    return Part("survival", heading, (meanings.survival(card.survival),), reading, (grid,))


def _at(points: Sequence[SurvivalPoint], token: int) -> str:
    reached = [point.share for point in points if point.token <= token]
    return f"{100 * (reached[-1] if reached else 1.0):.0f} %"


def _prefix(card: Scorecard) -> Part:
    heading, name = "Put back on the path", metric_name(card.headline)
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
        "by itself. The further they part, the more its own first steps cost it. The green curve is another expert, "
        "who went there by his own way too: what the rest of a text scores whoever writes it."
    )
    grid = Grid("Prefix forcing", columns, tuple(r for r in rows if set(r.cells) != {DASH}))
    sentence = meanings.prefix(card.prefix, name)
    return Part("prefix", heading, (sentence,) if sentence else (), reading, (grid,))


def _excess(card: Scorecard) -> Part:
    reading = (
        "How many points another expert is closer to the expert than the clone is, from the same place to the end; "
        "both went there by their own way. A curve that rises says that the clone drifts away: one error brings the "
        "next. A level or falling curve says that it does not, and below the line it is the closer of the two."
    )
    sentence = meanings.excess(card.prefix, card.accumulated, metric_name(card.headline))
    lags = [(point.share, point.excess) for point in card.prefix.get("own", ()) if point.excess is not None]
    if not lags or card.accumulated is None:
        return Part("excess", "Do its errors add up?", (sentence,), reading if lags else "")
    columns = (("Another expert minus the clone by itself", ""), (f"{metric_name(card.headline)} points", ""))
    rows = [Row(f"after {100 * share:.0f} % of the text", (figure(lag, signed=True),)) for share, lag in lags]
    rows.append(Row("growth, from the first to the last of them", (figure(card.accumulated, signed=True),), True))
    return Part("excess", "Do its errors add up?", (sentence,), reading, (Grid("Lag", columns, tuple(rows)),))


def _calibration(card: Scorecard) -> Part:
    heading = "Is it as right as it is sure?"
    notes = [
        f"{words}: {absent(card, section)[:1].lower()}{absent(card, section)[1:]}"
        for section, words in (
            ("calibration of tuned", "The clone on the expert\u2019s path"),
            ("calibration of B0", "The base model on the expert\u2019s path"),
            ("calibration of B3", "The base model with demonstrations, on the expert\u2019s path"),
            ("calibration of own", "The clone on its own path"),
            ("off_path", "After leaving the expert\u2019s path"),
        )
        if section in card.absent
    ]
    if not card.calibration:
        why = absent(card, "calibration", "how sure the policies are of each token was not recorded")
        return Part("calibration", heading, notes=tuple(notes), absent=why)
    found = [
        ("the clone, on the expert\u2019s path", card.calibration.get("tuned")),
        ("the base model, on the expert\u2019s path", card.calibration.get("B0")),
        ("the clone, on its own path", card.calibration.get("own")),
    ]
    columns = (
        ("Policy", ""),
        ("sure", "mean confidence"),
        ("right", "tokens that were right"),
        ("overconfident", "sure minus right"),
        ("calibration error", "mean distance of the two, by groups"),
        ("tokens", ""),
    )
    rows = tuple(_calibrated(label, part) for label, part in found if part is not None)
    sentences = (
        meanings.on_path(card.calibration.get("tuned"), card.calibration.get("B0")),
        meanings.own_path(card.calibration.get("own")),
        meanings.off_path(card.off_path),
    )
    reading = (
        "Tokens are put into groups by how sure the model was; the dot says how often they were right. On the dashed "
        "line it knows what it knows. Below it, it is surer than it should be: a clone of someone who knew more than "
        "it does learns to sound sure. On its own path a token counts as right if the expert has it there in order."
    )
    return Part(
        "calibration",
        heading,
        tuple(filter(None, sentences)),
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
