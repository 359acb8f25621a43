"""The run directory: one folder that holds everything a run did, and a manifest that tells it all.

Whoever has the folder can say what was trained on what, judge the clone again, and refuse to go on
with something else. Three promises: a file is either whole or not there, a crash costs at
most the line being written (both in ``atomic_files``), and one process writes at a time (a lock that the
operating system releases when its holder dies).

The manifest's sections, each written by whoever knows it first:

    schema_version, created            when, and in which shape
    recipe                             {"written": text, "resolved": {...}, "origins": {key: where from}}
    data, split                        hashes and counts of what was read and how it was split
    base, template, seeds              name, revision, hash; the template's hash; every seed
    versions, machine                  packages; cores, memory, accelerator (no host, user or home path)
    sessions                           [{command, started, ended, wall_seconds, peak_memory_bytes, outcome}]
    looks                              [{split, when, purpose}]: how often the test split was looked at
    held_out                           {split: {prompts, clones}}: who was judged on the same prompts (see ``looks``)
    launch                             number of processes, and training rows per optimizer step
    changes                            [{what, from, to, when, step}]: what --allow-change let be another
    files                              {name: {bytes, sha256}}: what files were left with (see ``records``)

Hashes name the rule they were made by (see ``hashes``).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from sft.errors import RunError
from sft.runs.atomic_files import (
    Appender,
    Held,
    append_jsonl,
    clear_temporaries,
    let_go,
    locked,
    open_append,
    read_json,
    read_jsonl,
    sync_folder,
    write_json,
    write_jsonl,
    write_text,
)
from sft.runs.hashes import differences
from sft.runs.machine import machine, peak_memory_bytes, sentences, versions
from sft.runs.private import presentable

__all__ = [
    "SCHEMA_VERSION",
    "Appender",
    "Run",
    "append_jsonl",
    "demand_trained",
    "now",
    "open_append",
    "read_json",
    "read_jsonl",
    "trained_policy",
    "write_json",
    "write_jsonl",
    "write_text",
]

SCHEMA_VERSION = 1


class _File:
    """A file or folder that every run has under the same name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: Run, kind: type[Run]) -> Path:
        return run.path / self._name


def _file_of(beginning: str) -> Callable[[Run, str | int], Path]:
    """The path of a file that every system, or round, has one of; ``ValueError`` where it cannot be part of a name."""

    def path(run: Run, which: str | int) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(which)):
            raise ValueError(f"a system's name is part of a file name, which {which!r} cannot be")
        return run.path / f"{beginning}-{which}.jsonl"

    path.__doc__ = f"Where ``{beginning}-WHICH.jsonl`` is, WHICH being a system; ``ValueError`` for what names no file."
    return path


