"""Mailboxes in every form; and quotations and signatures as mail programs of many languages write them."""

from __future__ import annotations

import base64
import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from exports import Import, answers
from exports_mail import LETTERS, MAILBOXES, letter, letters, mbox

from sft.cli import main
from sft.gathering.imports.mail_text import mail_text


@pytest.mark.parametrize("form", MAILBOXES)
def test_a_mailbox_comes_out_the_same_in_every_form(form: str, tmp_path: Path, imported: Import) -> None:
    """``From my side`` begins a line of a text, after an empty one too: Python's reader cuts the mail there."""
    status, made, complaint = imported(MAILBOXES[form](tmp_path), "--me", "ada@lovelace.org")
    assert status == 0, complaint
    assert made["kind"] == "mail" and made["expert"] == "ada"
    assert sorted(answers(tmp_path / "out")) == sorted(LETTERS)
    assert made["ledger"]["fates"] == {"written": 2, "others": 1, "automatic": 1}
    assert made["groups"] == 1, "one thread"


def test_senders_are_listed_where_nobody_says_who_the_expert_is(tmp_path: Path, imported: Import) -> None:
    path = mbox(tmp_path)
    status, _, complaint = imported(path)
    assert status == 2 and "found were 'ada@lovelace.org' (2), 'ben@nevis.org' (1)" in complaint
    assert imported(path, "--me", "Ada Lovelace")[0] == 0, "a name does as well"
    assert answers(tmp_path / "out") == LETTERS


def test_a_mailbox_of_sent_mail_alone_answers_what_it_quotes(tmp_path: Path, imported: Import) -> None:
    """What PanzaMail reads: one sender, so that nobody need be named."""
    status, made, _ = imported(mbox(tmp_path, [letters()[0], letters()[2]]))
    assert status == 0 and made["expert"] == "ada"
    assert answers(tmp_path / "out") == [LETTERS[0], ("Shall we meet on Friday?\nBen", LETTERS[1][1])]


#: Language and program -> what stands below an answer.
BELOW = {
    "gmail en": "On Mon, Mar 2, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> Friday?\n",
    "gmail en, broken": "On Mon, Mar 2, 2026 at 9:14 AM Ben Some Body <\nben@nevis.org> wrote:\n\n> Friday?\n",
    "gmail de": "Am Mo., 2. März 2026 um 09:14 Uhr schrieb Ben <ben@nevis.org>:\n\n> Friday?\n",
    "gmail fr": "Le lun. 2 mars 2026 à 09:14, Ben <ben@nevis.org> a écrit :\n\n> Friday?\n",
    "gmail es": "El lun, 2 mar 2026 a las 9:14, Ben (<ben@nevis.org>) escribió:\n\n> Friday?\n",
    "gmail it": "Il giorno lun 2 mar 2026 alle ore 09:14 Ben <ben@nevis.org> ha scritto:\n\n> Friday?\n",
    "gmail nl": "Op ma 2 mrt 2026 om 09:14 schreef Ben <ben@nevis.org>:\n\n> Friday?\n",
    "gmail pt": "Em seg., 2 de mar. de 2026 às 09:14, Ben <ben@nevis.org> escreveu:\n\n> Friday?\n",
    "gmail pl": "pon., 2 mar 2026 o 09:14 Ben <ben@nevis.org> napisał(a):\n\n> Friday?\n",
    "gmail sv": "Den mån 2 mars 2026 kl 09:14 skrev Ben <ben@nevis.org>:\n\n> Friday?\n",
    "gmail ru": "пн, 2 мар. 2026 г. в 09:14, Ben <ben@nevis.org>:\n\n> Friday?\n",
    "gmail ja": "2026年3月2日(月) 9:14 Ben <ben@nevis.org>:\n\n> Friday?\n",
    "gmail zh": "Ben <ben@nevis.org> 于2026年3月2日周一 09:14写道：\n\n> Friday?\n",
    "thunderbird de": "Am 02.03.26 um 09:14 schrieb Ben:\n> Friday?\n",
    "iphone": "Sent from my iPhone\n\n> On 2 Mar 2026, at 09:14, Ben <ben@nevis.org> wrote:\n> \n> Friday?\n",
    "outlook en": "From: Ben <ben@nevis.org>\nSent: Mon, March 2, 2026 9:14 AM\nTo: Ada\nSubject: Friday\n\nFriday?\n",
    "outlook de": "Von: Ben <ben@nevis.org>\nGesendet: Mo., 2. März 2026 09:14\nAn: Ada\nBetreff: Friday\n\nFriday?\n",
    "outlook fr": "De : Ben <ben@nevis.org>\nEnvoyé : lundi 2 mars 2026 09:14\nÀ : Ada\nObjet : Friday\n\nFriday?\n",
    "outlook it": "Da: Ben <ben@nevis.org>\nInviato: lun 2 marzo 2026 09:14\nA: Ada\nOggetto: Friday\n\nFriday?\n",
    "outlook pl": "Od: Ben <ben@nevis.org>\nWysłano: 2 marca 2026 09:14\nDo: Ada\nTemat: Friday\n\nFriday?\n",
    "outlook ja": "差出人: Ben <ben@nevis.org>\n送信日時: 2026年3月2日 9:14\n宛先: Ada\n件名: Friday\n\nFriday?\n",
    "original message": "-----Original Message-----\nFrom: Ben\nSent: Monday\nTo: Ada\nSubject: Friday\n\nFriday?\n",
    "two levels": "On Mon, Mar 2, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> Friday?\n>\n> > When do we meet?\n",
}
#: What the expert may have written that looks like something else.
OWN_WORDS = (
    "Fine.\n\nWe need:\n\n- milk\n- bread\n\nand nothing else.",
    "Try:\n\n    x = 1\n    y = 2\n\nok?",
    "Thanks!\n\nSee you on 2 March 2026 at 9:14.\n\nBest regards,\nAda",
    "Well - I think so.\n- Ada",
    "We do it.\n\nTime: 9:14\nDate: 3 May\nSubject: the mill\n\nBring oak.",
    "Reach me:\n\nMail: at the mill\nDoor: the red one\nTime: 9:14",
)


