"""Exports made here, in the shape of the real ones: of Ada, whom the tests clone, and of those she writes with.

Every maker writes the same conversation (:data:`TALK`) or the same pieces in the form of one source, and returns what
``sft import`` is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
