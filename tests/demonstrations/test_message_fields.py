"""What a message says about itself is read, counted or refused, and never lost: marks, keys, parts, roles, calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from message_rows import ASK, CALL, RESULT, ROME, SAY, TOOLS, complaint, complaints, lines, reading, said
from strategies import texts

from sft.cli import main
from sft.demonstrations.demonstration import Message
from sft.demonstrations.formats import read
from sft.demonstrations.message_fields import MessageRules
from sft.errors import SourceError

# -- marks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"train": False},
        {"training": False},
        {"loss": False},
        {"trainable": False},
        {"loss_weight": 0.0},
    ],
)
def test_a_turn_marked_as_none_to_learn_is_context_and_never_a_completion(tmp_path: Path, mark: dict[str, Any]) -> None:
    found = reading(tmp_path, ASK, SAY | {"content": "BAD"} | mark, ASK | {"content": "again"}, SAY | {"weight": 1})
    assert said(found) == [(["ask", "BAD", "again"], "say")]
    assert found.notes == (
        "Turns of the assistant that are marked as none to learn (weight 0): 1; they are read as what was said before, "
        "and never a completion.",
    )


def test_marks_that_say_nothing_are_none(tmp_path: Path) -> None:
    found = reading(tmp_path, ASK | {"weight": None}, SAY | {"weight": 1.0, "train": True}, ASK, SAY | {"weight": None})
    assert len(found.demonstrations) == 2 and not found.notes


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (
            SAY | {"weight": 0.5},
            "'messages[2].weight' is a fraction of a weight; write 1 for a turn to learn, 0 for one",
        ),
        (SAY | {"weight": 2}, "'messages[2].weight' is 2; write 1"),
        (SAY | {"weight": "0"}, "'messages[2].weight' is '0'; write 1"),
        (SAY | {"weight": 1, "train": False}, "'messages[2]' contradicts itself: weight and train differ"),
        (SAY | {"weight": 0}, "'messages' marks every expert's turn as none to learn; remove the row"),
    ],
)
def test_marks_that_cannot_be_kept_are_refused(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    assert why in complaint(tmp_path, ASK, turn)


def test_nobody_but_the_expert_is_learned(tmp_path: Path) -> None:
    why = complaint(tmp_path, ASK | {"train": True}, SAY)
    assert "'messages[1].train' marks a turn of the user to be learned; take it out: only the expert's are" in why


# -- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ignore", "mask", "masked"])
def test_marks_whose_sense_is_the_other_way_round_are_refused(tmp_path: Path, key: str) -> None:
    """They were listed as unread, and the turn that they exclude was learned."""
    why = complaint(tmp_path, ASK, SAY | {key: True})
    assert f"'messages[2].{key}' changes what the message means" in why and "write weight: 0" in why


@pytest.mark.parametrize("mark", [{"train_on_turn": False}, {"loss_mask": 0}, {"do_not_train": True}])
def test_a_mark_in_words_not_known_here_is_asked_about(tmp_path: Path, mark: dict[str, Any]) -> None:
    """It was listed as unread, and the turn that it excludes was learned."""
    (key,) = mark
    why = complaint(tmp_path, ASK, SAY | mark)
    assert f"'messages[2].{key}' seems to say whether the turn is learned" in why and "write weight: 0" in why
    assert reading(tmp_path, ASK, SAY | {"training_set": "b", "losses": [1]}).demonstrations, "no yes, and no no"


def test_of_two_answers_to_a_prompt_of_messages_the_preferred_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ({"prompt": [ASK], "chosen": [SAY], "rejected": [SAY | {"content": "no"}]} for _ in range(3))
    path = lines(tmp_path / "x.jsonl", *rows)
    with pytest.raises(SourceError, match=r"to `sft check`, --column completion=chosen$"):
        read(path)
    main(["check", str(path), "--column", "completion=chosen"])
    assert "Columns that no demonstration uses: rejected" in capsys.readouterr().out
    assert {d.completion for d in read(path, columns={"completion": "chosen"}).demonstrations} == {"say"}


def test_a_call_without_its_result_is_told_what_is_missing(tmp_path: Path) -> None:
    """To join neighbours was advised, and a call cannot be joined with what follows its result."""
    call = SAY | {"tool_calls": [CALL]}
    why = complaint(tmp_path, ASK, call, SAY)
    assert "put what the call gave back, a message of the role tool, between the call and this" in why
    assert len(reading(tmp_path, ASK, call, {"role": "tool", "content": "x"}, SAY).demonstrations) == 2


def test_geminis_parts_are_read_or_told_by_what_they_are(tmp_path: Path) -> None:
    path, columns = tmp_path / "x.jsonl", {"messages": "contents", "content": "parts"}

    def written(*parts: dict[str, Any]) -> None:
        turns = [{"role": "user", "parts": [{"text": "ask"}]}, {"role": "model", "parts": list(parts)}]
        path.write_text(json.dumps({"contents": turns}) + "\n", encoding="utf-8")

    written({"text": "hm", "thought": True}, {"text": "say"})
    with pytest.raises(SourceError, match=r"--column messages=contents --column role=role --column content=parts$"):
        read(path)
    (one,) = read(path, columns=columns).demonstrations
    assert (one.thought, one.completion) == ("hm", "say")
    written({"functionCall": {"name": "f", "args": {}}})
    (problem,) = read(path, columns=columns).problems
    assert "is a part of type 'function_call'; write the call as tool_calls" in str(problem)


def test_keys_that_nobody_reads_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [ASK | {"name": "ann", "id": 3}, SAY | {"id": 4, "refusal": None, "annotations": [], "tool_calls": []}]
    path = lines(tmp_path / "x.jsonl", *({"messages": turns} for _ in range(3)))
    sentence = "Keys of messages that no demonstration uses, and how often they say something: id (6), name (3)."
    assert read(path).notes == (sentence,)
    main(["check", str(path)])
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize("key", ["images", "audio", "video", "file", "refusal", "channel", "prefix", "train_detail"])
def test_keys_that_change_what_a_message_means_are_refused(tmp_path: Path, key: str) -> None:
    why = complaint(tmp_path, ASK, SAY | {key: ["x.png"]})
    assert f"'messages[2].{key}' changes what the message means, and cannot be kept; " in why


def test_a_call_in_the_users_turn_is_refused(tmp_path: Path) -> None:
    assert "has tool_calls in a turn of the user" in complaint(tmp_path, ASK | {"tool_calls": [CALL]}, SAY)


# -- contents ---------------------------------------------------------------------------------------------


def test_text_parts_are_joined_by_line_feeds_as_servers_do(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "input_text", "text": "two"}, "three"]
    assert said(reading(tmp_path, ASK | {"content": parts}, SAY | {"content": [{"text": "say"}]})) == [
        (["one\ntwo\nthree"], "say")
    ]


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "image"}, {"type": "audio"}]
)
def test_a_picture_is_one_sentence(tmp_path: Path, part: dict[str, Any]) -> None:
    why = complaint(tmp_path, ASK | {"content": [{"type": "text", "text": "What?"}, part]}, SAY)
    assert why.endswith(
        f"'messages[1].content[2]' is a part of type '{part['type']}'; describe it in words, or leave the row out: "
        "demonstrations are text"
    )
    assert "'images' is no text" in complaint(tmp_path, ASK, SAY, images=[{"path": "x.png"}])
    assert said(reading(tmp_path, ASK, SAY, images=[], image="cat.png")) == [(["ask"], "say")]


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_a_blank_system_message_is_none(tmp_path: Path, blank: str | None) -> None:
    assert said(reading(tmp_path, {"role": "system", "content": blank}, ASK, SAY)) == [(["ask"], "say")]


@pytest.mark.parametrize(
    "names", [("developer", "User", "Assistant"), ("SYSTEM", "human", "model"), ("system", "HUMAN", "bot")]
)
def test_names_of_roles_that_people_use_are_known(tmp_path: Path, names: tuple[str, ...]) -> None:
    turns = [{"role": role, "content": role} for role in names]
    (one,) = reading(tmp_path, *turns).demonstrations
    assert [turn.role for turn in one.prompt] == ["system", "user"] and one.completion == names[2]


def test_other_roles_are_mapped_by_the_recipe(tmp_path: Path) -> None:
    turns = [{"role": "customer", "content": "ask"}, {"role": "agent", "content": "say"}]
    rules = MessageRules({"customer": "user", "agent": "assistant"})
    assert said(reading(tmp_path, *turns, rules=rules)) == [(["ask"], "say")]
    found = complaints(lines(tmp_path / "x.jsonl", {"messages": turns}))
    assert "has the unknown role 'customer'; use one of system, user, assistant, tool, or name it in" in found[0]


def test_a_greeting_is_context_and_no_group_of_its_own(tmp_path: Path) -> None:
    """All dialogues that a shop opens with one greeting would be one group, and none could be held out."""
    rows = [{"messages": [SAY | {"content": "Hello!"}, ASK | {"content": f"ask {n}"}, SAY]} for n in range(3)]
    found = read(lines(tmp_path / "x.jsonl", *rows))
    assert said(found) == [(["Hello!", f"ask {n}"], "say") for n in range(3)]
    assert len({d.group for d in found.demonstrations}) == 3


def test_neighbours_of_one_role_are_joined_where_the_recipe_says_so(tmp_path: Path) -> None:
    turns = [ASK, ASK | {"content": "more"}, SAY, SAY | {"content": "and", "reasoning_content": "hm"}]
    joins = MessageRules({}, "join")
    (one,) = reading(tmp_path, *turns, rules=joins).demonstrations
    assert (one.prompt[0].content, one.completion, one.thought) == ("ask\n\nmore", "say\n\nand", "hm")
    assert "demonstrations.neighbours: join makes one" in complaint(tmp_path, *turns)
    (problem,) = reading(tmp_path, ASK, SAY | {"weight": 0}, SAY, rules=joins).problems
    assert "message 3 cannot be joined to the one before: one is not to be learned" in str(problem)


# -- calls ------------------------------------------------------------------------------------------------


def test_a_call_is_what_the_expert_did(tmp_path: Path) -> None:
    turns = [
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "24 C"},
        SAY,
    ]
    call, answer = reading(tmp_path, *turns, tools=TOOLS).demonstrations
    assert [turn.role for turn in call.prompt] == ["tools", "user"] and json.loads(call.prompt[0].content) == TOOLS
    assert (call.completion, call.calls) == (
        '<tool_call>\n{"name": "w", "arguments": {"town": "Rome"}}\n</tool_call>',
        (ROME,),
    )
    assert answer.prompt[2:] == (Message("assistant", "", calls=(ROME,)), Message("tool", "24 C", name="w"))
    assert (answer.completion, answer.calls) == ("say", ())
    assert call.answer == Message("assistant", "", calls=(ROME,)) and call.group == answer.group


def test_calls_in_every_form_that_people_bring(tmp_path: Path) -> None:
    hermes = '<tool_call>\n{"name": "w", "arguments": {"town": "Rome"}}\n</tool_call>'
    python = "<tool_call>\n{'arguments': {'town': 'Rome'}, 'name': 'w'}\n</tool_call>"
    told = f"You are a function calling AI model. <tools>\n{json.dumps(TOOLS)}\n</tools> <tool_call>\n</tool_call>"
    plain = {"name": "w", "arguments": {"town": "Rome"}}
    result = {"from": "observation", "value": "24 C"}
    forms: dict[str, list[Any]] = {
        "openai": [ASK, {"role": "assistant", "tool_calls": [CALL]}, RESULT, SAY],
        "object": [ASK, {"role": "assistant", "content": "", "tool_calls": [plain]}, RESULT, SAY],
        "older": [ASK, {"role": "assistant", "function_call": plain}, RESULT | {"role": "function", "name": "w"}, SAY],
        "sharegpt": [{"from": "human", "value": "ask"}, {"from": "function_call", "value": json.dumps(plain)}, result,
                     {"from": "gpt", "value": "say"}],
        "hermes": [{"from": "system", "value": told}, {"from": "human", "value": "ask"},
                   {"from": "gpt", "value": hermes},
                   {"from": "tool", "value": "<tool_response>\n24 C\n</tool_response>"},
                   {"from": "gpt", "value": "say"}],
        "python": [ASK, SAY | {"content": python}, RESULT, SAY],
    }  # fmt: skip
    for name, turns in forms.items():
        call, answer = reading(tmp_path, *turns).demonstrations
        assert call.calls == (ROME,), name
        assert answer.prompt[-1] == Message("tool", "24 C", name="w"), name
    (head, *_), note = (
        reading(tmp_path, *forms["hermes"]).demonstrations[0].prompt,
        reading(tmp_path, *forms["hermes"]).notes,
    )
    assert head.role == "tools" and json.loads(head.content) == TOOLS and "how Hermes writes calls" in note[0]


def test_words_beside_a_call_stay_and_results_stand_in_the_order_of_the_calls(tmp_path: Path) -> None:
    calls = [CALL, {"id": "c2", "type": "function", "function": {"name": "v", "arguments": "{}"}}]
    turns = [ASK, SAY | {"tool_calls": calls}]
    results = [{"role": "tool", "tool_call_id": c, "content": c} for c in ("c2", "c1")]
    call, answer = reading(tmp_path, *turns, *results, SAY).demonstrations
    assert call.completion.startswith("say\n<tool_call>") and call.answer.content == "say"
    assert [(turn.name, turn.content) for turn in answer.prompt[-2:]] == [("w", "c1"), ("v", "c2")]


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ({"tool_calls": ["f"]}, "holds a call that is text, not an object"),
        ({"tool_calls": [{"function": {"arguments": "{}"}}]}, "holds a call that has no name"),
        ({"function_call": {"name": "w", "arguments": "[1]"}}, "has a list for its arguments, not an object"),
        ({"function_call": {"name": "w", "arguments": "{"}}, "holds a call that is no JSON ('{')"),
    ],
)
def test_a_call_that_is_none_is_refused(tmp_path: Path, turn: dict[str, Any], why: str) -> None:
    assert why in complaint(tmp_path, ASK, SAY | turn)


def test_results_that_nobody_asked_for_are_refused(tmp_path: Path) -> None:
    call, result = SAY | {"tool_calls": [CALL]}, {"role": "tool", "content": "x"}
    assert "message 4 is a result that no call asked for" in complaint(tmp_path, ASK, call, result, result, SAY)
    assert "message 3 answers a call that nobody made" in complaint(
        tmp_path, ASK, call, result | {"tool_call_id": "z"}, SAY
    )


@pytest.mark.parametrize("tools", ["[", "3", [{"description": "x"}], [3], {"function": {}}])
def test_tools_that_are_none_are_refused(tmp_path: Path, tools: Any) -> None:
    assert "'tools' lists tools, and " in complaint(tmp_path, ASK, SAY, tools=tools)


def test_the_same_question_under_other_tools_is_another_prompt_of_the_same_group(tmp_path: Path) -> None:
    rows = [{"messages": [ASK, SAY], "tools": tools} for tools in ([], TOOLS, json.dumps([{"name": "v"}]))]
    found = read(lines(tmp_path / "x.jsonl", *rows)).demonstrations
    assert len({d.key for d in found}) == 3 and len({d.group for d in found}) == 1


# -- thoughts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn",
    [
        SAY | {"reasoning_content": "hm"},
        SAY | {"thinking": "hm"},
        SAY | {"content": "<think>\nhm\n</think>\n\nsay"},
        SAY | {"content": "hm\n</think>\n\nsay"},
        SAY | {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "say"}]},
    ],
)
def test_a_thought_is_read_apart_from_what_follows(tmp_path: Path, turn: dict[str, Any]) -> None:
    (one,) = reading(tmp_path, ASK, turn).demonstrations
    assert (one.thought, one.completion) == ("hm", "say")
    assert one.from_dict(one.to_dict()) == one
    row = {"prompt": "ask", "completion": "<think>\nhm\n</think>\n\nsay"}
    (again,) = read(lines(tmp_path / "x.jsonl", row)).demonstrations
    assert (again.id, again.thought) == (one.id, "hm")


def test_thoughts_without_an_end_or_an_answer_are_refused(tmp_path: Path) -> None:
    assert "opens a thought with <think> and never closes it" in complaint(tmp_path, ASK, SAY | {"content": "<think>a"})
    assert "is blank after its thought" in complaint(tmp_path, ASK, SAY | {"content": "<think>a</think> "})
    assert "is blank" in complaint(tmp_path, ASK, {"role": "assistant", "reasoning_content": "hm", "content": ""})


def test_an_empty_thought_is_none_and_prose_about_tags_is_prose(tmp_path: Path) -> None:
    (one,) = reading(tmp_path, ASK, SAY | {"content": "<think>\n\n</think>\n\nsay"}).demonstrations
    assert (one.thought, one.completion) == ("", "say")
    prose = "The tag </think> ends what <think> begins."
    assert said(reading(tmp_path, ASK, SAY | {"content": prose})) == [(["ask"], prose)]


# -- whatever comes ---------------------------------------------------------------------------------------

_VALUES = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | texts | st.lists(texts, max_size=2)
)
_KEYS = st.sampled_from(
    ["role", "content", "from", "value", "weight", "train", "tool_calls", "function_call", "tool_call_id", "name",
     "reasoning_content", "thinking", "images", "tools", "other"]
)  # fmt: skip
_MESSAGES = st.dictionaries(_KEYS, _VALUES | st.dictionaries(_KEYS, _VALUES, max_size=2), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"messages": st.lists(_MESSAGES | _VALUES, max_size=4)}), min_size=1, max_size=3
    )
)
def test_any_message_is_read_or_complained_about(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for place, message in enumerate(row["messages"]):
            if isinstance(message, dict) and "role" in message and place < 2:
                message["role"] = ("user", "assistant")[place % 2]
    found = read(lines(tmp_path / "x.jsonl", *rows))
    assert found.rows - len(found.rejected) + found.unrolled == len(found.demonstrations)
    assert all(str(problem) for problem in found.problems)
