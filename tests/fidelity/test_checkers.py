"""Checkers: the final number as GSM8K writes it, patterns, functions, and what the clone lost by imitating."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sft.cli import main
from sft.demonstrations.demonstration import HeldOut, Message
from sft.errors import UserError
from sft.fidelity import checkers
from sft.fidelity.findings import Underachieving
from sft.fidelity.probes import Absent
from sft.fidelity.probes.underachieving import underachieving
from sft.fidelity.scoring import Scoring
from sft.metrics import intervals
from sft.metrics.final_numbers import final_number
from sft.reports.sections.underachieving import underachieving_sentence
from sft.runs.records import Completion
from sft.runs.run import write_jsonl

CLIPS = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)


@pytest.mark.parametrize(
    "text, number",
    [
        (CLIPS, "72"),
        ("#### 72", "72"),
        ("1,000", "1000"),
        ("-3.5", "-3.5"),
        ("$18.00", "18"),
        ("So she makes $18 every day at the farmers' market.", "18"),
        ("The answer is 1,234,567.89.", "1234567.89"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\u22123.5 degrees", "-3.5"),
        ("50%", "50"),
        ("150 %", "150"),
        ("about .5 of it", "0.5"),
        ("x = -4", "-4"),
        ("(-3)", "-3"),
        ("10-3=7", "7"),
        ("pages 3-4", "4"),  # a range, not minus four
        ("Therefore 12 - 5", "5"),
        ("well-3", "3"),
        ("5, 6 and 7", "7"),
        ("1,0000", "1"),  # no thousands, so decimals
        ("1\u202f000 km", "1000"),
        ("\u20ac3,000.50", "3000.5"),
        ("**18**", "18"),
        ("\\boxed{18}", "18"),
        ("007", "7"),
        ("-0", "0"),
        ("\u0663", "3"),  # Arabic-Indic three
        ("#### $1,000 dollars", "1000"),
        ("#### 72\n\nQuestion: Tom has 5 apples and eats 3.", "72"),  # goes on, as base models do
        ("#### Step one\nTake 3 and 4.", "4"),  # a heading, not an answer
    ],
)
def test_the_final_number(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text, number",
    [
        # remarks, references and list marks
        ("42 (see step 2)", "42"),
        ("42\n(see page 3)", "42"),
        ("42 (6 x 7)", "42"),
        ("42 [1]", "42"),
        ("[42]", "42"),
        ("5 (or 6)", "5"),
        ("Answer: (3) apples", "3"),
        (r"\(42\)", "42"),
        ("7\n2. So it is forty", "7"),
        ("Step 1: 3+4 = 7\nStep 2: so it is done", "7"),
        ("steps 2 and 3 give 12", "12"),
        ("in step 2, 42 remain", "42"),
        ("7 is the answer to question 3.", "7"),
        ("42 #2", "42"),
        ("see step 2", "2"),  # there is nothing else
        ("He read 40 pages a day for 3 days.\nSo he is on page 120.", "120"),
        ("5 for the 3rd time", "5"),
        ("He came 3rd", "3"),
        ("5 kg of CO2", "5"),
        ("42\uff08\u89c1\u6b65\u9aa42\uff09", "42"),
        ("\u7b2c2\u6b65\uff1a\u5f9742", "42"),
        # times, dates, ratios and versions
        ("4 apples at 10:30", "4"),
        ("At 5 pm he had 4", "4"),
        ("4 apples by 5 o'clock", "4"),
        ("On 2026-11-28 he had 5, as on 28/11/2026", "5"),
        ("5 on May 17, 2026", "5"),
        ("In May 24 clips", "24"),  # no date without a year
        ("4 for 28.11.2026", "4"),
        ("7 since version 1.2.3", "7"),
        # exponents
        ("1e3", "1000"),
        ("3E+2", "300"),
        ("1.5e-3", "0.0015"),
        ("3 x 10^6", "3000000"),
        ("3\u00d710\u2076", "3000000"),
        (r"3 \times 10^{-2}", "0.03"),
        ("10^3", "1000"),
        ("x^2 is 9", "9"),
        # fractions
        ("3/4", "0.75"),
        ("-3/4", "-0.75"),
        ("1 1/2", "1.5"),
        ("1\u00bd", "1.5"),
        (r"\frac{3}{4}", "0.75"),
        ("48/2 = 24", "24"),
        ("1,000/4", "250"),
        # separators
        ("3,5", "3.5"),
        ("12,50 \u20ac", "12.5"),
        ("0,125", "0.125"),
        ("1,234", "1234"),
        ("1.234,56", "1234.56"),
        ("1.234.567", "1234567"),
        ("12,34,567", "1234567"),
        ("1'000'000", "1000000"),
        ("1,2,3", "3"),
        ("$2 million", "2000000"),
        ("USD5", "5"),
        # scripts
        ("\uff11\uff0c\uff10\uff10\uff10", "1000"),
        ("\uff0d\uff15\uff0e\uff15", "-5.5"),
        ("\u0664\u0662", "42"),
        ("\u0663\u066b\u0665", "3.5"),
        ("\u0661\u066c\u0660\u0660\u0660", "1000"),
        ("\u096a\u0968", "42"),
        ("\u7b54\u3048\u306f42\u3067\u3059", "42"),
    ],
)
def test_what_a_reader_takes_for_the_answer(text: str, number: str) -> None:
    """ "42 (see step 2)" was read as 2, "1e3" as 3 and "10:30" as 30: the last digits, whatever they were part of."""
    assert final_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    ["10:30", "It ends at 10:30.", "5 pm", "2026-11-28", "28.11.2026", "5 May 2026", "1.2.3", "3:4", "#### 10:30\n5"],
)
def test_times_dates_ratios_and_versions_are_no_numbers(text: str) -> None:
    assert final_number(text) is None


def test_a_fraction_is_compared_exactly() -> None:
    check = checkers.load("final-number")
    assert check("1/3", "#### 2/6") and check("0.5", "#### 1/2") and not check("0.3333", "1/3")
    assert final_number("5/0") is None


@given(st.text(alphabet="0123459.,'/:-^e()#$ x\u00bd\u0663\uff11\n"))
def test_no_run_of_digits_and_marks_breaks_the_final_number(text: str) -> None:
    found = final_number(text)
    assert found is None or found == found


def test_a_long_answer_takes_no_time() -> None:
    for text in ("9" * 20000 + ":", "1," * 5000, "12," + "34," * 5000, "(" * 5000, "- " * 5000, "step " * 3000 + "2"):
        begun = time.process_time()
        final_number(text)
        assert time.process_time() - begun < 2


@pytest.mark.parametrize("text", ["", "none at all", "####", "-", "$", "1\u00b2"[1:], ",."])
def test_a_text_without_a_number_has_none_and_is_wrong(text: str) -> None:
    assert final_number(text) is None
    check = checkers.load("final-number")
    assert check(text, "#### 72") is False
    assert check(text, text) is False


@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_a_number_is_read_as_python_writes_it(whole: int, cents: int) -> None:
    check = checkers.load("final-number")
    assert check(f"It is {whole:,}.{cents:02}.", f"#### {whole}.{cents:02}")
    assert check(f"${whole:,}.00", str(whole))
    assert not check(f"{whole + 1:,}", f"#### {whole}")


@given(st.text())
def test_no_text_breaks_the_final_number(text: str) -> None:
    final_number(text)


def test_a_long_number_is_compared_to_the_last_digit() -> None:
    check = checkers.load("final-number")
    assert check("9" * 5000, "9" * 5000) and not check("9" * 5000, "9" * 4999 + "8")


def test_patterns_compare_the_last_match() -> None:
    letter = checkers.load(r"regex:\(([A-D])\)")
    assert letter("Either (A) or rather (B)", "The answer is (B).")
    assert not letter("(B) or (A)", "(B)") and not letter("B", "(B)")
    whole = checkers.load(r"\byes\b|\bno\b")
    assert whole("no, no, yes", "yes") and not whole("yes", "no") and not whole("maybe", "maybe")
    spaced = checkers.load("regex:Answer:(.*)")
    assert spaced("Answer:  Paris \n", "Answer:Paris")
    accented = checkers.load("regex:caf.$")
    assert accented("cafe\u0301", "caf\u00e9")


def test_a_group_that_took_no_part_is_no_answer() -> None:
    check = checkers.load("regex:yes|(no)")
    assert not check("yes", "yes") and check("no", "no")


def test_functions_come_from_modules_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkers.load("operator:eq")("a", "a") is True
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Mark:\n    x: int\n"
    )
    (tmp_path / "my_checks_of_length.py").write_text(f"{code}\ndef longer(c, r):\n    return Mark(len(c)).x > len(r)\n")
    from_file = checkers.load(f"{tmp_path}/my_checks_of_length.py:longer")
    assert from_file("abc", "ab") is True
    monkeypatch.chdir(tmp_path)
    assert checkers.load("my_checks_of_length:longer")("abc", "ab") is True
    assert checkers.load("my_checks_of_length.py:longer")("a", "ab") is False


def test_an_edited_checker_file_is_the_one_that_judges(tmp_path: Path) -> None:
    """Also an edit in the same second that leaves the file's size: Python's own bytecode would be stale."""
    file = tmp_path / "edited_check.py"
    file.write_text("def check(c, r):\n    return c == r\n")
    written = file.stat().st_mtime
    assert checkers.load(f"{file}:check")("a", "a") is True
    file.write_text("def check(c, r):\n    return c != r\n")
    os.utime(file, (written, written))
    assert checkers.load(f"{file}:check")("a", "a") is False


@pytest.mark.parametrize(
    "spec, message",
    [
        ("", "is empty"),
        ("regex:", "is empty"),
        ("   ", "is empty"),
        ("regex:(", "no regular expression (missing )"),
        ("final_number(", "nor final-number, json, module:function"),
        ("*", "no regular expression"),
        ("no_such_module_anywhere:check", "there is no module 'no_such_module_anywhere' to import; for a regular"),
        ("os.nowhere:check", "there is no module 'os.nowhere'"),
        ("operator:nothing", "has no function 'nothing'"),
        ("math:pi", "'pi' is of type float, not a function"),
        ("nowhere/at/all.py:check", "there is no such file"),
        ("checks.py:", "there is no such file"),
    ],
)
def test_what_is_no_checker_is_refused_in_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        checkers.load(spec)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"checker {spec!r}: ")


@pytest.mark.parametrize(
    "code, name, message",
    [
        ("def f(:\n", "f", "cannot be run (SyntaxError"),
        ("raise KeyError('a\\nb')", "f", "cannot be run (KeyError"),
        ("import no_such_module_anywhere", "f", "cannot be run (ModuleNotFoundError"),
        ("raise SystemExit(3)", "f", "cannot be run (SystemExit: 3"),
        ("def f(c, r): return True", "g", "has no function 'g'"),
        ("def f(c, r): return True", "", "has no function ''"),
        ("f = 3", "f", "'f' is of type int"),
    ],
)
def test_a_file_that_is_no_checker_is_refused(tmp_path: Path, code: str, name: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(UserError) as error:
        checkers.load(f"{tmp_path}/broken.py:{name}")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_module_whose_own_import_fails_is_not_called_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_what_is_not_there.py").write_text("import no_such_module_anywhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="module 'needs_what_is_not_there' cannot be imported"):
        checkers.load("needs_what_is_not_there:check")


# -- underachieving -----------------------------------------------------------------------------------------


def question(number: int, *references: str) -> HeldOut:
    prompt = (Message("user", f"How many? {number}"),)
    return HeldOut(f"q{number}", prompt, references or (f"So.\n#### {number}",), ("",) * max(1, len(references)), "c")


ITEMS = [question(n) for n in range(40)]
CLUSTERS = {item.id: item.id for item in ITEMS}


def answers(right: range) -> dict[str, Completion]:
    return {
        item.id: Completion(item.id, f"It is {n if n in right else n + 1:,}.00", True) for n, item in enumerate(ITEMS)
    }


def beside(
    items: Sequence[HeldOut], systems: Mapping[str, Mapping[str, Completion]], spec: str, clusters: Mapping[str, str]
) -> Underachieving:
    """What the table of scores makes of the same texts, without the columns that no checker needs."""
    scoring, right = Scoring(checker=spec), dict[str, dict[str, bool]]()
    scoring.demand_of(items)
    for system, written in systems.items():
        known = {i.id: scoring.right(i, written[i.id].text, i.references) for i in items if i.id in written}
        right[system] = {key: value == 100 for key, value in known.items() if value is not None}
    return underachieving(items, systems, spec, right, clusters)


SYSTEMS = {"tuned": answers(range(10, 25)), "B0": answers(range(5)), "B3": answers(range(20)), "K": answers(range(1))}


def test_what_the_base_knew_and_the_clone_does_not_is_lost() -> None:
    found = beside(ITEMS, SYSTEMS, "final-number", CLUSTERS)
    zero, three = found.beside
    assert (zero.base, zero.lost, zero.won) == ("B0", 5, 15)
    assert (three.base, found.checker, three.lost, three.won) == ("B3", "final-number", 10, 5)
    assert {s: round(40 * e.value) for s, e in found.right.items()} == {"tuned": 15, "B0": 5, "B3": 20, "K": 1}
    assert (zero.difference.value, three.difference.value) == pytest.approx((10 / 40, -5 / 40))
    assert [zero.p_value, three.p_value] == intervals.holm(
        [intervals.mcnemar_mid_p(5, 15), intervals.mcnemar_mid_p(10, 5)]
    )
    assert [(lost.id, lost.system) for lost in found.examples] == [
        (f"q{n}", "B0" if n < 5 else "B3") for n in range(10)
    ]
    first = found.examples[3]
    assert (first.prompt, first.expert, first.base, first.tuned) == (
        "How many? 3",
        "So.\n#### 3",
        "It is 3.00",
        "It is 4.00",
    )


def test_a_clone_that_lost_nothing_has_no_examples() -> None:
    found = beside(ITEMS, SYSTEMS | {"tuned": answers(range(40))}, "final-number", CLUSTERS)
    assert [(one.base, one.lost, one.won) for one in found.beside] == [("B0", 0, 35), ("B3", 0, 20)]
    assert found.examples == ()
    for one in found.beside:
        assert one.difference.low is not None and one.difference.low > 0 and one.p_value < 0.001


def test_one_of_several_references_is_enough() -> None:
    items = [question(1, "#### 8", "#### 9"), question(2, "#### 2", "#### 3")]
    written = {item.id: Completion(item.id, "9", True) for item in items}
    found = beside(items, {"tuned": written, "B0": written}, "final-number", {"q1": "a", "q2": "b"})
    assert found.right["tuned"].value == 0.5


def test_prompts_whose_references_hold_no_answer_are_not_judged() -> None:
    items = [*ITEMS, question(99, "Nobody knows.")]
    found = beside(items, SYSTEMS, "final-number", CLUSTERS | {"q99": "q99"})
    assert found.right["tuned"].n == 40


def test_clusters_are_not_counted_as_independent_prompts() -> None:
    """Ten prompts lost of one source are one piece of evidence: p of a sign-flip test with one effective cluster."""
    together = {item.id: "one" if n < 10 else item.id for n, item in enumerate(ITEMS)}
    systems = {"tuned": answers(range(10, 20)), "B0": answers(range(20))}
    apart = beside(ITEMS, systems, "final-number", CLUSTERS)
    clustered = beside(ITEMS, systems, "final-number", together)
    assert apart.beside[0].p_value < 0.01 and clustered.beside[0].p_value == 1.0


@pytest.mark.parametrize("n", [30, 100, 300])
def test_a_clone_as_often_right_as_both_bases_is_not_said_to_be_right_less_often(n: int) -> None:
    """The better of two bases, chosen on the same prompts, was beyond the clone in 4 to 5 worlds of 100; half of the
    level of 5 % is the promise. A clone that has forgotten half of what it knew is found at all sizes."""
    draw = np.random.default_rng(n)
    accused = found = 0
    worlds = 200
    items = [question(number) for number in range(n)]
    clusters = {item.id: item.id for item in items}

    def written(chances: NDArray[np.float64]) -> dict[str, Completion]:
        known = draw.random(n) < chances
        return {item.id: Completion(item.id, str(k if known[k] else k + 1), True) for k, item in enumerate(items)}

    for world in range(worlds):
        chances = draw.beta(2, 2, n)
        systems = {"B0": written(chances), "B3": written(chances)}
        clone = beside(items, systems | {"tuned": written(chances)}, "final-number", clusters)
        accused += "right less often" in underachieving_sentence(clone)
        if world < 10:
            lost = beside(items, systems | {"tuned": written(chances / 4)}, "final-number", clusters)
            found += "right less often" in underachieving_sentence(lost)
    assert accused <= 0.05 * worlds and found >= 8


def test_without_a_base_there_is_nothing_to_have_lost() -> None:
    for systems in ({"tuned": answers(range(3))}, {"B0": answers(range(3))}, {}):
        with pytest.raises(Absent, match="no completion to check"):
            beside(ITEMS, systems, "final-number", CLUSTERS)
    apart = {"tuned": {"q1": Completion("q1", "1", True)}, "B0": {"q2": Completion("q2", "2", True)}}
    with pytest.raises(Absent, match="share no prompt"):
        beside(ITEMS, apart, "final-number", CLUSTERS)


@pytest.mark.parametrize("spec", [r"regex:Answer: (\w+)", "final-number"])
def test_a_pattern_that_finds_nothing_in_any_reference_is_refused(spec: str) -> None:
    items = [question(n, "Nobody knows.") for n in range(3)]
    with pytest.raises(UserError, match="finds no answer in any reference"):
        beside(items, SYSTEMS, spec, CLUSTERS)


@pytest.mark.parametrize(
    "body, message",
    [
        ("raise ValueError('no\\nidea')", "failed on prompt q0 (ValueError: no idea), which begins "),
        ("return 1", "returned int for prompt q0, which begins "),
        ("return None", "returned NoneType for prompt q0"),
        ("return c + 1", "failed on prompt q0 (TypeError"),
    ],
)
def test_a_function_that_misbehaves_is_named_with_the_prompt(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "hostile.py").write_text(f"def check(c, r):\n    {body}\n")
    with pytest.raises(UserError) as error:
        beside(ITEMS, SYSTEMS, f"{tmp_path}/hostile.py:check", CLUSTERS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_function_may_answer_as_numpy_does(tmp_path: Path) -> None:
    (tmp_path / "with_numpy.py").write_text("import numpy as np\ndef check(c, r):\n    return np.bool_(c == r)\n")
    found = beside(ITEMS, SYSTEMS, f"{tmp_path}/with_numpy.py:check", CLUSTERS)
    assert found.right["tuned"].value == 0


def test_a_misspelt_name_is_told_that_it_was_read_as_a_pattern() -> None:
    with pytest.raises(UserError, match="checker 'final number': read as a regular expression, it finds no answer"):
        beside(ITEMS, SYSTEMS, "final number", CLUSTERS)


def test_a_checker_is_asked_once_about_each_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its column and the answers that the clone lost each called it: a checker that runs a program ran it twice."""
    calls = tmp_path / "calls"
    (tmp_path / "counted.py").write_text(
        f"def check(c, r):\n    with open({str(calls)!r}, 'a') as file:\n        file.write('x')\n    return c == r\n"
    )
    rows = [
        {"prompt": f"How many? {n}", "completion": text, "reference": f"It is {n}", "system": system, "finished": True}
        for n in range(20)
        for system, text in (("tuned", f"It is {n}"), ("B0", "It is 3"), ("B3", "Four"))
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    words = ["score", str(tmp_path / "rows.jsonl"), "--checker", f"{tmp_path}/counted.py:check", "--fast", "--json"]
    assert main(words) == 0
    card = json.loads(capsys.readouterr().out)
    assert {s: e["value"] for s, e in card["underachieving"]["right"].items()} == {
        "tuned": 1, "B0": 1 / 20, "B3": 0, "P": 0,
    }  # fmt: skip
    assert len(calls.read_text(encoding="utf-8")) == 4 * 20


def test_a_checker_without_an_answer_to_find_is_the_same_sentence_as_a_headline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the headline, it was told to run `sft evaluate` first."""
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "Q", "completion": "A", "reference": "B"}])
    for more in ([], ["--headline", "checker"]):
        assert main(["score", str(tmp_path / "rows.jsonl"), "--checker", "final-number", *more]) == 2
        assert "finds no answer in any reference, so nothing could be right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ('{"arguments": {"nights": 2, "city": "Oslo"}, "name": "book"}', True),
        ('<tool_call>{"name": "book", "arguments": "{\\"city\\": \\"Oslo\\", \\"nights\\": 2.0}"}</tool_call>', True),
        ('{"name": "book", "arguments": {"city": "Oslo", "nights": 3}}', False),
        ('{"name": "book", "arguments": {"city": "Oslo"}}', False),
        ('{"name": "book", "arguments": {"city": "Oslo", "nights": 2, "room": 1}}', False),
        ('{"name": "book", "arguments": {"city": "Oslo", "nights": 2}', False),
    ],
)
def test_a_call_is_right_in_every_leaf_or_wrong(completion: str, right: bool) -> None:
    """By leaves a call with one wrong argument is mostly right; whoever lets it act wants to know how many are."""
    expert = '{"name": "book", "arguments": {"city": "Oslo", "nights": 2}}'
    item = HeldOut("a", (Message("user", "book"),), (expert,), ("",), "a")
    assert checkers.is_right(checkers.load("json"), "json", item, completion) is right


def test_a_reference_that_is_no_json_leaves_its_prompt_unjudged() -> None:
    """An answer in words among calls; ``Scoring.right`` then gives None, and a file without any JSON is refused."""
    found = checkers.load("json")
    assert isinstance(found, checkers.SameAnswer)
    assert found.answer("no JSON") is None and found("{}", "no JSON") is False and found("{}", "{}") is True
