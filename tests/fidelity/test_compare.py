"""Clones side by side: planted differences are found, luck is not, and what cannot be compared is refused."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import factories
import pytest
from planted_runs import PROMPTS, asked, only, planted
from report_pages import Page
from scipy import stats

from sft.demonstrations.demonstration import Message, held_out
from sft.errors import RunError
from sft.fidelity.compare import compare_runs
from sft.fidelity.comparison import LEVEL, NOTE
from sft.metrics import intervals
from sft.reports.compare_page import to_html, to_text
from sft.runs.records import TokenScores
from sft.runs.run import Run, read_json, read_jsonl, write_json, write_jsonl


def planted_scores(run: Run, scores: Mapping[str, float]) -> Run:
    """``run`` with these headline scores of its clone, prompt by prompt."""
    rows = read_jsonl(run.scores_path)
    write_jsonl(run.scores_path, [r | ({"chrf": scores[r["id"]]} if r["system"] == "tuned" else {}) for r in rows])
    return run


def scores_of(run: Run) -> list[float]:
    return [row["chrf"] for row in read_jsonl(run.scores_path) if row["system"] == "tuned"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    planted(folder / "good", 0.9, nats=0.4)
    planted(folder / "poor", 0.6, seed=1, nats=0.8)
    return folder


@pytest.fixture
def good(measured: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(measured / "good", tmp_path / "good"))


@pytest.fixture
def poor(measured: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(measured / "poor", tmp_path / "poor"))


# -- what is found -------------------------------------------------------------------------------------------


def test_a_run_is_not_told_apart_from_its_copy(good: Run, tmp_path: Path) -> None:
    copy = Run.open(shutil.copytree(good.path, tmp_path / "copy"))
    pair = only(compare_runs([good, copy]))
    assert (pair.difference.value, pair.p_value, pair.closer) == (0, 1, "")
    assert pair.bits is not None and pair.bits.value == 0
    assert pair.words == "not told apart (both come as close on every prompt)"


def test_two_clones_of_one_quality_are_not_told_apart(tmp_path: Path) -> None:
    """Other words, same share of them right; the note says what sixty prompts could have shown."""
    runs = [planted(tmp_path / name, 0.8, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    pair = only(compare_runs(runs))
    assert not pair.closer and pair.p_value > LEVEL
    found = re.fullmatch(
        r"not told apart \(the smallest difference this test could have seen is about (\d+\.\d) points\)", pair.words
    )
    assert found is not None and abs(pair.difference.value) < float(found[1])


def test_the_better_clone_is_closer_whatever_the_order(good: Run, poor: Run) -> None:
    one, other = compare_runs([good, poor]), compare_runs([poor, good])
    assert only(one).words == only(other).words == "good is closer"
    assert one.title == "good is closer"
    assert only(one).difference.value == -only(other).difference.value > 0
    assert only(one).p_value == only(other).p_value < 0.001
    assert only(one).bits is not None and only(one).bits.high is not None and only(one).bits.high < 0  # type: ignore[union-attr]


def test_the_difference_is_the_paired_t_of_the_scores_on_file(good: Run, poor: Run) -> None:
    """The interval is scipy's, and each run's own row is its scorecard's."""
    found = compare_runs([good, poor])
    difference = only(found).difference
    outside = stats.ttest_rel(scores_of(good), scores_of(poor)).confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((outside.low, outside.high))
    for run, row in zip((good, poor), found.contenders, strict=True):
        card = read_json(run.scorecard_path)
        tuned = next(system for system in card["systems"] if system["system"] == "tuned")["scores"]
        assert asdict(row.score) == tuned["chrf"] and asdict(row.stop_rate) == tuned["stop_rate"]  # type: ignore[arg-type]
        assert asdict(row.gain) == card["gain"] and row.gain.floor == "P"
        assert asdict(row.bits) == card["bits_per_byte"]["tuned"]["with_stop"]  # type: ignore[arg-type]
        assert (row.rung, row.looks, row.path) == (card["verdict"]["rung"], 1, str(run.path))


def test_bits_per_byte_differ_by_what_the_two_scorecards_differ_by(good: Run, poor: Run) -> None:
    found = compare_runs([good, poor])
    bits = [row.bits.value for row in found.contenders if row.bits is not None]
    apart = only(found).bits
    assert apart is not None and apart.value == pytest.approx(bits[0] - bits[1])
    assert apart.low is not None and apart.high is not None and apart.low < apart.value < apart.high


def test_without_token_scores_bits_are_not_measured(good: Run, tmp_path: Path) -> None:
    found = compare_runs([good, planted(tmp_path / "unscored", 0.5, nats=None)])
    assert only(found).bits is None and found.contenders[1].bits is None
    assert "not measured" in to_text(found) and only(found).closer == "good"


