"""The demonstrations of a run as it keeps them: splits, further experts, ledger, recipe."""

from __future__ import annotations

from pathlib import Path

from sft import recipes
from sft.demonstrations import splits
from sft.demonstrations.demonstration import Demonstration
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.plain_text import PlainText
from sft.demonstrations.splits import Splits, data_digest
from sft.errors import RunError
from sft.recipes import Recipe
from sft.runs import sealed
from sft.runs.run import Run
from sft.runs.sealed import _altered, _checked_rows, _one, _remedy, made, there, value

__all__ = [
    "demonstrations",
    "gathered_before",
    "general",
    "ledger",
    "load_others",
    "load_recipe",
    "load_splits",
    "parts",
]


def parts(run: Run) -> dict[str, list[Demonstration]]:
    """Split -> its demonstrations, as the run keeps them; every split empty where there is no file.

    Raises ``RunError`` where they are not those that the run was made with, by the seal or by the hash of the data.
    """
    found: dict[str, list[Demonstration]] = {"train": [], "validation": [], "test": []}
    path = run.demonstrations_path
    if not there(run, path):
        return found
    for number, row in _checked_rows(run, path):
        found[row["split"]].append(_one(run, path, number, row, Demonstration.from_dict))
    recorded = (run.manifest.get("data") or {}).get("hash")
    has_seal = path.name in run.manifest.get("files", {})
    if not has_seal and recorded is not None and not data_digest(found).is_of(recorded):
        raise _altered(run, path)
    return found


def demonstrations(run: Run, path: Path) -> list[Demonstration]:
    """Every row of ``path`` as a demonstration. Raises as :func:`rows` does."""
    return made(run, path, Demonstration.from_dict)


def ledger(run: Run) -> Ledger:
    """The account of every row. Raises ``RunError`` where it is missing, damaged or does not add up."""
    found = value(run, run.ledger_path)
    try:
        return Ledger.from_dict(found)
    except ValueError as error:
        raise RunError(f"{run.ledger_path}: {error}; {_remedy(run, run.ledger_path)}") from None


def load_splits(run: Run) -> Splits:
    """The splits as the run recorded them. Raises ``RunError`` when its files are gone or were altered."""
    for path in (run.demonstrations_path, run.split_path):
        if not sealed.there(run, path):
            raise RunError(f"{path}: is gone; restore it from a copy, or start a new run in another folder")
    recorded = sealed.value(run, run.split_path)
    rule = recorded.get("rule", splits.RULE_BEFORE) if isinstance(recorded, dict) else splits.RULE
    times = recorded.get("times", {}) if isinstance(recorded, dict) else {}
    found = {name: tuple(part) for name, part in parts(run).items()}
    made = Splits(found["train"], found["validation"], found["test"], rule=rule, times=times, replay=general(run))
    splits.check_manifest(recorded, made)
    return made


def gathered_before(run: Run) -> tuple[Splits, Ledger] | None:
    """What an earlier rule of splitting made of the rows that the run was made of; None where the present one did.

    Raises as :func:`load_splits` does.
    """
    made = load_splits(run)
    return None if made.rule == splits.RULE else (made, ledger(run))


def general(run: Run) -> tuple[Demonstration, ...]:
    """The general rows that ``run`` learned beside its demonstrations; none where it has no such file.

    Raises ``RunError`` when the file was altered.
    """
    if not sealed.there(run, run.replay_path):
        return ()
    return tuple(made(run, run.replay_path, lambda row: (PlainText if "text" in row else Demonstration).from_dict(row)))


def load_others(run: Run) -> list[Demonstration]:
    """What experts whom the clone was not fitted to wrote for its held-out prompts; empty where nobody else did.

    Raises ``RunError`` when the file was altered.
    """
    return demonstrations(run, run.others_path) if sealed.there(run, run.others_path) else []


def load_recipe(run: Run) -> Recipe:
    """The resolved recipe a run was made with."""
    return recipes.load_recorded(run.resolved_recipe_path)
