"""The error family, and :class:`Problem`, one complaint with an address.

    SftError                      anything this package raises on purpose
    └── UserError                 the user can mend it: one sentence, exit status 2, no traceback
        ├── DemonstrationsError   rows that cannot become demonstrations (carries every Problem)
        ├── RecipeError           a recipe that cannot be followed       (carries every Problem)
        ├── SplitError            a split that is empty, leaks, or is not the one on record
        ├── SourceError           data or weights that cannot be obtained as named
        ├── PolicyError           a model or tokenizer that cannot serve as a policy
        ├── RunError              a run directory that cannot be used as asked
        ├── EndpointError         a server of the clone that does not answer as an OpenAI-compatible one does
        ├── TrainingError         a fit that must not go on (loss is not finite, nothing to train on)
        └── PublishError          a push that was refused before anything was sent; and, with a status of their own,
            ├── NoAccess          3  no network, no login, no right to write, or no room
            ├── OtherContent      4  the repository is not as asked: its visibility, or what it holds
            ├── Conflict          5  somebody else's commit came first; nothing of ours is in it
            ├── Unavailable       6  the hub does not answer as it should; the branch is as it was
            ├── Unsettled         7  a commit was sent and it is not known what became of it
            ├── Unverified        8  the commit is there, and a download of it is not what was sent
            └── NotAHub           9  what answers is no hub, or gives answers that none gives

Every message says where, which rule was broken, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Conflict",
    "DemonstrationsError",
    "EndpointError",
    "NoAccess",
    "NotAHub",
    "OtherContent",
    "PolicyError",
    "Problem",
    "PublishError",
    "RecipeError",
    "RunError",
    "SftError",
    "SourceError",
    "SplitError",
    "TrainingError",
    "Unavailable",
    "Unsettled",
    "Unverified",
    "UserError",
    "grouped",
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
    """Something the user can mend; the command line prints it without a traceback and exits with its status."""

    exit_status = 2


#: Further lines that are named beside the first of those with one complaint.
_NAMED = 3
_PLACES = re.compile(r"\[\d+\]")


def grouped(problems: Sequence[Problem]) -> list[str]:
    """One sentence for all lines of a file that have the same complaint: ``x.jsonl:3 and 2 more (4, 5): ...``.

    The same are those that differ in nothing but their line and the place in a list; in the order of their first lines.
    """
    same: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        field = _PLACES.sub("[]", problem.field)
        same.setdefault((problem.path, field, problem.message, problem.remedy), []).append(problem)
    # A row may have the complaint in several places of one list, and is one row all the same.
    return [
        _sentence(first, list(dict.fromkeys(p.line for p in others if p.line != first.line)))
        for first, *others in same.values()
    ]


def _sentence(first: Problem, others: Sequence[int | None]) -> str:
    if not others or first.line is None:
        return str(first)
    named = ", ".join(map(str, others[:_NAMED])) + (", ..." if len(others) > _NAMED else "")
    where = f"{first.path}:{first.line}"
    return f"{where} and {len(others):,} more ({named}){str(first).removeprefix(where)}"


class _ProblemsError(UserError):
    def __init__(self, problems: Sequence[Problem], summary: str = "") -> None:
        self.problems = tuple(problems)
        self.summary = summary
        super().__init__("\n".join([*grouped(self.problems), *([summary] if summary else [])]))


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


class EndpointError(UserError):
    """A server of the clone that cannot be asked, or does not answer as an OpenAI-compatible one does."""


class TrainingError(UserError):
    """A fit that must not go on."""


class PublishError(UserError):
    """A push that did not come to a verified end; of this very class: nothing was sent."""


class NoAccess(PublishError):
    """No network, no login, no right to write, or no room."""

    exit_status = 3


class OtherContent(PublishError):
    """The repository has another visibility than asked for, or holds something else."""

    exit_status = 4


class Conflict(PublishError):
    """The branch moved while we were pushing, and what it holds now is not ours."""

    exit_status = 5


class Unavailable(PublishError):
    """The hub does not answer, or not as it should; the branch is as it was."""

    exit_status = 6


class Unsettled(PublishError):
    """A commit was sent, no answer came, and the branch has not moved so far."""

    exit_status = 7


class Unverified(PublishError):
    """The commit is there, and what can be downloaded of it is not, or cannot be shown to be, what was sent."""

    exit_status = 8


class NotAHub(PublishError):
    """The server answers, and not as a hub does; nothing was sent."""

    exit_status = 9


def refuse_other_systems() -> None:
    """Raise ``ImportError`` with one sentence where Python lacks what Linux and macOS have (locks on files)."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise ImportError(
            "sft runs on Linux and macOS, and this Python is built for another system; on Windows install Python and "
            "sft inside WSL (`wsl --install` in a terminal)"
        ) from None
