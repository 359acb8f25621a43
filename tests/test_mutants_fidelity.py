"""What a scorecard holds by default, and the red line of copies: an excess that is more than chance."""

from __future__ import annotations

import pytest
from test_fidelity import ASKED, LIKELIER, PERFECT, SHORTCUTS, TRAIN, measured

from sft import fidelity
from sft.observations import Completion, Observations


@pytest.mark.parametrize("profile", ["fast", "standard"])
def test_only_the_full_profile_measures_corpus_figures_and_the_others_say_how(profile: str) -> None:
    card = measured(PERFECT, profile=profile)
    assert not card.corpus and "--full" in card.absent["corpus"]
    assert (card.profile, card.looks, card.split) == (profile, 0, "test")


@pytest.mark.parametrize(("copies", "red"), [(0, False), (1, False), (12, True)])
def test_copies_are_red_where_they_are_more_than_the_experts_own_and_than_chance(copies: int, red: bool) -> None:
    """One copy among 80 may be luck; twelve are not. The limit is what the held-out experts repeat: nothing here."""
    tuned = PERFECT | {
        item.id: Completion(item.id, row.completion, True)
        for item, row in zip(ASKED[:copies], TRAIN[:copies], strict=True)
    }
    seen = Observations(ASKED, {"tuned": tuned, **SHORTCUTS}, LIKELIER, train=TRAIN)
    (guardrail,) = [g for g in fidelity.measure(seen).guardrails if g.name == "verbatim copies"]
    assert (guardrail.value.value, guardrail.limit, guardrail.red) == (pytest.approx(copies / 80), 0.0, red)
