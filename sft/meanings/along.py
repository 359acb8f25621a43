"""Along the path: leaving it, being put back on it, being sure of oneself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sft.meanings.figures import away, hundredfold, rate, side
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
    """What it is worth to the clone to be put on the expert's path: at the share of the text nearest to half."""
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
            f"({figures}): that is what its own first steps cost it."
        )
    if side(at.regained) < 0:
        return (
            f"{given} {away(at.regained)} {points} points further from the expert than after its own beginning "
            f"({figures}): it does not know how to take up the expert's thread."
        )
    return (
        f"{given} no clearly closer than after its own beginning ({figure(at.regained, signed=True)} {points} points; "
        f"{figures}): its own first steps are not shown to cost it anything."
    )


def excess(curves: Mapping[str, Sequence[PrefixPoint]], accumulated: Estimate | None, points: str) -> str:
    """Whether the clone drifts away from the expert along its own path more than another expert does."""
    own = [point for point in curves.get("own", ()) if point.excess is not None]
    if len(own) < 2 or accumulated is None:
        return (
            "Whether its errors add up cannot be told: no second expert answered these prompts, so nobody knows how "
            "far two experts drift apart."
        )
    first, last = own[0].excess, own[-1].excess
    assert first is not None and last is not None
    start = (
        f"Over the whole text another expert is {_ahead(first, points)} the clone, over the last "
        f"{rate(1 - own[-1].share)} {_ahead(last, points)} it"
    )
    if side(accumulated) > 0:
        return f"{start}: the clone loses {away(accumulated)} points along its own path, so its errors add up."
    if side(accumulated) < 0:
        return f"{start}: the clone makes up {away(accumulated)} points along its own path, so no errors add up."
    lost = figure(accumulated, signed=True)
    return (
        f"{start}: the clone is not shown to lose along its own path ({lost} points), so no errors are seen to add up."
    )


def _ahead(lead: Estimate, points: str) -> str:
    return f"{away(lead)} {points} points {'ahead of' if lead.value >= 0 else 'behind'}"


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
