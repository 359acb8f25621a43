"""The one thing to do next: the most fundamental failure first, then what would close the most of the distance."""

from __future__ import annotations

from sft.fidelity.conventions import (
    CLONED_AUC,
    CLONED_LENGTH,
    CLONED_PROMPTS,
    CLONED_STOP,
    below_bar,
    direction,
    gain_shown,
    missing_floors,
    no_spread,
    percent,
    prompts_needed,
    rests_on_few,
    span,
    two_digits,
)
from sft.fidelity.findings import Giveaway, Stratum
from sft.fidelity.guardrails import LENGTH, prompts_to_settle
from sft.fidelity.scorecard import FAILS, NO_BASE, PASSES, RUNGS, Gain, Guardrail, Scorecard
from sft.metrics.estimate import Estimate

__all__ = ["next_step"]

_LONGER = "train longer: the validation loss was still falling when the steps ended (training.num_train_epochs)"
_GUARDRAIL_STEPS = {
    "not stopping": "check with `sft preview` that the stop token is supervised, and that no completion "
    "is cut by max_length; then train again",
    "empty": "look at the empty completions in the report: a stop token at the very start of training "
    "completions, or a template that differs between training and generation, can make a clone mute",
    "unscored": "run `sft evaluate` again to write the missing completions; a judgement over the rest "
    "would choose its own prompts",
    "contamination": "fix the data: take training prompts that nearly repeat a held-out one away "
    "(split.near_duplicates: remove) and train again; a clone cannot be judged on what it may have read",
    "verbatim copies": "stop earlier, or gather more demonstrations: the clone repeats its training completions, "
    "word for word or nearly, more often than the expert does",
    "forgetting": "mix general rows in (demonstrations.replay: {path: FILE, share: 0.2}), or train at a lower learning "
    "rate or for fewer steps: plain text surprises the clone more than the base model, beyond the limit",
}
_FLOOR_STEPS = {
    "B0": "check that the training loss falls (log.jsonl); then train longer or at a higher learning rate",
    "B3": "on these prompts the base model did as well with three demonstrations: train for more epochs "
    "or at a higher learning rate, or gather more demonstrations",
    "R": "on these prompts looking the answer up did as well: train for more epochs, and see in the report whether the "
    "held-out prompts resemble training prompts closely",
    "RK": "on these prompts the most typical answer to similar prompts did as well: train for more epochs, and see in "
    "the report whether the clone takes up what sets a prompt apart from those like it",
    "K": "on these prompts one constant completion did as well: look at the worst completions in the report, train "
    "longer, and check with `sft preview` that the prompt is in what the model sees",
    "L": "on these prompts any training completion of the usual length did as well: look at the worst completions in "
    "the report, and train longer; a score of long texts says little beyond their length until the clone says what the "
    "expert says",
    "P": "on these prompts copying the prompt did as well: see in the report whether the clone does just that; train "
    "longer, or measure what the expert changes with exact_match as a bar",
}
_OTHER_FLOOR = (
    "on these prompts the completions from elsewhere ({floor}) did as well: read them beside the clone's, and train "
    "for more epochs, or gather more demonstrations of what they do not know"
)
#: What is mended before anything else, and in this order.
_ORDER = ("unscored", "contamination", "empty", "not stopping", "verbatim copies", "forgetting")
#: Share of flagged training completions from which the prompts, not their number, are the first thing to mend.
MANY_GAPS = 0.25
#: A habit that fewer of the expert's texts than this have is nothing that a greedy clone of the expert would do.
SELDOM = 0.25
#: A fault of format is a habit: it has this share more of the clone's texts than of the expert's, and nothing sets the
#: two further apart.
HABITUAL = 0.5
#: Times as many prompts as were measured: whoever has 23 can find 230, and not 12,000.
_WITHIN_REACH = 10
#: How the steps begin that say what is behind the distance by themselves.
_MENDED = ("mend the length, ", "mend the format, ")


