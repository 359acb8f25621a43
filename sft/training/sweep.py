"""Which settings? Every combination of a grid fitted, and the one of the lowest validation loss written as a recipe.

Optuna keeps the record (a journal in the folder) and ends what is worse than the median of the others at the same look
(Golovin et al. 2017). Each trial is a run; the same command goes on where it was, with the checkpoint of the trial that
was killed. The test rows are never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sft.demonstrations.selection import gather
from sft.demonstrations.splits import Splits
from sft.demonstrations.stored import load_splits
from sft.errors import RunError, SplitError, TrainingError, UserError
from sft.recipes import Resolved
from sft.recipes.grid import Swept, Tried
from sft.runs.atomic_files import open_append, write_json, write_text
from sft.runs.hashes import fingerprint
from sft.runs.processes import say
from sft.runs.run import Run, read_jsonl
from sft.training.fit import fit
from sft.training.several import begun_with, data_of
from sft.training.start import begin, fetch_data

__all__ = ["sweep"]

#: Looks before which nothing is ended early, and trials that are fitted to their end in any case.
FIRST_LOOKS, FIRST_TRIALS = 2, 2


def sweep(combinations: Sequence[tuple[dict[str, str], Resolved]], place: Path, *, prune: bool = True) -> Swept:
    """Fit what is missing of ``combinations`` in the folder ``place``, and write ``sweep.json`` and ``recipe.yaml``.

    Raises ``UserError``: optuna is not there, the folder holds another sweep, or no combination could be fitted.
    """
    optuna = _engine()
    parts = _parts(combinations[0][1])
    facts = {"recipes": {_name(values): resolved.recipe.fingerprint() for values, resolved in combinations}}
    with begun_with(facts | {"data": data_of(parts)}, place, beside=("optuna.journal",)):
        say(f"sweep     {len(combinations):,} combinations")
        return _every(combinations, optuna, place, prune=prune)


def _parts(resolved: Resolved) -> Splits:
    """What every combination is fitted to and judged on. Raises ``SplitError`` where there is nothing to judge on."""
    fetch_data(resolved.recipe)
    parts = gather(resolved.recipe).splits
    if not parts.validation:
        raise SplitError("split.validation: holds nothing, and a sweep goes by its loss; hold out a tenth")
    return parts


def _every(combinations: Sequence[tuple[dict[str, str], Resolved]], optuna: Any, place: Path, *, prune: bool) -> Swept:
    study = _study(optuna, place, prune=prune)
    early = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
    if early and not prune:
        raise RunError(
            f"{place}: {early} of its combinations {'was' if early == 1 else 'were'} ended early, and --no-pruning "
            "fits each to its end; leave it out, or name another folder with --output"
        )
    by_name = {_name(values): (values, resolved) for values, resolved in combinations}
    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    if any(trial.state in over and not _is_there(trial, place) for trial in study.trials):
        # Somebody has deleted a fit. A new record takes up the others in their order, so that this one is ended early
        # by those before it and not by all.
        (place / "optuna.journal").unlink()
        study = _study(optuna, place, prune=prune)
    done = {trial.params["run"] for trial in study.trials if trial.state in over}
    waiting = {trial.system_attrs["fixed_params"]["run"] for trial in study.trials
               if trial.state == optuna.trial.TrialState.WAITING}  # fmt: skip

    def objective(trial: Any) -> float:
        name = trial.suggest_categorical("run", list(by_name))
        values, resolved = by_name[name]
        say(f"sweep     {name}: {', '.join(f'{key}={value}' for key, value in values.items())}")
        ended = _fitted(resolved, place / name, trial)
        if ended:
            raise optuna.TrialPruned
        tried = _tried(place / name, values, "whole")
        return math.inf if tried.loss is None else tried.loss

    # One by one, so that one that was killed is the next again: what is ended early hangs on what came before it.
    for name in by_name:
        if name in done:
            say(f"sweep     reused: {name}")
            continue
        if name not in waiting:
            study.enqueue_trial({"run": name})
        study.optimize(objective, n_trials=1)
    states = {trial.params["run"]: trial for trial in study.trials if trial.state in over}
    tried = []
    for name, (values, _) in by_name.items():
        trial = states[name]
        state = "stopped early" if trial.state == optuna.trial.TrialState.PRUNED else "whole"
        fault = str(trial.user_attrs.get("fault", ""))
        tried.append(_tried(place / name, values, "failed" if fault else state, fault))
    return _written(tuple(tried), by_name, place)


def _is_there(trial: Any, place: Path) -> bool:
    """Whether it can be read what became of ``trial``."""
    return "fault" in trial.user_attrs or (place / trial.params["run"] / "log.jsonl").exists()


def _engine() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError('sft sweep: needs optuna; pip install "behavioral-cloning[sweep]"') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: Any, place: Path, *, prune: bool) -> Any:
    """Optuna's record of this sweep, in a file of the folder. Raises ``RunError`` where it cannot be read."""
    from optuna.storages.journal import JournalFileBackend

    path = place / "optuna.journal"
    pruner = optuna.pruners.MedianPruner(FIRST_TRIALS, FIRST_LOOKS) if prune else optuna.pruners.NopPruner()
    if path.exists():
        with open_append(path):  # which cuts off a last line that was torn by a kill: optuna would write on in it
            pass
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(study_name="sweep", storage=storage, pruner=pruner, load_if_exists=True)
    except OSError:
        raise
    except Exception as error:  # whatever optuna trips over in a line
        reason = " ".join(str(error).split())[:160]
        raise RunError(
            f"{path}: is damaged ({type(error).__name__}: {reason}); delete it, and run the same command again: what "
            "was fitted is used again"
        ) from error


