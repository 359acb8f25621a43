"""What an expert did: :class:`Message`, :class:`Demonstration`, and what makes one valid.

A demonstration is a (state, action) pair of behavioural cloning: the ``prompt`` the expert saw and the
``completion`` the expert wrote. Holding one means it is valid; nothing downstream checks again.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "ROLES",
    "Demonstration",
    "HeldOut",
    "Message",
    "Source",
    "fingerprint",
    "held_out",
    "prompt_key",
    "prompt_text",
]

ROLES = ("system", "user", "assistant")


def _refuse_text(value: object, what: str) -> None:
    """Raise ``ValueError`` unless ``value`` is text that can be written to a file and is not blank."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{what} is blank")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} holds a lone surrogate at character {error.start}") from None


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
class Demonstration:
    """What one expert wrote for one prompt.

    ``prompt``: optional system message first, then turns that alternate and end with the user's.
    ``completion``: what the expert wrote, never blank. ``references``: further completions by other
    experts for the same prompt (measured against, not trained on). ``group``: what must stay in one
    split; the prompt itself unless given. ``id``: hash of the content unless given.

    Raises ``ValueError`` when built from anything else; ``formats`` turns that into a ``Problem``.
    """

    prompt: tuple[Message, ...]
    completion: str
    id: str = ""
    group: str = ""
    expert: str = ""
    source: Source | None = None
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("prompt is empty")
        turns = self.prompt[1:] if self.prompt[0].role == "system" else self.prompt
        if not turns or turns[-1].role != "user":
            raise ValueError("prompt must end with a user turn")
        for position, turn in enumerate(reversed(turns)):
            expected = "assistant" if position % 2 else "user"
            if turn.role != expected:
                raise ValueError(
                    f"prompt has a {turn.role} message where a {expected} turn must stand "
                    "(system first, then user and assistant in turn)"
                )
        _refuse_text(self.completion, "completion")
        for reference in self.references:
            _refuse_text(reference, "reference")
        if not self.id:
            object.__setattr__(self, "id", fingerprint(self.to_dict(content_only=True)))
        if not self.group:
            object.__setattr__(self, "group", prompt_key(self.prompt))

    def to_dict(self, *, content_only: bool = False) -> dict[str, Any]:
        """The demonstration as JSON-ready values; ``content_only`` leaves out id, group and source."""
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
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out prompt with everything its experts wrote: the unit that is scored.

    ``references`` and ``experts`` run in parallel, first the demonstration's own. ``cluster`` is the
    group that intervals are clustered by.
    """

    id: str
    prompt: tuple[Message, ...]
    references: tuple[str, ...]
    experts: tuple[str, ...]
    cluster: str


def held_out(demonstrations: Iterable[Demonstration]) -> list[HeldOut]:
    """Merge demonstrations of one and the same prompt into one :class:`HeldOut`, first seen first.

    Completions repeated word for word by the same expert count once; two experts who agree count twice.
    """
    merged: dict[tuple[Message, ...], HeldOut] = {}
    for demonstration in demonstrations:
        written = [(demonstration.completion, demonstration.expert)]
        written += [(reference, "") for reference in demonstration.references]
        known = merged.get(demonstration.prompt)
        if known is None:
            known = HeldOut(demonstration.id, demonstration.prompt, (), (), demonstration.group)
        for text, expert in written:
            pairs = list(zip(known.references, known.experts, strict=True))
            if (text, expert) not in pairs:
                known = replace(known, references=(*known.references, text), experts=(*known.experts, expert))
        merged[demonstration.prompt] = known
    return list(merged.values())


def fingerprint(value: Any) -> str:
    """128-bit BLAKE2b of ``value`` as canonical JSON (sorted keys, UTF-8): 32 hex digits."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("utf-8"), digest_size=16).hexdigest()


def prompt_text(prompt: tuple[Message, ...]) -> str:
    """The prompt's words without a template: contents joined by blank lines (for search and display)."""
    return "\n\n".join(message.content for message in prompt)


def prompt_key(prompt: tuple[Message, ...]) -> str:
    """Hash of the prompt after NFKC, case folding and white-space collapsing: equal for equal prompts."""
    parts = [
        (message.role, " ".join(unicodedata.normalize("NFKC", message.content).casefold().split()))
        for message in prompt
    ]
    return fingerprint(parts)
