"""What a report says of planted clones: the fault that was planted is found, and a perfect clone is accused of nothing.

Experts choose every word of a text from the same known probabilities. The perfect clone knows them: it writes as one
more expert does (sampled), or takes the likeliest word throughout (greedy), and is exactly as sure as it is right.
Every judgement below is tried on it at 30, 100 and 300 prompts, and on a clone with one fault. Of one world the whole
report is read; of the others the sentence in question, from its own probe.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest

from sft.demonstrations.demonstration import Demonstration, HeldOut, Message, held_out
from sft.fidelity import floors
from sft.fidelity.advice import next_step
from sft.fidelity.findings import KnowledgeGaps
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.probes import calibration, compounding, expert_path, experts, impostors, manner, memorisation
from sft.fidelity.score_table import score_rows
from sft.fidelity.scorecard import Scorecard, Verdict
from sft.metrics.estimate import Estimate
from sft.reports.names import RUNG_MEANINGS
from sft.reports.sections.calibration import itself_sentence, on_path_sentence, own_words_sentence
from sft.reports.sections.chapters import body
from sft.reports.sections.compounding import compounding_sentence
from sft.reports.sections.expert_path import excess_sentence
from sft.reports.sections.experts import closure_sentence, experts_sentence
from sft.reports.sections.impostors import impostor_sentence
from sft.reports.sections.manner import manner_sentence
from sft.reports.sections.memorisation import memorisation_sentence
from sft.runs.records import Completion, ControlWindow, Forced, OwnPath, PromptValue, TokenScores

SIZES = (30, 100, 300)
#: Worlds tried at each size; every one has another held-out set and other experts' words.
WORLDS = {30: 8, 100: 4, 300: 2}
#: Probabilities of the words that may stand in a place; the first is the likeliest.
CHANCES = (0.55, 0.2, 0.15, 0.1)
PLACES = [
    ["warm", "bright", "narrow", "plain"],
    ["house", "kitchen", "parlour", "cellar"],
    ["serves", "offers", "boils", "bakes"],
    ["generous", "modest", "honest", "sturdy"],
    ["plates", "bowls", "portions", "helpings"],
    ["with", "without", "beside", "under"],
    ["butter", "pepper", "thyme", "vinegar"],
    ["every", "almost each", "any", "one"],
    ["morning", "evening", "weekday", "holiday"],
    ["for", "to", "before", "among"],
    ["families", "sailors", "students", "strangers"],
    ["alone", "together", "gladly", "quietly"],
]
FOODS = ["herring", "barley", "noodle", "waffle", "lentil", "plum", "trout", "cheese", "curry", "dumpling"]
AT = ["harbour", "market", "mill", "station", "library", "castle", "school", "bridge", "theatre", "river"]

Writer = Callable[[str, random.Random], str]


def head(prompt: str) -> list[str]:
    food, place = prompt.split(" / ")[:2]
    return f"The {food} place by the {place} is a".split()


def expert(prompt: str, draw: random.Random) -> str:
    """What one of the experts writes, and what the perfect clone samples."""
    return " ".join([*head(prompt), *(draw.choices(words, CHANCES)[0] for words in PLACES)]) + "."


def greedy(prompt: str, draw: random.Random) -> str:
    """The perfect clone's likeliest text."""
    return " ".join([*head(prompt), *(words[0] for words in PLACES)]) + "."


def straying(prompt: str, draw: random.Random) -> str:
    """Wrong words the more often the further the text has come: planted errors that add up."""
    words = expert(prompt, draw).split()
    return " ".join(w if draw.random() > at / len(words) else f"zz{draw.randrange(99)}" for at, w in enumerate(words))


def unstopped(prompt: str, draw: random.Random) -> str:
    """Perfect but for the full stop."""
    return expert(prompt, draw).removesuffix(".")


def stuttering(prompt: str, draw: random.Random) -> str:
    """Perfect, and then the beginning over again."""
    text = expert(prompt, draw)
    return f"{text} {text} {text}"


def base(prompt: str, draw: random.Random) -> str:
    return "Sure! Here is some text about " + prompt.replace(" / ", ", ")


@cache
def world(n: int, seed: int) -> tuple[tuple[Demonstration, ...], tuple[HeldOut, ...]]:
    """150 training demonstrations, and ``n`` prompts that two experts answered."""
    draw = random.Random(seed)
    prompts = [f"{food} / {at} / {number}" for food in FOODS for at in AT for number in range(5)]
    made = [
        Demonstration((Message("user", prompt),), expert(prompt, draw), id=f"{place}")
        for place, prompt in enumerate(draw.sample(prompts, 150 + n))
    ]
    asked = [
        replace(
            item,
            references=(item.references[0], expert(item.prompt[0].content, draw)),
            experts=("Ann", "Bob"),
            cluster=item.id,
        )
        for item in held_out(made[150:])
    ]
    return tuple(made[:150]), tuple(asked)


