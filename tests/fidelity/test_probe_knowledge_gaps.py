"""Knowledge gaps: completions that the prompt does not help with are flagged, and only they."""

from __future__ import annotations

import math

import pytest

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.fidelity.probes import Absent
from sft.fidelity.probes.knowledge_gaps import knowledge_gaps
from sft.runs.records import PromptValue

TRAIN = [
    Demonstration(
        (Message("user", f"question {n}"),),
        f"answer {n}",
        id=f"d{n:02}",
        group=f"g{n}",
        source=Source("x.jsonl", n + 1),
    )
    for n in range(40)
]


def value(number: int, own: float, other: float = 20.0, others: int = 4, size: int = 8) -> PromptValue:
    return PromptValue(f"d{number:02}", own, other, others, size)


def test_what_the_prompt_does_not_tell_is_flagged() -> None:
    values = [value(n, 10.0) for n in range(30)] + [value(n, 20.0 + (n - 30)) for n in range(30, 40)]
    found = knowledge_gaps(values, TRAIN)
    assert (found.looked_at, found.flagged) == (40, 10)  # no likelier at all counts as flagged
    assert found.share.value == 0.25 and found.share.low is not None and found.share.low > 0.1
    expected = (30 * 10 - sum(range(10))) / math.log(2) / 8 / 40
    assert found.bits.value == pytest.approx(expected)


def test_the_worst_come_first_with_their_address() -> None:
    values = [value(n, 20.0 + n) for n in range(25)] + [value(30, 1.0)]
    examples = knowledge_gaps(values, TRAIN).examples
    assert [gap.id for gap in examples] == [f"d{n}" for n in range(24, 14, -1)]
    worst = examples[0]
    assert (worst.address, worst.prompt, worst.completion) == ("x.jsonl:25", "question 24", "answer 24")
    assert worst.bits == pytest.approx(-24 / math.log(2) / 8)


def test_an_expert_who_writes_from_the_prompt_has_no_gaps_but_an_interval() -> None:
    found = knowledge_gaps([value(n, 12.0 + n % 3) for n in range(40)], TRAIN)
    assert found.flagged == 0 and found.examples == ()
    assert found.share.low == 0 and found.share.high is not None and 0 < found.share.high < 0.12
    assert found.bits.low is not None and found.bits.low > 0


def test_intervals_are_clustered_by_group() -> None:
    together = [Demonstration(d.prompt, d.completion, id=d.id, group=f"g{n // 20}") for n, d in enumerate(TRAIN)]
    values = [value(n, 10.0 if n < 20 else 30.0) for n in range(40)]
    apart, clustered = knowledge_gaps(values, TRAIN).share, knowledge_gaps(values, together).share
    assert apart.low is not None and clustered.low is not None and clustered.low < apart.low


def test_what_was_compared_with_nothing_is_not_looked_at() -> None:
    stranger = PromptValue("elsewhere", 9.0, 1.0, 4, 8)
    found = knowledge_gaps([value(0, 10.0), value(1, 30.0, others=0), stranger], TRAIN)
    assert (found.looked_at, found.flagged) == (1, 0)
    for values in ([], [stranger], [value(1, 30.0, others=0)]):
        with pytest.raises(Absent, match="not measured"):
            knowledge_gaps(values, TRAIN)
