"""The report says the verdict first, leaves nothing out, and lets no completion speak for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft import exhibits
from sft.chapters import Part, body
from sft.errors import RunError
from sft.illustrations import losses
from sft.ledger import FATES
from sft.probes.examples import BANDS
from sft.reports import render
from sft.runs import Run, append_jsonl, write_json, write_jsonl
from sft.scorecards import RUNGS, SYSTEMS, Estimate, Example, Scorecard
from sft.typography import cell, coded, coded_cell, differences, duration, fenced, figure, marked, plain, shown

PROMPTS = 36
PICTURES = (
    *("systems", "gains", "strata", "closure", "experts", "survival", "prefix", "excess", "calibration", "impostor"),
    *("lengths", "self_agreement", "gaps", "underachieving", "memorisation", "forgetting", "losses", "ledger"),
)
VOID = {"meta", "input", "br", "line", "circle", "rect", "path"}


class Page(HTMLParser):
    """A page read strictly: every element closed in order; its text, headings, and what it would load."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id names one element"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            assert not name.startswith("on"), f"a handler: {name}"
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.references.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID, f"</{tag}>"
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "title" in self.open:
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = factories.make_run(tmp_path_factory.mktemp("runs") / "docstrings", prompts=PROMPTS)
    render(run)
    return run


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(finished.path, tmp_path / "docstrings"))


def page(run: Run) -> Page:
    return Page(run.report_html_path.read_text(encoding="utf-8"))


def card(run: Run) -> dict[str, Any]:
    return json.loads(run.scorecard_path.read_text(encoding="utf-8"))


def change(run: Run, **changes: Any) -> None:
    write_json(run.scorecard_path, card(run) | changes)


def both(run: Run) -> tuple[Page, str]:
    """The re-rendered report, as page and as Markdown with well-formed tables."""
    assert render(run) == run.report_html_path
    markdown = run.report_md_path.read_text(encoding="utf-8")
    check_tables(markdown)
    return page(run), markdown


def check_tables(markdown: str) -> None:
    """Every row of a table has as many cells as its head; code blocks are left out."""
    text = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "```" not in text, "every code block is closed"
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(cells)) == 1, table
        assert len(cells) > 2, f"a table without rows: {table}"


# What a reader finds


def test_the_verdict_comes_first_and_in_words(finished: Run) -> None:
    verdict = card(finished)["verdict"]
    words = page(finished).words
    assert page(finished).headings[0] == verdict["rung"]
    order = [words.index(part) for part in (verdict["sentence"], *verdict["reasons"], verdict["next_step"])]
    assert order == sorted(order)
    assert order[-1] < words.index("How close does it come?")
    markdown = finished.report_md_path.read_text(encoding="utf-8")
    assert markdown.startswith(f"# {verdict['rung'].capitalize()}\n")


def test_every_rung_is_shown_and_one_is_marked(finished: Run) -> None:
    source = finished.report_html_path.read_text(encoding="utf-8")
    for rung in RUNGS:
        assert rung[0].upper() + rung[1:] in page(finished).words
    assert source.count('aria-current="step"') == 1


def test_systems_are_named_in_plain_words_with_their_intervals(finished: Run) -> None:
    words = page(finished).words
    for system in card(finished)["systems"]:
        assert SYSTEMS[system["system"]] in words
        for name, value in system["scores"].items():
            if name not in ("stop_rate", "empty_rate", "length_ratio"):
                assert f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]" in words
    assert "B0" not in re.sub(r"B0 \(|fidelity\.bar", "", words), "no id without its words"


def test_the_ledger_adds_up_on_the_page(finished: Run) -> None:
    table = finished.report_html_path.read_text(encoding="utf-8").split('aria-label="Ledger"')[1]
    table = table.split("</table>")[0]
    counts = [int(re.sub(r"\D", "", text)) for text in re.findall(r'</th><td class="r">([\d\u202f]+)</td>', table)]
    assert sum(counts[:-1]) == counts[-1]
    recorded = json.loads(finished.ledger_path.read_text(encoding="utf-8"))
    assert counts[-1] == recorded["rows"] + recorded["unrolled"]
    for fate, count in recorded["fates"].items():
        assert not count or FATES[fate] in page(finished).words