def written(items: Sequence[HeldOut], writer: Writer, seed: int) -> dict[str, Completion]:
    draw = random.Random(seed)
    return {item.id: Completion(item.id, writer(item.prompt[0].content, draw), True) for item in items}


def forced_path(item: HeldOut, boast: float) -> TokenScores:
    """The first reference under the perfect clone, ``boast`` surer than it should be."""
    known = len(head(item.prompt[0].content))
    words = item.references[0].removesuffix(".").split(" ", known)[known]
    ranks, nats = [0] * known, [0.01] * known
    for options in PLACES:
        chosen = next(at for at, option in enumerate(options) if f"{words} ".startswith(f"{option} "))
        words = words[len(options[chosen]) :].lstrip()
        ranks.append(chosen)
        nats.append((0.6, 1.6, 1.9, 2.3)[chosen])
    sure = (1.0,) * known + (min(CHANCES[0] + boast, 1.0),) * len(PLACES) + (1.0,)
    size = len(item.references[0].encode())
    return TokenScores(item.id, (*nats, 0.01), (*ranks, 0), (0.5,) * len(sure), size, sure)


def own_path(item: HeldOut, text: str) -> OwnPath:
    """The clone's own words, right where either reference has them in the same place."""
    words = text.split()
    answers = [reference.split() for reference in item.references]
    hits = tuple(any(at < len(one) and one[at] == word for one in answers) for at, word in enumerate(words))
    known = len(head(item.prompt[0].content))
    sure = tuple(1.0 if at < known else CHANCES[0] for at in range(len(words)))
    return OwnPath(item.id, sure, hits, next((at for at, hit in enumerate(hits) if not hit), None))


def forced(item: HeldOut, writer: Writer, draw: random.Random) -> list[Forced]:
    """The clone after a part of the first reference: it goes on as it would have in that place."""
    found = []
    for share in (0.25, 0.5, 0.75):
        rest = expert_path.rest_of(item.references[0], share)
        text = writer(item.prompt[0].content, draw)
        given = item.references[0].removesuffix(rest)
        found.append(Forced(item.id, share, given, rest, expert_path.rest_of(text, share), True))
    return found


def prompt_value(demonstration: Demonstration) -> PromptValue:
    """The prompt tells a fifth of each character's two bits."""
    size = len(demonstration.completion)
    own, other = (1.1,) * size, (1.4,) * size
    return PromptValue(demonstration.id, sum(own), sum(other), 3, size, tuple(range(1, size + 1)), own, other)


def observed(n: int, seed: int, writer: Writer, boast: float = 0.0) -> Observations:
    """Everything that can be observed of a clone that writes as ``writer`` does."""
    train, asked = world(n, seed)
    tuned = written(asked, writer, seed + 1)
    draw = random.Random(seed + 2)
    scores = {item.id: forced_path(item, boast) for item in asked}
    worse = {key: replace(one, nats=tuple(3 + 2 * v for v in one.nats)) for key, one in scores.items()}
    window = [ControlWindow("a.txt", number, 200.0 + number, 256) for number in range(12)]
    return Observations(
        asked,
        {
            "tuned": tuned,
            "B0": written(asked, base, seed + 3),
            "B3": written(asked, lambda p, d: " ".join(w for w in expert(p, d).split() if d.random() < 0.5), seed + 4),
        },
        {"tuned": scores, "B0": worse, "B3": worse},
        train=train,
        samples=tuple(written(asked, writer, seed + k) for k in (5, 6)),
        forced={"tuned": [row for item in asked for row in forced(item, writer, draw)]},
        own_path={item.id: own_path(item, tuned[item.id].text) for item in asked},
        control={"base": window, "tuned": window},
        prompt_values=[prompt_value(d) for d in train],
        contaminated=frozenset(),
    )


@cache
def shortcuts(n: int, seed: int) -> Mapping[str, Mapping[str, Completion]]:
    return floors.floor_completions(*world(n, seed))


@cache
def card(n: int, seed: int, writer: Writer) -> Scorecard:
    seen = observed(n, seed, writer)
    return measure(replace(seen, completions={**seen.completions, **shortcuts(n, seed)}, seed=seed))


