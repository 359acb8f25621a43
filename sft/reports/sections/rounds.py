"""The chapter "Rounds": the learning curve, acceptance, anchoring, who wrote, items to read, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sft.fidelity.conventions import LEVEL
from sft.fidelity.rounds import Anchoring, CurvePoint, RoundAsked, Rounds
from sft.metrics.estimate import Estimate
from sft.reports import charts
from sft.reports.charts import Line
from sft.reports.names import metric_name, system_name
from sft.reports.sections.parts import DASH, Chapter, Grid, Part, Quotation, Row, away, listed, side
from sft.reports.text import chance, figure
from sft.runs.visible import plain

__all__ = ["SEEDS", "advice", "curve_sentences", "pictures", "rounds_chapter", "to_text"]

#: Runs an arm from which on it may be said that correction helps, and not only that two clones differ.
SEEDS = 3
#: Acceptance from which on a flat curve says that enough was corrected.
ENOUGH = 0.7
#: chrF points of agreement below which experts differ too much for a clone to learn one manner.
DISPUTED = 30.0


def rounds_chapter(rounds: Rounds) -> Chapter:
    """Everything that is known of the rounds."""
    parts = (_curve_part, _minutes_part, _acceptance_part, _anchoring_part, _people_part, _next_part)
    return Chapter(
        "correction",
        "What did correcting bring?",
        "Experts saw what the clone wrote and corrected it, and the next clone learned from that. The held-out prompts "
        "are those of the first round throughout, and nobody was ever asked one of them.",
        tuple(part(rounds) for part in parts),
    )


# -- the curve -----------------------------------------------------------------------------------------------


def curve_sentences(rounds: Rounds) -> tuple[str, ...]:
    """What was shown, what not, what could have been, and how often the prompts were looked at."""
    last, name = _judged(rounds.points[-1]), metric_name(rounds.headline)
    assert last.gain is not None
    shown = side(last.gain) if last.adjusted is not None and last.adjusted <= LEVEL else 0
    seen = f"; one of {rounds.smallest:.1f} is seen four times in five" if rounds.smallest is not None else ""
    ahead = f"The clone of round {last.round} is {away(last.gain)} {name} points"
    says = {
        1: f"{ahead} closer to the expert than that of round 0.",
        -1: f"{ahead} further from the expert than that of round 0.",
        0: f"Round {last.round} is not told apart from round 0 ({figure(last.gain, signed=True)} {name} points{seen}).",
    }
    found = [says[shown], _helps_sentence(rounds)]
    if (forced := rounds.points[-1]).own_gain is not None:
        beside = figure(forced.gain, signed=True)
        found.insert(
            1,
            "That is on its own path: later turns of held-out dialogues with its own turns before them. With the "
            f"expert's turns before them (teacher-forced) it is {beside}.",
        )
    if rounds.helps_forced is not None:
        found.append(
            "The comparison with plain answers is on that path too; teacher-forced it is "
            f"{figure(rounds.helps_forced, signed=True)} points."
        )
    between = [p for p in rounds.points[1:-1] if p.adjusted is not None and p.adjusted <= LEVEL]
    if between:
        told = (f"round {p.round} {figure(p.gain, signed=True)} (p {chance(p.adjusted or 0.0)})" for p in between)
        found.append(f"Before it, corrected for looking at several: {', '.join(told)}.")
    for point in rounds.points:
        if point.gap is not None and side(point.gap) != 0:
            found.append(
                f"On fresh prompts the clone of round {point.round} scores {figure(point.gap, signed=True)} points "
                "against the held-out ones: those are worn out, or the pool is another."
            )
    if rounds.looks > len(rounds.points):
        found.append(
            f"The held-out prompts were looked at {rounds.looks} times over all runs; if anything was chosen by those "
            "looks, these figures are too good to be true."
        )
    return tuple(found)


def _judged(point: CurvePoint) -> CurvePoint:
    """The point with the gain that it is judged by: in dialogues that on the clone's own path."""
    if point.own_gain is None:
        return point
    return replace(point, gain=point.own_gain, adjusted=point.own_p)


