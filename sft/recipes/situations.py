"""Forwarded keys that do nothing on this machine or in this launch: refused with the reason, before anything starts.

The trainer takes them all and says nothing. Only a value that asks for something is refused: ``fp16: false`` holds
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sft.errors import TrainingError
from sft.recipes import Recipe
from sft.runs.machine import CORES
from sft.runs.processes import is_sharded, rank_and_world

__all__ = ["refuse_without_effect"]

#: Key -> (kinds of device it does something on, what it is there).
_DEVICES = {
    "fp16": (("cuda", "mps"), "float16 is a format of GPUs"),
    "tf32": (("cuda",), "TF32 is a format of NVIDIA GPUs"),
    "torch_empty_cache_steps": (("cuda", "mps"), "it empties a GPU's cache of memory"),
    "dataloader_pin_memory": (("cuda",), "pinned memory is what an NVIDIA GPU copies from"),
    "activation_offloading": (("cuda",), "it takes activations off an NVIDIA GPU"),
}
#: Workers of a loader for each core: more only take memory, and some hundreds of them took a machine down.
_WORKERS_A_CORE = 4
_DDP = ("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph")


def refuse_without_effect(recipe: Recipe) -> None:
    """Raise ``TrainingError`` for the first key of ``recipe`` that would do nothing here, or nothing but harm."""
    given: Mapping[str, Any] = recipe.training.model_extra or {}
    if (workers := given.get("dataloader_num_workers") or 0) > _WORKERS_A_CORE * CORES:
        raise TrainingError(
            f"training.dataloader_num_workers: {workers} would start that many processes, each a copy of this one, and "
            f"there are {CORES} cores here; write {CORES} or fewer"
        )
    if given.keys().isdisjoint((*_DEVICES, *_DDP)):
        return  # before torch is loaded to ask for the device
    from sft.runs.machine import default_device

    for key, why in _without_effect(given, default_device().type):
        raise TrainingError(f"training.{key}: {given[key]} would do nothing, because {why}; remove it")


def _without_effect(given: Mapping[str, Any], device: str) -> Iterator[tuple[str, str]]:
    """Keys that do nothing, with the reason."""
    for key, (devices, what) in _DEVICES.items():
        if given.get(key) and device not in devices:
            yield key, f"{what}, and torch finds none here"
    for key in _DDP:
        if given.get(key) is not None and rank_and_world()[1] == 1:
            yield key, "it is about several processes, and one was launched"
        elif given.get(key) is not None and is_sharded() and device != "cpu":
            yield key, "FSDP and DeepSpeed exchange gradients in a way of their own"