def sentences(found: Scorecard) -> str:
    """Everything that a report claims of the clone: sentences of the body, the verdict and the next step."""
    parts = [part for chapter in body(found).chapters for part in chapter.parts] + list(body(found).beside)
    verdict = found.verdict
    said = [sentence for part in parts for sentence in part.meanings]
    return " ".join([*said, verdict.sentence, verdict.shortfall, *verdict.reasons, verdict.next_step])


#: What no figure shows of any clone, and what was said of perfect ones.
NEVER = (
    *("confident incorrectness", "overconfident on its own path", "adds up", "makes up", "along its own path"),
    *("the expert knew", "make things up", "learned a blend", "is the clone of", "perfect clone would reach"),
    *("first steps cost", "take up the expert's thread", "weakest", "weak spot", "made it worse", "forgotten"),
    *("leans on", "command of other text", "every shortcut that needs", "never saw", "clone's manner differs"),
)


@pytest.mark.parametrize("writer", [expert, greedy, straying, unstopped, stuttering])
@pytest.mark.parametrize("n", [30, 100])
def test_nothing_is_said_that_no_figure_shows(writer: Writer, n: int) -> None:
    said = sentences(card(n, 0, writer))
    assert "Of the tokens that it writes by itself" in said, "there is something to read"
    assert [words for words in NEVER if words in said] == []


@pytest.mark.parametrize("n", SIZES)
def test_overconfidence_is_found_and_a_calibrated_clone_is_not_accused(n: int) -> None:
    """On its own path the same clone looks overconfident (another good answer counts as wrong): 8 of 8 were accused."""
    accused = found = apparent = 0
    for seed in range(8):
        _, asked = world(n, seed)
        clusters = {item.id: item.cluster for item in asked}

        def over(boast: float, asked: Sequence[HeldOut] = asked, clusters: Mapping[str, str] = clusters) -> str:
            scores = {item.id: forced_path(item, boast) for item in asked}
            return on_path_sentence(calibration.calibration(clusters, scores), None)

        accused += "overconfident" in over(0.0)
        found += "overconfident by" in over(0.15)
        single = [replace(item, references=item.references[:1]) for item in asked]
        draw = random.Random(seed)
        texts = {item.id: expert(item.prompt[0].content, draw) for item in asked}
        own = calibration.own(clusters, {item.id: own_path(item, texts[item.id]) for item in single})
        apparent += own.overconfidence.low is not None and own.overconfidence.low > 0
        assert not any(word in own_words_sentence(own) for word in ("confiden", "sure"))
    assert accused <= 1 and found == 8
    assert apparent == 8, "the trap is there: confidence minus hits is above 0 for a perfect clone"


@pytest.mark.parametrize("n", SIZES)
def test_errors_are_said_to_add_up_of_a_clone_whose_errors_do(n: int) -> None:
    """``test_probe_compounding`` has other faults, and more worlds of each."""

    def told(writer: Writer, seed: int) -> str:
        _, asked = world(n, seed)
        return compounding_sentence(compounding.compounding(asked, written(asked, writer, seed + 1)))

    assert "Errors add up along its text" in (sentences(card(n, 0, straying)) if n < 300 else told(straying, 0))
    for writer in (expert, greedy):
        said = [sentences(card(n, 0, writer)), *(told(writer, seed) for seed in range(1, WORLDS[n]))]
        assert sum("Errors add up" in each for each in said) <= 1, writer.__name__


@pytest.mark.parametrize("n", SIZES)
def test_a_clone_that_always_says_the_same_is_surer_than_the_experts_bear_out(n: int) -> None:
    """Its samples are one text, the likeliest; the perfect clone's are as varied as two experts are."""
    assert "it is surer than the experts bear out" in sentences(card(n, 0, greedy))
    said = [sentences(card(n, 0, expert))]
    for seed in range(1, WORLDS[n]):
        _, asked = world(n, seed)
        tuned, *samples = (written(asked, expert, seed + k) for k in (1, 5, 6))
        said.append(itself_sentence(calibration.own_words(asked, tuned, samples)))
    assert sum("not shown to be surer or less sure" not in each for each in said) <= 1


@pytest.mark.parametrize("n", SIZES)
def test_errors_that_rise_along_the_text_have_an_excess_that_proves_nothing(n: int) -> None:
    """Their excess over another expert can fall all the same, for it shrinks with what is left of a text; that was
    told as "makes up points, so no errors add up". Now the sentence is of the whole text, and finds them behind."""
    for seed in range(2):
        lost = observed(n, seed, straying)
        curves = expert_path.prefix(lost.held_out, lost.forced, lost.completions)
        assert "closer to the expert than the clone" in excess_sentence(curves, "chrF")
    accused = 0
    for seed in range(WORLDS[n]):
        same = observed(n, seed, expert)
        curves = expert_path.prefix(same.held_out, same.forced, same.completions)
        accused += "not shown to be closer" not in excess_sentence(curves, "chrF")
    assert accused <= 1


