"""Mailboxes made here, in the shape of the real ones: Ada's, with a mail of Ben's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from email.message import EmailMessage
from pathlib import Path

from exports import zipped


def letter(
    sender: str, text: str, *, subject: str = "Friday", id: str = "", answers: str = "", day: int = 2, **heads: str
) -> EmailMessage:
    """A mail of March 2026. ``answers``: the id of the one it answers."""
    made = EmailMessage()
    made["From"] = {"Ada": "Ada Lovelace <ada@lovelace.org>", "Ben": "Ben <ben@nevis.org>"}.get(sender, sender)
    made["Subject"] = subject
    made["Date"] = f"Mon, {day} Mar 2026 09:14:00 +0100"
    if id:
        made["Message-ID"] = f"<{id}@toys>"
    if answers:
        made["In-Reply-To"] = made["References"] = f"<{answers}@toys>"
    for name, value in heads.items():
        made[name.replace("_", "-")] = value
    made.set_content(text)
    return made


def letters() -> list[EmailMessage]:
    """A first mail of Ada's, Ben's to her, and her answer below his words; and one that is nobody's writing."""
    quoted = "On Mon, Mar 2, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> Shall we meet on Friday?\n> Ben\n"
    return [
        letter("Ada", "The plan is done.\n\nFrom my side, nothing is open.\nFrom here on it is yours.\n", id="1",
               subject="The plan of the mill"),
        letter("Ben", "Shall we meet on Friday?\n\nBen\n-- \nBen Nevis, +44 20 7946 0958\n", id="2", answers="1"),
        letter("Ada", f"Friday is fine.\n\nBest regards,\nAda\n\n{quoted}\n-- \nAda Lovelace\n", id="3", answers="2",
               subject="Re: Friday", day=3),
        letter("Ada", "I am away until Monday.", id="4", subject="Away", Auto_Submitted="auto-replied"),
    ]  # fmt: skip


#: (prompt, completion) of Ada's mails, as they must come out.
LETTERS = [
    ("The plan of the mill", "The plan is done.\n\nFrom my side, nothing is open.\nFrom here on it is yours."),
    ("Shall we meet on Friday?\n\nBen", "Friday is fine.\n\nBest regards,\nAda"),
]


def mbox(folder: Path, mails: Iterable[EmailMessage] = (), name: str = "All mail.mbox") -> Path:
    """As Gmail's Takeout has it: a zone in the line that begins a mail, and ``From `` in a text as it is."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number, mail in enumerate(mails or letters()):
            file.write(b"From 17724824450%d@xxx Mon Mar 02 20:14:05 +0000 2026\n" % number)
            file.write(bytes(mail).rstrip(b"\n") + b"\n\n")
    return path


def maildir(folder: Path) -> Path:
    """Two folders of a Maildir, as Dovecot keeps them."""
    base = folder / "Maildir"
    for number, mail in enumerate(letters()):
        place = base / ("cur" if number == 1 else ".Sent/cur") / f"17724824{number}.M1P1.host:2,S"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(mail).replace(b"\n", b"\r\n"))
    return base


def eml(folder: Path) -> Path:
    base = folder / "mails"
    base.mkdir()
    for number, mail in enumerate(letters()):
        (base / f"{number} Friday.eml").write_bytes(bytes(mail))
    return base


def emlx(folder: Path) -> Path:
    """Apple Mail: the length of the mail in the first line, its flags behind it."""
    base = folder / "Sent.mbox" / "Messages"
    base.mkdir(parents=True)
    for number, mail in enumerate(letters()):
        data = bytes(mail)
        flags = b'\n<?xml version="1.0" encoding="UTF-8"?>\n<plist><dict/></plist>\n'
        (base / f"{number}.emlx").write_bytes(b"%d      \n" % len(data) + data + flags)
    return folder / "Sent.mbox"


MAILBOXES: dict[str, Callable[[Path], Path]] = {
    "mbox": mbox,
    "mbox, zipped": lambda folder: zipped(mbox(folder / "Takeout", name="Mail/Sent.mbox").parent.parent),
    "mbox without a suffix": lambda folder: mbox(folder, name="Sent"),
    "maildir": maildir,
    "eml": eml,
    "emlx": emlx,
}