@pytest.mark.parametrize("program", BELOW)
def test_quotations_and_signatures_are_not_the_expert_s_words(program: str, tmp_path: Path, imported: Import) -> None:
    mails = [
        letter("Ada", f"{text}\n\n{BELOW[program]}\n", id=str(number), answers=f"gone-{number}", subject="Re: Friday")
        for number, text in enumerate(OWN_WORDS)
    ]
    imported(mbox(tmp_path, mails))
    found = answers(tmp_path / "out")
    assert [text for _, text in found] == list(OWN_WORDS)
    assert {prompt for prompt, _ in found} == {"Friday?"}


def test_words_between_quoted_lines_are_kept(tmp_path: Path, imported: Import) -> None:
    text = "> Friday?\nYes.\n\n> At nine?\nTen is better.\n\n-- \nAda\n"
    imported(mbox(tmp_path, [letter("Ada", text, id="1", answers="0", subject="Re: Friday")]))
    assert answers(tmp_path / "out") == [("Friday?\nAt nine?", "Yes.\n\nTen is better.")]


def test_an_answer_to_nothing_that_is_known_is_left_out_and_counted(tmp_path: Path, imported: Import) -> None:
    mails = [*letters(), letter("Ada", "Yes, as you say.", id="9", answers="gone", subject="Re: x")]
    passed_on = "---------- Forwarded message ---------\nFrom: Ben <b@c.org>\nDate: Mon\nSubject: x\n\nA joke"
    mails.append(letter("Ada", passed_on, id="10", subject="Fwd: x"))
    mails += [letters()[2], letter("Ada", "", id="11", subject="empty")]
    _, made, _ = imported(mbox(tmp_path, mails), "--me", "ada@lovelace.org")
    counts = {"written": 2, "others": 1, "automatic": 1, "unprompted": 1, "forwarded": 1, "duplicate": 1, "wordless": 1}
    assert made["ledger"]["fates"] == counts


