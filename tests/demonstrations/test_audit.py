"""What is in a file, said so that a person knows what to do about it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft.cli import main
from sft.demonstrations.check import Audit, audit
from sft.demonstrations.conflicts import Handling, SeveralAnswers
from sft.demonstrations.formats import Reading, read
from sft.demonstrations.splits import NAMES, find_leaks
from sft.errors import DemonstrationsError, SplitError

ROWS: list[dict[str, Any]] = [
    {"prompt": "one", "completion": "a b c", "expert": "ann", "score": 1},
    {"prompt": "one", "completion": "a b c", "expert": "ann"},
    {"prompt": "ONE ", "completion": "d", "expert": "bob"},
    {"prompt": "two words", "completion": "x" * 30, "expert": "ann"},
    {"prompt": "", "completion": "nobody asked"},
]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return read(path)


def looked_through(reading: Reading) -> Audit:
    one, _, again, two = reading.demonstrations
    parts = dict(zip(NAMES, ([one, two], [], [again]), strict=True))
    return audit("x.jsonl", reading, parts=parts, leaks=find_leaks(parts))


def test_everything_is_counted(reading: Reading) -> None:
    found = looked_through(reading)
    assert [found.to_dict()[key] for key in ("rows", "demonstrations", "rejected", "unrolled")] == [5, 4, 1, 0]
    assert (found.prompts, found.groups, found.experts) == (2, 2, {"ann": 3, "bob": 1})
    assert (found.duplicates, found.reading.ignored) == (1, ("score",))
    assert found.splits == {"train": 2, "validation": 0, "test": 1}
    assert [(leak.source.source.line, leak.held_out.source.line) for leak in found.leaks] == [(1, 3)]  # type: ignore[union-attr]


def test_experts_in_conflict_are_shown_with_their_lines(reading: Reading) -> None:
    found = looked_through(reading)
    (conflict,) = found.several.examples
    assert found.several.conflicts == 1 and conflict.experts == 2 and found.to_dict()["conflicts"] == 1
    assert (conflict.prompt, conflict.writers) == ("one", (("ann",), ("bob",)))
    assert conflict.completions == ("a b c", "d")
    assert [where.rsplit(":", 1)[1] for where in conflict.where] == ["1", "3"]


def of(tmp_path: Path, *rows: tuple[str, str, str], **options: Any) -> Audit:
    path = tmp_path / "x.jsonl"
    made = [{"prompt": prompt, "completion": text, "expert": expert} for prompt, text, expert in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return audit("x.jsonl", read(path), **options)


def test_answers_stand_side_by_side_under_the_names_of_those_who_gave_them(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        *(("Who?", text, expert) for text, expert in [("I.", "ann"), ("You!", "bobby"), ("I.", "eve"), ("All.", "")]),
        *(("one man's changing mind", text, "ann") for text in ("a", "b")),
    )
    assert (found.several.conflicts, found.several.others) == (1, 1)
    address = tmp_path / "x.jsonl"
    assert (
        f"1 prompt has different completions by different experts.\n"
        f"  Who? ({address}:1 and 3 more rows)\n"
        "    ann, eve  I.\n"
        "    bobby     You!\n"
        "              All.\n"
    ) in found.to_text()
    assert (
        "1 prompt has several completions by one expert, which is no conflict: the clone learns that there is more "
        f"than one answer.\n  one man's changing mind ({address}:5 and 1 more row)\n    ann  a\n    ann  b\n"
    ) in found.to_text() + "\n"


def test_examples_of_conflicts_are_not_the_same_one_again(tmp_path: Path) -> None:
    rows = [(f"p{n}", text, text) for n in range(20) for text in (("yes", "no") if n < 18 else ("yes", f"no {n}"))]
    found = of(tmp_path, *rows)
    assert [c.completions for c in found.several.examples] == [("yes", "no"), ("yes", "no 18"), ("yes", "no 19")]
    assert found.several.examples[0].prompt == "p0" and found.several.conflicts == 20


def test_what_a_recipe_can_do_about_conflicts_is_said(tmp_path: Path) -> None:
    rows = [("p", text, text) for text in ("yes", "no")]
    for handling, words in (
        (Handling(outvoted=7, tied=2), "majority would train on the answer that most gave to a prompt, leaving 7 rows"),
        (Handling(outvoted=7, tied=2), "2 votes are tied"),
        (Handling(outvoted=7), "demonstrations.expert: no would clone one expert"),
        (Handling("majority", outvoted=7), "most gave to a prompt and leaves 7 rows out. Held-out prompts keep every"),
        (Handling(expert="no", others=4, others_prompts=1), "the other experts' 4 answers to 1 held-out prompt too"),
    ):
        assert words in of(tmp_path, *rows, handling=handling).to_text()
    chosen = of(tmp_path, *rows, handling=Handling(expert="no")).to_text()
    assert "demonstrations.expert: no is cloned, and nobody else." in chosen and "Nothing to mend." in chosen
    unnamed = of(tmp_path, ("p", "a", ""), ("p", "b", ""), handling=Handling(outvoted=1, tied=1))
    assert "which is no conflict if one expert wrote them" in unnamed.to_text()
    assert "demonstrations.columns.expert says who" in unnamed.to_text() and "Nothing to mend." in unnamed.to_text()
    voted = of(tmp_path, ("p", "a", ""), ("p", "b", ""), handling=Handling("majority", outvoted=1))
    assert "majority trains on the answer that most gave to a prompt and leaves 1 rows out." in voted.to_text()


def test_references_are_no_conflict(tmp_path: Path) -> None:
    """They are measured against and never trained on, so the clone learns no mixture from them."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "references": ["c"]}\n', encoding="utf-8")
    assert audit("x.jsonl", read(path)).several == SeveralAnswers(0, (), 0, None)


