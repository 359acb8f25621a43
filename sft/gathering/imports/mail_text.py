"""The words of a mail: its text, without what it quotes, its signature and its sender's machine.

``quotequail`` knows the heads that mail programs put above a quotation, in eight languages and many forms. Added is
what holds in all: lines that begin with ``>`` are quoted, ``-- `` begins the signature (RFC 3676), the paragraph before
a quotation is its head where it ends in a colon and has an address or a date, and so are three lines or more with a
colon each, the first with an address in ``<>`` (Outlook's ``Da: Inviato: A: Oggetto:``), or below a line of dashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.errors import InvalidBase64LengthDefect, InvalidBase64PaddingDefect
from email.message import Message
from typing import TYPE_CHECKING

from sft.demonstrations.messages import without_invisible
from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.imports.quotation_heads import names_a_writer
from sft.gathering.source_files import decoded, larger

if TYPE_CHECKING:
    from bs4 import Tag

__all__ = ["CutShort", "MailText", "mail_text", "without_quotation"]

_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)
#: What stands for a letter of which a mail has some bytes alone, and for one that its end has cut: letters of no text.
_LOST, _END = "\ufdd0", "\ufdd1"
#: A letter of UTF-8 within which a client has broken the line, and what is left of one in a text.
_TORN = re.compile(rb"([\xc2-\xf4][\x80-\xbf]{0,2})\r?\n[ \t]?([\x80-\xbf]{1,3})")
_BROKEN, _BROKEN_END = re.compile("[\udc80-\udcff]+"), re.compile(r"[\udc80-\udcff]+\s*\Z")
#: What is left of an escape of quoted-printable at the end.
_HALF_ESCAPE = re.compile(rb"=[0-9A-Fa-f]\s*\Z")
_CUT_SHORT = (InvalidBase64LengthDefect, InvalidBase64PaddingDefect)
#: What OpenPGP writes around words that it signs (RFC 9580, 7), and in the place of those that it hides.
_SIGNED = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:[A-Za-z]+: [^\n]*\n)*\n(.*?)\n-----BEGIN PGP SIGNATURE-----\n"
    r"(?:.*?\n)?-----END PGP SIGNATURE-----[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_HIDDEN = re.compile(
    r"^-----BEGIN PGP MESSAGE-----\n(?:.*?\n)?-----END PGP MESSAGE-----[ \t]*$", re.DOTALL | re.MULTILINE
)
#: What Mailman and Google Groups write below every mail of a list.
_LIST_FOOTER = re.compile(
    r"(?:\A|\n)_{20,}[ \t]*\n[^\n]{0,100}\bmailing list\b[^\n]*(?:\n(?:[^\n]*(?:@|https?://)[^\n]*|[ \t]*))*\Z"
    r"|(?:\A|\n)(?:-- ?\n|--~--~[^\n]*\n)You received this message because you are subscribed to [^\n]*"
    r"(?:\n[^\n]*){0,8}\Z",
    re.IGNORECASE,
)
#: The last paragraph of many a telephone's mail.
_SENT_FROM = re.compile(
    r"(?:\A|\n\s*\n)(?:sent from (?:my|mail|yahoo|proton|outlook|samsung)|sent with \[?proton|get outlook for"
    r"|gesendet (?:von|mit)"
    r"|von meinem \w+ gesendet|envoyé (?:de|depuis)|enviado (?:desde|do|de) (?:mi|meu|mai)|inviato da|skickat från"
    r"|verzonden (?:vanaf|met)|verstuurd vanaf|wysłane? z|sendt fra|lähetetty|odesláno z|отправлено (?:с|из)"
    r"|iPhone ?から送信"
    r"|从我的.{1,20}发送|发自我的|내 .{1,20}에서 보냄)[^\n]{0,60}\s*\Z",
    re.IGNORECASE,
)
_QUOTES = (
    "blockquote[type=cite], .gmail_quote, .gmail_attr, .moz-cite-prefix, .yahoo_quoted, .protonmail_quote, "
    ".zmail_extra, #appendonsend ~ *, #mail-editor-reference-message-container"
)
#: What Outlook calls a sender, in languages whose heads quotequail does not know without an address in them.
_SENDER = (
    "发件人|發件人|寄件者|寄件人|差出人|送信者|보낸 ?사람|Kimden|Feladó|Odesílatel|Lähettäjä|От кого|Отправитель|Від"
)
_HEAD = re.compile(
    rf"(?m)^(?:-{{4,}} ?[^\n-]{{3,40}} ?-{{4,}}|(?:{_SENDER}) ?[:：].*"
    r"|[^\W\d_][^\n:：<>]{0,24}[:：][^\n]*<[^<>\s@]+@[^<>\s@]+>.*)"
    r"(?:\n[^\W\d_][^\n:：]{0,24}[:：][^\n]*){2,6}\n"
)
#: A line of dashes with words, above a head or instead of it.
_RULE = re.compile(r"\n-{4,} ?[^\n-]{3,40} ?-{4,}\s*\Z")
#: The same as HTML has it: labels in bold, each perhaps in a paragraph of its own.
_BOLD_HEAD = re.compile(
    rf"(?m)^\*\*(?:From|Von|De|Da|Van|Från|Fra|Od|{_SENDER}) ?[:：] ?\*\*[^\n]*\n"
    r"(?:\n?\*\*[^*\n]{1,24}[:：] ?\*\*[^\n]*(?:\n|\Z)){2,7}"
)
_INLINE = ("a", "b", "em", "i", "span", "strong", "u")
_SIGNATURES = ".gmail_signature, .moz-signature, #Signature, #ms-outlook-mobile-signature, .protonmail_signature_block"


@dataclass(frozen=True, slots=True)
class MailText:
    """``own``: what its sender wrote. ``quoted``: the newest that is quoted. ``forward``: it may pass a mail on.

    ``torn``: letters of it were cut in the middle; they are left out.
    """

    own: str
    quoted: str = ""
    forward: bool = False
    torn: bool = False


def mail_text(mail: Message) -> MailText:
    """The words of ``mail``: of its plain part where it has one with words, else of its HTML.

    Raises ``CutShort`` where what its sender wrote ends in the middle.
    """
    found = _read(mail)
    if found.own.endswith(_END):
        raise CutShort("is cut short: its text ends within a letter")
    own, quoted = (re.sub(f"[{_LOST}{_END}]", "", text) for text in (found.own, found.quoted))
    return MailText(own, quoted, found.forward, torn=(own, quoted) != (found.own, found.quoted))


def _read(mail: Message) -> MailText:
    parts = list(_worded(mail))
    plain = [text for part in parts if part.get_content_type() == "text/plain" and (text := _plain(part)).strip()]
    if plain:
        return without_quotation("\n\n".join(text.strip("\r\n") for text in plain))
    pages = [text for part in parts if part.get_content_type() == "text/html" and (text := _decoded(part)).strip()]
    return _of_html("\n".join(pages)) if pages else MailText("")


def _worded(part: Message) -> Iterator[Message]:
    """The parts of a mail that hold its sender's words: no files, and no mails of others that are attached."""
    if part.get_content_disposition() == "attachment" or part.get_content_maintype() == "message":
        return
    if part.is_multipart():
        for inner in part.get_payload():
            if isinstance(inner, Message):
                yield from _worded(inner)
    elif part.get_content_maintype() == "text" and not part.get_filename():
        yield part