def _helps_sentence(rounds: Rounds) -> str:
    """Whether it was correction that helped: only a control can say so."""
    if rounds.helps is None:
        return (
            "This is the effect of more demonstrations, corrections among them. Whether correcting did better than as "
            "many plain answers is not known without that control (`sft correct RUN --train NEW --from DIR --plain`)."
        )
    arms = " and ".join(map(str, rounds.helps_seeds))
    apart, said = side(rounds.helps), figure(rounds.helps, signed=True)
    if min(rounds.helps_seeds) < SEEDS:
        differ = "differ" if apart else "are not told apart"
        return (
            f"This clone and the control's {differ} ({said} points); with {arms} runs that says nothing of correcting, "
            f"for runs differ by chance too: it takes `--seeds {SEEDS}` an arm."
        )
    if apart > 0:
        return f"Correction helps: {said} points against as many plain answers, over prompts and runs ({arms} runs)."
    if apart < 0:
        return f"Plain answers helped more than corrections: {said} points, over prompts and runs ({arms} runs)."
    return (
        f"Correcting is not shown to do better than as many plain answers ({said} points over prompts and runs, {arms} "
        "runs)."
    )


def _title(rounds: Rounds) -> str:
    return "more demonstrations" if rounds.helps is None else "correction"


def _curve_part(rounds: Rounds) -> Part:
    name = metric_name(rounds.headline)
    columns = (
        ("Round", ""),
        (name, "on the held-out prompts"),
        ("over round 0", "paired prompt by prompt"),
        ("p", ""),
        ("new answers", ""),
        ("active minutes", "of experts"),
        ("fresh prompts", "drawn at random, written blind, before anybody trained on them"),
        ("own path", "later turns of dialogues, its own turns before them"),
        ("runs", "that differ in the seed"),
    )
    rows = [_row(f"round {p.round}", p, p is rounds.points[-1]) for p in rounds.points]
    rows += [_row("plain answers instead", p, False) for p in rounds.plain]
    note = (
        "Prompts of dialogues hold earlier turns: the expert's in the held-out ones, the clone's where it was "
        "corrected. All columns but the own path are therefore teacher-forced."
    )
    return Part(
        "rounds",
        f"The curve: {_title(rounds)}",
        curve_sentences(rounds),
        "By new answers; the band is the 95 % interval of each point.",
        (Grid("Rounds", columns, tuple(rows), bare=True),),
        notes=(note,) if rounds.dialogues else (),
    )


def _minutes_part(rounds: Rounds) -> Part:
    last, said = rounds.points[-1], "No cost of a point can be told, for none was gained."
    if last.gain is not None and last.gain.value > 0:
        minutes, answers = last.minutes / last.gain.value, last.answers / last.gain.value
        said = f"What was gained cost {minutes:.1f} active minutes and {answers:.0f} answers a point."
    return Part("rounds-minutes", "What did it cost?", (said,), "The same by the experts' active minutes.")


def _row(label: str, p: CurvePoint, lit: bool) -> Row:
    cells = (
        figure(p.score),
        DASH if p.gain is None else figure(p.gain, signed=True),
        DASH if p.adjusted is None else chance(p.adjusted),
        str(p.answers),
        f"{p.minutes:.0f}",
        DASH if p.fresh is None else f"{figure(p.fresh)} (n {p.fresh.n})",
        DASH if p.own is None else figure(p.own),
        str(p.seeds),
    )
    return Row(label, cells, lit)


# -- acceptance, anchoring -----------------------------------------------------------------------------------


def _acceptance_part(rounds: Rounds) -> Part:
    columns = (
        ("Round", ""),
        ("accepted", "of drafted items drawn at random"),
        ("would have accepted", "of those who wrote blind"),
        ("difference", ""),
        ("HTER", "edits a word of the final text"),
        ("accepted, chosen", "items that were chosen to be hard"),
    )
    rows = []
    for one in rounds.asked:
        talked = DASH if one.talked is None else figure(one.talked, "share", signed=True)
        cells = (_share(one.acceptance), _share(one.judged), talked, _share(one.hter), _share(one.chosen))
        rows.append(Row(f"round {one.round}", cells))
    hard = "Chosen items are harder on purpose: their figures say nothing of the clone as a whole."
    return Part(
        "acceptance",
        "How much of it did the experts accept?",
        tuple(_accepted_sentence(one) for one in rounds.asked),
        grids=(Grid("Acceptance", columns, tuple(rows), bare=True),),
        notes=(hard,) if any(one.chosen is not None for one in rounds.asked) else (),
    )


def _share(estimate: Estimate | None) -> str:
    return DASH if estimate is None else figure(estimate, "share")


