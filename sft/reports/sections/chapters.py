"""The body of a report: which part stands in which chapter, and which files draw pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from sft.fidelity.rounds import Rounds
from sft.fidelity.scorecard import Scorecard
from sft.fidelity.size_curve import SizeCurve
from sft.reports.names import training_told
from sft.reports.sections import (
    calibration,
    compounding,
    corpus,
    expert_path,
    experts,
    forgetting,
    from_start,
    impostors,
    knowledge_gaps,
    manner,
    memorisation,
    rounds,
    size_curve,
    strata,
    systems,
    thoughts,
    training,
    underachieving,
)
from sft.reports.sections.parts import Chapter, Part, claimed
from sft.runs.run import Run

__all__ = ["DRAWN", "Body", "body", "pictures"]


#: Sections about training, which are left out where nobody has said anything of it.
OF_TRAINING = ("conflicts", "gaps", "memorisation", "forgetting")


@dataclass(frozen=True, slots=True)
class Body:
    """``beside``: parts that belong to the first chapter, which compares all systems. ``chapters``: the rest.

    ``unplaced``: (section, sentence) of what is absent and has no place of its own.
    """

    beside: tuple[Part, ...]
    chapters: tuple[Chapter, ...]
    unplaced: tuple[tuple[str, str], ...]


def body(card: Scorecard, found: Rounds | None = None, sizes: SizeCurve | None = None) -> Body:
    """Everything that ``card`` holds beside its headline."""
    beside = (*from_start.from_start_part(card), strata.strata_part(card), corpus.corpus_part(card))
    chapters = (
        _others_chapter(card),
        _path_chapter(card),
        _manner_chapter(card),
        _limits_chapter(card),
        *((_costs_chapter(card),) if training_told(card) else ()),
        *((rounds.rounds_chapter(found),) if found is not None else ()),
        *((size_curve.size_chapter(sizes, card),) if sizes is not None else ()),
    )
    unplaced = claimed(chapters, beside, card)
    if not training_told(card):
        chapters = tuple(
            replace(one, parts=tuple(p for p in one.parts if p.key not in OF_TRAINING)) for one in chapters
        )
        unplaced = [pair for pair in unplaced if pair[0] not in OF_TRAINING]
    return Body(beside, chapters, tuple(unplaced))


def _others_chapter(card: Scorecard) -> Chapter:
    """Another expert as the measure."""
    return Chapter(
        "others",
        "Is it as close as another expert?",
        "Two experts do not write the same either. Where several answered the same prompts, how close they come to "
        "each other is what the clone is held to.",
        (experts.closure_part(card), experts.experts_part(card), experts.conflicts_part(card)),
    )


def _path_chapter(card: Scorecard) -> Chapter:
    """How long does it stay on the expert's path, and what does it write from there?"""
    return Chapter(
        "path",
        "How long does it stay on the expert\u2019s path?",
        "A clone writes one token after another, each on top of its own earlier ones. Leaving the path that one expert "
        "took is no error by itself: another expert leaves it too. Whether errors add up shows in the clone\u2019s own "
        "text.",
        (
            expert_path.survival_part(card),
            expert_path.prefix_part(card),
            compounding.compounding_part(card),
            *thoughts.thoughts_part(card),
            calibration.calibration_part(card),
            calibration.own_words_part(card),
        ),
    )


def _manner_chapter(card: Scorecard) -> Chapter:
    """Can it be told from the expert?"""
    return Chapter(
        "manner",
        "Can it be told from the expert?",
        "Closeness is measured prompt by prompt. A manner shows over many: in what always is there, in how much "
        "varies, in how long the texts are.",
        (
            impostors.impostor_part(card),
            manner.manner_part(card),
            manner.lengths_part(card),
            manner.self_agreement_part(card),
        ),
    )


def _limits_chapter(card: Scorecard) -> Chapter:
    """The two named limits of behavioural cloning."""
    return Chapter(
        "limits",
        "Where does cloning reach its limits?",
        "Imitation has two known limits. Where the expert knew more than the model, a clone can learn to sound as if "
        "it knew too. Where the model knew more than the expert, it can learn to do worse.",
        (knowledge_gaps.gaps_part(card), underachieving.underachieving_part(card)),
    )


def _costs_chapter(card: Scorecard) -> Chapter:
    """What it repeats, and what it has forgotten."""
    return Chapter(
        "costs",
        "Does it repeat its training, and what of other text?",
        "A clone may come close by learning its demonstrations by heart, and it may pay for the manner with what the "
        "model could do before. Here is what of either shows.",
        (memorisation.memorisation_part(card), forgetting.forgetting_part(card)),
    )


#: Sections with pictures that a scorecard is enough for.
DRAWN = (
    systems,
    strata,
    experts,
    expert_path,
    compounding,
    calibration,
    impostors,
    manner,
    knowledge_gaps,
    underachieving,
    memorisation,
    forgetting,
)


def pictures(
    run: Run,
    card: Scorecard,
    log: Sequence[Mapping[str, Any]],
    known: Rounds | None = None,
    sizes: SizeCurve | None = None,
) -> dict[str, Markup]:
    """Name -> picture; a picture with nothing to show is left out."""
    found = [pair for section in DRAWN for pair in section.pictures(card)]
    found += [*training.losses_picture(log), *manner.lengths_picture(run, card)]
    found += [*rounds.pictures(known), *size_curve.pictures(sizes)]
    return {name: Markup(drawn) for name, drawn in found}
