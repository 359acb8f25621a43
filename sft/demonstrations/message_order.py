"""What the messages of one row make of each other: tools and system message first, neighbours, results behind calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sft.demonstrations import tool_calls
from sft.demonstrations.messages import Message
from sft.demonstrations.tool_calls import NoCall

__all__ = ["Fault", "Turn", "head_and_turns", "joined", "with_results", "without_hermes"]

#: Called with (field, what is wrong, what to do).
Fault = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message, its 1-based ``place`` in the list, and the ids that tie results to calls."""

    message: Message
    place: int
    ids: tuple[str, ...] = ()


def head_and_turns(
    column: str, turns: list[Turn], system: str, tools: Sequence[Message], fault: Fault, *, otherwise: str = ""
) -> tuple[list[Message], list[Turn]]:
    """What stands before the turns, tools first, and the turns; ``system`` and ``tools`` are those of the row.

    ``otherwise``: the system message where neither the row nor the messages have one.
    """
    rest = [turn for turn in turns if turn.message.role != "tools"]
    given = [*tools, *(turn.message for turn in turns if turn.message.role == "tools")]
    if len({one.content for one in given}) > 1:
        fault(column, "lists tools in two places that differ", "keep one of them")
    head = given[:1]
    first = rest[0].message if rest else None
    if first is not None and first.role == "system":
        if system:
            fault(column, "starts with a system message beside the system column", "keep one of them")
        head.append(first)
        rest = rest[1:]
    elif system or otherwise:
        head.append(Message("system", system or otherwise))
    return head, rest


def without_hermes(
    column: str, head: list[Message], turns: list[Turn], fault: Fault, *, drops_nulls: bool
) -> tuple[list[Message], list[Turn], bool]:
    """Head and turns with calls read from their tags where tools are in play, and whether ``head`` told of the tags.

    What it told is taken out of it, for the template has words of its own.
    """
    system = next((turn for turn in head if turn.role == "system"), None)
    told, rest = tool_calls.hermes_tools(system.content) if system else ("", "")
    if told:
        listed = [turn for turn in head if turn.role == "tools"] or [Message("tools", told)]
        head = [*listed, *([Message("system", rest)] if rest else [])]
    if not (any(turn.role == "tools" for turn in head) or any(turn.message.role == "tool" for turn in turns)):
        return head, turns, bool(told)
    made = []
    for turn in turns:
        message = turn.message
        if message.role == "assistant" and not message.calls:
            try:
                words, calls = tool_calls.tagged(message.content, drops_nulls=drops_nulls)
            except NoCall as error:
                fault(column, f"message {turn.place} has a call in tags that {error}", error.remedy)
                continue
            if calls:
                message = replace(message, content=words, calls=tuple(call.call for call in calls))
                turn = Turn(message, turn.place, ("",) * len(calls))
        made.append(turn)
    return head, made, bool(told)


def joined(column: str, turns: list[Turn], fault: Fault) -> list[Turn]:
    """The turns, those of one role side by side as one."""
    made: list[Turn] = []
    for turn in turns:
        one, last = turn.message, made[-1].message if made else None
        if last is None or last.role != one.role or one.role not in ("user", "assistant"):
            made.append(turn)
        elif last.supervised != one.supervised:
            fault(column, f"message {turn.place} cannot be joined to the one before: one is not to be learned",
                  "mark both alike")  # fmt: skip
        elif last.calls and one.content:
            fault(column, f"message {turn.place} speaks after a call without its result", "add the result")
        else:
            content = "\n\n".join(text for text in (last.content, one.content) if text)
            thought = "\n\n".join(text for text in (last.thought, one.thought) if text)
            both = replace(last, content=content, thought=thought, calls=(*last.calls, *one.calls))
            made[-1] = Turn(both, made[-1].place, (*made[-1].ids, *turn.ids))
    return made


def with_results(column: str, turns: list[Turn], fault: Fault) -> list[Turn]:
    """Results in the order of the calls, each under the name of its function."""
    made: list[Turn] = []
    at = 0
    while at < len(turns):
        made.append(turns[at])
        at += 1
        results = []
        while at < len(turns) and turns[at].message.role == "tool":
            results.append(turns[at])
            at += 1
        if not results:
            continue
        asked = _asked(column, made[-1], results, fault)
        calls = made[-1].message.calls
        if asked is None:
            continue
        if len(results) < len(calls):
            what = f"message {results[-1].place} is the last of {len(results)} results of {len(calls)} calls"
            fault(column, what, "add a message of the role tool for each of the others, blank where it gave nothing")
        for place, turn in sorted(zip(asked, results, strict=True), key=lambda pair: pair[0]):
            name = calls[place].name if place < len(calls) else turn.message.name
            made.append(Turn(replace(turn.message, name=name), turn.place))
    return made


def _asked(column: str, before: Turn, results: list[Turn], fault: Fault) -> list[int] | None:
    """Which call of the turn ``before`` each result answers: by ids, else by names, else in their order.

    None after a complaint.
    """
    in_order = list(range(len(results)))
    calls, known = before.message.calls, {one: place for place, one in enumerate(before.ids) if one}
    if calls and len(results) > len(calls):
        fault(column, f"message {results[len(calls)].place} is a result that no call asked for", "remove it")
        return None
    strangers = [turn for turn in results if turn.ids and turn.ids[0] not in known]
    if strangers and (known or not calls):
        remedy = "mend tool_call_id" if calls else "write the call as tool_calls of the turn before"
        fault(column, f"message {strangers[0].place} answers a call that nobody made", remedy)
        return None
    if known and all(turn.ids for turn in results):
        by_id = [known[turn.ids[0]] for turn in results]
        return by_id if len(set(by_id)) == len(by_id) else in_order
    names = [call.name for call in calls]
    named = [turn.message.name for turn in results]
    if not calls or not all(named):
        return in_order
    by_name = list[int]()
    for turn in results:
        free = [place for place, name in enumerate(names) if name == turn.message.name and place not in by_name]
        if not free:
            what = f"message {turn.place} is the result of {turn.message.name!r}, which the turn before does not call"
            fault(column, what if turn.message.name not in names else f"{what} so often", "mend its name")
            return None
        by_name.append(free[0])
    return by_name
