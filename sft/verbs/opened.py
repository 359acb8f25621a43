"""A run as a notebook has it: the folder, its scorecard, and its held-out prompts with what every system wrote."""

from __future__ import annotations

import html
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.runs.run import Run, trained_policy
from sft.runs.tabular import Tabular

if TYPE_CHECKING:
    from sft.demonstrations.demonstration import Demonstration
    from sft.fidelity.scorecard import Scorecard
    from sft.training.fitting import Fitted
    from sft.verbs.served import ServedClone

__all__ = ["OpenedRun", "open_run"]


class OpenedRun(Tabular, Run):
    """A :class:`~sft.runs.run.Run` with what is on file about its clone. Everything is read when it is asked for.

    ``fitted``: how the fit ended, of a run that ``sft.run`` or ``sft.train`` has just fitted; ``served``: what the
    server wrote that ``sft.evaluate`` has just asked; None of any other.
    """

    fitted: Fitted | None = None
    served: ServedClone | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it is on disk now: the run may have been measured again since it was opened."""
        return Run.open(self.path).manifest

    @property
    def is_trained(self) -> bool:
        """Whether there is a clone."""
        return trained_policy(self) is not None

    @property
    def is_measured(self) -> bool:
        """Whether there is a scorecard."""
        return self.scorecard_path.is_file()

    @property
    def scorecard(self) -> Scorecard:
        """The scorecard. Raises ``RunError`` where nothing was measured, or the file was altered."""
        from sft.fidelity.stored import read_scorecard

        return read_scorecard(self)

    @property
    def report(self) -> Path:
        """The report for a browser, where it is written."""
        return self.report_html_path

    def demonstrations(self, split: str = "train") -> list[Demonstration]:
        """Those of ``split``: "train", "validation" or "test". Raises ``RunError``, ``KeyError`` for another name."""
        from sft.demonstrations.stored import parts

        return list(parts(self)[split])

    def losses(self) -> list[dict[str, Any]]:
        """The lines of the training log: step, loss, eval_loss, learning_rate, as the trainer wrote them."""
        from sft.runs.atomic_files import read_jsonl

        return list(read_jsonl(self.log_path)) if self.log_path.is_file() else []

    @property
    def loss_before(self) -> float | None:
        """Validation loss before the first step, nats per supervised token; None where nobody looked then."""
        return next((row["eval_loss"] for row in self.losses() if row.get("step") == 0 and "eval_loss" in row), None)

    def fit_to_dict(self) -> dict[str, Any]:
        """How training ended, JSON-ready: folder, steps, validation loss; "reused" where none was made just now."""
        done = self.fitted
        found = {"run": str(self.path), "trained": self.is_trained, "reused": done is None}
        return found if done is None else found | {"steps": done.steps, "validation_loss": done.eval_loss}

    def to_text(self) -> str:
        """The verdict and where the report is, or what a server wrote; before there is one, what to do next."""
        if self.served is not None:
            return f"{self.path}\n{self.served.to_text()}"
        if self.is_measured:
            return f"{self.path}\n{self.scorecard.to_text()}\nReport: {self.report}"
        if self.is_trained:
            return f"{self.path}: trained, not measured yet; measure it with sft.evaluate({str(self.path)!r})"
        return f"{self.path}: not trained yet; go on with sft.train(RECIPE, output={str(self.path)!r}, resume=True)"

    def table(self) -> list[dict[str, Any]]:
        """A row for each held-out prompt and system: what the experts and the system wrote, and every score in points.

        Raises ``RunError`` where nothing was measured.
        """
        from sft.demonstrations.demonstration import prompt_text
        from sft.fidelity.stored import read_held_out
        from sft.runs import sealed

        asked = {item.id: item for item in read_held_out(self)}
        scores = sealed.rows(self, self.scores_path)
        written: dict[tuple[str, str], str] = {}
        for system in dict.fromkeys(row["system"] for row in scores):
            if (path := self.completions_path(system)).is_file():
                written |= {(system, row["id"]): row["text"] for row in sealed.rows(self, path)}
        columns = dict.fromkeys(name for row in scores for name in row)
        return [
            {
                "id": row["id"],
                "system": row["system"],
                "prompt": prompt_text(asked[row["id"]].prompt),
                "references": list(asked[row["id"]].references),
                "completion": written.get((row["system"], row["id"])),
            }
            | {name: row.get(name) for name in columns if name not in ("id", "system")}
            for row in scores
            if row["id"] in asked
        ]

    def _repr_html_(self) -> str:
        """What Jupyter shows: the scorecard, and a link to the report."""
        if self.served is not None or not self.is_measured:
            return super()._repr_html_()
        page = html.escape(str(self.report), quote=True)
        return f'{self.scorecard._repr_html_()}<p>Report: <a href="{page}">{page}</a></p>'


def open_run(path: str | PathLike[str]) -> OpenedRun:
    """The run in the folder ``path``, for reading. Raises ``RunError`` for a folder that is no run."""
    return OpenedRun.open(path)
