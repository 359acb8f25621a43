"""Whether errors add up along the clone's own text."""

from __future__ import annotations

from collections.abc import Iterator

from sft.fidelity.findings import Compounding
from sft.fidelity.scorecard import Scorecard
from sft.reports import charts
from sft.reports.charts import Line
from sft.reports.sections.parts import KINDS, Grid, Part, Row, absent, away, hundredfold, side
from sft.reports.text import figure

__all__ = ["FEW", "compounding_part", "compounding_sentence", "pictures"]

#: Prompts below which nothing is put into words.
FEW = 30
_THIRDS = ("first third", "middle third", "last third")


def compounding_part(card: Scorecard) -> Part:
    """The thirds of the clone's texts beside another expert's."""
    heading, part = "Do errors add up along its text?", card.compounding
    if part is None:
        return Part("compounding", heading, absent=absent(card, "compounding", "it is measured since this release"))
    if part.n < FEW:
        return Part("compounding", heading, (compounding_sentence(part),))
    rows = (
        Row("the clone", tuple(figure(each, "share") for each in part.tuned), True),
        Row("another expert", tuple(figure(each, "share") for each in part.expert)),
        Row("what the clone keeps of the expert\u2019s", tuple(figure(each, "share") for each in part.kept)),
    )
    reading = (
        "Of the words in each third of a text, how many an expert used for the same prompt, anywhere. Both are held to "
        "the same texts, and both may end more freely than they begin; where the clone falls faster than the expert, "
        "its errors add up. A text that ends early is no worse by this for being short."
    )
    columns = (("Words that an expert used too", ""), *((third, "") for third in _THIRDS))
    notes = [f"Texts of fewer than half the words of the shortest reference: {figure(part.short, 'share')}."]
    if part.passed_over:
        notes.append(f"Too short to be cut in three, and passed over: {part.passed_over} prompts.")
    return Part(
        "compounding",
        heading,
        (compounding_sentence(part),),
        reading,
        (Grid("Thirds", columns, rows),),
        notes=tuple(notes),
    )


def compounding_sentence(part: Compounding) -> str:
    """Whether the last third is further behind another expert's than the first."""
    if part.n < FEW:
        return f"Whether errors add up cannot be said from {part.n} prompts; {FEW} are needed."
    rise = hundredfold(part.rise)
    first, last = (figure(part.kept[place], "share") for place in (0, 2))
    beside = f"{first} of another expert's share of such words in its first third, {last} in its last"
    if side(rise) < 0:
        return (
            "Errors add up along its text: towards the end it loses words that an expert used faster than an expert's "
            f"own text does, by {away(rise)} percentage points ({beside})."
        )
    return (
        "No sign that errors add up: of the words that an expert used it keeps as many at the end as at the beginning, "
        f"or more ({beside}; difference {figure(rise, signed=True)} percentage points)."
        if side(rise) > 0
        else "No sign that errors add up: of the words that an expert used it is not shown to keep fewer at the end "
        f"than at the beginning ({beside}; difference {figure(rise, signed=True)} percentage points)."
    )


def pictures(card: Scorecard) -> Iterator[tuple[str, str]]:
    """Each picture that ``card`` has the figures for, by name."""
    part = card.compounding
    if part is None or part.n < FEW:
        return
    lines = []
    for label, shares, kind in (("another expert", part.expert, "expert"), ("the clone", part.tuned, "tuned")):
        known = [(place, each) for place, each in enumerate(shares, 1)]
        band = [(x, e.low, e.high) for x, e in known if e.low is not None and e.high is not None]
        lines.append(Line(label, [(x, e.value) for x, e in known], KINDS[kind], band=band, beads=True))
    said = "; ".join(f"{line.label}: " + ", ".join(f"{y:.0%}" for _, y in line.points) for line in lines)
    yield (
        "compounding",
        charts.curves(
            lines,
            key="compounding",
            title="Words that an expert used too, along the text",
            percent=True,
            description=f"Share of the words in each third of a text that stand in a reference. {said}.",
            x_axis="third of the text",
            y_axis="share of words",
        ),
    )