@pytest.mark.parametrize("n", [100, 300])
def test_the_impostor_test_finds_a_missing_full_stop_and_no_perfect_clone(n: int) -> None:
    _, asked = world(n, 0)
    told = impostors.impostors(asked, {"sampled": written(asked, unstopped, 5)}, seed=0)
    assert "A classifier tells the clone's samples" in impostor_sentence(told)
    assert "A classifier tells the clone's samples" not in sentences(card(n, 0, expert))


@pytest.mark.parametrize("n", SIZES)
def test_another_expert_is_reached_by_a_perfect_clone_and_not_by_one_that_strays(n: int) -> None:
    accused = 0
    for seed in range(WORLDS[n]):
        _, asked = world(n, seed)
        clusters = {item.id: item.cluster for item in asked}
        rows = score_rows(
            asked,
            {
                "tuned": written(asked, expert, seed + 1),
                "bad": written(asked, straying, seed + 1),
                "B0": written(asked, base, seed),
            },
        )
        scores: dict[str, dict[str, float]] = {}
        for row in rows:
            scores.setdefault(row["system"], {})[row["id"]] = row["chrf"]
        perfect, lost = (
            closure_sentence(experts.closure(scores[s], scores["B0"], scores["E"], clusters, floor_name="B0"), "chrF")
            for s in ("tuned", "bad")
        )
        accused += "are missing to the 80 %" in perfect
        assert "are missing to the 80 %" in lost
    assert accused == 0


@pytest.mark.parametrize("n", SIZES)
def test_habits_are_found_and_neither_samples_nor_greedy_texts_of_a_perfect_clone_are_its_manner(n: int) -> None:
    accused = 0
    for seed in range(WORLDS[n]):
        _, asked = world(n, seed)

        def told(writer: Writer, asked: Sequence[HeldOut] = asked, seed: int = seed) -> str:
            return manner_sentence(manner.manner(asked, {"tuned": written(asked, writer, seed + 1)}, seed=0))

        accused += "shown to differ" not in told(expert)
        assert "they repeat themselves more" in told(stuttering)
        assert "where they are greedy, that can be the decoding" in told(greedy).lower()
    assert accused <= 1


