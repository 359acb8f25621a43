"""Which pictures a report shows: from a scorecard, a training log and a ledger to drawings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft import drawings, metrics
from sft.drawings import Bars, Dot, Line, Share
from sft.ledger import FATES, Ledger
from sft.phrases import metric_name, system_name
from sft.runs import Run, read_jsonl
from sft.scorecards import Scorecard
from sft.typography import figure, grouped

__all__ = ["WIDTHS", "fate_kind", "ledger_pictures", "losses", "pictures"]

#: Widths of a picture, in CSS pixels: on a desk, on a phone.
WIDTHS = (800, 342)
#: Fate, and system -> class of its colour.
_FATE_KINDS = {"trained": "tuned", "validation": "held", "test": "expert"}
_KINDS = {"tuned": "tuned", "B0": "base", "B3": "base3", "E": "expert"}


def fate_kind(fate: str) -> str:
    """The class that gives ``fate`` its colour."""
    return _FATE_KINDS.get(fate, f"lost-{fate.replace('_', '-')}")


def ledger_pictures(ledger: Ledger) -> list[Markup]:
    """Every row's fate as one bar, at each of WIDTHS; nothing for a ledger without rows."""
    parts = [Share(fate.replace("_", " "), ledger.fates.get(fate, 0), fate_kind(fate)) for fate in FATES]
    if not any(part.count for part in parts):
        return [Markup()] * len(WIDTHS)
    title = "What became of every row"
    return [Markup(drawings.shares(parts, key="ledger", title=title, width=width)) for width in WIDTHS]


def losses(log: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Losses by step and where validation was best; None without a single loss.

    A resumed run logs the steps after its checkpoint again: the last word on a step counts.
    """

    def curve(name: str) -> list[tuple[int, float]]:
        return sorted({r["step"]: r[name] for r in log if "step" in r and isinstance(r.get(name), int | float)}.items())

    train, held = curve("loss"), curve("eval_loss")
    if not train and not held:
        return None
    best = min(held, key=lambda point: (point[1], point[0])) if held else None
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


def pictures(run: Run, card: Scorecard, log: Sequence[Mapping[str, Any]]) -> dict[str, list[Markup]]:
    """Picture -> drawn at each of WIDTHS; a picture with nothing to show is left out."""
    drawn: dict[str, list[Markup]] = {}
    for width in WIDTHS:
        for name, svg in _drawn(run, card, log, width):
            drawn.setdefault(name, []).append(Markup(svg))
    return drawn


def _drawn(run: Run, card: Scorecard, log: Sequence[Mapping[str, Any]], width: int) -> Iterator[tuple[str, str]]:
    name = metric_name(card.headline)
    scored = [(s.system, s.scores[card.headline]) for s in card.systems if card.headline in s.scores]
    systems = [
        Dot(system_name(s), e.value, e.low, e.high, figure(e), _KINDS.get(s, "other"), strong=s == "tuned")
        for s, e in sorted(scored, key=lambda pair: -pair[1].value)
    ]
    if systems:
        yield (
            "systems",
            drawings.dots(
                systems,
                key="systems",
                title=f"{name} of every system, with 95 % intervals",
                width=width,
                axis=f"{name}, agreement with the expert (points of 100)",
            ),
        )
    gains = [
        Dot(
            f"over {system_name(g.floor)}",
            g.estimate.value,
            g.estimate.low,
            g.estimate.high,
            figure(g.estimate, signed=True),
            "tuned",
            strong=g.floor == card.gain.floor,
        )
        for g in sorted(card.gains, key=lambda g: g.estimate.value)
    ]
    if gains:
        yield (
            "gains",
            drawings.dots(
                gains,
                key="gains",
                title=f"How many {name} points the clone gains over each shortcut",
                width=width,
                axis=f"clone minus shortcut ({name} points)",
                signed=True,
            ),
        )
    training = losses(log)
    if training:
        yield "losses", _loss_curves(training, width)
    curves = [
        Line(
            system_name(system),
            [(0, 1.0), *((p.token, p.share) for p in points)],
            _KINDS.get(system, "other"),
            band=[(0, 1.0, 1.0), *((p.token, p.low, p.high) for p in points)],
            steps=True,
        )
        for system, points in card.survival.items()
        if points and system in ("tuned", "B0")
    ]
    if curves:
        yield (
            "survival",
            drawings.curves(
                curves,
                key="survival",
                title="Still on the expert's path",
                width=width,
                percent=True,
                description="Share of held-out completions whose first tokens the policy would have written exactly "
                "as the expert did, by number of tokens; bands are 95 % intervals.",
                x_axis="tokens into the expert's completion",
            ),
        )
    lengths = [("expert", _expert_lengths(run, card)), *((s, card.lengths.get(s, ())) for s in ("tuned", "B0"))]
    strips = [
        Bars("the expert" if s == "expert" else system_name(s), values, _KINDS.get(s, "expert"))
        for s, values in lengths
        if values
    ]
    if len(strips) > 1:
        yield (
            "lengths",
            drawings.histograms(
                strips, key="lengths", title="Words per completion", width=width, axis="words per completion"
            ),
        )


def _loss_curves(training: Mapping[str, Any], width: int) -> str:
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
    return drawings.curves(
        lines, key="losses", title="Loss during training", description=said, width=width, x_axis="training step"
    )


def _words(text: str) -> int:
    return len(metrics.words(text)) or len(text.split())


def _expert_lengths(run: Run, card: Scorecard) -> tuple[int, ...]:
    """Words of the experts' completions of the held-out prompts, as far as the run's files tell."""
    if card.lengths.get("expert"):
        return card.lengths["expert"]
    paths = (run.completions_path("tuned"), run.demonstrations_path)
    if not all(path.exists() for path in paths):
        return ()
    ids = {row.get("id") for row in read_jsonl(paths[0])}
    rows = read_jsonl(paths[1])
    return tuple(_words(str(row.get("completion", ""))) for row in rows if row.get("id") in ids)
