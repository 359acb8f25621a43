"""Mail: mbox files (Gmail's Takeout, Thunderbird, Apple Mail), Maildir folders, and folders of ``.eml`` or ``.emlx``.

The mail that the expert answered is the prompt, from the mailbox or else as it is quoted; a mail that answers none is
written for its subject. Only the heads of mails are kept in memory; bodies are read when they are needed.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime

from sft.demonstrations.demonstration import Source, folded
from sft.gathering.imports.mail_text import CutShort, MailText, mail_text
from sft.gathering.records import Importer, ImportOptions, Piece, Record, Unread, Written
from sft.gathering.source_files import SourceFiles, decoded, larger

#: Where a mail begins in an mbox: a time and a year stand in the line, or it is a sentence of somebody's.
_FROM = re.compile(rb"From [^\n]{0,200}\b\d\d:\d\d(?::\d\d)?\b[^\n]*\b\d{4}\b[^\n]*\r?\n?")
#: The same as programs write it alone: who, then a day and a month.
_STAMPED = re.compile(
    rb"From [^\s]+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    rb"[^\n]{0,40}\d{4}[^\n]{0,9}\n?"
)
_FIELD = re.compile(rb"[!-9;-~]{1,80}:")
_ENCODED = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=")
_ESCAPED = re.compile(rb"(?m)^>(>*From )")
_HEAD = re.compile(r"(?im)^(?:from|date|received|return-path|delivered-to|message-id|subject|mime-version):")
_IN_MAILDIR = re.compile(r"(?:.*/)?(?:cur|new)/[^/]+")
_ID = re.compile(r"<[^<>\s]+>")
#: Re:, AW:, SV:, RES:, ... with what stands before the colon in a score of languages.
_ANSWERS = re.compile(
    r"\s*(?:re|aw|antw|sv|vs|odp|ynt|rif|res|ref|回复|答复|回覆|답장|rv|atb|απ|отв|на)(?:\[\d+\])?\s*[:：]\s*",
    re.IGNORECASE,
)
_PASSES_ON = re.compile(r"\s*(?:fwd?|wg|tr|vl|enc|i|doorst|转发|轉寄|전달|vb|továbbítás|пер)\s*[:：]\s*", re.IGNORECASE)


#: What Exchange writes before the subject that it answers by itself.
_AUTOMATIC = re.compile(
    r"\s*(?:automatic reply|out of office|automatische antwort|réponse automatique|respuesta automática"
    r"|risposta automatica|resposta automática|automatisch antwoord|autosvar|automatiskt svar|automaattinen vastaus"
    r"|automatická odpověď"
    r"|odpowiedź automatyczna|otomatik yanıt|автоматический ответ|自動応答|自动答复|自動回覆|自动回复"
    r"|자동 회신)\s*[:：]",
    re.IGNORECASE,
)
#: What a folder or a label of what was not sent is called in a score of languages.
_DRAFTS = re.compile(
    r"\.?(?:INBOX\.)?(?:drafts?|entw[uü]rfe?|brouillons?|borradore?s?|esborranys|bozze|rascunhos?|concepten|kladder|utkast"
    r"|luonnokset|wersje robocze|szkice|koncepty|rozepsan[eé]|piszkozatok|ciorne|taslaklar|черновики|чернетки|чернови"
    r"|πρόχειρα|草稿箱?|下書き|임시 ?보관함|مسودات|טיוטות|bản nháp|draf)(?:\.mbox|\.mbx|\.sbd)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Mail:
    """The head of a mail, and where the whole of it is: from byte ``start`` to ``end`` of the file ``name``."""

    name: str
    start: int
    end: int
    place: Source
    id: str
    refers: tuple[str, ...]
    people: tuple[str, ...]
    at: datetime | None
    subject: str
    fate: str


def _spans(files: SourceFiles, name: str) -> Iterator[tuple[int, int, int]]:
    """(first byte, last byte, line) of each mail in the file ``name``: of an mbox many, else one."""
    begun, offset, number = (0, 0, 1), 0, 0
    before, mark = b"", b""  # the line before, and one that may begin a mail: a line of its head decides
    box = _is_mbox(files, name)
    with files.open(name) as file:
        for line in file if box else ():
            number += 1
            if mark and _FIELD.match(line):
                if (end := offset - len(mark)) > begun[1]:
                    yield begun[1], end, begun[2]
                begun = (0, offset, number - 1)
            plain = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            begins = plain.startswith(b"From ") and (_FROM if not before.strip() else _STAMPED).fullmatch(plain)
            before, mark = line, line if begins else b""
            offset += len(line)
        if not box:
            first = file.readline()
            skip = len(first) if name.lower().endswith(".emlx") and first.strip().isdigit() else 0
            begun, offset = (0, skip, 1), file.seek(0, 2)
    if offset > begun[1]:
        yield begun[1], offset, begun[2]


def _bytes(files: SourceFiles, name: str, start: int, end: int) -> bytes:
    with files.open(name) as file:
        file.seek(start)
        return file.read(end - start)


def _is_mbox(files: SourceFiles, name: str) -> bool:
    return _FROM.match(files.head(name, 400).encode("utf-8", "replace").lstrip()) is not None


def _named(files: SourceFiles) -> Iterator[str]:
    """The files that hold mail."""
    for name in files.names:
        suffix = name.rpartition("/")[2].rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""
        if suffix in ("eml", "emlx"):
            yield name
        elif _IN_MAILDIR.fullmatch(name):
            if _HEAD.search(files.head(name)):
                yield name
        elif suffix in ("", "mbox", "mbx") and _is_mbox(files, name):
            yield name


def _heads(files: SourceFiles) -> Iterator[_Mail | Unread]:
    for name in _named(files):
        for start, end, line in list(_spans(files, name)):
            place = Source(files.address(name), line)
            raw = _bytes(files, name, start, min(end, start + (1 << 18)))  # a body is read with its mail
            if not raw.strip():
                continue
            head = raw.lstrip(b"\r\n").partition(b"\n\n")[0].partition(b"\r\n\r\n")[0]
            mail = email.message_from_string(decoded(head) + "\n\n")
            senders = getaddresses([_header(mail, "From")])
            if not senders or not senders[0][1]:
                yield Unread(place, "has no sender", "export the mailbox again", raw[:2000].decode("utf-8", "replace"))
                continue
            people = tuple(filter(None, (senders[0][1].lower(), senders[0][0])))
            refers = tuple(_ID.findall(f"{_header(mail, 'References')} {_header(mail, 'In-Reply-To')}"))
            known = _ID.search(_header(mail, "Message-ID"))
            yield _Mail(
                name, start, end, place, known[0] if known else "", refers, people, _date(mail),
                " ".join(_header(mail, "Subject").split()), _fate(mail, name),
            )  # fmt: skip


def _fate(mail: Message, name: str) -> str:
    """Why a mail is no writing of its sender: a program sent it, or nobody did."""
    automatic = _header(mail, "Auto-Submitted").lower().startswith("auto") or mail.get("X-Autoreply")
    if automatic or _AUTOMATIC.match(_header(mail, "Subject")):
        return "automatic"
    labels = re.split(r"\s*,\s*|/", f"{' '.join(_header(mail, 'X-Gmail-Labels').split())},{name}")
    drafted = any(_DRAFTS.fullmatch(label) for label in labels) or re.search(r":2,[A-Z]*D", name)
    return "draft" if drafted or _header(mail, "X-Unsent").strip() == "1" else ""


def _header(mail: Message, name: str) -> str:
    value = str(mail.get(name, ""))
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, ValueError, email.errors.MessageError):  # an encoding that is none
        return _ENCODED.sub(_word, value)


def _word(found: re.Match[str]) -> str:
    """One encoded word of a head; as it stands where it cannot be read."""
    try:
        ((data, name),) = decode_header(found[0])
        text = data.decode(larger(name or "ascii")) if isinstance(data, bytes) else data
    except (LookupError, ValueError, email.errors.MessageError):
        return found[0]
    return text


def _date(mail: Message) -> datetime | None:
    try:
        return parsedate_to_datetime(_header(mail, "Date")).replace(tzinfo=None)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class _Threads:
    """Ids of mails -> the first id of their thread, whatever order they come in."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, one: str) -> str:
        path = []
        while (parent := self._parent.get(one, one)) != one:
            path.append(one)
            one = parent
        self._parent.update(dict.fromkeys(path, one))
        return one

    def join(self, ids: tuple[str, ...]) -> None:
        first, *others = sorted({self.root(one) for one in ids}) or [""]
        self._parent.update(dict.fromkeys(others, first))


