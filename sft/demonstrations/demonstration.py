"""What an expert did: :class:`Demonstration`, and what makes one valid. Its turns are in ``messages``.

A demonstration is a (state, action) pair of behavioural cloning: the ``prompt`` the expert saw and the
``completion`` the expert wrote. Holding one means it is valid; nothing downstream checks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sft.demonstrations.messages import (
    ROLES,
    Call,
    Message,
    folded,
    order_fault,
    prompt_key,
    prompt_text,
    refuse_text,
    text_fault,
    written_calls,
)
from sft.runs.hashes import _CANONICAL, _digest
from sft.runs.visible import beginning

__all__ = [
    "HOWS", "ROLES", "Call", "Demonstration", "HeldOut", "Message", "Origin", "Source", "canonical_turn", "folded",
    "held_out",
    "prompt_key", "prompt_text", "text_fault",
]  # fmt: skip

#: How an answer that was gathered came about; all but "blind" began from a clone's text.
HOWS = ("blind", "accepted", "edited", "rewritten", "continued")
_quoted = json.encoder.encode_basestring
_new, _set = object.__new__, object.__setattr__
#: What a message holds that is nothing but words of somebody.
_PLAIN = (("thought", ""), ("calls", ()), ("name", ""), ("supervised", True))


_FIELDS = ("prompt", "completion", "id", "group", "expert", "source", "references", "thought", "calls", "origin")


def canonical_turn(turn: Message) -> str:
    """A turn as canonical JSON, as it stands in the content of a demonstration."""
    if turn.thought or turn.calls or turn.name:
        return _CANONICAL.encode(turn.to_dict())
    return f'{{"content":{_quoted(turn.content)},"role":"{turn.role}"}}'


@dataclass(frozen=True, slots=True)
class Source:
    """Where a demonstration came from: a file (or data set id) and its 1-based line or row."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Origin:
    """How a demonstration was gathered: ``item`` and ``round`` of the gathering, ``how`` (:data:`HOWS`), and whether
    the item was ``drawn`` at random ("audit") or "chosen". Raises ``ValueError`` for anything else.
    """

    item: str
    round: int
    how: str
    drawn: str = "audit"

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise ValueError(f"gathered.how must be one of {', '.join(HOWS)}, not {self.how!r}")
        if type(self.round) is not int or self.round < 0 or not isinstance(self.item, str):
            raise ValueError("gathered must name an item and a round from 0 on")

    @property
    def drafted(self) -> bool:
        """Whether the expert began from a clone's text, so that it can be no measure of the clone."""
        return self.how != "blind"

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Origin:
        """From the ``gathered`` of a row, whatever else it says. Raises ``ValueError``."""
        return cls(row.get("item", ""), row.get("round", 0), row.get("how", ""), row.get("drawn", "audit"))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What one expert wrote for one prompt.

    ``prompt``: optional system message first, then turns that alternate and end with the user's, or with what a
    called function gave back (:func:`~sft.demonstrations.messages.order_fault`).
    ``completion``: what the expert wrote, never blank. ``references``: further completions by other
    experts for the same prompt (measured against, not trained on). ``group``: what must stay in one
    split; the prompt itself unless given. ``id``: hash of the content unless given.
    ``origin``: how it was gathered. ``thought``: what the expert thought before writing it, to be learned too.
    ``calls``: the functions it calls;
    ``completion`` ends with them, as :func:`~sft.demonstrations.messages.written_calls` writes them.
    ``key``: :func:`prompt_key` of the prompt, worked out here once; equal for equal prompts.

    Raises ``ValueError`` when built from anything else; ``formats`` turns that into a ``Problem``.
    """

    prompt: tuple[Message, ...]
    completion: str
    id: str = ""
    group: str = ""
    expert: str = ""
    source: Source | None = None
    references: tuple[str, ...] = ()
    thought: str = ""
    calls: tuple[Call, ...] = ()
    origin: Origin | None = None
    key: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        if type(self.prompt) is not tuple or not all(isinstance(turn, Message) for turn in self.prompt):
            raise ValueError("prompt must be a tuple of Message")
        if fault := order_fault(self.prompt):
            raise ValueError(f"prompt {fault}")
        refuse_text(self.completion, "completion")
        if type(self.references) is not tuple:
            raise ValueError("references must be a tuple of text")
        for reference in self.references:
            refuse_text(reference, "reference")
        if self.calls and not self.completion.endswith(written_calls("", self.calls)):
            raise ValueError("completion does not end with its calls")
        for name, value in (("id", self.id), ("group", self.group), ("expert", self.expert), ("thought", self.thought)):
            if value != "":
                refuse_text(value, name)
        self._settle()

    def _settle(self) -> None:
        """Fill in the key, and the id and the group where none was given."""
        key = prompt_key(self.prompt)
        _set(self, "key", key)
        if not self.id:
            _set(self, "id", _digest(self._canonical()))
        if not self.group:
            _set(self, "group", key)

    @classmethod
    def of_sound_text(
        cls,
        prompt: str,
        completion: str,
        *,
        system: str,
        group: str,
        expert: str,
        source: Source | None,
        key: str = "",
        id: str = "",
    ) -> Demonstration:
        """One user turn and its completion, of texts that :func:`text_fault` has found sound: nothing is looked at
        again. A large file is read in two thirds of the time; everything else is built the usual way.

        ``key`` and ``id``: where they were worked out before; then the group is known too.
        """
        user = _new(Message)
        _set(user, "role", "user")
        _set(user, "content", prompt)
        for name, value in _PLAIN:
            _set(user, name, value)
        made = _new(cls)
        _set(made, "prompt", (Message("system", system), user) if system else (user,))
        _set(made, "completion", completion)
        _set(made, "id", id)
        _set(made, "group", group)
        _set(made, "expert", expert)
        _set(made, "source", source)
        _set(made, "references", ())
        _set(made, "thought", "")
        _set(made, "calls", ())
        _set(made, "origin", None)
        if key:
            _set(made, "key", key)
        else:
            made._settle()
        return made

    @classmethod
    def of_sound_turns(
        cls,
        prompt: tuple[Message, ...],
        turn: Message,
        *,
        group: str,
        expert: str,
        source: Source | None,
        references: tuple[str, ...],
        origin: Origin | None,
    ) -> Demonstration:
        """A prompt that is known to be one, and the expert's turn; ``settled`` gives it what is worked out for it."""
        made = _new(cls)
        fields = (prompt, turn.text, "", group, expert, source, references, turn.thought, turn.calls, origin)
        for name, value in zip(_FIELDS, fields, strict=True):
            _set(made, name, value)
        return made

    def settled(self, key: str, id: str) -> Demonstration:
        """This very demonstration, with the key and the id that were worked out for it."""
        _set(self, "key", key)
        _set(self, "id", id)
        if not self.group:
            _set(self, "group", key)
        return self

    @property
    def address(self) -> str:
        """Where a person finds it: ``file:line``, or the start of its id when it came from no file."""
        return f"{self.source.file}:{self.source.line}" if self.source else f"demonstration {self.id[:8]}"

    @property
    def answer(self) -> Message:
        """The completion as the turn it is, its thought and its calls apart from its words."""
        if not self.calls:
            return Message("assistant", self.completion, self.thought)
        words = self.completion.removesuffix(written_calls("", self.calls)).removesuffix("\n")
        return Message("assistant", words, self.thought, self.calls)

    @property
    def content_hash(self) -> str:
        """What it holds, as :func:`fingerprint`: its id, unless it was given one."""
        return _digest(self._canonical())

    def _canonical(self) -> str:
        """``to_dict(content_only=True)`` as canonical JSON, put together by hand: half the time of reading a file."""
        before, after = self.around_prompt()
        return f"{before}{','.join([canonical_turn(turn) for turn in self.prompt])}{after}"

    def around_prompt(self) -> tuple[str, str]:
        """Its content as canonical JSON: what stands before the turns of the prompt, and what behind them."""
        calls = f'"calls":{_CANONICAL.encode([call.to_dict() for call in self.calls])},' if self.calls else ""
        expert = f',"expert":{_quoted(self.expert)}' if self.expert else ""
        references = f',"references":[{",".join(map(_quoted, self.references))}]' if self.references else ""
        thought = f',"thought":{_quoted(self.thought)}' if self.thought else ""
        return f'{{{calls}"completion":{_quoted(self.completion)}{expert},"prompt":[', f"]{references}{thought}}}"

    def to_dict(self, *, content_only: bool = False) -> dict[str, Any]:
        """The demonstration as JSON-ready values; ``content_only`` leaves out id, group, source and origin."""
        content: dict[str, Any] = {
            "prompt": [turn.to_dict() for turn in self.prompt],
            "completion": self.completion,
        }
        if self.thought:
            content["thought"] = self.thought
        if self.calls:
            content["calls"] = [call.to_dict() for call in self.calls]
        if self.expert:
            content["expert"] = self.expert
        if self.references:
            content["references"] = list(self.references)
        if content_only:
            return content
        content |= {"id": self.id, "group": self.group}
        if self.source is not None:
            content["source"] = {"file": self.source.file, "line": self.source.line}
        if self.origin is not None:
            content["gathered"] = asdict(self.origin)
        return content

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Demonstration:
        """Inverse of :meth:`to_dict`; raises ``KeyError`` or ``ValueError`` on anything else."""
        source = row.get("source")
        return cls(
            prompt=tuple(map(Message.from_dict, row["prompt"])),
            completion=row["completion"],
            id=row.get("id", ""),
            group=row.get("group", ""),
            expert=row.get("expert", ""),
            source=Source(source["file"], source["line"]) if source else None,
            references=tuple(row.get("references", ())),
            thought=row.get("thought", ""),
            calls=tuple(map(Call.from_dict, row.get("calls", ()))),
            origin=Origin.from_dict(row["gathered"]) if row.get("gathered") else None,
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out prompt with everything its experts wrote: the unit that is scored.

    ``references`` and ``experts`` run in parallel, first the demonstration's own. ``cluster`` is the
    group that intervals are clustered by. ``others``: (expert, completion) of experts whom the clone was not
    fitted to; they are compared with, never counted as references. ``thoughts`` and ``calls`` run beside
    ``references``, or are empty where none of them has any. ``address``: its file and line, "" where it came from none;
    it is for complaints, and no part of what the prompt is.
    """

    id: str
    prompt: tuple[Message, ...]
    references: tuple[str, ...]
    experts: tuple[str, ...]
    cluster: str
    others: tuple[tuple[str, str], ...] = ()
    thoughts: tuple[str, ...] = ()
    calls: tuple[tuple[Call, ...], ...] = ()
    address: str = field(default="", compare=False)

    @property
    def named(self) -> str:
        """What a complaint calls the prompt: its file and line, or its id."""
        return self.address or self.id

    @property
    def asked(self) -> str:
        """How what was asked last begins, on one line, to know the prompt by."""
        return beginning(self.prompt[-1].content)

    def demonstration(self, place: int = 0) -> Demonstration:
        """The prompt with the reference at ``place``: what an expert did, under the id of the prompt."""
        thought = self.thoughts[place] if self.thoughts else ""
        calls = self.calls[place] if self.calls else ()
        return Demonstration(self.prompt, self.references[place], id=self.id, thought=thought, calls=calls)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values but for the address; thoughts and calls only where there are any."""
        found: dict[str, Any] = {
            "id": self.id,
            "prompt": [turn.to_dict() for turn in self.prompt],
            "references": list(self.references),
            "experts": list(self.experts),
            "cluster": self.cluster,
            "others": [list(pair) for pair in self.others],
        }
        if self.thoughts:
            found["thoughts"] = list(self.thoughts)
        if self.calls:
            found["calls"] = [[call.to_dict() for call in calls] for calls in self.calls]
        return found

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> HeldOut:
        """Inverse of :meth:`to_dict`; raises ``KeyError`` or ``ValueError`` on anything else."""
        return cls(
            id=row["id"],
            prompt=tuple(map(Message.from_dict, row["prompt"])),
            references=tuple(row["references"]),
            experts=tuple(row["experts"]),
            cluster=row["cluster"],
            others=tuple((expert, text) for expert, text in row.get("others", ())),
            thoughts=tuple(row.get("thoughts", ())),
            calls=tuple(tuple(map(Call.from_dict, calls)) for calls in row.get("calls", ())),
            address=row.get("address", ""),
        )


def held_out(demonstrations: Iterable[Demonstration], others: Iterable[Demonstration] = ()) -> list[HeldOut]:
    """Merge demonstrations of one and the same prompt into one :class:`HeldOut`, first seen first.

    Completions repeated word for word by the same expert count once; two experts who agree count twice.
    ``others``: what further experts wrote; where they answered a prompt that is held out, their completions (not
    their rows' references, whose authors are unknown) become its ``others``, and elsewhere nothing.
    """
    first: dict[tuple[Message, ...], Demonstration] = {}
    written: dict[tuple[Message, ...], dict[tuple[str, str], Demonstration | None]] = {}
    beside: dict[tuple[Message, ...], dict[tuple[str, str], None]] = {}
    for d in demonstrations:
        first.setdefault(d.prompt, d)
        texts = written.setdefault(d.prompt, {})
        texts.setdefault((d.completion, d.expert), d)
        for reference in d.references:
            texts.setdefault((reference, ""), None)
    for d in others:
        if d.prompt in first:
            beside.setdefault(d.prompt, {})[d.expert, d.completion] = None
    return [_merged(d, written[prompt], tuple(beside.get(prompt, ()))) for prompt, d in first.items()]


def _merged(
    first: Demonstration, texts: dict[tuple[str, str], Demonstration | None], others: tuple[tuple[str, str], ...]
) -> HeldOut:
    thoughts = tuple(d.thought if d else "" for d in texts.values())
    calls = tuple(d.calls if d else () for d in texts.values())
    return HeldOut(
        id=first.id,
        prompt=first.prompt,
        references=tuple(text for text, _ in texts),
        experts=tuple(expert for _, expert in texts),
        cluster=first.group,
        address=first.address if first.source else "",
        others=others,
        thoughts=thoughts if any(thoughts) else (),
        calls=calls if any(calls) else (),
    )
