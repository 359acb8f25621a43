"""The part of the trainer that stops and goes on: a run that was stopped ends as if it never was.

- a checkpoint is whole when its list of files is written, after all processes have written their part; only then are
  older ones removed, so that at every moment one is whole;
- what the trainer forgets at a checkpoint is carried: the loss not logged yet, the patience used up, a validation pass
  that was given up, the learning rate that the checkpoint's rates follow from;
- the best weights are read only if they are whole, wherever the run's folder is by now;
- nothing in a checkpoint is ever changed: another learning rate holds for what was read of it.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState
from trl import SFTTrainer

from sft.demonstrations.demonstration import Demonstration
from sft.errors import TrainingError
from sft.runs.checkpoints import WHOLE, fault_of, rotate, withdraw_list, write_list
from sft.runs.processes import ending, handling, highest, is_echo, is_main, note, tell, write_at_once

#: Under this name a checkpoint's state holds what :class:`Resuming` carries over an interruption.
CARRIED = "sft"


class PassGivenUp(Exception):
    """A validation pass ended before its end, for the run is to stop."""


class Interruption(TrainerCallback):
    """Ctrl-C, or SIGTERM, ends the current step, saves a checkpoint and stops; a second one stops at once.

    Of several processes each hears it at a moment of its own, if at all, so they agree at the end of every step, of
    every part of an accumulated one and of every validation batch, in one small exchange: all stop at the same place.
    An accumulated step and a validation pass are given up, for whoever sends SIGTERM kills half a minute later.

    ``asked``: the signal that asks to stop, 0 for none. ``stopped``: whether the trainer stops for it.
    """

    def __init__(self, trainer: Resuming) -> None:
        self.trainer = trainer
        self.asked = 0
        self.stopped = False
        self._gave_up_step = False
        self._first_of_epoch = -1

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if is_echo(number):
                return
            raise ending(number)
        self.asked = number
        note()
        if is_main():
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            write_at_once(f"\nstopping after this step; {name} again stops at once\n")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; elsewhere than in the main thread they stay as they are."""
        with handling(self._ask, patient=True):
            yield

    def agreed(self) -> bool:
        """Whether any process was asked to stop. All of them come here at the same place."""
        self.asked = highest(self.asked)
        return bool(self.asked)

    def stop(self, control: TrainerControl) -> None:
        """Let the trainer stop here; what has to be saved first is the caller's affair."""
        self.stopped = control.should_training_stop = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Hand the trainer back what a checkpoint carried for it, after it has set everything to zero."""
        self.trainer.go_on_from(state)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what giving up the epoch's first step leads back to: the state before its order of rows is drawn."""
        self._first_of_epoch = state.global_step
        if args.gradient_accumulation_steps > 1:
            self.trainer.note_draws()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what giving up this step leads back to."""
        if state.global_step != self._first_of_epoch and args.gradient_accumulation_steps > 1:
            self.trainer.note_draws()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give up a step of which a part is done, if asked to stop."""
        if self.trainer.may_give_up_step and self.agreed():
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
        if self._gave_up_step:
            control.should_save = not self.trainer.is_saved()


