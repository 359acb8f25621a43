"""The action decides, not the string: planted clones whose text is off and whose action is right, and the other way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from planted_actions import CITIES, call, solutions, tool_calls

from sft.cli import main
from sft.cli.arguments import parser
from sft.demonstrations.headlines import asked_for, suggestion
from sft.fidelity.checkers import load
from sft.metrics.normalise import NORMALISERS, normaliser
from sft.recipes.fields import Fidelity
from sft.runs.run import write_jsonl


def scored(folder: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    write_jsonl(folder / "rows.jsonl", rows)
    capsys.readouterr()
    assert main(["score", str(folder / "rows.jsonl"), "--fast", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def mean(card: dict[str, Any], system: str, score: str) -> float:
    (found,) = (one["scores"][score]["value"] for one in card["systems"] if one["system"] == system)
    return float(found)


def gain(card: dict[str, Any], floor: str) -> dict[str, Any]:
    (found,) = (one["estimate"] for one in card["gains"] if one["floor"] == floor)
    return dict(found)


# -- json -----------------------------------------------------------------------------------------------------


def test_right_calls_in_another_order_are_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By chrF such a clone was below a shortcut that has a third of the arguments wrong."""
    rows = tool_calls("turned")
    text = scored(tmp_path, rows, capsys)
    assert gain(text, "B0")["high"] < 0
    action = scored(tmp_path, rows, capsys, "--headline", "json")
    assert action["headline"] == action["signature"]["headline"] == "json"
    assert mean(action, "tuned", "json") == 100 and gain(action, "B0")["low"] > 15
    assert "JSON points closer" in action["verdict"]["sentence"]


def test_wrong_calls_are_seen_to_be_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One night too few in every call costs a leaf of six, and a checker of the whole call finds none right."""
    rows = tool_calls("wrong")
    text = scored(tmp_path, rows, capsys)
    assert mean(text, "tuned", "chrf") > 90
    action = scored(tmp_path, rows, capsys, "--headline", "json")
    assert mean(action, "tuned", "json") == pytest.approx(100 * 5 / 6)
    whole = scored(tmp_path, rows, capsys, "--headline", "checker", "--checker", r"regex:\"nights\": \d+")
    assert mean(whole, "tuned", "checker") == 0
    assert whole["verdict"]["rung"] == "not judged: completions alone" and gain(whole, "B0")["high"] < 0


def test_the_report_names_what_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "rows.jsonl", tool_calls("perfect"))
    run = tmp_path / "run"
    assert main(["score", str(tmp_path / "rows.jsonl"), "--fast", "--headline", "json", "--output", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "JSON points closer" in page and "JSON leaves" in page
    before = (run / "scorecard.json").read_bytes()
    assert main(["report", str(run), "--recompute"]) == 0
    assert (run / "scorecard.json").read_bytes() == before
    text = run.with_name("text")
    assert main(["score", str(tmp_path / "rows.jsonl"), "--fast", "--output", str(text)]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(text)]) == 2
    assert "is judged by json" in capsys.readouterr().err


def test_a_reference_that_is_no_json_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tool_calls("perfect", prompts=3)
    for row in rows[3:6]:
        row["reference"] = "I cannot book that."
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert main(["score", str(tmp_path / "rows.jsonl"), "--headline", "json"]) == 2
    said = capsys.readouterr().err
    begins = " ".join(rows[3]["prompt"].split())[:40]
    where = f"sft: --headline: is json, and what an expert wrote for prompt {tmp_path / 'rows.jsonl'}:4, which begins "
    assert where in said and begins in said and said.count("\n") == 1


def test_a_checker_that_fails_names_the_row_and_its_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hash of the prompt was named, which stands nowhere in the user's file."""
    rows = [{"prompt": f"Tide\n {n}? {'long ' * 40}", "completion": "a", "reference": "b"} for n in range(3)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "mine.py").write_text("def check(c, r):\n    return 1 / 0\n", encoding="utf-8")
    assert main(["score", str(tmp_path / "rows.jsonl"), "--checker", f"{tmp_path}/mine.py:check"]) == 2
    said = capsys.readouterr().err
    assert f"failed on prompt {tmp_path / 'rows.jsonl'}:1 (ZeroDivisionError: division by zero), which begins " in said
    assert "\u201cTide 0? long long " in said and "\u2026\u201d; mend the function" in said and said.count("\n") == 1


