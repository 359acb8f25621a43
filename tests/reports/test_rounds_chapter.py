"""What the chapter on rounds says, of planted rounds: what was shown is said, and nothing more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sft.fidelity.rounds import Anchoring, Corrected, CurvePoint, RoundAsked, Rounds
from sft.metrics.estimate import Estimate
from sft.reports.sections.rounds import advice, curve_sentences, pictures, rounds_chapter, to_text


def about(value: float, half: float, n: int = 200) -> Estimate:
    return Estimate(value, value - half, value + half, 0.95, "planted", n)


def point(number: int, gain: Estimate | None, p: float | None, answers: int = 0) -> CurvePoint:
    return CurvePoint(number, f"r{number}", about(40 + (gain.value if gain else 0), 3), gain, p, answers, answers / 2,
                      None, None, 1)  # fmt: skip


ASKED = RoundAsked(1, 100, 100, 50.0, {"edited": 70, "blind": 30}, {"trained": 100}, about(0.4, 0.1, 70),
                   about(0.38, 0.15, 30), about(0.02, 0.2), about(0.5, 0.1), None)  # fmt: skip


def planted(**changes: object) -> Rounds:
    known = Rounds(
        "chrf", (point(0, None, None), point(1, about(4, 2), 0.001, 100)), (), (ASKED,),
        Anchoring(about(1, 4), 6.0, 70, 30), {}, None, (1, 0), 3.0, 2, {"ada": (100, 50.0)}, about(55, 5), 1, False, (),
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]


def said(rounds: Rounds) -> str:
    return " ".join((*curve_sentences(rounds), *advice(rounds), to_text(rounds)))


def test_a_gain_without_a_control_is_that_of_more_demonstrations() -> None:
    text = said(planted())
    assert "4.0 [2.0, 6.0] chrF points closer to the expert" in text and "more demonstrations" in text
    assert "Correction helps" not in text and "The curve rises: another round" in text


@pytest.mark.parametrize(
    ("helps", "seeds", "says", "never"),
    [
        (about(3, 2), (1, 1), "differ (+3.0", "Correction helps"),
        (about(3, 2), (2, 5), "it takes `--seeds 3`", "Correction helps"),
        (about(3, 2), (3, 3), "Correction helps: +3.0 [+1.0, +5.0] points", "not shown to do better"),
        (about(1, 2), (3, 3), "is not shown to do better", "Correction helps"),
        (about(-3, 2), (3, 3), "Plain answers helped more", "Correction helps"),
    ],
)
def test_that_correcting_helped_takes_a_control_and_three_runs_an_arm(
    helps: Estimate, seeds: tuple[int, int], says: str, never: str
) -> None:
    text = said(planted(helps=helps, helps_seeds=seeds))
    assert says in text and never not in text


def test_a_gain_that_the_test_does_not_bear_out_is_none() -> None:
    text = said(planted(points=(point(0, None, None), point(1, about(2, 3), 0.2, 100))))
    assert "is not told apart from round 0 (+2.0 [" in text and "one of 3.0 is seen four times in five" in text
    corrected = planted(points=(point(0, None, None), point(1, about(4, 2), 0.2, 50), point(2, about(4, 2), 0.01, 100)))
    assert "Before it" not in said(corrected)


def test_anchoring_is_said_where_it_is_shown_and_nowhere_else() -> None:
    assert "It is not shown that the clone's words stand" in said(planted()) and "raise --blind" not in said(planted())
    text = said(planted(anchoring=Anchoring(about(12, 5), 6.0, 70, 30)))
    assert "ended nearer to it than those who wrote blind" in text and "raise --blind" in text
    assert "takes items written blind" in said(planted(anchoring=None))


def test_what_comes_next() -> None:
    flat = (point(0, None, None), point(1, about(0, 2), 0.9, 100))
    happy = replace(ASKED, acceptance=about(0.9, 0.05, 70))
    assert "stop here" in said(planted(points=flat, asked=(happy,)))
    assert "more items a round" in said(planted(points=flat))
    assert "agree on guidelines" in said(planted(agreement=about(20, 5)))
    none = planted(points=flat, helps=about(0, 2), helps_seeds=(3, 3))
    assert "gather plain demonstrations" in said(none) and "gather plain" not in said(replace(none, dialogues=True))


def test_a_worn_out_test_split_and_many_looks_are_said() -> None:
    worn = replace(point(0, None, None), fresh=about(30, 3, 60), gap=about(-10, 4))
    text = said(planted(points=(worn, point(1, about(4, 2), 0.001, 100)), looks=9))
    assert "those are worn out, or the pool is another" in text and "looked at 9 times" in text


def test_both_pictures_are_drawn_and_the_chapter_has_all_its_parts() -> None:
    rounds = planted(plain=(point(1, about(3, 2), 0.01, 100),))
    assert [name for name, _ in pictures(rounds)] == ["rounds", "rounds-minutes"] and not list(pictures(None))
    keys = [part.key for part in rounds_chapter(rounds).parts]
    assert keys == ["rounds", "rounds-minutes", "acceptance", "anchoring", "who-wrote", "rounds-next"]


def test_who_wrote_and_what_became_of_it() -> None:
    """Answers, minutes, agreement, versions of the guidelines; fates and kinds by round; items to read."""
    asked = replace(ASKED, fates={"trained": 95, "withdrawn": 3, "not trained": 5})
    read = Corrected("among the largest edits", "What is a tide?", "A zebra.", "The sea, breathing.", "ada")
    part = rounds_chapter(planted(asked=(asked,), guidelines=2, examples=(read,))).parts[4]
    assert "two wrote blind: 55.0 [50.0, 60.0] chrF. Versions of the guidelines: 2." in part.meanings[0]
    experts, answers = part.grids
    assert [(row.name, row.cells) for row in experts.rows] == [("ada", ("100", "50"))]
    fates = [title for title, _ in answers.columns]
    assert dict(zip(fates[1:], answers.rows[0].cells, strict=True)) == {
        "items": "100", "answers": "100", "trained": "95", "not trained": "5", "withdrawn": "3",
        "how": "70 edited, 30 blind",
    }  # fmt: skip
    (shown,) = part.samples
    assert "among the largest edits: What is a tide?" in str(shown) and "A zebra." in str(shown)
    assert "The sea, breathing." in str(shown)


def test_dialogues_are_judged_on_the_clones_own_path() -> None:
    """Teacher-forced the plain arm is ahead, on the own path the corrected one: the second is what is said."""
    later = replace(point(1, about(-1, 0.5), 0.01, 100), own=about(38, 3), own_gain=about(8, 2), own_p=0.001)
    own = (replace(point(0, None, None), own=about(30, 3)), later)
    rounds = planted(points=own, dialogues=True, helps=about(6, 2), helps_forced=about(-1, 0.5), helps_seeds=(3, 3))
    text = said(rounds)
    assert "8.0 [6.0, 10.0] chrF points closer" in text and "Correction helps: +6.0" in text
    assert "on that path too; teacher-forced it is \u22121.0 [\u22121.5, \u22120.5] points" in text


def test_the_curve_shows_the_best_shortcut_and_another_expert_as_bands() -> None:
    beside = {"R": about(20, 2), "K": about(12, 2), "E": about(60, 3)}
    drawn = dict(pictures(planted(beside=beside)))["rounds"]
    assert "the best shortcut: completion of the nearest training prompt: 20.0, 20.0" in drawn
    assert "another expert: 60.0, 60.0" in drawn and "one constant" not in drawn
    assert drawn.count('class="band') == 3 and dict(pictures(planted()))["rounds"].count('class="band') == 1


def test_texts_that_are_copied_whole_are_said_though_no_mean_moved() -> None:
    """Every tenth draft left as it was moves the mean by less than its noise; nobody writes so blind."""
    copied = planted(anchoring=Anchoring(about(4, 5), 7.0, 140, 60, about(0.1, 0.06)))
    assert "stand letter by letter because they were there: +10.0 %" in said(copied) and "raise --blind" in said(copied)
    right = planted(anchoring=Anchoring(about(4, 5), 7.0, 140, 60, about(0.02, 0.06)))
    assert "letter by letter" not in said(right) and "raise --blind" not in said(right)