def test_the_smallest_visible_difference_has_eighty_per_cent_power(good: Run, poor: Run, tmp_path: Path) -> None:
    """The verdict's rule, t instead of normal quantiles: 2.85 standard errors for one pair of 60 prompts, and 3.32 at
    Holm's first step of three."""
    differences = [a - b for a, b in zip(scores_of(good), scores_of(poor), strict=True)]
    error = intervals.standard_error(differences)
    assert error is not None
    alone = only(compare_runs([good, poor])).smallest_visible
    assert alone == pytest.approx(intervals.smallest_visible_gain(differences))
    assert alone == pytest.approx(2.85 * error, rel=5e-3)
    three = compare_runs([good, poor, planted(tmp_path / "third", 0.7, seed=2)])
    assert three.pairs[0].smallest_visible == pytest.approx(3.32 * error, rel=5e-3)


def test_few_groups_have_one_rule_of_power_with_the_verdict(tmp_path: Path) -> None:
    """12 prompts in 6 groups: normal quantiles printed 16.9 points where the verdict's rule says 21.2."""
    items = [replace(item, cluster=f"g{place // 2}") for place, item in enumerate(asked()[:12])]
    a, b = (planted(tmp_path / name, 0.8, items=items, seed=n) for n, name in enumerate("ab"))
    labels = [item.cluster for item in items]
    differences = [x - y for x, y in zip(scores_of(a), scores_of(b), strict=True)]
    seen, error = only(compare_runs([a, b])).smallest_visible, intervals.standard_error(differences, labels)
    assert seen is not None and error is not None
    assert seen == pytest.approx(intervals.smallest_visible_gain(differences, labels))
    assert seen / (2.8016 * error) == pytest.approx(21.2 / 16.9, abs=0.01)


@pytest.mark.parametrize(("prompts", "runs"), [(4, 2), (5, 2), (6, 3)])
def test_where_nothing_can_be_shown_no_figure_is_printed(tmp_path: Path, prompts: int, runs: int) -> None:
    """Two-sided, five groups have a smallest p of 0.0625: a difference ten times the figure printed was "not told
    apart". Of three pairs six groups can show none."""
    items = asked()[:prompts]
    found = [planted(tmp_path / str(n), right, items=items, seed=n) for n, right in enumerate((1.0, 0.0, 0.5)[:runs])]
    for pair in compare_runs(found).pairs:
        assert pair.smallest_visible is None and not pair.closer
        assert pair.words == "not told apart (prompts of so few groups can show no difference of any size)"
    assert only(
        compare_runs([planted(tmp_path / f"more{n}", 1.0 - n, items=asked()[:6], seed=n) for n in (0, 1)])
    ).closer


def test_among_three_runs_a_lucky_pair_is_no_longer_told_apart(tmp_path: Path) -> None:
    """The pair has p of about 0.03: told apart alone, not when it is one of three."""
    a, b, c = (planted(tmp_path / name, 0.8, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 3)))
    ids = [item.id for item in asked()]
    noise = stats.norm.ppf([(k + 0.5) / PROMPTS for k in range(PROMPTS)])
    random.Random(4).shuffle(noise)
    planted_scores(a, dict.fromkeys(ids, 50.0))
    planted_scores(b, {key: 50 - 0.29 - value for key, value in zip(ids, noise, strict=True)})
    planted_scores(c, {key: 50 - 0.15 + value for key, value in zip(ids, noise[::-1], strict=True)})
    alone = only(compare_runs([a, b]))
    assert 0.02 < alone.p_value < 0.04 and alone.adjusted == alone.p_value and alone.closer == "a"
    found = compare_runs([a, b, c])
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.adjusted for pair in found.pairs] == intervals.holm([pair.p_value for pair in found.pairs])
    assert found.pairs[0].p_value == alone.p_value and found.pairs[0].adjusted > LEVEL
    assert not any(pair.closer for pair in found.pairs) and found.title == "none of 3 pairs told apart"


def test_a_planted_best_of_three_is_found(good: Run, poor: Run, tmp_path: Path) -> None:
    found = compare_runs([poor, good, planted(tmp_path / "worst", 0.3, seed=2)])
    assert [pair.closer for pair in found.pairs] == ["good", "poor", "good"]
    assert found.title == "3 of 3 pairs told apart"


# -- the same prompts, differently written down ------------------------------------------------------------------


