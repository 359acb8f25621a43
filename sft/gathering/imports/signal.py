"""Signal: its own export (``main.jsonl``), and what signal-export and signalbackup-tools write.

main.jsonl                                Signal's plaintext export: recipients, chats, messages, one a line
data.json of a chat, or its list          signal-export: a message a line; [2026-03-02 09:14:05] Ben: text
NAME (_id3).txt                           signalbackup-tools --exporttxt: [Mar 02, 2026 09:14:05] <Ben> text
*.xml                                     signalbackup-tools --exportxml, as SMS Backup & Restore writes it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import ParseError

from sft.demonstrations.demonstration import Source
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_GROUP, CHAT_PROMPT
from sft.gathering.imports.parsing import epoch, moment, parsed, text_of
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

_LISTED = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?)\] ([^:\n]{1,100}): ?(.*)", re.DOTALL)
_ANGLED = re.compile(r"\[([A-Z]\w{2} \d\d, \d{4} \d\d:\d\d:\d\d)\] (?:(\*\*\*)|<([^\n]{1,100}?)>) (.*)", re.DOTALL)
#: What signal-export adds to a message: reactions, stickers, files, and the quoted message above it.
_ADDED = re.compile(
    r"\n?\(- .* -\)$|\n?\(\( .* \)\)|!?\[[^\]\n]{0,300}\]\(\./[^)\n]{0,500}\)|\((?:media|attachment) not exported\)"
)
_QUOTED = re.compile(r"\A\s*(?:>[^\n]*(?:\n|\Z))+\s*")
_REACTED = re.compile(r" \([^()\n]{1,300}: \S{1,8}\)$")


def _frames(files: SourceFiles, name: str) -> Iterator[Record]:
    """Signal's own export: recipients and chats come before the messages that name them."""
    called: dict[str, tuple[str, ...]] = {}
    own: set[str] = set()
    account: tuple[str, ...] = ()
    for line, text in enumerate(files.text(name).split("\n"), 1):
        if not text.strip():
            continue
        frame = parsed(files, name, text, line)
        if isinstance(frame, Unread):
            yield frame
        elif isinstance(frame, dict) and isinstance(one := frame.get("account"), dict):
            account = _names(one, "givenName", "familyName")
        elif isinstance(frame, dict) and isinstance(one := frame.get("recipient"), dict):
            known = str(one.get("id"))
            if "self" in one:
                own.add(known)
            contact = one["contact"] if isinstance(one.get("contact"), dict) else {}
            called[known] = (
                _names(contact, "systemGivenName", "systemFamilyName")
                + _names(contact, "profileGivenName", "profileFamilyName")
                + tuple(filter(None, (text_of(contact.get("username")), str(contact.get("e164") or ""))))
            )
        elif isinstance(frame, dict) and isinstance(one := frame.get("chatItem"), dict):
            author = str(one.get("authorId"))
            mine = "outgoing" in one or author in own
            people = (account if mine else called.get(author)) or (("Me",) if mine else (f"somebody ({author})",))
            yield _frame(Source(files.address(name), line), one, people, mine)


def _names(value: dict[str, Any], *keys: str) -> tuple[str, ...]:
    name = " ".join(filter(None, (text_of(value.get(key)) for key in keys)))
    return (name,) if name else ()


def _frame(place: Source, item: dict[str, Any], people: tuple[str, ...], mine: bool) -> Record:
    at = epoch(item.get("dateSent"), milliseconds=True)
    if at is None:
        return Unread(place, "is no message with a time", "export it again", item)
    standard = item["standardMessage"] if isinstance(item.get("standardMessage"), dict) else {}
    text = text_of(standard["text"].get("body")) if isinstance(standard.get("text"), dict) else ""
    return Said(place, str(item.get("chatId")), people, at, text, fate="" if text else "wordless", mine=mine)


def _data(files: SourceFiles, name: str) -> Iterator[Record]:
    """signal-export's ``data.json``: an object a line."""
    for line, text in enumerate(files.text(name).split("\n"), 1):
        if not text.strip():
            continue
        place, one = Source(files.address(name), line), parsed(files, name, text, line)
        if isinstance(one, Unread):
            yield one
            continue
        at = moment(one.get("date")) if isinstance(one, dict) else None
        if at is None:
            yield Unread(place, "is no message with a date", "export it again", one)
            continue
        sender, body = text_of(one.get("sender")) or "?", text_of(one.get("body"))
        fate = "wordless" if not body or one.get("call") or one.get("deleted") else ""
        yield Said(place, _chat(name), (sender,), at, body, fate=fate, mine=sender == "Me")


