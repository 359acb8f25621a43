"""The sentences of a report claim what the figures show: rising, falling, undecided, and nothing where nothing is."""

from __future__ import annotations

import pytest

from sft.demonstrations.conflicts import Conflicts
from sft.fidelity.findings import (
    BesideBase,
    Calibration,
    CalibrationBin,
    Closure,
    ExpertScore,
    Forgetting,
    KnowledgeGaps,
    Memorisation,
    PrefixPoint,
    Stratum,
    SurvivalPoint,
    Underachieving,
)
from sft.metrics.estimate import Estimate
from sft.reports.sections.calibration import on_path_sentence, own_words_sentence
from sft.reports.sections.corpus import corpus_sentence
from sft.reports.sections.expert_path import excess_sentence, prefix_sentence, survival_sentence
from sft.reports.sections.experts import closure_sentence, conflicts_sentence, experts_sentence
from sft.reports.sections.forgetting import forgetting_sentence
from sft.reports.sections.impostors import impostor_sentence
from sft.reports.sections.knowledge_gaps import gaps_sentence
from sft.reports.sections.manner import lengths_sentence, manner_sentence, self_agreement_sentence
from sft.reports.sections.memorisation import memorisation_sentence
from sft.reports.sections.parts import apart, side
from sft.reports.sections.strata import strata_sentence
from sft.reports.sections.underachieving import underachieving_sentence

MINUS = "\N{MINUS SIGN}"


def est(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, low, high, 0.95, "t", 100)


@pytest.mark.parametrize(
    ("interval", "way"), [((1, 3), 1), ((-3, -1), -1), ((-1, 1), 0), ((0, 1), 0), ((-1, 0), 0), ((None, None), 0)]
)
def test_an_interval_that_touches_zero_points_nowhere(interval: tuple[float | None, float | None], way: int) -> None:
    assert side(est(0.5, *interval)) == way


def test_intervals_are_apart_only_if_they_do_not_overlap() -> None:
    assert apart(est(5, 4, 6), est(2, 1, 3)) == 1
    assert apart(est(2, 1, 3), est(5, 4, 6)) == -1
    assert apart(est(2, 1, 4), est(5, 4, 6)) == 0
    assert apart(est(9), est(5, 4, 6)) == apart(None, est(5, 4, 6)) == 0


# Another expert


def closed(finding: str, surplus: Estimate, share: Estimate) -> Closure:
    return Closure("B3", 0.8, surplus, share, est(50, 48, 52), est(60, 58, 62), 0.01, finding)


def test_the_way_to_another_expert_is_told_as_it_was_found() -> None:
    gone = closure_sentence(closed("not cloned", est(-4, -6, -2), est(0.47, 0.25, 0.69)), "chrF")
    assert gone.startswith("The clone has gone 47 % [25, 69] of the way from the best shortcut (base model, three dem")
    assert gone.endswith("4.0 [2.0, 6.0] chrF points are missing to the 80 % that count as cloned.")
    there = closure_sentence(closed("cloned", est(2, 1, 3), est(0.95, 0.9, 1.0)), "chrF")
    assert there.endswith("it is shown to be past the 80 % that count as cloned.")
    unsure = closure_sentence(closed("undecided", est(-1, -3, 1), est(0.7, 0.5, 0.9)), "chrF")
    assert f"these prompts cannot tell ({MINUS}1.0 [{MINUS}3.0, +1.0] chrF points from there)" in unsure
    assert "shown" not in unsure


@pytest.mark.parametrize(
    ("finding", "end"),
    [
        ("cloned", "but it is shown to be past 80 % of it."),
        ("not cloned", "but it is shown not to have reached 80 % of it."),
        ("undecided", "nor is it decided whether 80 % is reached."),
    ],
)
def test_a_share_that_no_interval_bounds_can_still_be_decided(finding: str, end: str) -> None:
    sentence = closure_sentence(closed(finding, est(-4, -6, -2), est(0.47)), "chrF")
    assert "cannot be bounded" in sentence
    assert "47" not in sentence
    assert sentence.endswith(end)


def rival(name: str, lead: Estimate, p_value: float) -> ExpertScore:
    return ExpertScore(name, False, est(40, 38, 42), None, lead, p_value)


