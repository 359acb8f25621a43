"""Slack: the export of a workspace, a folder or zip with a folder a channel and a file a day."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_PROMPT
from sft.gathering.imports.parsing import epoch, parsed, salvaged, text_of
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

_SIGNS = ("channels.json", "groups.json", "dms.json", "mpims.json")
_DAY = re.compile(r"(?:.*/)?([^/]+)/\d{4}-\d{2}-\d{2}\.json")
#: Messages that people write; every other subtype says that something happened, or that a program wrote.
_WRITTEN = (None, "", "thread_broadcast", "reply_broadcast", "me_message", "file_share", "file_comment")
_SCHEME = re.compile(r"^(?:\w+://|mailto:|tel:)")
_LINK = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    people = dict(_people(files))
    for name in files.names:
        if not (channel := _DAY.fullmatch(name)):
            continue
        day = parsed(files, name)
        if isinstance(day, Unread):
            lists, damage = salvaged(files, name, day)
            yield damage
            day = lists[0] if lists else []
        for number, message in enumerate(day if isinstance(day, list) else [day], 1):
            yield _message(Source(files.address(name), number), channel[1], message, people)


def _people(files: SourceFiles) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Id -> what a person is called: the name that is shown, the id, the other names, the address."""
    for name in files.matching("users.json"):
        found = parsed(files, name)
        for user in found if isinstance(found, list) else ():
            if not isinstance(user, dict) or not user.get("id"):
                continue
            profile = user["profile"] if isinstance(user.get("profile"), dict) else {}
            names = [profile.get("display_name"), profile.get("real_name"), user.get("real_name"), user.get("name")]
            known = [text_of(one) for one in (*names, profile.get("email")) if text_of(one)]
            yield str(user["id"]), tuple(dict.fromkeys([*known[:1], str(user["id"]), *known[1:]]))


def _message(place: Source, channel: str, message: Any, people: Mapping[str, tuple[str, ...]]) -> Record:
    at = epoch(message.get("ts")) if isinstance(message, dict) else None
    if at is None:
        return Unread(place, "is no message with a time", "export the workspace again", message)
    user = text_of(message.get("user"))
    bot = message.get("bot_id") is not None and not user
    names = people.get(user) or ((text_of(message.get("username")) or "a program") if bot else user, user)
    text = _plain(text_of(message.get("text")), people)
    written = message.get("subtype") in _WRITTEN and message.get("type", "message") == "message"
    thread = text_of(message.get("thread_ts"))
    fate = "automatic" if bot else "" if written and text else "wordless"
    return Said(place, channel, names, at, text, thread=thread, fate=fate)


def _plain(text: str, people: Mapping[str, tuple[str, ...]]) -> str:
    """Slack's marks as one reads them: ``<@U1>`` is ``@Ada``, ``<https://a.b|here>`` is ``here (https://a.b)``."""

    def read(found: re.Match[str]) -> str:
        sign, name, label = found[1], found[2], found[3] or ""
        if sign == "@":
            return f"@{people[name][0] if name in people else label or name}"
        if sign == "#":
            return f"#{label or name}"
        if sign == "!":  # here, channel, and dates with a text for those who cannot show them
            return label or f"@{name}"
        bare = _SCHEME.sub("", name)
        if label in ("", bare):
            return name if "://" in name else bare
        return f"{label} ({name})"

    return html.unescape(_LINK.sub(read, text)).strip()


IMPORTER = Importer(
    name="slack",
    about="the export of a Slack workspace (a folder or zip with channels.json, users.json and a folder a channel)",
    prompt=CHAT_PROMPT,
    completion=CHAT_COMPLETION,
    group="a thread; outside of threads a day of a channel, from four in the morning on, UTC",
    flaws=(
        "What programs wrote (bots, workflows) and notices of channels leave no words.",
        "A workspace's owner gets public channels alone, unless Slack agreed to more.",
    ),
    recognises=lambda files: bool(files.matching("users.json")) and bool(files.matching(*_SIGNS)),
    records=_records,
)
