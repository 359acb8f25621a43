"""Whether a classifier can tell the clone from the expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sft.fidelity.conventions import CLONED_AUC
from sft.fidelity.findings import Giveaway
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Mark
from sft.reports.names import IMPOSTORS
from sft.reports.sections.parts import (
    Grid,
    Part,
    Quotation,
    Row,
    absent,
    dot,
    hundredfold,
    listed,
    side,
)
from sft.reports.text import figure
from sft.runs.visible import prompt_named

__all__ = ["giveaways_sentence", "impostor_part", "impostor_sentence", "pictures"]


def impostor_part(card: Scorecard) -> Part:
    """A classifier between the clone and the expert."""
    heading = "The impostor test"
    if not card.impostor:
        return Part("impostor", heading, absent=absent(card, "impostor"))
    rows = tuple(
        Row(f"{label} against the expert\u2019s", (figure(card.impostor[kind], "ratio"),), kind == "sampled")
        for kind, (label, _) in IMPOSTORS.items()
        if kind in card.impostor
    )
    reading = (
        "A classifier of letter sequences learns to pick the impostor out of two texts for prompts it has not seen. "
        "At 0.50 it guesses; at 1.00 it is never wrong. Samples are the fair test, greedy completions are blander than "
        "any person. The row of another expert is the control: if that is not at 0.50, experts too can be told apart."
    )
    kind = next((kind for kind in ("sampled", "greedy") if kind in card.impostor), "")
    sentences = [impostor_sentence(card.impostor)]
    if kind in card.giveaways:
        sentences.append(giveaways_sentence(card.giveaways[kind]))
    grids = [Grid("Impostor test", (("Texts", ""), ("AUC", "")), rows), *_habits(card)]
    return Part(
        "impostor",
        heading,
        tuple(filter(None, sentences)),
        reading,
        tuple(grids),
        tuple(_samples(card.giveaways.get(kind, ()))),
        "What gives it away, marked with \u27e6 \u27e7",
    )


def giveaways_sentence(habits: Sequence[Giveaway]) -> str:
    """The strongest habits of a clone that was told apart, in words, each with how often it stands in whose texts."""
    if not habits:
        looked_for = "how texts begin and end, layout, length, common words"
        return f"No single habit that was looked for ({looked_for}) is shown to tell them apart."
    said = [
        f"it {one.habit} ({figure(one.system, 'share')} of its texts, {figure(one.expert, 'share')} of the expert's)"
        for one in habits[:3]
    ]
    return f"What gives it away most: {listed(said)}."


def _habits(card: Scorecard) -> Iterator[Grid]:
    """Every habit that tells texts from the expert's, of everybody who was told apart."""
    rows = tuple(
        Row(
            f"{IMPOSTORS[kind][0]}: {one.habit}",
            (
                figure(one.system, "share"),
                figure(one.expert, "share"),
                figure(hundredfold(one.difference), signed=True),
            ),
            kind == "sampled",
        )
        for kind in IMPOSTORS
        for one in card.giveaways.get(kind, ())
    )
    columns = (
        ("Texts and habit", ""),
        ("they", "share of their texts"),
        ("the expert", "share of the expert\u2019s"),
        ("difference", "percentage points, paired by prompt"),
    )
    if rows:
        yield Grid("What tells them apart", columns, rows, bare=True)


def _samples(habits: Sequence[Giveaway]) -> Iterator[Quotation]:
    for one in habits:
        for pair in one.examples:
            yield Quotation(
                f"{one.habit}: {prompt_named(pair.id, pair.prompt)}",
                (("the clone", pair.system, "tuned"), ("the expert", pair.expert, "expert")),
            )


def impostor_sentence(part: Mapping[str, Estimate]) -> str:
    """Whether a classifier tells the clone from the expert, and one expert from another."""
    kind = "sampled" if "sampled" in part else "greedy" if "greedy" in part else ""
    if not kind:
        return ""
    auc, control = part[kind], part.get("experts")
    texts = "samples" if kind == "sampled" else "completions"
    shown = figure(auc, "ratio")
    if side(auc, 0.5) <= 0:
        start = (
            f"A classifier is not shown to tell the clone's {texts} from the expert's better than by guessing ({shown})"
        )
        if auc.high is not None and auc.high >= CLONED_AUC:
            start += ", though it may do better than 0.60 on other prompts"
    elif auc.high is not None and auc.high < CLONED_AUC:
        start = f"A classifier hardly tells the clone's {texts} from the expert's: {shown}, below {CLONED_AUC:.2f}"
    else:
        start = f"A classifier tells the clone's {texts} from the expert's: AUC {shown}, where guessing gives 0.50"
    if kind == "greedy":
        start += "; where they are greedy they are blander than any person's, a perfect clone's too"
    if control is None:
        return f"{start}; whether it would tell two experts apart is not known."
    if side(control, 0.5) > 0:
        return f"{start}; but it tells one expert from another too ({figure(control, 'ratio')}), so it proves little."
    return f"{start}; it is not shown to tell one expert from another ({figure(control, 'ratio')})."


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    impostors = [
        dot(IMPOSTORS[kind][0], card.impostor[kind], IMPOSTORS[kind][1], style="ratio", strong=kind == "sampled")
        for kind in IMPOSTORS
        if kind in card.impostor
    ]
    if impostors:
        yield (
            "impostor",
            charts.dots(
                impostors,
                key="impostor",
                title="Can a classifier tell who wrote it?",
                axis="AUC: how often it picks the impostor out of two texts",
                include=(0.4, 1.0),
                marks=[
                    Mark(0.5, "0.50: guessing"),
                    Mark(CLONED_AUC, f"{CLONED_AUC:.2f}: a clone's interval must lie below"),
                ],
            ),
        )
