"""Planted clones get the verdict they deserve, and every number of a scorecard can be had again."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from known_scorecards import judged, planted
from twenty_prompts import (
    ASKED,
    BASE,
    FOODS,
    LIKELIER,
    MOODS,
    PERFECT,
    PLACES,
    SHORTCUT_ROWS,
    SHORTCUTS,
    Scored,
    measured,
    near_miss,
    scorecard_of,
    several,
    tokens,
    written,
)

from sft import metrics
from sft.demonstrations.demonstration import HeldOut
from sft.errors import UserError
from sft.fidelity import conventions, floors
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.score_table import score_rows
from sft.fidelity.scorecard import COMPLETIONS_ALONE, RUNGS, Guardrail, Scorecard
from sft.metrics import intervals
from sft.runs.records import Completion, TokenScores

NONE, IMITATES, LEARNED, MEETS, CLONED = RUNGS


NO_LIKELIER: Scored = {**BASE, "tuned": {item.id: tokens(item, 2.0, 6, 4) for item in ASKED}}


@pytest.mark.parametrize(
    "clone, scores, rung",
    [
        (PERFECT, LIKELIER, LEARNED),
        (written(near_miss), LIKELIER, LEARNED),
        (SHORTCUTS["P"], NO_LIKELIER, NONE),  # prompt copier
        (SHORTCUTS["R"], NO_LIKELIER, NONE),  # retriever
        (SHORTCUTS["K"], NO_LIKELIER, NONE),  # one constant completion
        (SHORTCUTS["B0"], LIKELIER, NONE),  # the base model itself
        (written(lambda item: ""), LIKELIER, NONE),  # mute
        (PERFECT, NO_LIKELIER, NONE),  # right words, yet none the likelier: something leaks
        (written(lambda item: item.references[0] + " And so on." * 60, finished=False), LIKELIER, NONE),
        (written(lambda item: item.references[0], finished=False), LIKELIER, IMITATES),  # never stops
    ],
    ids=["perfect", "near", "copier", "retriever", "constant", "base", "mute", "oracle", "rambler", "endless"],
)
def test_planted_clones(clone: dict[str, Completion], scores: Scored, rung: str) -> None:
    verdict = measured(clone, scores).verdict
    assert verdict.rung == rung, verdict
    assert verdict.reasons and verdict.next_step


@pytest.mark.parametrize("system", ["P", "K", "R"])
def test_a_shortcut_never_learns(system: str) -> None:
    """Even one that finds the expert likelier and has a mute base model to beat: it does not beat itself."""
    mute = {**SHORTCUTS, "B0": written(lambda item: ""), "B3": written(lambda item: "")}
    card = scorecard_of(ASKED, {"tuned": SHORTCUTS[system], **mute}, LIKELIER)
    assert card.verdict.rung == IMITATES
    assert card.gain.estimate.value <= 0
    assert {gain.floor: gain for gain in card.gains}[system].estimate.high == 0
    assert "not shown to come closer than every shortcut" in card.verdict.sentence
    assert scorecard_of(ASKED, {"tuned": SHORTCUTS[system], **mute}, NO_LIKELIER).verdict.rung == NONE


def test_a_tail_costs_what_it_should() -> None:
    """A truth followed by rambling keeps full recall; beta 1 takes half the points for it."""
    rambling = written(lambda item: item.references[0] + " " + "Also worth knowing, " * 12)
    scores = {s.system: s.scores for s in measured(rambling).systems}["tuned"]
    assert scores["chrf"].value < 55 < scores["chrf2"].value
    assert scores["length_ratio"].value > 3


def test_no_learning_at_all_is_no_evidence() -> None:
    """Type I error of the whole rule: a clone no better than the base, many times over."""
    generator = np.random.default_rng(5)
    asked = ASKED[:16]
    claimed = 0
    for repeat in range(30):
        rows = [
            {
                "id": item.id,
                "system": system,
                **dict.fromkeys(metrics.METRICS, float(generator.uniform(20, 60))),
                **{"characters": 30, "expert_characters": 30.0, "words": 6, "finished": True, "empty": False},
            }
            for system in ("tuned", *conventions.FLOORS)
            for item in asked
        ]
        scores = {
            system: {item.id: tokens(item, 2.0, 3, repeat * 10 + k) for item in asked}
            for k, system in enumerate(("tuned", "B0", "B3"))
        }
        claimed += scorecard_of(asked, {}, scores, rows=rows).verdict.rung != NONE
    assert claimed <= 1


def test_type_one_error_of_a_single_gain() -> None:
    generator = np.random.default_rng(6)
    labels = [g for g in range(15) for _ in range(2)]
    above = 0
    for seed in range(800):
        values = generator.normal(size=(15, 1)) + generator.normal(size=(15, 2))
        interval = intervals.clustered_t(values.ravel(), labels)
        p_value = intervals.sign_flip(values.ravel(), labels, seed=seed, draws=199)
        above += conventions.above_zero(interval, p_value)
    assert above / 800 <= 0.06


def test_the_sentence_can_be_read_by_a_newcomer() -> None:
    card = measured(written(near_miss))
    best = card.gain
    assert card.verdict.sentence == (
        f"On 80 held-out prompts the clone's completions are {conventions.span(best.estimate)} chrF points "
        "closer to the expert's than those of the best shortcut tried, R (completion of the nearest training prompt), "
        f"and {conventions.span(card.gains[0].estimate)} points closer than the untrained base model's."
    )
    assert best.estimate.low is not None and best.estimate.low > 0


def test_without_evidence_the_power_is_printed() -> None:
    copier = measured(SHORTCUTS["P"], NO_LIKELIER)
    assert "further from the expert's than" in copier.verdict.sentence
    assert copier.verdict.next_step.startswith("on these prompts copying the prompt did as well")
    assert f"could have seen is about {copier.gain.smallest_visible:.1f} points" in copier.verdict.sentence


def test_too_few_prompts_are_told_how_many_to_hold_out() -> None:
    """A clone that is right seven times in eight: a gain, and no way to see it."""
    few = ASKED[:8]
    tuned = {item.id: Completion(item.id, near_miss(item) if i else "Hm.", True) for i, item in enumerate(few)}
    even = dict.fromkeys(SHORTCUTS, SHORTCUTS["K"])
    card = scorecard_of(few, {"tuned": tuned, **even}, LIKELIER)
    seen, value = card.gain.smallest_visible, card.gain.estimate.value
    assert card.verdict.rung == NONE and seen is not None and 0 < value < seen
    needed = math.ceil(8 * (seen / value) ** 2)
    assert f"about {needed} of them" in card.verdict.next_step and "there are 8" in card.verdict.next_step


def test_a_bar_is_met_by_its_lower_bound_only() -> None:
    met = measured(PERFECT, bar={"chrf": 90, "exact_match": 0.95})
    assert met.verdict.rung == MEETS and "It meets your bar" in met.verdict.sentence
    assert met.bar == {"chrf": 90.0, "exact_match": 95.0}
    value = {s.system: s.scores for s in measured(written(near_miss)).systems}["tuned"]["chrf"]
    between = (value.low + value.value) / 2  # type: ignore[operator]
    missed = measured(written(near_miss), bar={"chrf": between})
    assert missed.verdict.rung == LEARNED
    assert any("does not clear your bar" in reason for reason in missed.verdict.reasons)
    # 80 of 80 do not prove 99 %: Wilson's lower bound is 95.4.
    assert measured(PERFECT, bar={"exact_match": 99}).verdict.rung == LEARNED


@pytest.mark.parametrize(
    "bar", [{"bleurt": 50}, {"chrf": 0}, {"chrf": 101}, {"exact_match": 0}, {"chrf": float("nan")}]
)
def test_an_impossible_bar_is_refused(bar: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"fidelity\.bar"):
        measured(PERFECT, bar=bar)


@pytest.mark.parametrize(("value", "write"), [(1, "write 100"), (0.6, "write 60")])
def test_a_bar_is_read_on_its_metrics_own_scale(value: float, write: str) -> None:
    """`fidelity.bar: {chrf: 1}` was judged as 100 points; now the sentence says what to write, and that is taken."""
    with pytest.raises(UserError, match=rf"chrf is {value}, not in points above 1 up to 100; {write}$"):
        conventions.bar_points({"chrf": value})
    assert conventions.bar_points({"chrf": float(write.split()[-1])}) == {"chrf": 100 * value}
    assert conventions.bar_points({"chrf": 1.5, "exact_match": 1, "exact_match_normalised": 0.95}) == {
        "chrf": 1.5,
        "exact_match": 100,
        "exact_match_normalised": 95,
    }


def test_sentences_know_every_metric() -> None:
    assert set(conventions.METRIC_WORDS) == {*metrics.METRICS, "json", "checker"}


def test_every_shortcut_has_to_be_beaten() -> None:
    """Leaving a shortcut out must not buy a better verdict."""
    asked = ASKED[:30]
    for floor in conventions.FLOORS:
        fewer = {system: found for system, found in SHORTCUTS.items() if system != floor}
        # Answers here are short, so L is demanded only where whoever measured says so.
        demanded = conventions.FLOORS if floor == "L" else ()
        verdict = scorecard_of(asked, {"tuned": PERFECT, **fewer}, LIKELIER, floors=demanded).verdict
        assert verdict.rung == (NONE if floor == "B0" else IMITATES)
        assert any(reason.startswith(f"not measured: {floor}") for reason in verdict.reasons)


def test_without_token_scores_there_is_no_verdict() -> None:
    card = scorecard_of(ASKED, {"tuned": PERFECT, **SHORTCUTS})
    assert card.verdict.rung == COMPLETIONS_ALONE and card.imitation_gain is None and card.imitation_floor == ""
    assert "was not measured" in card.verdict.reasons[-1]


def test_unscored_is_counted_never_zero() -> None:
    absent = {item.id for item in ASKED[:6]}
    tuned = {key: value for key, value in PERFECT.items() if key not in absent}
    card = measured(tuned)
    scores = {s.system: s for s in card.systems}["tuned"]
    assert scores.scores["chrf"].value == 100 and scores.scores["chrf"].n == 74
    assert scores.note == "6 of 80 prompts unscored"
    assert card.unscored == 6 and card.gain.estimate.n == 74
    assert card.verdict.rung == IMITATES
    assert {g.name for g in card.guardrails if g.state == "red"} == {"unscored"}
    assert "sft evaluate" in card.verdict.next_step
    # A shortcut that was spared the hard prompts makes the comparison just as incomplete.
    spared = {**SHORTCUTS, "B3": {k: v for k, v in SHORTCUTS["B3"].items() if k not in absent}}
    assert scorecard_of(ASKED, {"tuned": PERFECT, **spared}, LIKELIER).unscored == 6


def test_guardrails_turn_red_where_their_interval_lies_above_their_limit() -> None:
    for share, state in ((0.0, "green"), (0.04, "amber"), (0.06, "amber"), (0.15, "red")):
        count = round(share * len(ASKED))
        tuned = {item.id: replace(PERFECT[item.id], finished=i >= count) for i, item in enumerate(ASKED)}
        card = measured(tuned)
        guardrail = {g.name: g for g in card.guardrails}["not stopping"]
        assert guardrail.state == state and guardrail.value.value == pytest.approx(count / 80)
        assert card.verdict.rung == (IMITATES if state == "red" else LEARNED)
    empty = {item.id: Completion(item.id, "  ", True) for item in ASKED[:4]}
    card = measured({**PERFECT, **empty})
    assert {g.name for g in card.guardrails if g.state == "red"} == {"empty"}
    assert any(reason.startswith("empty: 5.0 % [") for reason in card.verdict.reasons)
    assert card.verdict.rung == IMITATES and "mute" in card.verdict.next_step


def test_a_guardrail_that_is_not_ours_caps_the_verdict_too() -> None:
    """As one of a later version may, or of somebody's own: its meaning says what to do."""
    value = intervals.wilson(3, 20)
    extra = Guardrail("swearing", value, 0.01, "red", "completions that the expert would not sign; clean the data")
    verdict = judged(planted(guardrails=(extra,)))
    assert verdict.rung == IMITATES and verdict.next_step == extra.meaning


