"""The importers, in the order in which an export is tried to be recognised: the surest sign first."""

from __future__ import annotations

import difflib

from sft.errors import SourceError
from sft.gathering.imports import (
    discord,
    documents,
    git,
    helpdesk,
    mail,
    medium,
    signal,
    slack,
    telegram,
    wechat,
    whatsapp,
    wordpress,
)  # fmt: skip
from sft.gathering.records import Importer
from sft.gathering.source_files import SourceFiles

__all__ = ["IMPORTERS", "importer_of"]

IMPORTERS: dict[str, Importer] = {
    one.name: one
    for one in (
        git.IMPORTER, slack.IMPORTER, telegram.IMPORTER, discord.IMPORTER, wechat.IMPORTER, signal.IMPORTER,
        wordpress.IMPORTER, medium.IMPORTER, mail.IMPORTER, whatsapp.IMPORTER, helpdesk.IMPORTER, documents.IMPORTER,
    )
}  # fmt: skip


def importer_of(files: SourceFiles, kind: str) -> Importer:
    """The importer called ``kind``; with "auto" the first that recognises ``files``. Raises ``SourceError``."""
    if kind in IMPORTERS:
        return IMPORTERS[kind]
    if kind != "auto":
        near = difflib.get_close_matches(kind, IMPORTERS, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(IMPORTERS)}"
        raise SourceError(f"--from {kind}: is no kind of export that is known; {hint}")
    for one in IMPORTERS.values():
        if one.recognises(files):
            return one
    shown = ", ".join(files.names[:3]) + (", ..." if len(files.names) > 3 else "")
    raise SourceError(
        f"{files.path}: is no export that is recognised (it holds {shown}); say what it is: --from "
        f"{'|'.join(IMPORTERS)}"
    )