def next_step(rung: str, card: Scorecard, curve: str = "") -> str:
    """What to do next, as one sentence without its full stop. ``curve``: how the validation loss ended (``judge``)."""
    if card.imitation_gain is None:
        return _of_completions(rung, card)
    red = {rail.name: rail for rail in card.guardrails if rail.state == "red" and rail.caps}
    harmed = "" if rung in RUNGS[3:] or red.keys() & {"unscored", "contamination"} else _undo(card)
    if harmed:
        return harmed
    for name in (*_ORDER, *(set(red) - set(_ORDER))):
        if name in red:
            return _mend(red[name], curve) + _pointing(card)
    if rung in RUNGS[:2]:
        return _show_a_gain(card, curve) + _pointing(card)
    if rung in RUNGS[3:]:
        return "hand it on, with `sft push` or `sft export`"
    step = _close_the_distance(card, curve)
    return step if step.startswith(_MENDED) else step + _pointing(card)


def _undo(card: Scorecard) -> str:
    """Where the further fit has taken the clone away from the expert: to begin it again, gentler; "" elsewhere."""
    found = card.from_start
    if found is None or direction(found.difference, found.p_value) >= 0:
        return ""
    further = span(found.difference, sign=-1.0)
    return (
        "go on from the clone before once more, at a lower learning rate or for fewer epochs, or keep that one: this "
        f"further fit has taken it {further} points away from the expert"
    )


def _measure_the_base(card: Scorecard) -> str:
    if not card.signature.get("base"):
        return (
            "for a verdict, name the base model too: with `sft evaluate --base NAME`, or by rows of B0 with nats and "
            "bytes"
        )
    if card.profile == "fast":
        return (
            "for a verdict, measure the base model too, which the fast profile leaves out: with `sft evaluate --full`"
        )
    return "for a verdict, put B0 among `fidelity.systems`, and start a run in another folder"


def _of_completions(rung: str, card: Scorecard) -> str:
    """Without likelihoods: what passes a bar is done with, what does not is to be read, and all else to be judged."""
    if rung == PASSES:
        return "hand it on: the bar is cleared; what it does not ask for stands in the report" + _pointing(card)
    if rung == FAILS:
        short = {name: card.bar[name] for name in below_bar(card)}
        held = {name: card.decides(name, card.scores_of("tuned")[name]) for name in short}
        wide = [prompts_to_settle(held[n], bar, share=False) for n, bar in short.items() if held[n].value > bar]
        needed = max((number or 0 for number in wide), default=0)
        reach = _WITHIN_REACH * max((estimate.n for estimate in held.values()), default=0)
        if len(wide) == len(short) and None not in wide and needed <= reach:
            enough = two_digits(needed)
            return f"score more prompts: about {enough} would put the lower bound at your bar, if the value stays"
        return "read the completions with the lowest scores in the report (--output)" + _pointing(card)
    if rung == NO_BASE:
        return _measure_the_base(card) + _pointing(card)
    return (
        "for a verdict, measure the policies themselves with `sft evaluate`, or give the rows of tuned and B0 the "
        "columns nats and bytes, where a server tells how likely it finds the expert's own words" + _pointing(card)
    )


def _mend(guardrail: Guardrail, curve: str) -> str:
    if guardrail.name == "not stopping" and curve == "falling":
        return f"{_LONGER}; a clone that has not finished learning may not know yet where to stop"
    return _GUARDRAIL_STEPS.get(guardrail.name, guardrail.meaning)


def _show_a_gain(card: Scorecard, curve: str) -> str:
    """Below "learned": a gain that is not shown, or not there."""
    best = card.gain
    value, seen, prompts = best.estimate.value, best.smallest_visible, card.scores_of("tuned")[card.headline].n
    if seen is None:
        return "hold out prompts of at least 20 different groups"
    if gain_shown(best) and missing_floors(card):
        return f"measure the shortcuts left out: {', '.join(missing_floors(card))}"
    if curve == "falling" and value < seen:
        return _LONGER
    if 0 < value < seen:
        needed = prompts_needed(prompts, seen, value)
        if needed <= _WITHIN_REACH * prompts:
            return (
                f"hold out more prompts: about {two_digits(needed)} of them are needed to see a gain of {value:.1f}, "
                f"there are {prompts}; more demonstrations may widen the gain itself"
            )
        return (
            f"{_floor_step(best.floor)} (a gain of {value:.1f} would take about {two_digits(needed)} held-out prompts "
            f"to be seen, there are {prompts}); `sft curve` tells whether more demonstrations would help"
        )
    if value <= 0:
        same = [gain.floor for gain in card.gains if gain.estimate.value == 0 and _alike(gain)]
        return _floor_step(same[0] if same else best.floor)
    return (
        "check that the loss on validation falls (log.jsonl): the completions are closer to the "
        "expert's, yet the expert's own words are not shown to be likelier than under the base model"
    )


