"""The importers, in the order in which an export is tried to be recognised: the surest sign first."""

from __future__ import annotations

import difflib
import re

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


_AS_MESSAGES = "write its turns as messages (docs/messages.md)"
#: What an export that nobody here reads begins with or is called -> what it is, and what to do.
_UNREAD = (
    (r"\A={40,}\s+Guild: ", "DiscordChatExporter's plain text", "export the channel as JSON"),
    (r"class=[\"']?(?:preamble__|chatlog__message)", "DiscordChatExporter's HTML", "export the channel as JSON"),
    (r"class=[\"']?(?:page_wrap|message default)\b[^>]*>", "Telegram's HTML", "export it as machine-readable JSON"),
    (r"\A\s*\{\s*\"participants\"\s*:", "Messenger's or Instagram's", _AS_MESSAGES),
    (
        r"\A\s*\{\s*\"messages\"\s*:\s*\[\s*\{\s*\"creator\"\s*:",
        "Google Chat's",
        _AS_MESSAGES,
    ),
    (r"\A!BDN", "Outlook's .pst", "import it into Thunderbird, and name its folder"),
    (r"\ASQLite format 3", "a database, such as iMessage's chat.db or Signal's", "export it as text first"),
)


def _refuse_known(files: SourceFiles) -> None:
    """Raise ``SourceError`` for an export that is known, and not read here: as documents it would be nonsense."""
    for name in files.names[:40]:
        if name.rpartition(".")[2].lower() not in ("txt", "html", "htm", "json", "pst", "db", "sqlite"):
            continue
        head = files.head(name)
        for pattern, what, remedy in _UNREAD:
            if re.search(pattern, head):
                raise SourceError(f"{files.address(name)}: is {what} export, which is not read; {remedy}")


def importer_of(files: SourceFiles, kind: str) -> Importer:
    """The importer called ``kind``; with "auto" the first that recognises ``files``. Raises ``SourceError``."""
    if kind in IMPORTERS:
        return IMPORTERS[kind]
    if kind != "auto":
        near = difflib.get_close_matches(kind, IMPORTERS, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(IMPORTERS)}"
        raise SourceError(f"--from {kind}: is no kind of export that is known; {hint}")
    _refuse_known(files)
    for one in IMPORTERS.values():
        if one.recognises(files):
            return one
    shown = ", ".join(files.names[:3]) + (", ..." if len(files.names) > 3 else "")
    if files.matching(*documents.UNREAD_DOCUMENTS):
        what = f"holds documents in a form that is not read ({shown})"
        raise SourceError(f"{files.path}: {what}; save them as {documents.AS_WHAT}")
    raise SourceError(
        f"{files.path}: is no export that is recognised (it holds {shown}); say what it is: --from "
        f"{'|'.join(IMPORTERS)}"
    )