def _plain(part: Message) -> str:
    flowed = str(part.get_param("format", "")).lower() == "flowed"
    glued = str(part.get_param("delsp", "")).lower() == "yes"
    return _unflowed(_decoded(part), glue="" if glued else " ") if flowed else _decoded(part)


class CutShort(ValueError):
    """A part of a mail whose transfer encoding ends in the middle."""


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    if any(isinstance(defect, _CUT_SHORT) for defect in part.defects):
        raise CutShort("is cut short: its base64 ends in the middle")
    end = ""
    if str(part.get("Content-Transfer-Encoding", "")).strip().lower() == "quoted-printable":
        whole = _HALF_ESCAPE.sub(b"", data)
        data, end = whole, _END if whole != data else ""
    charset = part.get_content_charset() or "utf-8"
    try:
        return data.decode(larger(charset)) + end
    except (LookupError, ValueError):  # a name that is none, or a mail that says what it is not
        mended = _mended(data) if charset in ("utf-8", "utf8") else None
        return decoded(data) if mended is None else mended + end


def _mended(data: bytes) -> str | None:
    """UTF-8 some of whose letters were cut in the middle: whole again where a line was broken within one, and else
    ``_LOST`` in its place, at the end ``_END``. None where more letters are broken than whole: it is another encoding.
    """
    text = _TORN.sub(_rejoined, data).decode("utf-8", "surrogateescape")
    text = _BROKEN.sub(_LOST, _BROKEN_END.sub(_END, text))
    lost = text.count(_LOST) + text.count(_END)
    whole = len(re.findall(r"[^\x00-\x7f]", text)) - lost
    return text if lost <= whole or text.count(_LOST) == 0 else None


