"""The chapters on manner and on limits: what gives the clone away, what it cannot know, what it lost and repeats."""

from __future__ import annotations

from sft.fidelity.scorecard import Scorecard
from sft.reports import meanings
from sft.reports.names import IMPOSTORS, metric_name, system_name
from sft.reports.sections.parts import DASH, Chapter, Grid, Part, Row, Sample, absent, by_system
from sft.reports.text import chance, figure

__all__ = ["costs", "limits", "manner"]


def manner(card: Scorecard) -> Chapter:
    """Can it be told from the expert?"""
    return Chapter(
        "manner",
        "Can it be told from the expert?",
        "Closeness is measured prompt by prompt. A manner shows over many: in what always is there, in how much "
        "varies, in how long the texts are.",
        (_impostor(card), _manner(card), _lengths(card), _self_agreement(card)),
    )


def _impostor(card: Scorecard) -> Part:
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
    sentence = meanings.impostor(card.impostor)
    grid = Grid("Impostor test", (("Texts", ""), ("AUC", "")), rows)
    return Part("impostor", heading, (sentence,) if sentence else (), reading, (grid,))


def _manner(card: Scorecard) -> Part:
    heading = "Habits"
    if not card.manner:
        return Part("manner", heading, absent=absent(card, "manner"))
    order = [s for s in ("expert", "tuned") if s in card.manner]
    found = {s: card.manner[s] for s in [*order, *(s for s in card.manner if s not in order)]}
    names = list(dict.fromkeys(name for scores in found.values() for name in scores))
    sentence = meanings.manner(card.manner)
    return Part(
        "manner",
        heading,
        (sentence,) if sentence else (),
        grids=(by_system("Habits", found, names, bare=True),),
    )


def _lengths(card: Scorecard) -> Part:
    ratio = next((s.scores.get("length_ratio") for s in card.systems if s.system == "tuned"), None)
    sentence = meanings.lengths(ratio)
    reading = (
        "How many words each writes, over the held-out prompts; the black line is the median. The more alike the "
        "shapes and medians, the more alike the lengths. Each row is scaled to its own tallest bar."
    )
    return Part("lengths", "Length", (sentence,) if sentence else (), reading)


def _self_agreement(card: Scorecard) -> Part:
    heading, name = "Does it say the same thing every time?", metric_name(card.headline)
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
    sentence = meanings.self_agreement(found, name)
    grid = Grid("Agreement", (("Answers", ""), (f"{name} points", "")), rows)
    return Part("self_agreement", heading, (sentence,) if sentence else (), reading, (grid,))


def limits(card: Scorecard) -> Chapter:
    """The two named limits of behavioural cloning."""
    return Chapter(
        "limits",
        "Where does cloning reach its limits?",
        "Imitation has two known limits. Where the expert knew more than the model, a clone can learn to sound as if "
        "it knew too. Where the model knew more than the expert, it can learn to do worse.",
        (_gaps(card), _underachieving(card)),
    )


def _gaps(card: Scorecard) -> Part:
    heading, part = "What the prompts tell of the completions", card.gaps
    if part is None:
        return Part("gaps", heading, absent=absent(card, "gaps"))
    samples = tuple(
        Sample(
            f"{gap.address}: reading the prompt gives {gap.bits:+.3f} bits per byte".replace("-", "\N{MINUS SIGN}"),
            (("prompt", gap.prompt, "other"), ("the expert", gap.completion, "expert")),
        )
        for gap in part.examples
    )
    reading = (
        "For each training completion looked at: does the base model find it likelier after its own prompt than after "
        "somebody else\u2019s? Where it does not, nothing in the prompt helped the model to the whole of it; single "
        "facts can be missing elsewhere, too."
    )
    note = f"Reading its prompt gives the base model {figure(part.bits, 'bits')} bits per byte of a completion on "
    return Part(
        "gaps",
        heading,
        (meanings.gaps(part),),
        reading if part.looked_at else "",
        samples=samples,
        samples_label="Where the prompt helps least: can you tell from it what the expert wrote?",
        notes=(note + "average.",) if part.flagged else (),
    )


