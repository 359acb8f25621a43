"""chrF of many texts among each other is chrF of each pair."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sft.metrics import chrf
from sft.metrics.among import CountedTexts

some_texts = st.lists(st.text(st.sampled_from("ab c\u0301好é\n"), max_size=30), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(texts=some_texts, data=st.data())
def test_it_is_what_chrf_says_of_every_pair(texts: list[str], data: st.DataObject) -> None:
    """Few letters, so that n-grams come again; empty texts, repeated ones and accents typed in two ways among them."""
    places = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=15))
    found = CountedTexts(texts).chrf(places)
    for row, one in zip(found, places, strict=True):
        for value, other in zip(row, places, strict=True):
            assert abs(value - chrf(texts[one], texts[other])) < 1e-8


def test_long_texts_and_other_scripts() -> None:
    texts = ["The cat sat on the mat. " * 40, "the CAT sat on a mat " * 30, "猫坐在垫子上。" * 20, "x"]
    found = CountedTexts(texts).chrf(range(4))
    assert all(abs(found[i, j] - chrf(a, b)) < 1e-8 for i, a in enumerate(texts) for j, b in enumerate(texts))
