"""Results as a notebook shows them, and as a table of pandas."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sft.runs.visible import plain

if TYPE_CHECKING:
    import pandas

__all__ = ["Tabular", "as_table"]


class Tabular:
    """A result that says what it came to in words (:meth:`to_text`) and in rows (:meth:`table`)."""

    __slots__ = ()

    def to_text(self) -> str:
        """What it came to, for a person."""
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """Its rows: column -> value, every row with the same columns."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of :meth:`table` as a data frame; pandas is imported by this call, and by nothing before it."""
        import pandas

        return pandas.DataFrame(self.table())

    def __str__(self) -> str:
        """What ``print`` shows: the words, with every character that would hide or reorder others spelled out."""
        return plain(self.to_text())

    def _repr_html_(self) -> str:
        """What Jupyter shows: the words, as a terminal shows them."""
        return f'<pre style="white-space: pre-wrap">{html.escape(str(self))}</pre>'


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """An HTML table of ``rows``, all of the same columns; text is escaped, and what is None is an empty cell."""
    if not rows:
        return ""
    heads = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    lines = (
        "<tr>" + "".join(f"<td>{html.escape('' if v is None else str(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