def test_whose_clone_it_is_hangs_on_the_nearest_other_expert() -> None:
    own = ExpertScore("Ann", True, est(50, 48, 52), est(55, 53, 57), None, None)
    far, near = rival("Bob", est(9, 7, 11), 0.001), rival("Cid", est(3, 1, 5), 0.01)
    sentence = experts_sentence([own, far, near], "chrF")
    assert sentence.startswith("It is closer to Ann, whom it was fitted to, than to each of the 2 others")
    assert "clone of" not in sentence, "anybody may be closer to Ann, whose texts may be the plainer ones"
    assert "each of the 2 others, by 3.0 [1.0, 5.0] chrF points or more (the nearest is Cid)" in sentence
    assert experts_sentence([own, near], "chrF").endswith("than to Cid, by 3.0 [1.0, 5.0] chrF points.")
    unsure = experts_sentence([own, far, rival("Cid", est(1, -1, 3), 0.2)], "chrF")
    assert "than to 1 of 2 other experts; from Cid it is not clearly told apart" in unsure
    nearer = experts_sentence([own, far, rival("Cid", est(-3, -5, -1), 1.0)], "chrF")
    assert nearer == "It is closer to Cid than to Ann, whom it was fitted to, by 3.0 [1.0, 5.0] chrF points."
    by_luck = experts_sentence([own, rival("Cid", est(3, 1, 5), 0.09)], "chrF")
    assert "not clearly told apart" in by_luck, "Holm's p counts, not the interval alone"


def test_a_clone_of_several_experts_is_not_told_whose_it_is() -> None:
    own = [ExpertScore(name, True, est(v, v - 2, v + 2), None, None, None) for name, v in (("Ann", 50), ("Bob", 40))]
    sentence = experts_sentence(own, "chrF")
    assert "closest to Ann (50.0 [48.0, 52.0] chrF points), furthest from Bob" in sentence
    assert sentence.endswith("their intervals do not overlap.")
    assert experts_sentence(own[:1], "chrF") == experts_sentence([], "chrF") == ""


def test_conflicts_say_how_many_and_what_was_done() -> None:
    assert conflicts_sentence(Conflicts(1000, 0, None, "keep"), "chrF") == (
        "None of the 1\u202f000 training prompts was answered in two ways."
    )
    kept = conflicts_sentence(Conflicts(200, 50, est(45, 40, 50), "keep"), "chrF")
    assert "50 of 200 training prompts (25 %)" in kept
    assert "share 45.0 [40.0, 50.0] chrF points" in kept
    assert kept.endswith("; all of them were kept."), "what the clone made of them, no figure shows"
    assert "most agree with" in conflicts_sentence(Conflicts(200, 50, None, "majority"), "chrF")
    assert conflicts_sentence(Conflicts(200, 50, None, "Ann"), "chrF").endswith("those of Ann were kept.")


def test_the_weakest_part_is_named_and_luck_is_called_luck() -> None:
    def part(label: str, score: float, gain: Estimate) -> Stratum:
        return Stratum("length", label, 30, est(score, score - 3, score + 3), gain, None)

    parts = [part("short", 55, est(5, 1, 9)), part("long", 40, est(1, -1, 3))]
    sentence = strata_sentence(parts, "chrF")
    assert "Its score is lowest in the part \u201clong\u201d (length): 40.0 [37.0, 43.0] chrF points" in sentence
    assert "weak" not in sentence.replace("for a perfect clone as well", "")
    assert "the two intervals do not overlap" in sentence
    assert sentence.endswith("In 1 of 2 parts no gain over the best shortcut is shown.")
    assert "may be chance" in strata_sentence([part("a", 50, est(5, 1, 9)), part("b", 51, est(5, 1, 9))], "chrF")
    assert strata_sentence(parts[:1], "chrF") == ""


# Along the path


def steps(*shares: float) -> list[SurvivalPoint]:
    return [SurvivalPoint(t, s, max(s - 0.1, 0), min(s + 0.1, 1)) for t, s in enumerate(shares, 1)]


def test_survival_tells_the_median_with_its_interval() -> None:
    curves = {"tuned": steps(0.9, 0.7, 0.55, 0.48, 0.3), "B0": steps(0.5, 0.1)}
    assert survival_sentence(curves) == (
        "Half of the completions have left the expert's path after 4 tokens [3, 5]; half of the base model's have left "
        "it after 1 token [1, 2]."
    )
    assert "[3, no bound]" in survival_sentence({"tuned": steps(0.9, 0.7, 0.55, 0.48)})


def test_a_median_that_is_not_reached_is_not_made_up() -> None:
    assert survival_sentence({"tuned": steps(0.9, 0.8), "B0": steps(0.9, 0.7, 0.6)}) == (
        "After 2 tokens 80 % [70, 90] are still on the expert's path, as far as there is to follow; of the base "
        "model's, after 3 tokens 60 % [50, 70] are."
    )
    assert survival_sentence({"tuned": steps(0.9, 0.8)}).endswith("as far as there is to follow.")
    assert survival_sentence({"B0": steps(0.5)}) == survival_sentence({}) == ""


