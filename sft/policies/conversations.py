"""Prompts and answers as transformers hands them to a chat template, and what the template makes of them, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sft.demonstrations.demonstration import Message
from sft.policies.frame import Frame
from sft.policies.template_calls import without_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["as_turn", "conversation", "left_out_of", "prompt_strings", "tools_of", "written_answer"]

_COMPLETION, _THOUGHT = "zqcompletionqz", "zqthoughtqz"


def conversation(prompt: tuple[Message, ...], frame: Frame) -> list[dict[str, Any]]:
    """``prompt`` as transformers wants it, tools and a given thought apart.

    Where the template has no system turn the system message stands in the first turn of the user.
    """
    made: list[dict[str, Any]] = []
    awaited: list[str] = []
    for turn in prompt:
        if turn.role in ("tools", "thought"):
            continue
        if turn.role == "tool":
            one = {"role": "tool", "content": turn.content, "name": turn.name}
            made.append(one | ({"tool_call_id": awaited.pop(0)} if awaited else {}))
            continue
        made.append(as_turn(turn, frame, sum(len(one.get("tool_calls", ())) for one in made)))
        awaited = [call["id"] for call in made[-1].get("tool_calls", ())]
    if frame.fold_system and made[0]["role"] == "system":
        first = next((one for one in made if one["role"] == "user"), None)
        if first is not None:
            first["content"] = f"{made[0]['content']}\n\n{first['content']}"
            del made[0]
    return made


def as_turn(turn: Message, frame: Frame, called: int = 0) -> dict[str, Any]:
    """``turn`` as a message of transformers. ``called``: how many calls were made before it, for their ids."""
    made: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.thought and frame.thought is not None:
        if frame.thought.key:
            made[frame.thought.key] = turn.thought
        else:
            made["content"] = f"{frame.thought.lead}{turn.thought}{frame.thought.between}{turn.content}"
    if turn.calls and frame.calls is not None:
        made["tool_calls"] = [frame.calls.handed(call, called + number) for number, call in enumerate(turn.calls)]
    return made


def tools_of(prompt: Sequence[Message]) -> list[dict[str, Any]] | None:
    """The functions that a prompt lists; None where it lists none."""
    return json.loads(prompt[0].content) if prompt[0].role == "tools" else None


def left_out_of(text: str, prompt: Sequence[Message]) -> str:
    """Whose words ``text``, a prompt by the template, does not hold, white space at their ends aside; "" if all.

    Some templates cut what earlier turns said, at ``</think>``, say, or beside a call.
    """
    for place, turn in enumerate(prompt, 1):
        if turn.role in ("system", "user", "assistant") and turn.content.strip() not in text:
            return f"words of the {turn.role} in turn {place - (prompt[0].role == 'tools')}"
    return ""


def prompt_strings(
    tokenizer: PreTrainedTokenizerBase, frame: Frame, prompts: Sequence[tuple[Message, ...]]
) -> list[str]:
    """``prompts`` through the template, the generation prompt last; many at once take half of the time.

    Raises one of :data:`REFUSALS` when the template refuses any of them.
    """
    if frame.one_turn and any(m.role == "assistant" for prompt in prompts for m in prompt):
        raise ValueError("it cannot write earlier turns")
    together: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        together.setdefault(prompt[0].content if prompt[0].role == "tools" else "", []).append(number)
    made = [""] * len(prompts)
    for tools, numbers in together.items():
        conversations = [conversation(prompts[number], frame) for number in numbers]
        for number, text in zip(
            numbers,
            _applied(tokenizer, frame.template, conversations, json.loads(tools) if tools else None),
            strict=True,
        ):
            given = prompts[number][-1]
            if given.role == "thought" and frame.thought is not None:
                text += f"{frame.thought.lead}{given.content}{frame.thought.between}"
            made[number] = text
    return made


def _applied(
    tokenizer: PreTrainedTokenizerBase, template: str, conversations: list[list[dict[str, Any]]], tools: Any = None
) -> list[str]:
    return tokenizer.apply_chat_template(
        conversations, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=True
    )


def written_answer(
    tokenizer: PreTrainedTokenizerBase, frame: Frame, prompt: tuple[Message, ...], asked: str, answer: Message
) -> list[tuple[str, bool]]:
    """What the template writes after the prompt ``asked`` for ``answer``: (text, whether they are the expert's words).

    Its end of turn is in it. Raises one of :data:`REFUSALS`.
    """
    if answer.calls and frame.calls is not None:
        if answer.content and not frame.calls.words:
            raise ValueError("it writes no words before a call; leave them out, or the call")
        if len(answer.calls) > 1 and not frame.calls.several:
            raise ValueError("it writes one call in a turn; write the calls in turns of their own")
    words, thought = answer.content and _COMPLETION, answer.thought and _THOUGHT
    probed = replace(answer, content=words or answer.content, thought=thought)
    before = conversation(prompt, frame)
    turn = as_turn(probed, frame, sum(len(one.get("tool_calls", ())) for one in before))
    whole = tokenizer.apply_chat_template(
        [*before, turn], tools=tools_of(prompt), chat_template=frame.template, tokenize=False
    )
    given = frame.thought if prompt[-1].role == "thought" else None
    if given is not None:
        if answer.calls and not (given.called or given.between.strip().startswith("</")):
            raise ValueError("it writes a thought before a call otherwise than before words")
        asked = asked.removesuffix(f"{given.lead}{prompt[-1].content}{given.between}")
    rest = without_prompt(whole, asked)
    if rest is not None and given is not None:
        rest = rest.removeprefix(f"{given.lead}{given.between}")
    if rest is None:
        raise ValueError("it writes this turn otherwise than it asks for one; list the functions as tools of the row")
    if not thought and frame.thought is not None and not frame.thought.lead and not rest.startswith(frame.lead):
        rest = frame.lead + rest  # the prompt has opened a thought, and it is closed before anything else is said
    if thought and thought not in rest:
        assert frame.thought is not None
        rest = frame.thought.lead + thought + frame.thought.between + rest.removeprefix(frame.lead)
    pieces: list[tuple[str, bool]] = []
    for probe, text in ((thought, answer.thought), (words, answer.content)):
        if not probe:
            continue
        head, found, rest = rest.partition(probe)
        if not found or probe in rest:
            raise ValueError("it leaves out what was said, or says it twice")
        expected = (frame.lead, frame.header, frame.thought.lead if frame.thought and thought else "")
        if not (answer.calls or pieces or head in expected):
            raise ValueError("it does not ask for an answer here the way it writes one")
        pieces += [(head, False), (text, True)]
    if missing := [call.name for call in answer.calls if call.name not in rest]:
        raise ValueError(f"it does not write the call of {missing[0]}")
    return [*pieces, (rest, False)]