class Run(Held):
    """A run directory. Build one with :meth:`create` or :meth:`open`; use it as a context manager.

    Holding a run for writing (``create``, or ``open(..., writing=True)``) holds its lock until
    :meth:`close`. Reading needs no lock: every file is replaced whole or grows by whole lines.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], lock: IO[str] | None) -> None:
        self.path = path
        self._manifest = manifest
        self._lock = lock

    @classmethod
    def create(cls, path: str | os.PathLike[str], **facts: Any) -> Self:
        """Make an empty run directory at ``path`` and write its manifest with ``facts`` as sections.

        Raises ``RunError`` when the folder already holds something, is in use or cannot be written.
        """
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file; name a new or empty folder for the run")
        with sentences(folder):
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        lock = locked(folder)
        try:
            clear_temporaries(folder, alone=True)
            names = sorted(entry.name for entry in folder.iterdir() if entry.name != ".lock")
            if "manifest.json" in names:
                raise RunError(f"{folder} already holds a run; continue it with --resume, or name another folder")
            if names:
                raise RunError(
                    f"{folder} is not empty (it holds {names[0]}) and is no run for --resume; "
                    "name a new or empty folder"
                )
            start: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "created": now()}
            start |= {"versions": versions(), "machine": machine(), "sessions": [], "looks": []}
            run = cls(folder, start | presentable(facts), lock)
            write_json(run.manifest_path, run._manifest)
        except BaseException:
            let_go(lock)
            raise
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, writing: bool = False) -> Self:
        """Open the run at ``path``; ``writing`` takes its lock.

        Raises ``RunError`` for a folder that is no run, a damaged or newer manifest, or a run in use.
        """
        folder = Path(path)
        manifest = _read_manifest(folder)
        if not writing:
            clear_temporaries(folder)
            return cls(folder, manifest, None)
        lock = locked(folder)
        try:
            clear_temporaries(folder, alone=True)
            # Whoever held the lock until now may have changed the manifest.
            return cls(folder, _read_manifest(folder), lock)
        except BaseException:
            let_go(lock)
            raise

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    # The files, in the order in which the loop writes them.

    manifest_path = _File("manifest.json")  # what was run, on what, with what
    recipe_path = _File("recipe.yaml")  # the recipe as its author wrote it
    resolved_recipe_path = _File("recipe.resolved.yaml")  # the recipe with every default and override filled in
    demonstrations_path = _File("demonstrations.jsonl")  # every valid demonstration, one a line
    split_path = _File("split.json")  # which demonstration is in which split
    ledger_path = _File("ledger.json")  # one fate per row
    rejected_path = _File("rejected.jsonl")  # rows that could not become demonstrations, with the reason
    log_path = _File("log.jsonl")  # losses as training went on
    adapter_path = _File("adapter")  # the trained adapter (folder)
    model_path = _File("model")  # the trained weights of a full fine-tune (folder)
    checkpoints_path = _File("checkpoints")  # where training may be continued from (folder)

    completions_path = _file_of("completions")  # what a system wrote for the held-out prompts
    token_scores_path = _file_of("token-scores")  # teacher-forced scores of the experts' completions under a system
    samples_path = _file_of("samples")  # what the clone wrote at temperature 1, by the number of the round, from 0
    departures_path = _file_of("departures")  # where what a server wrote for a system leaves what transformers writes
    forced_path = _file_of("forced")  # how a system went on after the first part of the expert's completion
    own_path_path = _File("own-path.jsonl")  # the clone's own completions, token by token

    control_path = _file_of("control")  # log loss of plain control texts under a policy (base or tuned)
    prompt_values_path = _File("prompt-values.jsonl")  # how much the prompt tells the base about training completions
    #: The held-out prompts that were measured, with all that experts wrote for them.
    held_out_path = _File("held-out.jsonl")
    replay_path = _File("replay.jsonl")  # general rows that are learned beside the demonstrations
    others_path = _File("others.jsonl")  # held-out completions of experts whom the clone was not fitted to
    #: How what was measured came about: split, profile, decoding, checker, seed.
    measurement_path = _File("measurement.json")
    #: Where the clone is furthest from the expert: to be read, not trained on.
    corrections_path = _File("corrections.jsonl")
    scores_path = _File("scores.jsonl")  # every score of every system for every held-out prompt
    scorecard_path = _File("scorecard.json")  # what the scores add up to
    #: Held-out dialogues with the clone's own turns in the context, turn by turn.
    own_dialogues_path = _File("own-dialogues.jsonl")
    rounds_path = _File("rounds.json")  # what correction rounds came to, of a run that learned from one
    size_curve_path = _File("size-curve.json")  # fidelity against the number of demonstrations, where it was asked for
    report_html_path = _File("report.html")  # the report for a browser
    report_md_path = _File("report.md")  # the report as Markdown

    # The manifest.

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest; change it with :meth:`update_manifest`."""
        return json.loads(json.dumps(self._manifest))

    def update_manifest(self, **sections: Any) -> None:
        """Replace whole sections of the manifest, atomically; the others stay as they are on disk.

        Takes the lock for the moment if this run was opened for reading. Raises ``RunError``.
        """
        with self._writing():
            merged = _read_manifest(self.path) | presentable(sections)
            write_json(self.manifest_path, merged)
            self._manifest = merged

    @property
    def changes(self) -> tuple[dict[str, Any], ...]:
        """Every change that was allowed after the run had begun, oldest first."""
        return tuple(self.manifest.get("changes", ()))

    @property
    def looks(self) -> tuple[dict[str, Any], ...]:
        """Every look at a held-out split so far, oldest first."""
        return tuple(self.manifest.get("looks", ()))

    def times_looked(self, split: str) -> int:
        """How often ``split`` was looked at so far."""
        return sum(isinstance(look, dict) and look.get("split") == split for look in self.looks)

    @property
    def resolved_recipe(self) -> dict[str, Any]:
        """Every value of the recipe the run was made by; empty where it has none."""
        recipe = self.manifest.get("recipe")
        resolved = recipe.get("resolved") if isinstance(recipe, dict) else None
        return resolved if isinstance(resolved, dict) else {}

    def look(self, split: str, purpose: str, weights: str = "") -> None:
        """Record that ``split`` was looked at: choosing anything on the test split voids its intervals.

        ``weights``: hash of what was judged.
        """
        with self._writing():
            known = _read_manifest(self.path).get("looks", [])
            look = {"split": split, "when": now(), "purpose": purpose} | ({"weights": weights} if weights else {})
            self.update_manifest(looks=[*known, look])

    @contextmanager
    def session(self, command: Sequence[str] | None = None) -> Iterator[None]:
        """Record one process's work on this run: command, times, peak memory and how it ended.

        ``command`` is ``sys.argv`` unless given; "notebook" in a notebook, whose kernel was started with other words.
        A session that was killed stays without an end.
        """
        with self._writing():
            argv = list(sys.argv if command is None else command)
            if argv:
                argv[0] = Path(argv[0]).name
            if argv[:1] == ["ipykernel_launcher.py"]:
                argv = ["notebook"]
            row: dict[str, Any] = {"command": shlex.join(argv), "started": now()}
            known = _read_manifest(self.path).get("sessions", [])
            self.update_manifest(sessions=[*known, row])
            began, outcome = time.monotonic(), "finished"
            try:
                yield
            except BaseException as error:
                outcome = f"stopped by {type(error).__name__}"
                raise
            finally:
                seconds = round(time.monotonic() - began, 3)
                row |= {"ended": now(), "wall_seconds": seconds, "outcome": outcome}
                row["peak_memory_bytes"] = peak_memory_bytes()
                # A full disk must not hide the error that filled it.
                with suppress(RunError) if outcome != "finished" else nullcontext():
                    self.update_manifest(sessions=[*known, row])

    @staticmethod
    def changed(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
        """Dotted names of the values that differ between a recorded section and the present one.

        A name that only one side has differs too; an empty mapping equals none. Lists are compared whole.
        """
        return list(differences(recorded, present))

    def refuse_changes(self, present: Mapping[str, Any], *, allowed: Iterable[str] = ()) -> None:
        """Raise ``RunError`` naming every value of ``present`` that is not as the manifest records it.

        ``present`` has the manifest's shape (``{"recipe": {...}, "split": {...}, ...}``); sections it
        does not name are not compared. ``allowed``: dotted names that may differ.
        """
        recorded = {name: self._manifest.get(name, {}) for name in present}
        excused = set(allowed)
        names = [name for name in differences(recorded, present) if name not in excused]
        if names:
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise RunError(
                f"{self.path} was started with another {shown}; put it back as it was, or start a new run "
                "in another folder"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._lock is not None:
            yield
            return
        self._lock = locked(self.path)
        try:
            yield
        finally:
            self.close()


def now() -> str:
    """The present moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        what = "is no run (it has no manifest.json)" if folder.is_dir() else "is not a folder"
        raise RunError(f"{folder} {what}; name the folder that `sft run` or `sft train` wrote")
    manifest = read_json(path)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise RunError(f"{path} is not a run's manifest; name the folder that `sft run` or `sft train` wrote")
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{folder} was written by a newer sft (its manifest has schema {version}, this sft reads up to "
            f"{SCHEMA_VERSION}); upgrade sft"
        )
    from sft.runs.records import fault_of  # what it stands on takes half of the time of `sft --help`

    if fault := fault_of(path.name, manifest):
        raise RunError(f"{path}: {fault}; restore it from a copy")
    return dict(manifest)


def trained_policy(run: Run) -> Path | None:
    """The folder of the run's adapter or full model; None before training has finished."""
    for path, sign in ((run.adapter_path, "adapter_config.json"), (run.model_path, "config.json")):
        if (path / sign).is_file():
            return path
    return None


def demand_trained(run: Run) -> Path:
    """As :func:`trained_policy`; raises ``RunError`` before training has finished, and where none is to come."""
    tuned = trained_policy(run)
    if tuned is None and "scored" in run.manifest:
        raise RunError(f"{run.path}: was made by `sft score` and holds completions, no clone; name a run of `sft run`")
    if tuned is None:
        raise RunError(f"{run.path}: is not trained yet; train it with `sft train RECIPE --output {run.path} --resume`")
    return tuned