def _floor_step(floor: str) -> str:
    return _FLOOR_STEPS.get(floor, _OTHER_FLOOR.format(floor=floor))


def _alike(gain: Gain) -> bool:
    """Whether the clone leads this floor by the same on every prompt."""
    return gain.smallest_visible is not None and no_spread(gain.smallest_visible)


def _close_the_distance(card: Scorecard, curve: str) -> str:
    """From "learned" upwards: more training, other data, or more of it, and where."""
    closure = card.closure
    few = closure is not None and rests_on_few(closure.expert)
    if few and curve != "falling" and not card.bar:
        assert closure is not None
        return (
            f"have a second expert answer more of the held-out prompts: {closure.expert.n} were answered by two, too "
            "few to say how far another expert is"
        )
    if few:
        closure = None
    if closure is not None and closure.finding == "cloned":
        return _look_like_one(card, curve)
    if closure is not None and closure.share.low is None:
        return (
            "settle on one expert: on these prompts experts are not shown to agree with each other better than a "
            "shortcut does, so there is no distance to measure a clone by; choose one (demonstrations.expert), or have "
            "them agree on a manner"
        )
    if curve == "falling":
        return _LONGER
    if mend := _mend_length(card) or _mend_format(card):
        return mend
    if closure is not None and closure.finding == "undecided" and (closure.share.high or 0) > 1:
        return (
            f"hold out more prompts that two experts answered: {closure.expert.n} cannot tell whether any distance to "
            "another expert is left"
        )
    gaps = card.gaps
    if gaps is not None and gaps.kinds and gaps.share.low is not None and gaps.share.low > MANY_GAPS:
        return (
            f"look at what is marked in the training completions because no prompt tells it, in {percent(gaps.share)} "
            "of them (see what the prompts tell of the completions): where the expert drew on something that the "
            "prompt does not say, put it there; the figures point to knowledge"
        )
    data = "; no figure points to length, format or knowledge, which leaves the data"
    where = _weakest(card)
    asked = f", for a start of the kind with the lowest score: {where.label} ({where.by})" if where is not None else ""
    stop = " rather than more steps: the validation loss rose towards the end" if curve == "rose" else ""
    if closure is not None:
        return (
            f"gather more demonstrations{stop}{asked}, and run again, until the distance to another expert closes{data}"
        )
    if card.bar:
        like = asked or " of the kind of the worst ten in the report, but not those, which are held out"
        return f"gather more demonstrations{stop}{like}{data}"
    return "have a second expert answer the held-out prompts, or set fidelity.bar to what you need"


def _pointing(card: Scorecard) -> str:
    """Which of length and format is behind the distance by the figures, to follow a step; "" where neither is."""
    length, habit = _wrong_length(card), _wrong_format(card)
    found = [f"length, {_of_length(length)}"] if length is not None else []
    found += [f"format, {_of_format(habit)}"] if habit is not None else []
    return f"; the figures point to {' and to '.join(found)}" if found else ""


def _mend_length(card: Scorecard) -> str:
    length = _wrong_length(card)
    if length is None:
        return ""
    how = (
        "see in the ledger and with `sft preview` whether training completions are cut (training.max_length) or are "
        "shorter than the held-out ones, and gather whole ones"
        if length.value < 1
        else "check with `sft preview` that the stop token is supervised at the end of each training completion"
    )
    return f"mend the length, which is behind the distance: {_of_length(length)}; {how}"


