"""What an expert did: :class:`Message`, :class:`Demonstration`, and what makes one valid.

A demonstration is a (state, action) pair of behavioural cloning: the ``prompt`` the expert saw and the
``completion`` the expert wrote. Holding one means it is valid; nothing downstream checks again.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sft.runs.hashes import _digest

__all__ = [
    "HOWS", "ROLES", "Demonstration", "HeldOut", "Message", "Origin", "Source", "folded", "held_out", "prompt_key",
    "prompt_text", "text_fault",
]  # fmt: skip

ROLES = ("system", "user", "assistant")
#: How an answer that was gathered came about; all but "blind" began from a clone's text.
HOWS = ("blind", "accepted", "edited", "rewritten", "continued")
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_quoted = json.encoder.encode_basestring
_new, _set = object.__new__, object.__setattr__


def text_fault(value: object) -> str:
    """What keeps ``value`` from being a text of a demonstration, as half a sentence; ``""`` if nothing does.

    Text must be ``str``, show at least one character (white space, control and zero-width characters show
    none) and be writable as UTF-8 (a lone surrogate, half of an emoji, is not).
    """
    if not isinstance(value, str):
        return f"must be text, not {'null' if value is None else type(value).__name__}"
    visible = value.strip()
    if not visible:
        return "is blank"
    if not visible[0].isprintable() and all(unicodedata.category(c) in _UNSEEN for c in visible):
        return "is blank (only control or zero-width characters)"
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"holds a lone surrogate at character {error.start + 1}"
    return ""


def _refuse_text(value: object, what: str) -> None:
    """Raise ``ValueError`` unless ``value`` is text that shows and can be written to a file."""
    if fault := text_fault(value):
        raise ValueError(f"{what} {fault}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a prompt. ``role`` is one of :data:`ROLES`; ``content`` is never blank."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is not one of {', '.join(ROLES)}")
        _refuse_text(self.content, f"the {self.role} message")


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

    ``prompt``: optional system message first, then turns that alternate and end with the user's.
    ``completion``: what the expert wrote, never blank. ``references``: further completions by other
    experts for the same prompt (measured against, not trained on). ``group``: what must stay in one
    split; the prompt itself unless given. ``id``: hash of the content unless given. ``origin``: how it was gathered.
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
    origin: Origin | None = None
    key: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        if type(self.prompt) is not tuple or not all(isinstance(turn, Message) for turn in self.prompt):
            raise ValueError("prompt must be a tuple of Message")
        if not self.prompt:
            raise ValueError("prompt is empty")
        turns = self.prompt[1:] if self.prompt[0].role == "system" else self.prompt
        if not turns or turns[-1].role != "user":
            raise ValueError("prompt must end with a user turn")
        for position, turn in enumerate(reversed(turns)):
            expected = "assistant" if position % 2 else "user"
            if turn.role != expected:
                raise ValueError(
                    f"prompt has a {turn.role} message where the {expected}'s turn must stand "
                    "(system first, then user and assistant in turn)"
                )
        _refuse_text(self.completion, "completion")
        if type(self.references) is not tuple:
            raise ValueError("references must be a tuple of text")
        for reference in self.references:
            _refuse_text(reference, "reference")
        for name, value in (("id", self.id), ("group", self.group), ("expert", self.expert)):
            if value != "":
                _refuse_text(value, name)
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
        cls, prompt: str, completion: str, *, system: str, group: str, expert: str, source: Source
    ) -> Demonstration:
        """One user turn and its completion, of texts that :func:`text_fault` has found sound: nothing is looked at
        again. A large file is read in two thirds of the time; everything else is built the usual way.
        """
        user = _new(Message)
        _set(user, "role", "user")
        _set(user, "content", prompt)
        made = _new(cls)
        _set(made, "prompt", (Message("system", system), user) if system else (user,))
        _set(made, "completion", completion)
        _set(made, "id", "")
        _set(made, "group", group)
        _set(made, "expert", expert)
        _set(made, "source", source)
        _set(made, "references", ())
        _set(made, "origin", None)
        made._settle()
        return made

    @property
    def address(self) -> str:
        """Where a person finds it: ``file:line``, or the start of its id when it came from no file."""
        return f"{self.source.file}:{self.source.line}" if self.source else f"demonstration {self.id[:8]}"

    @property
    def content_hash(self) -> str:
        """What it holds, as :func:`fingerprint`: its id, unless it was given one."""
        return _digest(self._canonical())

    def _canonical(self) -> str:
        """``to_dict(content_only=True)`` as canonical JSON, put together by hand: half the time of reading a file."""
        turns = ",".join([f'{{"content":{_quoted(m.content)},"role":"{m.role}"}}' for m in self.prompt])
        expert = f',"expert":{_quoted(self.expert)}' if self.expert else ""
        references = f',"references":[{",".join(map(_quoted, self.references))}]' if self.references else ""
        return f'{{"completion":{_quoted(self.completion)}{expert},"prompt":[{turns}]{references}}}'

    def to_dict(self, *, content_only: bool = False) -> dict[str, Any]:
        """The demonstration as JSON-ready values; ``content_only`` leaves out id, group, source and origin."""
        content: dict[str, Any] = {
            "prompt": [{"role": m.role, "content": m.content} for m in self.prompt],
            "completion": self.completion,
        }
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
            prompt=tuple(Message(m["role"], m["content"]) for m in row["prompt"]),
            completion=row["completion"],
            id=row.get("id", ""),
            group=row.get("group", ""),
            expert=row.get("expert", ""),
            source=Source(source["file"], source["line"]) if source else None,
            references=tuple(row.get("references", ())),
            origin=Origin.from_dict(row["gathered"]) if row.get("gathered") else None,
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out prompt with everything its experts wrote: the unit that is scored.

    ``references`` and ``experts`` run in parallel, first the demonstration's own. ``cluster`` is the
    group that intervals are clustered by. ``others``: (expert, completion) of experts whom the clone was not
    fitted to; they are compared with, never counted as references.
    """

    id: str
    prompt: tuple[Message, ...]
    references: tuple[str, ...]
    experts: tuple[str, ...]
    cluster: str
    others: tuple[tuple[str, str], ...] = ()