@pytest.mark.parametrize("n", SIZES)
def test_copies_are_found_and_a_perfect_clone_is_not_said_to_copy(n: int) -> None:
    longer = more = 0
    for seed in range(WORLDS[n] // 2):
        train, asked = world(n, seed)
        perfect = memorisation_sentence(memorisation.memorisation(asked, written(asked, expert, 7), train, seed=0))
        longer += "longer than the experts'" in perfect
        more += "not shown to be more than the experts'" not in perfect
        copied = {item.id: Completion(item.id, train[at % 150].completion, True) for at, item in enumerate(asked)}
        copier = memorisation_sentence(memorisation.memorisation(asked, copied, train, seed=0))
        assert "longer than the experts'" in copier and "word for word), more than the experts'" in copier
    assert longer <= 1 and more == 0


@pytest.mark.parametrize("n", [30, 100])
def test_the_lowest_part_of_a_perfect_clone_is_no_weakness(n: int) -> None:
    """Where experts have more to choose, a perfect clone scores lower: low it is, and weak it is not."""
    found = card(max(n, 100), 0, expert)
    (part,) = [part for part in body(found).beside if part.key == "strata"]
    assert (
        part.meanings
        and "Its score is lowest in" in part.meanings[0]
        and "for a perfect clone as well" in part.meanings[0]
    )


def test_a_plain_expert_is_near_to_everybody_and_that_makes_nobody_a_clone_of_hers() -> None:
    """Ann always takes the likeliest words, so the perfect clone of Bob, who varies, is closer to her than to him."""
    _, asked = world(100, 0)
    draw = random.Random(3)
    items = [
        replace(
            item,
            references=(expert(item.prompt[0].content, draw),),
            experts=("Bob",),
            others=(("Ann", greedy(item.prompt[0].content, draw)),),
        )
        for item in asked
    ]
    of_bob = experts_sentence(experts.named(items, written(items, expert, 5)), "chrF")
    assert of_bob.startswith("It is closer to Ann than to Bob, whom it was fitted to")
    swapped = [
        replace(i, references=(i.others[0][1],), experts=("Ann",), others=(("Bob", i.references[0]),)) for i in items
    ]
    anybody = experts_sentence(experts.named(swapped, written(items, expert, 5)), "chrF")
    assert "closer to Ann, whom it was fitted to" in anybody and "clone of" not in anybody


@pytest.mark.parametrize("n", [30, 100])
def test_completions_alone_say_nothing_against_a_clone_that_is_far_ahead(n: int) -> None:
    """`sft score` without a base model said "not shown to write more like the expert" beside a lead of 85.9 points."""
    _, asked = world(n, 0)
    completions = {"tuned": written(asked, greedy, 1), "P": floors.copied_prompt(asked)}
    verdict = measure(Observations(asked, completions, {})).verdict
    assert verdict.rung == "not judged: completions alone"
    said = f"{RUNG_MEANINGS[verdict.rung]} {verdict.sentence}"
    assert "points closer to the expert's than those of the best shortcut tried, P" in verdict.sentence
    assert "not shown to write" not in said and "no evidence" not in said
    assert measure(Observations(asked, {"tuned": completions["P"], "P": completions["P"]}, {})).verdict.sentence


def faulty(n: int, seed: int, fault: Callable[[str], str]) -> tuple[Scorecard, Verdict]:
    """A clone of one expert who has the manner, changes every fifth of the free words, and has one ``fault``."""
    seen = observed(n, seed, expert)
    asked = [replace(item, references=item.references[:1], experts=("Ann",)) for item in seen.held_out]

    def close(item: HeldOut, draw: random.Random) -> str:
        words = item.references[0].removesuffix(".").split()
        changed = [f"{draw.choice(FOODS)}s" if draw.random() < 0.2 else word for word in words[8:]]
        return fault(" ".join([*words[:8], *changed]) + ".")

    def round_of(number: int) -> dict[str, Completion]:
        draw = random.Random(f"{seed} {number}")
        return {item.id: Completion(item.id, close(item, draw), True) for item in asked}

    completions = {**seen.completions, **shortcuts(n, seed), "tuned": round_of(1)}
    changes = {"held_out": asked, "completions": completions, "samples": (round_of(2), round_of(3)), "forced": {}}
    card = measure(replace(seen, **changes, bar={"chrf": 99.0}))
    return card, card.verdict


def halved(text: str) -> str:
    words = text.removesuffix(".").split()
    return " ".join(words[: len(words) // 2 + 1]) + "."


CAUSES: dict[str, Callable[[str], str]] = {
    "it ends without a full stop (100 %": lambda text: text.removesuffix("."),
    "it begins with \u201cSure!\u201d (100 %": "Sure! {}".format,
    "it has a code fence (100 %": "```\n{}\n```".format,
    "it has two blanks in a row (100 %": lambda text: text.replace(" ", "  ", 2),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_next_step_names_the_format_where_that_is_behind_the_distance(cause: str) -> None:
    card, verdict = faulty(100, 0, CAUSES[cause])
    assert cause in verdict.next_step and "format, " in verdict.next_step
    assert card.giveaways["sampled"][0].kind == "format"
    assert "What gives it away most: it " in sentences(card)


@pytest.mark.parametrize("n", [30, 100])
def test_the_next_step_names_the_length_where_that_is_behind_the_distance(n: int) -> None:
    card, verdict = faulty(n, 0, halved)
    (rail,) = (rail for rail in card.guardrails if rail.name == "length")
    assert rail.state == "red" and "length, " in verdict.next_step
    assert "characters for each of the expert's" in verdict.next_step


@pytest.mark.parametrize("n", SIZES)
def test_the_next_step_names_knowledge_or_else_the_data(n: int) -> None:
    """And says neither length nor format of a clone that has neither fault."""
    found, knowing = faulty(n, 0, str)
    assert knowing.rung == "learned from the demonstrations"
    marked = KnowledgeGaps(
        100, 60, Estimate(0.6, 0.5, 0.7, 0.95, "Wilson", 100), found.gain.estimate, (), {"figure": 80}
    )
    assert next_step(knowing.rung, replace(found, gaps=marked)).endswith("; the figures point to knowledge")
    assert knowing.next_step.startswith("gather more demonstrations")
    assert knowing.next_step.endswith("; no figure points to length, format or knowledge, which leaves the data")


@pytest.mark.parametrize("writer", [expert, greedy])
@pytest.mark.parametrize("n", SIZES)
def test_a_perfect_clone_has_no_fault_of_length_or_format(n: int, writer: Writer) -> None:
    for seed in range(2 if n < 300 else 1):
        said = sentences(card(n, seed, writer))
        assert not any(
            words in said for words in ("mend the ", "point to length", "point to format", "Beyond its limits")
        )
        if writer is expert:
            assert not card(n, seed, writer).giveaways.get("sampled") and "gives it away most" not in said
