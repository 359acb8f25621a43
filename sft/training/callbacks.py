"""What watches a fit: the log with its progress bar, Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Protocol, Self

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl

from sft.runs import processes as signals
from sft.runs.processes import highest, is_main
from sft.runs.run import Run, open_append

__all__ = ["Interruption", "Record", "Stoppable"]


class Record(TrainerCallback):
    """Writes every logged line to ``log.jsonl`` and shows progress on stderr; a context manager around the fit."""

    def __init__(self, run: Run | None, seconds_before: float) -> None:
        self.run, self.seconds_before = run, seconds_before
        self.began = time.monotonic()
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def seconds(self) -> float:
        """Seconds spent fitting, those before an interruption included."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar at the step where training begins."""
        self.began = time.monotonic()
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="train", unit="step", file=sys.stderr
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Append the line."""
        values = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        shown = values.get("loss", values.get("eval_loss"))
        if self.bar is not None and shown is not None:
            self.bar.set_postfix_str(f"{'loss' if 'loss' in values else 'validation loss'} {shown:.3f}")
        if state.is_world_process_zero and self.run is not None and ("loss" in values or "eval_loss" in values):
            kept = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch")
            row = {"step": state.global_step} | {k: values[k] for k in kept if k in values}
            with open_append(self.run.log_path) as log:
                log.append(row | {"wall_seconds": round(self.seconds, 3)})


class Stoppable(Protocol):
    """What an interruption asks of a trainer; see ``resuming``."""

    @property
    def may_give_up_step(self) -> bool:
        """Whether a step of which a part is done can be left undone."""

    def note_draws(self) -> None:
        """Keep what :meth:`give_up_step` goes back to."""

    def give_up_step(self) -> None:
        """Leave undone what was done since then."""

    def is_saved(self) -> bool:
        """Whether there is nothing to save at this step."""


class Interruption(TrainerCallback):
    """Ctrl-C, or SIGTERM, ends the current step, saves a checkpoint and stops; a second one stops at once.

    Of several processes each hears it at a moment of its own, if at all, so they agree at the end of every step, of
    every part of an accumulated one and of every validation batch, in one small exchange: all stop at the same place.
    An accumulated step and a validation pass are given up, for whoever sends SIGTERM kills half a minute later.

    ``asked``: the signal that asks to stop, 0 for none. ``stopped``: whether the trainer stops for it.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.stopped = False
        self.trainer: Stoppable | None = None
        self._gave_up_step = False
        self._first_of_epoch = -1

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if signals.is_echo(number):
                return
            raise signals.ending(number)
        self.asked = number
        signals.note()
        if is_main():
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            signals.write_at_once(f"\nstopping after this step; {name} again stops at once\n")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; elsewhere than in the main thread they stay as they are."""
        with signals.handling(self._ask, patient=True):
            yield

    def agreed(self) -> bool:
        """Whether any process was asked to stop. All of them come here at the same place."""
        self.asked = highest(self.asked)
        return bool(self.asked)

    def stop(self, control: TrainerControl) -> None:
        """Let the trainer stop here; what has to be saved first is the caller's affair."""
        self.stopped = control.should_training_stop = True

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what giving up the epoch's first step leads back to: the state before its order of rows is drawn."""
        self._first_of_epoch = state.global_step
        if self.trainer is not None and args.gradient_accumulation_steps > 1:
            self.trainer.note_draws()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what giving up this step leads back to."""
        within = state.global_step != self._first_of_epoch
        if within and self.trainer is not None and args.gradient_accumulation_steps > 1:
            self.trainer.note_draws()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give up a step of which a part is done, if asked to stop."""
        if self.trainer is not None and self.trainer.may_give_up_step and self.agreed():
            self.trainer.give_up_step()
            self._gave_up_step = True
            self.stop(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if asked to."""
        if self.agreed() and not control.should_training_stop:
            control.should_save = True
            self.stop(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer takes every end for the end of an epoch; a look at the validation split comes when it is due."""
        if self._gave_up_step or (self.stopped and not float(state.epoch).is_integer()):
            control.should_log = control.should_evaluate = control.should_save = False
        if self._gave_up_step and self.trainer is not None:
            control.should_save = not self.trainer.is_saved()
