"""WhatsApp: a chat as Android and iOS export it, ``.txt`` or ``.zip``, in whatever way the phone writes dates.

    02/03/2026, 09:14 - Ada: text            Android: a stamp, a dash, the name
    [2.3.2026, 9.14.05] Ada: text            iOS: the stamp in brackets

Nothing in the file says which number of a date is the day. It is the one that goes beyond twelve somewhere; else the
one with which time runs backwards least; else the day comes first, but in stamps with slashes and AM or PM in capitals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from sft.demonstrations.demonstration import Source
from sft.errors import SourceError
from sft.gathering.dialogues import CHAT_COMPLETION, CHAT_GROUP, CHAT_PROMPT
from sft.gathering.records import Importer, ImportOptions, Record, Said, Unread
from sft.gathering.source_files import SourceFiles

#: What has no width: marks of direction above all, which phones put around numbers and names.
_MARKS = "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_PLAIN = {ord(space): " " for space in "\u00a0\u2007\u2009\u202f\u3000"} | {ord(mark): None for mark in _MARKS}
_BRACKETED = re.compile(r"\[([^\]\n]{8,48})\] ?(.*)", re.DOTALL)
_DASHED = re.compile(r"(\S[^\n]{6,46}?) [-\u2013] (.*)", re.DOTALL)
_KOREAN = re.compile(r"(\d{4}(?:년|\.) \d{1,2}(?:월|\.) \d{1,2}(?:일|\.) \D{0,4}\d{1,2}:\d{2}), (.*)", re.DOTALL)
_NUMBER = re.compile(r"\d+")
#: Half a day, by the letters and marks that phones write of it. A stamp without any counts to twenty-four.
_PM = (
    "pm", "下午", "晚上", "中午", "午後", "오후", "م", "μμ", "ch", "หลังเที่ยง", "du", "ptg", "ös", "अपराह्न", "অপরাহ্ণ",
    "ip", "பிற்பகல்", "ಅಪರಾಹ್ನ", "ਬਾਦੁ", "pasdites", "ከሰዓት", "ညနေ",
)  # fmt: skip
_AM = (
    "am", "上午", "凌晨", "早上", "午前", "오전", "ص", "πμ", "sa", "ก่อนเที่ยง", "de", "pg", "öö", "पूर्वाह्न", "পূর্বাহ্ণ",
    "ap", "முற்பகல்", "ಪೂರ್ವಾಹ್ನ", "ਪੂਦੁ", "paradites", "ጥዋት", "နံနက်",
)  # fmt: skip
_MEDIA = re.compile(
    r"<[^<>\n]{3,60}>|null|.*\.\w{2,5} \([^()\n]{3,40}\)|(?:[^\n]{0,80}\s)?<[^<>\n]{2,24}: [^<>\n]+\.\w{2,5}>"
    r"|[^\n]{0,60}\bhttps://maps\.google\.com/\?q=\S+"
)
#: What iOS writes in a file's place, behind a mark of direction: the last word in sixteen languages.
_OMITTED = re.compile(
    r".{0,80}\b(?:omitted|weggelassen|ausgelassen|omitid[oa]s?|absente?|omess[oa]|weggelaten|pominięt[oaey]|utelämnad"
    r"|utelatt|udeladt|jätetty pois|ocultad[oa]|omise|пропущен[оа]?)|.{0,12}(?:已省略|省略|생략됨?|dahil edilmedi)\.?",
    re.IGNORECASE,
)
_EDITED = re.compile(
    r"<(?:this message was edited|diese nachricht wurde bearbeitet|se editó este mensaje|ce message a été modifié"
    r"|mensagem editada|questo messaggio è stato modificato|dit bericht is bewerkt|сообщение изменено"
    r"|(?:此)?消息已(?:被)?编辑|此訊息已編輯|この ?メッセージは編集されました|이 메시지는 수정되었습니다"
    r"|bu mesaj düzenlendi"
    r"|wiadomość została (?:zmieniona|edytowana))\.?>$",
    re.IGNORECASE,
)
#: A poll, in any language: its word, the question, and what could be chosen with how many did.
_POLL = re.compile(r"[^\W\d_]{3,14}:\n.+\n(?:[^\W\d_]{3,14}: .* \(\d+ [^()\d\n]+\)(?:\n|\Z))+")
#: What stands where a phone could not show, or did not keep, what was sent.
_IN_PLACE = re.compile(
    r"waiting for this message(?:\. this may take a while\.?)?|(?:you received a )?view once .{0,20}message\b.*"
    r"|live location shared|(?:voice|video) call, [^\n]{1,40}|missed (?:voice|video) call, [^\n]{1,40}",
    re.IGNORECASE,
)
#: A call that nobody took, in which the phone writes no words of anybody's.
_CALL = re.compile(
    r"(?:missed (?:group )?(?:voice|video) call|verpasster (?:sprach|video)anruf|(?:llamada|videollamada) perdida"
    r"|llamada de voz perdida|chamada de (?:voz|vídeo) perdida|appel (?:vocal|vidéo) manqué|chiamata vocale persa"
    r"|videochiamata persa|gemiste (?:spraakoproep|video-?oproep))\.?",
    re.IGNORECASE,
)
_DELETED = re.compile(
    r"(?:this message was deleted|you deleted this message|diese nachricht wurde gelöscht|du hast diese nachricht "
    r"gelöscht|se eliminó este mensaje|eliminaste este mensaje|ce message a été supprimé|vous avez supprimé ce message"
    r"|(?:esta )?mensagem apagada|você apagou esta mensagem|essa mensagem foi apagada|questo messaggio è stato "
    r"eliminato|hai eliminato questo messaggio|dit bericht (?:is|werd) verwijderd|данное сообщение удалено"
    r"|вы удалили данное сообщение|此消息已删除|你已删除此消息|このメッセージは削除されました|삭제된 메시지입니다)\.?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that begins a message. ``numbers``: of its stamp. ``half``: "am", "pm" or "". ``notice``: so marked.

    ``american``: whether the stamp is written as in the United States alone.
    """

    line: int
    numbers: tuple[int, ...]
    half: str
    time_first: bool
    american: bool
    text: str
    notice: bool