class _Box:
    """The mails of an export: their heads, and what was written in each."""

    def __init__(self, files: SourceFiles, mails: list[_Mail], wanted: set[str]) -> None:
        self.files = files
        self.wanted = wanted
        self.by_id = {mail.id: mail for mail in reversed(mails) if mail.id}
        self.threads = _Threads()
        for mail in mails:
            self.threads.join(tuple(filter(None, (*mail.refers, mail.id))))

    def own(self, mail: _Mail) -> bool:
        return any(folded(name) in self.wanted for name in mail.people)

    def text(self, mail: _Mail) -> MailText:
        raw = _bytes(self.files, mail.name, mail.start, mail.end)
        if mail.name.lower().endswith(".emlx"):  # what follows the mail is about its flags
            raw = raw.partition(b"\n<?xml version")[0]
        return mail_text(email.message_from_bytes(_ESCAPED.sub(rb"\1", raw)))

    def written(self, mail: _Mail) -> Written | Unread:
        """The mail with its pair, where something is known that it answers."""
        group = self.threads.root(mail.id) if mail.id else f"{mail.name} {mail.start}"
        try:
            text = self.text(mail)
            answered = next((self.by_id[one] for one in reversed(mail.refers) if one in self.by_id), None)
            before = self._before(answered) if answered is not None and answered is not mail else MailText("")
        except (RecursionError, ValueError, LookupError, AssertionError) as error:
            why = type(error).__name__
            message = str(error) if isinstance(error, CutShort) else f"has a body that cannot be read ({why})"
            return Unread(mail.place, message, "save it again, or leave it out", mail.subject)
        begins = not mail.refers and not _ANSWERS.match(mail.subject)  # Outlook's answers quote as others pass mail on
        fate = mail.fate or ("forwarded" if _PASSES_ON.match(mail.subject) or (begins and text.forward) else "")
        fate = fate or ("" if text.own.strip() else "wordless")
        pair: Piece | None = None
        if before.own.strip() and answered is not None:
            pair = Piece(before.own, text.own, others=not self.own(answered))
        elif text.quoted.strip():
            pair = Piece(text.quoted, text.own, others=True)
        elif begins and mail.subject:
            pair = Piece(mail.subject, text.own)
        pairs = (pair,) if pair and not fate else ()
        return Written(mail.place, mail.people, mail.at, group, pairs, fate=fate, torn=text.torn or before.torn)

    def _before(self, answered: _Mail) -> MailText:
        """The mail that was answered; nothing of one that is cut short, which the answer may quote in whole."""
        try:
            return self.text(answered)
        except CutShort:
            return MailText("")


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    mails: list[_Mail] = []
    for one in _heads(files):
        if isinstance(one, Unread):
            yield one
        else:
            mails.append(one)
    senders = {mail.people[0] for mail in mails}
    wanted = {folded(name) for name in options.me} or (senders if len(senders) == 1 else set())
    box = _Box(files, mails, wanted)
    for mail in mails:
        if mail.id and box.by_id[mail.id] is not mail:  # one mail in two folders
            yield Written(mail.place, mail.people, mail.at, mail.id, fate="duplicate")
        elif box.own(mail):
            yield box.written(mail)
        else:
            yield Written(mail.place, mail.people, mail.at, mail.id, fate=mail.fate)


IMPORTER = Importer(
    name="mail",
    about="a mailbox (mbox files, a Maildir, or folders of .eml and .emlx files)",
    prompt="the mail that was answered, from the mailbox or else as it is quoted; the subject of one that answers none",
    completion="what the expert wrote, without quoted text and signature",
    group="a thread of mails",
    flaws=(
        "Where a quotation begins is known by the forms of mail programs; one of an unknown form stays in the text.",
        "A closing such as 'Best regards, Ada' is the expert's and stays; only what follows '-- ' is a signature.",
        "Attachments, pictures and invitations leave no words; the prompt does not say whom a mail is to.",
    ),
    recognises=lambda files: any(True for _ in _named(files)),
    records=_records,
)
