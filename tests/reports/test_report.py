"""The report says the verdict first, leaves nothing out, and lets no completion speak for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import Page, both, card, change, page

from sft.demonstrations.ledger import FATES
from sft.errors import RunError
from sft.fidelity.probes.examples import BANDS
from sft.fidelity.scorecard import RUNGS, SYSTEMS
from sft.metrics.estimate import Estimate
from sft.reports.report import render
from sft.reports.sections.training import losses
from sft.reports.text import cell, coded, coded_cell, differences, duration, fenced, figure, marked, shown
from sft.runs.run import Run, append_jsonl, write_json, write_jsonl
from sft.runs.visible import plain

PROMPTS = 60
PICTURES = (
    *(
        "systems",
        "gains",
        "strata",
        "closure",
        "experts",
        "survival",
        "prefix",
        "compounding",
        "calibration",
        "impostor",
    ),
    *("lengths", "self_agreement", "gaps", "underachieving", "memorisation", "forgetting", "losses", "ledger"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = factories.make_run(tmp_path_factory.mktemp("runs") / "docstrings", prompts=PROMPTS)
    render(run)
    return run


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(finished.path, tmp_path / "docstrings"))


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


def test_every_picture_is_there_once(finished: Run) -> None:
    found = page(finished)
    assert {f"{key}-{part}" for key in PICTURES for part in "td"} <= set(found.ids)
    assert finished.report_html_path.read_text(encoding="utf-8").count('class="picture"') == len(PICTURES)
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


def test_a_page_holds_some_examples_and_says_of_how_many(run: Run) -> None:
    """However many prompts there are and however long their texts."""
    found = card(run)["examples"]
    distinct = {one["id"] for one in found}
    change(run, n=50_000, examples=[found[0] | {"prompt": f"{'long ' * 50_000}end."}, *found[1:]])
    html, markdown = both(run)
    said = f"{len(distinct)} of 50 000 prompts are shown; the scores of all are in"
    for text in (html.words, " ".join(markdown.split())):
        assert said in text and "long [... 246 004 more characters]" in text
        assert "long end." not in text and len(text) < 1_000_000
    change(run, n=len(distinct))
    assert "prompts are shown" not in both(run)[0].words


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
        "import sys\nfrom sft.reports.report import render\nfrom sft.runs.run import Run\n"
        "render(Run.open(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'evaluate', 'peft', 'trl', 'sklearn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(finished.path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


# What is missing is said


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
    change(run, guardrails=[rails[0] | {"state": "red"}, *rails[1:]])
    found, markdown = both(run)
    assert found.words.count("✕ over the limit") == 1
    assert "| over the limit |" in markdown


def test_a_guardrail_that_is_not_settled_says_what_would_settle_it(run: Run) -> None:
    rails = card(run)["guardrails"]
    some = rails[0]["value"] | {"value": 0.04}
    change(run, guardrails=[rails[0] | {"state": "amber", "settled_by": 1234, "value": some}])
    found, markdown = both(run)
    assert "? not settled about 1,200 prompts would settle it" in found.words
    assert "| not settled: about 1,200 prompts would settle it |" in markdown


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
