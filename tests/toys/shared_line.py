"""One of the processes that share a line: ``python shared_line.py FOLDER``, with the launcher's variables set.

Writes ``FOLDER/RANK.pt``: for each family of models and each way to fit it (as on a CPU, as on a card), what this
process says of its part, and what that gives every weight as gradient.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from random_sequences import APART, random_rows
from transformers import AttentionInterface, AttentionMaskInterface
from trl.trainer.utils import add_fused_lm_head
from varlen_stand_in import stand_in

from sft.runs.processes import all_processes
from sft.training.attention import BY_ROW, attending_by_row, varlen
from sft.training.batches import nats_of, tiled_nats_of
from sft.training.cut_rows import RowCut, across_the_cut, cut_of_this_process
from sft.training.sequences import LineCollator, dataset_of, part_of

AttentionInterface.register("as_on_a_card", across_the_cut(partial(varlen, kernel=stand_in)))
AttentionMaskInterface.register("as_on_a_card", lambda *_, **__: None)
#: A way to fit -> how rows are attended to, and how many tokens they have in common.
WAYS = {"cpu": (BY_ROW, 12), "card": ("as_on_a_card", 0)}


def said(cut: RowCut | None) -> dict[str, list[torch.Tensor]]:
    """By family and way: -log p of every supervised token of the line, or of a part of it, and all gradients."""
    found: dict[str, list[torch.Tensor]] = {}
    for family, made in APART.items():
        for way, (attention, common) in WAYS.items():
            torch.manual_seed(0)
            model: Any = made().eval()
            line: dict[str, Any] = LineCollator(share=bool(common))(dataset_of(random_rows(common)).to_list())
            inputs = line if cut is None else part_of(line, cut)
            with attending_by_row(model, attention):
                if way == "card":
                    add_fused_lm_head(model)
                    nats = tiled_nats_of(model, inputs)
                else:
                    nats = nats_of(model, model, inputs)
                nats.square().sum().backward()
            found[f"{family}, {way}"] = [nats.detach(), *(parameter.grad for parameter in model.parameters())]
    return found


if __name__ == "__main__":
    state = all_processes()
    torch.save(said(cut_of_this_process()), Path(sys.argv[1], f"{state.process_index}.pt"))
    state.wait_for_everyone()
    state.destroy_process_group()