def test_lengths_are_quantiles_that_some_text_has(reading: Reading) -> None:
    lengths = looked_through(reading).completion_lengths
    assert lengths is not None
    assert lengths.words == {"0": 1, "50": 3, "90": 3, "99": 3, "100": 3}
    assert (lengths.characters["0"], lengths.characters["100"]) == (1, 30)


def test_the_findings_are_json_and_text(reading: Reading) -> None:
    found = looked_through(reading)
    value = json.loads(json.dumps(found.to_dict()))
    assert value["leaks"][0]["kind"] == "same prompt" and value["leaks"][0]["split"] == "test"
    assert value["rejected"] == 1 and "'prompt' is blank" in value["problems"][0]
    text = found.to_text()
    for option in ("--column FIELD=NAME", "demonstrations.duplicates", "demonstrations.expert", "near_duplicates"):
        assert option in text, "each finding names the setting that deals with it"
    aligned = text.split("\n\n")[0].splitlines()[1:]
    assert len({len(line) - len(line[2:].split("  ", 1)[1].lstrip()) for line in aligned if line[2] != " "}) == 1


def test_nothing_wrong_is_said_too(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    assert "Nothing to mend" in audit("x.jsonl", read(path)).to_text()


def test_what_would_stop_a_run_is_raised(reading: Reading) -> None:
    found = looked_through(reading)
    with pytest.raises(DemonstrationsError, match="1 of 5 rows cannot become demonstrations"):
        found.demand()
    with pytest.raises(SplitError, match="held-out"):
        found.demand(keep_going=True)
    with pytest.raises(SplitError, match="too few"):
        audit("x.jsonl", reading, undivided="too few").demand(keep_going=True)
    audit("x.jsonl", reading).demand(keep_going=True)


def test_looking_through_a_file_loads_no_engine() -> None:
    heavy = {"torch", "transformers", "datasets", "pyarrow", "sklearn"}
    code = f"import sys, sft.demonstrations.check; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- completions on both sides ---------------------------------------------------------------------------------


def checked(path: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """What `sft check` says of ``rows``: in JSON, and to a person."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    main(["check", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    main(["check", str(path)])
    return found, capsys.readouterr().out


def words(draw: random.Random, count: int) -> str:
    return " ".join("".join(draw.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(count))


def test_long_completions_on_both_sides_are_counted_and_shown_and_a_group_keeps_them_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same questions in quite other words: no prompt of them is like another, and the answer gives them away."""
    draw = random.Random(0)
    answers = [words(draw, 9) for _ in range(100)]
    rows = [{"prompt": words(draw, 8), "completion": text} for text in answers for _ in range(2)]
    labels = [{"prompt": words(draw, 8), "completion": draw.choice(["yes", "no", "I do not know"])} for _ in range(100)]
    found, text = checked(tmp_path / "x.jsonl", [*rows, *labels], capsys)
    held_out = found["splits"]["validation"] + found["splits"]["test"]
    assert found["both_sides"]["held_out"] == held_out and not found["leaks"]
    assert 15 < found["both_sides"]["count"] < 50 and len(found["both_sides"]["examples"]) == 3
    one = found["both_sides"]["examples"][0]
    assert f"  {one['train']} (train) and {one['held_out']}: {one['completion']}" in text
    lines = [int(one[side].rpartition(":")[2]) for side in ("train", "held_out")]
    assert {rows[line - 1]["completion"] for line in lines} == {one["completion"]}
    assert "give the rows one group (demonstrations.columns.group)" in text and "Nothing to mend" not in text
    grouped = [row | {"group": f"question {number // 2}"} for number, row in enumerate(rows)]
    found, text = checked(tmp_path / "y.jsonl", [*grouped, *labels], capsys)
    assert found["both_sides"] == {
        "count": 0,
        "held_out": sum(found["splits"].values()) - found["splits"]["train"],
        "examples": [],
    }
    assert text.endswith("Nothing to mend.\n")


def test_answers_of_one_expert_to_one_subject_are_no_conflict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(1)
    mails = [{"prompt": f"Re: {words(draw, 3)}", "completion": words(draw, 12)} for _ in range(100)]
    mails += [{"prompt": "Re: invoice", "completion": words(draw, 12)} for _ in range(12)]
    for expert in ({"expert": "ann"}, {}):
        found, text = checked(tmp_path / "x.jsonl", [row | expert for row in mails], capsys)
        assert (found["conflicts"], found["several"]["others"]) == (0, 1)
        assert "no conflict" in text and "mixture" not in text and text.endswith("Nothing to mend.\n")
    disputed = [*mails, mails[-1] | {"expert": "bob", "completion": "another"}, mails[-1] | {"expert": "ann"}]
    found, text = checked(tmp_path / "x.jsonl", disputed, capsys)
    assert found["conflicts"] == 1 and "mixture" in text and "Nothing to mend" not in text


# -- marks of a template -----------------------------------------------------------------------------------------

PLANTED = {
    "### Response:": ("### Instruction:\n{p}\n\n### Response:", "{c}", [("### Instruction:", "prompts", 60)]),
    "</s>": ("{p}", "{c}</s>", [("</s>", "completions", 60)]),
    "<|im_end|>": ("<|im_start|>user\n{p}<|im_end|>", "{c}", [("<|im_start|>", "prompts", 60)]),
    "[INST]": ("<s>[INST] {p} [/INST]", "{c}", [("[/INST]", "prompts", 60), ("<s>", "prompts", 60)]),
    "Answer:": ("Question: {p}\nAnswer:", "{c}", [("Question:", "prompts", 60), ("Answer:", "prompts", 60)]),
    "<end_of_turn>": ("{p}", "{c}<end_of_turn>\n", [("<end_of_turn>", "completions", 60)]),
    "<｜Assistant｜>": ("{p}<｜Assistant｜>", "{c}", [("<｜Assistant｜>", "prompts", 60)]),
}  # fmt: skip


@pytest.mark.parametrize("mark", PLANTED)
def test_marks_of_a_template_are_told_with_their_place_and_gone_when_they_are_taken_out(
    mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(3)
    prompt, completion, expected = PLANTED[mark]
    plain = [(f"What is {words(draw, 6)}?", f"It is {words(draw, 7)}.") for _ in range(60)]
    rows = [{"prompt": prompt.format(p=p), "completion": completion.format(c=c)} for p, c in plain]
    found, text = checked(tmp_path / "x.jsonl", rows, capsys)
    counted = {(one["text"], one["where"], one["count"]) for one in found["template_marks"]["marks"]}
    assert set(expected) <= counted and "Marks of a template stand in the texts" in text
    assert f"'{expected[0][0]}' in 60 {expected[0][1]} ({tmp_path / 'x.jsonl'}:1)" in text and "Nothing" not in text
    found, text = checked(tmp_path / "x.jsonl", [{"prompt": p, "completion": c} for p, c in plain], capsys)
    assert not any(found["template_marks"].values()) and text.endswith("Nothing to mend.\n")


SPELLED = {
    "<reasoning>": ("thoughts", "<reasoning>so {c}</reasoning>{c}"),
    "<scratchpad>": ("thoughts", "<scratchpad>\nso {c}\n</scratchpad>\n{c}"),
    "[THINK]": ("thoughts", "[THINK]so {c}[/THINK]{c}"),
    "◁think▷": ("thoughts", "◁think▷so {c}◁/think▷{c}"),
    "<Think>": ("thoughts", "<Think>so {c}</Think>{c}"),
    "<|channel|>analysis": ("thoughts", "<|channel|>analysis<|message|>so {c}<|end|>{c}"),
    "</think>": ("thoughts", "so {c}</think>{c}"),
    "[TOOL_CALLS]": ("calls", '[TOOL_CALLS][{{"name": "f", "arguments": {{"x": "{c}"}}}}]'),
    "<|python_tag|>": ("calls", '<|python_tag|>{{"name": "f", "parameters": {{"x": "{c}"}}}}'),
    "<tool_call>": ("calls", '<tool_call>\n{{"name": "f", "arguments": {{"x": "{c}"}}}}\n</tool_call>'),
}


@pytest.mark.parametrize("mark", SPELLED)
def test_thoughts_and_calls_that_would_be_learned_as_words_are_told(
    mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thoughts in other tags than <think>, and calls in a model's own form, were learned without a word."""
    draw = random.Random(6)
    kind, form = SPELLED[mark]
    rows = [{"prompt": f"What is {words(draw, 6)}?", "completion": form.format(c=words(draw, 5))} for _ in range(60)]
    found, text = checked(tmp_path / "x.jsonl", rows, capsys)
    assert [(one["text"], one["count"]) for one in found["template_marks"][kind]] == [(mark, 60)]
    assert f"stand in completions as words: '{mark}' in 60 completions" in text and "Nothing to mend" not in text


@pytest.mark.parametrize("tag", ["think", "thinking"])
def test_thoughts_that_are_read_are_none_of_these(tag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a row of two texts <thinking> was not read, where it was in messages."""
    draw = random.Random(6)
    rows = [{"prompt": f"What is {words(draw, 6)}?", "completion": f"<{tag}>so</{tag}>{words(draw, 5)}"}
            for _ in range(60)]  # fmt: skip
    found, text = checked(tmp_path / "x.jsonl", rows, capsys)
    assert found["template_marks"]["thoughts"] == [] and found["thinking"] == 60
    assert "before 60 completions; keep: learned with what follows" in text


@pytest.mark.parametrize("end", [" END", "\n###", " <END>", " Over", "\n[DONE]"])
def test_a_word_that_ends_every_answer_is_told(end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(4)
    rows = [{"prompt": f"What is {words(draw, 6)}?", "completion": f"It is {words(draw, 7)}.{end}"} for _ in range(60)]
    rows[7]["completion"] = "It is not known."
    found, text = checked(tmp_path / "x.jsonl", rows, capsys)
    assert found["template_marks"]["ending"] == end.strip()
    assert f"Nearly every completion ends with '{end.strip()}'" in text and "Nothing to mend" not in text


def test_texts_that_look_a_little_like_marks_are_not_accused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mark-up, code, headings, transcripts, sentences and calls of one form, labels; one who writes of templates."""
    draw = random.Random(5)
    kinds = [
        "<p>{w} <s>old</s> new</p>", "## {w}\n\n### Results: good", "if a[0] < b and c > d:\n    return [{w}]",
        "She said: {w}", "- {w}\n- [x] done", '{{"a": ["{w}"]}}', "```python\n{w}\n```", "{w} <|> {w} || {w}",
    ]  # fmt: skip
    mixed = [
        {"prompt": f"{n}: {kinds[n % 8].format(w=words(draw, 6))}", "completion": kinds[n % 7].format(w=words(draw, 6))}
        for n in range(160)
    ]
    quoted = {"prompt": f"A play: {words(draw, 5)}", "completion": f"Human: {words(draw, 4)}\nBot: {words(draw, 4)}"}
    form = [{"prompt": words(draw, 7), "completion": f"The {words(draw, 2)} has an alarm."} for _ in range(100)]
    label = [{"prompt": words(draw, 7), "completion": draw.choice(["STOP", "GO"])} for _ in range(100)]
    fenced = [{"prompt": words(draw, 7), "completion": f"```sql\nselect {words(draw, 5)}\n```"} for _ in range(100)]
    for rows in ([*mixed, quoted], form, label, fenced):
        found, text = checked(tmp_path / "x.jsonl", rows, capsys)
        assert not any(found["template_marks"].values()), text
    found, text = checked(
        tmp_path / "x.jsonl", [*mixed, {"prompt": "Which token?", "completion": "It is <|im_end|>."}], capsys
    )
    assert [one["count"] for one in found["template_marks"]["marks"]] == [1]