def _accepted_sentence(one: RoundAsked) -> str:
    if one.acceptance is None:
        return f"Round {one.round}: no drafted item drawn at random was answered, so acceptance is unknown."
    share, n = figure(one.acceptance, "share"), one.acceptance.n
    said = f"Round {one.round}: {share} of {n} texts of the clone were accepted"
    if one.talked is not None and side(one.talked) > 0:
        return (
            f"{said}, {figure(one.talked, 'share')} more than those say who wrote first and saw it afterwards: so much "
            "is what the draft itself talked the expert into."
        )
    return said + "."


def _anchoring_part(rounds: Rounds) -> Part:
    found = rounds.anchoring
    if found is None:
        return Part("anchoring", "Did the clone's words stand because they were there?",
                    absent="Not known: it takes items written blind beside drafted ones (--blind).")  # fmt: skip
    least = found.smallest
    seen = "" if least is None else f" So many items show a difference of {least:.1f} points four times in five."
    drawn = f"{found.drafted} drafted items against {found.blind} blind"
    about = f"{figure(found.difference, signed=True)} chrF points, {drawn}"
    if side(found.difference) <= 0 and _is_copied(found):
        said = (
            f"Some drafts stand letter by letter because they were there: {figure(found.same, 'share', signed=True)} "
            f"more of the final texts are the clone's where it was seen ({drawn}). It is not yet harm, for a text that "
            "is as good may stand; but such answers cannot measure the clone."
        )
    elif side(found.difference) > 0:
        said = (
            f"Experts who saw the clone's text ended nearer to it than those who wrote blind ({about}). It is not yet "
            "harm, for a text that is as good may stand; but such answers cannot measure the clone."
        )
    else:
        said = f"It is not shown that the clone's words stand because they were there ({about})."
    return Part("anchoring", "Did the clone's words stand because they were there?", (said + seen, *_by_expert(rounds)))


def _is_copied(found: Anchoring) -> bool:
    """Whether more final texts are the clone's, letter by letter, where it was seen."""
    return found.same is not None and side(found.same) > 0


def _by_expert(rounds: Rounds) -> tuple[str, ...]:
    """Experts whose own drafted answers are nearer to the clone's text, where several wrote."""
    if len(rounds.anchored) < 2:
        return ()
    level = len(rounds.anchored)
    found = [name for name, one in rounds.anchored.items() if side(one.difference) > 0 or _is_copied(one)]
    told = ", ".join(f"{plain(name)} {figure(one.difference, signed=True)}" for name, one in rounds.anchored.items())
    who = f"Let the clone's words stand: {listed([plain(name) for name in found])}. " if found else ""
    return (f"{who}By expert ({level} asked): {told}.",)


# -- people, and what next -----------------------------------------------------------------------------------


def _people_part(rounds: Rounds) -> Part:
    people = tuple(Row(plain(name), (str(n), f"{minutes:.0f}")) for name, (n, minutes) in rounds.experts.items())
    fates = tuple(
        Row(f"round {one.round}", (str(one.items), str(one.answers), *(str(one.fates.get(f, 0)) for f in _FATES),
            ", ".join(f"{n} {how}" for how, n in one.how.items())))
        for one in rounds.asked
    )  # fmt: skip
    columns = (("Round", ""), ("items", ""), ("answers", ""), *((fate, "") for fate in _FATES), ("how", ""))
    agreement = "not measured" if rounds.agreement is None else f"{figure(rounds.agreement)} chrF"
    samples = tuple(
        Quotation(
            f"{one.why}: {one.prompt}",
            (("the clone", one.clone, "tuned"), (plain(one.expert), one.text, "expert")),
        )
        for one in rounds.examples
    )
    return Part(
        "who-wrote",
        "Who wrote, and what became of it?",
        (f"Experts agree with each other, where two wrote blind: {agreement}. Versions of the guidelines: "
         f"{rounds.guidelines}.",),
        "",
        (Grid("Experts", (("Expert", ""), ("answers", ""), ("active minutes", "")), people, bare=True),
         Grid("Answers", columns, fates, bare=True)),
        samples,
        "Items to read",
    )  # fmt: skip


_FATES = ("trained", "not trained", "withdrawn")


