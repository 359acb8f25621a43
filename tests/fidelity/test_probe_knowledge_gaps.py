"""Knowledge gaps: spans that neither the prompt nor the base model tells are found, and only they."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from planted_orders import found_in, planted, read

from sft.demonstrations.demonstration import Demonstration, Message, Source, folded
from sft.fidelity.findings import KnowledgeGaps
from sft.fidelity.probes import Absent
from sft.fidelity.probes.knowledge_gaps import EXAMPLES, knowledge_gaps
from sft.fidelity.probes.spans import Frequencies, spans, stands_in
from sft.reports.sections.knowledge_gaps import gaps_sentence
from sft.runs.records import PromptValue

#: Worlds tried at each number of completions.
WORLDS = {30: 8, 100: 4, 300: 2}

# -- planted truth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize("kind", ["half", "nothing"])
def test_invented_dates_and_drivers_are_found(kind: str, n: int) -> None:
    """By the sum over the completion none of those beside a copied order number were: 0 of 24."""
    for seed in range(WORLDS[n]):
        found = found_in(kind, n, seed)
        assert found.flagged >= 0.98 * n
        assert found.kinds["figure"] > 1.5 * n and found.kinds["name"] > n  # some names stand in more than an eighth
        assert "hold what neither their prompts nor the base model tell" in gaps_sentence(found)
        assert "not shown to be more" not in gaps_sentence(found)


@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize("kind", ["all in the prompt", "formula", "formula beside a copy", "label"])
def test_copies_formulas_and_labels_are_no_gaps(kind: str, n: int) -> None:
    """By the sum over the completion 13 of 24 with a fixed formula were flagged."""
    for seed in range(WORLDS[n]):
        found = found_in(kind, n, seed)
        assert found.flagged == 0 and found.examples == ()
        assert gaps_sentence(found).startswith(f"In none of the {n} training completions")


@pytest.mark.parametrize("n", [30, 100, 300])
def test_what_the_model_works_out_from_its_prompt_falls_and_is_no_gap(n: int) -> None:
    """Dates that the prompt holds in other figures: nothing is copied, and the surprise falls by half."""
    draw = random.Random(n)
    train = [planted("half", number, draw) for number in range(n)]
    values = [read(one, draw) for one in train]
    told = [replace(value, own_token_nats=tuple(nats / 2 for nats in value.other_token_nats)) for value in values]
    assert knowledge_gaps(told, train).flagged == 0


@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_few_slips_are_not_called_gaps(n: int) -> None:
    """A twentieth of the completions, here 1 to 15, is what a base model may fail to work out."""
    draw = random.Random(n)
    kinds = ["half" if number < n // 20 else "all in the prompt" for number in range(n)]
    train = [planted(kind, number, draw) for number, kind in enumerate(kinds)]
    found = knowledge_gaps([read(one, draw) for one in train], train)
    assert found.flagged == n // 20
    assert "not shown to be more than 5 %, as many as can be slips of the base model" in gaps_sentence(found)


def with_a_rare_word(n: int, bits: float, spread: float) -> KnowledgeGaps:
    """One word of each completion stands in no other; it costs so many bits, as the words around it cost four."""
    draw = random.Random(f"{n} {bits}")
    train, values = [], []
    for number in range(n):
        word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9))
        one_of_them = one(f"They are to be {word} with care", "What then?", number)
        ends = tuple(token.end() for token in re.finditer(r"\s*\S+", one_of_them.completion))
        nats = [4 * math.log(2)] * len(ends)
        nats[4] = max(draw.gauss(bits, spread), 0.1) * math.log(2)
        other = tuple(cost * math.exp(draw.gauss(0, 0.05)) for cost in nats)
        train.append(one_of_them)
        values.append(PromptValue(one_of_them.id, sum(nats), sum(other), 2, 40, ends, tuple(nats), other))
    return knowledge_gaps(values, train)


@pytest.mark.parametrize("n", [30, 100, 300])
def test_coined_words_are_found_and_the_words_of_plain_prose_are_not(n: int) -> None:
    """Rare words of docstrings have 9 bits in the middle and 19 in the highest tenth; names of no fame 15 to 35."""
    coined, prose = with_a_rare_word(n, 28.0, 4.0), with_a_rare_word(n, 9.0, 5.0)
    assert coined.kinds["rare word"] > 0.8 * n and "Whether the expert drew" in gaps_sentence(coined)
    assert prose.flagged < 0.05 * n and "Whether the expert drew" not in gaps_sentence(prose)


# -- what is found ----------------------------------------------------------------------------------------------


def one(completion: str, prompt: str = "Who?", number: int = 0) -> Demonstration:
    return Demonstration((Message("user", f"{prompt} {number}"),), completion, id=f"d{number}", group=f"g{number}")


def characters(demonstration: Demonstration, own: float, other: float) -> PromptValue:
    """Each character a token of ``own`` and ``other`` bits."""
    size, nat = len(demonstration.completion), math.log(2)
    mine, theirs = (own * nat,) * size, (other * nat,) * size
    return PromptValue(demonstration.id, sum(mine), sum(theirs), 2, size, tuple(range(1, size + 1)), mine, theirs)


def test_the_worst_come_first_with_places_and_address() -> None:
    train = [
        replace(one(f"It was {10 ** (1 + n % 12)}.", number=n), source=Source("x.jsonl", n + 1)) for n in range(36)
    ]
    found = knowledge_gaps([characters(d, 4.0, 4.0) for d in train[:12]], train)
    assert (found.looked_at, found.flagged) == (12, 12) or found.examples == ()
    train = [replace(d, completion=f"{d.completion} So {n} {'x' * n}") for n, d in enumerate(train)]
    found = knowledge_gaps([characters(d, 4.0, 4.0) for d in train], train)
    assert len(found.examples) == EXAMPLES
    bits = [sum(span.own_bits for span in gap.spans) for gap in found.examples]
    assert bits == sorted(bits, reverse=True)
    worst = found.examples[0]
    assert worst.address == f"x.jsonl:{int(worst.id[1:]) + 1}" and worst.prompt == f"Who? {worst.id[1:]}"
    for span in worst.spans:
        assert span.own_bits == pytest.approx(4 * (span.end - span.start))
    marked = [worst.completion[span.start : span.end] for span in worst.spans]
    assert marked[0].strip("0") == "1", "the figure, and nothing around it"


def test_tokens_that_make_one_character_together_count_for_it() -> None:
    """Three tokens of one bit each to the euro sign, of which the last two end where the first does."""
    nat = math.log(2)
    train = [one("\u20ac5", number=0), one("none", number=1)]
    value = PromptValue("d0", 7 * nat, 7 * nat, 2, 4, (1, 1, 1, 2), (nat, nat, nat, 4 * nat), (nat, nat, nat, 4 * nat))
    (gap,) = knowledge_gaps([value], train).examples
    (span,) = gap.spans
    assert (span.start, span.end, span.kind) == (1, 2, "figure") and span.own_bits == pytest.approx(4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It cost 1,234.50 on 2024-05-07 at 14:30.", ["1,234.50", "2024-05-07", "14:30"]),
        ("See A-4412 and v2.13.0, 3 of them.", ["A-4412", "v2.13.0", "3"]),
        ("Lauda won. Then Lauda met James Hunt, said Hunt's wife.", ["Lauda", "James", "Hunt", "Hunt"]),
        ("- Ask\n- Berlin wrote\n\u201cNobody knows\u201d, said Anna", ["Anna"]),
        ("模型在2024年学会了。", ["2024"]),
    ],
)
def test_figures_and_names_are_found_in_their_places(text: str, expected: list[str]) -> None:
    known = Frequencies([text, text, "won then met said wife see and of them it cost on at ask wrote knows nobody"])
    found = spans(text, known)
    assert [span.text for span in found] == expected
    assert all(text[span.start : span.end] == span.text for span in found)


def test_rare_words_stand_in_one_completion_and_a_word_written_small_is_no_name() -> None:
    texts = ["We oxidise the Order of metal", "The order of the metal", "Ask about metal"]
    found = spans(texts[0], Frequencies(texts))
    assert [(span.text, span.kind) for span in found] == [("oxidise", "rare word")]


def test_the_first_word_is_looked_at_where_it_may_be_the_answer() -> None:
    """A base that would begin another way is surprised by the first word of any text."""
    short, long = "Lauda won.", "Schedule the function in the main thread."
    known = Frequencies([short, long, "the function in the main thread won"])
    assert [span.text for span in spans(short, known)] == ["Lauda"] and spans(long, known) == []


@pytest.mark.parametrize(
    ("completion", "prompt", "expected"),
    [
        ("It is 44", "number 4412", False),
        ("It is 4412", "number A-4412.", True),
        ("It is 4412", "a thousand times 4,412", True),
        ("It was 7", "2024-05-07", True),
        ("It was 07", "7 May", True),
        ("It was 7", "70 of 17", False),
        ("The LAUDA", "niki lauda's car", True),
        ("The Lauda", "niki", False),
        ("It is \uff14\uff14", "number 44", True),
    ],
)
def test_what_stands_in_the_prompt_is_compared_folded(completion: str, prompt: str, expected: bool) -> None:
    (span,) = spans(completion, Frequencies([completion, completion]))
    assert stands_in(span, folded(prompt)) is expected


def test_a_name_that_half_of_the_completions_hold_costs_a_clone_one_bit() -> None:
    """Three signatures are a choice of the expert's that a clone can learn; one of twenty names is not."""

    def flagged(names: Sequence[str]) -> int:
        train = [one(f"I wish you well {n}, said {names[n % len(names)]}", number=n) for n in range(60)]
        values = [characters(d, 9.0, 9.0) for d in train]
        return knowledge_gaps(values, train).kinds["name"]

    assert flagged(["Ann", "Bob", "Cid"]) == 0
    assert flagged([f"Na{chr(97 + n)}" for n in range(20)]) == 60


