"""What a careful reader has to know before believing the numbers: in the report, on the card and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sft.fidelity.conventions import LEVEL, metric_words, percent, rests_on_few
from sft.fidelity.scorecard import Gain, IfNormalised, Scorecard
from sft.reports.names import STEPS, system_name
from sft.reports.sections.parts import listed
from sft.reports.text import chance, figure

__all__ = ["warnings_of"]

#: Skewness from which, and number of prompts up to which, a reader is told that the interval of a lead errs more often.
SKEWED, FEW_SKEWED = 1.0, 100


def warnings_of(card: Scorecard, looks: int, start: Mapping[str, Any] | None = None) -> list[str]:
    """What a careful reader has to know before believing the numbers. ``start``: of the manifest."""
    found = [str(start["unknown"])] if start and start.get("unknown") else []
    if card.split != "test":
        found.append(
            f"Judged on the {card.split} split, not on the test split: whatever was chosen on it can flatter the clone."
        )
    looks = max(looks, card.looks)
    if looks > 1:
        found.append(
            f"The {card.split} split has been looked at {looks} times. If anything was chosen by those looks, a "
            "checkpoint or a setting, these intervals are too good to be true; judge the final choice on fresh prompts."
        )
    if card.clones > 1:
        level = f"{100 * (1 - LEVEL / card.clones):.4g} %"
        found.append(
            f"{card.clones} clones, this one among them, were judged on these prompts. The verdict allows for the luck "
            f"of the best of them: a lead, and every part of the top rung or of a bar, counts only at {level}. The "
            "intervals shown are of 95 %."
        )
    if aside := card.signature.get("normalise"):
        found.append(f"Before anything was scored, this was set aside in every text: {_in_words(aside)}.")
    if card.if_normalised is not None:
        found.append(_if_normalised(card, card.if_normalised))
    if card.profile == "fast":
        found.append(
            "Measured in the fast profile, which leaves things out; each is named in its place. Judge the clone by "
            "the standard profile."
        )
    if str(card.signature.get("stops", "")).startswith("not recorded"):
        found.append(
            "The file does not say which completions were cut at a length limit; all are taken for finished, so how "
            "often the clone stops by itself is not known."
        )
    if any("the others part" in words for words in card.signature.get("agreement", {}).values()):
        found.append(
            f"The texts were written by {card.signature.get('engine')}. "
            + "; ".join(f"{system}: {words}" for system, words in card.signature["agreement"].items())
            + "."
        )
    found += [_skewed(gain, card.names) for gain in card.gains if gain.floor == card.gain.floor and _is_skewed(gain)]
    if card.unscored:
        found.append(f"{card.unscored} of {card.n} held-out prompts could not be scored and are left out of the means.")
    return found


def _in_words(steps: Iterable[str]) -> str:
    return listed([STEPS.get(step, step) for step in steps])


def _if_normalised(card: Scorecard, other: IfNormalised) -> str:
    """What setting something aside would change, and how."""
    options = " ".join(f"--normalise {step}" for step in other.steps)
    another = other.rung != card.verdict.rung
    what = f"the verdict would be \u201c{other.rung}\u201d" if another else "it would be decided otherwise"
    start = f"With {_in_words(other.steps)} set aside in every text ({options}) {what}"
    points = metric_words(card.headline)
    said = (
        f"{start}: the clone's lead over the best shortcut, {system_name(other.gain.floor, card.names)}, would be "
        f"{figure(other.gain.estimate, signed=True)} {points} points; it is {figure(card.gain.estimate, signed=True)} "
        f"over {system_name(card.gain.floor, card.names)}"
    )
    if other.share is not None and card.closure is not None and not rests_on_few(card.closure.expert):
        said += f"; of the distance to another expert {percent(other.share)} would be closed, not "
        said += percent(card.closure.share)
    return f"{said}."


def _is_skewed(gain: Gain) -> bool:
    few = gain.estimate.n < FEW_SKEWED
    return few and gain.skewness is not None and abs(gain.skewness) > SKEWED and gain.skew_p is not None


def _skewed(gain: Gain, names: Mapping[str, str]) -> str:
    found = chance(gain.skew_p or 0.0, sign=True)
    return (
        f"The clone's lead over {system_name(gain.floor, names)} differs very unequally from prompt to prompt "
        f"(skewness {gain.skewness:.1f} over {gain.estimate.n} prompts), and such an interval misses more often than "
        f"it says. The lead counts only where a test that reckons with that agrees at 0.025; it gives {found}."
    )