# -- a checker ------------------------------------------------------------------------------------------------


def test_a_text_that_is_right_but_for_the_answer_is_not_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 solutions with every final answer replaced had a chrF of 98 and were "closer to the expert's"."""
    words = ("--headline", "checker", "--checker", "final-number")
    wrong = scored(tmp_path, solutions("wrong"), capsys, *words)
    assert mean(wrong, "tuned", "chrf") > 95 and mean(wrong, "tuned", "checker") == 0
    assert all(one["estimate"]["value"] <= 0 for one in wrong["gains"])
    right = scored(tmp_path, solutions("right"), capsys, *words)
    assert mean(right, "tuned", "checker") == 100 and mean(right, "B0", "checker") == 50
    assert gain(right, "B0")["low"] > 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--headline", "checker"), "sft: --headline: is checker, and nothing says which answers are right"),
        (("--bar", "chrf=0"), "sft: --bar: chrf is 0"),
        (("--bar", "rouge=5"), "sft: --bar: rouge"),
        (("--headline", "bleu"), "sft: --headline: there is no score 'bleu'; choose from chrf"),
        (
            ("--headline", "exact_match", "--bar", "json=60"),
            "sft: --bar: asks for json, and what an expert wrote for prompt",
        ),
    ],
)
def test_a_headline_that_cannot_be_is_one_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", solutions("right", 5))
    assert main(["score", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "run"), *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


# -- what is set aside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "text", "plain"),
    [
        (["fence"], "```json\n{}\n```", "{}"),
        (["fence"], "See:\n```\n{}\n```", "See:\n```\n{}\n```"),
        (["fence"], "~~~\na\nb\n~~~\n", "a\nb"),
        (["think"], "<think>\nhm\n</think>\n\nYes.", "Yes."),
        (["think"], "<think>for ever", ""),
        (["case"], "Straße", "strasse"),
        (["space"], " a \n\tb ", "a b"),
        (["case", "space", "fence", "think"], "<think>x</think>```\nA  B\n```", "a b"),
        ([], " As it IS ", " As it IS "),
    ],
)
def test_what_is_set_aside(names: list[str], text: str, plain: str) -> None:
    assert normaliser(names)(text) == plain


def test_it_is_set_aside_for_all_alike_and_on_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tool_calls("perfect")
    for row in rows:
        row["completion"] = f"```json\n{row['completion'].upper()}\n```"
    bare = scored(tmp_path, rows, capsys)
    assert mean(bare, "tuned", "exact_match") == 0 and "normalise" not in bare["signature"]
    plain = scored(tmp_path, rows, capsys, "--normalise", "fence", "--normalise", "case")
    assert mean(plain, "tuned", "exact_match") == 100 and plain["signature"]["normalise"] == ["fence", "case"]
    assert mean(plain, "B0", "chrf") > mean(bare, "B0", "chrf")
    (length,) = (one["scores"]["length_ratio"]["value"] for one in plain["systems"] if one["system"] == "tuned")
    assert length == 1


# -- what setting it aside would change --------------------------------------------------------------------------

GOODS = ["Lamps", "Chairs", "Tables", "Mirrors", "Carpets", "Clocks", "Vases", "Shelves"]
WAYS = ["By Rail", "By Ship", "By Road", "By Air"]
CARRIERS = ["Anders Holm", "Bruna Costa", "Chen Li", "Dora Weiss", "Eli Stone", "Femi Ade"]


def order(number: int, draw: random.Random) -> str:
    """One of several who write about the same order: the facts are the prompt's, the rest is the writer's choice."""
    facts = random.Random(number)
    goods, city, way = facts.choice(GOODS), facts.choice(CITIES), facts.choice(WAYS)
    told = f"{facts.randint(2, 99)} {goods} {draw.choice(['Go', 'Travel', 'Are Sent'])} To {city} {way}"
    return f"{told}, {draw.choice(['Says', 'As Told By', 'Signed'])} {draw.choice(CARRIERS)}."


Fault = Callable[[str], str]
FAULTS: dict[str, tuple[Fault, str]] = {
    "small letters": (str.lower, "case"),
    "capitals": (str.upper, "case"),
    "fence": (lambda text: f'```text title="The Answer To Your Question About This Order"\n{text}\n```', "fence"),
    "thinking": (lambda text: f"<think>The user asks about an order. I recall it.</think>\n{text}", "think"),
}


def orders(prompts: int, seed: int, fault: Fault = str, of_base: Fault = str) -> list[dict[str, Any]]:
    """A clone who writes as the two experts do, but for its ``fault``, beside a base that knows another order."""
    draw, rows = random.Random(f"{prompts} {seed}"), []
    for number in range(prompts):
        shown = {"prompt": f"Order {number} {draw.random()}", "finished": True}
        shown["references"] = [order(number, draw), order(number, draw)]
        told = of_base(order(number, draw) if of_base is not str else order(number + 1000, draw))
        rows.append(shown | {"completion": fault(order(number, draw))})
        rows.append(shown | {"completion": told, "system": "B0"})
    return rows


@pytest.mark.parametrize(
    ("prompts", "fault"), [*((n, fault) for n in (30, 100) for fault in FAULTS), (300, "small letters")]
)
def test_what_setting_aside_would_change_is_said_where_it_decides(
    prompts: int, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perfect clone in small letters is far from the expert by the letter; the remedy that is named is followed."""
    done, step = FAULTS[fault]
    card = scored(tmp_path, orders(prompts, 0, done), capsys, "--output", str(tmp_path / "run"))
    found = card["if_normalised"]
    assert found is not None and found["steps"] == [step]
    then = scored(tmp_path, orders(prompts, 0, done), capsys, "--normalise", step)
    assert then["gain"] == found["gain"] and then["closure"]["share"] == found["share"]
    assert then["if_normalised"] is None and then["closure"]["finding"] != card["closure"]["finding"] == "not cloned"
    said = f"set aside in every text (--normalise {step}) it would be decided otherwise: the clone's lead over"
    assert said in (tmp_path / "run" / "report.md").read_text(encoding="utf-8").replace("\\", "")