def test_every_picture_is_there_for_desk_and_phone(finished: Run) -> None:
    found = page(finished)
    assert {f"{key}-{width}-t" for key in PICTURES for width in (800, 342)} <= set(found.ids)
    assert "lowest: 1.168 at step 210" in found.words
    assert found.words.count("How to read it.") == len(PICTURES) - 1, "all but the ledger, whose table says it"


def test_examples_can_be_picked_without_a_script(finished: Run) -> None:
    found = page(finished)
    kinds = {example["kind"] for example in card(finished)["examples"]}
    assert {"pick-typical", "pick-best", "pick-worst", "pick-all"} <= set(found.ids)
    assert found.tags["article"] == len(card(finished)["examples"])
    assert found.tags["input"] == len(kinds) + 1 + len(BANDS), "a button for each kind and for all, bands and any"
    assert found.tags["ins"] > 1
    assert found.tags["del"] > 1


def test_how_to_reproduce_it_is_told(finished: Run) -> None:
    words = page(finished).words
    manifest = finished.manifest
    wanted = [manifest["data"]["hash"], manifest["split"]["hash"], manifest["base"]["revision"]]
    wanted += [
        manifest["template"]["hash"],
        manifest["versions"]["numpy"],
        card(finished)["signature"]["held_out_hash"],
    ]
    wanted += [manifest["sessions"][0]["command"], "name: docstrings-qwen", "14 min 31 s"]
    for value in wanted:
        assert value in words
        assert value in finished.report_md_path.read_text(encoding="utf-8")


def test_the_page_is_one_file_that_loads_and_runs_nothing(finished: Run) -> None:
    source = finished.report_html_path.read_text(encoding="utf-8")
    found = Page(source)
    assert found.references == []
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(found.tags)
    assert "default-src 'none'" in source
    assert not re.search(r"@import|url\(|expression\(", source)


def test_the_same_files_give_the_same_report(run: Run) -> None:
    first = render(run).read_bytes(), run.report_md_path.read_bytes()
    assert (render(run).read_bytes(), run.report_md_path.read_bytes()) == first


