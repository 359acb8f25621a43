"""The clone as a server writes it, beside the clone as it was measured: ``sft.evaluate(run, endpoint=URL)``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import UserError
from sft.runs.tabular import Tabular
from sft.verbs.quiet import quiet

if TYPE_CHECKING:
    from sft.fidelity.served import Serving

__all__ = ["PATIENCE_SECONDS", "ROUTES", "ServedClone", "ask_server", "refuse_alone", "refuse_beside"]

#: chat: the server renders the messages. completions: it gets the run's rendered prompt.
ROUTES = ("chat", "completions")
#: How long a server may be asked again that is starting, busy or failing.
PATIENCE_SECONDS = 86_400.0
#: Seconds that one answer may take; a large model on a few cores writes for minutes.
_ANSWER_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ServedClone(Tabular):
    """What a server wrote beside what ``run`` was measured by. ``answers``: the file with its texts."""

    comparison: Serving
    run: Path
    answers: Path

    def to_text(self) -> str:
        """Whether the served text is the measured text, and where it is not, why, and which line mends it."""
        from sft.reports.served import to_text

        return f"{to_text(self.comparison, self.run)}\n\nAnswers: {self.answers}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; "identical" is true or false."""
        return self.comparison.to_dict()

    def table(self) -> list[dict[str, Any]]:
        """A row for each prompt whose texts part: where, why, both texts, and their scores in points."""
        return [
            {name: value for name, value in asdict(one).items() if name != "scores"}
            | dict(zip(("measured_score", "served_score"), one.scores, strict=True))
            for one in self.comparison.partings
        ]


def refuse_alone(given: Mapping[str, object]) -> None:
    """Raise ``UserError`` for the first of ``given`` that has a value: it says something about a server."""
    for name, value in given.items():
        if value is not None:
            raise UserError(f"--{name.replace('_', '-')}: goes with --endpoint URL, the server of the clone")


def refuse_beside(given: Mapping[str, object]) -> None:
    """Raise ``UserError`` for the first of ``given`` that has a value: it is no question to a server."""
    for name, value in given.items():
        if value not in (None, [], ()):
            shown = f"--{value}" if name == "profile" else f"--{name.replace('_', '-')}"
            raise UserError(f"{shown}: does not go with --endpoint, which asks for what the run was measured on")


def ask_server(
    target: Path,
    address: str,
    *,
    model: str | None,
    route: str | None,
    parallel: int | None,
    patience: float | None,
    output: Path | None,
    max_prompts: int | None,
) -> ServedClone:
    """Ask the server at ``address`` for the prompts that the run in ``target`` was measured on; ``evaluate`` says more.

    Raises ``UserError``.
    """
    from sft.runs.processes import rank_and_world
    from sft.runs.run import Run

    _refuse_unfit(route, parallel, patience)
    if rank_and_world()[1] > 1:
        raise UserError("--endpoint: takes one process, which asks --parallel N prompts at once; start it once")
    folder = output or target
    inside = folder.resolve() == target.resolve()
    with quiet(), Run.open(target, writing=inside) as run:
        from sft.evaluation.endpoint import KEY, Endpoint
        from sft.evaluation.served import ANSWERS, Settings, measure_served
        from sft.runs.patience import Patience

        lasting = Patience.lasting(60.0 if patience is None else patience, answer_seconds=_ANSWER_SECONDS)
        settings = Settings(model or "", route or "chat", 4 if parallel is None else parallel, max_prompts)
        with (
            Endpoint(address, os.environ.get(KEY, ""), lasting) as endpoint,
            run.session() if inside else nullcontext(),
        ):
            found = measure_served(run, folder, endpoint, settings)
    return ServedClone(found, run.path, folder / ANSWERS)


def _refuse_unfit(route: str | None, parallel: int | None, patience: float | None) -> None:
    """Raise ``UserError`` for what the command line's own words do not let through."""
    if route is not None and route not in ROUTES:
        raise UserError(f"--route: {route[:40]!r} is none; write {' or '.join(ROUTES)}")
    if parallel is not None and parallel < 1:
        raise UserError(f"--parallel: {parallel} prompts at once are none; give 1 or more")
    if patience is not None and not 0 <= patience <= PATIENCE_SECONDS:
        raise UserError(f"--patience: {patience} is no number of seconds up to {PATIENCE_SECONDS:.0f}; give one, such "
                        "as 60")  # fmt: skip
