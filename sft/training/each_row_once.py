"""Every row once an epoch, however many processes there are.

Where the batches of an epoch do not go round evenly, accelerate hands the processes that are left over rows from the
epoch's beginning once more (``BatchSamplerShard``, ``even_batches``): with two processes and 76 rows in batches of 4,
four rows count twice in every epoch, and the losses are not those of one process. Here a process that has no
batch left in the last round computes along, for gradients are exchanged by all, on rows that count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from trl import SFTTrainer

from sft.errors import TrainingError

__all__ = ["EachRowOnce"]


class _Shares(BatchSamplerShard):
    """Batches dealt out in rounds, one to each process; in the last round the last ones get a stand-in."""

    stands_in = False

    def __len__(self) -> int:
        return -(-len(self.batch_sampler) // self.num_processes)

    def __iter__(self) -> Iterator[list[int]]:
        self.stands_in = False
        batches = iter(self.batch_sampler)
        while dealt := list(islice(batches, self.num_processes)):
            self.stands_in = self.process_index >= len(dealt)
            yield dealt[0][:1] if self.stands_in else dealt[self.process_index]


class EachRowOnce(SFTTrainer):
    """``SFTTrainer`` whose processes share an epoch's rows without seeing any twice."""

    _shares: _Shares | None = None

    def get_train_dataloader(self) -> Any:
        """The trainer's loader, its batches dealt out by :class:`_Shares` where there are several processes.

        Raises ``TrainingError`` where accelerate would hand rows out in another way, some of them twice.
        """
        loader = super().get_train_dataloader()
        if self.accelerator.num_processes == 1 or self.args.dataloader_drop_last:
            return loader
        dealt = loader.batch_sampler
        if type(dealt) is not BatchSamplerShard or dealt.split_batches:
            raise TrainingError(
                "training.accelerator_config: with split_batches or dispatch_batches some rows would count twice an "
                "epoch; take them out"
            )
        # A loader's sampler cannot be set once it is made, and accelerate makes the loader; so its sampler learns.
        dealt.__class__ = _Shares
        self._shares = dealt
        return loader

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of a step, and the supervised tokens in them over all processes.

        Where this process lacks a batch in the epoch's last round, what stands in for it is neither supervised nor
        counted.
        """
        batches: list[dict[str, Any]] = list(islice(epoch_iterator, num_batches))
        state = self.accelerator.gradient_state
        if batches and self._shares is not None and self._shares.stands_in and state.end_of_dataloader:
            batches[-1] = batches[-1] | {
                "labels": torch.full_like(batches[-1]["labels"], -100),
                "row": batches[-1]["row"][:0],
            }
        return batches, self._get_num_items_in_batch(batches, device)
