"""Corpus BLEU and chrF++ are sacreBLEU's own numbers, in every script, with any number of references."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from sft.demonstrations.demonstration import HeldOut, Message
from sft.fidelity.probes import Absent
from sft.fidelity.probes.corpus import bleu, chrf_pp, corpus, tokenizer
from sft.metrics import nfc
from sft.runs.records import Completion

ENGLISH = ["the cat sat on the mat", "a cat is on the mat .", "there is a cat; it costs 3.50!", "no", "It's low-cost."]
RUSSIAN = ["кошка сидит на коврике", "на коврике сидит кошка", "ёлка и ёж", "да", "здесь живёт кот."]
CHINESE = ["猫坐在垫子上。", "垫子上有一只猫", "这里有3只猫", "好", "猫在睡觉，狗在跑"]
JAPANESE = ["猫がマットの上に座った。", "マットの上に猫がいる", "ねこです", "はい", "犬は走っている"]
THAI = ["แมวนั่งบนเสื่อ", "มีแมวอยู่บนเสื่อ", "แมวตัวนี้", "ใช่", "สุนัขกำลังวิ่ง"]
ARABIC = ["القط على الحصيرة", "على الحصيرة قط", "نعم", "القط نائم الآن", "هنا قط واحد"]
EMOJI = ["🙂🙃 ok", "🙂", "👍🏽 👍🏽", "🎉 party 🎉", "e\u0301clair"]
SCRIPTS = {
    "english": (ENGLISH, "13a"),
    "russian": (RUSSIAN, "13a"),
    "chinese": (CHINESE, "zh"),
    "japanese": (JAPANESE, "char"),
    "thai": (THAI, "char"),
    "arabic": (ARABIC, "13a"),
    "emoji": (EMOJI, "13a"),
}


def asked(references: Sequence[Sequence[str]], cluster: int = 1) -> list[HeldOut]:
    return [
        HeldOut(f"h{i}", (Message("user", f"question {i}"),), tuple(texts), ("",) * len(texts), f"c{i // cluster}")
        for i, texts in enumerate(references)
    ]


def written(texts: Sequence[str]) -> dict[str, Completion]:
    return {f"h{i}": Completion(f"h{i}", text, True) for i, text in enumerate(texts)}


def outside(texts: Sequence[str], references: Sequence[Sequence[str]], tokenize: str) -> tuple[float, float]:
    """BLEU and chrF++ as ``corpus_score`` gives them; prompts with fewer references are padded with None."""
    texts = [nfc(text) for text in texts]
    padded = list(zip_longest(*[[nfc(text) for text in each] for each in references]))
    scores = BLEU(tokenize=tokenize, effective_order=True).corpus_score(texts, padded)
    return scores.score, CHRF(word_order=2).corpus_score(texts, padded).score


@pytest.mark.parametrize("script", SCRIPTS)
def test_figures_are_sacrebleus_corpus_scores_in_every_script(script: str) -> None:
    texts, tokenize = SCRIPTS[script]
    references = [[texts[i], texts[(i + 1) % 5], *([texts[(i + 2) % 5]] if i % 2 else [])] for i in range(5)]
    answers = [texts[(i + 3) % 5] if i % 2 else texts[i] + " " + texts[(i + 4) % 5] for i in range(5)]
    found, signatures = corpus(asked(references), {"tuned": written(answers)}, seed=0)
    expected = outside(answers, references, tokenize)
    ours = (found["tuned"]["bleu"].value, found["tuned"]["chrf_pp"].value)
    assert ours == pytest.approx(expected, abs=1e-9)
    assert 0 < ours[0] < 100
    assert f"tok:{tokenize}" in signatures["bleu"] and "nrefs:var" in signatures["bleu"]
    assert "nw:2" in signatures["chrf_pp"] and signatures["chrf_pp"].endswith("norm:NFC")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "c.", "d", "d"]), max_size=7).map(" ".join),
            st.lists(
                st.lists(st.sampled_from(["a", "b", "c.", "d"]), min_size=1, max_size=7).map(" ".join),
                min_size=1,
                max_size=3,
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_figures_are_sacrebleus_for_any_texts(rows: list[tuple[str, list[str]]]) -> None:
    """Empty answers, answers without a match and answers shorter than four words among them."""
    answers, references = [answer for answer, _ in rows], [texts for _, texts in rows]
    found, _ = corpus(asked(references), {"tuned": written(answers)}, seed=0)
    ours = (found["tuned"]["bleu"].value, found["tuned"]["chrf_pp"].value)
    assert ours == pytest.approx(outside(answers, references, "13a"), abs=1e-9)


def test_on_longer_texts_effective_order_changes_nothing() -> None:
    """So the figures stand beside published ones, which are computed without it."""
    answers, references = ENGLISH, [[text, other] for text, other in zip(ENGLISH, reversed(ENGLISH), strict=True)]
    found, _ = corpus(asked(references), {"B0": written(answers[::-1])}, seed=0)
    usual = BLEU().corpus_score(answers[::-1], list(zip(*references, strict=True)))
    assert found["B0"]["bleu"].value == pytest.approx(usual.score, abs=1e-9)


@pytest.mark.parametrize("script", SCRIPTS)
def test_identical_texts_score_100(script: str) -> None:
    texts, _ = SCRIPTS[script]
    found, _ = corpus(asked([[text] for text in texts]), {"R": written(texts)}, seed=0)
    assert [estimate.value for estimate in found["R"].values()] == pytest.approx([100, 100])


def test_an_identical_one_word_answer_scores_100() -> None:
    """Without effective order BLEU gives it 0."""
    found, _ = corpus(asked([["yes"], ["no"]]), {"tuned": written(["yes", "no"])}, seed=0)
    assert [estimate.value for estimate in found["tuned"].values()] == pytest.approx([100, 100])


def test_another_expert_is_each_reference_against_the_others() -> None:
    """With equally many references each, it is ``corpus_score`` of all of them, each against the others."""
    references = [
        ["the cat sat on the mat", "so the cat sat on the mat", "the cat sat on it"],
        ["there are no dogs here", "no dogs are here", "there are no dogs here at all"],
    ]
    found, _ = corpus(asked(references), {"tuned": written(["x", "y"])}, seed=0)
    turns = [(each, [o for o in texts if o != each]) for texts in references for each in texts]
    expected = outside([each for each, _ in turns], [others for _, others in turns], "13a")
    assert (found["E"]["bleu"].value, found["E"]["chrf_pp"].value) == pytest.approx(expected, abs=1e-9)
    assert found["E"]["bleu"].n == 2


def test_another_expert_and_the_clone_meet_the_same_references_when_each_leaves_one_out() -> None:
    """A clone that draws from the experts at random is one: the two figures agree, where the usual one is higher."""
    generator = random.Random(0)
    phrases = [f"{a} {b}" for a in ("red", "blue", "old", "new") for b in ("cat", "dog", "house", "boat")]
    draw = lambda: " ".join(generator.sample(phrases, 4))  # noqa: E731
    references = [[draw() for _ in range(3)] for _ in range(400)]
    found, _ = corpus(asked(references), {"tuned": written([draw() for _ in references])}, seed=0)
    for name in ("bleu", "chrf_pp"):
        expert, fair, usual = found["E"][name], found["tuned"][name + "_one_out"], found["tuned"][name]
        assert fair.low is not None and fair.high is not None
        assert fair.low < expert.value < fair.high < usual.value


def test_one_reference_each_gives_no_other_expert() -> None:
    found, _ = corpus(asked([["a b"], ["c d"]]), {"tuned": written(["a b", "c"])}, seed=0)
    assert set(found) == {"tuned"} and set(found["tuned"]) == {"bleu", "chrf_pp"}


def test_prompts_without_a_completion_are_left_out() -> None:
    references = [[text] for text in ENGLISH]
    answers = written(ENGLISH[1:] + ENGLISH[:1])
    del answers["h2"]
    found, _ = corpus(asked(references), {"tuned": answers, "P": {}}, seed=0)
    kept = [0, 1, 3, 4]
    expected = outside([answers[f"h{i}"].text for i in kept], [references[i] for i in kept], "13a")
    ours = (found["tuned"]["bleu"].value, found["tuned"]["chrf_pp"].value)
    assert ours == pytest.approx(expected, abs=1e-9)
    assert found["tuned"]["bleu"].n == 4 and "P" not in found


def test_nothing_written_is_nothing_to_measure() -> None:
    with pytest.raises(Absent, match="no system wrote anything"):
        corpus(asked([["a"]]), {"tuned": {}}, seed=0)


def test_the_interval_follows_the_clusters_and_the_seed() -> None:
    """Each prompt four times over tells no more than once: the interval must not narrow."""
    texts = [" ".join(random.Random(i).choices("abc", k=7)) for i in range(60)]
    answers = [" ".join(random.Random(-i - 1).choices("abc", k=7)) for i in range(60)]
    once, _ = corpus(asked([[t] for t in texts]), {"tuned": written(answers)}, seed=1)
    again, _ = corpus(asked([[t] for t in texts]), {"tuned": written(answers)}, seed=1)
    repeated = [t for t in texts for _ in range(4)], [a for a in answers for _ in range(4)]
    fourfold, _ = corpus(asked([[t] for t in repeated[0]], 4), {"tuned": written(repeated[1])}, seed=1)
    assert once == again
    for name in ("bleu", "chrf_pp"):
        one, four = once["tuned"][name], fourfold["tuned"][name]
        assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=1e-9)
        assert one.low is not None and one.high is not None and one.low < one.value < one.high


def test_the_tokenizer_goes_by_most_letters() -> None:
    assert tokenizer(["hello 你好"]) == "13a"
    assert tokenizer(["你好世界 ok"]) == "zh"
    assert tokenizer(["안녕하세요 세계"]) == "13a"  # Korean has spaces
    assert tokenizer(["東京へ行く"]) == "char"
    assert tokenizer(["42", "{}"]) == "13a"


def test_no_match_at_all_is_0() -> None:
    assert bleu(np.array([[3.0, 3, 0, 0, 0, 0, 3, 2, 1, 0]])) == pytest.approx([0])
    assert chrf_pp(np.zeros((1, 24))) == pytest.approx([0])
