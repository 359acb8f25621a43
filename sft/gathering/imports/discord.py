"""Discord: what DiscordChatExporter writes as JSON or CSV, and the data package that Discord itself sends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_GROUP, CHAT_PROMPT
from sft.gathering.imports.parsing import cells, moment, parsed, salvaged, table, text_of
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

_PACKAGE = re.compile(r"(?:.*/)?([^/]+)/messages\.(?:json|csv)", re.IGNORECASE)
_NUMBERED = re.compile(r"c?\d{5,20}")
_HEADER = re.compile(r"\ufeff?\"?AuthorID\"?,\"?Author\"?,\"?Date\"?,\"?Content\"?", re.IGNORECASE)
_EMOJI, _MENTION = re.compile(r"<a?:(\w+):\d+>"), re.compile(r"<@!?(\d+)>")
_WRITTEN = ("Default", "Reply", "0", "19", "")


def _in_package(files: SourceFiles) -> list[str]:
    return [name for name in files.names if (found := _PACKAGE.fullmatch(name)) and _NUMBERED.fullmatch(found[1])]


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    if package := _in_package(files):
        own = _owner(files)
        for name in package:
            yield from _own_messages(files, name, own)
        return
    for name in files.matching("*.json"):
        yield from _channel(files, name)
    for name in files.matching("*.csv"):
        if _HEADER.match(files.head(name)):
            for row in table(files, name):
                yield row if isinstance(row, Unread) else _from_table(files, name, *row)


def _owner(files: SourceFiles) -> tuple[str, ...]:
    for name in files.matching("user.json"):
        user = parsed(files, name)
        if isinstance(user, dict):
            known = [text_of(user.get(key)) for key in ("global_name", "username", "id", "email")]
            if any(known):
                return tuple(filter(None, known))
    return ("the expert",)


def _own_messages(files: SourceFiles, name: str, own: tuple[str, ...]) -> Iterator[Record]:
    """Of the data package: one's own messages alone, the newest first."""
    address, channel = files.address(name), name.rpartition("/")[0]
    for row in table(files, name):
        if isinstance(row, Unread):
            yield row
            continue
        line, values = row
        found = cells(values)
        at = moment(found.get("timestamp"))
        if at is None:
            yield Unread(Source(address, line), "is no message with a time", "ask for the package again", values)
        else:
            text = _plain(found.get("contents", ""), {})
            fate = "" if text else "wordless"
            yield Said(Source(address, line), channel, own, at, text, fate=fate, mine=True)


def _channel(files: SourceFiles, name: str) -> Iterator[Record]:
    data = parsed(files, name)
    if isinstance(data, Unread):
        lists, damage = salvaged(files, name, data)
        yield damage
        data = {"messages": lists[0]} if lists else {}
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        return
    channel = data["channel"] if isinstance(data.get("channel"), dict) else {}
    chat = str(channel.get("id") or channel.get("name") or name)
    for number, message in enumerate(data["messages"], 1):
        yield _message(Source(files.address(name), number), chat, message)


def _message(place: Source, chat: str, message: Any) -> Record:
    at = moment(message.get("timestamp")) if isinstance(message, dict) else None
    author = message.get("author") if isinstance(message, dict) else None
    if at is None or not isinstance(author, dict):
        return Unread(place, "is no message with a time and an author", "export the channel again", message)
    known = [text_of(author.get(key)) for key in ("nickname", "name", "id")]
    if text_of(author.get("discriminator")).strip("0"):
        known.append(f"{text_of(author.get('name'))}#{author['discriminator']}")
    mentions = message["mentions"] if isinstance(message.get("mentions"), list) else []
    names = {text_of(one.get("id")): text_of(one.get("nickname")) for one in mentions if isinstance(one, dict)}
    text = _plain(text_of(message.get("content")), names)
    fate = "" if text and str(message.get("type", "")) in _WRITTEN else "wordless"
    if message.get("forwardedMessage") and not text:
        fate = "forwarded"
    fate = "automatic" if author.get("isBot") is True else fate
    return Said(place, chat, tuple(filter(None, known)) or ("",), at, text, fate=fate)


def _from_table(files: SourceFiles, name: str, line: int, row: dict[str, Any]) -> Record:
    place, found = Source(files.address(name), line), cells(row)
    at = moment(found.get("date"))
    if at is None:
        return Unread(place, f"has no date that is understood ({found.get('date', '')!r})", "export it as JSON", row)
    author = found.get("author", "")
    known = (author.partition("#")[0], author, found.get("authorid", ""))
    text = _plain(found.get("content", ""), {})
    return Said(place, name, known, at, text, fate="" if text else "wordless")


def _plain(text: str, names: Mapping[str, str]) -> str:
    text = _MENTION.sub(lambda found: f"@{names.get(found[1]) or 'somebody'}", text)
    return _EMOJI.sub(r":\1:", text).strip()


def _recognises(files: SourceFiles) -> bool:
    heads = (files.head(name) for name in files.matching("*.json")[:5])
    return (
        bool(_in_package(files))
        or any('"guild"' in head and '"channel"' in head for head in heads)
        or any(_HEADER.match(files.head(name)) for name in files.matching("*.csv")[:5])
    )


IMPORTER = Importer(
    name="discord",
    about="channels of Discord, as DiscordChatExporter writes them (JSON, CSV), or Discord's own data package",
    prompt=f"{CHAT_PROMPT}; in the data package, of one's own words, what the expert wrote before it that day",
    completion=CHAT_COMPLETION,
    group=CHAT_GROUP,
    flaws=(
        "Which message a reply quotes is not used: the turns before it are the prompt.",
        "In the data package the expert answers people whose words are not there.",
    ),
    recognises=_recognises,
    records=_records,
)