def test_html_is_read_where_there_is_no_plain_text(tmp_path: Path, imported: Import) -> None:
    mail = letter("Ada", "", id="1", answers="0", subject="Re: Friday")
    mail.clear_content()
    mail.set_content(
        "<html><head><style>p {}</style></head><body><div>Friday is <b>fine</b>.</div><ul><li>milk</li></ul>"
        '<div class="gmail_signature">Ada Lovelace</div><div class="gmail_quote"><div class="gmail_attr">On Mon, Ben '
        "wrote:</div><blockquote>Friday?<blockquote>earlier</blockquote></blockquote></div></body></html>",
        subtype="html",
    )
    imported(mbox(tmp_path, [mail]))
    ((prompt, completion),) = answers(tmp_path / "out")
    assert completion == "Friday is **fine**.\n\n- milk" and prompt == "Friday?"


@pytest.mark.parametrize(
    ("charset", "encoding"), [("iso-8859-1", "8bit"), ("utf-8", "base64"), ("gb18030", "base64"), ("koi8-r", "8bit")]
)
def test_charsets_are_read(charset: str, encoding: str, tmp_path: Path, imported: Import) -> None:
    text = {"iso-8859-1": "Grüße aus Köln.", "gb18030": "周五见。", "koi8-r": "До пятницы."}.get(charset, "naïve 📐 é")
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Message-ID"] = "Ada <ada@lovelace.org>", f"Über {text}", "<1@toys>"
    mail.set_content(text, charset=charset, cte=encoding)
    imported(mbox(tmp_path, [mail]))
    assert answers(tmp_path / "out") == [(f"Über {text}", text)]


def test_a_charset_that_is_none_loses_no_letter(tmp_path: Path, imported: Import) -> None:
    head = b"From: Ada <ada@lovelace.org>\nSubject: =?x-unknown?Q?Plan?=\nContent-Type: text/plain; charset=x-none\n\n"
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "1.eml").write_bytes(head + "Grüße".encode("cp1252"))
    imported(tmp_path / "mails")
    assert answers(tmp_path / "out")[0][1] == "Grüße"


def test_lines_that_were_broken_to_fit_are_whole_again(tmp_path: Path, imported: Import) -> None:
    mail = letter("Ada", "A long line that goes \non here.\nA new one.\n\n-- \nAda\n", id="1")
    mail.set_param("format", "flowed")
    imported(mbox(tmp_path, [mail]))
    assert answers(tmp_path / "out") == [("Friday", "A long line that goes on here.\nA new one.")]


def test_drafts_and_mails_without_a_sender_are_counted(tmp_path: Path, imported: Import) -> None:
    nobody = EmailMessage()
    nobody["Subject"] = "x"
    nobody.set_content("text")
    mails = [*letters(), letter("Ada", "Not sent.", id="7", X_Gmail_Labels="Drafts,Unread"), nobody]
    _, made, _ = imported(mbox(tmp_path, mails), "--me", "ada@lovelace.org")
    assert made["ledger"]["fates"]["draft"] == 1 and made["ledger"]["fates"]["invalid"] == 1
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8")
    assert "has no sender; export the mailbox again" in rejected


