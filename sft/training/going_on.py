"""Going on with a run: from which checkpoint, what has changed since it began, whether that may be, and the record.

Nothing may, unless ``--allow-change`` is given. Then all may of which a fit can make use in the middle, and it goes
on record with the step it holds from. What a checkpoint settles stays refused: taken without a word, an old value
would win over the new one (a scheduler's state holds its learning rates), rows would be seen twice, or weights would
not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.demonstrations.demonstration import Demonstration
from sft.errors import RunError
from sft.runs.checkpoints import choose, latest_checkpoint, parts_of, put_aside, step_of
from sft.runs.hashes import differences
from sft.runs.processes import hand_on, is_main, rank_and_world, say, sharding
from sft.runs.run import Run, now, read_jsonl, trained_policy, write_jsonl

if TYPE_CHECKING:
    from sft.demonstrations.splits import Splits

Changes = dict[str, tuple[Any, Any]]

#: What a fit can make use of in the middle, by the beginning of its name.
ALLOWED = (
    "data.", "split.", "base.", "template.", "launch.processes",
    "recipe.demonstrations.", "recipe.split.", "recipe.model.", "recipe.fidelity.", "recipe.adapter.lora_dropout",
    *(
        f"recipe.training.{key}"
        for key in (
            "learning_rate", "num_train_epochs", "max_steps", "max_length", "too_long", "lr_scheduler_type",
            "warmup_steps", "max_grad_norm", "early_stopping_patience", "bf16", "fp16", "gradient_checkpointing",
            "report_to", "per_device_train_batch_size", "gradient_accumulation_steps",
        )
    ),
)  # fmt: skip

#: Beginning of a name -> why it stays as it is; the first that fits is said.
_SETTLED = {
    "base.architecture.": "the checkpoint's weights have the shape of the one before",
    "launch.rows_per_step": "the checkpoint counts in steps of that many rows, so rows would be seen twice or never; "
    "batch size times accumulation times processes must stay the same",
    "start.": "the checkpoint's weights come from that adapter",
    "recipe.adapter.": "the checkpoint holds the adapter as it was, and another one does not fit",
    "recipe.training.seed": "the order of the rows follows from it, so rows would be seen twice or never",
    "recipe.training.train_sampling_strategy": "it is the order of the rows, so rows would be seen twice or never",
    "recipe.training.": "the checkpoint holds it as it was, and the old value would win",
}


def differing(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Changes:
    """Dotted name -> (as recorded, now); a section or a fact that an older release did not record is not compared."""
    known = {
        name: {key: value for key, value in part.items() if key in recorded[name]}
        for name, part in present.items()
        if isinstance(recorded.get(name), Mapping) and recorded[name]
    }
    before = {name: {key: recorded[name][key] for key in part} for name, part in known.items()}
    return differences(before, known)


def hold(run: Run, changes: Changes, *, allow: bool) -> list[dict[str, Any]]:
    """The manifest's list of changes with ``changes`` in it; ``RunError`` where they are not allowed, or cannot be.

    Nothing is written. Before the first checkpoint nothing is settled yet, so with ``allow`` everything may change;
    when training is over, only how it is measured may.
    """
    if not changes:
        return list(run.changes)
    names = list(changes)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    began = f"{run.path}: was started with another {shown}"
    if not allow:
        raise RunError(
            f"{began}; put it back, start a new run in another folder, or go on all the same with --allow-change, "
            "which the manifest and the report then say"
        )
    late = [name for name in names if not name.startswith("recipe.fidelity.")]
    if late and trained_policy(run) is not None:
        raise RunError(
            f"{run.path}: is trained already, with another {late[0]}, and going on would change nothing of that; "
            "start a new run in another folder"
        )
    step = step_of(latest_checkpoint(run.checkpoints_path))
    for beginning, why in _SETTLED.items() if step else ():
        for name in names:
            allowed = name.startswith(ALLOWED) and not name.startswith("base.architecture.")
            if name.startswith(beginning) and not allowed:
                raise RunError(
                    f"{run.path}: {name} cannot change at step {step}, not even with --allow-change: {why}; "
                    "put it back, or start a new run in another folder"
                )
    when = now()
    rows = [{"what": n, "from": old, "to": new, "when": when, "step": step} for n, (old, new) in changes.items()]
    return [*run.changes, *rows]


def refuse_other_parts(run: Run) -> None:
    """Raise ``RunError`` where this launch cannot read the optimizer of the checkpoint that it would go on from.

    Of DeepSpeed's parts the trainer reads nothing without DeepSpeed, and goes on with a new optimizer.
    """
    checkpoint = latest_checkpoint(run.checkpoints_path)
    if checkpoint is None or trained_policy(run) is not None:
        return
    (saved, number), here, world = parts_of(checkpoint), sharding(), rank_and_world()[1]
    if saved == here and (number == world or saved in ("", "FSDP")):
        return
    file = {"FSDP": "fsdp2", "ZeRO-3": "zero3", "DeepSpeed": "zero2"}.get(saved, "ddp")
    among, many = (f" among {number} processes", f"{number} processes ") if number > 1 else ("", "")
    raise RunError(
        f"{checkpoint}: its optimizer was saved by {saved or 'one process'}{among}, and this launch, {world} with "
        f"{here or 'no shards'}, cannot read it; launch {many}with recipes/accelerate/{file}.yaml, or start a new "
        "run in another folder"
    )


def refuse_trained_on(run: Run, before: Iterable[Demonstration], present: Splits) -> None:
    """Raise ``RunError`` when prompts or groups that the run has trained on would now be held out.

    ``before``: its training rows until now. Nobody is judged on what it learned from, --allow-change or not.
    """
    if not latest_checkpoint(run.checkpoints_path):
        return
    known = {d.prompt for d in before}
    groups = {d.group for d in before if d.group}
    held_out = [d for d in (*present.validation, *present.test) if d.prompt in known or d.group in groups]
    if held_out:
        raise RunError(
            f"{run.path}: {len(held_out)} demonstrations that the run may have trained on would now be held out "
            f"({held_out[0].address} for one), not even with --allow-change; start a new run in another folder"
        )


# -- where it goes on ---------------------------------------------------------------------------------------


def take_up(run: Run) -> Path | None:
    """The checkpoint to go on from, the same in all processes; None where training begins at step 0.

    The first process chooses it, says which it passed over and why, and takes those away. Without a whole one
    training begins anew, for that gives the same clone, only later. Raises ``RunError``.
    """
    name = ""
    if is_main():
        try:
            choice = choose(run.checkpoints_path)
            if said := choice.in_words():
                say(f"resume    {said}")
            put_aside(choice)
            step = step_of(choice.path)  # what was allowed to change holds from there at the latest
            if any(change["step"] > step for change in run.changes):
                run.update_manifest(changes=[one | {"step": min(one["step"], step)} for one in run.changes])
        except BaseException:
            hand_on(False)
            raise
        name = choice.path.name if choice.path else ""
    name = hand_on(name if is_main() else None)
    if name is False:
        raise SystemExit(2)  # the first process says why
    return run.checkpoints_path / name if name else None


def rewind(run: Run, checkpoint: Path | None) -> float:
    """Drop log lines that a resumed run will write again; seconds spent up to the checkpoint."""
    step = step_of(checkpoint)
    if not run.log_path.exists():
        return 0.0
    rows = [row for row in read_jsonl(run.log_path) if row["step"] <= step]
    write_jsonl(run.log_path, rows)
    return max((row.get("wall_seconds", 0.0) for row in rows), default=0.0)
