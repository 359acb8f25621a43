"""Along the path: leaving it, being put back on it, being sure of oneself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sft.fidelity.scorecard import Calibration, PrefixPoint, SurvivalPoint
from sft.reports.meanings.figures import away, hundredfold, rate, side
from sft.reports.text import figure

__all__ = ["excess", "on_path", "own_words", "prefix", "survival"]


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


def excess(curves: Mapping[str, Sequence[PrefixPoint]], points: str) -> str:
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


def on_path(tuned: Calibration | None, base: Calibration | None) -> str:
    """Confidence against accuracy while the expert leads, where every token has one right answer."""
    if tuned is None:
        return ""
    beside = "" if base is None else f"; the base model, {_off(base)}"
    return f"On the expert's path the clone is {_off(tuned)}{beside}."


def own_words(own: Calibration | None) -> str:
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
