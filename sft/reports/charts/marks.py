"""What every picture is made of: scales, ticks, lines, words, legends and the frame.

Lengths across are in per cent of the plot, so that the page can stretch them. Lengths down are in per cent, or in
pixels where the style sheet gives the height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "Axis",
    "Entry",
    "capped",
    "circle",
    "labelled",
    "legend",
    "level",
    "near",
    "number",
    "per_cent",
    "picture",
    "plot",
    "rounded_out",
    "scale",
    "stretched",
    "ticks",
    "upright",
    "words",
]

#: Ticks wanted along an axis, and characters that its labels may have together to stand apart on the narrowest phone.
TICKS, CHARACTERS = 5, 26


#: Where a label stands along its axis, in per cent, and its words.
Label = tuple[float, str]


def ticks(low: float, high: float, wanted: int = TICKS, *, whole: bool = False) -> list[float]:
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
    """Maps values to per cent of the way from ``start`` to ``end``, linearly."""

    start: float
    end: float

    def __call__(self, value: float) -> float:
        """How far along ``value`` lies: 0 at the start, 100 at the end."""
        return 100 * (value - self.start) / (self.end - self.start)


def rounded_out(low: float, high: float, wanted: int = TICKS) -> tuple[float, float]:
    """The smallest range of whole ticks around ``[low, high]``."""
    if high - low < 1e-6:  # nothing, but for rounding
        low, high = low - 0.5, high + 0.5
    marks = ticks(low, high, wanted)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def number(value: float) -> str:
    """A tick's label: no trailing zeros, a true minus sign."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def labelled(low: float, high: float, label: Callable[[float], str] = number, *, whole: bool = False) -> list[Label]:
    """Ticks of a level axis, each with where it stands in per cent and its label; fewer where labels are long."""
    x = Axis(low, high)
    for wanted in range(TICKS, 0, -1):
        found = [(x(tick), label(tick)) for tick in ticks(low, high, wanted, whole=whole)]
        if (len(found) - 1) * max((len(said) for _, said in found), default=0) <= CHARACTERS:
            break
    return found


def per_cent(value: float) -> str:
    """A coordinate, to a tenth of a per cent: less than a pixel of the widest page."""
    return f"{round(value, 1) + 0.0:g}%"


def upright(x: float, y1: str, y2: str, role: str) -> str:
    """A line from top to bottom at ``x`` per cent."""
    return f'<line x1="{per_cent(x)}" y1="{y1}" x2="{per_cent(x)}" y2="{y2}" class="{role}"/>'


def level(y: str, x1: float, x2: float, role: str) -> str:
    """A line from side to side, between two percentages."""
    return f'<line x1="{per_cent(x1)}" y1="{y}" x2="{per_cent(x2)}" y2="{y}" class="{role}"/>'


def circle(x: float, y: str, radius: float, role: str) -> str:
    """A circle at ``x`` per cent; the radius is in pixels."""
    return f'<circle cx="{per_cent(x)}" cy="{y}" r="{radius:g}" class="{role}"/>'


def capped(x1: float, x2: float, y: int) -> list[str]:
    """A level interval bar with a whisker at each end, in the colour of what holds it."""
    ends = [upright(x, str(y - 5), str(y + 5), "whisker") for x in (x1, x2)]
    return [level(str(y), x1, x2, "interval"), *ends]


def stretched(parts: Iterable[str], height: int) -> str:
    """Paths in a square of 1000 by ``height`` that is stretched to the whole plot; strokes keep their width."""
    return f'<svg viewBox="0 0 1000 {height}" preserveAspectRatio="none">{"".join(parts)}</svg>'


def words(said: str, role: str = "") -> str:
    """Words that the page wraps."""
    return f'<span class="{role}">{escape(said)}</span>' if role else f"<span>{escape(said)}</span>"


def near(x: float, said: str, role: str) -> str:
    """Words on a line of their own, near ``x`` per cent and wholly within the plot.

    The part of the words that stands at ``x`` is as far along them as ``x`` is along the plot.
    """
    at = per_cent(min(max(x, 0), 100))
    return f'<div class="note"><span class="near {role}" style="--x:{at}">{escape(said)}</span></div>'


def scale(labels: Sequence[Label]) -> str:
    """Labels of an axis, each below its tick."""
    parts = [
        f'{upright(x, "0", "5", "grid")}<text x="{per_cent(x)}" y="18">{escape(said)}</text>' for x, said in labels
    ]
    return f'<svg class="scale">{"".join(parts)}</svg>'


def plot(parts: Iterable[str], labels: Sequence[Label], role: str = "", *, left: Sequence[str] = ()) -> str:
    """What shares one scale. Half the longest of ``labels`` has room at either side, and ``left`` at the left."""
    room = f"--end:{max((len(said) for _, said in labels), default=0)}ch"
    room += f";--left:{max(map(len, left))}ch" if left else ""
    return f'<div class="{f"plot {role}".strip()}" style="{room}">{"".join(parts)}</div>'


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend. ``shape``: "line", "dot", "ghost" (a hollow mark) or "patch"."""

    label: str
    kind: str
    shape: str = "line"


def legend(entries: Sequence[Entry]) -> str:
    """Samples with their labels, in as many rows as the page needs."""
    parts = []
    for entry in entries:
        if entry.shape == "line":
            mark = f'<line y1="6" x2="24" y2="6" class="curve kind-{entry.kind}"/>'
        elif entry.shape == "patch":
            mark = f'<rect width="12" height="12" class="patch kind-{entry.kind}"/>'
        else:
            mark = f'<circle cx="6" cy="6" r="4.5" class="{entry.shape} kind-{entry.kind}"/>'
        sample = f'<svg width="{24 if entry.shape == "line" else 12}" height="12">{mark}</svg>'
        parts.append(f"<span>{sample}{escape(entry.label)}</span>")
    return f'<div class="legend">{"".join(parts)}</div>' if parts else ""


def picture(key: str, title: str, description: str, parts: Iterable[str]) -> str:
    """The frame: ``title`` above the parts, and title and description for readers who hear the picture."""
    return (
        f'<div class="picture" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<div class="title" id="{key}-t">{escape(title)}</div>'
        f'<div id="{key}-d" hidden="">{escape(description)}</div>{"".join(parts)}</div>'
    )
