"""Writes down, from outside of ``sft``, what a model reads while it is fitted.

``install`` registers torch's own hooks for all modules; nothing of the product is replaced. Every forward pass of a
model in training mode becomes one line of the file ``WATCH``-RANK.jsonl: the ids its embedding was given, the
number of positions its head scored, and the process. The folder has a ``sitecustomize`` too, so that a program that is
started with the folder on ``PYTHONPATH`` is watched from the moment it has imported its trainer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def install() -> None:
    """Watch this process, if ``WATCH`` is set."""
    if "WATCH" not in os.environ:
        return
    import torch
    from torch.nn.modules import module as modules

    file = Path(f"{os.environ['WATCH']}-{os.environ.get('RANK', '0')}.jsonl")
    read: dict[str, Any] = {}

    def before(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and module.training:
            read.update(ids=inputs[0].tolist(), words=module.num_embeddings)

    def after(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, torch.nn.Linear) and module.training and module.out_features == read.get("words"):
            line = {"pid": os.getpid(), "ids": read["ids"], "scored": output[..., 0].numel()}
            with file.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")

    modules.register_module_forward_pre_hook(before)
    modules.register_module_forward_hook(after)
