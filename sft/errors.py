"""The error family, and :class:`Problem`, one complaint with an address.

    SftError                      anything this package raises on purpose
    └── UserError                 the user can mend it: one sentence, exit status 2, no traceback
        ├── DemonstrationsError   rows that cannot become demonstrations (carries every Problem)
        ├── RecipeError           a recipe that cannot be followed       (carries every Problem)
        ├── SplitError            a split that is empty, leaks, or is not the one on record
        ├── SourceError           data or weights that cannot be obtained as named
        ├── PolicyError           a model or tokenizer that cannot serve as a policy
        ├── RunError              a run directory that cannot be used as asked
        └── TrainingError         a fit that must not go on (loss is not finite, nothing to train on)

Every message says where, which rule was broken, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "DemonstrationsError",
    "PolicyError",
    "Problem",
    "RecipeError",
    "RunError",
    "SftError",
    "SourceError",
    "SplitError",
    "TrainingError",
    "UserError",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint: where it is, what rule was broken, and what to do about it."""

    path: str
    line: int | None
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        what = f"'{self.field}' {self.message}" if self.field else self.message
        return f"{where}: {what}; {self.remedy}"


class SftError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(SftError):
    """Something the user can mend; the command line prints it without a traceback and exits 2."""


class _ProblemsError(UserError):
    def __init__(self, problems: Sequence[Problem], summary: str = "") -> None:
        self.problems = tuple(problems)
        self.summary = summary
        super().__init__("\n".join([*map(str, self.problems), *([summary] if summary else [])]))


class DemonstrationsError(_ProblemsError):
    """Rows that cannot become demonstrations; ``problems`` holds all of them, not the first."""


class RecipeError(_ProblemsError):
    """A recipe that cannot be followed; ``problems`` holds every complaint about it."""


class SplitError(UserError):
    """A split that is empty, leaks, or differs from the one on record."""


class SourceError(UserError):
    """Demonstrations or weights that cannot be obtained as named."""


class PolicyError(UserError):
    """A model or tokenizer that cannot serve as a policy."""


class RunError(UserError):
    """A run directory that cannot be used as asked."""


class TrainingError(UserError):
    """A fit that must not go on."""
