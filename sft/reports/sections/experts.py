"""Other experts as the measure: how much of the way is closed, whose clone it is, whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sft.demonstrations.conflicts import Conflicts
from sft.fidelity.conventions import above_zero, percent, rests_on_few
from sft.fidelity.findings import Closure, ExpertScore
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Entry, Place
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import (
    DASH,
    Grid,
    Part,
    Row,
    absent,
    apart,
    away,
    dot,
    listed,
    rate,
    side,
)
from sft.reports.text import chance, figure, grouped

__all__ = [
    "closure_part",
    "closure_sentence",
    "conflicts_part",
    "conflicts_sentence",
    "experts_part",
    "experts_sentence",
    "pictures",
]


#: Experts drawn at most; a table beside the picture holds them all.
EXPERTS = 16


def closure_part(card: Scorecard) -> Part:
    """How much of the way to another expert is closed."""
    part, heading = card.closure, "The way to another expert"
    if part is None:
        return Part("closure", heading, absent=absent(card, "closure", "the held-out prompts have one expert each"))
    name = metric_name(card.headline)
    rows = (
        Row(f"best shortcut: {system_name(part.floor, card.names)}", (f"{floor_score(part):.1f}",)),
        Row("the clone", (figure(part.tuned),), True),
        Row("another expert", (figure(part.expert),)),
        Row("share of the way closed", (figure(part.share, "share"),)),
        Row(
            f"beyond {100 * part.margin:.0f} % of the way ({chance(part.p_value, sign=True)})",
            (figure(part.surplus, signed=True),),
        ),
    )
    reading = (
        "The rail runs from what the best shortcut scores to what another expert scores on the same prompts; the "
        "filled part is what the clone has closed, the bar its 95 % interval. Left of the dashed line it is not "
        "cloned, right of it it is, and where the bar crosses the line more prompts have to decide."
    )
    grid = Grid("The way to another expert", (("", ""), (f"{name} points", "")), rows)
    return Part("closure", heading, (closure_sentence(part, name, card.names),), reading, (grid,))


def closure_sentence(part: Closure, points: str, names: Mapping[str, str] | None = None) -> str:
    """How much of the way to another expert is closed, and whether that is decided."""
    way = f"the way from the best shortcut ({system_name(part.floor, names)}) to another expert"
    goal = rate(part.margin)
    if rests_on_few(part.expert):
        few = f"Too few prompts ({part.expert.n}) were answered by two experts to say how much of {way}"
        return f"{few} the clone has gone; on these it is {figure(part.share, 'share')}."
    if part.share.low is None:
        start = f"How much of {way} the clone has gone cannot be bounded: the two score too much alike on these prompts"
        decided = {
            "cloned": f"; but it is shown to be past {goal} of it",
            "not cloned": f"; but it is shown not to have reached {goal} of it",
        }
        return start + decided.get(part.finding, f", nor is it decided whether {goal} is reached") + "."
    start = f"The clone has gone {percent(part.share)} of {way}: "
    if part.finding == "cloned":
        return start + f"it is shown to be past the {goal} that count as cloned."
    if part.finding == "not cloned":
        return start + f"{away(part.surplus)} {points} points are missing to the {goal} that count as cloned."
    passed = part.low is not None and part.surplus.low is not None and part.surplus.low > 0
    level = " at the level that all clones judged on them ask" if passed else ""
    return start + (
        f"whether it has reached the {goal} that count as cloned, these prompts cannot tell{level} "
        f"({figure(part.surplus, signed=True)} {points} points from there)."
    )


def experts_part(card: Scorecard) -> Part:
    """Experts by name."""
    name, heading = metric_name("chrf"), "Which expert is it closest to?"
    if not card.experts:
        return Part("experts", heading, absent=absent(card, "experts", "fewer than two experts are named"))
    rows = tuple(
        Row(
            f"{part.expert} (own)" if part.own else part.expert,
            (
                figure(part.score),
                figure(part.agreement) if part.agreement else DASH,
                figure(part.lead, signed=True) if part.lead else DASH,
                DASH if part.p_value is None else chance(part.p_value),
            ),
            part.own,
        )
        for part in card.experts
    )
    columns = (
        ("Expert", "own: the clone was fitted to this one"),
        ("the clone", f"{name} points against this expert"),
        ("other experts", "the same for them"),
        ("lead", "the clone's score against its own experts minus this, prompt by prompt"),
        ("p", "one-sided, adjusted for looking at several"),
    )
    reading = (
        "Each row is one expert; the dot is how close the clone comes to what that expert wrote, the ring how close "
        "the other experts come. Highlighted are those whom the clone was fitted to. Some experts are easier to come "
        "close to than others, for anybody: hold a dot to the ring of its own row before the dots of other rows."
    )
    sentence = experts_sentence(card.experts, name)
    return Part("experts", heading, (sentence,) if sentence else (), reading, (Grid("Experts by name", columns, rows),))


def experts_sentence(parts: Sequence[ExpertScore], points: str) -> str:
    """Which expert it is closest to: the own one against the nearest other, or the nearest and furthest of its own.

    That is no proof of whose clone it is: some experts are easier to come close to, for anybody.
    """
    own = [part for part in parts if part.own]
    rivals = [part for part in parts if not part.own and part.lead is not None]
    if not parts:
        return ""
    if not rivals:
        if len(own) < 2:
            return ""
        near, far = max(own, key=lambda p: p.score.value), min(own, key=lambda p: p.score.value)
        tail = "their intervals do not overlap" if apart(near.score, far.score) > 0 else "their intervals overlap"
        return (
            f"It learned from {len(own)} experts at once and is closest to {near.expert} ({figure(near.score)} "
            f"{points} points), furthest from {far.expert} ({figure(far.score)}); {tail}."
        )
    told = [
        part
        for part in rivals
        if part.lead is not None and part.p_value is not None and above_zero(part.lead, part.p_value)
    ]
    whose = listed([part.expert for part in own]) if 0 < len(own) <= 3 else "the experts whom it was fitted to"
    near = min(rivals, key=lambda part: part.lead.value if part.lead else 0.0)
    assert near.lead is not None
    lead = f"{away(near.lead)} {points} points"
    if side(near.lead) < 0:
        return f"It is closer to {near.expert} than to {whose}, whom it was fitted to, by {lead}."
    if len(told) == len(rivals) == 1:
        return f"It is closer to {whose}, whom it was fitted to, than to {near.expert}, by {lead}."
    if len(told) == len(rivals):
        return (
            f"It is closer to {whose}, whom it was fitted to, than to each of the {len(rivals)} others, by {lead} or "
            f"more (the nearest is {near.expert})."
        )
    return (
        f"It is closer to {whose}, whom it was fitted to, than to {len(told)} of {len(rivals)} other experts; from "
        f"{near.expert} it is not clearly told apart ({figure(near.lead, signed=True)} {points} points)."
    )


def conflicts_part(card: Scorecard) -> Part:
    """Training prompts that were answered in different ways."""
    part, heading = card.conflicts, "Were prompts answered in different ways?"
    if part is None:
        return Part("conflicts", heading, absent=absent(card, "conflicts", "the training demonstrations are not known"))
    return Part("conflicts", heading, (conflicts_sentence(part, metric_name("chrf")),))


def conflicts_sentence(part: Conflicts, points: str) -> str:
    """How often one prompt was answered in different ways, and what was done about it."""
    if not part.conflicting:
        return f"None of the {grouped(part.prompts)} training prompts was answered in two ways."
    share = 100 * part.conflicting / part.prompts if part.prompts else 0.0
    done = {
        "keep": "all of them were kept",
        "majority": "the answer that most agree with was kept",
    }.get(part.handled, f"those of {part.handled} were kept" if part.handled else "")
    alike = "" if part.agreement is None else f"; two such answers share {figure(part.agreement)} {points} points"
    return (
        f"{grouped(part.conflicting)} of {grouped(part.prompts)} training prompts ({share:.0f} %) were answered in "
        f"different ways{alike}{'; ' + done if done else ''}."
    )


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    way = card.closure
    if way is not None and not rests_on_few(way.expert) and way.expert.value > floor_score(way):
        yield "closure", _closure(way, metric_name(card.headline), card.names)
    if card.experts:
        yield "experts", _experts(card, metric_name("chrf"))


def floor_score(part: Closure) -> float:
    """Mean score of the best floor on the prompts of ``part``, which its surplus was made with."""
    # surplus = tuned - margin * expert - (1 - margin) * floor, solved for the floor: scorecards do not hold it.
    return (part.tuned.value - part.margin * part.expert.value - part.surplus.value) / (1 - part.margin)


def _closure(part: Closure, name: str, names: Mapping[str, str]) -> str:
    share = part.share
    shown = f"{percent(share)} of the way, {part.tuned.value:.1f} points".replace(" [", "\u00a0[").replace(
        " p", "\u00a0p"
    )
    return charts.track(
        Place("the clone", share.value, shown, "tuned", share.low, share.high),
        Place(f"best shortcut: {system_name(part.floor, names)}", 0.0, f"{floor_score(part):.1f} points", "other"),
        Place("another expert", 1.0, f"{part.expert.value:.1f} points", "expert"),
        Place(f"{100 * part.margin:.0f} % of the way counts as cloned", part.margin, "", "other"),
        key="closure",
        title="How much of the way from the best shortcut to another expert is closed",
        axis=f"share of the distance in {name}, with its 95 % interval",
    )


def _experts(card: Scorecard, name: str) -> str:
    rows = [
        dot(
            f"{part.expert}, whom it was fitted to" if part.own else part.expert,
            part.score,
            "tuned" if part.own else "other",
            strong=part.own,
            ghost=part.agreement.value if part.agreement else None,
        )
        for part in card.experts[:EXPERTS]
    ]
    entries = [Entry("the clone against this expert", "tuned", "dot")]
    if any(part.agreement for part in card.experts[:EXPERTS]):
        entries.append(Entry("other experts against this one", "expert", "ghost"))
    return charts.dots(
        rows,
        key="experts",
        title="How close the clone comes to each expert by name",
        axis=f"{name} against that expert's own completions (points)",
        entries=entries,
    )
