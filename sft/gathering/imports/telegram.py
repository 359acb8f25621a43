"""Telegram: what Telegram Desktop exports as JSON, of one chat or of the whole account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_GROUP, CHAT_PROMPT
from sft.gathering.imports.parsing import moment, parsed, salvaged
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

_KINDS = r"personal_chat|saved_messages|bot_chat|(?:private|public)_(?:super)?group|(?:private|public)_channel"
_SIGN = re.compile(rf'"personal_information"\s*:|"type"\s*:\s*"(?:{_KINDS})"')


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in files.matching("*.json"):
        data = parsed(files, name)
        if isinstance(data, Unread):
            lists, damage = salvaged(files, name, data)
            yield damage
            data = {"chats": {"list": [{"id": number, "messages": one} for number, one in enumerate(lists)]}}
        if not isinstance(data, dict):
            continue
        about = data.get("personal_information")
        own = f"user{about.get('user_id')}" if isinstance(about, dict) else ""
        number = 0
        for chat in _chats(data):
            called = f"{chat.get('type')} {chat.get('id')} {chat.get('name')}"
            for message in chat["messages"]:
                number += 1
                yield _message(Source(files.address(name), number), called, message, own)


def _chats(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts = [data] + [part for key in ("chats", "left_chats") if isinstance(part := data.get(key), dict)]
    for part in parts:
        for chat in [part, *(part["list"] if isinstance(part.get("list"), list) else ())]:
            if isinstance(chat, dict) and isinstance(chat.get("messages"), list):
                yield chat


def _message(place: Source, chat: str, message: Any, own: str) -> Record:
    at = moment(message.get("date")) if isinstance(message, dict) else None
    if at is None:
        return Unread(place, "is no message with a date", "export the chat again", message)
    known = str(message.get("from_id") or "")
    people = (str(message.get("from") or "") or ("a deleted account" if known else ""), known)
    text = _text(message.get("text")).strip()
    fate = "" if text and message.get("type", "message") == "message" else "wordless"
    # Null is somebody whose account is gone.
    if not fate and any(key in message for key in ("forwarded_from", "saved_from", "via_bot")):
        fate = "forwarded"
    return Said(place, chat, people, at, text, fate=fate, mine=bool(own) and known == own)


def _text(value: Any) -> str:
    """Text, or its parts one after another: plain text and links, mentions, code, each with its own."""
    if isinstance(value, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in value)
    return value if isinstance(value, str) else ""


IMPORTER = Importer(
    name="telegram",
    about="chats of Telegram, exported as JSON by Telegram Desktop (result.json)",
    prompt=CHAT_PROMPT,
    completion=CHAT_COMPLETION,
    group=CHAT_GROUP,
    flaws=(
        "Which message a reply quotes is not used: the turns before it are the prompt.",
        "Bold, code and hidden parts are plain text; stickers, pictures, voices and polls leave no words.",
    ),
    recognises=lambda files: any(_SIGN.search(files.head(name)) for name in files.matching("*.json")[:5]),
    records=_records,
)