def curve(*points: tuple[float, float], **parts: list[Estimate | None]) -> tuple[PrefixPoint, ...]:
    none: list[Estimate | None] = [None] * len(points)
    excess, regained = parts.get("excess", none), parts.get("regained", none)
    rows = zip(points, excess, regained, strict=True)
    return tuple(PrefixPoint(share, est(v, v - 2, v + 2), lag, back) for (share, v), lag, back in rows)


@pytest.mark.parametrize(
    ("regained", "says"),
    [
        (est(6.1, 4, 8.2), "goes on 6.1 [4.0, 8.2] chrF points closer to the expert than after its own beginning"),
        (est(-6.1, -8.2, -4), "goes on 6.1 [4.0, 8.2] chrF points further from the expert than after its own"),
        (est(0.5, -2, 3), "goes on no clearly closer than after its own beginning (+0.5"),
    ],
)
def test_being_put_on_the_path_helps_harms_or_is_undecided(regained: Estimate, says: str) -> None:
    led = curve((0, 45), (0.25, 50), (0.5, 51), (0.75, 40), regained=[None, est(99), regained, est(99)])
    sentence = prefix_sentence({"tuned": led, "own": curve((0, 45), (0.25, 44), (0.5, 43), (0.75, 40))}, "chrF")
    assert sentence.startswith("Given 50 % of the expert's text, the clone ")
    assert says in sentence
    assert "51.0 [49.0, 53.0] against 43.0 [41.0, 45.0]" in sentence
    assert "cost" not in sentence and "does not know" not in sentence
    assert ("a perfect clone gains by that too" in sentence) == (regained.low is not None and regained.low > 0)


def test_without_a_forced_point_nothing_is_said_of_it() -> None:
    assert prefix_sentence({"tuned": curve((0, 45))}, "chrF") == prefix_sentence({}, "chrF") == ""


def test_the_excess_is_told_of_the_whole_text_and_no_growth_of_it() -> None:
    """It shrinks with what is left of a text, so "makes up points, so no errors add up" was said of planted errors
    that rise along the text."""
    for last in (est(0.1, -1, 1), est(-5, -7, -3), est(12, 10, 14)):
        own = curve((0, 45), (0.75, 52), excess=[est(6.1, 4, 8), last])
        assert excess_sentence({"own": own}, "chrF") == (
            "Over the whole text another expert is 6.1 [4.0, 8.0] chrF points closer to the expert than the clone."
        )
    nearer = curve((0, 45), excess=[est(-6.1, -8, -4)])
    assert "6.1 [4.0, 8.0] chrF points further from the expert" in excess_sentence({"own": nearer}, "chrF")
    unsure = curve((0, 45), excess=[est(-0.9, -3, 1)])
    assert "not shown to be closer or further" in excess_sentence({"own": unsure}, "chrF")


def test_without_a_second_expert_nothing_is_said_of_excess() -> None:
    assert excess_sentence({"own": curve((0, 45), (0.75, 52))}, "chrF") == excess_sentence({}, "chrF") == ""


def calibrated(over: Estimate) -> Calibration:
    one = CalibrationBin(0.6, 0.5, 0.4, 0.6, 100)
    return Calibration((one,), est(0.1, 0.05, 0.15), est(0.62, 0.6, 0.64), est(0.58, 0.5, 0.6), over)


def test_confidence_is_compared_with_accuracy() -> None:
    sure, unsure = calibrated(est(0.04, 0.021, 0.059)), calibrated(est(0.007, -0.01, 0.025))
    sentence = on_path_sentence(sure, unsure)
    assert "62.0 % sure and 58.0 % right on average, overconfident by 4.0 [2.1, 5.9] percentage points" in sentence
    assert sentence.endswith(f"no clear difference (+0.7 [{MINUS}1.0, +2.5] percentage points).")
    assert "by 4.0 [2.1, 5.9]" in on_path_sentence(calibrated(est(-0.04, -0.059, -0.021)), None)
    modest = on_path_sentence(calibrated(est(-0.04, -0.059, -0.021)), None)
    assert "more often right than it is sure" in modest
    assert on_path_sentence(None, sure) == own_words_sentence(None) == ""


