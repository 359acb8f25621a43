"""Several processes, one run: who is who, and who speaks.

``accelerate launch`` and ``torchrun`` start the same command several times. The first process decides and writes,
the others follow; of all that end, one says why.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sft.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = [
    "all_processes",
    "demand_all_started",
    "gone",
    "hand_on",
    "has_the_word",
    "highest",
    "is_main",
    "is_sharded",
    "others_are_gone",
    "rank_and_world",
    "say",
    "tell",
    "wait_for_everyone",
]

#: Seconds to wait for the launcher's store.
STORE_SECONDS = 5.0

# -- who ------------------------------------------------------------------------------------------------------


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes, as ``accelerate launch`` and ``torchrun`` set them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that decides and writes: the first one under a launcher, or the only one."""
    return rank_and_world()[0] == 0


def demand_all_started() -> None:
    """Raise ``UserError`` when ``accelerate launch`` was asked for several processes and has started one.

    On a CPU it starts more only through mpirun, whose processes do not learn from it who they are; without a word it
    sets an address to meet at, and nobody comes (``accelerate.utils.launch.prepare_simple_launcher_cmd_env``).
    """
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if asked and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "accelerate launch was asked for several processes and has started one, for on a CPU it knows only mpirun; "
            "type: accelerate launch --config_file recipes/accelerate/cpu.yaml --num_processes N -m sft ..."
        )


def is_sharded() -> bool:
    """Whether the launcher's configuration asks for weights or optimizer in parts: FSDP, or a stage of ZeRO."""
    return any(os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true" for kind in ("FSDP", "DEEPSPEED"))


def all_processes() -> PartialState:
    """The processes that a launcher started, as a group that can wait for each other.

    Without ``cpu`` accelerate makes no group where there is no accelerator, and waits for nobody.
    """
    from accelerate import PartialState

    from sft.runs.machine import default_device

    return PartialState(cpu=default_device().type == "cpu")


def wait_for_everyone() -> None:
    """Go on when all processes have come here; at once where there is only one."""
    if rank_and_world()[1] > 1:
        all_processes().wait_for_everyone()


def tell(went_well: bool | None) -> bool:
    """From the first process to the others: whether what it alone does went well. They pass None, and wait."""
    return bool(hand_on(went_well))


def hand_on(value: Any) -> Any:
    """What the first process passes, in every process. The others pass None, and wait."""
    if rank_and_world()[1] == 1:
        return value
    from accelerate.utils import broadcast_object_list

    all_processes()
    return broadcast_object_list([value])[0]


def highest(value: int) -> int:
    """The highest of all processes' values. All of them come here."""
    if rank_and_world()[1] == 1:
        return value
    import torch
    from accelerate.utils import gather

    own = torch.tensor([value], device=all_processes().device)
    return int(gather(own).max())


# -- who speaks -----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line of progress, on stderr, from the first process only."""
    if is_main():
        sys.stderr.write(text + "\n")


def has_the_word() -> bool:
    """Whether this process is to say why the run has ended: the first that asks, of all that one launcher started.

    The launcher's own store keeps the count, for it outlives every process; without one, each says it itself.
    """
    if rank_and_world()[1] == 1:
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not among what the stubs export

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=STORE_SECONDS))
        return store.add(f"sft/word/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except (KeyError, ValueError, RuntimeError):  # no launcher any more; better said twice than never
        return True


def others_are_gone(error: BaseException) -> bool:
    """Whether ``error`` is what the processes' common library says when one of them has ended."""
    if rank_and_world()[1] == 1:
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def gone() -> str:
    """What to say when another process of the run has ended, or the launcher has ended them all."""
    rank, world = rank_and_world()
    return (
        f"another of the {world} processes has ended, or all were told to (process {rank} says so; the launcher says "
        "which one it was, and exit code -9 is mostly want of memory); what is saved is kept"
    )
