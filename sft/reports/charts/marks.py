"""What every picture is made of: scales, ticks, text, lines, legends and the frame."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "CHARACTER",
    "FIGURE_CHARACTER",
    "NARROW",
    "STRONG_CHARACTER",
    "Axis",
    "Entry",
    "box",
    "capped",
    "circle",
    "clamped",
    "legend",
    "number",
    "picture",
    "px",
    "rounded_out",
    "rule",
    "text",
    "ticks",
    "wrapped",
]

#: Narrower than this, labels stand above what they name instead of beside it.
NARROW = 520
#: Width of an average character of the page's 13 pixel type; pictures cannot measure text.
CHARACTER = 6.9
#: The same for bold words, for numbers, and for a picture's title, which is larger and bold, in a wide type.
STRONG_CHARACTER, FIGURE_CHARACTER, TITLE_CHARACTER = 8.0, 7.4, 9.0


def ticks(low: float, high: float, wanted: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside ``[low, high]``, about ``wanted`` of them.

    ``whole``: whole numbers only, for an axis that counts.

    Raises ``ValueError`` unless ``low < high`` and both are finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"an axis needs two different finite ends, not {low} and {high}")
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9)]
    step = next((s for s in steps if s == int(s)), 1.0) if whole else steps[0]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [0.0 if k == 0 else round(k * step, 12) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to pixels, linearly."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def rounded_out(low: float, high: float, wanted: int = 5) -> tuple[float, float]:
    """The smallest range of whole ticks around ``[low, high]``."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    marks = ticks(low, high, wanted)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def number(value: float) -> str:
    """A tick's label: no trailing zeros, a true minus sign."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def px(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, role: str = "", anchor: str = "start") -> str:
    """Words on the line ``y``; ``anchor`` says which part of them stands at ``x``."""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{px(x)}" y="{px(y)}" class="t {role}"{side}>{escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, role: str) -> str:
    """A straight line."""
    return f'<line x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}" class="{role}"/>'


def box(x: float, y: float, width: float, height: float, role: str) -> str:
    """A rectangle; a negative width is none."""
    return f'<rect x="{px(x)}" y="{px(y)}" width="{px(max(width, 0))}" height="{px(height)}" class="{role}"/>'


def circle(x: float, y: float, radius: float, role: str) -> str:
    """A circle."""
    return f'<circle cx="{px(x)}" cy="{px(y)}" r="{px(radius)}" class="{role}"/>'


def capped(x1: float, x2: float, y: float, kind: str) -> list[str]:
    """A level interval bar with a whisker at each end."""
    ends = [rule(x, y - 5, x, y + 5, f"whisker kind-{kind}") for x in (x1, x2)]
    return [rule(x1, y, x2, y, f"interval kind-{kind}"), *ends]


def clamped(x: float, words: str, low: float, high: float, character: float = CHARACTER) -> float:
    """Where the middle of ``words`` has to stand, near ``x``, for them to lie between ``low`` and ``high``."""
    room = len(words) * character / 2
    return (low + high) / 2 if 2 * room > high - low else min(max(x, low + room), high - room)


def wrapped(words: str, pixels: float, character: float = CHARACTER) -> list[str]:
    """``words`` cut into lines of at most ``pixels``."""
    return textwrap.wrap(words, max(int(pixels / character), 8)) or [""]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend. ``shape``: "line", "dot", "ghost" (a hollow mark) or "patch"."""

    label: str
    kind: str
    shape: str = "line"


def legend(entries: Sequence[Entry], left: float, right: float, row: float) -> tuple[list[str], float]:
    """Samples with their labels from ``left``, in as many rows as they need; and the line of the last row."""
    parts, at = [], left
    for entry in entries:
        size = 24 if entry.shape == "line" else 12
        wide = size + 7 + len(entry.label) * CHARACTER
        if at > left and at + wide > right:
            at, row = left, row + 20
        middle = at + size / 2
        if entry.shape == "line":
            parts.append(rule(at, row, at + size, row, f"curve kind-{entry.kind}"))
        elif entry.shape == "patch":
            parts.append(box(at, row - 6, size, 12, f"patch kind-{entry.kind}"))
        else:
            role = "dot" if entry.shape == "dot" else "ghost"
            parts.append(circle(middle, row, 4.5, f"{role} sample kind-{entry.kind}"))
        parts.append(text(at + size + 7, row + 4.5, entry.label))
        at += wide + 22
    return parts, row


def picture(key: str, width: float, height: float, title: str, description: str, parts: Iterable[str]) -> str:
    """The frame: ``title`` above the parts, and title and description for readers who hear the picture.

    ``height`` is that of the parts; the title comes on top of it.
    """
    name = f"{key}-{width:.0f}"
    lines = wrapped(title, width, TITLE_CHARACTER)
    top = 19 * len(lines) + 9
    heading = [text(0, 14 + 19 * place, line, "title") for place, line in enumerate(lines)]
    return (
        f'<svg class="picture" role="img" aria-labelledby="{name}-t {name}-d" width="{px(width)}" '
        f'viewBox="0 0 {px(width)} {px(height + top)}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f'{"".join(heading)}<g transform="translate(0 {px(top)})">{"".join(parts)}</g></svg>'
    )
