"""What watches a fit: the log with its progress bar, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

from tqdm.auto import tqdm
from transformers import TrainerCallback

from sft.checkpoints import WHOLE
from sft.runs import Run, open_append, write_json
from sft.sharing import rank_and_world, wait_for_everyone

__all__ = ["Interruption", "Record"]


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

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say in a checkpoint of several processes that each has written its part: a kill may come in between."""
        if args.world_size > 1:
            wait_for_everyone()
            if state.is_world_process_zero and self.run is not None:
                folder = self.run.checkpoints_path / f"checkpoint-{state.global_step}"
                write_json(folder / WHOLE, {"processes": args.world_size})

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


class Interruption(TrainerCallback):
    """Ctrl-C ends the current step, saves a checkpoint and stops; a second Ctrl-C stops at once.

    Of several processes each hears it within a step of its own, and no two would save the same one; so there the
    first stops at once, and the run goes on from its last checkpoint.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stopped = False

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked or rank_and_world()[1] > 1:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("\nstopping after this step; Ctrl-C again stops at once\n")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGINT inside; elsewhere than in the main thread it stays as it is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if asked to."""
        if self.asked and not control.should_training_stop:
            control.should_save = True
            control.should_training_stop = self.stopped = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer takes every end for the end of an epoch; a look at the validation split comes when it is due."""
        if self.stopped and not float(state.epoch).is_integer():
            control.should_log = control.should_evaluate = control.should_save = False