def test_a_report_needs_no_engine(finished: Run) -> None:
    code = (
        "import sys\nfrom sft.reports import render\nfrom sft.runs import Run\nrender(Run.open(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'evaluate', 'peft', 'trl', 'sklearn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(finished.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Every measurement has its place

#: Where a section of the scorecard is told -> figures of it that have to be there, as (path, style, signed).
FIGURES: dict[str, list[tuple[str, str, bool]]] = {
    "The way to another expert": [
        ("closure.tuned", "points", False),
        ("closure.expert", "points", False),
        ("closure.share", "share", False),
        ("closure.surplus", "points", True),
    ],
    "Whose clone is it?": [
        ("experts.0.score", "points", False),
        ("experts.0.agreement", "points", False),
        ("experts.2.lead", "points", True),
    ],
    "Where is it strong, and where weak?": [
        ("strata.0.score", "points", False),
        ("strata.2.gain", "points", True),
        ("strata.4.saved", "bits", True),
    ],
    "The figures of the literature": [
        ("corpus.tuned.bleu", "points", False),
        ("corpus.tuned.bleu_one_out", "points", False),
        ("corpus.E.chrf_pp", "points", False),
    ],
    "Put back on the path": [
        ("prefix.tuned.0.score", "points", False),
        ("prefix.tuned.2.excess", "points", True),
        ("prefix.E.3.score", "points", False),
    ],
    "Do its errors add up?": [("prefix.tuned.0.excess", "points", True)],
    "Is it as right as it is sure?": [
        ("calibration.tuned.confidence", "share", False),
        ("calibration.B0.accuracy", "share", False),
        ("calibration.own.error", "share", False),
        ("calibration.own.overconfidence", "share", True),
    ],
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
    "What the expert knew and the model does not": [("gaps.share", "share", False), ("gaps.bits", "bits", False)],
    "What the model could do and the clone cannot": [
        ("underachieving.right.tuned", "share", False),
        ("underachieving.right.B3", "share", False),
        ("underachieving.difference", "share", True),
    ],
    "Learned by heart": [
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
    sentences = [sentence for chapter in body(whole).chapters for part in chapter.parts for sentence in part.meanings]
    assert len(sentences) >= 16
    for sentence in sentences:
        assert sentence.replace("\u202f", " ") in page(finished).words.replace("\u202f", " ")
        assert sentence.replace("\u202f", " ") in markdown.replace("\u202f", " ")


def test_examples_of_the_limits_are_shown_whole(finished: Run) -> None:
    words, markdown = page(finished).words, finished.report_md_path.read_text(encoding="utf-8")
    whole = card(finished)
    wanted = [whole["gaps"]["examples"][0][name] for name in ("address", "prompt", "completion")]
    wanted += [whole["memorisation"]["examples"][0]["text"], whole["underachieving"]["checker"]]
    for lost in whole["underachieving"]["examples"]:
        wanted += [lost[name] for name in ("expert", "base", "tuned")]
    assert len(wanted) > 5
    for text in wanted:
        assert " ".join(text.split()) in words
        assert text in markdown or cell(text) in markdown


def test_what_is_not_cloned_is_said_by_itself(run: Run) -> None:
    assert 'class="shortfall"' in finished_source(run)
    verdict = card(run)["verdict"]
    assert verdict["shortfall"].startswith("It is not cloned: ")
    found, markdown = both(run)
    assert found.words.index(verdict["sentence"]) < found.words.index(verdict["shortfall"])
    assert f"**{cell(verdict['shortfall'])}**" in markdown
    change(run, verdict=verdict | {"shortfall": ""})
    found, markdown = both(run)
    assert "not cloned:" not in found.words
    assert "not cloned:" not in markdown


def finished_source(run: Run) -> str:
    return run.report_html_path.read_text(encoding="utf-8")


def test_the_ladder_has_five_rungs_and_the_bar_is_none_of_the_steps_to_cloned(run: Run) -> None:
    change(run, verdict=card(run)["verdict"] | {"rung": RUNGS[-1]})
    both(run)
    ladder = re.findall(r'<li class="([a-z ]*)"', finished_source(run).split('class="ladder"')[1].split("</ol>")[0])
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
    limits = dict(re.findall(r"^\| ([A-Z][a-z ]+) \| \w[\w ]* \| [^|]+ \| ([^|]+) \|", markdown, re.MULTILINE))
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
    source = finished_source(finished)
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

    bands = [exhibits.example(one(score))["band"] for score in (0, 19.99, 20, 79.9, 80, 100, None)]
    assert bands == ["0", "0", "20", "60", "80", "80", ""]
    assert exhibits.example(one(3))["label"] == "More"


# What is missing is said

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
    assert f"{section}-800-t" not in found.ids


def every_part(whole: dict[str, Any]) -> list[Part]:
    return [part for chapter in body(Scorecard.from_dict(whole)).chapters for part in chapter.parts]


def test_what_of_calibration_is_missing_is_said(run: Run) -> None:
    whole = card(run)
    without = {"tuned": whole["calibration"]["tuned"]}
    reasons = {"calibration of own": "no path was recorded", "off_path": "it never left"}
    change(run, calibration=without, off_path=None, absent=reasons)
    found, markdown = both(run)
    for said in ("The clone on its own path: not measured: no path was recorded.", "not measured: it never left."):
        assert said in found.words
        assert said in markdown
    change(run, calibration={}, off_path=None, absent=reasons)
    assert "no path was recorded" in both(run)[0].words


def test_a_section_that_has_no_place_is_still_said(run: Run) -> None:
    change(run, absent={"seeds": "one training seed only"})
    found, markdown = both(run)
    assert "What else was not measured" in found.words
    assert "Seeds: Not measured: one training seed only." in found.words
    assert "- Seeds: Not measured: one training seed only." in markdown


def test_a_scorecard_from_before_these_measurements_has_a_report(run: Run) -> None:
    new = [*SECTIONS, "calibration", "off_path", "accumulated", "profile", "looks", "absent"]
    write_json(run.scorecard_path, {name: value for name, value in card(run).items() if name not in new})
    found, markdown = both(run)
    assert found.words.count("Not measured: ") == len(SECTIONS) + 1
    assert "closure-800-t" not in found.ids
    assert "survival-800-t" in found.ids
    assert "nan" not in markdown.lower().replace("finance", "")


def test_an_expert_no_nearer_than_the_shortcut_is_not_drawn_as_a_way(run: Run) -> None:
    whole = card(run)["closure"]
    bare = {"low": None, "high": None}
    whole["expert"] |= {"value": 20.0}
    whole["surplus"] |= {"value": whole["tuned"]["value"] - 0.8 * 20.0 - 0.2 * 30.0}
    change(run, closure=whole | {"share": whole["share"] | bare, "finding": "undecided"})
    found, _ = both(run)
    assert "closure-800-t" not in found.ids
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
    assert "is shown to have forgotten" not in found.words
    assert "not shown to have forgotten anything" in found.words
    for text in (found.words, markdown):
        assert not re.search(r"\[None|, None\]", text)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: run.log_path.unlink(), "There is no training log in this run"),
        (lambda run: run.log_path.write_text(""), "There is no training log in this run"),
        (lambda run: run.ledger_path.unlink(), "There is no ledger in this run"),
        (lambda run: run.completions_path("tuned").unlink(), "How did training go?"),
        (lambda run: run.demonstrations_path.unlink(), "How did training go?"),
        (lambda run: change(run, survival={}), "this run holds no token scores of the clone"),
        (lambda run: change(run, bits_per_byte={}, action={}), "there are no token scores in this run"),
        (lambda run: change(run, imitation_gain=None), "not measured"),
        (lambda run: change(run, examples=[]), "This scorecard holds no examples."),
        (lambda run: change(run, guardrails=[]), "No guardrail was measured."),
        (lambda run: change(run, unscored=3), f"3 of {PROMPTS} held-out prompts could not be scored"),
        (lambda run: change(run, split="validation"), "Judged on the validation split"),
        (lambda run: run.update_manifest(sessions=[]), "The commands of this run were not recorded."),
    ],
)
def test_missing_parts_are_said_in_words(run: Run, spoil: Callable[[Run], None], said: str) -> None:
    spoil(run)
    found, markdown = both(run)
    assert said in found.words
    assert said in markdown or said.startswith("Th")


