"""How the clone was made: the losses, and what became of every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft.demonstrations.ledger import FATES, Ledger
from sft.reports import charts
from sft.reports.charts import Line, Share
from sft.reports.text import grouped

__all__ = ["fate_kind", "ledger_picture", "losses", "losses_picture"]


#: Fate -> class of its colour.
_FATE_KINDS = {"trained": "tuned", "validation": "held", "test": "expert"}


def fate_kind(fate: str) -> str:
    """The class that gives ``fate`` its colour."""
    return _FATE_KINDS.get(fate, f"lost-{fate.replace('_', '-')}")


def ledger_picture(ledger: Ledger) -> Markup:
    """Every row's fate as one bar; nothing for a ledger without rows."""
    parts = [Share(fate.replace("_", " "), ledger.fates.get(fate, 0), fate_kind(fate)) for fate in FATES]
    if not any(part.count for part in parts):
        return Markup()
    return Markup(charts.shares(parts, key="ledger", title="What became of every row"))


def losses(log: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Losses by step and where validation was best; None without a single loss.

    A resumed run logs the steps after its checkpoint again: the last word on a step counts.
    """

    def curve(name: str) -> list[tuple[int, float]]:
        return sorted({r["step"]: r[name] for r in log if "step" in r and isinstance(r.get(name), int | float)}.items())

    train, held = curve("loss"), curve("eval_loss")
    if not train and not held:
        return None
    # What the fit began from is none of the checkpoints that the clone is chosen among.
    chosen = [point for point in held if point[0]] or held
    best = min(chosen, key=lambda point: (point[1], point[0])) if chosen else None
    last = max(step for step, _ in [*train, *held])
    tokens = [r["tokens"] for r in log if isinstance(r.get("tokens"), int | float)]
    return {
        "train": train,
        "held": held,
        "best": best,
        "steps": last,
        "rose": bool(best and held[-1][1] > best[1] * 1.02),
        "tokens": grouped(int(tokens[-1])) if tokens else "",
    }


def losses_picture(log: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The loss curves, where the log holds losses."""
    training = losses(log)
    if training:
        yield "losses", _loss_curves(training)


def _loss_curves(training: Mapping[str, Any]) -> str:
    lines = []
    if training["train"]:
        lines.append(Line("training", training["train"], "other", beads=len(training["train"]) < 4))
    if training["held"]:
        step, loss = training["best"]
        mark = (step, loss, f"lowest: {loss:.3f} at step {step}")
        lines.append(Line("validation", training["held"], "tuned", beads=True, mark=mark))
    said = f"Loss by training step, over {training['steps']} steps."
    if training["best"]:
        said += f" Validation is lowest, {training['best'][1]:.3f}, at step {training['best'][0]}."
    return charts.curves(
        lines,
        key="losses",
        title="Loss during training",
        description=said,
        x_axis="training step",
        y_axis="loss (nats per token)",
    )
