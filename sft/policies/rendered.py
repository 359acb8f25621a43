"""What rendering gives: :class:`Rendered` rows, counted, divided by their length, and shown as text."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from sft.demonstrations.demonstration import Demonstration
from sft.errors import DemonstrationsError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, init=False)
class Rendered:
    """One demonstration as a model sees it. Lengths equal; mask 0 (context) up to the completion, then 1.

    Held as four bytes a token and the number of context tokens: a million rows of tuples would fill the memory.
    Raises ``ValueError`` when built from anything else; a row without a supervised token trains nothing.
    """

    packed: bytes
    context: int

    def __init__(self, input_ids: Sequence[int], completion_mask: Sequence[int]) -> None:
        supervised = sum(completion_mask)
        context = len(completion_mask) - supervised
        if len(input_ids) != len(completion_mask):
            raise ValueError(f"{len(input_ids)} ids but a mask of {len(completion_mask)}")
        if supervised < 1 or tuple(completion_mask) != (0,) * context + (1,) * supervised:
            raise ValueError("the mask must be zeros followed by at least one 1")
        object.__setattr__(self, "packed", array("i", input_ids).tobytes())
        object.__setattr__(self, "context", context)

    @classmethod
    def of_packed(cls, packed: bytes, context: int) -> Rendered:
        """From ids of four bytes each, in this machine's order, of which the first ``context`` are not supervised."""
        if not 0 <= context < len(packed) // 4 or len(packed) % 4:
            raise ValueError(f"{context} context tokens do not fit {len(packed)} bytes of ids")
        row = object.__new__(cls)
        object.__setattr__(row, "packed", packed)
        object.__setattr__(row, "context", context)
        return row

    @property
    def input_ids(self) -> tuple[int, ...]:
        """All ids, context first."""
        return tuple(memoryview(self.packed).cast("i"))

    @property
    def completion_mask(self) -> tuple[int, ...]:
        """1 for every supervised token, 0 for the context."""
        return (0,) * self.context + (1,) * (len(self) - self.context)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The context: what generation is given."""
        return tuple(memoryview(self.packed).cast("i")[: self.context])

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """The supervised tokens, end of turn last."""
        return tuple(memoryview(self.packed).cast("i")[self.context :])

    def __len__(self) -> int:
        return len(self.packed) // 4

    def __repr__(self) -> str:
        return f"Rendered({self.input_ids}, context={self.context})"


@dataclass(frozen=True, slots=True)
class Census:
    """Lengths in tokens. Each of ``prompt``, ``completion``, ``total``: {"50", "90", "99", "100": percentile}."""

    rows: int
    prompt_tokens: int
    completion_tokens: int
    prompt: dict[str, int]
    completion: dict[str, int]
    total: dict[str, int]


def census(rows: Iterable[Rendered]) -> Census:
    """Count tokens and find the nearest-rank percentiles of their numbers; no rows give zeros."""
    pairs = [(row.context, len(row) - row.context) for row in rows]

    def quantiles(values: list[int]) -> dict[str, int]:
        ranked = sorted(values) or [0]
        return {str(q): ranked[max(0, -(-len(ranked) * q // 100) - 1)] for q in (50, 90, 99, 100)}

    prompts, completions = [p for p, _ in pairs], [c for _, c in pairs]
    return Census(
        len(pairs), sum(prompts), sum(completions),
        quantiles(prompts), quantiles(completions), quantiles([p + c for p, c in pairs]),
    )  # fmt: skip


def divided(
    demonstrations: Sequence[Demonstration],
    rows: Sequence[Rendered],
    problems: Sequence[Problem] = (),
    *,
    max_length: int | None,
    too_long: Literal["refuse", "drop"],
) -> tuple[list[tuple[Demonstration, Rendered]], list[tuple[Demonstration, Rendered]]]:
    """What :meth:`Renderer.render_all` makes of demonstrations that are rendered already, one of ``rows`` each."""
    kept: list[tuple[Demonstration, Rendered]] = []
    longer: list[tuple[Demonstration, Rendered]] = []
    found = list(problems)
    for demonstration, rendered in zip(demonstrations, rows, strict=True):
        if max_length is None or len(rendered) <= max_length:
            kept.append((demonstration, rendered))
            continue
        longer.append((demonstration, rendered))
        if too_long == "refuse":
            found.append(
                Problem(*where_of(demonstration), "", f"is {len(rendered)} tokens long, max_length is {max_length}",
                        "raise training.max_length, shorten it, or set training.too_long to drop")
            )  # fmt: skip
    if found:
        raise DemonstrationsError(found)
    return kept, longer


def where_of(demonstration: Demonstration) -> tuple[str, int | None]:
    """The file and line of a complaint about ``demonstration``; its id where it came from no file."""
    source = demonstration.source
    return (source.file, source.line) if source else (f"demonstration {demonstration.id}", None)


# -- as text ----------------------------------------------------------------------------------------------------


def decode_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ``ids`` as it stands within a sequence.

    Decoders of the SentencePiece family drop the space that begins a sequence; here nothing is dropped.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False)
    head, text = (
        tokenizer.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for part in (anchor, [*anchor, *ids])
    )
    return text.removeprefix(head)


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
        file, line = where_of(demonstration)
        where = file if line is None else f"{file}:{line}"
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
