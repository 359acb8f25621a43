"""Fidelity, floors and the verdict in the trackers that the recipe reports losses to (``training.report_to``).

The trainer tells them losses while it fits; when the clone has been measured they are told what it came to: every
system's headline with its interval, the clone's leads, guardrails, and the verdict in words. In the process that has
fitted, the tracker's own run is gone on with; later it is found by ``training.run_name``, or one begins that is called
as the folder is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sft.fidelity.scorecard import RUNGS, Scorecard
from sft.runs.processes import say
from sft.runs.run import Run, read_jsonl

__all__ = ["TOLD", "figures_of", "tell"]

#: What a figure is called, whoever keeps it.
_PREFIX = "fidelity"


def figures_of(card: Scorecard) -> dict[str, float]:
    """Name -> number: scores and leads in points with their bounds, bits per byte, guardrails, and the rung from 0.

    ``fidelity/tuned/chrf``, ``fidelity/tuned/chrf/low``, ``fidelity/lead/R``, ``fidelity/guardrail/empty``,
    ``fidelity/rung``; -1 where nothing was judged.
    """
    found: dict[str, float] = {}

    def add(name: str, estimate: Any) -> None:
        for end, value in (("", estimate.value), ("/low", estimate.low), ("/high", estimate.high)):
            if value is not None:
                found[f"{_PREFIX}/{name}{end}"] = float(value)

    for one in card.systems:
        if card.headline in one.scores:
            add(f"{one.system}/{card.headline}", one.scores[card.headline])
    for gain in card.gains:
        add(f"lead/{gain.floor}", gain.estimate)
    for system, kinds in card.bits_per_byte.items():
        for kind, estimate in kinds.items():
            add(f"{system}/bits_per_byte/{kind}", estimate)
    for rail in card.guardrails:
        add(f"guardrail/{rail.name.replace(' ', '_')}", rail.value)
    found[f"{_PREFIX}/rung"] = float(RUNGS.index(card.verdict.rung)) if card.verdict.rung in RUNGS else -1.0
    return found


def tell(run: Run, card: Scorecard, trackers: Sequence[str], run_name: str | None, project: str | None) -> None:
    """Tell ``trackers`` what ``card`` holds. A tracker that takes nothing costs a line on stderr, and not the run."""
    for name in trackers:
        if name in TOLD:
            try:
                TOLD[name](run, card, run_name or run.path.resolve().name, project)
            except Exception as error:  # whatever a service or its client does, the measurement is on the disk
                say(f"tracker   {name} took no fidelity: {type(error).__name__}: {str(error).splitlines()[:1]}")


def _words(card: Scorecard) -> dict[str, str]:
    return {f"{_PREFIX}/verdict": card.verdict.rung, f"{_PREFIX}/sentence": card.verdict.sentence}


def _step(run: Run) -> int:
    """The last step that was logged: where the clone stands in the tracker's curves."""
    steps = [row["step"] for row in read_jsonl(run.log_path) if "step" in row] if run.log_path.is_file() else []
    return max(steps, default=0)


def _tensorboard(run: Run, card: Scorecard, run_name: str, project: str | None) -> None:
    from torch.utils.tensorboard import SummaryWriter

    known = sorted((run.checkpoints_path / "runs").glob("*/"))
    folder = os.environ.get("TENSORBOARD_LOGGING_DIR") or (known[-1] if known else run.checkpoints_path / "runs" / "0")
    opened: Any = SummaryWriter  # has types where tensorboard itself is not installed, and none where it is
    with opened(log_dir=str(Path(folder).expanduser())) as writer:
        for name, value in figures_of(card).items():
            writer.add_scalar(name, value, _step(run))
        for name, text in _words(card).items():
            writer.add_text(name, text, _step(run))


def _wandb(run: Run, card: Scorecard, run_name: str, project: str | None) -> None:
    import wandb

    ours = wandb.run is None
    there = wandb.init(project=os.environ.get("WANDB_PROJECT", "huggingface"), name=run_name) if ours else wandb.run
    there.log(figures_of(card))
    there.summary.update(_words(card))
    if ours:
        there.finish()


def _mlflow(run: Run, card: Scorecard, run_name: str, project: str | None) -> None:
    import mlflow

    if experiment := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        mlflow.set_experiment(experiment)
    last = mlflow.active_run() or mlflow.last_active_run()
    name = run_name.replace("'", "")
    called, newest = f"attributes.run_name = '{name}'", ["start_time DESC"]
    known = [last] if last is not None else mlflow.search_runs(
        filter_string=called, order_by=newest, max_results=1, output_format="list"
    )  # fmt: skip
    ours = mlflow.active_run() is None
    if ours:
        mlflow.start_run(run_id=known[0].info.run_id) if known else mlflow.start_run(run_name=name)
    mlflow.log_metrics(figures_of(card), step=_step(run))
    mlflow.set_tags(_words(card))
    if ours:
        mlflow.end_run()


def _trackio(run: Run, card: Scorecard, run_name: str, project: str | None) -> None:
    import trackio

    trackio.init(project=project or "huggingface", name=run_name, resume="allow")
    trackio.log(figures_of(card) | _words(card))
    trackio.finish()


#: Trackers that are told; to the others of transformers only losses go.
TOLD: dict[str, Callable[[Run, Scorecard, str, str | None], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
