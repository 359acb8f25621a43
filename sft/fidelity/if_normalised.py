"""What setting something aside in every text would change, where it would change the verdict.

A clone that writes the expert's words in small letters, in a fence or behind a block of thinking is far from the
expert by the letter, and whoever does not care for that has one key to set (``fidelity.normalise``). So the verdict is
looked at again for every step that moves the clone's leads, and for all of those together. What moves them by less
than :data:`MATERIAL` of an interval's half width on a sample of the prompts is left: it could turn a verdict only where
chance decides already, and to score all texts again costs seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from sft.demonstrations.demonstration import HeldOut
from sft.fidelity.conventions import gain_shown
from sft.fidelity.observations import Observations
from sft.fidelity.score_table import ScoreTable, score_rows
from sft.fidelity.scorecard import RUNGS, IfNormalised, Scorecard
from sft.metrics.estimate import Estimate
from sft.metrics.normalise import NORMALISERS
from sft.runs.records import Completion

__all__ = ["if_normalised"]

#: Prompts on which a step is tried first, and the share of a half width that it has to move something by.
TRIED, MATERIAL = 100, 0.25

Written = Mapping[str, Mapping[str, Completion]]


def if_normalised(
    observed: Observations, card: Scorecard, table: ScoreTable, again: Callable[[tuple[str, ...]], Scorecard]
) -> IfNormalised | None:
    """The fewest steps with which the verdict of ``card`` would be another; None where it would not.

    ``table``: the scores that ``card`` rests on; ``again``: the scorecard with further steps, as far as scores go.
    """
    held = ("tuned", *(gain.floor for gain in card.gains))
    if not all(observed.completions.get(system) for system in held):
        return None  # scores are known and texts are not
    written = {system: observed.completions[system] for system in held}
    steps = [step for step in NORMALISERS if step not in observed.normalise]
    moving = [step for step in steps if _moves(step, observed, card, table, written)]
    for chosen in [*((step,) for step in moving), *([tuple(moving)] if len(moving) > 1 else [])]:
        other = again(chosen)
        if _outcome(other) != _outcome(card):
            share = None if other.closure is None else other.closure.share
            return IfNormalised(chosen, other.verdict.rung, other.gain, share)
    return None


def _outcome(card: Scorecard) -> tuple[object, ...]:
    """What is decided: the rung, or where there is none, whether the clone leads and how near another expert it is."""
    rung = card.verdict.rung
    if rung in RUNGS:
        return (rung,)
    return rung, all(map(gain_shown, card.gains)), None if card.closure is None else card.closure.finding


def _moves(step: str, observed: Observations, card: Scorecard, table: ScoreTable, written: Written) -> bool:
    """Whether ``step`` alters a text, and the clone's score otherwise than what it is held against."""
    items, plain = observed.held_out, observed.scoring.plain
    texts = (text for item in items for text in item.references)
    texts = (plain(text) for group in (texts, _texts(items, written)) for text in group)
    if all(NORMALISERS[step](text) == text for text in texts):
        return False
    chosen = items if len(items) <= TRIED else random.Random(observed.seed).sample(list(items), TRIED)
    scoring = observed.scoring.lean((step,), card.bar)
    after = ScoreTable(chosen, score_rows(chosen, written, scoring), scoring)
    moved = {system: _moved(table.scores(system), after.scores(system)) for system in (*written, "E")}
    pairs = [(moved["tuned"] - moved[gain.floor], gain.estimate) for gain in card.gains]
    if card.closure is not None:
        pairs.append((moved["tuned"] - moved["E"], card.closure.surplus))
    if card.bar:
        pairs.append((moved["tuned"], card.scores_of("tuned")[card.headline]))
    return any(abs(by) > MATERIAL * _half_width(found) for by, found in pairs)


def _texts(items: Sequence[HeldOut], written: Written) -> Sequence[str]:
    return [by_id[item.id].text for by_id in written.values() for item in items if item.id in by_id]


def _moved(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """By how many points the mean moves, on the prompts that both have."""
    both = after.keys() & before.keys()
    return sum(after[key] - before[key] for key in both) / len(both) if both else 0.0


def _half_width(found: Estimate) -> float:
    return 0.0 if found.low is None or found.high is None else (found.high - found.low) / 2
