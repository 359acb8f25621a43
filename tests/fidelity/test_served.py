"""Why a served text is not the measured one: each cause from its evidence, and none from another's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.served import CAUSES, Defaults, Evidence, cause_of, closeness, common, compare, drift
from sft.runs.records import Completion, Served

SAME = (1e-6, 100)


def known(
    served: str, *, measured: str = "red, red", finished: bool = True, reason: str = "stop", **more: Any
) -> Evidence:
    answer = Served("a", served, reason == "stop", reason=reason, prompt_tokens=more.pop("counted", 0))
    return Evidence(Completion("a", measured, finished), answer, examined=True, **more)


def answer(text: str, prompt_tokens: int = 0) -> Served:
    return Served("a", text, True, prompt_tokens=prompt_tokens)


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        (known("", reason="refused"), "weights"),
        (replace(known(""), served=Served("a", "", False, refused="too long")), "refused"),
        (replace(known(""), served=Served("a", "", True, elsewhere="reasoning_content")), "elsewhere"),
        (known(" red, red\n"), "space"),
        (known("blue", again=answer("grey")), "sampling"),
        (known("blue", again=answer("blue")), "weights"),
        (known("blue", rendered=answer("red, red")), "template"),
        (known("blue", rendered=answer("blue")), "weights"),
        (known("blue", same_prompt=False, rendered=answer("blue")), "template"),
        (known("blue", same_prompt=True, rendered=answer("red, red")), "weights"),
        (known("blue", rendered=answer("grey", 9), prompt_tokens=9, counted=12), "template"),
        (known("blue", rendered=answer("grey", 9), prompt_tokens=9, counted=9), "weights"),
        (known("blue", rendered=answer("grey", 10), prompt_tokens=9, counted=12), "weights"),
        (known("red, red, blue", reason="length"), "stop"),
        (known("red, red, blue", finished=False, reason="length"), "limit"),
        (known("red, red, blue", margin=0.01), "close"),
        (known("red", reason="length"), "cut"),
        (known("red", reason="stop"), "weights"),
        (known("blue", base="blue"), "base"),
        (replace(known("blue"), examined=False), "unexamined"),
        (known("blue", margin=0.5), "close"),
        (known("blue", margin=1.5), "weights"),
    ],
)
def test_a_cause_from_its_evidence(evidence: Evidence, cause: str) -> None:
    assert cause_of(evidence) == cause and cause in CAUSES


def test_likelihoods_that_are_the_clones_leave_the_choice() -> None:
    """A penalty changes what is taken, and nothing that the server says of its likelihoods."""
    assert cause_of(known("blue", margin=0.5), SAME) == "choice"
    assert cause_of(known("blue", margin=1e-6), SAME) == "close"
    assert cause_of(known("blue", margin=0.5), (0.02, 100)) == "weights"
    assert cause_of(known("blue", margin=0.3), (0.02, 100)) == "close"
    assert closeness(None) == closeness((3.0, 100)) == 1.0 and closeness((0.02, 100)) == pytest.approx(0.4)


def test_rounding_moves_an_end_now_and_then_and_a_lost_stop_token_all_of_them() -> None:
    late = known("red, red, blue", reason="length", margin=1e-6)
    assert cause_of(late, SAME) == "close" and cause_of(late, SAME, never_stops=True) == "stop"
    assert cause_of(known("red, red, blue", margin=0.5), SAME) == "choice"


def test_texts_are_told_apart_by_characters() -> None:
    assert [common("abc", other) for other in ("abd", "abc", "ab", "", "xbc")] == [2, 3, 2, 0, 0]


def test_the_distance_of_likelihoods_is_over_the_tokens_that_both_wrote() -> None:
    one = Served("a", "red", True, nats=(0.1, 0.7, 5.0))
    assert drift([(one, 2)], {"a": [1.0, 0.5, 0.5]}) == (pytest.approx((0.1 + 0.7 - 0.6931472) / 2), 2)
    assert drift([(one, 0)], {"a": [1.0]}) is None and drift([(one, 3)], {}) is None
    assert drift([(replace(one, nats=()), 3)], {"a": [1.0]}) is None


def test_the_comparison_is_paired_and_adds_up() -> None:
    items = [HeldOut(str(n), (Message("user", str(n)),), ("red, red",), ("",), str(n)) for n in range(20)]
    measured = {item.id: Completion(item.id, "red, red", True) for item in items}
    served = {item.id: Served(item.id, "red, red", True, reason="stop") for item in items}
    found = compare(items, measured, served, {}, defaults=Defaults())
    assert found.same == found.n == 20 and found.to_dict()["identical"] and not found.causes
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.sentence == "the served text is the measured text for 20 of 20 prompts"
    served |= {str(n): Served(str(n), "zzz", True, reason="stop") for n in range(5)}
    served["9"] = Served("9", "red, red", False, reason="length")
    evidence = {str(n): Evidence(measured[str(n)], served[str(n)], examined=True) for n in range(5)}
    found = compare(items, measured, served, evidence, defaults=Defaults())
    assert found.sentence == ("the served text is the measured text for 15 of 20 prompts; 5 part; 1 do not end there")
    assert found.causes == {"weights": 5} and found.difference.value == pytest.approx(-25)
    assert found.difference.low is not None and found.difference.high is not None
    assert found.difference.low < -25 < found.difference.high and found.scores["tuned"].value == 100
