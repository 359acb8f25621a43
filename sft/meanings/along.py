"""Along the path: leaving it, being put back on it, being sure of oneself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sft.meanings.figures import apart, away, hundredfold, rate, side
from sft.scorecards import Calibration, Estimate, PrefixPoint, SurvivalPoint
from sft.typography import figure

__all__ = ["excess", "off_path", "on_path", "own_path", "prefix", "survival"]


def survival(curves: Mapping[str, Sequence[SurvivalPoint]]) -> str:
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


def prefix(curves: Mapping[str, Sequence[PrefixPoint]], points: str) -> str:
    """Whether the clone goes on closer to the expert the more of the expert's text it is given."""
    tuned, expert = curves.get("tuned", ()), curves.get("E", ())
    if not tuned:
        return ""
    first, last = tuned[0], tuned[-1]
    if first is last:
        return f"Left to itself the clone scores {figure(first.score)} {points} points."
    given = f"with {rate(last.share)} of the expert's text given"
    figures = f"{figure(first.score)} {points} points left to itself, {figure(last.score)} {given}"
    start = {
        1: "The more of the expert's text it is given, the closer the clone goes on",
        -1: "The clone goes on less close the more of the expert's text it is given: what is left is harder to guess",
        0: "Giving it part of the expert's text does not clearly change how closely the clone goes on",
    }[apart(last.score, first.score)]
    beside = ""
    if expert:
        beside = f"; another expert, in the same places, {figure(expert[0].score)} and {figure(expert[-1].score)}"
    return f"{start}: {figures}{beside}."


def excess(curves: Mapping[str, Sequence[PrefixPoint]], accumulated: Estimate | None, points: str) -> str:
    """What the clone's own first steps cost it, beyond what another expert pays in the same places."""
    tuned = [point for point in curves.get("tuned", ()) if point.excess is not None]
    if not curves.get("tuned"):
        return ""
    if len(tuned) < 2 or accumulated is None:
        return (
            "Whether its errors add up cannot be told: no second expert answered these prompts, so nobody knows how "
            "much harder the start of a text is than its end."
        )
    first, last = tuned[0], tuned[-1]
    assert first.excess is not None and last.excess is not None
    start = (
        f"Another expert is {figure(first.excess, signed=True)} {points} points closer where both are left to "
        f"themselves, {figure(last.excess, signed=True)} with {rate(last.share)} of the text given"
    )
    if side(accumulated) > 0:
        return f"{start}: the clone's own first steps cost it {away(accumulated)} points, so its errors add up."
    if side(accumulated) < 0:
        return (
            f"{start}: put on the expert's path it falls back by {away(accumulated)} points more, so it is not its "
            "beginnings that cost it, but how it goes on."
        )
    return (
        f"{start}: it is not shown that its own first steps cost it anything "
        f"({figure(accumulated, signed=True)} points)."
    )


def on_path(tuned: Calibration | None, base: Calibration | None) -> str:
    """Confidence against accuracy while the expert leads."""
    if tuned is None:
        return ""
    beside = "" if base is None else f"; the base model, {_off(base)}"
    return f"On the expert's path the clone is {_off(tuned)}{beside}."


def own_path(own: Calibration | None) -> str:
    """Confidence against accuracy where the clone leads itself."""
    return "" if own is None else f"On its own path it is {_off(own)}."


def off_path(difference: Estimate | None) -> str:
    """Whether the clone grows surer than it should be once it has left the expert's path."""
    if difference is None:
        return ""
    more = hundredfold(difference)
    if side(more) > 0:
        return (
            f"Once it has left the expert's path it is overconfident by {away(more)} percentage points more than on "
            "it: confident incorrectness."
        )
    if side(more) < 0:
        return f"Once it has left the expert's path it is less overconfident than on it, by {away(more)} points."
    return (
        "It is not shown to be more overconfident once it has left the expert's path "
        f"({figure(more, signed=True)} percentage points)."
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