@pytest.mark.parametrize(("prompts", "sets"), [(30, 10), (100, 3), (300, 1)])
def test_of_a_perfect_clone_nothing_is_said_of_setting_aside(
    prompts: int, sets: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(sets):
        assert scored(tmp_path, orders(prompts, seed), capsys)["if_normalised"] is None, seed


def test_a_lead_that_is_only_the_fence_of_the_base_model_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base writes what the experts write, in a fence: all that the clone is ahead by."""
    fenced = FAULTS["fence"][0]
    card = scored(tmp_path, orders(100, 0, of_base=fenced), capsys)
    assert gain(card, "B0")["low"] > 0
    assert card["if_normalised"]["steps"] == ["fence"] and card["if_normalised"]["gain"]["estimate"]["low"] < 0


def test_a_whole_verdict_and_a_bar_are_looked_at_again_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = orders(100, 0, str.lower)
    barred = scored(tmp_path, rows, capsys, "--bar", "chrf=50")
    assert barred["verdict"]["rung"] == "does not pass your bar"
    assert barred["if_normalised"]["rung"] == "passes your bar"
    for row in rows:
        size = len(row["references"][0].encode())
        row |= {"nats": (1.0 if "system" in row else 0.5) * size, "bytes": size}
    rows += [row | {"system": "B3"} for row in rows if "system" in row]
    learned = [{"prompt": f"Old {n}", "completion": order(n + 2000, random.Random(n))} for n in range(60)]
    write_jsonl(tmp_path / "train.jsonl", learned)
    whole = scored(tmp_path, rows, capsys, "--train", str(tmp_path / "train.jsonl"))
    assert whole["verdict"]["rung"] in ("no evidence of cloning", "imitates")
    assert whole["if_normalised"]["rung"] == "learned from the demonstrations"
    then = scored(tmp_path, rows, capsys, "--train", str(tmp_path / "train.jsonl"), "--normalise", "case")
    assert then["verdict"]["rung"] == "learned from the demonstrations"


# -- what the completions ask for -------------------------------------------------------------------------------


def test_completions_say_which_headline_they_ask_for() -> None:
    draw = random.Random(2)
    calls = [json.dumps(call(3, draw)) for _ in range(40)]
    asked = asked_for(calls)
    assert asked is not None and asked.headline == "json"
    assert "json compares what they say" in suggestion(calls, "chrf", None) and not suggestion(calls, "json", None)
    assert asked_for([*calls, "I cannot."]) is None
    labels = [draw.choice(["billing", "delivery", "other thing"]) for _ in range(60)]
    found = asked_for(labels)
    assert found is not None and found.headline == "exact_match" and not suggestion(labels, "chrf", None)
    sums = [row["reference"] for row in solutions("right", 30)]
    found = asked_for(sums)
    assert found is not None and (found.headline, found.checker) == ("checker", "final-number")
    assert "final-number" in suggestion(sums, "chrf", None) and not suggestion(sums, "checker", "final-number")
    assert (
        asked_for([f"A text with {n} things in it, and more." for n in range(40)]) is None
        and asked_for(calls[:5]) is None
    )


def test_a_bar_on_json_is_looked_at_whatever_the_headline_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with such a bar could not be judged by another headline: json was measured as the headline alone."""
    draw = random.Random(9)
    rows = []
    for number in range(60):
        right = call(3, draw)
        written = dict(reversed(right.items())) if number % 20 else call(3, draw)
        rows.append({"prompt": f"{number}", "reference": json.dumps(right), "completion": json.dumps(written)})
    bars = {}
    for headline in ("json", "chrf"):
        card = scored(tmp_path, rows, capsys, "--headline", headline, "--bar", "json=80")
        assert card["headline"] == headline and card["verdict"]["rung"] == "passes your bar"
        bars[headline] = mean(card, "tuned", "json")
    assert bars["json"] == bars["chrf"] > 90
    card = scored(tmp_path, rows, capsys, "--headline", "chrf", "--bar", "json=99")
    assert card["verdict"]["rung"] == "does not pass your bar" and "JSON" in card["verdict"]["sentence"]
    recipe = tmp_path / "recipe.yaml"
    for headline, words in (("chrf", "bar asks for json"), ("json", "headline is json")):
        shown = [{"prompt": f"{n} {draw.random()}", "completion": json.dumps(call(3, draw))} for n in range(60)]
        recipe.write_text(
            f"model: {{name: some/model}}\ndemonstrations: {{path: {tmp_path / 'calls.jsonl'}}}\n"
            f"split: {{near_duplicates: remove}}\nfidelity: {{headline: {headline}, bar: {{json: 90}}}}\n",
            encoding="utf-8",
        )
        write_jsonl(tmp_path / "calls.jsonl", shown)
        assert main(["check", str(recipe)]) == 0
        write_jsonl(tmp_path / "calls.jsonl", [row | {"completion": "no"} for row in shown])
        assert main(["check", str(recipe)]) == 2
        said = capsys.readouterr()
        assert words in said.out + said.err


def test_check_says_it_and_a_recipe_that_cannot_be_judged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(3)
    rows = [{"prompt": f"{n} {draw.random()}", "completion": json.dumps(call(3, draw))} for n in range(60)]
    write_jsonl(tmp_path / "calls.jsonl", rows)
    assert main(["check", str(tmp_path / "calls.jsonl")]) == 0
    assert "Headline: all completions are JSON" in capsys.readouterr().out
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: some/model}}\ndemonstrations: {{path: {tmp_path / 'calls.jsonl'}}}\n"
        "split: {near_duplicates: remove}\nfidelity: {headline: json, bar: {json: 90}}\n",
        encoding="utf-8",
    )
    assert main(["check", str(recipe)]) == 0
    assert "Headline" not in capsys.readouterr().out
    for row in rows:
        row["completion"] = "no"
    write_jsonl(tmp_path / "calls.jsonl", rows)
    assert main(["check", str(recipe)]) == 2
    said = capsys.readouterr()
    assert "held-out completions are none, this one first" in said.out + said.err
    assert f"{tmp_path / 'calls.jsonl'}:" in said.out + said.err


