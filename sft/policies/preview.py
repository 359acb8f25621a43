"""What the model will see, as text: the supervised tokens marked, everything invisible made visible."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from sft.demonstrations.demonstration import Demonstration
from sft.policies.rendering import Rendered, decode_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["preview", "visible"]

OPEN, CLOSE = "⟦", "⟧"
NEWLINE = "⏎\n"
_RESET, _CONTEXT, _CONTROL = "\x1b[0m", "\x1b[2m", "\x1b[2;36m"
_SUPERVISED, _SUPERVISED_CONTROL = "\x1b[30;42m", "\x1b[1;30;42m"
# Joiners within emoji and scripts; other format characters can reorder or hide what is on the screen.
_JOINERS = "\u200c\u200d"


def preview(rows: Iterable[tuple[Demonstration, Rendered]], tokenizer: PreTrainedTokenizerBase, *, color: bool) -> str:
    """Rows as a person can check them, then their totals; ends with a newline.

    Supervised tokens stand on a green background with ``color`` (for a terminal), else between ⟦ and ⟧.
    Newlines show as ⏎; special tokens are written out; control characters of the data are escaped, so
    no row can drive the terminal it is shown on. Each row: its file and line, its token counts, its text.
    """
    special = {index: t.content for index, t in tokenizer.added_tokens_decoder.items() if t.special}
    marked = "on green" if color else f"between {OPEN} and {CLOSE}"
    blocks = [f"Supervised tokens stand {marked}; ⏎ is a newline."]
    totals = [0, 0, 0]
    for demonstration, rendered in rows:
        source = demonstration.source
        where = f"{source.file}:{source.line}" if source else f"demonstration {demonstration.id}"
        context, supervised = len(rendered.prompt_ids), len(rendered.completion_ids)
        totals = [totals[0] + 1, totals[1] + context, totals[2] + supervised]
        head = f"{visible(where, marks=False)}  {context} context + {supervised} supervised tokens"
        parts = [f"\x1b[1m{head}{_RESET}\n" if color else f"{head}\n"]
        pairs = zip(rendered.input_ids, rendered.completion_mask, strict=True)
        runs = groupby(pairs, key=lambda pair: (pair[1], pair[0] in special))
        inside = 0
        for (mask, is_special), run in runs:
            ids = [token for token, _ in run]
            text = "".join(special[i] for i in ids) if is_special else decode_tokens(tokenizer, ids)
            text = visible(text, marks=not color)
            if color:
                shades = ((_CONTEXT, _CONTROL), (_SUPERVISED, _SUPERVISED_CONTROL))
                parts.append(_painted(text, shades[mask][is_special]))
            else:
                parts.append(OPEN + text if mask > inside else text)
            inside = mask
        blocks.append("".join(parts) + ("" if color else CLOSE))
    blocks.append(f"{totals[0]} shown: {totals[1]} context tokens, {totals[2]} supervised tokens")
    return "\n\n".join(blocks) + "\n"


def visible(text: str, *, marks: bool) -> str:
    r"""``text`` with newlines as ⏎ and other control characters escaped (ESC as ``\x1b``).

    ``marks`` escapes ⟦ and ⟧ too, which mark supervised tokens where there is no colour.
    """
    return "".join(map(_visible_marks if marks else _visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return NEWLINE
    if character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def _visible_marks(character: str) -> str:
    return f"\\u{ord(character):04x}" if character in (OPEN, CLOSE) else _visible(character)


def _painted(text: str, shade: str) -> str:
    """``text`` in ``shade``, line by line: a background carried over a newline fills the whole row."""
    return "\n".join(f"{shade}{line}{_RESET}" if line else "" for line in text.split("\n"))
