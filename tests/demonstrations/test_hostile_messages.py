"""Message files that say a thing twice, half or in another place: one sentence each, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from message_rows import ASK, CALL, RESULT, ROME, SAY, TOOLS, complaint, complaints, lines, reading, said

from sft.cli import main
from sft.demonstrations.formats import read
from sft.demonstrations.message_fields import MessageRules
from sft.errors import SourceError

HERMES = '<tool_call>\n{"name": "w", "arguments": {"town": "Rome"}}\n</tool_call>'
NEST = json.loads('{"a":' * 80 + "1" + "}" * 80)


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (SAY | {"content": "<think>a</think><think>b</think>say"},
         "'messages[2]' begins with two thoughts, one behind the other; make them one, in one pair of tags"),
        (SAY | {"reasoning_content": "a", "thinking": "b"}, "'messages[2]' has two thoughts that differ; keep one"),
        (SAY | {"reasoning_content": "a", "content": "<think>b</think>say"}, "has two thoughts that differ; keep one"),
        (SAY | {"reasoning_content": "a</think>b"}, "has a thought that holds <think> or </think>; take the tags out"),
        (SAY | {"reasoning": {"text": "hm"}}, "'messages[2].reasoning' is an object, not text; write it as text"),
        (SAY | {"reasoning_content": "\ud83d"}, "'messages[2].reasoning_content' holds a lone surrogate"),
        ({"role": "assistant", "text": "say"},
         "'messages[2].content' is missing; name its keys in the recipe, demonstrations.columns: {role: role,"),
        (SAY | {"content": [{"type": "function_call", "id": "t", "name": "w", "arguments": "{}"}]},
         "'messages[2].content[1]' is a part of type 'function_call'; write the call as tool_calls, and what it gave"),
    ],
)  # fmt: skip
def test_what_a_message_says_twice_or_elsewhere_is_refused(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    """Of two thoughts the second was dropped, or trained as words with its tags; ``text`` was called null."""
    assert why in complaint(tmp_path, ASK, turn)


def test_a_thought_in_a_turn_of_the_user_is_refused(tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ask"}]
    assert "'messages[1].content' holds a thought in a turn of the user; take it out" in complaint(
        tmp_path, ASK | {"content": parts}, SAY
    )


def test_one_thought_in_several_places_is_one_and_it_may_stand_before_a_call(tmp_path: Path) -> None:
    (one,) = reading(
        tmp_path, ASK, SAY | {"reasoning": "hm", "thinking": "<think>\nhm\n</think>", "content": "<think>hm</think>say"}
    ).demonstrations
    assert (one.thought, one.completion) == ("hm", "say")
    turn = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nLet me look.", "tool_calls": [CALL]}
    (call,) = reading(tmp_path, ASK, turn, tools=TOOLS).demonstrations
    assert (call.thought, call.answer.content, call.calls) == ("hm", "Let me look.", (ROME,))


def function(arguments: Any, name: str = "w") -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (function('{"town": "Rome", "town": "Oslo"}'), "holds a call that gives 'town' twice; keep one of them"),
        (function('{"t": "\\ud83d"}'), "holds a call that holds a lone surrogate at character 8; replace the broken"),
        (function({}, "w\ud83d"), "holds a call that holds a lone surrogate at character 2; replace the broken"),
        (function(NEST), "holds a call that is nested more than 64 levels deep; make it flatter"),
        (function(json.dumps(NEST)), "holds a call that is nested more than 64 levels deep; make it flatter"),
        (function('{"t": NaN}'), "holds a call that cannot be written as JSON"),
        (function({}) | {"function_call": {"name": "w", "arguments": '{"town": "Oslo"}'}},
         "holds a call that stands under tool_calls and is another under function_call; keep one of them"),
        (SAY | {"content": f"{HERMES}\nWait."}, "message 2 has a call in tags that has words behind it ('Wait.'); end"),
        (SAY | {"content": "<tool_call>\n{name: w}\n</tool_call>"}, "message 2 has a call in tags that is no JSON"),
        (SAY | {"content": HERMES.removesuffix("</tool_call>")}, "message 2 has a call in tags that is not closed;"),
    ],
)  # fmt: skip
def test_a_call_that_would_lose_something_is_refused(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    """One of two equal names was lost, tags with words behind them became words, and depth was a traceback."""
    assert why in complaint(tmp_path, ASK, turn, tools=TOOLS)


@pytest.mark.parametrize(
    ("tools", "why"),
    [([{"name": "w", "description": "\ud83d"}], "'tools' lists tools, and holds a lone surrogate"),
     ([{"name": "w", "parameters": NEST}], "'tools' lists tools, and is nested more than 64 levels deep")],
)  # fmt: skip
def test_tools_that_cannot_be_written_are_refused(tmp_path: Path, tools: Any, why: str) -> None:
    assert why in complaint(tmp_path, ASK, SAY, tools=tools)


def test_one_call_in_two_forms_is_one_and_prose_about_tags_is_prose(tmp_path: Path) -> None:
    both = {"role": "assistant", "tool_calls": [CALL], "function_call": {"name": "w", "arguments": {"town": "Rome"}}}
    (call,) = reading(tmp_path, ASK, both, tools=TOOLS).demonstrations
    assert call.calls == (ROME,)
    prose = "A call stands between <tool_call> and </tool_call>."
    assert said(reading(tmp_path, ASK, SAY | {"content": prose}, tools=TOOLS))[0][1] == prose


def test_results_go_by_ids_else_by_names_and_a_stranger_is_refused(tmp_path: Path) -> None:
    calling = {"role": "assistant", "tool_calls": [{"name": "w", "arguments": {}}, {"name": "v", "arguments": {}}]}
    results = [RESULT | {"name": name, "content": name} for name in ("v", "w")]
    *_, answer = reading(tmp_path, ASK, calling, *results, SAY, tools=TOOLS).demonstrations
    assert [(turn.name, turn.content) for turn in answer.prompt[-2:]] == [("w", "w"), ("v", "v")]
    for turns, why in (
        ([ASK, calling, RESULT | {"name": "u"}, SAY], "message 3 is the result of 'u', which the turn before"),
        (
            [ASK, calling, *[results[0]] * 2, SAY],
            "message 4 is the result of 'v', which the turn before does not call so",
        ),
        ([ASK, SAY, RESULT | {"tool_call_id": "c1"}, SAY], "message 3 answers a call that nobody made; write the call"),
        ([ASK, RESULT, SAY], "message 2 is the tool's, where the assistant's must stand; put what a call gave back"),
        ([ASK, calling, RESULT | {"name": "\ud83d"}, SAY], "'messages[3].name' holds a lone surrogate"),
    ):
        assert why in complaint(tmp_path, *turns, tools=TOOLS)


def test_what_a_tool_gave_back_may_be_a_list_and_so_may_a_call(tmp_path: Path) -> None:
    calls = [{"name": "w", "arguments": {"town": "Rome"}}]
    listed = [{"id": 1}, {"id": "é"}]
    turns = [{"from": "human", "value": "ask"}, {"from": "function_call", "value": calls},
             {"from": "observation", "value": listed}, {"from": "gpt", "value": "say"}]  # fmt: skip
    call, answer = reading(tmp_path, *turns, tools=TOOLS).demonstrations
    assert call.calls == (ROME,) and json.loads(answer.prompt[-1].content) == listed


def test_both_forms_of_names_may_be_mixed_in_a_message(tmp_path: Path) -> None:
    turns = [{"from": "human", "content": "ask"}, {"role": "assistant", "value": "say"}]
    assert said(reading(tmp_path, *turns)) == [(["ask"], "say")]


@pytest.mark.parametrize(
    "blank", [" ", "\n\t", "<tool_response>\u200b</tool_response>", [{"type": "text", "text": " "}]]
)
def test_a_result_that_shows_nothing_is_an_empty_one(tmp_path: Path, blank: Any) -> None:
    """`sft check` ended with a traceback: a blank result is no text, and was none of those that are empty either."""
    turn = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    found = reading(tmp_path, ASK, turn, RESULT | {"content": blank}, SAY, tools=TOOLS)
    assert found.demonstrations[-1].prompt[-1].content == ""


# -- marks of rows, turns beside them, forms of others -----------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, SAY], "train": False},
        {"messages": [ASK, SAY], "weight": 0.0},
        {"prompt": "ask", "completion": "say", "weight": 0},
        {"instruction": "ask", "output": "say", "loss": "0"},
        {"prompt": "ask", "completion": "say", "label": False},
    ],
)
def test_a_row_that_is_marked_as_none_to_learn_is_not_learned(tmp_path: Path, row: dict[str, Any]) -> None:
    """They were trained on, and the column was called one that no demonstration uses."""
    (one,) = complaints(lines(tmp_path / "x.jsonl", row))
    assert "which marks the row as none to learn; remove the row, or give the column another name" in one
    key = list(row)[-1]
    assert not complaints(lines(tmp_path / "x.jsonl", row | {key: 1}))
    assert not read(lines(tmp_path / "x.jsonl", row), held_out=True).problems, "nobody learns from it there"


@pytest.mark.parametrize("label", [True, 0, "false", "spam", None])
def test_a_label_that_is_no_judgement_of_the_completion_is_a_column_like_others(tmp_path: Path, label: Any) -> None:
    """KTO's rows have true and false; classes and texts under the same name are something else."""
    assert not complaints(lines(tmp_path / "x.jsonl", {"prompt": "ask", "completion": "say", "label": label}))


