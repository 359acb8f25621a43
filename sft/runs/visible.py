"""Characters that hide, reorder or overwrite others, spelled out."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "beginning", "plain", "prompt_named", "spelled_in_json"]

#: Controls and bidirectional overrides; joiners and marks that honest scripts need are left alone.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ud800-\udfff]")


def plain(text: str, around: str = "\N{MATHEMATICAL LEFT ANGLE BRACKET}{}\N{MATHEMATICAL RIGHT ANGLE BRACKET}") -> str:
    """``text`` with every character that hides or reorders others spelled out, as in ``⟨U+202E⟩``."""
    return HIDDEN.sub(lambda found: around.format(f"U+{ord(found[0]):04X}"), text.replace("\r\n", "\n"))


def spelled_in_json(text: str) -> str:
    """JSON ``text`` in which every such character is an escape: the same value."""
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def beginning(text: str, most: int = 60) -> str:
    """The first ``most`` characters of ``text`` in one line, hidden ones spelled out; an ellipsis where more follow."""
    line = " ".join(plain(text[: 8 * most]).split())
    return line if len(line) <= most and len(text) <= 8 * most else f"{line[:most].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def prompt_named(key: str, prompt: str) -> str:
    """What a prompt is called: its beginning, and so much of its id as finds it in ``scores.jsonl``."""
    return f"prompt \u201c{beginning(prompt)}\u201d ({key[:8]})" if prompt.strip() else f"prompt {key[:8]}"