def test_prompts_are_paired_by_what_they_say_not_by_place_or_id(good: Run, poor: Run, tmp_path: Path) -> None:
    """As `sft score` names them: other ids, another order, references the other way round."""
    several = [replace(i, references=(*i.references, "Another."), experts=("", "")) for i in asked()]
    named = [replace(i, id=f"row-{n}", references=i.references[::-1]) for n, i in enumerate(several)][::-1]
    a = planted(tmp_path / "a", 0.9, items=several)
    same = planted(tmp_path / "same", 0.9, items=several)
    write_jsonl(same.held_out_path, map(asdict, named))
    old_to_new = {i.id: f"row-{n}" for n, i in enumerate(several)}
    for path in (same.scores_path, same.token_scores_path("tuned")):
        write_jsonl(path, [row | {"id": old_to_new[row["id"]]} for row in read_jsonl(path)])
    pair = only(compare_runs([a, same]))
    assert (pair.difference.value, pair.difference.n, pair.p_value) == (0, PROMPTS, 1)
    assert pair.bits is None, "the first references differ, so log losses are of different texts"


def test_groups_that_either_run_knows_are_kept_together(tmp_path: Path) -> None:
    """One run groups by twos, the other by threes from elsewhere: overlapping groups become one."""
    items = asked()[:12]
    twos = [replace(item, cluster=f"two-{place // 2}") for place, item in enumerate(items)]
    fours = [replace(item, cluster=f"four-{place // 4}") for place, item in enumerate(items)]
    runs = [planted(tmp_path / name, 0.8, items=part, seed=3) for name, part in (("a", items), ("b", twos))]
    assert (compare_runs(runs).n, compare_runs(runs).clusters) == (12, 6)
    assert compare_runs([*runs, planted(tmp_path / "c", 0.7, items=fours)]).clusters == 3
    shifted = [replace(item, cluster=f"shifted-{(place + 1) // 2}") for place, item in enumerate(items)]
    found = compare_runs([runs[1], planted(tmp_path / "d", 0.2, items=shifted)])
    assert found.clusters == 1 and only(found).difference.low is None and not only(found).closer
    assert "prompts of so few groups can show no difference" in only(found).words


def test_prompts_that_one_clone_left_unscored_are_left_out_of_its_pairs(good: Run, poor: Run) -> None:
    first = asked()[0].id
    rows = [
        row | ({"chrf": None} if row["system"] == "tuned" and row["id"] == first else {})
        for row in read_jsonl(poor.scores_path)
    ]
    write_jsonl(poor.scores_path, rows)
    found = compare_runs([good, poor])
    assert (found.n, only(found).difference.n) == (PROMPTS, PROMPTS - 1)
    assert f"poor: 1 of {PROMPTS} prompts are unscored and left out of its pairs." in found.notes


# -- what is refused -------------------------------------------------------------------------------------------


def refused(runs: Sequence[Run]) -> str:
    with pytest.raises(RunError) as error:
        compare_runs(runs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_held_out_prompts_are_refused_with_their_number(good: Run, tmp_path: Path) -> None:
    more = held_out(map(factories.demonstration, range(PROMPTS - 5, PROMPTS + 2)))
    other = planted(tmp_path / "other", 0.8, items=[*asked()[:-5], *more[5:]])
    said = refused([good, other])
    assert f"different held-out sets: 5 of {PROMPTS} prompts are only in {good.path}" in said
    assert f"2 of {PROMPTS - 3} prompts are only in {other.path}" in said


def test_the_same_prompts_with_other_references_are_refused(good: Run, tmp_path: Path) -> None:
    items = [replace(item, references=("Not what he wrote.",)) for item in asked()[:3]]
    said = refused([good, planted(tmp_path / "other", 0.8, items=[*items, *asked()[3:]])])
    assert f"3 of {PROMPTS} shared prompts have other references" in said


def test_one_run_named_twice_is_refused(good: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(good.path)
    for again in (good, Run.open(tmp_path / "link")):
        assert "is named twice" in refused([good, again])
    assert "two runs or more" in refused([good])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: run.scorecard_path.unlink(), r"has no scorecard yet; write one with `sft evaluate"),
        (lambda run: run.scorecard_path.write_text("{}"), r"scorecard\.json: holds .* not as this sft writes it"),
        (lambda run: run.held_out_path.unlink(), r"nothing has been measured yet"),
        (lambda run: run.scores_path.unlink(), r"scores\.jsonl cannot be read: it is not there"),
        (lambda run: run.scores_path.write_text("{}\n"), r"scores\.jsonl:1: has no 'id'"),
        (lambda run: run.scores_path.write_text(""), r"scores\.jsonl: holds no score of the clone"),
        (
            lambda run: run.token_scores_path("tuned").write_text('{"id": "x"}\n'),
            r"token-scores-tuned\.jsonl:1: has no 'nats'",
        ),
    ],
)
def test_a_run_that_is_not_measured_is_refused(good: Run, poor: Run, spoil: Callable[[Run], object], said: str) -> None:
    spoil(poor)
    for runs in ([good, poor], [poor, good]):
        assert re.search(said, refused(runs))