def test_a_system_message_in_parts_is_one(tmp_path: Path) -> None:
    """Anthropic's with a cache, Bedrock's, and Gemini's as a message: all were refused."""
    part = {"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}
    for system in ([part], [{"text": "be"}], {"role": "system", "parts": [{"text": "be"}]}, ["be"]):
        (one,) = reading(tmp_path, ASK, SAY, system=system).demonstrations
        assert [turn.content for turn in one.prompt] == ["be", "ask"]
    assert "'system[1]' is a part of type 'image'" in complaint(tmp_path, ASK, SAY, system=[{"type": "image"}])


def test_a_result_that_is_missing_leaves_open_whose_the_others_are(tmp_path: Path) -> None:
    """One of two calls was answered: templates write no ids, and the result stood for the wrong call."""
    calling = {"role": "assistant", "tool_calls": [CALL, CALL | {"id": "c2"}]}
    late = RESULT | {"tool_call_id": "c2"}
    assert "message 3 is the last of 1 results of 2 calls; add a message of the role tool for each" in complaint(
        tmp_path, ASK, calling, late, SAY, tools=TOOLS
    )
    blank = {"role": "tool", "tool_call_id": "c1", "content": ""}
    *_, answer = reading(tmp_path, ASK, calling, late, blank, SAY, tools=TOOLS).demonstrations
    assert [turn.content for turn in answer.prompt[-2:]] == ["", "24 C"]


def test_items_of_responses_and_parts_of_bedrock_are_called_what_they_are(tmp_path: Path) -> None:
    """They were said to lack a role, or to be text."""
    item = {"type": "function_call", "call_id": "c", "name": "w", "arguments": "{}"}
    assert "'messages[2]' is no message of somebody's, but a 'function_call' by itself; write the call" in complaint(
        tmp_path, ASK, item, SAY
    )
    part = {"toolUse": {"toolUseId": "t", "name": "w", "input": {}}}
    assert "is a part of type 'function_call'; write the call as tool_calls" in complaint(
        tmp_path, ASK, SAY | {"content": [part]}
    )


def test_an_answer_beside_what_was_asked_is_not_forgotten(tmp_path: Path) -> None:
    """Who wrote what is in 'input' as the row, as they were told, lost the answer."""
    row = {"input": {"messages": [ASK]}, "preferred_output": [SAY], "non_preferred_output": [SAY]}
    with pytest.raises(SourceError, match="write the messages within 'input' as a column prompt, and what the expert "
                       "answered, from 'preferred_output', as a column completion"):  # fmt: skip
        read(lines(tmp_path / "x.jsonl", row))
    mended = {"prompt": row["input"]["messages"], "completion": row["preferred_output"]}
    assert said(read(lines(tmp_path / "x.jsonl", mended))) == [(["ask"], "say")]


def test_marks_of_rejected_rows_are_not_counted(tmp_path: Path) -> None:
    assert not reading(tmp_path, ASK, SAY | {"weight": 1, "train": False}).notes


def test_calls_of_functions_that_no_row_lists_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "x.jsonl", {"messages": [ASK, {"role": "assistant", "tool_calls": [
        CALL | {"function": {"name": "v", "arguments": "{}"}}, CALL]}], "tools": TOOLS})  # fmt: skip
    main(["check", str(path)])
    assert f"Functions are called that their rows do not list: 'v' in 1 completions ({path}:1)" in (
        capsys.readouterr().out
    )