class EndsWhereTold(TrainerCallback):
    """Ends the fit where ``looked`` says so of a look at the validation split; the best until then is the clone."""

    def __init__(self, looked: Callable[[int, float], bool]) -> None:
        self._looked = looked

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Hand the loss on."""
        if self._looked(state.global_step, metrics["eval_loss"]):
            control.should_training_stop = True

    def go_on_from(self, state: TrainerState) -> bool:
        """Hand on the looks before the checkpoint; whether the last of them ends the fit.

        The run may have been killed between that look and the saving of the clone.
        """
        looks = [(row["step"], row["eval_loss"]) for row in state.log_history if "eval_loss" in row]
        return [self._looked(step, loss) for step, loss in looks][-1:] == [True]


class Resuming(SFTTrainer):
    """``SFTTrainer`` that stops and goes on as described above.

    ``kept``: how many checkpoints are kept, None for all; the trainer's own ``save_total_limit`` must be None, for it
    removes older ones before the new one is whole.
    """

    kept: int | None = None
    demonstrations: Sequence[Demonstration] = ()
    control: TrainerControl
    _came_from: str | None = None
    _pass_is_owed = False
    _draws: Callable[[], None] | None = None

    @cached_property
    def interruption(self) -> Interruption:
        """Who says that it is to stop: a callback, to be added."""
        return Interruption(self)

    @cached_property
    def _reached(self) -> torch.Tensor:
        """Which training rows this process has seen: bool, one per row."""
        return torch.zeros(len(self.demonstrations), dtype=torch.bool)

    @property
    def reached(self) -> torch.Tensor:
        """Which training rows the fit has seen so far, in any process: bool, one per row."""
        everywhere = self.accelerator.reduce(self._reached.int().to(self.accelerator.device), "sum")
        return everywhere.cpu() > 0

    # -- saving -------------------------------------------------------------------------------------------

    def checkpoint_at(self, step: int) -> Path:
        """The folder of the checkpoint at ``step``."""
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether this validation loss is the lowest so far; if so, its weights are kept, whatever ``save_steps``."""
        best = super()._determine_best_metric(metrics, trial)
        if best:
            self.control.should_save = True
        return best

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save, with what is carried; write the list of files when all have saved, and remove older checkpoints."""
        folder = self.checkpoint_at(self.state.global_step)
        if self.is_world_process_zero():
            withdraw_list(folder)
        pending = self.accelerator.gather(self._tr_loss.detach().reshape(1)).mean()
        self.state.stateful_callbacks[CARRIED] = {
            "listed": True,
            "pending": pending.item(),
            "logged": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "reached": np.packbits(self.reached.numpy()).tobytes().hex(),
            "learning_rate": self.args.learning_rate,
            "pass_is_owed": self._pass_is_owed,
        }
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            write_list(folder, processes=self.args.world_size)
            rotate(folder.parent, limit=self.kept, best=self.state.best_global_step)

    # -- stopping -----------------------------------------------------------------------------------------

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, *args: Any, **kw: Any
    ) -> None:
        """Log, validate and save what is due; where validation is given up, save that it is still to be done."""
        try:
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kw)
        except PassGivenUp:
            self._pass_is_owed = True
            self.control.should_evaluate = False
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            self.interruption.stop(self.control)

    @property
    def may_give_up_step(self) -> bool:
        """Whether an accumulated step can be left undone: DeepSpeed counts its parts in the checkpoint."""
        return not self.is_deepspeed_enabled

    def note_draws(self) -> None:
        """Keep what :meth:`give_up_step` goes back to: the state of every generator, and the loss not logged yet."""
        python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        loss = self._tr_loss.clone()

        def go_back() -> None:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)
            self._tr_loss.copy_(loss)

        self._draws = go_back

    def give_up_step(self) -> None:
        """As if the parts of this step had not been computed; their gradients are never used."""
        if self._draws is not None:
            self._draws()

    def is_saved(self) -> bool:
        """Whether there is a whole checkpoint of this very step, or nothing yet to save."""
        step = self.state.global_step
        return step == 0 or (self.checkpoint_at(step) / WHOLE).exists()

    # -- going on -----------------------------------------------------------------------------------------

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load them, and let the recipe's learning rate hold where ``--allow-change`` has let it be another.

        Raises ``TrainingError`` under DeepSpeed, which keeps rates of its own.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        self._came_from = checkpoint
        if checkpoint is None:
            return
        groups, present = self.optimizer.param_groups, self.args.learning_rate
        carried = self.state.stateful_callbacks.get(CARRIED) or {}
        known = carried.get("learning_rate")
        if known is None:  # an earlier release; it had one rate for all
            initial = {group.get("initial_lr") for group in groups}
            known = initial.pop() if len(initial) == 1 else None
        if known is None or known == present:
            return
        if self.is_deepspeed_enabled:
            raise TrainingError(
                "training.learning_rate cannot change in a checkpoint of DeepSpeed; put it back, or start a new run "
                "in another folder"
            )

        def changed(rate: Any) -> Any:
            return present if rate == known else rate * (present / known)

        for group in groups:
            group |= {name: changed(group[name]) for name in ("lr", "initial_lr") if name in group}
        for name in ("base_lrs", "_last_lr"):
            if hasattr(self.lr_scheduler, name):
                setattr(self.lr_scheduler, name, [changed(rate) for rate in getattr(self.lr_scheduler, name)])

    def go_on_from(self, state: TrainerState) -> None:
        """Take over what the trainer forgets at a checkpoint, and validate where that was given up."""
        if state.best_global_step:  # the run's folder may have another name by now
            state.best_model_checkpoint = str(self.checkpoint_at(state.best_global_step))
        carried = state.stateful_callbacks.get(CARRIED)
        if carried is None:
            return
        self._tr_loss.fill_(carried["pending"])
        self._total_loss_scalar, self._globalstep_last_logged = carried["logged"], carried["last_logged"]
        packed = np.frombuffer(bytes.fromhex(carried["reached"]), dtype=np.uint8)
        self._reached = torch.from_numpy(np.unpackbits(packed, count=len(self._reached)).astype(bool))
        if state.global_step >= state.max_steps:
            self.control.should_training_stop = True
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                known = state.stateful_callbacks["EarlyStoppingCallback"]["attributes"]
                callback.early_stopping_patience_counter = known["early_stopping_patience_counter"]
                if callback.early_stopping_patience_counter >= callback.early_stopping_patience:
                    self.control.should_training_stop = True
            if isinstance(callback, EndsWhereTold) and callback.go_on_from(state):
                self.control.should_training_stop = True
        if carried.get("pass_is_owed"):
            self._make_up_for_pass()

    def _make_up_for_pass(self) -> None:
        """Validate where the run was stopped before it had, and save what comes of it over that checkpoint."""
        self._pass_is_owed = True
        try:
            metrics = self._evaluate(None, None)
        except PassGivenUp:
            self.interruption.stop(self.control)
            return
        self._pass_is_owed = False
        self._determine_best_metric(metrics, None)
        self._load_rng_state(self._came_from)  # it is loaded later on, and belongs into this checkpoint
        self._save_checkpoint(self.model_wrapped, None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train, unless the run was over at the checkpoint already and only its end is missing."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def _load_best_model(self) -> None:
        """Load the best weights. Raises ``TrainingError`` if they are not as they were saved."""
        if self.interruption.stopped:
            return
        best = Path(str(self.state.best_model_checkpoint))
        first = self.is_world_process_zero()
        fault = fault_of(best, weights_only=True) if first else None
        if tell(fault is None if first else None):
            super()._load_best_model()
            return
        if not first:
            raise SystemExit(2)  # the first process says why
        raise TrainingError(
            f"{best}: holds the best weights, and {fault}, so nothing was saved as the clone; put the file back as it "
            "was, or leave it so, and go on with --resume, which trains what is lost once more"
        )