def test_a_foreign_adapter_with_nothing_but_a_scorecard_has_a_report(run: Run) -> None:
    """`sft evaluate` on an adapter trained elsewhere: no recipe, no log, no ledger, no token scores."""
    for path in (run.log_path, run.ledger_path, run.demonstrations_path, run.scores_path):
        path.unlink()
    write_json(run.manifest_path, {"schema_version": 1})
    change(run, survival={}, bits_per_byte={}, action={}, imitation_gain=None, lengths={}, examples=[], signature={})
    run = Run.open(run.path)
    found, _ = both(run)
    assert found.headings[0] in RUNGS
    assert "docstrings" in found.words, "the folder's name stands in for the recipe's"
    assert "The lengths of the completions are not in this run." in found.words


def test_an_estimate_without_interval_says_why(run: Run) -> None:
    changed = card(run)
    bare = {"low": None, "high": None, "method": "one cluster: no interval"}
    changed["gain"]["estimate"] |= bare
    changed["gain"]["smallest_visible"] = None
    changed["gains"] = [changed["gain"]]
    for system in changed["systems"]:
        system["scores"]["chrf"] |= bare
    write_json(run.scorecard_path, changed)
    found, markdown = both(run)
    assert "no interval: one cluster: no interval" in found.words
    assert "| none |" in markdown
    assert f"{changed['systems'][0]['scores']['chrf']['value']:.1f}" in found.words


def test_too_many_looks_at_the_test_split_are_pointed_out(run: Run) -> None:
    assert "has been looked at" not in both(run)[0].words
    run.look("validation", "choose the checkpoint")
    assert "has been looked at" not in both(run)[0].words
    run.look("test", "another temperature")
    found, markdown = both(run)
    assert "The test split has been looked at 2 times." in found.words
    assert "looked at 2 times" in markdown


def test_a_red_guardrail_is_told_by_word_and_not_by_colour_alone(run: Run) -> None:
    rails = card(run)["guardrails"]
    assert "over the limit" not in both(run)[0].words
    change(run, guardrails=[rails[0] | {"red": True}, *rails[1:]])
    found, markdown = both(run)
    assert found.words.count("✕ over the limit") == 1
    assert "| over the limit |" in markdown