def test_bits_per_byte_by_hand() -> None:
    asked = ASKED[:3]
    bytes_ = [len(item.references[0].encode()) for item in asked]
    one = {
        i.id: TokenScores(i.id, (1.0, 2.0, 0.5), (0, 3, 7), (0.1, 0.2, 0.3), b)
        for i, b in zip(asked, bytes_, strict=True)
    }
    two = {k: replace(v, nats=(2.0, 2.0, 1.0)) for k, v in one.items()}
    systems = {s: {i.id: PERFECT[i.id] for i in asked} for s in ("tuned", "B0")}
    card = scorecard_of(asked, systems, {"tuned": one, "B0": two})
    assert card.bits_per_byte["tuned"]["with_stop"].value == pytest.approx(3 * 3.5 / math.log(2) / sum(bytes_))
    assert card.bits_per_byte["tuned"]["without_stop"].value == pytest.approx(9 / math.log(2) / sum(bytes_))
    assert card.imitation_gain is not None and card.imitation_floor == "B0"
    assert card.imitation_gain.value == pytest.approx(3 * 1.5 / math.log(2) / sum(bytes_))
    action = card.action["tuned"]
    assert action["top1"].value == pytest.approx(1 / 3) and action["top5"].value == pytest.approx(2 / 3)
    assert action["entropy"].value == pytest.approx(0.2) and action["neglogp"].value == pytest.approx(3.5 / 3)
    expected = (math.exp(-1) + math.exp(-2) + math.exp(-0.5)) / 3
    assert action["prob_true_act"].value == pytest.approx(expected)


