"""Closure, named experts and conflicts: planted clones are where they were put."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from twenty_prompts import ASKED, PERFECT, SHORTCUTS, scorecard_of

from sft import metrics
from sft.demonstrations import conflicts
from sft.demonstrations.demonstration import Demonstration, HeldOut, Message
from sft.fidelity.findings import Closure, ExpertScore
from sft.fidelity.probes import Absent, experts
from sft.metrics import intervals
from sft.runs.records import Completion

CLUSTERS = {f"q{n}": f"c{n // 2}" for n in range(300)}


def scores(mean: float, seed: int, spread: float = 12.0) -> dict[str, float]:
    draw = np.random.default_rng(seed)
    return {key: float(np.clip(draw.normal(mean, spread), 0, 100)) for key in CLUSTERS}


FLOOR, EXPERT = scores(30, 1), scores(50, 2)


def part_of_the_way(share: float, seed: int = 3) -> dict[str, float]:
    noise = np.random.default_rng(seed).normal(0, 8, len(CLUSTERS))
    return {key: FLOOR[key] + share * (EXPERT[key] - FLOOR[key]) + n for key, n in zip(CLUSTERS, noise, strict=True)}


def closed(tuned: dict[str, float], **more: object) -> Closure:
    return experts.closure(tuned, FLOOR, EXPERT, CLUSTERS, floor_name="B3", **more)  # type: ignore[arg-type]


def test_a_clone_as_good_as_another_expert_is_cloned() -> None:
    found = closed(scores(50, 4))
    assert found.finding == "cloned" and found.p_value <= 0.05
    assert found.share.low is not None and found.share.low > 0.8
    assert found.share.low <= 1 <= (found.share.high or 0)
    exact = closed(EXPERT)
    assert exact.finding == "cloned" and exact.share.value == pytest.approx(1)
    assert exact.surplus.value == pytest.approx(0.2 * (exact.expert.value - np.mean(list(FLOOR.values()))))


def test_a_clone_half_way_is_not_cloned_and_its_share_is_found() -> None:
    found = closed(part_of_the_way(0.5))
    assert found.finding == "not cloned" and found.surplus.high is not None and found.surplus.high < 0
    assert found.share.value == pytest.approx(0.5, abs=0.07)
    assert found.share.low is not None and found.share.high is not None
    assert found.share.low < 0.5 < found.share.high < 0.8


def test_a_clone_that_is_the_shortcut_has_closed_nothing() -> None:
    found = closed(FLOOR)
    assert found.finding == "not cloned" and found.share.value == 0
    assert (found.floor, found.margin, found.expert.n) == ("B3", 0.8, 300)


def test_on_the_margin_it_is_undecided_nineteen_times_in_twenty() -> None:
    findings = [closed(part_of_the_way(0.8, seed)).finding for seed in range(100, 140)]
    assert findings.count("undecided") >= 34
    assert findings.count("cloned") <= 4


@pytest.mark.parametrize("share", [0.7, 0.76, 0.8, 0.84, 0.9])
def test_the_margin_lies_inside_the_share_exactly_where_the_surplus_has_zero_inside(share: float) -> None:
    """Fieller's bounds are the linear test turned around: a second way to the same decision."""
    found = closed(part_of_the_way(share))
    for margin in (0.7, 0.8, 0.9):
        at = closed(part_of_the_way(share), margin=margin).surplus
        assert None not in (at.low, at.high, found.share.low, found.share.high)
        assert (at.low <= 0 <= at.high) == (found.share.low <= margin <= found.share.high)  # type: ignore[operator]


def test_only_prompts_that_all_three_have_count() -> None:
    few = {key: EXPERT[key] for key in list(CLUSTERS)[:50]}
    found = experts.closure(part_of_the_way(0.5), FLOOR, few, CLUSTERS, floor_name="R")
    assert found.surplus.n == found.tuned.n == found.expert.n == 50


def test_no_distance_to_close_leaves_the_share_unknown_and_the_surplus_known() -> None:
    worse = {key: value - 5 for key, value in FLOOR.items()}
    found = experts.closure(FLOOR, FLOOR, worse, CLUSTERS, floor_name="K")
    assert found.share.low is None and "no nearer" in found.share.method
    assert found.surplus.value == pytest.approx(4.0)


def test_one_cluster_or_one_expert_is_absent() -> None:
    with pytest.raises(Absent, match="one expert each"):
        experts.closure(EXPERT, FLOOR, {}, CLUSTERS, floor_name="R")
    with pytest.raises(Absent, match="two experts"):
        experts.closure(EXPERT, FLOOR, {"another prompt": 1.0}, CLUSTERS, floor_name="R")
    with pytest.raises(Absent, match="one cluster"):
        experts.closure(EXPERT, FLOOR, EXPERT, {"q0": "a", "q1": "a"}, floor_name="R")


