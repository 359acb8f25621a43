"""Planted truths: a calibrated clone's words are the experts' as often as its samples', a sharpened one's are not."""

from __future__ import annotations

import pytest
from planted_trigrams import measured, topics

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent
from sft.fidelity.probes.calibration import own_words
from sft.runs.records import Completion


@pytest.mark.parametrize("prompts", [30, 100, 300])
def test_a_calibrated_clone_is_not_accused(prompts: int) -> None:
    found = [measured(1.0, prompts, seed).difference for seed in range(20)]
    found += [topics(prompts, seed, settled=False).difference for seed in range(20)]
    assert all(each.low is not None and each.high is not None for each in found)
    assert sum(not each.low <= 0 <= each.high for each in found) <= 6, "of 40, two are expected"  # type: ignore[operator]


@pytest.mark.parametrize(("prompts", "sharpened", "flattened"), [(30, 0.8, 0.3), (100, 1.0, 0.8), (300, 1.0, 1.0)])
def test_a_sharpened_clone_and_a_flattened_one_are_told_apart(prompts: int, sharpened: float, flattened: float) -> None:
    """With few prompts mostly; flattening shows less, for a text drawn more freely is still the expert's in part."""
    sharp = [measured(3.0, prompts, seed).difference for seed in range(20)]
    flat = [measured(0.3, prompts, seed).difference for seed in range(20)]
    assert sum(each.high is not None and each.high < 0 for each in sharp) >= sharpened * 20
    assert sum(each.low is not None and each.low > 0 for each in flat) >= flattened * 20


@pytest.mark.parametrize("prompts", [30, 100, 300])
def test_one_of_ten_good_answers_said_for_ever_is_found(prompts: int) -> None:
    found = [topics(prompts, seed, settled=True).difference for seed in range(10)]
    assert all(each.high is not None and each.high < 0 for each in found)


def test_as_many_of_the_one_as_of_the_other() -> None:
    """With two references and one sample only the first reference counts: nearest of two is nearer by chance."""
    item = HeldOut("a", (Message("user", "?"),), ("x y", "a b"), ("", ""), "a")
    found = own_words([item], {"a": Completion("a", "a b", True)}, [{"a": Completion("a", "a z", True)}])
    assert found.expert.value == 0 and found.itself.value == 0.5 and found.n == 1


def test_without_samples_it_is_absent() -> None:
    item = HeldOut("a", (Message("user", "?"),), ("a b",), ("",), "a")
    with pytest.raises(Absent, match="no samples"):
        own_words([item], {"a": Completion("a", "a b", True)}, [])
    with pytest.raises(Absent, match="no samples"):
        own_words([item], {"a": Completion("a", " ", True)}, [{"a": Completion("a", "a", True)}])