def test_the_better_base_is_the_one_to_save_bits_over() -> None:
    card = measured(PERFECT)
    assert card.imitation_floor == "B3"
    difference = card.bits_per_byte["B3"]["with_stop"].value - card.bits_per_byte["tuned"]["with_stop"].value
    assert card.imitation_gain is not None and card.imitation_gain.value == pytest.approx(difference)


def test_survival_is_the_share_still_on_the_experts_path() -> None:
    paths = [(0, 0, 0, 0), (0, 0, 4, 0), (2, 0, 0, 0), (0, 0)]
    asked = ASKED[:4]
    scores = {
        item.id: TokenScores(item.id, (0.1,) * len(p), p, (0.1,) * len(p), 9)
        for item, p in zip(asked, paths, strict=True)
    }
    systems = {s: {i.id: PERFECT[i.id] for i in asked} for s in ("tuned", "B0")}
    curve = scorecard_of(asked, systems, {"tuned": scores}).survival["tuned"]
    # The fourth ends after two tokens, on the path: from then on two are watched.
    assert [point.share for point in curve] == pytest.approx([0.75, 0.75, 0.375, 0.375])
    assert all(point.low <= point.share <= point.high for point in curve)


def test_several_references_are_averaged_and_experts_scored_leave_one_out() -> None:
    item = several(1)[0]
    first, second = item.references
    rows = score_rows([item], {"tuned": {item.id: Completion(item.id, first, True)}})
    by_system = {row["system"]: row for row in rows}
    assert by_system["tuned"]["chrf"] == pytest.approx((100 + metrics.chrf(first, second)) / 2)
    assert by_system["tuned"]["exact_match"] == 50
    both_ways = (metrics.chrf2(first, second) + metrics.chrf2(second, first)) / 2
    assert by_system["E"]["chrf2"] == pytest.approx(both_ways)