def _name(values: Mapping[str, str]) -> str:
    """What the run of a combination is called: the same whatever the order of the grid."""
    return f"trial-{fingerprint(dict(values))[:8]}"


def _fitted(resolved: Resolved, folder: Path, trial: Any) -> bool:
    """Fit one combination, or the rest of it; whether it was ended early. What cannot be fitted is on record."""
    there = (folder / "manifest.json").exists()
    ended = False
    looks = 0

    def looked(step: int, loss: float) -> bool:
        nonlocal looks, ended
        looks += 1
        trial.report(loss, looks)
        ended = trial.should_prune()
        return ended

    try:
        with begin(resolved, folder, resume=there) as run:
            if fit(run, resolved.recipe, resume=there, looked=looked) is None:  # killed before it was on record
                for step, loss in _looks(read_jsonl(run.log_path)):
                    looked(step, loss)
    except TrainingError as error:
        trial.set_user_attr("fault", str(error))
        say(f"sweep     failed: {error}")
    return ended


def _looks(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, float], ...]:
    """(step, validation loss) of every look in the ``rows`` of a log."""
    return tuple((row["step"], row["eval_loss"]) for row in rows if isinstance(row.get("eval_loss"), float))


def _tried(folder: Path, values: Mapping[str, str], state: str, fault: str = "") -> Tried:
    log = folder / "log.jsonl"
    rows = read_jsonl(log) if log.exists() else []
    looks = _looks(rows)
    loss = min((loss for step, loss in looks if step), default=None)  # the look before the first step is no fit's
    steps = max((row["step"] for row in rows), default=0)
    return Tried(folder.name, dict(values), state, loss, steps, looks, fault)


def _written(tried: tuple[Tried, ...], by_name: Mapping[str, tuple[dict[str, str], Resolved]], place: Path) -> Swept:
    whole = [one for one in tried if one.state == "whole" and one.loss is not None and math.isfinite(one.loss)]
    if not whole:
        why = next((one.fault for one in tried if one.fault), "none has a validation loss")
        raise TrainingError(f"{place}: none of {len(tried)} combinations could be fitted to its end ({why})")
    best = min(whole, key=lambda one: one.loss or 0.0)
    rows = len(load_splits(Run.open(place / best.run)).validation)
    swept = Swept(tried, best.run, rows)
    write_json(place / "sweep.json", asdict(swept))
    values, resolved = by_name[best.run]
    head = ", ".join(f"{key}: {value}" for key, value in values.items())
    text = f"# Chosen by `sft sweep` among {len(tried)} combinations on {rows} validation rows: {head}.\n"
    write_text(place / "recipe.yaml", text + resolved.to_yaml())
    return swept
