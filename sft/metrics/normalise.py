"""What may be set aside before two texts are compared, each a function of a text. Nothing is, unless asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["NORMALISERS", "normaliser"]

_FENCE = re.compile(r"\s*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1\s*", re.DOTALL)
_THINK = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)


def _without_fence(text: str) -> str:
    """What stands inside a Markdown fence, where the text is nothing else."""
    found = _FENCE.fullmatch(text)
    return found[2] if found else text


def _without_thinking(text: str) -> str:
    """``text`` without what stands between ``<think>`` and ``</think>``; one that is never closed goes to the end."""
    return _THINK.sub("", text).strip() if _THINK.search(text) else text


def _with_plain_space(text: str) -> str:
    """White space of any kind and length as one blank, and none at the ends."""
    return " ".join(text.split())


#: Name in ``fidelity.normalise`` -> what it does, in the order in which they are applied.
NORMALISERS: dict[str, Callable[[str], str]] = {
    "think": _without_thinking,
    "fence": _without_fence,
    "case": str.casefold,
    "space": _with_plain_space,
}


def normaliser(names: Sequence[str]) -> Callable[[str], str]:
    """All of ``names``, in the order of :data:`NORMALISERS`. Raises ``KeyError`` for a name that is none of them."""
    for name in names:
        NORMALISERS[name]
    chosen = [function for name, function in NORMALISERS.items() if name in names]

    def normalised(text: str) -> str:
        for function in chosen:
            text = function(text)
        return text

    return normalised