def held_out(demonstrations: Iterable[Demonstration], others: Iterable[Demonstration] = ()) -> list[HeldOut]:
    """Merge demonstrations of one and the same prompt into one :class:`HeldOut`, first seen first.

    Completions repeated word for word by the same expert count once; two experts who agree count twice.
    ``others``: what further experts wrote; where they answered a prompt that is held out, their completions (not
    their rows' references, whose authors are unknown) become its ``others``, and elsewhere nothing.
    """
    first: dict[tuple[Message, ...], Demonstration] = {}
    written: dict[tuple[Message, ...], dict[tuple[str, str], None]] = {}
    beside: dict[tuple[Message, ...], dict[tuple[str, str], None]] = {}
    for d in demonstrations:
        first.setdefault(d.prompt, d)
        texts = [(d.completion, d.expert), *((reference, "") for reference in d.references)]
        written.setdefault(d.prompt, {}).update(dict.fromkeys(texts))
    for d in others:
        if d.prompt in first:
            beside.setdefault(d.prompt, {})[d.expert, d.completion] = None
    return [
        HeldOut(
            id=d.id,
            prompt=prompt,
            references=tuple(text for text, _ in written[prompt]),
            experts=tuple(expert for _, expert in written[prompt]),
            cluster=d.group,
            others=tuple(beside.get(prompt, ())),
        )
        for prompt, d in first.items()
    ]


def prompt_text(prompt: tuple[Message, ...]) -> str:
    """The prompt's words without a template: contents joined by blank lines (for search and display)."""
    return "\n\n".join(message.content for message in prompt)


def prompt_key(prompt: tuple[Message, ...]) -> str:
    """Hash of the prompt after NFKC, case folding and white-space collapsing: equal for equal prompts."""
    turns = [f'["{message.role}",{_quoted(folded(message.content))}]' for message in prompt]
    return _digest(f"[{','.join(turns)}]")


def folded(text: str) -> str:
    """``text`` after NFKC, case folding and white-space collapsing."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
