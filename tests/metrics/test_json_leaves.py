"""JSON compared by what it says: planted differences have the figure that follows by hand."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.metrics.json_leaves import NotJson, json_leaves

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, draw: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, draw) for item in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw.sample(sorted(value), len(value))}
    return value


@given(VALUES, st.randoms(use_true_random=False))
def test_order_of_keys_and_white_space_are_nothing(value: Any, draw: random.Random) -> None:
    written = json.dumps(shuffled(value, draw), indent=draw.choice([None, 1, 4]), ensure_ascii=draw.random() < 0.5)
    assert json_leaves(written, json.dumps(value)) == 100.0


@given(VALUES, VALUES)
def test_it_lies_between_0_and_100_and_takes_no_side(one: Any, other: Any) -> None:
    score = json_leaves(json.dumps(one), json.dumps(other))
    assert 0.0 <= score <= 100.0
    assert score == json_leaves(json.dumps(other), json.dumps(one))


@pytest.mark.parametrize(
    ("prediction", "reference", "points"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', 100.0),
        ('{"a": 1, "b": 3}', '{"a": 1, "b": 2}', 50.0),  # wrong: one of two and two
        ('{"a": 1}', '{"a": 1, "b": 2}', 200 / 3),  # missing
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1, "b": 2}', 80.0),  # additional
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": null}', "{}", 0.0),
        ("{}", "{}", 100.0),
        ("[]", "{}", 0.0),
        ("[1, 2, 3]", "[2, 3]", 80.0),  # one put in front costs itself only
        ("[3, 2]", "[2, 3]", 50.0),  # order of a list is a fact
        ('"caf\\u00e9"', '"cafe\\u0301"', 100.0),
        ("Sure! {}", "{}", 0.0),
        ("", "{}", 0.0),
        ("NaN", "1", 0.0),
    ],
)
def test_figures_that_follow_by_hand(prediction: str, reference: str, points: float) -> None:
    assert json_leaves(prediction, reference) == pytest.approx(points)


CALL = '{"name": "book", "arguments": {"city": "Oslo", "nights": 2}}'


@pytest.mark.parametrize(
    ("prediction", "points"),
    [
        ('{"arguments": {"nights": 2, "city": "Oslo"}, "name": "book"}', 100.0),
        ('{"name": "book", "parameters": {"city": "Oslo", "nights": 2}}', 100.0),
        (json.dumps({"name": "book", "arguments": json.dumps({"nights": 2, "city": "Oslo"})}), 100.0),
        ('{"type": "function", "id": "call_9", "function": {"name": "book", "arguments": "{\\"city\\": \\"Oslo\\", '
         '\\"nights\\": 2}"}}', 100.0),
        (f"<tool_call>\n{CALL}\n</tool_call>", 100.0),
        (CALL.replace("2", "3"), 200 * 2 / 6),
        (CALL.replace("book", "cancel"), 0.0),  # the same arguments to another tool are no part of the action
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>", 0.0),  # twice is another action
    ],
)  # fmt: skip
def test_a_call_is_its_name_and_its_arguments(prediction: str, points: float) -> None:
    assert json_leaves(prediction, CALL) == pytest.approx(points)


def test_several_calls_are_aligned() -> None:
    other = CALL.replace("Oslo", "Rome")
    both = f"<tool_call>{CALL}</tool_call>\n<tool_call>{other}</tool_call>"
    assert json_leaves(f"[{CALL}, {other}]", both) == 100.0
    assert json_leaves(f"[{other}]", both) == pytest.approx(200 * 3 / 9)


def test_data_with_a_name_is_no_call() -> None:
    assert json_leaves('{"name": "Ada", "age": 36}', '{"name": "Bob", "age": 36}') == 50.0


@pytest.mark.parametrize("reference", ["no JSON", "", "{'a': 1}", "[" * 100_000, "-Infinity", "1" * 5_000 + "x"])
def test_a_reference_that_is_no_json_is_refused(reference: str) -> None:
    with pytest.raises(NotJson):
        json_leaves("{}", reference)


def test_a_prediction_of_any_size_or_depth_gets_its_points_soon() -> None:
    began = time.monotonic()
    assert json_leaves("[" * 100_000 + "]" * 100_000, "[]") == 0.0
    deep = "[" * 300 + "1" + "]" * 300
    assert json_leaves(deep, deep) == 100.0
    long = json.dumps([[n, n + 1] for n in range(30_000)])
    assert json_leaves(long, long) == 100.0
    wide = json.dumps([[n % 7 for n in range(20)] for _ in range(20)])
    assert json_leaves(wide, wide) == 100.0
    assert time.monotonic() - began < 20
