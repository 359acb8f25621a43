"""Parts that compare: with another expert, with each expert by name, parts of the prompts, the literature's figures."""

from __future__ import annotations

from sft.fidelity.scorecard import Scorecard
from sft.reports import meanings
from sft.reports.illustrations.compared import floor_score
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import DASH, Chapter, Grid, Part, Row, absent, by_system
from sft.reports.text import chance, figure

__all__ = ["corpus", "others", "strata"]


def others(card: Scorecard) -> Chapter:
    """Another expert as the measure."""
    return Chapter(
        "others",
        "Is it as close as another expert?",
        "Two experts do not write the same either. Where several answered the same prompts, how close they come to "
        "each other is what the clone is held to.",
        (_closure(card), _experts(card), _conflicts(card)),
    )


def _closure(card: Scorecard) -> Part:
    part, heading = card.closure, "The way to another expert"
    if part is None:
        return Part("closure", heading, absent=absent(card, "closure", "the held-out prompts have one expert each"))
    name = metric_name(card.headline)
    rows = (
        Row(f"best shortcut: {system_name(part.floor)}", (f"{floor_score(part):.1f}",)),
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
    return Part("closure", heading, (meanings.closure(part, name),), reading, (grid,))


def _experts(card: Scorecard) -> Part:
    name, heading = metric_name(card.headline), "Which expert is it closest to?"
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
    sentence = meanings.experts(card.experts, name)
    return Part("experts", heading, (sentence,) if sentence else (), reading, (Grid("Experts by name", columns, rows),))


def _conflicts(card: Scorecard) -> Part:
    part, heading = card.conflicts, "Were prompts answered in different ways?"
    if part is None:
        return Part("conflicts", heading, absent=absent(card, "conflicts", "the training demonstrations are not known"))
    return Part("conflicts", heading, (meanings.conflicts(part, metric_name(card.headline)),))


def strata(card: Scorecard) -> Part:
    """Parts of the held-out prompts."""
    name, heading = metric_name(card.headline), "Where is its score high, and where low?"
    if not card.strata:
        return Part("strata", heading, absent=absent(card, "strata"))
    rows = tuple(
        Row(
            f"{part.by}: {part.label}",
            (
                str(part.n),
                figure(part.score),
                figure(part.gain, signed=True) if part.gain else DASH,
                figure(part.saved, "bits", signed=True) if part.saved else DASH,
            ),
        )
        for part in card.strata
    )
    columns = (
        ("Prompts", ""),
        ("n", ""),
        (name, "points"),
        ("gain", f"over {system_name(card.gain.floor)}, points"),
        ("saved", "bits per byte against the better base model"),
    )
    reading = (
        "The held-out prompts cut into parts; each dot is the clone's score in one. The dashed line is its score over "
        "all. A bar wholly to the left of it is a part with lower scores; prompts that leave more to choose have them "
        "with a perfect clone, too."
    )
    sentence = meanings.strata(card.strata, name)
    grid = Grid("Parts of the held-out prompts", columns, rows)
    return Part("strata", heading, (sentence,) if sentence else (), reading, (grid,))


def corpus(card: Scorecard) -> Part:
    """BLEU and chrF++ over all completions."""
    heading = "The figures of the literature"
    if not card.corpus:
        return Part("corpus", heading, absent=absent(card, "corpus"))
    names = list(dict.fromkeys(name for scores in card.corpus.values() for name in scores))
    sentence = meanings.corpus(card.corpus)
    grid = by_system("BLEU and chrF++ over the whole corpus", card.corpus, names, bare=True)
    return Part("corpus", heading, (sentence,) if sentence else (), grids=(grid,))
