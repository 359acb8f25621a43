"""WeChat: the table of messages that tools of its database write, and that WeClone reads.

Columns: ``type_name``, ``is_sender`` (1: one's own), ``talker``, ``msg``, ``CreateTime``; ``room_name`` of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_GROUP, CHAT_PROMPT
from sft.gathering.imports.parsing import cells, epoch, moment, table
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

_COLUMNS = ("type_name", "is_sender", "talker", "msg", "createtime")
_TEXT = ("文本", "text", "1", "")


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in files.matching("*.csv"):
        for row in table(files, name):
            yield row if isinstance(row, Unread) else _message(files, name, *row)


def _message(files: SourceFiles, name: str, line: int, row: dict[str, Any]) -> Record:
    place, found = Source(files.address(name), line), cells(row)
    time = found.get("createtime", "")
    at = moment(time) or epoch(time)
    if at is None or found.get("is_sender") not in ("0", "1"):
        return Unread(place, "has no time, or does not say whose it is (is_sender)", "export the chat again", row)
    own = found["is_sender"] == "1"
    text = found.get("msg", "")
    fate = "" if text and found.get("type_name", "").lower() in _TEXT else "wordless"
    chat = found.get("room_name") or name.rpartition("/")[0] or name
    return Said(place, chat, (found.get("talker") or "?",), at, text, fate=fate, mine=own)


def _recognises(files: SourceFiles) -> bool:
    heads = (files.head(name).partition("\n")[0].lower() for name in files.matching("*.csv")[:5])
    return any(all(column in head for column in _COLUMNS) for head in heads)


IMPORTER = Importer(
    name="wechat",
    about="chats of WeChat, in the table that WeClone reads (CSV with is_sender, talker, msg, CreateTime)",
    prompt=CHAT_PROMPT,
    completion=CHAT_COMPLETION,
    group=CHAT_GROUP,
    flaws=("Pictures, voices, cards and forwarded chats leave no words.",),
    recognises=_recognises,
    records=_records,
)
