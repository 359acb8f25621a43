"""``SFTTrainer`` on ready ids and labels. What is changed in it, and why:

- the loss is computed at supervised positions only, on the CPU too (same value, much less work), and rows may
  stand in one line without padding (``sequences``, ``attention``);
- the validation loss is a mean over tokens, so batch size and process count cannot change it;
- several processes see every row once an epoch (``each_row_once``);
- a loss or gradient that is not finite stops the run and names the step and the rows;
- the weights with the lowest validation loss are kept, however seldom checkpoints are due, and a run that was stopped
  ends as if it never was (``resuming``);
- no model card is written behind our back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad

from sft.errors import TrainingError
from sft.policies.weights import supervised_only
from sft.training.each_row_once import EachRowOnce
from sft.training.resuming import Resuming
from sft.training.sequences import IGNORED

__all__ = ["CloningTrainer"]


def nats_of(model: torch.nn.Module, bare: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p of every supervised token of a batch, ``(n,)``, and the item (0..items-1) each belongs to, ``(n,)``.

    ``model``: what is called; ``bare``: the same without what a launcher wraps it in.
    """
    labels = inputs["labels"][:, 1:]
    predicted = pad(labels != IGNORED, (0, 1))
    where = {name: inputs[name] for name in ("position_ids", "segments") if name in inputs}
    # Padding is on the right and attention is causal, or there is no padding: no real token ever sees any, and
    # without a mask attention takes its faster path.
    with supervised_only(bare, predicted):
        logits = model(input_ids=inputs["input_ids"], use_cache=False, **where).logits[0]
    targets = labels[labels != IGNORED].to(logits.device)
    nats = cross_entropy(logits.float(), targets, reduction="none")
    if "segments" not in inputs:
        return nats, predicted.nonzero()[:, 0]
    shared, *lengths = inputs["segments"]
    items = torch.arange(len(lengths), device=predicted.device)
    owner = items.repeat_interleave(torch.tensor(lengths, device=predicted.device))
    return nats, owner[predicted[0, shared:]]


class CloningTrainer(Resuming, EachRowOnce):
    """``SFTTrainer`` as described above. ``demonstrations``: the training rows, for addresses in complaints."""

    _rows_of_step: tuple[int, ...] = ()

    def _nats(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """-log p of every supervised token of the batch, and the item (0..items-1) each belongs to."""
        return nats_of(model, self.accelerator.unwrap_model(model), inputs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean nats per supervised token of the (accumulated) batch. Raises ``TrainingError`` if not finite."""
        rows = inputs.pop("row").tolist()
        self._rows_of_step += tuple(rows)
        self._reached[rows] = True
        # On CUDA TRL's kernel scores supervised positions only, in tiles; it knows rows with padding.
        if inputs["input_ids"].device.type == "cuda" and "segments" not in inputs:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        else:
            nats, _ = self._nats(model, inputs)
            loss = nats.sum() / (len(nats) if num_items_in_batch is None else num_items_in_batch)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
        value = (loss[0] if return_outputs else loss).detach()
        if not torch.isfinite(value):
            raise TrainingError(self._not_finite("loss", float(value), rows))
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The gradient's norm; raises ``TrainingError`` before one that is not finite spoils the weights."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        rows, self._rows_of_step = self._rows_of_step, ()
        # In float16 the scaler expects overflows now and then, and leaves those steps out.
        if norm is not None and self.accelerator.scaler is None and not math.isfinite(float(norm)):
            raise TrainingError(self._not_finite("gradient's norm", float(norm), rows))
        return norm

    def _not_finite(self, what: str, value: float, rows: Sequence[int] = ()) -> str:
        sources = [self.demonstrations[row].source for row in rows]
        where = ", ".join(f"{s.file}:{s.line}" for s in sources if s is not None)
        on = f" on the rows {where}" if where else ""
        return (
            f"step {self.state.global_step + 1}: the {what} is {value}{on}; nothing further was trained or saved "
            "(lower training.learning_rate, or look at those rows)"
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss as nats per supervised token, whatever the batch size and the number of processes."""
        loader = self.get_eval_dataloader(eval_dataset)
        model = self.model_wrapped
        model.eval()
        nats, tokens = 0.0, 0
        for inputs in loader:
            self.demand_no_stop()
            inputs = self._prepare_inputs(inputs)
            inputs.pop("row")
            with torch.no_grad(), self.compute_loss_context_manager():
                each, owner = self._nats(model, inputs)
            size = len(inputs["segments"]) - 1 if "segments" in inputs else len(inputs["input_ids"])
            per_row = torch.zeros(size, dtype=torch.float64, device="cpu").index_add_(
                0, owner.cpu(), each.double().cpu()
            )
            counts = torch.bincount(owner, minlength=size)
            # gather_for_metrics drops the rows that were repeated to fill the last batch of every process.
            gathered = self.accelerator.gather_for_metrics((per_row.float().to(counts.device), counts))
            nats += float(gathered[0].double().sum())
            tokens += int(gathered[1].sum())
        metrics = {f"{metric_key_prefix}_loss": nats / max(tokens, 1)}
        if not math.isfinite(metrics[f"{metric_key_prefix}_loss"]):
            raise TrainingError(self._not_finite("validation loss", nats))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As the trainer makes it; ``TrainingError`` where ``optim_target_modules`` names nothing of this model."""
        try:
            return super().create_optimizer(*args, **kwargs)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise TrainingError(
                f"training.optim: {reason}; correct training.optim_target_modules, or write optim: adamw_torch"
            ) from error

    @property
    def mean_loss(self) -> float:
        """Mean training loss over all steps, those before an interruption included."""
        return self._total_loss_scalar / max(self.state.global_step, 1)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the card is made from the run, with its figures."""
