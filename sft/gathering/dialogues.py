"""The rule of chats: messages become turns, and each turn of the expert's a completion of the turns before it.

Messages of the expert's within a few minutes are one turn; what others wrote between two such turns is one user turn,
with names where several write. A dialogue is a thread, or else a day of a chat, which begins at four in the morning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sft.demonstrations.demonstration import Source
from sft.gathering.records import ImportOptions, Said
from sft.metrics.text import words

__all__ = ["CHAT_COMPLETION", "CHAT_GROUP", "CHAT_PROMPT", "Candidate", "candidates", "left_out"]

#: What cards say of the rule.
CHAT_PROMPT = "what others wrote since the expert's last turn, after the turns before it, {turns} turns at most"
CHAT_COMPLETION = "the expert's turn: the messages sent within {minutes} minutes of each other, a line each"
CHAT_GROUP = "a day of a chat, from four in the morning on"

_DAY_BEGINS = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What becomes a demonstration unless something is said against it. ``records``: how many it is made of.

    ``turns``: (role, text), the last one the user's; empty where nothing stood before the completion.
    """

    place: Source
    turns: tuple[tuple[str, str], ...]
    completion: str
    group: str
    records: int = 1
    others: bool = True


@dataclass(slots=True)
class _Streak:
    own: bool
    said: list[Said] = field(default_factory=list)


def left_out(text: str) -> str:
    """What stands in a prompt for words of somebody else that were left out."""
    return f"[{len(words(text)):,} words by another person]"


def candidates(said: Sequence[Said], own: Callable[[Said], bool], options: ImportOptions) -> Iterator[Candidate]:
    """Every turn of the expert's, in the order of chats and times, with what stood before it in its dialogue.

    ``own``: whether the expert wrote a message. Messages with a fate are no turns. Where nobody else wrote anything in
    the whole export, a turn's prompt is what the expert wrote before it.
    """
    kept = [message for message in said if not message.fate]
    alone = all(map(own, kept))
    dialogues: dict[tuple[str, str], list[Said]] = {}
    for message in sorted(kept, key=lambda one: (one.chat, one.at)):
        day = (message.at - _DAY_BEGINS).date().isoformat() if message.at.year > 1 else ""
        dialogues.setdefault((message.chat, f"thread {message.thread}" if message.thread else day), []).append(message)
    crowds: dict[str, set[str]] = {}
    for message in kept:
        if not own(message):
            crowds.setdefault(message.chat, set()).add(message.people[0])
    for (chat, part), messages in dialogues.items():
        turns = _turns(messages, own, timedelta(minutes=options.join_minutes))
        several = len(crowds.get(chat, ())) > 1
        yield from (_continued if alone else _answered)(turns, f"{chat}\0{part}", options, several)


def _turns(messages: Sequence[Said], own: Callable[[Said], bool], within: timedelta) -> list[_Streak]:
    turns: list[_Streak] = []
    for message in messages:
        mine = own(message)
        goes_on = turns and turns[-1].own == mine
        if not goes_on or (mine and message.at - turns[-1].said[-1].at > within):
            turns.append(_Streak(mine))
        turns[-1].said.append(message)
    return turns


def _answered(turns: Sequence[_Streak], group: str, options: ImportOptions, several: bool) -> Iterator[Candidate]:
    context: list[tuple[str, str]] = []
    for turn in turns:
        if not turn.own:
            text = _voices(turn.said, several)
            context.append(("user", left_out(text) if options.mask_others else text))
            continue
        completion = "\n".join(message.text for message in turn.said)
        prompt = _cut(context, options.turns) if context and context[-1][0] == "user" else ()
        others = not options.mask_others or all(role == "user" for role, _ in prompt)
        yield Candidate(turn.said[0].place, prompt, completion, group, len(turn.said), others)
        if context and context[-1][0] == "assistant":  # two turns of the expert's with a pause between them
            context[-1] = ("assistant", f"{context[-1][1]}\n{completion}")
        elif context:  # a dialogue begins with a user turn: what the expert opens it with is nobody's answer
            context.append(("assistant", completion))


def _continued(turns: Sequence[_Streak], group: str, options: ImportOptions, several: bool) -> Iterator[Candidate]:
    before: list[str] = []
    for turn in turns:
        completion = "\n".join(message.text for message in turn.said)
        prompt = (("user", "\n\n".join(before[-options.turns :])),) if before else ()
        yield Candidate(turn.said[0].place, prompt, completion, group, len(turn.said), others=False)
        before.append(completion)


def _voices(said: Sequence[Said], several: bool) -> str:
    """What others said, a line a message; each person is named where the person before is another."""
    lines, before = [], ""
    for message in said:
        name = message.people[0].encode("utf-8", "ignore").decode("utf-8").strip()  # half an emoji may stand in it
        lines.append(f"{name}: {message.text}" if several and name != before else message.text)
        before = name
    return "\n".join(lines)


def _cut(context: Sequence[tuple[str, str]], most: int) -> tuple[tuple[str, str], ...]:
    """The last ``most`` turns, from a user's on."""
    last = tuple(context[-most:])
    return last[1:] if last[0][0] == "assistant" else last
