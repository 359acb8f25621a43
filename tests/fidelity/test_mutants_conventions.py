"""The conventions a verdict is read by: where each limit lies, which unit a bar is in, how a figure is written."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from known_scorecards import ALL, closure, judged, known, planted
from twenty_prompts import ASKED, LIKELIER, PERFECT, SHORTCUTS, scorecard_of, several

from sft.errors import UserError
from sft.fidelity.conventions import bar_points, percent, span
from sft.fidelity.measure import measure
from sft.fidelity.observations import Observations
from sft.fidelity.scorecard import COMPLETIONS_ALONE, RUNGS
from sft.metrics.estimate import Estimate
from sft.runs.records import Completion

NOTHING, IMITATES, LEARNED, MEETS, CLONED = RUNGS
UNKNOWN = Estimate(0.42, None, None, 0.95, "no interval: one cluster only", 80)


@pytest.mark.parametrize("bar, points", [(0.95, 95.0), (0.005, 0.5), (1, 100.0), (40, 40.0), (1.5, 1.5), (100, 100.0)])
def test_a_bar_is_in_points_or_a_share(bar: float, points: float) -> None:
    """Of exact matches; of every other metric it is in points, and a share of them is refused."""
    assert bar_points({"exact_match": bar}) == {"exact_match": points}
    if bar > 1:
        assert bar_points({"rouge_l": bar}) == {"rouge_l": points}
    else:
        with pytest.raises(UserError, match=rf"rouge_l is .*; write {points:g}$"):
            bar_points({"rouge_l": bar})


@pytest.mark.parametrize("bar", [0, -0.5, -3, 100.5, math.nan, math.inf])
def test_a_bar_that_nothing_or_everything_clears_is_refused_with_the_metric(bar: float) -> None:
    with pytest.raises(UserError, match="rouge_l"):
        bar_points({"chrf": 50, "rouge_l": bar})


def test_a_bar_for_a_metric_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(UserError, match=r"bleurt is not a metric; known are chrf, .*exact_match"):
        bar_points({"chrf": 50, "bleurt": 50})


@pytest.mark.parametrize("imitation, p_value", [(None, 0.0001), (ALL.imitation_gain, None), (None, None)])
def test_what_was_measured_in_part_is_not_shown(imitation: Estimate | None, p_value: float | None) -> None:
    lowest = COMPLETIONS_ALONE if imitation is None else NOTHING
    assert judged(planted(imitation_gain=imitation), imitation_p=p_value).rung == lowest


def test_five_per_cent_is_the_level_itself() -> None:
    for p_value, rung in ((0.05, CLONED), (0.0501, NOTHING)):
        assert judged(ALL, imitation_p=p_value).rung == rung


def test_several_experts_means_more_than_half_of_the_prompts() -> None:
    bar = {"chrf": 40.0}
    for prompts, rung in ((110, MEETS), (150, MEETS), (151, LEARNED)):
        assert judged(planted(closure=closure("undecided", n=prompts), bar=bar)).rung == rung


def test_how_a_figure_is_written() -> None:
    assert span(known(4.94, 2.16, 7.7)) == "4.9 [2.2, 7.7]"
    assert span(known(-4.94, -7.7, -2.16), sign=-1, unit=" %") == "4.9 [2.2, 7.7] %"
    assert span(known(0.1234, 0.1, 0.2), 2) == "0.12 [0.10, 0.20]"
    assert span(UNKNOWN, 2, unit=" points") == "0.42 points" and span(UNKNOWN) == "0.4"
    assert percent(known(0.474, 0.25, 0.69)) == "47 % [25, 69]" and percent(UNKNOWN) == "42 %"


@pytest.mark.parametrize(
    "name, states",
    [
        ("not stopping", {0: "green", 1: "amber", 6: "amber", 9: "amber", 10: "red"}),
        ("empty", {0: "amber", 2: "amber", 3: "red"}),
        ("unscored", {0: "green", 1: "green", 2: "red"}),
        ("contamination", {0: "green", 1: "green", 2: "red"}),
    ],
)
def test_a_rate_is_held_to_its_limit_by_its_interval_and_a_count_as_it_is(name: str, states: dict[int, str]) -> None:
    """100 prompts, so each is one per cent. 10 of 100 have Wilson's [5.5, 17.4], 9 [4.8, 16.2], 1 [0.2, 5.4] and none
    [0, 3.7]. What is unscored or contaminated is counted: one that is just at its limit is not red."""
    asked = [replace(item, id=f"{n} {item.id}", cluster=f"{n}") for n, item in enumerate([*ASKED, *ASKED[:20]])]
    copied = {item.id: Completion(item.id, item.prompt[-1].content, True) for item in asked}
    for count, state in states.items():
        tuned = {item.id: Completion(item.id, item.references[0], True) for item in asked}
        bad = {item.id for item in asked[:count]}
        if name == "unscored":
            tuned = {key: written for key, written in tuned.items() if key not in bad}
        elif name != "contamination":
            planted = {"not stopping": {"finished": False}, "empty": {"text": " "}}[name]
            tuned |= {key: replace(tuned[key], **planted) for key in bad}
        leaked = frozenset(bad if name == "contamination" else ())
        card = measure(Observations(asked, {"tuned": tuned, "P": copied}, {}, contaminated=leaked))
        assert {g.name: g.state for g in card.guardrails}[name] == state
        assert all(g.state != "red" for g in card.guardrails if g.name != name)


def test_cloned_is_eighty_per_cent_of_the_way() -> None:
    """Where the clone is the experts' own words the share is 1 and the margin that it is held against 80 %."""
    found = scorecard_of(several(80), {"tuned": PERFECT, **SHORTCUTS}, LIKELIER).closure
    assert found is not None and found.margin == 0.8
