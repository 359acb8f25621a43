"""Every section of a scorecard has its place in the report: its figures, what they mean, or why they are absent."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import pytest
from report_pages import both, card, change, page, source_of

from sft.fidelity.findings import Example
from sft.fidelity.scorecard import RUNGS, Scorecard
from sft.metrics.estimate import Estimate
from sft.reports.report import render
from sft.reports.sections import examples
from sft.reports.sections.chapters import body
from sft.reports.sections.parts import Part
from sft.reports.text import cell, figure
from sft.runs.run import Run, write_json

PROMPTS = 36


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = factories.make_run(tmp_path_factory.mktemp("runs") / "docstrings", prompts=PROMPTS)
    render(run)
    return run


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(finished.path, tmp_path / "docstrings"))


# Every measurement has its place

#: Where a section of the scorecard is told -> figures of it that have to be there, as (path, style, signed).
FIGURES: dict[str, list[tuple[str, str, bool]]] = {
    "The way to another expert": [
        ("closure.tuned", "points", False),
        ("closure.expert", "points", False),
        ("closure.share", "share", False),
        ("closure.surplus", "points", True),
    ],
    "Which expert is it closest to?": [
        ("experts.0.score", "points", False),
        ("experts.0.agreement", "points", False),
        ("experts.2.lead", "points", True),
    ],
    "Where is its score high, and where low?": [
        ("strata.0.score", "points", False),
        ("strata.2.gain", "points", True),
        ("strata.4.saved", "bits", True),
    ],
    "The figures of the literature": [
        ("corpus.tuned.bleu", "points", False),
        ("corpus.tuned.bleu_one_out", "points", False),
        ("corpus.E.chrf_pp", "points", False),
    ],
    "Given the expert\u2019s beginning": [
        ("prefix.tuned.0.score", "points", False),
        ("prefix.tuned.2.regained", "points", True),
        ("prefix.own.1.score", "points", False),
        ("prefix.own.2.excess", "points", True),
        ("prefix.E.3.score", "points", False),
    ],
    "Is it as right as it is sure, on the expert\u2019s path?": [
        ("calibration.tuned.confidence", "share", False),
        ("calibration.tuned.overconfidence", "share", True),
        ("calibration.B0.accuracy", "share", False),
    ],
    "How often its own words are the expert\u2019s": [("calibration.own.accuracy", "share", False)],
    "The impostor test": [
        ("impostor.sampled", "ratio", False),
        ("impostor.greedy", "ratio", False),
        ("impostor.base", "ratio", False),
        ("impostor.experts", "ratio", False),
    ],
    "Habits": [
        ("manner.tuned.rep_4", "share", False),
        ("manner.expert.distinct_2", "share", False),
        ("manner.tuned.length_spread", "ratio", False),
    ],
    "Does it say the same thing every time?": [
        ("self_agreement.tuned", "points", False),
        ("self_agreement.experts", "points", False),
        ("self_agreement.difference", "points", True),
    ],
    "What the prompts tell of the completions": [("gaps.share", "share", False), ("gaps.bits", "bits", False)],
    "Right answers, beside the base model\u2019s": [
        ("underachieving.right.tuned", "share", False),
        ("underachieving.right.B3", "share", False),
        ("underachieving.beside.0.difference", "share", True),
        ("underachieving.beside.1.difference", "share", True),
    ],
    "Shared with training": [
        ("memorisation.longest.tuned", "points", False),
        ("memorisation.copies.expert", "share", False),
        ("memorisation.excess", "points", True),
    ],
    "Plain text": [("forgetting.0.base", "bits", False), ("forgetting.1.rise", "share", True)],
}


def at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[int(name)] if name.isdigit() else value[name]
    return value


@pytest.mark.parametrize("heading", FIGURES)
def test_every_section_shows_its_figures_in_both_reports(finished: Run, heading: str) -> None:
    markdown = finished.report_md_path.read_text(encoding="utf-8")
    found = page(finished)
    assert found.text.count(heading) == 1
    for text, end in ((found.words, "How did training go?"), (markdown, "## How did training go?")):
        place = text[text.index(heading) :]
        told = place[: place.index(end)]
        for path, style, signed in FIGURES[heading]:
            assert figure(Estimate(**at(card(finished), path)), style, signed=signed) in told, path


def test_sentences_stand_in_both_reports(finished: Run) -> None:
    whole = Scorecard.from_dict(card(finished))
    markdown = " ".join(finished.report_md_path.read_text(encoding="utf-8").replace("\\", "").split())
    markdown = markdown.replace("&lt;", "<")
    sentences = [sentence for chapter in body(whole).chapters for part in chapter.parts for sentence in part.meanings]
    assert len(sentences) >= 16
    for sentence in sentences:
        assert sentence.replace("\u202f", " ") in page(finished).words.replace("\u202f", " ")
        assert sentence.replace("\u202f", " ") in markdown.replace("\u202f", " ")


def test_examples_of_the_limits_are_shown_whole(finished: Run) -> None:
    words, markdown = page(finished).words, finished.report_md_path.read_text(encoding="utf-8")
    whole = card(finished)
    wanted = [whole["gaps"]["examples"][0][name] for name in ("address", "prompt")]
    wanted += [whole["memorisation"]["examples"][0][name] for name in ("text", "address")]
    wanted += [whole["underachieving"]["checker"]]
    for named in (*whole["memorisation"]["examples"], *whole["underachieving"]["examples"]):
        wanted.append(f"prompt \u201c{' '.join(named['prompt'].split())[:20]}")
    for lost in whole["underachieving"]["examples"]:
        wanted += [lost[name] for name in ("expert", "base", "tuned")]
    assert len(wanted) > 5
    for text in wanted:
        assert " ".join(text.split()) in words
        assert text in markdown or cell(text) in markdown
    gap = whole["gaps"]["examples"][0]
    assert gap["completion"] in re.sub("</?mark>", "", source_of(finished))
    for span in gap["spans"]:
        marked = gap["completion"][span["start"] : span["end"]]
        assert f"<mark>{marked}</mark>" in source_of(finished) and f"**{marked}**" in markdown
    assert gap["completion"] in markdown.replace("**", "").replace("\\", "")


def test_what_is_not_cloned_is_said_by_itself(run: Run) -> None:
    assert 'class="shortfall"' in source_of(run)
    verdict = card(run)["verdict"]
    assert verdict["shortfall"].startswith("It is not cloned: ")
    found, markdown = both(run)
    assert found.words.index(verdict["sentence"]) < found.words.index(verdict["shortfall"])
    assert f"**{cell(verdict['shortfall'])}**" in markdown
    change(run, verdict=verdict | {"shortfall": ""})
    found, markdown = both(run)
    assert "not cloned:" not in found.words
    assert "not cloned:" not in markdown


def test_the_ladder_has_five_rungs_and_the_bar_is_none_of_the_steps_to_cloned(run: Run) -> None:
    change(run, verdict=card(run)["verdict"] | {"rung": RUNGS[-1]})
    both(run)
    ladder = re.findall(r'<li class="([a-z ]*)"', source_of(run).split('class="ladder"')[1].split("</ol>")[0])
    assert ladder == ["passed", "passed", "passed", "", "here"]
    assert "it is for prompts that one expert answered" in page(run).words


def test_the_fast_profile_is_pointed_out(run: Run) -> None:
    assert "fast profile" not in both(run)[0].words
    change(run, profile="fast")
    found, markdown = both(run)
    assert "Measured in the fast profile" in found.words
    assert "Measured in the fast profile" in markdown


def test_looks_are_counted_by_the_scorecard_too(run: Run) -> None:
    change(run, looks=4)
    assert "has been looked at 4 times" in both(run)[0].words


def test_limits_are_shown_in_their_units(run: Run) -> None:
    rails = {rail["name"]: rail for rail in card(run)["guardrails"]}
    assert {"verbatim copies", "forgetting", "contamination"} <= set(rails)
    foreign = rails["empty"] | {"name": "perplexity", "limit": 12.5}
    foreign["value"] = foreign["value"] | {"value": 9.25, "low": None, "high": None}
    rails["verbatim copies"] |= {"limit": 0.0}
    change(run, guardrails=[*rails.values(), foreign])
    _, markdown = both(run)
    limits = dict(re.findall(r"^\| ([A-Z][a-z ]+) \| \w[^|]* \| [^|]+ \| ([^|]+) \|", markdown, re.MULTILINE))
    assert limits["Empty"] == "1 %"
    assert limits["Forgetting"] == "5 %"
    assert limits["Verbatim copies"] == "0 %, the experts\u2019 own"
    assert limits["Perplexity"] == "12.5"
    assert "| 9.250 |" in markdown


# Examples by kind and by score


def hidden(source: str, kind: str, band: str) -> Callable[[set[str]], bool]:
    """Whether the style sheet hides an example with these classes once these two buttons are pressed."""
    rules = re.findall(r"#(pick|band)-([\w-]+):checked ~ \.examples > \.example:not\(\.([\w-]+)\)", source)
    assert rules
    chosen = {"pick": kind, "band": band}
    return lambda classes: any(chosen[group] == name and needs not in classes for group, name, needs in rules)


def test_buttons_show_what_their_counts_promise(finished: Run) -> None:
    """Every kind with every band: as many examples as the band's button says, or the sentence that there are none."""
    source = source_of(finished)
    articles = [set(found.split()) for found in re.findall(r'<article class="([^"]+)"', source)]
    buttons = source.split('class="buttons bands"')[1].split("</div>")[0]
    empty = re.findall(r"#pick-([\w-]+):checked ~ #band-(\w+):checked ~ \.examples > \.nothing", source)
    seen = 0
    for kind in ("typical", "best", "worst", "earliest-divergence", "more", "all"):
        for band in ("any", "0", "20", "40", "60", "80"):
            label = re.search(rf'<label for="band-{band}">(.*?)</label>', buttons)
            assert label
            promised = re.search(rf'class="of-{kind}">(\d+)<', label[1])
            assert promised
            shown_now = sum(not hidden(source, kind, band)(classes) for classes in articles)
            assert shown_now == int(promised[1]), (kind, band)
            assert ((kind, band) in empty) == (shown_now == 0)
            seen += shown_now
    assert seen > len(articles)


