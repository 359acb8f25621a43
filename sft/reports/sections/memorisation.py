"""What it shares with its training, word for word."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.conventions import beyond_chance
from sft.fidelity.findings import Memorisation
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Dot
from sft.reports.sections.parts import (
    DASH,
    KINDS,
    Grid,
    Part,
    Quotation,
    Row,
    absent,
    away,
    dot,
    side,
)
from sft.reports.text import chance, figure
from sft.runs.visible import prompt_named

__all__ = ["memorisation_part", "memorisation_sentence", "pictures"]


def memorisation_part(card: Scorecard) -> Part:
    """Runs of words that stand in a training completion too."""
    heading, part = "Shared with training", card.memorisation
    if part is None:
        return Part("memorisation", heading, absent=absent(card, "memorisation"))
    labels = {"tuned": "the clone", "expert": "held-out experts"}
    rows = [
        Row(
            label,
            (figure(part.longest[key]) if key in part.longest else DASH, figure(part.copies.get(key), "share")),
            key == "tuned",
        )
        for key, label in labels.items()
    ]
    rows.append(Row("difference", (figure(part.excess, signed=True), chance(part.p_value, sign=True))))
    samples = tuple(
        Quotation(
            f"{copied.words} words of the answer to {prompt_named(copied.id, copied.prompt)}, also in the training "
            f"completion {copied.address or copied.source[:8]}",
            (("the clone", copied.text, "tuned"),),
        )
        for copied in part.examples
    )
    reading = (
        "How many words in a row a completion shares with any training completion. An expert has turns of phrase too, "
        "so what counts is how far the clone goes beyond the experts\u2019 own held-out texts. Greedy completions say "
        "the commonest thing, so a perfect clone\u2019s share somewhat longer runs as well."
    )
    copies = "training completions, or nearly" if part.verbatim else "in training word for word"
    columns = (("Whose", ""), ("longest run", "words, mean"), ("copies", copies))
    return Part(
        "memorisation",
        heading,
        (memorisation_sentence(part),),
        reading if part.longest else "",
        (Grid("Words shared with training", columns, tuple(rows)),),
        samples,
        "The longest runs",
    )


def memorisation_sentence(part: Memorisation) -> str:
    """Whether the clone's completions share longer runs, and more whole texts, with training than the experts' do."""
    own, theirs = (figure(part.longest[name]) if name in part.longest else "unknown" for name in ("tuned", "expert"))
    start = f"Its longest run of words shared with a training completion is {own} words, the held-out experts' {theirs}"
    tail = {
        1: f"its runs are longer than the experts', by {away(part.excess)} words",
        -1: f"its runs are shorter than the experts', by {away(part.excess)} words",
        0: f"no clear difference ({figure(part.excess, signed=True)})",
    }[side(part.excess)]
    copies = [figure(part.copies.get(name), "share") for name in ("tuned", "expert")]
    more = "more than the experts'" if beyond_chance(part.p_value) else "not shown to be more than the experts'"
    what = "stand in training word for word"
    if part.verbatim:
        what = f"are training completions or nearly so ({figure(part.verbatim['tuned'], 'share')} word for word)"
    return (
        f"{start}: {tail}. {copies[0]} of its completions {what}, {more} {copies[1]} "
        f"({chance(part.p_value, sign=True)})."
    )


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    repeated = card.memorisation
    if repeated is not None and repeated.longest:
        rows: list[Dot] = [
            dot(label, repeated.longest[key], KINDS[key], strong=key == "tuned")
            for key, label in (("tuned", "the clone"), ("expert", "held-out experts"))
            if key in repeated.longest
        ]
        yield (
            "memorisation",
            charts.dots(
                rows,
                key="memorisation",
                title="Longest run of words shared with a training completion",
                axis="words in a row, mean over the held-out prompts",
            ),
        )