def _lines(text: str) -> Iterator[_Line | str]:
    """Each line that begins a message, and each other one as it is."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        plain = line.lstrip(_MARKS)
        if plain[:1] != "[" and not plain[:1].isdigit():
            yield line
            continue
        marked = line[:1] == "\u200e"
        for pattern in (_BRACKETED,) if plain[0] == "[" else (_KOREAN, _DASHED):
            if (found := pattern.fullmatch(plain)) and (begun := _begun(number, found[1], found[2], marked)):
                yield begun
                break
        else:
            yield line


def _begun(number: int, stamp: str, text: str, marked: bool) -> _Line | None:
    stamp = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in stamp.translate(_PLAIN))
    digits = _NUMBER.findall(stamp)
    letters = "".join(c for c in stamp if unicodedata.category(c)[0] in "LM").casefold()
    if len(digits) not in (5, 6) or max(map(len, digits)) > 4 or len(letters) > 12:
        return None
    numbers = tuple(map(int, digits))
    half = "pm" if letters.endswith(_PM) else "am" if letters.endswith(_AM) else ""
    time_first = bool(re.match(r"\D{0,6}\d{1,2}:\d{2}", stamp))
    american = "/" in stamp and re.search(r"[AP]M\b", stamp) is not None
    return _Line(number, numbers, half, time_first, american, text, marked)


def _date(one: _Line) -> tuple[int, ...]:
    return one.numbers[-3:] if one.time_first else one.numbers[:3]


def _order(lines: Sequence[_Line]) -> str:
    """Which number is what: "ymd", "dmy" or "mdy"."""
    dates = [_date(one) for one in lines]
    if all(date[0] > 31 for date in dates):
        return "ymd"
    if any(date[0] > 12 for date in dates) != any(date[1] > 12 for date in dates):
        return "dmy" if any(date[0] > 12 for date in dates) else "mdy"

    def backwards(day: int, month: int) -> int:
        keys = [(date[2], date[month], date[day]) for date in dates]
        return sum(after < before for before, after in pairwise(keys))

    if backwards(0, 1) != backwards(1, 0):
        return "dmy" if backwards(0, 1) < backwards(1, 0) else "mdy"
    return "mdy" if lines[0].american and not lines[0].time_first else "dmy"


def _at(one: _Line, order: str) -> datetime | None:
    date, time = _date(one), one.numbers[:-3] if one.time_first else one.numbers[3:]
    year, month, day = (date[order.index(part)] for part in "ymd")
    year += 2000 if year < 100 else -543 if 2400 < year < 2700 else 0  # Thai phones count from the Buddha on
    hour = time[0] % 12 + 12 * (one.half == "pm") if one.half and time[0] <= 12 else time[0]
    try:
        return datetime(year, month, day, hour, time[1], time[2] if len(time) > 2 else 0)
    except ValueError:
        return None


def _said(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    for name in files.matching("*.txt"):
        yield from _chat(files.address(name), _chat_name(files, name), files.text(name))


def _chat_name(files: SourceFiles, name: str) -> str:
    """The chat's: of the archive where the file is called as all are; without what a browser adds to a second copy."""
    stem = name.rpartition("/")[2].removesuffix(".txt")
    if stem == "_chat":
        stem = name.rpartition("/")[0] or files.path.stem
    return re.sub(r" ?\(\d+\)$", "", stem)