def _rejoined(found: re.Match[bytes]) -> bytes:
    try:
        letter = (found[1] + found[2]).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]
    return letter.encode("utf-8") if len(letter) == 1 else found[0]


def _unflowed(text: str, *, glue: str) -> str:
    """Lines that were broken to fit (RFC 3676: a space stands before the break) as they were, ``glue`` between them;
    and without the space that a line begins with lest it look like another program's.
    """
    text = re.sub(r"(?m)^((?!-- $|>).*) \r?\n(?!-- $|>) ?", rf"\1{glue}", text.replace("\r\n", "\n"))
    return re.sub(r"(?m)^ (?=From |[^>\s])", "", text)


def _of_html(text: str) -> MailText:
    soup = soup_of(text)
    for line in soup.select("#appendonsend ~ hr, hr:has(+ #divRplyFwdMsg)"):
        line.decompose()
    for head in soup.select("#divRplyFwdMsg"):  # all that follows is one mail
        quote = soup.new_tag("blockquote", type="cite")
        quote.extend([one.extract() for one in list(head.next_siblings)])
        head.replace_with(quote)
    for signature in soup.select(_SIGNATURES):
        signature.decompose()
    for quote in soup.select("blockquote"):
        _behead_page(quote)
    quotes = [quote.extract() for quote in soup.select(_QUOTES)]
    quoted = ""
    for quote in quotes:
        inner = without_quotation(_BOLD_HEAD.sub(_unbolded, markdown(quote)))
        quoted = quoted or inner.own or inner.quoted
    found = without_quotation(_BOLD_HEAD.sub(_unbolded, markdown(soup)))
    quoted = quoted or found.quoted
    if labels := _BOLD_HEAD.match(quoted):  # of a quotation that is none but by its indentation
        quoted = quoted[labels.end() :].strip()
    return MailText(found.own, quoted, found.forward)


def _behead_page(quote: Tag) -> None:
    """Take the head away that stands directly before ``quote``: a line of its own, with a name and no date."""
    before = quote.previous_sibling
    while before is not None and (getattr(before, "name", None) == "br" or not before.get_text().strip()):
        before = before.previous_sibling
    if before is None or not names_a_writer(before.get_text()):
        return
    above = before.previous_sibling
    if getattr(before, "name", None) is None and getattr(above, "name", None) in _INLINE:
        return  # the end of a sentence
    before.extract()


def _unbolded(head: re.Match[str]) -> str:
    """The head of a quotation as plain text has it: no bold labels, and no empty lines between them."""
    lines = [re.sub(r"\*\*([^*]+)\*\*", r"\1", line) for line in head[0].split("\n") if line.strip()]
    return "\n".join(re.sub(r"\[([^\]]*)\]\(mailto:([^)]*)\)", r"\1 <\2>", line) for line in lines) + "\n\n"


