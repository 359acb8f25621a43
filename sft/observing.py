"""What measuring left in a run, written and read back, and the whole scorecard from it: no model is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sft import fidelity
from sft.demonstrations import Demonstration, HeldOut, Message, prompt_text
from sft.errors import RunError
from sft.nearness import find_near
from sft.observations import Completion, ControlWindow, Forced, Observations, OwnPath, PromptValue, TokenScores
from sft.probes.examples import corrections
from sft.runs import Run, read_json, read_jsonl, write_json, write_jsonl
from sft.scorecards import Scorecard

__all__ = ["damaged", "observe", "read_held_out", "read_scorecard", "remeasure", "write_measurement"]

T = TypeVar("T")

#: A validation loss that fell by more than this share at its last measurement was still falling; one that ended
#: higher than its lowest by more than the other has risen.
STILL_FALLING, HAS_RISEN = 0.005, 0.02


def write_measurement(run: Run, items: Sequence[HeldOut], facts: Mapping[str, Any]) -> None:
    """Write down which prompts were measured and how: ``held-out.jsonl`` and ``measurement.json``.

    ``facts``: split, profile, systems (whose completions count), scored (whose token scores do, if others), bar,
    metrics, checker, conflicts, near_threshold, seed, signature.
    """
    write_jsonl(run.held_out_path, (asdict(item) for item in items))
    write_json(run.measurement_path, dict(facts))


def read_held_out(run: Run) -> list[HeldOut]:
    """The held-out prompts that were measured. Raises ``RunError`` where none were, or the file was altered."""
    if not run.held_out_path.exists():
        raise RunError(f"{run.path}: nothing has been measured yet; run `sft evaluate {run.path}`")
    return _each(run.held_out_path, _held_out)


def read_scorecard(run: Run) -> Scorecard:
    """The scorecard of ``run``. Raises ``RunError`` where it has none, or one that this version does not write."""
    if not run.scorecard_path.exists():
        raise RunError(f"{run.path} has no scorecard yet; write one with `sft evaluate {run.path}`")
    try:
        return Scorecard.from_dict(read_json(run.scorecard_path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its shape"
        raise damaged(run, run.scorecard_path, f"{where} that is not as this sft writes it") from None


def damaged(run: Run, path: Path, what: str) -> RunError:
    """The refusal of a file of ``run`` that holds ``what`` it should not."""
    return RunError(f"{path}: holds {what}; measure the clone again with `sft evaluate {run.path}`")


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    return HeldOut(
        id=row["id"],
        prompt=tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"]),
        references=tuple(row["references"]),
        experts=tuple(row["experts"]),
        cluster=row["cluster"],
        others=tuple((expert, text) for expert, text in row.get("others", ())),
    )


def _each(path: Path, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """Every row of ``path`` as what it stands for; nothing where there is no file."""
    if not path.exists():
        return []
    made = []
    for number, row in enumerate(read_jsonl(path), 1):
        try:
            made.append(make(row))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}:{number}: is not as this sft writes it ({error}); restore the file, or delete it and "
                "run `sft evaluate` again"
            ) from None
    return made


def _completion(row: dict[str, Any]) -> Completion:
    return Completion(**row | {"ids": tuple(row.get("ids", ()))})


def _token_scores(row: dict[str, Any]) -> TokenScores:
    sequences = ("nats", "ranks", "entropies", "confidences")
    return TokenScores(**row | {name: tuple(row.get(name, ())) for name in sequences})


def _own_path(row: dict[str, Any]) -> OwnPath:
    return OwnPath(**row | {"confidences": tuple(row["confidences"]), "hits": tuple(map(bool, row["hits"]))})


def _by_id(rows: Iterable[T], wanted: set[str]) -> dict[str, T]:
    return {row.id: row for row in rows if row.id in wanted}  # type: ignore[attr-defined]


def observe(run: Run) -> Observations:
    """Everything measured in ``run``, for the prompts of ``held-out.jsonl``. Raises ``RunError``."""
    items = read_held_out(run)
    facts = read_json(run.measurement_path)
    wanted = {item.id for item in items}
    systems = facts["systems"]
    completions = {s: _by_id(_each(run.completions_path(s), _completion), wanted) for s in systems}
    scores = {s: _by_id(_each(run.token_scores_path(s), _token_scores), wanted) for s in facts.get("scored", systems)}
    rounds = sorted(run.path.glob("samples-*.jsonl"), key=lambda path: int(path.stem.rpartition("-")[2]))
    samples = [_by_id(_each(path, _completion), wanted) for path in rounds]
    train = tuple(_demonstrations(run, "train"))
    return Observations(
        held_out=items,
        completions={s: found for s, found in completions.items() if found},
        token_scores={s: found for s, found in scores.items() if found},
        train=train,
        samples=[one for one in samples if len(one) == len(items)],
        forced=_forced(run, wanted),
        own_path=_by_id(_each(run.own_path_path, _own_path), wanted),
        control=_control(run),
        prompt_values=_each(run.prompt_values_path, lambda row: PromptValue(**row)),
        contaminated=_contaminated(run, items, train, facts.get("near_threshold", 0.8)),
        checker=facts.get("checker") or "",
        metrics=tuple(facts.get("metrics") or ()),
        curve=_curve(run),
        conflicts=facts.get("conflicts", "keep"),
    )


def _demonstrations(run: Run, split: str | None = None) -> list[Demonstration]:
    """What the run keeps of ``split``, or of all splits; nothing where there is no file."""
    if not run.demonstrations_path.exists():
        return []
    rows = read_jsonl(run.demonstrations_path)
    try:
        return [Demonstration.from_dict(row) for row in rows if split in (None, row.get("split"))]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.demonstrations_path}: is not as it was written ({error}); restore it from a copy"
        ) from None


def _forced(run: Run, wanted: set[str]) -> dict[str, list[Forced]]:
    found = {}
    for path in sorted(run.path.glob("forced-*.jsonl")):
        rows = [row for row in _each(path, lambda row: Forced(**row)) if row.id in wanted]
        if rows:
            found[path.stem.partition("-")[2]] = rows
    return found


def _control(run: Run) -> dict[str, list[ControlWindow]]:
    found = {}
    for policy in ("base", "tuned"):
        rows = _each(run.control_path(policy), lambda row: ControlWindow(**row))
        if rows:
            found[policy] = rows
    return found


def _contaminated(
    run: Run, items: Sequence[HeldOut], train: Sequence[Demonstration], threshold: float
) -> frozenset[str] | None:
    """Held-out prompts of which a near-duplicate was left in training; None where training is not known.

    A split that refused or removed near-duplicates has none: looking again without the rows that went would draw the
    line between what a prompt says and what all prompts say (``nearness``) in another place, and find others.
    """
    if not train:
        return None
    recipe = run.manifest.get("recipe") or {}
    if recipe.get("resolved", {}).get("split", {}).get("near_duplicates") in ("refuse", "remove"):
        return frozenset()
    everything = {prompt_text(d.prompt) for d in _demonstrations(run)} | {prompt_text(item.prompt) for item in items}
    asked = [prompt_text(item.prompt) for item in items]
    learned = list(dict.fromkeys(prompt_text(d.prompt) for d in train))
    near = find_near(asked, learned, threshold, corpus=sorted(everything))
    return frozenset(items[pair.row].id for pair in near)


def _curve(run: Run) -> str:
    """How the validation loss ended: "falling", "rose", "flat", or "" where it was not measured twice."""
    if not run.log_path.exists():
        return ""
    rows = read_jsonl(run.log_path)
    # A resumed run logs the steps after its checkpoint again: the last word on a step counts.
    known = {row["step"]: row["eval_loss"] for row in rows if isinstance(row.get("eval_loss"), int | float)}
    losses = [known[step] for step in sorted(known)]
    if len(losses) < 2:
        return ""
    lowest = min(losses)
    if losses[-1] > lowest * (1 + HAS_RISEN):
        return "rose"
    return "falling" if losses[-1] == lowest and losses[-1] < losses[-2] * (1 - STILL_FALLING) else "flat"


def remeasure(run: Run) -> Scorecard:
    """The whole scorecard from the files of ``run``.

    Writes ``scores.jsonl``, ``scorecard.json`` and ``corrections.jsonl``. Raises ``RunError`` where nothing was
    measured or a file was altered, ``UserError`` where nothing can be said.
    """
    observed = observe(run)
    facts = read_json(run.measurement_path)
    split = facts["split"]
    rows = fidelity.score_rows(observed.held_out, observed.completions, observed.metrics)
    card = fidelity.measure(
        observed,
        bar=facts.get("bar") or {},
        signature=facts.get("signature") or {},
        split=split,
        profile=facts.get("profile", "standard"),
        looks=sum(look.get("split") == split for look in run.looks),
        rows=rows,
        seed=facts.get("seed", 0),
    )
    write_jsonl(run.scores_path, rows)
    write_jsonl(run.corrections_path, corrections(observed.held_out, card.examples))
    write_json(run.scorecard_path, card.to_dict())
    return card