# -- named experts ------------------------------------------------------------------------------------------

NOUNS = ["ledger", "window", "garden", "engine", "teapot", "saddle"]
MANNERS = {
    "Ann": "I would be pleased to help you with the {} number {}.",
    "Bob": "lol {} {}? who even asks",
    "Cem": "Regarding item {}, {}: kindly consult the manual.",
}


def asked(number: int, own: tuple[str, ...], others: tuple[str, ...]) -> HeldOut:
    text = {name: manner.format(NOUNS[number % 6], number) for name, manner in MANNERS.items()}
    return HeldOut(
        f"q{number}",
        (Message("user", f"p{number}"),),
        tuple(text[name] for name in own),
        own,
        f"c{number}",
        tuple((name, text[name]) for name in others),
    )


def as_written_by(name: str, items: list[HeldOut]) -> dict[str, Completion]:
    """A clone with the manner down, and the noun wrong."""
    return {
        item.id: Completion(item.id, MANNERS[name].format(NOUNS[-1 - n % 6], n), True) for n, item in enumerate(items)
    }


ONE_OF_THREE = [asked(n, ("Ann",), ("Bob", "Cem")) for n in range(40)]


def test_a_clone_of_one_expert_leads_over_the_two_others() -> None:
    ann, *others = experts.named(ONE_OF_THREE, as_written_by("Ann", ONE_OF_THREE))
    assert (ann.expert, ann.own, ann.lead, ann.p_value) == ("Ann", True, None, None)
    assert {one.expert for one in others} == {"Bob", "Cem"}
    for other in others:
        assert not other.own and other.lead is not None and other.lead.low is not None and other.lead.low > 20
        assert other.p_value is not None and other.p_value < 0.01
        assert other.lead.value == pytest.approx(ann.score.value - other.score.value)
        assert ann.agreement is not None and ann.score.value > ann.agreement.value
    assert others[0].score.value >= others[1].score.value  # the nearest rival first


def test_a_clone_of_somebody_else_does_not_lead() -> None:
    found = {one.expert: one for one in experts.named(ONE_OF_THREE, as_written_by("Bob", ONE_OF_THREE))}
    bob = found["Bob"]
    assert bob.lead is not None and bob.lead.high is not None and bob.lead.high < 0
    assert bob.p_value is not None and bob.p_value > 0.9


def test_leads_are_adjusted_for_how_many_there_are() -> None:
    """Exact sign-flip with six prompts is 1/64 at best; Holm doubles the smaller of two."""
    few = ONE_OF_THREE[:6]
    found = experts.named(few, as_written_by("Ann", few))
    assert sorted(one.p_value for one in found if one.p_value is not None) == [2 / 64, 2 / 64]


def test_a_hundred_named_experts_take_no_hundred_squares() -> None:
    """Every two of a prompt were compared: the time of four times the experts was sixteen times as long."""

    def found(count: int) -> tuple[float, tuple[ExpertScore, ...]]:
        draw = np.random.default_rng(count)
        texts = tuple(" ".join(draw.choice(list("abcdefgh"), 30)) for _ in range(count))
        names = tuple(f"expert {n}" for n in range(count))
        items = [HeldOut(f"q{n}", (Message("user", f"{n}"),), texts, names, f"q{n}") for n in range(2)]
        begun = time.process_time()
        scored = experts.named(items, {item.id: Completion(item.id, texts[0], True) for item in items})
        return time.process_time() - begun, scored

    found(30)
    short, few = found(30)
    long, many = found(150)
    assert long < 12 * short  # five times the experts; all pairs would be 25 times
    for scored in (few, many):
        values = [one.agreement.value for one in scored if one.agreement is not None]
        assert len(values) == len(scored) and max(values) - min(values) < 15


def test_scores_and_agreement_by_hand() -> None:
    tuned = as_written_by("Ann", ONE_OF_THREE)
    found = {one.expert: one for one in experts.named(ONE_OF_THREE, tuned)}
    texts = [dict(item.others) | {"Ann": item.references[0]} for item in ONE_OF_THREE]
    score = [metrics.chrf(tuned[item.id].text, text["Cem"]) for item, text in zip(ONE_OF_THREE, texts, strict=True)]
    agreement = [metrics.chrf(text[name], text["Cem"]) for text in texts for name in ("Ann", "Bob")]
    cem = found["Cem"]
    assert cem.score.value == pytest.approx(math.fsum(score) / len(score))
    assert cem.agreement is not None and cem.agreement.value == pytest.approx(math.fsum(agreement) / len(agreement))