@pytest.mark.engine
def test_a_plan_says_it_too(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(4)
    rows = [{"prompt": f"{n} {draw.random()}", "completion": json.dumps(call(3, draw))} for n in range(60)]
    write_jsonl(tmp_path / "calls.jsonl", rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: {tiny_model}}}\ndemonstrations: {{path: {tmp_path / 'calls.jsonl'}}}\n"
        "split: {near_duplicates: remove}\n",
        encoding="utf-8",
    )
    assert main(["plan", str(recipe), "--no-probe"]) == 0
    assert "Headline: all completions are JSON" in capsys.readouterr().out


def test_the_steps_of_normalising_have_one_set_of_names() -> None:
    """The recipe and the command line name them by hand, for neither may load what computes them."""
    choices, _ = get_args(Fidelity.model_fields["normalise"].annotation)
    assert set(get_args(choices)) == set(NORMALISERS)
    for name in NORMALISERS:
        assert parser().parse_args(["score", "x.jsonl", "--normalise", name]).normalise == [name]


def test_a_recipe_with_a_checker_as_its_headline_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {name: m}\ndemonstrations: {path: d.jsonl}\nfidelity: {headline: checker}\n", encoding="utf-8"
    )
    assert main(["check", str(recipe)]) == 2
    assert "'fidelity.headline' is checker, and nothing says which answers are right" in capsys.readouterr().err


