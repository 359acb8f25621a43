"""Exports made here, in the shape of the real ones: of Ada, whom the tests clone, and of those she writes with.

Every maker writes the same conversation (:data:`TALK`) or the same pieces in the form of one source, and returns what
``sft import`` is given.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

#: ``sft import`` with these words: exit status, what it printed (JSON where it succeeded), and what it complained of.
Import = Callable[..., tuple[int, Any, str]]

#: Who wrote it, minutes after the start of the first day, and what.
TALK = (
    ("Ben", 0, "Shall we meet on Friday?\nAt nine, say."),
    ("Ada", 1, "Friday is fine: nine it is."),
    ("Ada", 3, "Bring the drawings 📐"),
    ("Ben", 30, "Which ones?"),
    ("Ada", 31, "Those of the mill."),
    ("Ben", 17280, "Übermorgen wieder?"),
    ("Ada", 17281, "Gern, um zehn."),
)
START = datetime(2026, 3, 2, 20, 14, 5)
#: (prompt's last turn, completion) of Ada's, as they must come out.
ANSWERS = [
    ("Shall we meet on Friday?\nAt nine, say.", "Friday is fine: nine it is.\nBring the drawings 📐"),
    ("Which ones?", "Those of the mill."),
    ("Übermorgen wieder?", "Gern, um zehn."),
]


def when(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The demonstrations in ``folder``."""
    return [json.loads(line) for line in (folder / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()]


def answers(folder: Path) -> list[tuple[str, str]]:
    """(last turn of the prompt, completion) of each."""
    return [
        (row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"], row["completion"])
        for row in rows(folder)
    ]


# -- WhatsApp -------------------------------------------------------------------------------------------------


def _twelve(t: datetime) -> str:
    return f"{t.hour % 12 or 12}:{t:%M}"


def _arabic(text: str) -> str:
    return text.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))


def _half(t: datetime, am: str, pm: str) -> str:
    return am if t.hour < 12 else pm


#: Phone and language -> what stands before the name, at a given time.
STAMPS: dict[str, Callable[[datetime], str]] = {
    "android en-GB": lambda t: f"{t:%d/%m/%Y, %H:%M} - ",
    "android en-US": lambda t: f"{t.month}/{t.day}/{t:%y}, {_twelve(t)}\u202f{_half(t, 'AM', 'PM')} - ",
    "android de": lambda t: f"{t:%d.%m.%y, %H:%M} - ",
    "android fr": lambda t: f"{t:%d/%m/%Y à %H:%M} - ",
    "android es": lambda t: f"{t.day}/{t.month}/{t:%y}, {_twelve(t)}\u00a0{_half(t, 'a. m.', 'p. m.')} - ",
    "android pt-BR": lambda t: f"{t:%d/%m/%Y %H:%M} - ",
    "android nl": lambda t: f"{t:%d-%m-%Y %H:%M} - ",
    "android sv": lambda t: f"{t:%Y-%m-%d %H:%M} - ",
    "android hu": lambda t: f"{t:%Y. %m. %d. %H:%M} - ",
    "android ko": lambda t: f"{t.year}년 {t.month}월 {t.day}일 {_half(t, '오전', '오후')} {_twelve(t)}, ",
    "android ko, later": lambda t: f"{t.year}. {t.month}. {t.day}. {_half(t, '오전', '오후')} {_twelve(t)}, ",
    "android ta": lambda t: f"{t.day}/{t.month}/{t:%y}, {_half(t, 'முற்பகல்', 'பிற்பகல்')} {_twelve(t)} - ",
    "android sq": lambda t: f"{t.day}.{t.month}.{t:%y}, {_twelve(t)} e {_half(t, 'paradites', 'pasdites')} - ",
    "android zh": lambda t: f"{t.year}/{t.month}/{t.day} {_half(t, '上午', '下午')}{_twelve(t)} - ",
    "android ja": lambda t: f"{t:%Y/%m/%d %H:%M} - ",
    "android ar": lambda t: _arabic(f"{t.day}\u200f/{t.month}\u200f/{t.year}، {_twelve(t)} {_half(t, 'ص', 'م')} - "),
    "android th": lambda t: f"{t.day}/{t.month}/{t.year + 543} {t:%H:%M} - ",
    "android bg": lambda t: f"{t.day}.{t:%m.%y} г., {t:%H:%M} ч. - ",
    "android hi": lambda t: f"{t:%d/%m/%y}, {_twelve(t)} {_half(t, 'am', 'pm')} - ",
    "ios en-US": lambda t: f"[{t.month}/{t.day}/{t:%y}, {_twelve(t)}:{t:%S}\u202f{_half(t, 'AM', 'PM')}] ",
    "ios en-GB": lambda t: f"[{t:%d/%m/%Y, %H:%M:%S}] ",
    "ios de": lambda t: f"[{t:%d.%m.%y, %H:%M:%S}] ",
    "ios fi": lambda t: f"[{t.day}.{t.month}.{t.year} klo {t.hour}.{t:%M.%S}] ",
    "ios da": lambda t: f"[{t:%d.%m.%Y %H.%M.%S}] ",
    "ios vi": lambda t: f"[{t:%H:%M:%S, %d/%m/%Y}] ",
    "ios zh": lambda t: f"[{t.year}/{t.month}/{t.day} {_half(t, '上午', '下午')}{_twelve(t)}:{t:%S}] ",
    "ios ko": lambda t: f"[{t.year}. {t.month}. {t.day}. {_half(t, '오전', '오후')} {_twelve(t)}:{t:%S}] ",
    "ios el": lambda t: f"[{t.day}/{t.month}/{t:%y}, {_twelve(t)}:{t:%S} {_half(t, 'π.μ.', 'μ.μ.')}] ",
    "ios tr": lambda t: f"[{t.day}.{t:%m.%Y %H:%M:%S}] ",
}