def _chat(address: str, chat: str, text: str) -> Iterator[Record]:
    begun: list[tuple[_Line, list[str]]] = []
    for line in _lines(text):
        if isinstance(line, _Line):
            begun.append((line, [line.text]))
        elif begun:
            begun[-1][1].append(line)
    if not begun:
        yield Unread(Source(address, 1), "holds no message with a date as WhatsApp writes it", "export the chat again")
        return
    order = _order([line for line, _ in begun])
    if (year := _date(begun[0][0])[order.index("y")]) in range(1300, 1600):
        raise SourceError(
            f"{address}: has the dates of another calendar (year {year}); set the phone to the Gregorian calendar, and "
            "export the chat again"
        )
    if not any(_at(line, order) for line, _ in begun):
        yield Unread(
            Source(address, 1),
            "has no date that is understood",
            "set the phone to another language, and export it again",
        )
        return
    before = datetime.min
    for number, (line, parts) in enumerate(begun):
        at = before = _at(line, order) or before  # a stamp that is none keeps its place
        yield _message(Source(address, line.line), chat, at, "\n".join(parts), notice=line.notice, first=number == 0)


def _message(place: Source, chat: str, at: datetime, text: str, *, notice: bool, first: bool) -> Said:
    name, colon, words = text.partition(": ")
    if not colon and text.rstrip().endswith(":"):
        name, colon, words = text.rstrip()[:-1], ":", ""
    name = name.translate(_PLAIN).strip().removeprefix("~").strip()
    # 'Ada created group "Trip: Rome"': a notice, whose colon stands between marks that open and close.
    quoted = sum(map(name.count, '"“”„«»『』「」')) % 2
    if not colon or "\n" in name or not name or len(name) > 100 or quoted:
        return Said(place, chat, ("",), at, text, fate="wordless")
    marked = words.startswith("\u200e")
    plain = _EDITED.sub("", words.strip().strip(_MARKS).strip()).rstrip()
    plain = "\n".join(line.strip(_MARKS) for line in plain.split("\n")).strip()
    head, _, caption = plain.partition("\n")
    if notice or (marked and first) or any(each.fullmatch(plain) for each in (_DELETED, _CALL, _POLL, _IN_PLACE)):
        plain = ""
    elif _MEDIA.fullmatch(head) or (marked and _OMITTED.fullmatch(head)) or _is_omitted(head):
        plain = "" if "maps.google.com" in head else caption.strip()
    elif "\u200e<" in words:  # iOS puts the file behind its caption
        plain = re.sub(r"\u200e?<[^<>\n]*>$", "", words.strip(_MARKS).rstrip()).strip()
    return Said(place, chat, (name,), at, plain, fate="" if plain else "wordless")


def _is_omitted(head: str) -> bool:
    """An earlier iOS wrote no mark before it: the whole line, and nothing like it in two words of a person's."""
    return len(head) < 40 and bool(
        re.fullmatch(r"(?:image|video|audio|GIF|sticker|document|contact card) omitted", head, re.IGNORECASE)
    )


def _recognises(files: SourceFiles) -> bool:
    return any(
        sum(isinstance(line, _Line) for line in _lines(files.head(name))) > 0
        and re.search(r"(?m)(?:\] ?|- |, )[^\n:]{1,100}:", files.head(name)) is not None
        for name in files.matching("*.txt")[:5]
    )


IMPORTER = Importer(
    name="whatsapp",
    about="chats of WhatsApp, as Android and iOS export them (.txt, .zip, or a folder of them)",
    prompt=CHAT_PROMPT,
    completion=CHAT_COMPLETION,
    group=CHAT_GROUP,
    flaws=(
        "Stickers, pictures, voices and other files leave no words; what answers them seems to answer nothing.",
        "WhatsApp does not write down which message a reply quotes.",
        "System notices are told from messages by their form; in some languages one may pass for a message.",
    ),
    recognises=_recognises,
    records=_said,
)