# -- calls and answers in one file ----------------------------------------------------------------------------


def tagged(city: str, nights: int) -> str:
    return f'<tool_call>\n{{"name": "book", "arguments": {{"city": "{city}", "nights": {nights}}}}}\n</tool_call>'


def calls_and_answers() -> list[dict[str, Any]]:
    """Of 40 calls 10 are one night off, and 10 stand in prose; of 40 answers 10 are calls, and the others right."""
    rows = []
    for n in range(40):
        right, other = tagged(f"Oslo {n}", n), tagged(f"Oslo {n}", n + 1)
        said = other if n < 10 else f"I book Oslo {n}, for {n} nights." if n < 20 else right
        rows.append({"prompt": f"book {n}", "reference": right, "completion": said, "group": f"b{n}"})
        answer = f"Your room in Oslo {n} is booked for {n} nights."
        said = right if n < 10 else answer
        rows.append({"prompt": f"and then {n}?", "reference": answer, "completion": said, "group": f"a{n}"})
    return [row | {"finished": True} for row in rows]


def test_calls_are_compared_by_leaves_and_answers_beside_them_by_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: a call one night off has two of three leaves; the one in place of the other is nothing."""
    card = scored(tmp_path, calls_and_answers(), capsys, "--headline", "json")
    calls = (10 * 200 / 3 + 10 * 0 + 20 * 100) / 40
    answers = (10 * 0 + 30 * 100) / 40
    assert mean(card, "tuned", "json") == pytest.approx((calls + answers) / 2)


def test_the_json_checker_judges_prompts_whose_expert_wrote_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One answer in words among the references ended the evaluation: "mend the function"."""
    card = scored(tmp_path, calls_and_answers(), capsys, "--headline", "json", "--checker", "json")
    found = next(system["scores"]["checker"] for system in card["systems"] if system["system"] == "tuned")
    assert found["value"] == pytest.approx(50.0) and found["n"] == 40
    write_jsonl(tmp_path / "rows.jsonl", [row | {"reference": "words"} for row in calls_and_answers()])
    assert main(["score", str(tmp_path / "rows.jsonl"), "--checker", "json"]) == 2
    assert "checker 'json': finds no answer in any reference, so nothing could be right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ('{"b": [1, true], "a": "x"}', True),
        (' {"a": "x", "b": [1.0, true]}\n', True),
        ('Sure! {"a": "x", "b": [1, true]}', False),  # json.loads of it fails, and so does whoever waits for JSON
        ('```json\n{"a": "x", "b": [1, true]}\n```', False),  # unless fidelity.normalise: [fence] takes it off
        ('{"a": "x", "b": [true, true]}', False),
        ("", False),
    ],
)
def test_json_behind_a_sentence_is_wrong(completion: str, right: bool) -> None:
    assert load("json")(completion, '{"a": "x", "b": [1, true]}') is right