def _mend_format(card: Scorecard) -> str:
    habit = _wrong_format(card)
    if habit is None:
        return ""
    return (
        f"mend the format, which is behind the distance: {_of_format(habit)}; look with `sft preview` whether the "
        "training completions do, and make them as the expert's texts are"
    )


def _wrong_length(card: Scorecard) -> Estimate | None:
    """The length ratio, where it is shown to be beyond its limits."""
    red = (rail.value for rail in card.guardrails if rail.name == LENGTH and rail.state == "red")
    return next(red, None)


def _wrong_format(card: Scorecard) -> Giveaway | None:
    """The habit of format by which the clone's texts are told from the expert's, where none is stronger.

    Where only greedy completions are known, one that the expert hardly ever has: a perfect clone, too, does throughout
    what the expert does as a rule.
    """
    kind = "sampled" if "sampled" in card.impostor else "greedy"
    strongest = next(iter(card.giveaways.get(kind, ())), None)
    if strongest is None or strongest.kind != "format" or (strongest.difference.low or 0) <= HABITUAL:
        return None
    seldom = strongest.expert.high is not None and strongest.expert.high < SELDOM
    return strongest if kind == "sampled" or seldom else None


def _of_length(length: Estimate) -> str:
    return f"{span(length, 2)} characters for each of the expert's"


def _of_format(habit: Giveaway) -> str:
    return f"it {habit.habit} ({percent(habit.system)} of its texts, {percent(habit.expert)} of the expert's)"


def _look_like_one(card: Scorecard, curve: str) -> str:
    """As close as another expert, prompt by prompt: what keeps it from being called cloned all the same."""
    closure, sampled, control = card.closure, card.impostor.get("sampled"), card.impostor.get("experts")
    assert closure is not None
    if closure.expert.n < CLONED_PROMPTS:
        return f"hold out more prompts that two experts answered: there are {closure.expert.n} of {CLONED_PROMPTS}"
    if sampled is None or control is None:
        return "draw samples of the clone for the impostor test: `sft evaluate` with fidelity.samples of 1 or more"
    if sampled.low is not None and sampled.low > 0.5 and sampled.high is not None and sampled.high >= CLONED_AUC:
        if mend := _mend_length(card) or _mend_format(card):
            return mend
        more = "gather more demonstrations" if curve != "falling" else "train longer"
        return (
            f"look at what gives it away, then {more}: prompt by prompt it has gone most of the way to another expert, "
            "but a classifier tells its samples from the experts' (compare how both repeat, vary and stop, in the "
            "report)"
        )
    if control.low is not None and control.low > 0.5:
        return (
            "settle on one expert (demonstrations.expert): a classifier tells one expert from another, so whether it "
            "tells the clone from them proves nothing"
        )
    wrong = _off_limits(card)
    if wrong:
        return f"mend its {wrong}: see in the report how long its completions are beside the experts'"
    return (
        "hold out more prompts that two experts answered: nothing is shown to be wrong with the clone, but the "
        "intervals named above are too wide to show that it is cloned"
    )


def _off_limits(card: Scorecard) -> str:
    """Which of length and stops is shown to be outside its limit; "" where the intervals do not show either."""
    tuned = card.scores_of("tuned")
    stops, length = tuned.get("stop_rate"), tuned.get("length_ratio")
    low, high = CLONED_LENGTH
    found = []
    if length is not None and length.low is not None and length.high is not None:
        found += ["length"] if length.high < low or length.low > high else []
    if stops is not None and stops.high is not None and stops.high < CLONED_STOP:
        found.append("stops")
    return " and its ".join(found)


def _weakest(card: Scorecard) -> Stratum | None:
    """The part of the prompts whose score lies clearly below the whole's; the lowest of them.

    A start and no finding: a part that leaves more to choose scores lower with a perfect clone, too.
    """
    whole = card.scores_of("tuned")[card.headline].value
    low = [s for s in card.strata if s.score.high is not None and s.score.high < whole]
    return min(low, key=lambda stratum: stratum.score.value, default=None)
