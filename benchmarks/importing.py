"""`sft import` of damaged exports, and how long it takes for large ones.

    python benchmarks/importing.py --damaged 10000
    python benchmarks/importing.py --mails 20000 --messages 200000

``--damaged``: so many exports of every form that the tests make, each with one to four faults (cut, bytes turned,
taken out, put in, repeated). Counted are those that gave rows, those that were refused in one sentence, those in
which a record has no fate or two, and tracebacks, which are printed. ``--mails``, ``--messages``: a mailbox and a
chat of that size, each by the command itself: seconds and peak memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

from damage import damage  # noqa: E402
from exports import CHATS, OWN, when  # noqa: E402
from exports_documents import EVERY  # noqa: E402
from exports_mail import MAILBOXES, letter, mbox  # noqa: E402

from sft.cli import main  # noqa: E402


def fuzzed(count: int) -> None:
    """Print a line a form: rows, refused, accounts that do not add up, tracebacks."""
    makers = {name: make for name, (_, make) in CHATS.items()} | MAILBOXES
    makers |= {name: make for name, (make, _) in EVERY.items()}
    totals = Counter[str]()
    for form, make in makers.items():
        found = Counter[str]()
        with tempfile.TemporaryDirectory() as place:
            whole = make(Path(place))
            kind = CHATS[form][0] if form in CHATS else "mail" if form in MAILBOXES else form
            me = OWN.get(form, "ada@lovelace.org" if kind == "mail" else "Ada")
            words = ["--me", me, "--from", kind]
            for number in range(-(-count // len(makers))):
                source = Path(place, f"copy{whole.suffix}")
                (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, source)
                damage(source, random.Random(f"{form} {number}"), spared=lambda path: ".git" in path.parts)
                found[_outcome(source, Path(place, "out"), words, f"{form} {number}")] += 1
                shutil.rmtree(source) if source.is_dir() else source.unlink()
        print(f"{form:<26}", "  ".join(f"{name} {number:,}" for name, number in sorted(found.items())))
        totals += found
    print(f"{'all':<26}", "  ".join(f"{name} {number:,}" for name, number in sorted(totals.items())))


def _outcome(source: Path, out: Path, words: list[str], name: str) -> str:
    said, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
            status = main(["import", str(source), "--output", str(out), *words])
    except Exception:
        print(name, traceback.format_exc(), file=sys.stderr)
        return "traceback"
    if status == 0:
        account = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
        shutil.rmtree(out)
        whole = account["rows"] + account["unrolled"] == sum(account["fates"].values())
        return "rows" if whole else "does not add up"
    return "refused" if complaint.getvalue().count("\n") == 1 and not out.exists() else "not one sentence"


def timed(source: Path, *words: str) -> None:
    """Print seconds and peak memory of ``sft import`` of ``source``."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "sft", "import", str(source), "-o", f"{place}/out", *words]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout.partition("\n")[0] or done.stderr)
        print(
            f"{source.stat().st_size / 1e6:,.0f} MB: {time.monotonic() - begun:,.1f} s, of a processor "
            f"{used.ru_utime + used.ru_stime:,.1f} s, peak {used.ru_maxrss / 1e3:,.0f} MB"
        )


WORDS = [
    "the",
    "mill",
    "wheel",
    "turns",
    "and",
    "grain",
    "becomes",
    "flour",
    "by",
    "the",
    "brook",
    "on",
    "a",
    "slow",
    "day",
    "when",
    "we",
    "meet",
]


def mailbox(folder: Path, count: int) -> Path:
    """As many mails, half of them Ada's answers to the other half, of 120 words with a quotation."""
    draw = random.Random(0)

    def mails() -> Iterator[EmailMessage]:  # none is kept: a process begins with the peak of the one that started it
        for number in range(count // 2):
            asked, answer = (" ".join(draw.choices(WORDS, k=120)) for _ in range(2))
            quoted = f"On Mon, Mar 2, 2026 at 9:14 AM Ben <ben@nevis.org> wrote:\n\n> {asked}\n"
            yield letter("Ben", asked, id=f"a{number}", subject=f"No. {number}")
            yield letter("Ada", f"{answer}\n\n{quoted}", id=f"b{number}", answers=f"a{number}", subject="Re: No.")

    return mbox(folder, mails())


def chat(folder: Path, count: int) -> Path:
    """A chat of as many messages of eight words, of Ada and Ben in turn."""
    draw = random.Random(0)
    path = folder / "WhatsApp Chat with Ben.txt"
    lines = (
        f"{when(number * 7):%d/%m/%Y, %H:%M} - {('Ben', 'Ada')[number % 2]}: {' '.join(draw.choices(WORDS, k=8))}\n"
        for number in range(count)
    )
    path.write_text("".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--damaged", type=int, default=0)
    parser.add_argument("--mails", type=int, default=0)
    parser.add_argument("--messages", type=int, default=0)
    asked = parser.parse_args()
    if asked.damaged:
        fuzzed(asked.damaged)
    with tempfile.TemporaryDirectory() as folder:
        if asked.mails:
            timed(mailbox(Path(folder), asked.mails), "--me", "ada@lovelace.org")
        if asked.messages:
            timed(chat(Path(folder), asked.messages), "--me", "Ada")
