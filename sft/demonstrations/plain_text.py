"""General text that is learned beside the demonstrations, as it stands: :class:`PlainText`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.messages import folded

__all__ = ["PlainText", "quoting"]

#: So many words in a row that are somebody's held-out ones are no accident.
_WORDS = 8


class PlainText(Demonstration):
    """A page of general text, which is learned without a template and is never asked for.

    Its prompt and its completion are its text, so that it is compared with what is held out as any other row is.
    """

    @classmethod
    def of(cls, text: str, source: Source | None, id: str = "") -> PlainText:
        """The page ``text``. Raises ``ValueError`` for what is no sound text."""
        return cls((Message("user", text),), text, id=id, source=source)

    def to_dict(self, *, content_only: bool = False) -> dict[str, Any]:
        """The page as JSON-ready values."""
        found: dict[str, Any] = {"text": self.completion}
        if not content_only:
            found |= {"id": self.id}
            if self.source is not None:
                found["source"] = {"file": self.source.file, "line": self.source.line}
        return found

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> PlainText:
        """Inverse of :meth:`to_dict`; raises ``KeyError`` or ``ValueError`` on anything else."""
        source = row.get("source")
        return cls.of(row["text"], Source(source["file"], source["line"]) if source else None, row.get("id", ""))


def quoting(general: Sequence[Demonstration], held_out: Mapping[str, Iterable[Demonstration]]) -> set[str]:
    """Contents of the pages of ``general`` that hold the first words of a held-out prompt or completion."""
    pages = [d for d in general if isinstance(d, PlainText)]
    if not pages:
        return set()
    texts = {text for part in held_out.values() for d in part for text in (d.prompt[-1].content, d.completion)}
    known = {tuple(words[:_WORDS]) for text in texts if len(words := folded(text).split()) >= _WORDS}
    found = set()
    for page in pages:
        words = folded(page.completion).split()
        if any(tuple(words[n : n + _WORDS]) in known for n in range(len(words) - _WORDS + 1)):
            found.add(page.content_hash)
    return found
