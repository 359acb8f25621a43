"""What the clone thinks before it answers, beside what the expert thought."""

from __future__ import annotations

from sft.fidelity.findings import Thoughts
from sft.fidelity.scorecard import Scorecard
from sft.reports.names import system_name
from sft.reports.sections.parts import DASH, Grid, Part, Row
from sft.reports.text import figure

__all__ = ["thoughts_part", "thoughts_sentences"]

#: Answers that are missing are named from this share on: one in a hundred, as for completions that are empty.
MISSING = 0.01


def thoughts_part(card: Scorecard) -> tuple[Part, ...]:
    """The thoughts of every system that has some; nothing where the expert's are not among what is learned."""
    part = card.thoughts
    if part is None:
        return ()
    rows = tuple(
        Row(
            system_name(system, card.names),
            (
                figure(part.thinks[system], "share"),
                figure(part.score[system]),
                figure(part.bits[system]) if system in part.bits else DASH,
            ),
            system == "tuned",
        )
        for system in part.thinks
    )
    reading = (
        "All other figures are of what follows the thought. Two good thoughts can have few words in common, so a score "
        "below 100 is no error by itself; bits per byte say how well the expert\u2019s own thought was foreseen."
    )
    columns = (("System", ""), ("thinks before", ""), ("chrF of thoughts", ""), ("bits per byte", ""))
    return (
        Part(
            "thoughts",
            "What does it think before it answers?",
            thoughts_sentences(part),
            reading,
            (Grid("Thoughts", columns, rows),),
            notes=(f"Length of its thoughts over the expert\u2019s: {figure(part.length)}.",),
        ),
    )


def thoughts_sentences(part: Thoughts) -> tuple[str, ...]:
    """How often the clone thinks, how near its thoughts are, and whether answers follow them."""
    thinks, score, missing = part.thinks["tuned"], part.score["tuned"], part.unanswered
    if thinks.high is not None and thinks.high < 1 - MISSING:
        first = f"It thinks before {figure(thinks, 'share')} of its answers, and the expert did before all of them"
    else:
        first = "It thinks before it answers, as the expert did"
    found = [f"{first}; its thoughts have chrF {figure(score)} against the expert\u2019s, on {part.n} prompts."]
    if missing.low is not None and missing.low > MISSING:
        found.append(f"No answer follows {figure(missing, 'share')} of the time: the text ends inside the thought.")
    return tuple(found)
