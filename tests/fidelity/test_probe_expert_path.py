"""Survival and prefix forcing: what another expert does in the clone's place, and what the clone's own steps add."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft import metrics
from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent, expert_path
from sft.runs.records import Completion, Forced, TokenScores

SHARES = (0.25, 0.5, 0.75)
SENTENCE = "the old harbour market sells fresh herring bread cheap and late near a quiet river bridge every morning"


def item(number: int, references: int = 2) -> HeldOut:
    draw = random.Random(number)
    texts = tuple(" ".join(draw.choices(SENTENCE.split(), k=16)) for _ in range(references))
    return HeldOut(f"q{number}", (Message("user", f"p{number}"),), texts, ("",) * references, f"q{number}")


def forced(one: HeldOut, share: float, text: str) -> Forced:
    reference = one.references[0]
    rest = expert_path.rest_of(reference, share)
    return Forced(one.id, share, reference.removesuffix(rest), rest, text, True)


def tokens(name: str, ranks: tuple[int, ...]) -> TokenScores:
    return TokenScores(name, (1.0,) * len(ranks), ranks, (1.0,) * len(ranks), 10)


ITEMS = [item(n) for n in range(30)]


def written(text: object) -> dict[str, dict[str, Completion]]:
    return {"tuned": {one.id: Completion(one.id, text(one), True) for one in ITEMS}}  # type: ignore[operator]


def gone_on(text: object) -> dict[str, list[Forced]]:
    return {"tuned": [forced(one, share, text(one, share)) for one in ITEMS for share in SHARES]}  # type: ignore[operator]


def test_a_path_is_left_at_the_first_token_that_is_not_the_likeliest() -> None:
    assert expert_path.left_at(tokens("a", (0, 0, 3, 0, 1))) == 3
    assert expert_path.left_at(tokens("a", (0, 0))) is None


def test_survival_by_hand() -> None:
    """Four prompts: one leaves at token 1, one at 3, one ends after 2 tokens without leaving, one after 3."""
    scores = {"a": (1, 0, 0), "b": (0, 0, 2), "c": (0, 0), "d": (0, 0, 0)}
    curve = expert_path.survival(
        {key: key for key in scores}, {key: tokens(key, ranks) for key, ranks in scores.items()}
    )
    assert [(point.token, point.share) for point in curve] == [(1, 0.75), (2, 0.75), (3, 0.375)]
    assert all(point.low <= point.share <= point.high for point in curve)


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.sampled_from([0.0, *SHARES]))
def test_a_rest_is_never_blank_and_starts_a_word_where_there_is_a_choice(text: str, share: float) -> None:
    text = text.strip()
    rest = expert_path.rest_of(text, share)
    assert rest.strip() and text.endswith(rest)
    if 0 < len(rest) < len(text) and any(c.isspace() for c in text):
        assert text[-len(rest) - 1].isspace() and not rest[0].isspace()


def test_a_rest_is_cut_between_the_nearest_words() -> None:
    assert expert_path.rest_of("one two three four", 0.5) == "three four"
    assert expert_path.rest_of("one two three four", 0) == "one two three four"
    assert expert_path.rest_of("机器学习方法", 0.5) == "习方法"


def test_a_clone_that_writes_as_another_expert_has_no_excess() -> None:
    """And, not knowing how the expert began, regains nothing by being told."""

    def as_another(one: HeldOut, share: float) -> str:
        row = forced(one, share, "")
        return expert_path.rest_of(one.references[1], len(row.given) / len(one.references[0]))

    curves = expert_path.prefix(ITEMS, gone_on(as_another), written(lambda one: one.references[1]))
    assert [point.share for point in curves["own"]] == [0, *SHARES]
    for led, alone, theirs in zip(curves["tuned"], curves["own"], curves["E"], strict=True):
        assert led.score.value == pytest.approx(alone.score.value) == pytest.approx(theirs.score.value)
        assert alone.excess is not None and alone.excess.value == pytest.approx(0, abs=1e-9)
        assert theirs.excess is led.excess is None
        assert (led.regained is None) == (led.share == 0)
        assert led.regained is None or led.regained.value == pytest.approx(0, abs=1e-9)


def test_experts_in_the_clones_place_have_no_excess() -> None:
    """Exchangeable: the clone is one more expert, over and over; the interval holds 0 as often as it promises."""
    held = 0
    for repeat in range(60):
        items = [item(1000 * repeat + n, references=3) for n in range(25)]
        asked = [HeldOut(i.id, i.prompt, i.references[:2], i.experts[:2], i.cluster) for i in items]
        clone = {i.id: Completion(i.id, i.references[2], True) for i in items}
        rows = [forced(one, share, "any") for one in asked for share in SHARES]
        excess = expert_path.prefix(asked, {"tuned": rows}, {"tuned": clone})["own"][0].excess
        assert excess is not None and excess.low is not None and excess.high is not None
        held += excess.low < 0 < excess.high
    assert held >= 52


def test_being_told_the_beginning_is_worth_most_to_a_clone_that_was_lost() -> None:
    """Experts agree but for a word in the middle; the clone begins as they do and is lost after six words."""
    agreeing = []
    for one in ITEMS:
        words = one.references[0].split()
        words[8] = "honest"
        agreeing.append(replace(one, references=(one.references[0], " ".join(words))))

    def lost(one: HeldOut) -> str:
        return " ".join(one.references[0].split()[:6]) + " zzz" * 10

    curves = expert_path.prefix(agreeing, gone_on(lambda one, share: forced(one, share, "").rest), written(lost))
    assert curves["tuned"][-1].score.value == 100
    regained = curves["tuned"][-1].regained
    assert regained is not None and regained.low is not None and regained.low > 50


def test_a_clone_lost_from_the_first_word_is_behind_everywhere() -> None:
    curves = expert_path.prefix(ITEMS, gone_on(lambda one, share: "zzz"), written(lambda one: "zzz"))
    assert all(point.excess is not None and point.excess.low > 0 for point in curves["own"])  # type: ignore[operator]


def test_a_mute_clone_has_rests_of_nothing() -> None:
    curves = expert_path.prefix(ITEMS, gone_on(lambda one, share: ""), written(lambda one: ""))
    assert {point.score.value for point in (*curves["tuned"], *curves["own"])} == {0.0}


def test_points_are_means_of_chrf_over_the_rest_with_white_space_aside() -> None:
    curves = expert_path.prefix(ITEMS, gone_on(lambda one, share: " late bread\n"), written(lambda one: "late bread"))
    for point in (*curves["tuned"][1:], curves["own"][0]):
        rests = [expert_path.rest_of(one.references[0], point.share).strip() for one in ITEMS]
        expected = math.fsum(metrics.chrf("late bread", rest) for rest in rests) / len(ITEMS)
        assert point.score.value == pytest.approx(expected)


def test_another_expert_is_the_mean_over_all_other_references() -> None:
    three = [item(n, references=3) for n in range(4)]
    completions = {"tuned": {one.id: Completion(one.id, "late bread", True) for one in three}}
    curves = expert_path.prefix(three, {"tuned": [forced(one, 0.5, "late") for one in three]}, completions)
    at_start = [metrics.chrf(text, one.references[0]) for one in three for text in one.references[1:]]
    assert curves["E"][0].score.value == pytest.approx(math.fsum(at_start) / len(at_start))


def test_one_expert_gives_a_curve_without_excess() -> None:
    alone = [item(n, references=1) for n in range(5)]
    completions = {"tuned": {one.id: Completion(one.id, "late bread", True) for one in alone}}
    curves = expert_path.prefix(alone, {"tuned": [forced(one, 0.5, "late") for one in alone]}, completions)
    assert set(curves) == {"tuned", "own"}
    assert all(point.excess is None and point.score.low is not None for point in curves["own"])
    assert curves["tuned"][-1].regained is not None


def test_completions_too_short_to_part_are_left_out_of_every_point_and_counted() -> None:
    rows = gone_on(lambda one, share: "late")["tuned"]
    short = Forced(ITEMS[0].id, 0.75, "Yes.", " ", "", True)
    rows = [short if (row.id, row.share) == (short.id, 0.75) else row for row in rows]
    curves = expert_path.prefix(ITEMS, {"tuned": rows}, written(lambda one: "late"))
    for point in (*curves["tuned"], *curves["own"], *curves["E"]):
        assert point.score.n == len(ITEMS) - 1
        assert point.score.method.endswith("left out: 1")


def test_nothing_forced_is_absent() -> None:
    with pytest.raises(Absent, match="was not given"):
        expert_path.prefix(ITEMS, {}, written(lambda one: "x"))
    with pytest.raises(Absent, match="too short"):
        expert_path.prefix(ITEMS, {"tuned": [Forced(ITEMS[0].id, 0.5, "Yes.", "", "", True)]}, written(lambda one: "x"))