def answered_by(count: int, prompts: int) -> list[HeldOut]:
    """Prompts with ``count`` answers each, of words drawn from a small stock."""
    draw = random.Random(count)
    stock = PLACES + FOODS + MOODS
    return [
        replace(item, references=texts, experts=("",) * count)
        for item in ASKED[:prompts]
        for texts in [tuple(" ".join(draw.choices(stock, k=8)) for _ in range(count))]
    ]


def others_of_all(item: HeldOut) -> dict[str, float]:
    """E of one prompt with every expert against every other."""
    found = [[metrics.chrf(a, b) for b in item.references if b is not a] for a in item.references]
    whole = [score for one in found for score in one]
    return {"chrf": sum(whole) / len(whole), "chrf_max": sum(map(max, found)) / len(found)}


def test_few_experts_are_each_compared_with_all_others_and_of_many_some_are_drawn() -> None:
    """Every pair was compared: a hundred references to each of thirty prompts took two minutes."""
    few = answered_by(16, 4)
    for row, item in zip((row for row in score_rows(few, {}) if row["system"] == "E"), few, strict=True):
        assert {name: row[name] for name in ("chrf", "chrf_max")} == pytest.approx(others_of_all(item))
    many = answered_by(24, 20)
    rows = [row for row in score_rows(many, {}) if row["system"] == "E"]
    for name in ("chrf", "chrf_max"):  # neither figure leans to a side: 20 prompts of 16 draws are near all of 24
        apart = np.array([row[name] - others_of_all(item)[name] for row, item in zip(rows, many, strict=True)])
        assert 0 < np.abs(apart).max() < 10 and abs(apart.mean()) < 3 * apart.std() / math.sqrt(len(apart))
    turned = [replace(item, references=item.references[::-1]) for item in many]
    again = [row for row in score_rows(turned, {}) if row["system"] == "E"]
    assert [row["chrf"] for row in again] == pytest.approx([row["chrf"] for row in rows])


