"""How a report writes: numbers with their intervals, differences between texts, other people's words.

What a model or an expert wrote is shown, never obeyed: it is escaped for the page or the Markdown it goes
into, and characters that hide or reorder what is around them are spelled out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from sft.metrics.estimate import figure
from sft.runs.visible import HIDDEN, plain

__all__ = [
    "bold_places",
    "bracketed",
    "cell",
    "chance",
    "coded",
    "coded_cell",
    "differences",
    "duration",
    "fenced",
    "figure",
    "grouped",
    "highlighted",
    "in_groups",
    "marked",
    "said",
    "shown",
]

_WORD = re.compile(
    r"\s*(?:[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s])"
)
#: Below this share of common words, marks would cover everything and show nothing.
_ALIKE = 0.3
_LONGEST_MARKED = 3000
#: A number with its unit and its interval, which no line of the page should tear apart.
_FIGURE = re.compile(r"(?:\bp [=<] )?[+\u2212-]?\d[\d.]*(?: %)?(?: \[[^][]{1,40}\])?")


def differences(expert: str, written: str) -> list[tuple[str, str]] | None:
    """How ``written`` differs from ``expert``, word by word: ("same" | "ins" | "del", text) in reading order.

    "ins" is what the expert did not write, "del" what only the expert wrote. None when too little is
    shared, or too much text there, for marks to help.
    """
    old, new = _WORD.findall(expert), _WORD.findall(written)
    if not old or not new or len(old) + len(new) > _LONGEST_MARKED:
        return None
    matcher = difflib.SequenceMatcher(None, [w.strip() for w in old], [w.strip() for w in new], autojunk=False)
    if matcher.ratio() < _ALIKE:
        return None
    found: list[tuple[str, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(new[c:d])))
            continue
        found += [("del", "".join(old[a:b]))] if b > a else []
        found += [("ins", "".join(new[c:d]))] if d > c else []
    return found


def grouped(number: int) -> str:
    """``12 345``: thousands apart by a narrow space."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def in_groups(prompts: int, clusters: int, largest: int = 0) -> str:
    """ " in 6 groups, the largest of 20", to follow a number of prompts; "" where each is on its own."""
    if clusters in (0, prompts):
        return ""
    most = f", the largest of {grouped(largest)}" if largest else ""
    return f" in {grouped(clusters)} group{'' if clusters == 1 else 's'}{most}"


def chance(p_value: float, *, sign: bool = False) -> str:
    """A p-value to three digits, or that it is below them; ``sign`` puts "p = " or "p < " before it."""
    if p_value < 0.001:
        return "p < 0.001" if sign else "< 0.001"
    return f"{'p = ' if sign else ''}{p_value:.3f}"


def duration(seconds: float) -> str:
    """``14 min 31 s``, in the units a person would use."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def shown(text: str) -> Markup:
    """``text`` for a page: escaped, hidden characters boxed."""
    parts: list[str] = []
    at = 0
    text = text.replace("\r\n", "\n")
    for found in HIDDEN.finditer(text):
        parts.append(escape(text[at : found.start()]))
        parts.append(Markup('<span class="hidden-char">U+{:04X}</span>').format(ord(found[0])))
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])


def marked(expert: str, written: str) -> Markup | None:
    """``written`` with the words only it has in ``<ins>`` and those only the expert has in ``<del>``."""
    if expert == written:
        return Markup('<span class="same">Word for word the expert\u2019s.</span> ') + shown(written)
    found = differences(expert, written)
    if found is None:
        return None
    parts = []
    for kind, text in found:
        body = text.lstrip()
        space = shown(text[: len(text) - len(body)])
        piece = shown(body)
        parts.append(space + (piece if kind == "same" else Markup(f"<{kind}>{{}}</{kind}>").format(piece)))
    return Markup("").join(parts)


def highlighted(text: str, places: Sequence[tuple[int, int]]) -> Markup:
    """``text`` for a page, with what stands at each of ``places`` (begin, end; in order, apart) in ``<mark>``."""
    return Markup("").join(
        Markup("<mark>{}</mark>").format(shown(part)) if inside else shown(part) for inside, part in _cut(text, places)
    )


def bold_places(text: str, places: Sequence[tuple[int, int]]) -> str:
    """The same for a line of Markdown, with what stands there in bold."""
    parts = [f"**{cell(part)}**" if inside else _line(part) for inside, part in _cut(text, places)]
    return "".join(parts).strip()


def bracketed(text: str, places: Sequence[tuple[int, int]]) -> str:
    """The same for one line of a terminal, between ``[[`` and ``]]``."""
    parts = (f"[[{plain(part)}]]" if inside else plain(part) for inside, part in _cut(text, places))
    return " ".join("".join(parts).split())


def _line(part: str) -> str:
    """As :func:`cell`, but a space at either end stays: more words come before and behind."""
    body = cell(part)
    return f"{' ' if part[:1].isspace() else ''}{body}{' ' if body and part[-1:].isspace() else ''}"


def _cut(text: str, places: Sequence[tuple[int, int]]) -> list[tuple[bool, str]]:
    """``text`` in parts: (stands at a place, part); places that lie outside it, or overlap, are passed over."""
    found, at = [], 0
    for begin, end in sorted(places):
        if at <= begin < end <= len(text) and text[begin:end].strip():
            found += [(False, text[at:begin]), (True, text[begin:end])]
            at = end
    return [(inside, part) for inside, part in (*found, (False, text[at:])) if part]


def said(text: str) -> Markup:
    """Our own sentence for a page: as :func:`shown`, but lines break around figures and not in them."""
    return shown(_FIGURE.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text))


def coded(text: str) -> Markup:
    """Our own words for a page: as :func:`said`, and what stands between backticks becomes code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd else said(part) for odd, part in _by_code(text)
    )


def coded_cell(text: str) -> str:
    """Our own words for Markdown: as :func:`cell`, but what stands between backticks stays code."""
    return "".join(f"`{part}`" if odd else _unmarked(part) for odd, part in _by_code(" ".join(text.split())))


def _by_code(text: str) -> list[tuple[bool, str]]:
    """``text`` cut at simple code spans: (is code, part)."""
    return [(place % 2 == 1, part) for place, part in enumerate(re.split(r"`([\w ./=-]+)`", text))]


def cell(value: Any) -> str:
    """``value`` for a cell or a line of Markdown: nothing in it is markup, nothing ends the row."""
    return _unmarked(" ".join(plain(str(value)).split()))


def _unmarked(text: str) -> str:
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|#~]|\](?=[(\[:]))", r"\\\1", text)


def fenced(text: str) -> str:
    """``text`` as a Markdown code block whose fence is longer than any in it."""
    body = plain(text).rstrip("\n")
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}text\n{body}\n{fence}"
