"""What was found: named, numbered and addressed, and never repeated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret. ``id``: of its kind and its value, the same in every file and every time, so that it can be allowed.

    ``path``: as it was given. ``excerpt``: what may be shown of it. ``line``: 1-based; None where there are no lines.
    ``others``: the addresses of the other rows that have it.
    """

    id: str
    path: str
    what: str
    excerpt: str
    line: int | None = None
    others: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where a person finds it: ``path:line``, or ``path``."""
        return self.path if self.line is None else f"{self.path}:{self.line}"

    def __str__(self) -> str:
        return f"{self.address}{self._elsewhere()}: {self.what}, {self.excerpt} (id {self.id})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"address": self.address, "others": list(self.others)}

    def _elsewhere(self, shown: int = 3) -> str:
        named = list(self.others[:shown])
        if len(self.others) > shown:
            named.append(f"{len(self.others) - shown:,} more")
        return f" (also {', '.join(named)})" if named else ""