#: What stands in the mail -> what is left of it as the expert's words; "" where nothing is.
NOBODYS = {
    "mailman": ("Like so.\n_______________________________________________\nMill mailing list\nMill@nevis.org\n"
                "https://nevis.org/mailman/listinfo/mill\n", "Like so."),
    "google groups": ('Or so.\n\n-- \nYou received this message because you are subscribed to the Google Groups "mill" '
                      "group.\nTo unsubscribe write to mill+unsubscribe@googlegroups.com.\n", "Or so."),
    "a line of one's own": ("Sign here:\n________________________\nAda\n", "Sign here:\n________________________\nAda"),
    "signed": ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nWords.\n- -- dashed\n-----BEGIN PGP SIGNATURE-----"
               "\n\niQEz\n-----END PGP SIGNATURE-----\n", "Words.\n-- dashed"),
    "encrypted": ("-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOBODYS)
def test_what_lists_and_seals_write_is_nobody_s(kind: str, tmp_path: Path, imported: Import) -> None:
    """Footers of lists, and armour of OpenPGP with what it hides, became completions."""
    text, words = NOBODYS[kind]
    mails = [letter("Ada", "Words of hers.", subject="Plain"), letter("Ada", text, subject="The mill")]
    status, made, complaint = imported(mbox(tmp_path, mails))
    assert status == 0, complaint
    expected = [("Plain", "Words of hers."), *([("The mill", words)] if words else [])]
    assert sorted(answers(tmp_path / "out")) == sorted(expected)
    assert made["ledger"]["fates"] == {"written": len(expected)} | ({} if words else {"wordless": 1})


def test_a_mail_that_is_cut_short_is_not_half_a_mail(tmp_path: Path, imported: Import) -> None:
    """The words up to the cut became a completion."""
    mail = letter("Ada", "", subject="The mill")
    mail.set_content("It turns all day and all night, and then some.", cte="base64")
    path = mbox(tmp_path, [letter("Ada", "Words.", subject="Plain"), mail])
    path.write_bytes(path.read_bytes().rstrip()[:-3])
    status, made, _ = imported(path)
    assert status == 0 and made["ledger"]["fates"] == {"written": 1, "invalid": 1}
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8")
    assert "is cut short: its base64 ends in the middle" in rejected
    only = mbox(tmp_path, [mail], name="only.mbox")
    only.write_bytes(only.read_bytes().rstrip()[:-3])
    status, _, complaint = imported(only, "--me", "ada@lovelace.org", "--overwrite")
    assert status == 2 and "1 record cannot be read (it is cut short" in complaint


#: Heads that name only who wrote, in the languages whose heads are known.
BARE_HEADS = (
    "Ben wrote:", "Ben Nevis writes:", "* Ben wrote:", "Nevis, Ben wrote:", "Ben <ben@nevis.org> wrote:",
    "Anna schrieb:", "Anna von der Mühle schrieb:", "Le ... a écrit :", "Ben a écrit :", "Ben escribió:",
    "Ben ha scritto:", "Ben de Vries schreef:", "Ben escreveu:", "Ben skrev:", "Ben napisał(a):", "Бен написал(а):",
    "Ben kirjoitti:", "Ben napsal:", "Ben írta:", "Ben yazdı:", "ベンさんは書きました:", "本写道：", "벤 님이 작성:",
    "Quoting Ben Nevis:", "Zitat von Ben:",
)  # fmt: skip
#: What the expert wrote himself, above a quotation or without one.
OWN_HEADS = (
    "As Ben wrote:", "And then he wrote:", "What Ben wrote:", "My brother wrote:", "The plan says:", "Wie Ben schrieb:",
    "Gestern schrieb er:", "Mein Bruder schrieb:", "Die Mühle schrieb:", "Comme Ben a écrit :", "Mon frère a écrit :",
    "Como Ben escribió:", "Mi hermano escribió:", "Come Ben ha scritto:", "Zoals Ben schreef:", "Como Ben escreveu:",
    "Som Ben skrev:", "Jak Ben napisał:", "Как Бен написал:", "Quoting the plan:",
)  # fmt: skip


@pytest.mark.parametrize("gap", ["", "\n"])
@pytest.mark.parametrize("head", BARE_HEADS)
def test_a_head_without_date_and_address_is_not_the_expert_s(
    head: str, gap: str, tmp_path: Path, imported: Import
) -> None:
    """``Ben wrote:`` stood at the end of the answer, as if the expert had written it."""
    text = f"Friday is fine.\n\n{head}\n{gap}> Friday?\n"
    below = f"{head}\n{gap}> Friday?\n\nFriday is fine.\n"
    mails = [letter("Ada", text, id="1", answers="0", subject="Re: Friday"),
             letter("Ada", below.replace("fine", "good"), id="2", answers="0", subject="Re: Friday")]  # fmt: skip
    imported(mbox(tmp_path, mails))
    assert answers(tmp_path / "out") == [("Friday?", "Friday is fine."), ("Friday?", "Friday is good.")]


@pytest.mark.parametrize("head", OWN_HEADS)
def test_a_sentence_of_the_expert_s_that_names_a_writer_stays(head: str, tmp_path: Path, imported: Import) -> None:
    text = f"Fine.\n\n{head}\n\n> Friday?\n\nI disagree."
    mail = letter("Ada", text, id="1", answers="0", subject="Re: Friday")
    imported(mbox(tmp_path, [mail]))
    assert answers(tmp_path / "out") == [("Friday?", f"Fine.\n\n{head}\n\nI disagree.")]


@pytest.mark.parametrize(
    "head",
    [
        *OWN_HEADS,
        *BARE_HEADS[:4],
        "Anna schrieb:",
        "On mills, Ben wrote:",
        "Am Anfang schrieb Ben:",
        "Le maire a écrit :",
    ],
)
def test_a_head_that_no_quotation_follows_is_prose(head: str, tmp_path: Path, imported: Import) -> None:
    """``On mills, Ben wrote:`` ended the mail: what stood below was taken for a quotation."""
    text = f"I like it.\n\n{head}\n\nthey turn.\n\nI agree. {head} it turns."
    imported(mbox(tmp_path, [letter("Ada", text, id="1")]))
    assert answers(tmp_path / "out") == [("Friday", text)]


@pytest.mark.parametrize(
    ("page", "own"),
    [
        ("<p>Fine.</p><p>Ben wrote:</p><blockquote type=cite>Friday?</blockquote>", "Fine."),
        ("<div>Fine.</div><div>Anna schrieb:<br></div><br><blockquote>Friday?</blockquote>", "Fine."),
        ("<p>Fine.</p>Ben a écrit :<br><blockquote type=cite>Friday?</blockquote>", "Fine."),
        ("<p>Fine.</p><p>As Ben wrote:</p><blockquote>Friday?</blockquote>", "Fine.\n\nAs Ben wrote:"),
        ("<p>Fine, as <b>my</b> Ben wrote:<blockquote>Friday?</blockquote></p>", "Fine, as **my** Ben wrote:"),
    ],
)
def test_the_same_heads_on_a_page(page: str, own: str, tmp_path: Path, imported: Import) -> None:
    mail = letter("Ada", "", id="1", answers="0", subject="Re: Friday")
    mail.clear_content()
    mail.set_content(page, subtype="html")
    imported(mbox(tmp_path, [mail]))
    assert answers(tmp_path / "out") == [("Friday?", own)]


TORN = "Grüße aus Köln, wo das Mühlrad 水車 läuft 📐."
#: How the bytes of a mail were cut within a letter -> what they became, and what is left; None: it is cut short.
CUTS: dict[str, tuple[str, bytes, str | None]] = {
    "8bit, a line broken": ("8bit", TORN.encode().replace(b"\xbc", b"\n\xbc", 1), TORN),
    "8bit, a line folded": ("8bit", TORN.encode().replace(b"\x93\x90", b"\r\n \x93\x90", 1), TORN),
    "8bit, a byte lost": ("8bit", TORN.encode().replace(b"\xa4", b"", 1), TORN.replace("ä", "")),
    "8bit, a tail alone": ("8bit", TORN.encode().replace(b"\xe6\xb0", b"", 1), TORN.replace("水", "")),
    "8bit, the end": ("8bit", TORN.encode()[:-2], None),
    "8bit, the end of a quotation": ("8bit", f"{TORN}\n\n> Und wo läuft es schö".encode()[:-1], TORN),
    "quoted-printable, a byte lost": ("quoted-printable", b"Gr=C3=BC=C3e aus K=C3=B6ln", "Grüe aus Köln"),
    "quoted-printable, a line broken": ("quoted-printable", b"Gr=C3\n=BC=C3=9Fe", "Grüße"),
    "quoted-printable, the end": ("quoted-printable", b"Gr=C3=BC=C3=9Fe aus K=C3", None),
    "quoted-printable, within an escape": ("quoted-printable", b"Gr=C3=BC=C3=9Fe aus K=C3=B", None),
    "base64, a byte lost": ("base64", base64.b64encode(TORN.encode().replace(b"\xa4", b"", 1)), TORN.replace("ä", "")),
    "base64, the end": ("base64", base64.b64encode(TORN.encode()[:-2]), None),
    "another encoding": ("8bit", TORN.replace("水車", "").replace("📐", "").encode("cp1252"),
                         TORN.replace("水車", "").replace("📐", "")),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
def test_letters_that_are_cut_in_the_middle_garble_no_other(
    cut: str, tmp_path: Path, imported: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    """One torn letter garbled all letters of a mail, as Windows-1252 does; whole ones are kept, losses are told."""
    encoding, body, kept = CUTS[cut]
    (tmp_path / "mails").mkdir()
    for name, cte, text in (("1", "8bit", b"Plain."), ("2", encoding, body)):
        head = f"From: Ada <ada@lovelace.org>\nSubject: The mill {name}\nMIME-Version: 1.0\nMessage-ID: <{name}@toys>\n"
        head += f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {cte}\n\n"
        (tmp_path / "mails" / f"{name}.eml").write_bytes(head.encode() + text)
    status, made, complaint = imported(tmp_path / "mails")
    assert status == 0, complaint
    words = [completion for _, completion in answers(tmp_path / "out")]
    assert words == ["Plain.", *([kept] if kept else [])]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    is_told = "lost" in cut or "alone" in cut or "quotation" in cut
    assert made["torn"] == ([f"{tmp_path / 'mails'}/2.eml:1"] if is_told else [])
    assert ("Letters that were cut in the middle are left out, in 1 record." in card) == is_told
    assert made["ledger"]["fates"] == ({"written": 2} if kept else {"written": 1, "invalid": 1})
    if kept is None:
        rejected = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8")
        assert "is cut short: its text ends within a letter; save it again, or leave it out" in rejected
    assert main(["import", str(tmp_path / "mails"), "--output", str(tmp_path / "o"), "--min-words", "1"]) == 0
    assert ("Letters were cut in the middle, and left out, in 1 record: " in capsys.readouterr().out) == is_told


def test_what_has_no_date_is_not_known_to_be_from_after_since(tmp_path: Path, imported: Import) -> None:
    undated, dated = letter("Ada", "Words.", subject="Undated"), letter("Ada", "Other words.", subject="Dated")
    del undated["Date"]
    status, made, complaint = imported(mbox(tmp_path, [undated, dated]), "--since", "2020-01-01")
    assert status == 0, complaint
    assert answers(tmp_path / "out") == [("Dated", "Other words.")] and made["ledger"]["fates"]["old"] == 1


# -- whose words ----------------------------------------------------------------------------------------------


def raw(*parts: str, kind: str = "mixed") -> EmailMessage:
    """A mail of Ada's of these parts, each with its heads."""
    head = "From: Ada <ada@lovelace.org>\nSubject: Re: Friday\nIn-Reply-To: <0@toys>\nMessage-ID: <r@toys>\n"
    body = "".join(f"--B\n{part}\n" for part in parts)
    text = f"{head}MIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary=B\n\n{body}--B--\n"
    return email.message_from_bytes(text.encode(), _class=EmailMessage, policy=email.policy.default)  # type: ignore[arg-type]


PLAIN = "Content-Type: text/plain; charset=utf-8\n"
BENS = "Content-Type: message/rfc822\n\nFrom: ben@nevis.org\nSubject: x\n\nBEN WROTE THIS"


@pytest.mark.parametrize(
    ("parts", "own"),
    [
        ([f"{PLAIN}\nFirst half", "Content-Type: image/png; name=x.png\n\nAA", f"{PLAIN}\nSecond half"],
         "First half\n\nSecond half"),
        ([f"{PLAIN}Content-Disposition: attachment\n\nA LOG", f"{PLAIN}\nMy words"], "My words"),
        (["Content-Type: text/html\n\n<p>Mine</p>", f"{PLAIN}Content-Disposition: attachment\n\nA LOG"], "Mine"),
        ([f"{PLAIN}\nSee below.", BENS], "See below."),
        ([BENS], ""),
    ],
)  # fmt: skip
def test_what_is_attached_is_not_the_expert_s_writing_and_no_half_is_lost(parts: list[str], own: str) -> None:
    """An attached mail of Ben's and a log without a name were Ada's words; what stood below a picture was gone."""
    assert mail_text(raw(*parts)).own == own


@pytest.mark.parametrize(
    "head",
    [
        "<div style='border-top:solid #E1E1E1 1.0pt'><p><b>Von:</b> Ben &lt;b@n.org&gt;<br><b>Gesendet:</b> Montag<br>"
        "<b>An:</b> Ada<br><b>Betreff:</b> Friday</p></div><p>Friday?</p>",
        "<p><b><span>From:</span></b> Ben<br><b>Sent:</b> Monday<br><b>To:</b> Ada<br><b>Subject:</b> Friday</p>"
        "<p>Friday?</p>",
        '<hr><div id="divRplyFwdMsg"><b>From:</b> Ben<br><b>Sent:</b> Monday<br></div><div>Friday?</div>',
        '<div>-----&nbsp;原始邮件&nbsp;-----</div><div><div><b>发件人:</b>&nbsp;"Ben";</div><div><b>发送时间:</b>&nbsp;'
        "2026年3月2日</div><div><b>主题:</b>&nbsp;Friday</div></div><div>Friday?</div>",
        '<blockquote style="margin:0"><div><b>发件人：</b><a href="mailto:b@n.org">Ben</a></div><div><b>发送时间：</b>'
        "2026-03-02</div><div><b>主题：</b>Friday</div><div>Friday?</div></blockquote>",
    ],
    ids=["outlook de", "outlook en, no address", "outlook web", "qq", "foxmail"],
)
def test_the_heads_of_outlook_and_its_kin_in_html_begin_a_quotation(head: str) -> None:
    """Their labels are bold: the whole mail that was answered was learned as Ada's."""
    found = mail_text(raw(f"Content-Type: text/html; charset=utf-8\n\n<p>Fine.</p><p><b>Note:</b> bring oak</p>{head}"))
    assert (found.own, found.quoted) == ("Fine.\n\n**Note:** bring oak", "Friday?")


@pytest.mark.parametrize(
    "below",
    [
        "发件人: Ben\n发送时间: 2026年3月2日 9:14\n收件人: Ada\n主题: Friday\n\nFriday?\n",
        "差出人: Ben\n送信日時: 2026年3月2日 9:14\n宛先: Ada\n件名: Friday\n\nFriday?\n",
        "\u200fבתאריך יום ב׳, 2 במרץ 2026 ב-9:14 מאת \u202aBen\u202c <\u202ab@n.org\u202c>:\u202c\n\n> Friday?\n",
        "Sent with [Proton Mail](https://proton.me/) secure email.\n\nOn 2 March 2026 at 9:14, Ben <b@n.org> wrote:\n\n"
        "> Friday?\n",
    ],
    ids=["outlook zh", "outlook ja", "gmail he", "proton"],
)
def test_heads_without_an_address_or_with_marks_of_direction(below: str) -> None:
    found = mail_text(letter("Ada", f"Fine.\n\n{below}"))
    assert (found.own, found.quoted) == ("Fine.", "Friday?")


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("iso-8859-1", "\u201cgr\u00fc\u00dfe\u201d".encode("cp1252"), "\u201cgr\u00fc\u00dfe\u201d"),
        ("gb2312", "鎔基".encode("gbk"), "鎔基"),
        ("ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("shift_jis", "①髙".encode("cp932"), "①髙"),
        ("idna", b"abc", "abc"),
    ],
)
def test_an_encoding_is_read_as_the_programs_write_that_name_it(charset: str, data: bytes, text: str) -> None:
    head = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n".encode()
    assert mail_text(email.message_from_bytes(head + data)).own == text


def test_lines_that_flow_are_stuffed_and_glued() -> None:
    """RFC 3676: a line that begins with "From " has a space before it, and with DelSp none stays at a break."""
    mail = letter("Ada", "One \nline.\n From here \non.\n")
    mail.set_param("format", "flowed")
    assert mail_text(mail).own == "One line.\nFrom here on."
    mail = letter("Ada", "これは \n一行です。\n")
    mail.set_param("format", "flowed")
    mail.set_param("delsp", "yes")
    assert mail_text(mail).own == "これは一行です。"


@pytest.mark.parametrize("label", ["Entwürfe", "Geöffnet,Brouillons", "草稿", "下書き", "Drafts"])
def test_what_was_never_sent_is_a_draft_in_every_language(label: str, tmp_path: Path, imported: Import) -> None:
    heads = [{"X_Gmail_Labels": label}, {"X_Unsent": "1"}, {"X_Gmail_Labels": "Draftsmanship,Gesendet"}]
    mails = [letter("Ada", f"Words {n}.", id=str(n), **each) for n, each in enumerate(heads)]
    _, made, _ = imported(mbox(tmp_path / "x", mails))
    assert made["ledger"]["fates"] == {"draft": 2, "written": 1}
    folder = mbox(tmp_path / "y", mails[2:], name=f"{label.split(',')[-1]}.mbox").parent
    mbox(folder, [letter("Ada", "Sent.", id="9")], name="Sent.mbox")
    assert imported(folder, output=tmp_path / "other")[1]["ledger"]["fates"] == {"draft": 1, "written": 1}


# -- where a mail begins, and what its head says ------------------------------------------------------------------


def boxed(folder: Path, *mails: str, encoding: str = "utf-8") -> Path:
    (path := folder / "Sent.mbox").write_bytes("".join(mails).encode(encoding))
    return path


def mail(number: int, text: str, subject: str = "Friday") -> str:
    head = f"From: Ada <ada@lovelace.org>\nSubject: {subject}\nMessage-ID: <m{number}@toys>\n"
    return f"From ada@lovelace.org Mon Mar  2 09:14:00 2026\n{head}\n{text}\n"


def test_a_sentence_with_a_time_and_a_year_begins_no_mail(tmp_path: Path, imported: Import) -> None:
    """The mail ended before it, and what followed had no sender."""
    text = "Hello.\n\nFrom 10:00 to 12:00 on 3 May 2026 we meet.\n\nBye."
    _, made, _ = imported(boxed(tmp_path, mail(1, text)))
    assert answers(tmp_path / "out") == [("Friday", text)] and made["ledger"]["fates"] == {"written": 1}


@pytest.mark.parametrize("begins", ["", "\n\n", "\ufeff"], ids=["as it should", "empty lines", "a byte-order mark"])
def test_mails_without_a_line_between_are_told_apart(begins: str, tmp_path: Path, imported: Import) -> None:
    """The second one was words of the first."""
    _, made, _ = imported(boxed(tmp_path, begins, mail(1, "One."), mail(2, "Two.", "Saturday")))
    assert answers(tmp_path / "out") == [("Friday", "One."), ("Saturday", "Two.")]
    assert made["ledger"]["fates"] == {"written": 2}


@pytest.mark.parametrize(
    ("subject", "prompt", "encoding"),
    [
        ("Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe", "cp1252"),
        ("=?utf-8?B?R3LDvMOfZQ==?= =?bogus?Q?x?=", "Gr\u00fc\u00dfe =?bogus?Q?x?=", "utf-8"),
    ],
)
def test_a_subject_is_read_as_far_as_it_can_be(
    subject: str, prompt: str, encoding: str, tmp_path: Path, imported: Import
) -> None:
    imported(boxed(tmp_path, mail(1, "One.", subject), encoding=encoding))
    assert answers(tmp_path / "out") == [(prompt, "One.")]


def test_what_exchange_answers_by_itself_is_nobody_s_writing(tmp_path: Path, imported: Import) -> None:
    mails = [
        mail(1, "I am away.", "Automatic reply: x"),
        mail(2, "Bin weg.", "Automatische Antwort: x"),
        mail(3, "Ja."),
    ]
    _, made, _ = imported(boxed(tmp_path, *mails))
    assert made["ledger"]["fates"] == {"automatic": 2, "written": 1}
