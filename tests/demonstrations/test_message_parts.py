"""Contents in parts: Anthropic's calls and results come to the same demonstrations as OpenAI's, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from message_rows import ASK, ROME, SAY, complaint, complaints, lines, reading, said

USE = {"type": "tool_use", "id": "c1", "name": "w", "input": {"town": "Rome"}}
OTHER = USE | {"id": "c2", "input": {"town": "Oslo"}}
GAVE = {"type": "tool_result", "tool_use_id": "c1", "content": "24 C"}
LOOK = {"type": "text", "text": "Let me look."}
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}}
TOOLS = [{"name": "w", "description": "the weather", "input_schema": SCHEMA}]


def use(*parts: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts)}


def gave(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_a_dialogue_of_anthropic_is_the_same_as_one_of_openai(tmp_path: Path) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    theirs = reading(tmp_path, ASK, use(thought, LOOK, USE, OTHER), gave(GAVE | {"tool_use_id": "c2", "content": "2 C"},
                     GAVE, {"type": "text", "text": "And now?"}), SAY, tools=TOOLS)  # fmt: skip
    calls = [{"id": one["id"], "type": "function", "function": {"name": "w", "arguments": json.dumps(one["input"])}}
             for one in (USE, OTHER)]  # fmt: skip
    ours = reading(
        tmp_path,
        ASK,
        {"role": "assistant", "content": "Let me look.", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "24 C"},
        {"role": "tool", "tool_call_id": "c2", "content": "2 C"},
        {"role": "user", "content": "And now?"},
        SAY,
        tools=[{"type": "function", "function": {"name": "w", "description": "the weather", "parameters": SCHEMA}}],
    )
    assert [d.prompt for d in theirs.demonstrations] == [d.prompt for d in ours.demonstrations]
    assert [d.answer for d in theirs.demonstrations] == [d.answer for d in ours.demonstrations]
    assert theirs.demonstrations[0].calls[0] == ROME
    assert [turn.role for turn in theirs.demonstrations[1].prompt][-4:] == ["assistant", "tool", "tool", "user"]
    note = "Keys of messages that no demonstration uses, and how often they say something: signature (1)."
    assert theirs.notes == (note,)


def test_a_result_may_come_in_parts_or_be_nothing(tmp_path: Path) -> None:
    inner = [{"type": "text", "text": "24 C", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "dry"}]
    for content, text in ((inner, "24 C\ndry"), ("", ""), (None, ""), (" \n", ""), ("\u200b", "")):
        found = reading(tmp_path, ASK, use(USE), gave(GAVE | {"content": content, "is_error": True}), SAY, tools=TOOLS)
        assert found.demonstrations[1].prompt[-1].content == text
        assert "is_error (1)" in found.notes[0]


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([use(USE, LOOK)], "'messages[2].content[2]' has words behind a call ('Let me look.'); end the turn with"),
        (
            [use(LOOK, {"type": "thinking", "thinking": "hm"})],
            "'messages[2].content[2]' is a thought behind what was said; put it before the words",
        ),
        ([use(GAVE)], "is a part of type 'tool_result' in a turn of the assistant; put it into the user's turn"),
        ([use(USE | {"input": "[1]"})], "'messages[2]' holds a call that has a list for its arguments, not an object"),
        ([use(USE | {"name": ""})], "'messages[2]' holds a call that has no name"),
        ([SAY, gave(USE), SAY], "is a part of type 'tool_use' in a turn of the user; put it into the assistant's"),
        (
            [use(USE), gave({"type": "text", "text": "wait"}, GAVE), SAY],
            "'messages[3].content[2]' is a result behind words of the user; put results first",
        ),
        ([use(USE), gave(GAVE | {"tool_use_id": "c9"}), SAY], "message 3 answers a call that nobody made"),
        ([use(USE), gave(GAVE | {"tool_use_id": None}), SAY], "'messages[3].content[1].tool_use_id' is missing"),
        (
            [use(USE), gave(GAVE | {"content": [{"type": "image", "source": {}}]}), SAY],
            "'messages[3].content[1].content[1]' is a part of type 'image'; describe it in words",
        ),
        ([use(USE), gave(GAVE | {"content": {"t": 1}}), SAY], "'messages[3].content[1].content' is an object, not"),
        ([use(USE), gave(GAVE | {"content": "\ud83d"}), SAY], "'messages[3].content' holds a lone surrogate"),
        ([use({"type": "server_tool_use", "id": "s", "name": "w"})], "is a part of type 'server_tool_use'; describe"),
        ([use(None)], "'messages[2].content[1]' is null, not a part"),
        ([use({"type": ["text"]})], "'messages[2].content[1]' is a part of type ['text']; describe it in words"),
    ],
)
def test_parts_that_would_change_their_place_or_be_lost_are_refused(
    tmp_path: Path, turns: list[dict[str, Any]], why: str
) -> None:
    assert why in complaint(tmp_path, ASK, *turns, tools=TOOLS)


def test_a_call_of_anthropic_beside_one_of_openai_must_be_the_same(tmp_path: Path) -> None:
    beside = {"id": "c1", "function": {"name": "w", "arguments": '{"town": "Rome"}'}}
    assert said(reading(tmp_path, ASK, use(USE) | {"tool_calls": [beside]}, tools=TOOLS))
    path = lines(tmp_path / "x.jsonl", {"messages": [ASK, use(OTHER) | {"tool_calls": [beside]}], "tools": TOOLS})
    assert "holds a call that stands under tool_calls and is another under content" in complaints(path)[0]