def test_a_draw_among_experts_is_told() -> None:
    asked = [*answered_by(17, 12), *ASKED[12:24]]
    systems = {
        "tuned": {item.id: Completion(item.id, item.references[0], True) for item in asked},
        "P": floors.copied_prompt(asked),
    }
    (row,) = (system for system in measure(Observations(asked, systems)).systems if system.system == "E")
    assert row.note.endswith(
        "on 12 prompts answered by several; 16 of them, drawn, on 12 prompts answered by more than 16"
    )


def test_the_time_of_scoring_grows_with_the_references_and_not_with_their_square() -> None:
    def seconds(count: int) -> float:
        items = answered_by(count, 1)
        begun = time.process_time()
        score_rows(items, {})
        return time.process_time() - begun

    seconds(20)
    assert seconds(160) < 9 * seconds(32)  # five times the references; all pairs would be 25 times


def test_expert_agreement_is_never_invented() -> None:
    assert "E" not in {s.system for s in measured(PERFECT).systems}
    for count, applied in ((10, True), (20, False)):
        card = scorecard_of(several(count), {"tuned": PERFECT, **SHORTCUTS}, LIKELIER, bar={"chrf": 50})
        row = {s.system: s for s in card.systems}["E"]
        assert row.scores["chrf"].n == count and f"{count} prompts" in row.note
        # A bar is for one expert per prompt; with several the distance to another expert takes its place.
        assert card.verdict.rung == (MEETS if applied else LEARNED)
        assert any("your bar was not applied" in r for r in card.verdict.reasons) is not applied


def test_one_cluster_gives_no_interval_and_no_claim() -> None:
    asked = [replace(item, cluster="one source") for item in ASKED]
    card = scorecard_of(asked, {"tuned": PERFECT, **SHORTCUTS}, LIKELIER)
    assert card.gain.estimate.low is None and "one cluster" in card.gain.estimate.method
    assert card.gain.smallest_visible is None
    assert card.verdict.rung == NONE and "fewer than five groups" in card.verdict.sentence
    assert "different groups" in card.verdict.next_step


def test_clusters_widen_intervals() -> None:
    asked = [replace(item, cluster=item.id.split("-")[0]) for item in ASKED]
    wide = scorecard_of(asked, {"tuned": PERFECT, **SHORTCUTS}, LIKELIER)
    assert wide.clusters == 8
    assert wide.gain.estimate.method == "clustered t, 8 clusters"
    assert wide.signature["clusters"] == 8


def test_a_handful_of_prompts_cannot_be_certain() -> None:
    """Four perfect answers out of four give a t interval of hardly any width; sign-flip p is 1/16."""
    few = ASKED[:4]
    card = scorecard_of(few, {"tuned": PERFECT, **dict.fromkeys(SHORTCUTS, SHORTCUTS["P"])}, LIKELIER)
    assert card.gain.estimate.low is not None and card.gain.estimate.low > 0
    assert card.gain.p_value == 1 / 16 and card.verdict.rung == NONE
    assert any("sign-flip" in reason for reason in card.verdict.reasons)