def advice(rounds: Rounds) -> tuple[str, ...]:
    """What to do next, the most pressing first."""
    last, asked = _judged(rounds.points[-1]), rounds.asked[-1] if rounds.asked else None
    found = []
    if rounds.agreement is not None and rounds.agreement.high is not None and rounds.agreement.high < DISPUTED:
        found.append("Experts disagree with each other: agree on guidelines before the next round (owner's page).")
    if rounds.anchoring is not None and (side(rounds.anchoring.difference) > 0 or _is_copied(rounds.anchoring)):
        found.append("The drafts anchor the experts: raise --blind in the next round, or gather with `sft collect`.")
    if (
        rounds.helps is not None
        and min(rounds.helps_seeds) >= SEEDS
        and side(rounds.helps) <= 0
        and not rounds.dialogues
    ):
        found.append("As many plain answers do as well: gather plain demonstrations, which cannot anchor anybody.")
    rises = last.gain is not None and side(last.gain) > 0 and (last.adjusted or 0.0) <= LEVEL
    if rises:
        found.append(f"The curve rises: another round, of {max(100, last.answers)} items or more.")
    elif asked is not None and asked.acceptance is not None and (asked.acceptance.low or 0.0) > ENOUGH:
        found.append("The experts accept what it writes and the curve is flat: stop here.")
    else:
        found.append("Nothing is shown yet: more items a round would show a smaller gain.")
    return tuple(found)


def _next_part(rounds: Rounds) -> Part:
    return Part("rounds-next", "What next?", advice(rounds))


# -- pictures, and a terminal --------------------------------------------------------------------------------


def pictures(rounds: Rounds | None) -> Iterator[tuple[str, str]]:
    """The curve twice: by answers, and by the experts' minutes."""
    if rounds is None:
        return
    name = metric_name(rounds.headline)
    for key, axis, at in (
        ("rounds", "new answers", lambda p: float(p.answers)),
        ("rounds-minutes", "active minutes of experts", lambda p: p.minutes),
    ):
        lines = [_line("the clone", rounds.points, "tuned", at)]
        if rounds.plain:
            lines.append(_line("plain answers instead", (rounds.points[0], *rounds.plain), "base", at))
        fresh = [(at(p), p.fresh.value) for p in rounds.points if p.fresh is not None]
        if fresh:
            lines.append(Line("on fresh prompts", fresh, "expert", beads=True))
        ends = [edge(map(at, (*rounds.points, *rounds.plain))) for edge in (min, max)]
        lines += [_level(system, one, ends) for system, one in _beside(rounds)]
        said = "; ".join(f"{line.label}: " + ", ".join(f"{y:.1f}" for _, y in line.points) for line in lines)
        yield (
            key,
            charts.curves(
                lines,
                key=key,
                title=f"Closeness by {axis}: {_title(rounds)}",
                description=f"{name} by {axis}. {said}.",
                x_axis=axis,
                y_axis=f"{name}, points",
            ),
        )


def _beside(rounds: Rounds) -> list[tuple[str, Estimate]]:
    """What the clone is held against: the best shortcut, and another expert."""
    floors = {name: one for name, one in rounds.beside.items() if name != "E"}
    best = max(floors, key=lambda name: floors[name].value, default="")
    return [(name, rounds.beside[name]) for name in (best, "E") if name in rounds.beside]


def _level(system: str, one: Estimate, ends: list[float]) -> Line:
    low, high = (one.value if end is None else end for end in (one.low, one.high))
    said = system_name(system)
    label, kind = (said, "held") if system == "E" else (f"the best shortcut: {said}", "other")
    return Line(label, [(x, one.value) for x in ends], kind, band=[(x, low, high) for x in ends])


def _line(label: str, points: tuple[CurvePoint, ...], kind: str, at: object) -> Line:
    assert callable(at)
    band = [(at(p), p.score.low, p.score.high) for p in points if p.score.low is not None and p.score.high is not None]
    return Line(label, [(at(p), p.score.value) for p in points], kind, band=band, beads=True)


def to_text(rounds: Rounds) -> str:
    """The same for a terminal."""
    lines = [f"{metric_name(rounds.headline)} by round:"]
    for point in (*rounds.points, *rounds.plain):
        label = "plain  " if point in rounds.plain else f"round {point.round}"
        gain = "" if point.gain is None else f", {figure(point.gain, signed=True)} over round 0"
        cost = f", {point.answers} new answers, {point.minutes:.0f} active minutes" if point.answers else ""
        fresh = "" if point.fresh is None else f"; on fresh prompts {figure(point.fresh)}"
        lines.append(f"  {label}  {figure(point.score)}{gain}{cost}{fresh}")
    anchoring = _anchoring_part(rounds)
    parts = [*curve_sentences(rounds), *(_accepted_sentence(one) for one in rounds.asked),
             *(anchoring.meanings or (anchoring.absent,)), *(f"Next: {one}" for one in advice(rounds))]  # fmt: skip
    return "\n".join([*lines, "", *parts])
