"""Habits, lengths, and whether it says the same thing every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft import metrics
from sft.fidelity.scorecard import Scorecard
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Bars
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import (
    KINDS,
    Grid,
    Part,
    Row,
    absent,
    apart,
    away,
    by_system,
    dot,
    side,
)
from sft.reports.text import figure
from sft.runs import sealed
from sft.runs.run import Run

__all__ = [
    "lengths_part",
    "lengths_picture",
    "lengths_sentence",
    "manner_part",
    "manner_sentence",
    "pictures",
    "self_agreement_part",
    "self_agreement_sentence",
]


def manner_part(card: Scorecard) -> Part:
    """Repetition, variety, spread of lengths."""
    heading = "Habits"
    if not card.manner:
        return Part("manner", heading, absent=absent(card, "manner"))
    order = [s for s in ("expert", "tuned") if s in card.manner]
    found = {s: card.manner[s] for s in [*order, *(s for s in card.manner if s not in order)]}
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    sentence = manner_sentence(card.manner)
    return Part(
        "manner",
        heading,
        (sentence,) if sentence else (),
        grids=(by_system("Habits", found, names, bare=True, systems=card.names),),
    )


#: Figure of manner -> (what more of it means, what less of it means).
_MANNERS = {
    "rep_4": ("they repeat themselves more", "they repeat themselves less"),
    "distinct_2": ("their word pairs are more varied", "their word pairs are less varied"),
    "distinct_outputs": ("fewer of them are one and the same", "more of them are one and the same"),
    "length_spread": ("their lengths vary more", "their lengths vary less"),
}


def manner_sentence(part: Mapping[str, Mapping[str, Estimate]]) -> str:
    """In which habits the clone's completions differ from the expert's, by intervals that do not overlap.

    The completions are greedy as a rule, and taking the likeliest word throughout makes texts more alike whoever
    is imitated: what differs is said of them, and not of how the clone writes.
    """
    tuned, expert = part.get("tuned", {}), part.get("expert", {})
    found, seen = [], 0
    for name, (more, less) in _MANNERS.items():
        one, other = tuned.get(name), expert.get(name)
        if one is None or (other is None and name != "length_spread"):
            continue
        seen += 1
        # The spread is the clone's over the expert's, so 1 is what it is held to.
        way = side(one, 1.0) if name == "length_spread" else apart(one, other)
        if way:
            style = "ratio" if name == "length_spread" else "share"
            against = "1" if name == "length_spread" else figure(other, style)
            found.append(f"{more if way > 0 else less} ({figure(one, style)} against {against})")
    if not seen:
        return ""
    if not found:
        return "In none of these habits are the clone's completions shown to differ from the expert's."
    return (
        f"The clone's completions differ from the expert's: {'; '.join(found)}. Where they are greedy, that can be "
        "the decoding: taking the likeliest word throughout makes the texts of a perfect clone more alike, too."
    )


def lengths_part(card: Scorecard) -> Part:
    """How long the texts are."""
    ratio = card.scores_of("tuned").get("length_ratio")
    sentence = lengths_sentence(ratio)
    reading = (
        "How many words each writes, over the held-out prompts; the black line is the median. The more alike the "
        "shapes and medians, the more alike the lengths. Each row is scaled to its own tallest bar."
    )
    return Part("lengths", "Length", (sentence,) if sentence else (), reading)


def lengths_sentence(ratio: Estimate | None) -> str:
    """Whether the clone's completions are as long as the expert's."""
    if ratio is None:
        return ""
    shown = f"{figure(ratio, 'ratio')} characters for each of the expert's"
    if side(ratio, 1.0) == 0:
        return f"It writes {shown}: no clear difference in length."
    return f"It writes {shown}: its texts are {'longer' if ratio.value > 1 else 'shorter'} than the expert's."


def lengths_picture(run: Run, card: Scorecard) -> Iterator[tuple[str, str]]:
    """How many words each writes, as far as the files of the run tell."""
    lengths = [("expert", _expert_lengths(run, card)), *((s, card.lengths.get(s, ())) for s in ("tuned", "B0"))]
    strips = [
        Bars("the expert" if s == "expert" else system_name(s, card.names), values, KINDS[s])
        for s, values in lengths
        if values
    ]
    if len(strips) > 1:
        yield (
            "lengths",
            charts.histograms(strips, key="lengths", title="Words per completion", axis="words per completion"),
        )


def _words(text: str) -> int:
    return len(metrics.words(text)) or len(text.split())


def _expert_lengths(run: Run, card: Scorecard) -> tuple[int, ...]:
    """Words of the experts' completions of the held-out prompts, as far as the run's files tell."""
    if card.lengths.get("expert"):
        return card.lengths["expert"]
    paths = (run.completions_path("tuned"), run.demonstrations_path)
    if not all(sealed.there(run, path) for path in paths):
        return ()
    ids = {row["id"] for row in sealed.rows(run, paths[0])}
    return tuple(_words(row["completion"]) for row in sealed.rows(run, paths[1]) if row.get("id") in ids)


def self_agreement_part(card: Scorecard) -> Part:
    """Two samples of the clone beside two experts."""
    heading, name = "Does it say the same thing every time?", metric_name("chrf")
    found = card.self_agreement
    if not found:
        return Part("self_agreement", heading, absent=absent(card, "self_agreement"))
    labels = {"tuned": "two samples of the clone", "experts": "two experts", "difference": "difference"}
    rows = tuple(
        Row(label, (figure(found[key], signed=key == "difference"),), key == "tuned")
        for key, label in labels.items()
        if key in found
    )
    reading = (
        "How much two answers to the same prompt share. Further right, two samples of the clone are more alike than "
        "two experts\u2019 answers; further left, less."
    )
    sentence = self_agreement_sentence(found, name)
    grid = Grid("Agreement", (("Answers", ""), (f"{name} points", "")), rows)
    return Part("self_agreement", heading, (sentence,) if sentence else (), reading, (grid,))


def self_agreement_sentence(part: Mapping[str, Estimate], points: str) -> str:
    """Whether the clone's samples are more alike than two experts' answers."""
    own, others, difference = part.get("tuned"), part.get("experts"), part.get("difference")
    if own is None:
        return ""
    start = f"Two samples of the clone for one prompt share {figure(own)} {points} points"
    if others is None or difference is None:
        return f"{start}; how much two experts share is not known."
    start += f", two experts' answers {figure(others)}"
    if side(difference) > 0:
        return f"{start}: its samples are more alike than experts' answers, by {away(difference)}."
    if side(difference) < 0:
        return f"{start}: its samples are less alike than experts' answers, by {away(difference)}."
    return f"{start}: no clear difference ({figure(difference, signed=True)})."


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    name = metric_name("chrf")
    found = card.self_agreement
    rows = [
        dot(label, found[key], kind)
        for key, label, kind in (
            ("tuned", "two samples of the clone", "tuned"),
            ("experts", "two experts", "expert"),
        )
        if key in found
    ]
    if rows:
        yield (
            "self_agreement",
            charts.dots(
                rows,
                key="self_agreement",
                title="How alike two answers to one prompt are",
                axis=f"{name} of one answer against the other (points)",
            ),
        )
