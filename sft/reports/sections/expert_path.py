"""Along the expert's path: leaving it, and going on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sft.fidelity.findings import PrefixPoint, SurvivalPoint
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Line
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import (
    DASH,
    KINDS,
    Grid,
    Part,
    Row,
    absent,
    away,
    rate,
    side,
)
from sft.reports.text import figure

__all__ = ["excess_sentence", "pictures", "prefix_part", "prefix_sentence", "survival_part", "survival_sentence"]


def survival_part(card: Scorecard) -> Part:
    """How long completions begin as the expert's do."""
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
        Row(system_name(s, card.names), tuple(_at(points, token) for token in tokens), s == "tuned")
        for s, points in known.items()
    )
    reading = (
        "Read along with the expert, one token at a time, and ask what the model would write next. The height is the "
        "share of completions that it would have begun exactly as the expert did, up to that token. The higher a curve "
        "stays, the more of the expert\u2019s choices it makes; shaded bands are 95 % intervals."
    )
    columns = (("Share still on the path, after tokens", ""), *((str(token), "") for token in tokens))
    grid = Grid("Survival", columns, rows)
    return Part("survival", heading, (survival_sentence(card.survival),), reading, (grid,))


def _at(points: Sequence[SurvivalPoint], token: int) -> str:
    reached = [point.share for point in points if point.token <= token]
    return f"{100 * (reached[-1] if reached else 1.0):.0f} %"


def survival_sentence(curves: Mapping[str, Sequence[SurvivalPoint]]) -> str:
    """After how many tokens half of the completions have left the expert's path."""
    tuned, base = curves.get("tuned", ()), curves.get("B0", ())
    if not tuned:
        return ""
    half, theirs = _half(tuned), _half(base)
    if half:
        sentence = f"Half of the completions have left the expert's path after {half}"
    else:
        sentence = f"After {_still(tuned)} are still on the expert's path, as far as there is to follow"
    if theirs:
        return f"{sentence}; half of the base model's have left it after {theirs}."
    return f"{sentence}; of the base model's, after {_still(base)} are." if base else f"{sentence}."


def _still(points: Sequence[SurvivalPoint]) -> str:
    """As in "60 tokens 71 % [63, 78]"."""
    last = points[-1]
    share = f"{100 * last.share:.0f} % [{100 * last.low:.0f}, {100 * last.high:.0f}]"
    return f"{_tokens(last.token)} {share}"


def _half(points: Sequence[SurvivalPoint]) -> str:
    """The median as in "4 tokens [3, 6]"; "" where half never leave."""
    at = next((p.token for p in points if p.share <= 0.5), None)
    if at is None:
        return ""
    first = next(p.token for p in points if p.low <= 0.5)
    last = next((str(p.token) for p in points if p.high <= 0.5), "no bound")
    return f"{_tokens(at)} [{first}, {last}]"


def _tokens(count: int) -> str:
    return f"{count} token" + "s" * (count != 1)


def prefix_part(card: Scorecard) -> Part:
    """What it writes when part of the expert's text is given."""
    heading, name = "Given the expert\u2019s beginning", metric_name("chrf")
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
    sentences = (prefix_sentence(card.prefix, name), excess_sentence(card.prefix, name))
    return Part("prefix", heading, tuple(filter(None, sentences)), reading, (grid,))


