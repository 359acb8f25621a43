"""Metrics against the libraries they answer to, and the traps those libraries set."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, tokenize
from sacrebleu.metrics import BLEU, CHRF

from sft import metrics
from sft.metrics.text import plain_words

IDENTICAL = {
    "chinese": "机器学习模型正在模仿专家的写作。",
    "japanese": "これは猫です。カタカナー々",
    "russian": "Съешь ещё этих мягких французских булок",
    "arabic": "السلام عليكم ورحمة الله",
    "hindi": "हिन्दी में लिखा हुआ वाक्य",
    "thai": "สวัสดีครับ",
    "korean": "안녕하세요 세계",
    "emoji": "🎉👩‍👩‍👧 ❤️",
    "one emoji": "😀",
    "code": "def f(x):\n    return {k: v for k, v in x.items()}\n",
    "symbols": "{}",
    "operator": "+",
    "one word": "yes",
    "one letter": "A",
    "number": "3.14",
    "punctuation": "...",
    "decomposed": unicodedata.normalize("NFD", "Ångström café"),
}

TEXTS = st.text(st.characters(min_codepoint=9, max_codepoint=126), max_size=60)
FOREIGN = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize("name", metrics.METRICS)
@pytest.mark.parametrize("text", IDENTICAL.values(), ids=IDENTICAL)
def test_identical_texts_score_100(name: str, text: str) -> None:
    assert metrics.METRICS[name](text, text) == pytest.approx(100, abs=1e-12)


@pytest.mark.parametrize("name", metrics.METRICS)
@pytest.mark.parametrize("text", IDENTICAL.values(), ids=IDENTICAL)
def test_silence_scores_0(name: str, text: str) -> None:
    """A mute model once scored 1.0 where the target was blank; here blank completions cannot exist."""
    assert metrics.METRICS[name]("", text) == 0
    assert metrics.METRICS[name](" \n", text) == pytest.approx(0, abs=20 if name == "edit_similarity" else 0)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_an_accent_is_one_letter_however_typed(name: str) -> None:
    composed = "café Ångström Việt"
    assert metrics.METRICS[name](unicodedata.normalize("NFD", composed), composed) == pytest.approx(100)


@settings(max_examples=200, deadline=None)
@given(FOREIGN, FOREIGN, st.sampled_from([1, 2, 3]))
def test_chrf_is_sacrebleus(prediction: str, reference: str, beta: int) -> None:
    prediction, reference = unicodedata.normalize("NFC", prediction), unicodedata.normalize("NFC", reference)
    outside = CHRF(char_order=6, word_order=0, beta=beta).sentence_score(prediction, [reference]).score
    assert metrics.chrf(prediction, reference, beta) == pytest.approx(outside, abs=1e-9)


def test_chrf_of_real_sentences_is_sacrebleus() -> None:
    prediction = "The Eagle is a cheap coffee shop near Burger King, with an average rating."
    reference = "The Eagle is a low rated coffee shop near Burger King and the riverside."
    assert metrics.chrf2(prediction, reference) == pytest.approx(
        CHRF().sentence_score(prediction, [reference]).score, abs=1e-9
    )
    assert metrics.chrf(prediction, reference) == pytest.approx(
        CHRF(beta=1).sentence_score(prediction, [reference]).score, abs=1e-9
    )


def test_one_letter_scores_by_effective_order_not_by_epsilon() -> None:
    """With epsilon smoothing an identical one-letter answer would get a sixth of the points."""
    assert metrics.chrf("A", "A") == 100
    assert CHRF(eps_smoothing=True).sentence_score("A", ["A"]).score < 20


def test_beta_1_does_not_pay_the_rambler() -> None:
    """chrF2 prefers an essay with the gloss somewhere in it to a gloss of the right kind; chrF1 does not."""
    gloss = "a small bird that eats seeds"
    rambler = (
        "In this entry we look at the word finch, which names a small bird. Finches are birds that eat seeds, "
        "and there are many kinds of them all over the world, in many colours and sizes."
    )
    clone = "a small songbird with a short bill"
    assert metrics.chrf2(rambler, gloss) > metrics.chrf2(clone, gloss)
    assert metrics.chrf(rambler, gloss) < metrics.chrf(clone, gloss)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_rouge_l_is_rouge_scores_on_ascii(prediction: str, reference: str) -> None:
    if not tokenize.tokenize(reference, None):
        return  # no words for rouge-score: it gives 0 to identical texts, see below
    outside = rouge_scorer.RougeScorer(["rougeL"]).score(reference, prediction)["rougeL"].fmeasure
    assert metrics.rouge_l(prediction, reference) == pytest.approx(100 * outside, abs=1e-10)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_ascii_words_are_rouge_scores_tokens(text: str) -> None:
    assert list(metrics.words(text)) == tokenize.tokenize(text, None)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_ascii_words_do_not_change_among_foreign_letters(text: str) -> None:
    """One curly quote or accent must not switch an English text to other rules."""
    assert metrics.words(text + " é")[:-1] == metrics.words(text)


def test_rouge_score_is_blind_outside_ascii() -> None:
    chinese = IDENTICAL["chinese"]
    assert rouge_scorer.RougeScorer(["rougeL"]).score(chinese, chinese)["rougeL"].fmeasure == 0
    assert metrics.rouge_l(chinese, chinese) == 100
    assert 0 < metrics.rouge_l("机器学习模仿", "机器写作模仿") < 100


def test_words_of_scripts() -> None:
    assert metrics.words("Don’t stop — naïve café!") == ("don", "t", "stop", "naïve", "café")
    assert metrics.words("हिन्दी") == ("हिन्दी",)  # vowel signs and viramas stay in the word
    assert metrics.words("GPT在2024年") == ("gpt", "在", "2024", "年")
    assert metrics.words("好🎉🎉") == ("好", "🎉", "🎉")


def test_three_point_one_four_is_not_three_fourteen() -> None:
    """Dots vanish in rouge-score, so ROUGE-L cannot tell 3.14 from 3 14; the marking metrics can."""
    assert metrics.rouge_l("3.14", "3 14") == 100
    assert metrics.token_f1("3.14", "3 14") == 0
    assert metrics.exact_match_normalised("3.14", "314") == 0
    assert metrics.exact_match_normalised("-5", "5") == 0


def test_rouge_l_is_not_lsum() -> None:
    reference, prediction = "one two\nthree four", "three four\none two"
    scores = rouge_scorer.RougeScorer(["rougeL", "rougeLsum"]).score(reference, prediction)
    assert metrics.rouge_l(prediction, reference) == pytest.approx(100 * scores["rougeL"].fmeasure)
    assert scores["rougeLsum"].fmeasure > scores["rougeL"].fmeasure


def test_corpus_bleu_traps() -> None:
    """Why no corpus BLEU stands in the table without care: two ways to give 0 to an identical answer."""
    assert BLEU().corpus_score(["yes"], [["yes"]]).score == 0
    assert BLEU(effective_order=True).sentence_score("yes", ["yes"]).score == pytest.approx(100)
    chinese = "机器学习模型"
    assert BLEU(tokenize="13a").corpus_score([chinese], [[chinese]]).score == 0
    assert BLEU(tokenize="zh").corpus_score([chinese], [[chinese]]).score == pytest.approx(100)


def test_exact_match_and_its_lenient_sister() -> None:
    assert metrics.exact_match("Paris\n", "Paris") == 100
    assert metrics.exact_match("paris", "Paris") == 0
    assert metrics.exact_match_normalised("  “paris”, ", "Paris.") == 100
    assert metrics.exact_match_normalised("STRASSE", "Straße") == 100
    assert metrics.exact_match_normalised("the answer", "answer") == 0
    # SQuAD's normalisation drops the article and so the answer.
    assert metrics.exact_match_normalised("B", "A") == 0 and plain_words("A") == ("a",)
    assert metrics.exact_match_normalised("+", "-") == 0


def test_token_f1_by_hand() -> None:
    assert metrics.token_f1("the cat sat", "The cat, sat down") == pytest.approx(100 * 2 * 3 / 7)
    assert metrics.token_f1("cat cat cat", "cat") == pytest.approx(50)
    assert metrics.token_f1("模型学习", "模型模仿") == pytest.approx(50)


def test_edit_similarity_by_hand() -> None:
    assert metrics.edit_similarity("kitten", "sitting") == pytest.approx(100 * (1 - 3 / 7))


@settings(max_examples=150, deadline=None)
@given(FOREIGN, FOREIGN.filter(lambda text: bool(text.strip())))
def test_every_score_is_between_0_and_100(prediction: str, reference: str) -> None:
    scores = metrics.score(prediction, reference)
    assert set(scores) == set(metrics.METRICS)
    assert all(0 <= value <= 100 + 1e-9 for value in scores.values())


@settings(max_examples=100, deadline=None)
@given(FOREIGN.filter(lambda text: bool(text.strip())))
def test_every_text_is_itself(text: str) -> None:
    scores = metrics.score(text, text)
    assert {name for name, value in scores.items() if value < 100 - 1e-9} == set()


def test_signatures_cover_every_metric() -> None:
    assert set(metrics.signatures()) == set(metrics.METRICS)


def test_speed() -> None:
    """10,000 prompts of one system in about ten seconds; measured on 500 of them, with room to spare."""
    pairs = [
        (f"The {i} Eagle is a cheap coffee shop near Burger King, rated {i % 5} of 5.", f"Near {i} the Eagle " * 4)
        for i in range(500)
    ]
    begin = time.perf_counter()
    for prediction, reference in pairs:
        metrics.score(prediction, reference)
    assert (time.perf_counter() - begin) * 20 < 20


def test_every_metric_has_a_module_and_no_other() -> None:
    folders = {path.name for path in Path(metrics.__file__).parent.glob("sft_*")}
    assert folders == {f"sft_{name}" for name in metrics.METRICS}
    assert all((metrics.module_path(name) / f"sft_{name}.py").is_file() for name in metrics.METRICS)
    with pytest.raises(KeyError):
        metrics.module_path("rouge")


@pytest.mark.engine
def test_modules_load_offline_and_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate.load("rouge")` needs the network; these do not."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    predictions, references = ["a small bird", "机器学习"], ["a bird", "机器写作"]
    for name in metrics.METRICS:
        module = evaluate.load(str(metrics.module_path(name)), cache_dir=str(tmp_path))
        found = module.compute(predictions=predictions, references=references)
        expected = [metrics.METRICS[name](p, r) for p, r in zip(predictions, references, strict=True)]
        assert found["scores"] == expected
        assert found[name] == pytest.approx(sum(expected) / 2)
        several = module.compute(predictions=["yes"], references=[["yes", "no"]])
        function = metrics.METRICS[name]
        assert several[name] == pytest.approx((function("yes", "yes") + function("yes", "no")) / 2)