def _chat(name: str) -> str:
    return name.rpartition("/")[0] or name


def _lines(files: SourceFiles, name: str, pattern: re.Pattern[str]) -> Iterator[Record]:
    """Messages that begin with a stamp, and go on until the next one."""
    begun: list[tuple[int, re.Match[str], list[str]]] = []
    for line, text in enumerate(files.text(name).split("\n"), 1):
        if found := pattern.fullmatch(text.removesuffix("\r")):
            begun.append((line, found, [found[found.re.groups]]))
        elif begun:
            begun[-1][2].append(text.removesuffix("\r"))
    before = datetime.min
    for line, found, parts in begun:
        at = before = moment(found[1]) or before
        notice = pattern is _ANGLED and found[2] is not None
        sender = found[2] if pattern is _LISTED else found[3] or ""
        text = "\n".join(parts).strip()
        text = _REACTED.sub("", text) if pattern is _ANGLED else _QUOTED.sub("", _ADDED.sub("", text).strip()).strip()
        wordless = notice or not text or text == "(This message was deleted)"
        chat = _chat(name) if pattern is _LISTED else name
        fate = "wordless" if wordless else ""
        yield Said(Source(files.address(name), line), chat, (sender,), at, text, fate=fate, mine=sender == "Me")


def _xml(files: SourceFiles, name: str) -> Iterator[Record]:
    """SMS Backup & Restore: type 2 is one's own; of pictures and groups (``mms``) the texts."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    number = 0
    address = files.address(name)
    try:
        with files.open(name) as file:
            for _, one in iterparse(file, forbid_dtd=True):
                if one.tag not in ("sms", "mms"):
                    continue
                number += 1
                own = one.get("type" if one.tag == "sms" else "msg_box") == "2"
                parts = [one.get("body")] if one.tag == "sms" else [
                    part.get("text") for part in one.iter("part") if part.get("ct") == "text/plain"
                ]  # fmt: skip
                text = "\n".join(part for part in parts if part and part != "null").strip()
                chat, at = str(one.get("address")), epoch(one.get("date"), milliseconds=True)
                contact = one.get("contact_name") or ""
                people = ("Me",) if own else (contact if contact not in ("", "null", "(Unknown)") else chat, chat)
                place = Source(address, number)
                if at is None:
                    yield Unread(place, "is no message with a date", "export it again", dict(one.attrib))
                else:
                    yield Said(place, chat, people, at, text, fate="" if text else "wordless", mine=own)
                one.clear()
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        said = " ".join(str(error).split())
        yield Unread(Source(address, number + 1), f"is not XML from here on ({said})", "export it again")


def _kinds(files: SourceFiles) -> Iterator[tuple[str, Iterator[Record]]]:
    """Each file that is Signal's, with its records."""
    lists = {_chat(name) for name in files.matching("data.json")}
    for name in files.matching("*.jsonl"):
        if '"backupTimeMs"' in (head := files.head(name)) or re.search(r'"(?:account|recipient|chatItem)"\s*:', head):
            yield name, _frames(files, name)
    for name in files.matching("data.json"):
        if re.match(r'\s*\{.*"sender"\s*:', files.head(name)):
            yield name, _data(files, name)
    for name in files.matching("*.md", "*.txt"):
        head = files.head(name)
        if name.endswith("chat.md") and _chat(name) not in lists and _LISTED.match(head):
            yield name, _lines(files, name, _LISTED)
        elif name.lower().endswith(".txt") and _ANGLED.match(head):
            yield name, _lines(files, name, _ANGLED)
    for name in files.matching("*.xml"):
        if re.search(r"<smses\b", files.head(name)):
            yield name, _xml(files, name)


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for _, records in _kinds(files):
        yield from records


IMPORTER = Importer(
    name="signal",
    about="chats of Signal: its own plaintext export, or what signal-export and signalbackup-tools write",
    prompt=CHAT_PROMPT,
    completion=CHAT_COMPLETION,
    group=CHAT_GROUP,
    flaws=(
        "Which message a reply quotes is not used: the turns before it are the prompt.",
        "Of a group in the XML form nobody but the group is named.",
    ),
    recognises=lambda files: any(True for _ in _kinds(files)),
    records=_records,
)