def test_another_expert_gets_a_row(run: Run) -> None:
    changed = card(run)
    changed["systems"].append(changed["systems"][0] | {"system": "E", "note": "each expert against the others"})
    write_json(run.scorecard_path, changed)
    found, _ = both(run)
    assert SYSTEMS["E"] in found.words
    assert "each expert against the others" in found.words


def test_a_run_without_a_scorecard_says_how_to_get_one(run: Run) -> None:
    run.scorecard_path.unlink()
    with pytest.raises(RunError, match=r"no scorecard yet; write one with `sft evaluate"):
        render(run)


@pytest.mark.parametrize("text", ['{"verdict"', "[]", '{"verdict": {"rung": "imitates"}}'])
def test_a_damaged_scorecard_is_one_sentence_and_leaves_the_old_report(run: Run, text: str) -> None:
    before = render(run).read_bytes()
    run.scorecard_path.write_text(text)
    with pytest.raises(RunError, match=r"scorecard\.json") as error:
        render(run)
    assert "\n" not in str(error.value)
    assert run.report_html_path.read_bytes() == before


def test_a_damaged_ledger_is_one_sentence(run: Run) -> None:
    write_json(run.ledger_path, {"rows": 5, "unrolled": 0, "fates": {"trained": 4}})
    with pytest.raises(RunError, match="does not add up"):
        render(run)


def test_a_resumed_log_tells_each_step_once(run: Run) -> None:
    """Steps after the checkpoint are logged again; the curve must not run backwards."""
    write_jsonl(run.log_path, [{"step": 10, "loss": 3.0}, {"step": 20, "loss": 9.0}, {"step": 20, "loss": 2.0}])
    append_jsonl(run.log_path, {"step": 15, "loss": None})
    told = losses([json.loads(line) for line in run.log_path.read_text().splitlines()])
    assert told is not None
    assert told["train"] == [(10, 3.0), (20, 2.0)]
    assert "Loss on a validation split was not measured." in both(run)[0].words


# Other people's text

HOSTILE = {
    "prompt": '</div></article><script>alert("prompt")</script><!-- \u202egnp.exe\u202c\x1b[2J\x00',
    "expert": "</script><img src=x onerror=alert(1)> | a | b |\n```\n# Not a heading\n<style>*{display:none}</style>",
    "tuned": "</script><img src=x onerror=alert(2)> | a | c |\n````\n# Not a heading\u2028\u2066x <style>*{}</style>",
    "B0": "{{ 7 * 7 }} {% include 'x' %} &lt;b&gt; [click](javascript:alert(3)) ![x](http://x.example/p.png) \ud800",
}


def test_hostile_completions_are_shown_and_do_nothing(tmp_path: Path) -> None:
    calm = factories.make_run(tmp_path / "calm", prompts=PROMPTS)
    hostile = factories.make_run(tmp_path / "hostile", prompts=PROMPTS, texts=HOSTILE)
    (quiet, _), (found, markdown) = both(calm), both(hostile)
    assert not {"script", "img"} & set(found.tags)
    assert found.tags["style"] == 1
    assert {tag: n for tag, n in found.tags.items() if tag not in ("span", "ins", "del")} == {
        tag: n for tag, n in quiet.tags.items() if tag not in ("span", "ins", "del")
    }
    assert '<script>alert("prompt")</script>' in "".join(found.text)
    assert "{{ 7 * 7 }}" in "".join(found.text)
    for name in ("U+202E", "U+001B", "U+0000", "U+2066", "U+2028", "U+D800"):
        assert name in found.words
        assert name in markdown
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "onerror" not in outside
    assert "javascript" not in outside
    for text in (hostile.report_html_path.read_text(encoding="utf-8"), markdown):
        assert not set("\x00\x1b\u202e\u2066\u2028") & set(text)


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
    for text in (finished_source(run), markdown):
        assert not set("\x00\u202e") & set(text)
    assert found.words.count("alert(1)") > 20