def test_intervals_are_clustered_by_group_and_bits_are_told_per_byte() -> None:
    draw = random.Random(0)
    train = [planted("half" if n < 20 else "all in the prompt", n, draw) for n in range(40)]
    values = [read(d, draw) for d in train]
    together = [Demonstration(d.prompt, d.completion, id=d.id, group=f"g{n // 20}") for n, d in enumerate(train)]
    apart, clustered = knowledge_gaps(values, train), knowledge_gaps(values, together)
    assert apart.share.value == 0.5 and apart.share.low is not None and clustered.share.low is not None
    assert clustered.share.low < apart.share.low
    per_byte = [(v.other_nats - v.own_nats) / math.log(2) / v.bytes for v in values]
    assert apart.bits.value == pytest.approx(sum(per_byte) / 40)


def test_what_was_compared_with_nothing_is_not_looked_at() -> None:
    train = [one(f"answer {70 + n}", number=n) for n in range(3)]
    first, second = (characters(d, 4.0, 4.0) for d in train[:2])
    stranger = replace(first, id="elsewhere")
    found = knowledge_gaps([first, replace(second, others=0), stranger], train)
    assert (found.looked_at, found.flagged) == (1, 1)
    for values in ([], [stranger], [replace(second, others=0)]):
        with pytest.raises(Absent, match="was not measured"):
            knowledge_gaps(values, train)


def test_values_of_earlier_versions_are_not_judged_by_their_sums() -> None:
    value = PromptValue("d0", 30.0, 20.0, 2, 8)
    with pytest.raises(Absent, match="for completions as a whole only; `sft evaluate` measures it again"):
        knowledge_gaps([value], [one("answer 7"), one("answer 8", number=1)])