def prefix_sentence(curves: Mapping[str, Sequence[PrefixPoint]], points: str) -> str:
    """How much closer the clone goes on when it is told how the expert began: at the share nearest to half.

    It is no cost of the clone's own beginning: whoever learns which of several good answers the expert began comes
    closer to that one, a perfect clone too.
    """
    known = [point for point in curves.get("tuned", ()) if point.regained is not None]
    if not known:
        return ""
    at = min(known, key=lambda point: abs(point.share - 0.5))
    assert at.regained is not None
    own = next((point.score for point in curves.get("own", ()) if point.share == at.share), None)
    alone = f" against {figure(own)}" if own is not None else ""
    given = f"Given {rate(at.share)} of the expert's text, the clone goes on"
    figures = f"{figure(at.score)}{alone}"
    if side(at.regained) > 0:
        return (
            f"{given} {away(at.regained)} {points} points closer to the expert than after its own beginning "
            f"({figures}); a perfect clone gains by that too, being told which way the expert went."
        )
    if side(at.regained) < 0:
        return (
            f"{given} {away(at.regained)} {points} points further from the expert than after its own beginning "
            f"({figures})."
        )
    return (
        f"{given} no clearly closer than after its own beginning ({figure(at.regained, signed=True)} {points} points; "
        f"{figures})."
    )


def excess_sentence(curves: Mapping[str, Sequence[PrefixPoint]], points: str) -> str:
    """How much closer another expert comes over the whole text.

    Nothing is said of how that changes along the text: the difference shrinks with the length of what is left, so
    it can fall for a clone whose errors add up, and a rise or fall of it is no evidence of anything.
    """
    own = next((point for point in curves.get("own", ()) if point.share == 0 and point.excess is not None), None)
    if own is None or own.excess is None:
        return ""
    lead = own.excess
    if side(lead) == 0:
        return (
            "Over the whole text another expert is not shown to be closer or further than the clone "
            f"({figure(lead, signed=True)} {points} points)."
        )
    which = "closer to the expert" if lead.value > 0 else "further from the expert"
    return f"Over the whole text another expert is {away(lead)} {points} points {which} than the clone."


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    curves = [_curve(card, system) for system in ("tuned", "B0") if card.survival.get(system)]
    if curves:
        yield (
            "survival",
            charts.curves(
                curves,
                key="survival",
                title="Still on the expert's path",
                percent=True,
                description="Share of held-out completions whose first tokens the policy would have written exactly "
                "as the expert did, by number of tokens; bands are 95 % intervals.",
                x_axis="tokens into the expert's completion",
                y_axis="share of completions",
            ),
        )
    if card.prefix.get("tuned"):
        yield "prefix", _prefix(card, metric_name("chrf"))


def _curve(card: Scorecard, system: str) -> Line:
    points = card.survival[system]
    half = next((p.token for p in points if p.share <= 0.5), None)
    at_half = next((p.share for p in points if p.token == half), 0.0)
    mark = (half, at_half, f"half have left: token {half}") if half is not None and system == "tuned" else None
    return Line(
        system_name(system, card.names),
        [(0, 1.0), *((p.token, p.share) for p in points)],
        KINDS[system],
        band=[(0, 1.0, 1.0), *((p.token, p.low, p.high) for p in points)],
        mark=mark,
        steps=True,
    )


def _band(points: Sequence[tuple[float, Estimate]]) -> list[tuple[float, float, float]]:
    return [(x, e.low, e.high) for x, e in points if e.low is not None and e.high is not None]


def _prefix(card: Scorecard, name: str) -> str:
    def line(points: Sequence[PrefixPoint], label: str, kind: str) -> Line:
        scores = [(p.share, p.score) for p in points]
        return Line(label, [(x, e.value) for x, e in scores], kind, band=_band(scores), beads=True)

    lines = [
        line(card.prefix[system], label, kind)
        for system, label, kind in (
            ("tuned", "clone, after the expert's beginning", "tuned"),
            ("own", "clone, after its own", "held"),
            ("E", "another expert", "expert"),
        )
        if card.prefix.get(system)
    ]
    said = "; ".join(
        f"{line.label}: " + ", ".join(f"{y:.1f} at {100 * x:.0f} %" for x, y in line.points) for line in lines
    )
    return charts.curves(
        lines,
        key="prefix",
        title="How closely it goes on once part of the expert's text is given",
        description=f"{name} of the rest of the completion, by the share given. {said}.",
        x_axis="share of the text before it",
        y_axis=f"{name} of the rest (points)",
        parts_of=[point.share for point in card.prefix["tuned"]],
    )