def test_a_hostile_recipe_name_is_shown_and_does_nothing(run: Run) -> None:
    name = "</title><script>x</script>|`*a*`[b](c)"
    run.update_manifest(recipe={"written": "</pre><script>", "resolved": {"name": name}})
    found, markdown = both(run)
    assert "script" not in found.tags
    assert name in "".join(found.text)
    assert "<script" not in re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)


@given(st.text(max_size=200))
def test_no_text_escapes_its_place(text: str) -> None:
    html = str(shown(text))
    assert not re.search(r"<(?!/?span)", html)
    assert Page(f"<div>{html}</div>").tags.keys() <= {"div", "span"}
    assert "\n" not in cell(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*\|", cell(text))
    assert "<" not in cell(text)
    block = fenced(text).split("\n")
    assert block[-1] == block[0].removesuffix("text")
    assert block[0].removesuffix("text") not in "\n".join(block[1:-1])
    html.encode("utf-8")


def test_honest_scripts_keep_their_joiners_and_marks() -> None:
    text = "می\u200cخواهم 👩\u200d🚀 שלום\u200f tab\there"
    assert plain(text) == text
    assert plain("a\r\nb") == "a\nb"


# Differences


def test_commands_in_our_own_words_are_code() -> None:
    text = "run `sft evaluate runs/a_b` <again>|`"
    assert str(coded(text)) == "run <code>sft evaluate runs/a_b</code> &lt;again&gt;|`"
    assert coded_cell(text) == "run `sft evaluate runs/a_b` &lt;again&gt;\\|\\`"


def test_differences_are_marked_word_by_word() -> None:
    found = differences("Return the header of this connection.", "Return the buffer of this connection, too.")
    assert found == [
        ("same", "Return the"),
        ("del", " header"),
        ("ins", " buffer"),
        ("same", " of this connection"),
        ("ins", ", too"),
        ("same", "."),
    ]
    assert differences("Return the header.", "Entirely unlike anything of his") is None
    assert differences("", "x") is None
    assert str(marked("a", "a")).endswith(" a")
    assert "<ins>" in str(marked("返回这个标题的缓冲区", "返回这个标题的大小")), "Chinese has no spaces"


@given(
    st.lists(st.sampled_from(["the", "a", "buffer", "<b>", ",", ".", "缓", "冲", "\n"]), min_size=1, max_size=20),
    st.randoms(),
)
def test_marks_keep_both_texts(words: list[str], draw: Any) -> None:
    """What is not struck is what was written; what is not inserted are the expert's words."""
    expert = " ".join(words)
    written = " ".join(word for word in words if draw.random() > 0.3)
    found = differences(expert, written)
    if found is None:
        return
    kept = "".join(text for kind, text in found if kind != "del")
    assert kept == written.rstrip() or kept.split() == written.split()
    theirs = "".join("".join(text.split()) for kind, text in found if kind != "ins")
    assert theirs == "".join(expert.split())


# Numbers


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        ((47.26, 45.1, 49.54), "points", "47.3 [45.1, 49.5]"),
        ((0.975, 0.94, 0.99), "share", "97.5 % [94.0, 99.0]"),
        ((0.975, None, None), "share", "97.5 %"),
        ((1.2345, 1.0, 1.5), "ratio", "1.23 [1.00, 1.50]"),
        ((0.44044, 0.4, 0.5), "bits", "0.440 [0.400, 0.500]"),
        ((-2.0, -4.04, 0.01), "points", "\N{MINUS SIGN}2.0 [\N{MINUS SIGN}4.0, 0.0]"),
        ((-0.01, -0.04, 3.0), "points", "0.0 [0.0, 3.0]"),
    ],
)
def test_numbers_are_written_one_way(value: tuple[float, float | None, float | None], style: str, text: str) -> None:
    assert figure(Estimate(value[0], value[1], value[2], 0.95, "t", 10), style) == text


def test_gains_carry_their_sign() -> None:
    estimate = Estimate(5.46, -0.31, 11.2, 0.95, "t", 10)
    assert figure(estimate, signed=True) == "+5.5 [\N{MINUS SIGN}0.3, +11.2]"
    assert figure(None) == "not measured"


def test_durations_are_told_as_people_would() -> None:
    assert [duration(s) for s in (4.4, 71, 3600, 7325)] == ["4 s", "1 min 11 s", "1 h 00 min", "2 h 02 min"]