def _underachieving(card: Scorecard) -> Part:
    heading, part = "Right answers, beside the base model\u2019s", card.underachieving
    if part is None:
        return Part("underachieving", heading, absent=absent(card, "underachieving"))
    rows = (
        *(Row(system_name(s), (figure(e, "share"),), s == "tuned") for s, e in part.right.items()),
        Row(f"the clone minus {system_name(part.base)}", (figure(part.difference, "share", signed=True),)),
        Row("lost: only that base model was right", (str(part.lost),)),
        Row("won: only the clone was right", (str(part.won),)),
    )
    samples = tuple(
        Sample(
            f"prompt {lost.id[:8]}",
            (
                ("prompt", lost.prompt, "other"),
                ("the expert", lost.expert, "expert"),
                (f"{system_name(part.base)}: right", lost.base, "base"),
                ("the clone: wrong", lost.tuned, "tuned"),
            ),
        )
        for lost in part.examples
    )
    reading = (
        "The share of completions that the checker finds right. A clone to the left of the base model is right less "
        "often on these prompts; the p in the table says how often chance alone would set them so far apart."
    )
    return Part(
        "underachieving",
        heading,
        (meanings.underachieving(part),),
        reading if part.right else "",
        (Grid("Right answers", (("System", ""), ("right", chance(part.p_value, sign=True))), rows),),
        samples,
        "Prompts that the base model had right and the clone has not",
        (f"Checked by {part.checker}",),
    )


def costs(card: Scorecard) -> Chapter:
    """What it repeats, and what it has forgotten."""
    return Chapter(
        "costs",
        "Does it repeat its training, and what of other text?",
        "A clone may come close by learning its demonstrations by heart, and it may pay for the manner with what the "
        "model could do before. Here is what of either shows.",
        (_memorisation(card), _forgetting(card)),
    )


def _memorisation(card: Scorecard) -> Part:
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
        Sample(
            f"{copied.words} words of prompt {copied.id[:8]}, also in training completion {copied.source[:8]}",
            (("the clone", copied.text, "tuned"),),
        )
        for copied in part.examples
    )
    reading = (
        "How many words in a row a completion shares with any training completion. An expert has turns of phrase too, "
        "so what counts is how far the clone goes beyond the experts\u2019 own held-out texts. Greedy completions say "
        "the commonest thing, so a perfect clone\u2019s share somewhat longer runs as well."
    )
    columns = (("Whose", ""), ("longest run", "words, mean"), ("copies", "in training word for word"))
    return Part(
        "memorisation",
        heading,
        (meanings.memorisation(part),),
        reading if part.longest else "",
        (Grid("Words shared with training", columns, tuple(rows)),),
        samples,
        "The longest runs",
    )


def _forgetting(card: Scorecard) -> Part:
    heading = "Plain text"
    if not card.forgetting:
        return Part("forgetting", heading, absent=absent(card, "forgetting"))
    rows = tuple(
        Row(
            part.text,
            (
                str(part.windows),
                figure(part.base, "bits"),
                figure(part.tuned, "bits"),
                figure(part.rise, "share", signed=True),
            ),
        )
        for part in card.forgetting
    )
    columns = (
        ("Text", ""),
        ("windows", ""),
        ("base model", "bits per byte"),
        ("the clone", "bits per byte"),
        ("rise", "the clone over the base model"),
    )
    reading = (
        "How much more surprised the clone is than the base model by text that has nothing to do with the expert. "
        "Right of the zero line it is more surprised; beyond the dashed line a guardrail turns red."
    )
    grid = Grid("Control texts", columns, rows)
    return Part("forgetting", heading, (meanings.forgetting(card.forgetting),), reading, (grid,))