def without_quotation(text: str) -> MailText:
    """Plain ``text`` apart: what was written, and what is quoted below, above or between."""
    import quotequail

    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    text = _SIGNED.sub(lambda found: re.sub(r"(?m)^- ", "", found[1]), _HIDDEN.sub("", text))
    text = _LIST_FOOTER.sub("", text.rstrip())
    parts = quotequail.unwrap(text)
    if parts is not None and parts["type"] == "forward" and "from" not in parts:
        parts = None  # lines with colons of the sender's own
    if parts is not None and parts["type"] == "reply" and _is_sentence(text, parts.get("text_top") or ""):
        parts = None
    quoted = ""
    if (head := _HEAD.search(text)) and _is_cut_short(parts, above := text[: head.start()]):
        parts, quoted, text = None, text[head.end() :], _RULE.sub("", above)
    elif parts is not None:
        quoted = parts.get("text") or ""
        text = "\n\n".join(filter(None, (parts.get("text_top"), parts.get("text_bottom"))))
    own, cited = _uncited(text)
    if end := _SIGNATURE.search(own):
        own = own[: end.start()]
    own = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^[ \t]+$", "", own)).strip("\n").rstrip()
    own = _SENT_FROM.sub("", own).rstrip()
    newest = _headless(_uncited(quoted or cited)[0].strip())
    return MailText(own, newest, forward=parts is not None and parts["type"] == "forward")


def _headless(text: str) -> str:
    """``text`` without the head of a quotation that begins it: Apple Mail quotes that too."""
    head, _, rest = text.partition("\n\n")
    return rest.strip() if rest and _is_head(head) else text


def _is_head(text: str) -> bool:
    text = without_invisible(text).rstrip()
    return text.endswith((":", "：")) and ("@" in text or len(re.findall(r"\d+", text)) >= 3)


def _is_sentence(text: str, top: str) -> bool:
    """Whether what looks like a head below ``top`` has no figure and no address, and no quoted line follows it."""
    start = text.find(top) + len(top) if top else 0
    below = [line for line in text[start:].split("\n") if line.strip()]
    end = next((place for place, line in enumerate(below[:3]) if line.rstrip().endswith((":", "："))), None)
    if end is None or re.search(r"[@\d>]", " ".join(below[: end + 1])):
        return False
    return end + 1 < len(below) and not below[end + 1].lstrip().startswith(">")


def _is_cut_short(parts: dict[str, str] | None, above: str) -> bool:
    """Whether more than the one line that says that a mail is passed on is missing of what stands ``above`` a head."""
    if parts is None:
        return True
    top, above = (parts.get("text_top") or "").strip(), above.strip()
    return parts["type"] == "forward" and "\n" in above.removeprefix(top).strip()


def _uncited(text: str) -> tuple[str, str]:
    """``text`` without lines that begin with ``>`` and without their heads; and those lines, a ``>`` less each."""
    kept: list[str] = []
    cited: list[str] = []
    for line in text.split("\n"):
        if line.lstrip().startswith(">"):
            if kept and not (cited and kept[-1] is _CUT):
                _behead(kept)
                kept.append(_CUT)
            cited.append(re.sub(r"^\s*> ?", "", line))
        else:
            kept.append(line)
    _behead(kept)
    return "\n".join("" if line is _CUT else line for line in kept), "\n".join(cited)


_CUT = "\0"


def _behead(kept: list[str]) -> None:
    """Take the head of a quotation from the end of ``kept``: up to three lines, the last with a colon at its end."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    start = end
    while start and kept[start - 1].strip() and kept[start - 1] is not _CUT and end - start < 3:
        start -= 1
    if _is_head(" ".join(kept[start:end])):
        del kept[start:]
    elif end and names_a_writer(kept[end - 1]) and (end == 1 or _ends(kept[end - 2])):
        del kept[end - 1 :]


def _ends(line: str) -> bool:
    """Whether what ``line`` says is at its end, so that the next one begins something new."""
    return line is _CUT or not line.strip() or line.rstrip().endswith((".", "!", "?", "…", "。", "！", "？", ",", ")"))