def test_scores_that_came_about_differently_are_refused(good: Run, poor: Run) -> None:
    card = read_json(poor.scorecard_path)
    card["signature"]["metrics"]["chrf"] += "|another version"
    write_json(poor.scorecard_path, card)
    assert "chrf was not computed in the same way" in refused([good, poor])
    del card["signature"]["metrics"]
    write_json(poor.scorecard_path, card)
    assert "chrf was not computed in the same way" in refused([good, poor])
    write_json(poor.scorecard_path, card | {"headline": "rouge_l"})
    assert f"{good.path} is judged by chrf, {poor.path} by rouge_l" in refused([good, poor])


# -- how it is written -----------------------------------------------------------------------------------------


def test_runs_are_called_by_recipe_by_folder_or_by_path(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "z"]
    recipes: list[dict[str, Any]] = [{"name": "one"}, {"name": "two"}, {"name": "two"}]
    a, b, c = (planted(path, 0.8, recipe=recipe) for path, recipe in zip(paths, recipes, strict=True))

    def names(*runs: Run) -> list[str]:
        return [one.name for one in compare_runs(runs).contenders]

    assert names(a, b) == ["one", "two"]
    assert names(b, c) == ["run", "z"]
    assert names(a, b, c) == [str(path) for path in paths]


def test_what_the_recipes_differ_in_is_said(tmp_path: Path) -> None:
    runs = [
        planted(tmp_path / name, 0.8, recipe={"name": name, "training": {"seed": seed, "epochs": 3}})
        for name, seed in (("a", 0), ("b", 1))
    ]
    found = compare_runs(runs)
    assert only(found).differs == ("training.seed",)
    assert "a and b differ in training.seed." in found.notes and "a and b differ in training.seed." in to_text(found)


def test_looks_at_the_test_split_are_counted_and_said(good: Run, poor: Run) -> None:
    poor.look("test", "another temperature")
    poor.look("validation", "choose the checkpoint")
    found = compare_runs([good, poor])
    assert [one.looks for one in found.contenders] == [1, 2]
    (note,) = [note for note in found.notes if "looked at" in note]
    assert note.startswith("poor: the test split has been looked at 2 times")


def test_text_and_json_say_the_same(good: Run, poor: Run) -> None:
    found = compare_runs([good, poor])
    text, value = to_text(found), json.loads(json.dumps(found.to_dict()))
    assert NOTE in text and value["note"] == NOTE and "three training seeds" in NOTE
    assert value["pairs"][0]["words"] == "good is closer" and "good is closer" in text
    assert f"{value['pairs'][0]['difference']['value']:+.1f}" in text
    assert compare_runs([good, poor]) == found, "same seed, same figures"


def test_the_page_loads_nothing_and_says_it_all(good: Run, poor: Run, tmp_path: Path) -> None:
    found = compare_runs([good, poor, planted(tmp_path / "unscored", 0.85, nats=None)])
    page = Page(to_html(found))
    assert "script" not in page.tags and page.references == [] and page.tags["style"] == 1
    assert "default-src 'none'; style-src 'unsafe-inline'" in to_html(found)
    assert to_html(found).count('class="picture"') == 2
    assert page.headings[0] == found.title and NOTE in page.words
    for pair in found.pairs:
        assert pair.words in page.words
    for one in found.contenders:
        assert one.rung in page.words and one.path in page.words


def test_a_hostile_name_is_shown_and_does_nothing(good: Run, tmp_path: Path) -> None:
    name = '</title><script>alert("x")</script>\u202e{{ 7 * 7 }}'
    other = planted(tmp_path / "other", 0.5, recipe={"name": name})
    found = compare_runs([good, other])
    page = Page(to_html(found))
    assert "script" not in page.tags and '<script>alert("x")</script>' in "".join(page.text)
    assert "{{ 7 * 7 }}" in page.words and "\u202e" not in to_html(found) + to_text(found)


def test_messages_and_token_scores_of_other_shapes_are_read(tmp_path: Path) -> None:
    """A system turn belongs to the prompt: the same question under another one is another prompt."""
    items = list(asked()[:4])
    told = [replace(item, prompt=(Message("system", "Be brief."), *item.prompt)) for item in items]
    runs = [planted(tmp_path / name, 0.8, items=part) for name, part in (("a", items), ("b", told))]
    assert "4 of 4 prompts are only in" in refused(runs)
    assert TokenScores("x", (1.0,), (0,), (0.5,), 3).confidences == ()
