"""The words of a mail: its text, without what it quotes, its signature and its sender's machine.

``quotequail`` knows the heads that mail programs put above a quotation, in eight languages and many forms. Added is
what holds in all: lines that begin with ``>`` are quoted, ``-- `` begins the signature (RFC 3676), the paragraph before
a quotation is its head where it ends in a colon and has an address or a date, and so are three lines or more with a
colon each, the first with an address in ``<>`` (Outlook's ``Da: Inviato: A: Oggetto:``), or below a line of dashes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.errors import InvalidBase64LengthDefect, InvalidBase64PaddingDefect
from email.message import Message

from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.source_files import decoded

__all__ = ["CutShort", "MailText", "mail_text", "without_quotation"]

_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)
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
    r"(?:\A|\n\s*\n)(?:sent from (?:my|mail|yahoo|proton|outlook|samsung)|get outlook for|gesendet (?:von|mit)"
    r"|von meinem \w+ gesendet|envoyé (?:de|depuis)|enviado (?:desde|do|de) (?:mi|meu|mai)|inviato da|skickat från"
    r"|verzonden (?:vanaf|met)|verstuurd vanaf|wysłane? z|sendt fra|lähetetty|odesláno z|отправлено (?:с|из)"
    r"|iPhone ?から送信"
    r"|从我的.{1,20}发送|发自我的|내 .{1,20}에서 보냄)[^\n]{0,60}\s*\Z",
    re.IGNORECASE,
)
_QUOTES = (
    "blockquote[type=cite], .gmail_quote, .gmail_attr, .moz-cite-prefix, .yahoo_quoted, .protonmail_quote, "
    ".zmail_extra, #divRplyFwdMsg, #appendonsend ~ *, #divRplyFwdMsg ~ *, #mail-editor-reference-message-container"
)
_HEAD = re.compile(
    r"(?m)^(?:-{4,} ?[^\n-]{3,40} ?-{4,}|[^\W\d_][^\n:：<>]{0,24}[:：][^\n]*<[^<>\s@]+@[^<>\s@]+>.*)"
    r"(?:\n[^\W\d_][^\n:：]{0,24}[:：][^\n]*){2,6}\n"
)
_SIGNATURES = ".gmail_signature, .moz-signature, #Signature, #ms-outlook-mobile-signature, .protonmail_signature_block"


@dataclass(frozen=True, slots=True)
class MailText:
    """``own``: what its sender wrote. ``quoted``: the newest that is quoted. ``forward``: it may pass a mail on."""

    own: str
    quoted: str = ""
    forward: bool = False


def mail_text(mail: Message) -> MailText:
    """The words of ``mail``: of its plain part where it has one with words, else of its HTML."""
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text" and not part.get_filename()]
    for part in parts:
        if part.get_content_type() == "text/plain" and (text := _decoded(part)).strip():
            flowed = str(part.get_param("format", "")).lower() == "flowed"
            return without_quotation(_unflowed(text) if flowed else text)
    for part in parts:
        if part.get_content_type() == "text/html":
            return _of_html(_decoded(part))
    return MailText("")


class CutShort(ValueError):
    """A part of a mail whose transfer encoding ends in the middle."""


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    if any(isinstance(defect, _CUT_SHORT) for defect in part.defects):
        raise CutShort("is cut short: its base64 ends in the middle")
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):  # a name that is none, or a mail that says what it is not
        return decoded(data)


def _unflowed(text: str) -> str:
    """Lines that were broken to fit (RFC 3676: a space stands before the break) as they were."""
    return re.sub(r"(?m)^((?!-- $|>).*) \r?\n(?!-- $|>)", r"\1 ", text.replace("\r\n", "\n"))


def _of_html(text: str) -> MailText:
    soup = soup_of(text)
    for signature in soup.select(_SIGNATURES):
        signature.decompose()
    quotes = [quote.extract() for quote in soup.select(_QUOTES)]
    quoted = ""
    for quote in quotes:
        inner = without_quotation(markdown(quote))
        quoted = quoted or inner.own or inner.quoted
    found = without_quotation(markdown(soup))
    return MailText(found.own, quoted or found.quoted, found.forward)


def without_quotation(text: str) -> MailText:
    """Plain ``text`` apart: what was written, and what is quoted below, above or between."""
    import quotequail

    text = text.replace("\r\n", "\n").replace("\u00a0", " ")
    text = _SIGNED.sub(lambda found: re.sub(r"(?m)^- ", "", found[1]), _HIDDEN.sub("", text))
    text = _LIST_FOOTER.sub("", text.rstrip())
    parts = quotequail.unwrap(text)
    if parts is not None and parts["type"] == "forward" and "from" not in parts:
        parts = None  # lines with colons of the sender's own
    quoted = ""
    if (head := _HEAD.search(text)) and _is_cut_short(parts, above := text[: head.start()]):
        parts, quoted, text = None, text[head.end() :], above
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
    return text.rstrip().endswith((":", "：")) and ("@" in text or len(re.findall(r"\d+", text)) >= 3)


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