@pytest.mark.parametrize("over", [est(0.37, 0.3, 0.44), est(0.0, -0.02, 0.02), est(-0.2, -0.3, -0.1)])
def test_the_clones_own_words_are_counted_and_not_judged(over: Estimate) -> None:
    """On its own path another good answer counts as wrong: a calibrated clone read as overconfident there."""
    sentence = own_words_sentence(calibrated(over))
    assert "58.0 % [50.0, 60.0] are the expert's, in the same order" in sentence
    assert not any(word in sentence for word in ("confiden", "sure", "37"))


# The manner


def test_the_impostor_test_is_read_with_its_control() -> None:
    chance, told = est(0.52, 0.46, 0.58), est(0.71, 0.65, 0.77)
    sentence = impostor_sentence({"sampled": told, "experts": chance})
    assert "tells the clone's samples from the expert's: AUC 0.71 [0.65, 0.77]" in sentence
    assert sentence.endswith("it is not shown to tell one expert from another (0.52 [0.46, 0.58]).")
    assert "it proves little" in impostor_sentence({"sampled": told, "experts": told})
    assert "not shown to tell the clone's samples" in impostor_sentence({"sampled": chance, "experts": chance})
    assert "may do better than 0.60" in impostor_sentence({"sampled": est(0.53, 0.44, 0.62)})
    assert "hardly tells" in impostor_sentence({"sampled": est(0.55, 0.51, 0.59)})
    assert "where they are greedy they are blander than any person's" in impostor_sentence({"greedy": told})
    assert impostor_sentence({"greedy": told}).endswith("would tell two experts apart is not known.")
    assert impostor_sentence({"base": told}) == impostor_sentence({}) == ""


def test_habits_differ_only_where_intervals_do_not_overlap() -> None:
    expert = {"rep_4": est(0.01, 0.005, 0.015), "distinct_2": est(0.5, 0.45, 0.55), "length_spread": est(1.0)}
    same = {"tuned": expert | {"length_spread": est(0.9, 0.7, 1.1)}, "expert": expert}
    none = "In none of these habits are the clone's completions shown to differ from the expert's."
    assert manner_sentence(same) == none
    loud = {"rep_4": est(0.05, 0.03, 0.07), "distinct_2": est(0.3, 0.2, 0.4), "length_spread": est(0.5, 0.4, 0.6)}
    sentence = manner_sentence({"tuned": loud, "expert": expert})
    assert "they repeat themselves more (5.0 % [3.0, 7.0] against 1.0 % [0.5, 1.5])" in sentence
    assert "their word pairs are less varied" in sentence
    assert "their lengths vary less (0.50 [0.40, 0.60] against 1)" in sentence
    assert sentence.endswith("makes the texts of a perfect clone more alike, too."), "greedy decoding is not the clone"
    assert manner_sentence({"tuned": loud}) != "", "the spread needs no second figure"
    assert manner_sentence({}) == ""


def test_length_and_agreement_say_which_way() -> None:
    assert "no clear difference in length" in lengths_sentence(est(0.97, 0.92, 1.02))
    assert "shorter than the expert's" in lengths_sentence(est(0.8, 0.7, 0.9))
    assert "longer than the expert's" in lengths_sentence(est(1.3, 1.2, 1.4))
    assert lengths_sentence(None) == ""
    both = {"tuned": est(60, 58, 62), "experts": est(45, 43, 47)}
    assert "more alike than experts' answers, by 15.0" in self_agreement_sentence(
        both | {"difference": est(15, 12, 18)}, "chrF"
    )
    assert "less alike than experts' answers" in self_agreement_sentence(
        both | {"difference": est(-15, -18, -12)}, "chrF"
    )
    assert "no clear difference" in self_agreement_sentence(both | {"difference": est(1, -2, 4)}, "chrF")
    assert "is not known" in self_agreement_sentence({"tuned": est(60, 58, 62)}, "chrF")
    assert self_agreement_sentence({}, "chrF") == ""


def test_corpus_figures_are_compared_at_equal_references() -> None:
    tuned = {"bleu": est(42, 40, 44), "chrf_pp": est(53, 50, 56)}
    assert corpus_sentence({"tuned": tuned}).endswith("chrF++ 53.0 [50.0, 56.0].")
    one_out = {"bleu_one_out": est(39, 37, 41), "chrf_pp_one_out": est(51, 48, 54)}
    sentence = corpus_sentence({"tuned": tuned | one_out, "E": {"bleu": est(44, 42, 46), "chrf_pp": est(57, 54, 60)}})
    assert "BLEU is 39.0 [37.0, 41.0] against 44.0 [42.0, 46.0]" in sentence
    assert corpus_sentence({}) == ""


# The limits