def test_what_is_no_list_of_functions_is_told_how_one_is_written(tmp_path: Path) -> None:
    """The remedy was that of a call; and the word None, as a dump has it, was a function without a name."""
    assert "and is no JSON ('f'); write a JSON list of functions" in complaint(tmp_path, ASK, SAY, tools=["f"])
    assert [turn.role for turn in reading(tmp_path, ASK, SAY, tools="None").demonstrations[0].prompt] == ["user"]


def test_a_mark_that_is_none_is_one_complaint(tmp_path: Path) -> None:
    assert "'messages[1].train' is 'false'; write 1" in complaint(tmp_path, ASK | {"train": "false"}, SAY)


def test_a_role_that_is_a_number_can_be_named(tmp_path: Path) -> None:
    """Whoever named it in demonstrations.roles, as they were told, was told so again."""
    turns = [ASK | {"role": 0}, SAY | {"role": 1}]
    assert "has the unknown role 0; use one of" in str(reading(tmp_path, *turns).problems[0])
    assert said(reading(tmp_path, *turns, rules=MessageRules({"0": "user", "1": "assistant"}))) == [(["ask"], "say")]


def test_a_picture_s_place_in_a_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(lines(tmp_path / "x.jsonl", {"prompt": "<image>\nWhat is it?", "completion": "A mill."}))])
    assert "Marks of a template stand in the texts: '<image>' in 1 prompts" in capsys.readouterr().out