def test_an_example_is_in_the_band_of_its_score() -> None:
    def one(score: float | None) -> Example:
        return Example("", "id", "p", "e", {"tuned": "t"}, {} if score is None else {"tuned": score})

    bands = [examples.example(one(score))["band"] for score in (0, 19.99, 20, 79.9, 80, 100, None)]
    assert bands == ["0", "0", "20", "60", "80", "80", ""]
    assert examples.example(one(3))["label"] == "More"


# What is absent says why

SECTIONS = {
    "closure": None,
    "experts": (),
    "conflicts": None,
    "strata": (),
    "corpus": {},
    "prefix": {},
    "impostor": {},
    "manner": {},
    "self_agreement": {},
    "gaps": None,
    "underachieving": None,
    "memorisation": None,
    "forgetting": (),
    "compounding": None,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_an_absent_section_says_why_in_its_place(run: Run, section: str) -> None:
    reason = f"the reason why there is no {section} here"
    whole = card(run)
    place = next(
        part.heading for part in [*body(Scorecard.from_dict(whole)).beside, *every_part(whole)] if part.key == section
    )
    change(run, **{section: SECTIONS[section]}, absent={section: reason})
    found, markdown = both(run)
    for text in (found.words, " ".join(markdown.split()).replace("\\", "")):
        assert f"{place} Not measured: {reason}." in text
        assert text.count(reason) == 1
    assert f"{section}-t" not in found.ids


def every_part(whole: dict[str, Any]) -> list[Part]:
    return [part for chapter in body(Scorecard.from_dict(whole)).chapters for part in chapter.parts]


def test_what_of_calibration_is_missing_is_said(run: Run) -> None:
    whole = card(run)
    without = {"tuned": whole["calibration"]["tuned"]}
    reasons = {"calibration of own": "no path was recorded", "calibration of B0": "the base was not asked"}
    change(run, calibration=without, absent=reasons)
    found, markdown = both(run)
    for said in ("Not measured: no path was recorded.", "not measured: the base was not asked."):
        assert said in found.words
        assert said in markdown
    change(run, calibration={}, absent=reasons)
    found, _ = both(run)
    assert found.words.count("no path was recorded") == found.words.count("the base was not asked") == 1


def test_what_older_scorecards_say_of_the_own_path_is_not_shown(run: Run) -> None:
    """They hold a figure that called calibrated clones overconfident, or the reason why they do not."""
    over = {"value": 0.371, "low": 0.3, "high": 0.44, "level": 0.95, "method": "t", "n": 9}
    change(run, off_path=over, accumulated=over | {"value": -7.77}, absent={"off_path": "it never left"})
    found, markdown = both(run)
    for text in (found.words, markdown):
        assert not any(said in text for said in ("37.1 %", "7.77", "never left", "incorrectness", "Off path"))


def test_a_section_that_has_no_place_is_still_said(run: Run) -> None:
    change(run, absent={"seeds": "one training seed only"})
    found, markdown = both(run)
    assert "What else was not measured" in found.words
    assert "Seeds: Not measured: one training seed only." in found.words
    assert "- Seeds: Not measured: one training seed only." in markdown


def test_a_scorecard_from_before_these_measurements_has_a_report(run: Run) -> None:
    new = [*SECTIONS, "own_words", "calibration", "off_path", "accumulated", "profile", "looks", "absent"]
    write_json(run.scorecard_path, {name: value for name, value in card(run).items() if name not in new})
    found, markdown = both(run)
    assert found.words.count("Not measured: ") == len(SECTIONS) + 2, "and of calibration both parts"
    assert "closure-t" not in found.ids
    assert "survival-t" in found.ids
    assert "nan" not in markdown.lower().replace("finance", "")


def test_an_expert_no_nearer_than_the_shortcut_is_not_drawn_as_a_way(run: Run) -> None:
    whole = card(run)["closure"]
    bare = {"low": None, "high": None}
    whole["expert"] |= {"value": 20.0}
    whole["surplus"] |= {"value": whole["tuned"]["value"] - 0.8 * 20.0 - 0.2 * 30.0}
    change(run, closure=whole | {"share": whole["share"] | bare, "finding": "undecided"})
    found, _ = both(run)
    assert "closure-t" not in found.ids
    assert "cannot be bounded" in found.words


def test_figures_without_intervals_are_shown_without(run: Run) -> None:
    """One cluster of prompts gives no interval to anything; nothing breaks, and no bound is made up."""

    def bared(value: Any) -> Any:
        if isinstance(value, list):
            return [bared(part) for part in value]
        if not isinstance(value, dict):
            return value
        if {"value", "low", "method"} <= value.keys():
            return value | {"low": None, "high": None, "method": "one cluster only"}
        return {name: bared(part) for name, part in value.items()}

    write_json(run.scorecard_path, bared(card(run)))
    found, markdown = both(run)
    assert "not shown to be more surprised than the base model" in found.words
    for text in (found.words, markdown):
        assert not re.search(r"\[None|, None\]", text)


# Other people's words


def test_hostile_words_do_nothing_in_any_new_place(run: Run) -> None:
    """Names of experts, texts and checkers, prompts, answers, reasons: all of them are other people's."""
    quiet, _ = both(run)
    whole = card(run)
    nasty = "</text></svg></td><script>alert(1)</script><img src=x onerror=alert(2)> | `x` |\u202e\x00\n# H"
    for expert in whole["experts"]:
        expert["expert"] = nasty
    for part in whole["strata"]:
        part["label"] = nasty
    for part in whole["strata"]:
        part["by"] = nasty
    for part in whole["forgetting"]:
        part["text"] = nasty
    whole["conflicts"] |= {"prompts": 10, "conflicting": 2, "handled": nasty}
    for example in whole["gaps"]["examples"]:
        example |= {"address": nasty, "prompt": nasty, "completion": nasty, "id": nasty}
        example["spans"] = [
            {"start": start, "end": end, "kind": nasty, "own_bits": 9.0, "other_bits": 9.0}
            for start, end in ((3, 20), (0, 5), (20, 45), (60, 10_000))
        ]
    whole["underachieving"]["checker"] = nasty
    for example in whole["underachieving"]["examples"]:
        example |= {"id": nasty, "prompt": nasty, "expert": nasty, "base": nasty, "tuned": nasty}
    for example in whole["memorisation"]["examples"]:
        example |= {"id": nasty, "text": nasty, "source": nasty}
    whole["verdict"] |= {"shortfall": nasty, "next_step": nasty, "reasons": [nasty]}
    for rail in whole["guardrails"]:
        rail |= {"name": nasty, "meaning": nasty}
    whole["absent"] = {nasty: nasty, "off_path": nasty}
    write_json(run.scorecard_path, whole)
    found, markdown = both(run)
    assert not {"script", "img"} & set(found.tags)
    assert found.tags["svg"] == quiet.tags["svg"]
    assert found.headings == quiet.headings
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside
    assert "\n# H" not in outside
    for text in (source_of(run), markdown):
        assert not set("\x00\u202e") & set(text)
    assert found.words.count("alert(1)") > 20