def whatsapp(folder: Path, phone: str = "android en-GB") -> Path:
    """A chat with Ben, with the notice that every chat begins with and a picture in between."""
    stamp, ios = STAMPS[phone], phone.startswith("ios")
    notice = "Messages and calls are end-to-end encrypted."
    lines = [f"{stamp(when(0))}Ben: \u200e{notice}" if ios else f"{stamp(when(0))}{notice}"]
    lines += [f"{stamp(when(minutes))}{name}: {text}" for name, minutes, text in TALK]
    lines.insert(
        5, f"\u200e{stamp(when(29))}Ben: \u200eimage omitted" if ios else f"{stamp(when(29))}Ben: <Media omitted>"
    )
    path = folder / "WhatsApp Chat with Ben.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# -- other chats ----------------------------------------------------------------------------------------------


def _json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def _lines(path: Path, values: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


def _table(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return path


def zipped(folder: Path) -> Path:
    """``folder`` as an archive beside it."""
    return Path(shutil.make_archive(str(folder), "zip", folder))


def telegram(folder: Path, *, whole: bool = False) -> Path:
    """One chat, or the whole account with it: then the export says whose it is."""
    ids = {"Ada": "user1", "Ben": "user2"}
    messages: list[dict[str, object]] = [
        {"id": 0, "type": "service", "date": "2026-03-02T20:00:00", "actor": "Ben", "action": "phone_call", "text": ""}
    ]
    for number, (name, minutes, text) in enumerate(TALK, 1):
        parts: object = [text[:6], {"type": "bold", "text": text[6:]}] if number == 2 else text
        messages.append(
            {
                "id": number, "type": "message", "date": when(minutes).isoformat(), "from": name, "from_id": ids[name],
                "date_unixtime": str(int(when(minutes).timestamp())), "text": parts, "text_entities": [],
            }
        )  # fmt: skip
    forwarded = {"id": 90, "type": "message", "date": when(32).isoformat(), "from": "Ada", "from_id": "user1"}
    messages.append(forwarded | {"forwarded_from": "News", "text": "Somebody else's words."})
    messages.append(forwarded | {"id": 91, "photo": "photos/1.jpg", "text": ""})
    chat = {"name": "Ben", "type": "personal_chat", "id": 2, "messages": messages}
    if not whole:
        return _json(folder / "result.json", chat)
    account = {"personal_information": {"user_id": 1, "first_name": "Ada"}, "chats": {"about": "", "list": [chat]}}
    return _json(folder / "result.json", account)


def slack(folder: Path) -> Path:
    """A workspace of a channel, with a thread in it."""
    base = folder / "workspace export"
    profile = {"display_name": "Ada", "real_name": "Ada Byron", "email": "ada@lovelace.org"}
    _json(base / "users.json", [{"id": "U1", "name": "ada", "profile": profile}, {"id": "U2", "name": "Ben"}])
    _json(base / "channels.json", [{"id": "C1", "name": "mill"}])
    ids = {"Ada": "U1", "Ben": "U2"}
    days: dict[str, list[object]] = {}
    for name, minutes, text in TALK:
        at = when(minutes)
        sent = {"type": "message", "user": ids[name], "text": text, "ts": f"{at.replace(tzinfo=UTC).timestamp():.6f}"}
        days.setdefault(f"{at:%Y-%m-%d}", []).append(sent)
    first = next(iter(days.values()))
    stamp = f"{when(40).replace(tzinfo=UTC).timestamp():.6f}"
    later = f"{when(41).replace(tzinfo=UTC).timestamp():.6f}"
    thread = {"type": "message", "thread_ts": stamp}
    asked = "<@U1> see <https://example.org/a?b=1&amp;c=2|the plan> in <#C1|mill> &lt;soon&gt;?"
    first += [
        thread | {"user": "U2", "ts": stamp, "text": asked},
        thread | {"user": "U1", "ts": later, "text": "I have, <!here>."},
        {"type": "message", "subtype": "channel_join", "user": "U2", "ts": stamp, "text": "<@U2> has joined"},
        {"type": "message", "subtype": "bot_message", "bot_id": "B1", "username": "CI", "ts": stamp, "text": "green"},
    ]
    for day, messages in days.items():
        _json(base / "mill" / f"{day}.json", messages)
    return base


def discord_json(folder: Path) -> Path:
    authors = {
        "Ada": {"id": "11", "name": "ada_l", "discriminator": "0000", "nickname": "Ada", "isBot": False},
        "Ben": {"id": "12", "name": "ben", "discriminator": "1234", "nickname": "Ben", "isBot": False},
    }
    messages = [
        {
            "id": str(number), "type": {"Ada": "Reply"}.get(name, "Default"), "author": authors[name], "content": text,
            "timestamp": when(minutes).replace(tzinfo=UTC).isoformat(timespec="milliseconds"), "attachments": [],
            "mentions": [],
        }
        for number, (name, minutes, text) in enumerate(TALK)
    ]  # fmt: skip
    pinned = messages[0] | {"id": "99", "type": "ChannelPinnedMessage", "content": "Pinned a message."}
    whole = {"guild": {"id": "1", "name": "Mill"}, "channel": {"id": "5", "type": "GuildTextChat", "name": "general"}}
    return _json(folder / "Mill - general [5].json", whole | {"messages": [*messages, pinned], "messageCount": 8})


def discord_csv(folder: Path) -> Path:
    return _table(
        folder / "Mill - general [5].csv",
        [
            {
                "AuthorID": {"Ada": "11", "Ben": "12"}[name], "Author": {"Ada": "Ada", "Ben": "Ben#1234"}[name],
                "Date": when(minutes).strftime("%Y-%m-%dT%H:%M:%S.1230000+00:00"), "Content": text, "Attachments": "",
                "Reactions": "",
            }
            for name, minutes, text in TALK
        ],
    )  # fmt: skip


def discord_package(folder: Path) -> Path:
    """Discord's own: Ada's messages alone, the newest first."""
    base = folder / "package"
    _json(base / "Account" / "user.json", {"id": "11", "username": "ada_l", "global_name": "Ada"})
    _json(base / "Messages" / "index.json", {"123456789": "general in Mill"})
    _json(base / "Messages" / "c123456789" / "channel.json", {"id": "123456789", "type": "GUILD_TEXT"})
    own = [(minutes, text) for name, minutes, text in reversed(TALK) if name == "Ada"]
    sent = [
        {"ID": number, "Timestamp": f"{when(minutes):%Y-%m-%d %H:%M:%S}", "Contents": text, "Attachments": ""}
        for number, (minutes, text) in enumerate(own)
    ]
    _json(base / "Messages" / "c123456789" / "messages.json", sent)
    return base


def wechat(folder: Path) -> Path:
    rows = [
        {
            "id": number, "MsgSvrID": number, "type_name": "文本", "is_sender": int(name == "Ada"), "talker": name,
            "room_name": "", "msg": text, "src": "", "CreateTime": f"{when(minutes):%Y-%m-%d %H:%M:%S}",
        }
        for number, (name, minutes, text) in enumerate(TALK)
    ]  # fmt: skip
    picture = rows[0] | {"type_name": "图片", "msg": "图片", "src": "a.jpg"}
    return _table(folder / "Ben" / "Ben_0_7.csv", [*rows, picture]).parent


def signal_own(folder: Path) -> Path:
    """Signal's plaintext export."""
    frames: list[object] = [
        {"version": "1", "backupTimeMs": "1772482445000"},
        {"account": {"givenName": "Ada", "familyName": ""}},
        {"recipient": {"id": "1", "self": {}}},
        {"recipient": {"id": "2", "contact": {"profileGivenName": "Ben", "e164": "491701234567"}}},
        {"chat": {"id": "7", "recipientId": "2"}},
    ]
    for name, minutes, text in TALK:
        side = {"outgoing": {}} if name == "Ada" else {"incoming": {}}
        sent = str(int(when(minutes).replace(tzinfo=UTC).timestamp() * 1000))
        item = {"chatId": "7", "authorId": {"Ada": "1", "Ben": "2"}[name], "dateSent": sent}
        frames.append({"chatItem": item | side | {"standardMessage": {"text": {"body": text}}}})
    update = {"chatId": "7", "authorId": "2", "dateSent": sent, "directionless": {}, "updateMessage": {}}
    return _lines(folder / "signal-export" / "main.jsonl", [*frames, {"chatItem": update}]).parent


def signal_data(folder: Path) -> Path:
    """signal-export, with JSON."""
    nothing = {"quote": "", "sticker": None, "reactions": [], "attachments": [], "deleted": False, "call": False}
    rows = [
        {"date": when(minutes).isoformat(), "sender": {"Ada": "Me"}.get(name, name), "body": f"{text}  "} | nothing
        for name, minutes, text in TALK
    ]
    return _lines(folder / "signal" / "Ben" / "data.json", rows).parent.parent


def signal_list(folder: Path) -> Path:
    """signal-export without JSON: Markdown alone."""
    lines = [f"[{when(minutes)}] {'Me' if name == 'Ada' else name}: {text}  \n" for name, minutes, text in TALK]
    lines[4] = lines[4].replace("Me: ", "Me: \n\n> Which ones?\n\n").replace("  \n", "  \n(- Ben: 👍 -)\n")
    path = folder / "signal" / "Ben" / "chat.md"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path.parent.parent


def signal_text(folder: Path) -> Path:
    """signalbackup-tools --exporttxt."""
    lines = [f"[{when(minutes):%b %d, %Y %H:%M:%S}] <{name}> {text}" for name, minutes, text in TALK]
    lines[4] += " (Ben: 👍)"
    lines.insert(0, f"[{when(0):%b %d, %Y %H:%M:%S}] *** Ben is now a contact")
    path = folder / "Ben (_id3).txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def signal_xml(folder: Path) -> Path:
    """signalbackup-tools --exportxml."""
    rows = [
        f'  <sms protocol="0" address="+491701234567" contact_name="Ben" date="{int(at.timestamp() * 1000)}" '
        f'type="{2 if name == "Ada" else 1}" body={quoteattr(text)} />'
        for name, minutes, text in TALK
        for at in (when(minutes).replace(tzinfo=UTC),)
    ]
    path = folder / "signal.xml"
    text = "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', f'<smses count="{len(rows)}">', *rows, "</smses>", ""])
    path.write_text(text, encoding="utf-8")
    return path


#: Source -> its makers; of each the conversation comes out as :data:`ANSWERS` when Ada (or "Me") is the expert.
CHATS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "whatsapp": ("whatsapp", whatsapp),
    "telegram": ("telegram", telegram),
    "telegram, whole": ("telegram", lambda folder: telegram(folder, whole=True)),
    "slack": ("slack", slack),
    "slack, zipped": ("slack", lambda folder: zipped(slack(folder))),
    "discord json": ("discord", discord_json),
    "discord csv": ("discord", discord_csv),
    "wechat": ("wechat", wechat),
    "signal": ("signal", signal_own),
    "signal, zipped": ("signal", lambda folder: zipped(signal_own(folder))),
    "signal-export": ("signal", signal_data),
    "signal-export list": ("signal", signal_list),
    "signalbackup-tools text": ("signal", signal_text),
    "signalbackup-tools xml": ("signal", signal_xml),
}
#: Of these the export says who the expert is.
OWN = {"telegram, whole": "Ada", "wechat": "Ada", "signal": "Ada", "signal, zipped": "Ada", "signal-export": "Me",
       "signal-export list": "Me", "signalbackup-tools xml": "Me"}  # fmt: skip