def test_gaps_say_how_many_or_that_there_is_none() -> None:
    counts = {"figure": 0, "name": 0, "rare word": 0}
    none = gaps_sentence(KnowledgeGaps(400, 0, est(0, 0, 0.01), est(0.34, 0.3, 0.38), (), counts))
    assert none.startswith("In none of the 400 training completions looked at (0.0 % [0.0, 1.0]) was a figure, a name")
    counts = {"figure": 50, "name": 1, "rare word": 0}
    some = gaps_sentence(KnowledgeGaps(400, 41, est(0.1025, 0.075, 0.136), est(0.34, 0.3, 0.38), (), counts))
    assert some.startswith("41 of the 400 training completions looked at (10.2 % [7.5, 13.6]) hold what neither")
    assert ": 50 figures and 1 name. Whether" in some and some.endswith("this does not tell.")
    few = gaps_sentence(KnowledgeGaps(40, 4, est(0.1, 0.04, 0.23), est(0.34, 0.3, 0.38), (), counts))
    assert few.endswith("That is not shown to be more than 5 %, as many as can be slips of the base model.")
    assert "knew" not in some and "make things up" not in some


@pytest.mark.parametrize(
    ("value", "p_value", "end"),
    [
        (-0.09, 0.04, "so it is right less often than that base model."),
        (0.09, 0.04, "so it is right more often than that base model."),
        (-0.09, 0.06, "which is not shown to be more than chance."),
    ],
)
def test_lost_answers_count_only_beyond_chance(value: float, p_value: float, end: str) -> None:
    right = {"tuned": est(0.52, 0.5, 0.54), "B0": est(0.5, 0.4, 0.6), "B3": est(0.61, 0.6, 0.62)}
    beside = (
        BesideBase("B0", est(0.02, -0.1, 0.1), 4, 6, 0.75),
        BesideBase("B3", est(value, value - 0.1, value + 0.1), 23, 11, p_value),
    )
    sentence = underachieving_sentence(Underachieving("final-number", right, beside, ()))
    assert sentence.startswith(
        "The clone is right on 52.0 % [50.0, 54.0]. Beside the base model, zero-shot (50.0 % [40.0, 60.0]), it lost 4 "
        "that this one had right and won 6 (p = 0.750), which is not shown to be more than chance. "
        "Beside the base model, three demonstrations in the prompt (61.0 %"
    )
    assert f"it lost 23 that this one had right and won 11 (p = {p_value:.3f})" in sentence
    assert sentence.endswith(end)


@pytest.mark.parametrize(
    ("excess", "says"),
    [
        (est(2, 1, 3), "its runs are longer than the experts', by 2.0 [1.0, 3.0] words"),
        (est(-2, -3, -1), "its runs are shorter than the experts', by 2.0 [1.0, 3.0] words"),
        (est(0.2, -1, 1.4), f"no clear difference (+0.2 [{MINUS}1.0, +1.4])"),
    ],
)
def test_memorisation_is_what_goes_beyond_the_experts(excess: Estimate, says: str) -> None:
    longest = {"tuned": est(6, 5, 7), "expert": est(4, 3, 5)}
    copies = {"tuned": est(0.03, 0.01, 0.06), "expert": est(0.01, 0, 0.03)}
    sentence = memorisation_sentence(Memorisation(longest, excess, copies, 0.0001, ()))
    assert says in sentence
    assert sentence.endswith("word for word, more than the experts' 1.0 % [0.0, 3.0] (p < 0.001).")
    assert "not shown to be more" in memorisation_sentence(Memorisation(longest, excess, copies, 0.3, ()))


@pytest.mark.parametrize(
    ("rise", "says"),
    [
        (est(0.08, 0.06, 0.1), "over the limit of 5 %"),
        (est(0.03, 0.01, 0.04), "within the limit of 5 %"),
        (est(0.01, -0.01, 0.03), "not shown to be more surprised than the base model (+1.0"),
        (est(-0.02, -0.03, -0.01), "surprised by 2.0 % [1.0, 3.0] less than the base model"),
    ],
)
def test_forgetting_speaks_of_the_worst_text(rise: Estimate, says: str) -> None:
    better = Forgetting("a.txt", 10, est(1, 0.9, 1.1), est(0.5, 0.4, 0.6), est(-0.5, -0.6, -0.4))
    worst = Forgetting("b.txt", 10, est(1, 0.9, 1.1), est(1, 0.9, 1.1), rise)
    sentence = forgetting_sentence([better, worst])
    assert "(b.txt, the worst of 2)" in sentence
    assert says in sentence
    assert forgetting_sentence([]) == ""
