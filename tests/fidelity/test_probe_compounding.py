"""Planted truths: errors that rise along a text are found, and no other fault, and no perfect clone, is called so."""

from __future__ import annotations

import pytest
from planted_thirds import measured

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent
from sft.fidelity.probes.compounding import compounding
from sft.runs.records import Completion


@pytest.mark.parametrize("prompts", [30, 100, 300])
def test_rising_errors_are_found(prompts: int) -> None:
    found = [measured("rising", prompts, seed).rise for seed in range(20)]
    assert all(rise.high is not None and rise.high < 0 for rise in found)


@pytest.mark.parametrize("prompts", [30, 100, 300])
@pytest.mark.parametrize("kind", ["perfect", "constant", "truncated", "consensus", "falling"])
def test_no_other_clone_is_accused(kind: str, prompts: int) -> None:
    """One in forty may be, and 3 of 100 perfect clones with 30 prompts were; four of twenty would be too many."""
    found = [measured(kind, prompts, seed).rise for seed in range(20)]
    accused = sum(rise.high is not None and rise.high < 0 for rise in found)
    assert accused <= (0 if kind in ("consensus", "falling") else 3)


def test_a_constant_fault_is_behind_all_along() -> None:
    found = measured("constant", 100, 0)
    assert all(each.high is not None and each.high < 0.9 for each in found.kept)
    assert found.rise.low is not None and found.rise.high is not None and found.rise.low < 0 < found.rise.high


def test_a_text_that_ends_early_is_called_short_and_not_wrong() -> None:
    found = measured("truncated", 100, 0)
    assert found.short.value == 1.0 and measured("perfect", 100, 0).short.value == 0.0
    assert all(each.value > 0.9 for each in found.kept)


def test_what_cannot_be_measured_is_said() -> None:
    prompt = (Message("user", "?"),)
    alone = HeldOut("a", prompt, ("one two three four five six",), ("",), "a")
    with pytest.raises(Absent, match="one expert each"):
        compounding([alone], {"a": Completion("a", "one two three four five six", True)})
    labels = HeldOut("b", prompt, ("yes", "no"), ("", ""), "b")
    with pytest.raises(Absent, match="cut in three"):
        compounding([labels], {"b": Completion("b", "yes", True)})


def test_thirds_are_counted_by_hand() -> None:
    item = HeldOut("a", (Message("user", "?"),), ("a b c d e f", "a b c d e y"), ("", ""), "a")
    other = HeldOut("b", (Message("user", "?"),), ("a b c d e f", "a b c d e y"), ("", ""), "b")
    written = {key: Completion(key, "a b c z z e", True) for key in ("a", "b")}
    found = compounding([item, other], written)
    assert [each.value for each in found.tuned] == [1, 0.5, 0.5]
    assert [each.value for each in found.expert] == [1, 1, 0.5]
    assert [each.value for each in found.kept] == [1, 0.5, 1]
    assert found.rise.value == 0 and found.n == 2 and found.passed_over == 0


def test_experts_without_a_word_in_common_are_no_measure() -> None:
    item = HeldOut("a", (Message("user", "?"),), ("a b c d e f", "g h i j k l"), ("", ""), "a")
    with pytest.raises(Absent, match="no words in common"):
        compounding([item], {"a": Completion("a", "a b c d e f", True)})