def test_rows_and_files_are_enough_to_measure_again() -> None:
    """scores.jsonl and scorecard.json, written and read: the same scorecard, number for number."""
    systems = {"tuned": written(near_miss), **SHORTCUTS}
    rows = score_rows(several(12), systems)
    read = [json.loads(json.dumps(row, ensure_ascii=False)) for row in rows]
    first = scorecard_of(several(12), systems, LIKELIER)
    assert scorecard_of(several(12), systems, LIKELIER, rows=read) == first
    assert Scorecard.from_dict(json.loads(json.dumps(first.to_dict(), allow_nan=False))) == first
    assert first.lengths["expert"] == tuple(len(i.references[0].split()) for i in several(12))
    assert {"id", "cluster", "system", *metrics.METRICS} <= set(rows[0])
    assert len(rows) == 7 * 30 + 12


def test_examples_show_the_ends_the_middle_and_where_it_left() -> None:
    tuned = {item.id: Completion(item.id, item.references[0][: i % 60 + 1], True) for i, item in enumerate(ASKED)}
    card = measured(tuned)
    kinds = [example.kind for example in card.examples]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "best": 5,
        "typical": 5,
        "worst": 10,
        "earliest divergence": 10,
        "": kinds.count(""),
    }
    scores = {example.kind: [] for example in card.examples}
    for example in card.examples:
        scores[example.kind].append(example.scores["tuned"])
    assert max(scores["worst"]) <= min(scores["typical"]) <= max(scores["typical"]) <= min(scores["best"])
    chosen = [example.id for example in card.examples if example.kind != "earliest divergence"]
    assert len(chosen) == len(set(chosen))
    # Every score band that has prompts shows at least some of them, for whoever filters by score.
    every = {row["id"]: row["chrf"] for row in score_rows(ASKED, {"tuned": tuned})}
    for low in (0, 20, 40, 60, 80):
        inside = {key for key, value in every.items() if low <= value < low + 20 or value == 100 == low + 20}
        assert len(inside & {e.id for e in card.examples}) >= min(8, len(inside))
    example = card.examples[0]
    assert example.prompt.startswith("place: ") and set(example.completions) == {"tuned", *SHORTCUTS}
    assert set(example.scores) == set(example.completions)
    few = scorecard_of(ASKED[:3], {"tuned": tuned, **SHORTCUTS}, LIKELIER)
    assert [e.kind for e in few.examples].count("worst") == 3


def test_the_signature_names_what_the_numbers_hang_on() -> None:
    signature = measured(PERFECT, signature={"template_hash": "abc", "decoding": "greedy"}).signature
    assert signature["template_hash"] == "abc" and signature["n"] == 80
    assert signature["metrics"]["chrf"].endswith("beta:1|norm:NFC")
    other = scorecard_of(several(1), {"tuned": PERFECT, **SHORTCUTS}, LIKELIER).signature
    assert other["held_out_hash"] != signature["held_out_hash"]


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(UserError, match="no held-out prompts"):
        scorecard_of([], {"tuned": PERFECT, **SHORTCUTS})
    with pytest.raises(UserError, match="at least one shortcut"):
        scorecard_of(ASKED, {"tuned": PERFECT})
    with pytest.raises(UserError, match="completions of the clone"):
        scorecard_of(ASKED, SHORTCUTS)
    with pytest.raises(ValueError, match="ids repeat"):
        scorecard_of([*ASKED, ASKED[0]], {"tuned": PERFECT, **SHORTCUTS})
    apart = {"tuned": {ASKED[0].id: PERFECT[ASKED[0].id]}, "B0": {ASKED[1].id: PERFECT[ASKED[1].id]}}
    with pytest.raises(UserError, match="share no scored prompt"):
        scorecard_of(ASKED, apart)


def test_speed_of_a_large_held_out_set() -> None:
    """400 prompts, six systems, rows given: intervals and all in seconds."""
    asked = [replace(ASKED[i % 80], id=f"{i}", cluster=f"{i}") for i in range(400)]
    rows = [*SHORTCUT_ROWS, *score_rows(ASKED, {"tuned": PERFECT})]
    by_id: dict[str, list] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    many = [
        {**row, "id": item.id, "cluster": item.cluster}
        for i, item in enumerate(asked)
        for row in by_id[ASKED[i % 80].id]
    ]
    begin = time.perf_counter()
    scorecard_of(asked, {}, rows=many)
    assert time.perf_counter() - begin < 5
