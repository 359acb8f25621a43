"""``SFTTrainer`` on ready ids and labels. What is changed in it, and why:

- the loss is computed at supervised positions only, on the CPU too (same value, much less work), and rows may
  stand in one line without padding (``batches``);
- the validation loss is a mean over tokens, so batch size and process count cannot change it;
- several processes see every row once an epoch (:class:`_Shares`), each its own or its part of one (``cut_rows``);
- a loss or gradient that is not finite stops the run and names the step and the rows;
- the weights with the lowest validation loss are kept, however seldom checkpoints are due, and a run that was stopped
  ends as if it never was (``resuming``);
- no model card is written behind our back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import torch
from accelerate.data_loader import BatchSamplerShard

from sft.errors import TrainingError
from sft.runs.processes import everyones, processes_per_row
from sft.training.batches import nats_of, tiled_nats_of
from sft.training.cut_rows import SP_SIZE, RowCut
from sft.training.resuming import PassGivenUp, Resuming
from sft.training.sequences import IGNORED, part_of


class _Shares(BatchSamplerShard):
    """Batches dealt out in rounds, one to each process; in the last round the last ones get a stand-in.

    Where the batches of an epoch do not go round evenly, accelerate hands the processes that are left over rows from
    the epoch's beginning once more (``even_batches``): with two processes and 76 rows in batches of 4, four rows count
    twice in every epoch, and the losses are not those of one process. Here a process that has no batch left in the
    last round computes along, for gradients are exchanged by all, on rows that count for nothing.
    """

    stands_in = False

    def __len__(self) -> int:
        return -(-len(self.batch_sampler) // self.num_processes)

    def __iter__(self) -> Iterator[list[int]]:
        self.stands_in = False
        batches = iter(self.batch_sampler)
        while dealt := list(islice(batches, self.num_processes)):
            self.stands_in = self.process_index >= len(dealt)
            yield dealt[0][:1] if self.stands_in else dealt[self.process_index]


class CloningTrainer(Resuming):
    """``SFTTrainer`` as described above. ``demonstrations``: the training rows, for addresses in complaints."""

    _rows_of_step: tuple[int, ...] = ()
    _shares: _Shares | None = None
    cut: RowCut | None = None

    def _nats(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """-log p of every supervised token of the batch."""
        return nats_of(model, self.accelerator.unwrap_model(model), inputs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mean nats per supervised token of the (accumulated) batch. Raises ``TrainingError`` if not finite.

        Outputs are never returned: what would ask for them, the library's own validation, is :meth:`evaluate` here.
        """
        rows = inputs.pop("row").tolist()
        self._rows_of_step += tuple(rows)
        self._reached[rows] = True
        if self.cut is not None:
            inputs = part_of(inputs, self.cut)
        # On CUDA TRL's kernel scores supervised positions only, in tiles, so that no batch's logits are ever whole. In
        # a line too: no row's first token is supervised, so none is predicted from the row before.
        if inputs["input_ids"].device.type == "cuda":
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        else:
            nats = self._nats(model, inputs)
            loss = nats.sum() / (len(nats) if num_items_in_batch is None else num_items_in_batch)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
        if not torch.isfinite(loss.detach()):
            raise TrainingError(self._not_finite("loss", float(loss.detach()), rows))
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
        shares = self._deal(loader)
        model = self.model_wrapped
        model.eval()
        nats, tokens = 0.0, 0
        for inputs in loader:
            if self.interruption.agreed():  # all processes come here at the same place
                raise PassGivenUp
            inputs = self._prepare_inputs(inputs)
            inputs.pop("row")
            if self.cut is not None:
                inputs = part_of(inputs, self.cut)
            tiled = inputs["input_ids"].device.type == "cuda"
            with torch.no_grad(), self.compute_loss_context_manager():
                each = tiled_nats_of(model, inputs) if tiled else self._nats(model, inputs)
            if shares is None or not self._stands_in(shares):
                nats += float(each.cpu().double().sum())
                tokens += len(each)
        nats, tokens = (sum(of_all) for of_all in zip(*everyones((nats, tokens)), strict=True))
        metrics = {f"{metric_key_prefix}_loss": nats / max(tokens, 1)}
        if not math.isfinite(metrics[f"{metric_key_prefix}_loss"]):
            raise TrainingError(self._not_finite("validation loss", nats))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def get_train_dataloader(self) -> Any:
        """The trainer's loader, its batches dealt out by :class:`_Shares` where there are several processes.

        Raises ``TrainingError`` where accelerate would hand rows out in another way, some of them twice.
        """
        loader = super().get_train_dataloader()
        self._shares = self._deal(loader)
        return loader

    def _deal(self, loader: Any) -> _Shares | None:
        """Have ``loader`` deal its batches out as :class:`_Shares`, which it returns; None where nothing is dealt."""
        if self.accelerator.num_processes == 1 or self.args.dataloader_drop_last:
            return None
        dealt = loader.batch_sampler
        if isinstance(dealt, _Shares):
            return dealt
        if not isinstance(dealt, BatchSamplerShard) or dealt.split_batches:
            raise TrainingError(
                "training.accelerator_config: with split_batches or dispatch_batches some rows would count twice an "
                "epoch; take them out"
            )
        # A loader's sampler cannot be set once it is made, and accelerate makes the loader; so its sampler learns.
        dealt.__class__ = _Shares
        dealt.num_processes //= processes_per_row()
        dealt.process_index //= processes_per_row()
        return cast("_Shares", dealt)

    def _stands_in(self, shares: _Shares) -> bool:
        """Whether the batch at hand stands in for one that this process lacks in the last round."""
        return shares.stands_in and bool(self.accelerator.gradient_state.end_of_dataloader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step, and the supervised tokens in them over all processes.

        Where this process lacks a batch in the epoch's last round, what stands in for it is neither supervised nor
        counted.
        """
        batches: list[dict[str, Any]] = list(islice(epoch_iterator, num_batches))
        if batches and self._shares is not None and self._stands_in(self._shares):
            batches[-1] = batches[-1] | {
                "labels": torch.full_like(batches[-1]["labels"], IGNORED),
                "row": batches[-1]["row"][:0],
            }
        counted = self._get_num_items_in_batch(batches, device)
        if self.cut is None:
            return batches, counted
        if counted is None:
            raise TrainingError(
                f"{SP_SIZE}: this model's supervised tokens are not counted over processes; take it out"
            )
        return batches, counted / self.cut.parts  # each of those who share a row has counted it

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As the trainer makes it; ``TrainingError`` where ``optim_target_modules`` names nothing of this model."""
        try:
            return super().create_optimizer(*args, **kwargs)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise TrainingError(
                f"training.optim: {reason}; correct training.optim_target_modules, or write optim: adamw_torch"
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """As the trainer saves; weights that are tied are written once.

        Gathered from processes that hold a part each, an embedding and the head that it is are two tensors.
        """
        if state_dict is not None:
            tied = getattr(self.accelerator.unwrap_model(self.model), "all_tied_weights_keys", None) or {}
            state_dict = {name: value for name, value in state_dict.items() if tied.get(name) not in state_dict}
        super()._save(output_dir, state_dict=state_dict)

    @property
    def mean_loss(self) -> float:
        """Mean training loss over all steps, those before an interruption included."""
        return self._total_loss_scalar / max(self.state.global_step, 1)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: the card is made from the run, with its figures."""
