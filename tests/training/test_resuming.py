"""Going on is exact, or it says why not: damaged checkpoints are passed over by name, and nothing in one is changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

from fit_logs import UNEVEN, assert_same, conflicting, log_of, without_clock
from toy_fits import demonstrations, fit, recipe_for

from sft.errors import TrainingError
from sft.runs.checkpoints import WHOLE, choose, fault_of, latest_checkpoint, rotate, write_list
from sft.training.fitting import Interrupted

Damage = Callable[[Path], object]


def unsaved(whole: Path, folder: Path) -> Path:
    """A copy of the run ``whole`` as a kill before its clone was saved would have left it; its last checkpoint."""
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "adapter")
    last = latest_checkpoint(folder / "checkpoints")
    assert last is not None
    return last


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    """A hundred bytes in the middle, as a disk may lose a sector: the file is as long as before."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(100))


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CUT, LIST = r"\d+ bytes of \d+", r"its list of files \(whole.json\) is damaged"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "no optimizer": (lambda at: (at / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "no schedule": (lambda at: (at / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    "no random state": (lambda at: (at / "rng_state.pth").unlink(), "rng_state.pth is missing"),
    "adapter zeroed": (lambda at: zeroed(at / "adapter_model.safetensors"), "adapter_model.safetensors is altered"),
    "adapter cut": (lambda at: halved(at / "adapter_model.safetensors"), f"adapter_model.safetensors is cut, {CUT}"),
    "optimizer cut": (lambda at: halved(at / "optimizer.pt"), f"optimizer.pt is cut, {CUT}"),
    "state altered": (lambda at: zeroed(at / "trainer_state.json"), "trainer_state.json is altered"),
    "list cut": (lambda at: halved(at / WHOLE), LIST),
    "list of a number": (lambda at: (at / WHOLE).write_text('{"files": 3}'), LIST),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_by_name(
    damage: str, tmp_path: Path, never_stopped: tuple[Path, Any]
) -> None:  # fmt: skip
    """The older one serves; nothing is written by looking."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    do, fault = DAMAGES[damage]
    do(last)
    before = content_of(tmp_path / "run")
    choice = choose(last.parent)
    assert choice.path == last.with_name("checkpoint-8")
    ((passed, found),) = choice.passed_over
    assert passed == last and re.fullmatch(fault, found), found
    assert re.fullmatch(rf"from checkpoint-8; passed over: checkpoint-9 \({fault}\)", choice.in_words())
    assert content_of(tmp_path / "run") == before


@pytest.mark.parametrize("damage", ["no optimizer", "no random state", "adapter zeroed", "adapter cut"])
def test_a_run_with_a_damaged_checkpoint_ends_as_if_it_never_was(
    damage: str, tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It went on without a word, with another optimizer, other draws or a sector of zeros, to another clone."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    DAMAGES[damage][0](last)
    damaged = content_of(last)
    capfd.readouterr()
    fitted = fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("resume ")]
    assert len(said) == 1 and re.search(rf"passed over: checkpoint-9 \({DAMAGES[damage][1]}\)$", said[0]), said
    assert_same(tmp_path / "run", never_stopped[0])
    assert without_clock(fitted) == without_clock(never_stopped[1])
    assert damaged and not list(last.parent.glob("damaged-*")), "when the clone is saved nobody needs it any more"


def test_without_a_whole_checkpoint_training_begins_anew_and_the_damaged_are_kept_until_its_end(
    tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The clone is the same one, only later; what was never whole is removed, what was is set aside."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    (last.with_name("checkpoint-8") / "optimizer.pt").unlink()
    (last / WHOLE).unlink()
    with pytest.raises(TrainingError, match="no demonstration left"):
        fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", train=[], resume=True)
    assert last.exists(), "nothing is touched before training begins"
    stop_when(in_a_fit)
    with pytest.raises(Interrupted):
        fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    said = capfd.readouterr().err
    assert (
        "resume    no checkpoint is whole, so training begins at step 0; passed over: checkpoint-9 (it was not " in said
    )
    assert "checkpoint-8 (optimizer.pt is missing)\n" in said
    assert (last.parent / "damaged-checkpoint-8" / "scheduler.pt").exists()
    assert not (last.parent / "damaged-checkpoint-9").exists()
    fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", never_stopped[0])


def test_a_copy_under_another_name_is_no_checkpoint(tmp_path: Path, never_stopped: tuple[Path, Any]) -> None:
    """It was taken for a broken one and deleted; and one that was renamed is not of the step in its name."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    shutil.copytree(last, last.with_name("checkpoint-9-copy"))
    shutil.copytree(last, last.with_name("checkpoint-12"))
    choice = choose(last.parent)
    assert choice.path == last and last.with_name("checkpoint-9-copy").exists()
    assert choice.in_words().endswith("passed over: checkpoint-12 (its trainer_state.json is of step 9)")


def test_a_checkpoint_without_optimizer_is_never_gone_on_from(
    tmp_path: Path, never_stopped: tuple[Path, Any]
) -> None:  # fmt: skip
    """With ``save_only_model`` none was written, so no list misses it; the learning rate would begin again."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (last / name).unlink()
    write_list(last, processes=1)
    assert choose(last.parent).passed_over == ((last, "it holds no optimizer"),)


# -- the best weights ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unlearned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The run of :func:`conflicting` in eight steps, whose best weights are not its last; and what it amounted to."""
    recipe, given = conflicting(tiny_model, steps=8)
    folder = tmp_path_factory.mktemp("unlearned") / "run"
    whole = fit(recipe, folder, **given)
    assert 0 < whole.best_step < 8
    return folder, whole


def test_the_best_weights_damaged_are_trained_again(
    tiny_model: Path, tmp_path: Path, unlearned: tuple[Path, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """They become the clone: with them altered, or their folder gone, another clone was saved without a word."""
    recipe, given = conflicting(tiny_model, steps=8)
    shutil.copytree(unlearned[0], tmp_path / "whole")
    whole = unlearned[1]
    for name, damage in (
        ("altered", lambda best: zeroed(best / "adapter_model.safetensors")),
        ("gone", shutil.rmtree),
    ):
        last = unsaved(tmp_path / "whole", tmp_path / name)
        best = last.with_name(f"checkpoint-{whole.best_step}")
        damage(best)
        assert without_clock(fit(recipe, tmp_path / name, resume=True, **given)) == without_clock(whole)
        assert f"{last.name} (it needs {best.name}, the best so far: " in capfd.readouterr().err
        assert_same(tmp_path / name, tmp_path / "whole")
    last = unsaved(tmp_path / "whole", tmp_path / "enough")
    (last.with_name(f"checkpoint-{whole.best_step}") / "optimizer.pt").unlink()
    assert latest_checkpoint(last.parent) == last, "of the best only the weights are needed"


def test_a_run_that_was_moved_finds_its_best_weights(
    tiny_model: Path, tmp_path: Path, unlearned: tuple[Path, Any]
) -> None:  # fmt: skip
    """The engine keeps where they lay, and ended with the last weights without a word where that was no more."""
    recipe, given = conflicting(tiny_model, steps=8)
    unsaved(unlearned[0], tmp_path / "moved")
    away = unlearned[0].rename(unlearned[0].with_name("elsewhere"))
    try:
        fitted = fit(recipe, tmp_path / "moved", resume=True, **given)
    finally:
        away.rename(unlearned[0])
    assert without_clock(fitted) == without_clock(unlearned[1])
    assert_same(tmp_path / "moved", unlearned[0])


def test_best_weights_that_are_damaged_while_it_trains_are_not_saved_as_the_clone(
    tiny_model: Path, tmp_path: Path
) -> None:
    """One sentence in place of another clone; and what it names, --resume, trains them again."""
    recipe, given = conflicting(tiny_model, steps=16)
    whole = fit(recipe, tmp_path / "whole", **given)
    best = tmp_path / "run" / "checkpoints" / f"checkpoint-{whole.best_step}"

    def damage() -> None:
        wait_until(lambda: (best.with_name(f"checkpoint-{whole.best_step + 2}") / WHOLE).exists())
        zeroed(best / "adapter_model.safetensors")

    thread = threading.Thread(target=damage)
    thread.start()
    with pytest.raises(
        TrainingError, match=rf"{best}: holds the best weights, and adapter_model.safetensors is altered"
    ):
        fit(recipe, tmp_path / "run", **given)
    thread.join()
    assert not (tmp_path / "run" / "adapter").exists()
    assert without_clock(fit(recipe, tmp_path / "run", resume=True, **given)) == without_clock(whole)
    assert_same(tmp_path / "run", tmp_path / "whole")


# -- of earlier releases ------------------------------------------------------------------------------------


def as_before_lists(checkpoints: Path) -> None:
    """Checkpoints as the releases before wrote them: without a list, and nothing in the state that announces one."""
    for path in checkpoints.glob("checkpoint-*"):
        (path / WHOLE).unlink()
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        for key in ("listed", "learning_rate", "pass_is_owed"):
            del state["stateful_callbacks"]["sft"][key]
        (path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")


def test_a_checkpoint_of_an_earlier_release_serves_and_says_what_was_not_checked(
    tiny_model: Path, tmp_path: Path, never_stopped: tuple[Path, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    last = unsaved(never_stopped[0], tmp_path / "run")
    as_before_lists(last.parent)
    fit(recipe_for(tiny_model, *UNEVEN), tmp_path / "run", resume=True)
    said = capfd.readouterr().err
    assert "resume    from checkpoint-9; checkpoint-9: of an earlier release, which kept no hashes" in said
    assert_same(tmp_path / "run", never_stopped[0])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda at: (at / "optimizer.pt").unlink(), "it holds no optimizer"),
        (lambda at: (at / "rng_state.pth").unlink(), "it holds no random state"),
        (lambda at: halved(at / "adapter_model.safetensors"), "adapter_model.safetensors is cut or altered"),
        (lambda at: halved(at / "optimizer.pt"), "optimizer.pt is cut or altered"),
        (lambda at: zeroed(at / "optimizer.pt"), "optimizer.pt is cut or altered"),
        (lambda at: halved(at / "trainer_state.json"), "it was not written to its end"),
        (lambda at: (at / "trainer_state.json").unlink(), "it was not written to its end"),
        (lambda at: (at / "rng_state.pth").rename(at / "rng_state_0.pth"), "it was not written to its end"),
    ],
)
def test_what_can_be_told_of_a_checkpoint_of_an_earlier_release_is(
    damage: Damage, fault: str, tmp_path: Path, never_stopped: tuple[Path, Any]
) -> None:  # fmt: skip
    """Its files by kind, the checksums that torch puts into them, and their lengths."""
    last = unsaved(never_stopped[0], tmp_path / "run")
    as_before_lists(last.parent)
    assert fault_of(last) is None
    damage(last)
    assert fault_of(last) == fault
    assert latest_checkpoint(last.parent) == last.with_name("checkpoint-8")


# -- rotation -----------------------------------------------------------------------------------------------


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    """By number, not by the clock of a file system; the engine's own removes before the new one is whole."""
    for step in (2, 4, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    os.utime(tmp_path / "checkpoint-2")

    def kept(limit: int | None, best: int | None) -> list[str]:
        rotate(tmp_path, limit=limit, best=best)
        return sorted(path.name for path in tmp_path.iterdir())

    every = ["checkpoint-10", "checkpoint-12", "checkpoint-2", "checkpoint-4"]
    assert kept(None, None) == kept(4, None) == every
    assert kept(3, 2) == ["checkpoint-10", "checkpoint-12", "checkpoint-2"]
    assert kept(1, 2) == ["checkpoint-12", "checkpoint-2"]
    assert kept(1, None) == ["checkpoint-12"]


# -- another learning rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_another_learning_rate_holds_and_the_checkpoint_stays_as_it_is(
    schedule: str, tiny_model: Path, tmp_path: Path
) -> None:
    """It was written into optimizer.pt and scheduler.pt: a kill between the two left a checkpoint of two minds."""
    settings = (f"training.lr_scheduler_type={schedule}", "training.max_steps=6", "training.save_total_limit=9")
    fit(recipe_for(tiny_model, *settings), tmp_path / "run")
    rates = {row["step"]: row["learning_rate"] for row in log_of(tmp_path / "run") if "learning_rate" in row}
    last = unsaved(tmp_path / "run", tmp_path / "other")
    shutil.rmtree(last)
    before = content_of(last.with_name("checkpoint-4"))
    fit(recipe_for(tiny_model, *settings, "training.learning_rate=2.0e-3"), tmp_path / "other", resume=True)
    found = {row["step"]: row["learning_rate"] for row in log_of(tmp_path / "other") if "learning_rate" in row}
    assert found == pytest.approx(rates | {step: rates[step] / 5 for step in (5, 6)}, rel=1e-12)
    assert content_of(last.with_name("checkpoint-4")) == before
    again = unsaved(tmp_path / "other", tmp_path / "again")
    shutil.rmtree(again)
    fit(recipe_for(tiny_model, *settings, "training.learning_rate=2.0e-3"), tmp_path / "again", resume=True)
    assert_same(tmp_path / "again", tmp_path / "other")


# -- stopped in the middle ----------------------------------------------------------------------------------


def wait_until(ready: Callable[[], object], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.002)


def stop_when(ready: Callable[[], object], number: int = signal.SIGTERM) -> None:
    """Send this process the signal when ``ready``, from a thread."""

    def send() -> None:
        wait_until(ready)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def in_a_fit() -> bool:
    """Whether a fit hears the signals by now."""
    return type(getattr(signal.getsignal(signal.SIGTERM), "__self__", None)).__name__ == "Interruption"


def logged(folder: Path, step: int, key: str = "loss") -> Callable[[], bool]:
    return lambda: any(row["step"] == step and key in row for row in log_of(folder))


def state_of(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return found


def test_a_validation_pass_is_given_up_and_made_up_for(tiny_model: Path, tmp_path: Path) -> None:
    """Of a long one nothing is waited for; the run goes on with that pass, and ends as if it was never stopped."""
    more = ("training.early_stopping_patience=2", "training.per_device_eval_batch_size=1", "training.eval_steps=3")
    recipe = recipe_for(tiny_model, *(one for one in UNEVEN if "eval_steps" not in one), *more)
    given = {"validation": demonstrations(150, first=101)}
    whole = fit(recipe, tmp_path / "whole", **given)
    run = tmp_path / "run"
    stop_when(logged(run, 6))  # a log line and a validation pass are due at this step, in this order
    with pytest.raises(Interrupted, match="stopped at step 6, checkpoint saved") as stop:
        fit(recipe, run, **given)
    assert stop.value.number == signal.SIGTERM
    assert state_of(run / "checkpoints/checkpoint-6")["stateful_callbacks"]["sft"]["pass_is_owed"] is True
    assert not logged(run, 6, "eval_loss")()
    stop_when(in_a_fit, signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped at step 6, checkpoint saved") as stop:  # in the same pass again
        fit(recipe, run, resume=True, **given)
    assert stop.value.number == signal.SIGINT
    assert without_clock(fit(recipe, run, resume=True, **given)) == without_clock(whole)
    assert_same(run, tmp_path / "whole")


def test_an_accumulated_step_is_given_up_and_taken_again(tiny_model: Path, tmp_path: Path) -> None:
    """As an epoch's first (two steps each), and as the very first: with the draws of dropout it had."""
    recipe = recipe_for(
        tiny_model, "training.max_steps=4", "training.per_device_train_batch_size=1", "adapter.lora_dropout=0.1",
        "training.gradient_accumulation_steps=40", "training.eval_steps=2",
    )  # fmt: skip
    made = demonstrations(80)
    fit(recipe, tmp_path / "whole", train=made)
    for step, where in ((0, "stopped before the first step was done"), (2, "stopped at step 2, checkpoint saved")):
        run = tmp_path / f"run-{step}"
        stop_when(logged(run, step) if step else in_a_fit)
        with pytest.raises(Interrupted, match=where):
            fit(recipe, run, train=made)
        fit(recipe, run, train=made, resume=True)
        assert_same(run, tmp_path / "whole")


def test_a_signal_after_the_last_step_stops_too(tiny_model: Path, tmp_path: Path) -> None:
    """It was forgotten, and a run went on to measure for hours what it was told to stop."""
    recipe = recipe_for(tiny_model, *UNEVEN)
    fit(recipe, tmp_path / "whole")
    stop_when(lambda: (tmp_path / "run/checkpoints/checkpoint-9").exists())
    with pytest.raises(Interrupted, match="stopped at step 9, checkpoint saved"):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()
    fit(recipe, tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", tmp_path / "whole")