def test_a_clone_of_all_has_no_lead_over_any() -> None:
    together = [asked(n, ("Ann", "Bob", "Cem"), ()) for n in range(10)]
    found = experts.named(together, as_written_by("Ann", together))
    assert [one.expert for one in found] == ["Ann", "Bob", "Cem"]
    assert all(one.own and one.lead is None and one.agreement is not None for one in found)
    apart = [asked(n, (list(MANNERS)[n % 3],), ()) for n in range(30)]
    assert all(one.agreement is None and one.score.n == 10 for one in experts.named(apart, as_written_by("Ann", apart)))


def test_an_expert_without_a_name_still_leads_over_those_with_one() -> None:
    nameless = [
        HeldOut(item.id, item.prompt, item.references, ("",), item.cluster, item.others) for item in ONE_OF_THREE
    ]
    first, *others = experts.named(nameless, as_written_by("Ann", nameless))
    assert first.expert == experts.UNNAMED and first.own and first.agreement is not None
    named = experts.named(ONE_OF_THREE, as_written_by("Ann", ONE_OF_THREE))
    assert [one.lead for one in others] == [one.lead for one in named[1:]]
    assert [one.agreement for one in (first, *others)] == [one.agreement for one in named]


def test_fewer_than_two_names_are_absent() -> None:
    for own in (("Ann",), ("",)):
        alone = [HeldOut("q", (Message("user", "p"),), ("text",), own, "c")]
        with pytest.raises(Absent, match="fewer than two"):
            experts.named(alone, {"q": Completion("q", "text", True)})


# -- conflicts ----------------------------------------------------------------------------------------------


def demonstration(prompt: str, completion: str, expert: str = "") -> Demonstration:
    return Demonstration((Message("user", prompt),), completion, expert=expert)


def test_conflicts_are_counted_by_prompt_and_agree_as_much_as_their_pairs() -> None:
    train = [
        demonstration("How are you?", "Fine, thanks.", "Ann"),
        demonstration("how are  YOU?", "Fine, thank you.", "Bob"),
        demonstration("How are you?", "meh", "Cem"),
        demonstration("And now?", "Go away.", "Ann"),
        demonstration("And now?", "Away with you.", "Bob"),
        demonstration("Agreed?", "Yes.", "Ann"),
        demonstration("Agreed?", "Yes.", "Bob"),
        demonstration("Alone?", "Quite.", "Ann"),
    ]
    found = conflicts.conflicts(train, "keep")
    assert (found.prompts, found.conflicting, found.handled) == (4, 2, "keep")
    three = [("Fine, thanks.", "Fine, thank you."), ("Fine, thanks.", "meh"), ("Fine, thank you.", "meh")]
    pairs = [math.fsum(metrics.chrf(a, b) for a, b in three) / 3, metrics.chrf("Go away.", "Away with you.")]
    assert found.agreement is not None and found.agreement.value == pytest.approx(sum(pairs) / 2)
    assert found.agreement.n == 2 and found.agreement.low is not None


def test_no_conflict_has_no_agreement() -> None:
    found = conflicts.conflicts([demonstration("a", "b"), demonstration("c", "b")], "majority")
    assert (found.prompts, found.conflicting, found.agreement, found.handled) == (2, 0, None, "majority")
    assert "not known" in scorecard_of(ASKED, {"tuned": PERFECT, **SHORTCUTS}).absent["conflicts"]


def test_large_sets_are_sampled_by_seed_whatever_the_order_of_rows() -> None:
    train = [demonstration(f"p{n % 50}", f"{NOUNS[n % 6]} {n * 37 % 101}") for n in range(500)]
    some = conflicts.conflicts(train, "keep", seed=1, at_most=20)
    assert some.conflicting == 50 and some.agreement is not None and some.agreement.n == 20
    assert some == conflicts.conflicts(train[::-1], "keep", seed=1, at_most=20)
    assert some != conflicts.conflicts(train, "keep", seed=2, at_most=20)


def test_agreement_is_clustered_by_group() -> None:
    rows = [(f"p{n}", text) for n in range(12) for text in (f"{NOUNS[n % 6]} one", f"two {NOUNS[n // 2]}")]
    train = [Demonstration((Message("user", p),), text, group=f"g{int(p[1:]) // 4}") for p, text in rows]
    found = conflicts.conflicts(train, "keep").agreement
    assert found is not None and "3 clusters" in found.method
    values = [metrics.chrf(rows[2 * n][1], rows[2 * n + 1][1]) for n in range(12)]
    expected = intervals.clustered_t(values, [n // 4 for n in range(12)])
    assert found.low == pytest.approx(max(0, expected.low or 0))
