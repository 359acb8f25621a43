"""Several processes, one run: who is who, who speaks, and one file that all of them fill.

``accelerate launch`` and ``torchrun`` start the same command several times. The first process decides and writes,
the others follow; of all that end, one says why. In :func:`fill` each process makes its share of the rows, nothing
is made twice, nothing done is lost: every process appends to a file of its own; the first one takes the others'
lines over, also those that an interrupted evaluation left behind. What is on file already is not made again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import UserError
from sft.files import Appender
from sft.runs import open_append, read_jsonl

if TYPE_CHECKING:
    from accelerate import PartialState

__all__ = [
    "all_processes",
    "demand_all_started",
    "fill",
    "gone",
    "hand_on",
    "has_the_word",
    "highest",
    "is_main",
    "is_sharded",
    "missing",
    "open_own",
    "others_are_gone",
    "rank_and_world",
    "say",
    "settle",
    "tell",
    "wait_for_everyone",
]

Row = dict[str, Any]

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

    from sft.policies import default_device

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


# -- one file -------------------------------------------------------------------------------------------------


def _id(row: Row) -> Hashable:
    return str(row["id"])


def missing(path: Path, keys: Iterable[Hashable], key: Callable[[Row], Hashable] = _id) -> list[Any]:
    """Those of ``keys`` that no row of ``path`` has, in their order; ``key``: the key of a row."""
    done = {key(row) for row in read_jsonl(path)} if path.exists() else set()
    return [one for one in keys if one not in done]


def fill(
    main: Path,
    title: str,
    keys: Sequence[Hashable],
    make: Callable[[list[Any]], Iterator[Any]],
    key: Callable[[Row], Hashable] = _id,
) -> list[Row]:
    """Make the rows of ``main`` that are missing, each process its share; all of them, in order of ``keys``.

    ``make``: from keys to dataclasses, in any order. Written one by one, so a killed process loses none.
    """
    from tqdm import tqdm  # not for whoever only asks who he is

    rank, world = rank_and_world()
    settle(main)
    todo = missing(main, keys, key)[rank::world]
    wait_for_everyone()  # nobody writes before everybody has seen the same list
    if todo:
        bar = tqdm(total=len(todo), desc=title, unit="prompt", file=sys.stderr, disable=rank != 0)
        with bar, open_own(main) as file:
            for result in make(todo):
                file.append(asdict(result))
                bar.update()
    wait_for_everyone()
    settle(main)
    rows = {key(row): row for row in read_jsonl(main)} if main.exists() else {}
    return [rows[one] for one in keys if one in rows]


def open_own(main: Path) -> AbstractContextManager[Appender]:
    """This process's own part of the file ``main``, open for appending; the first process has ``main`` itself."""
    rank = rank_and_world()[0]
    return open_append(main if rank == 0 else main.with_name(f"{main.stem}.rank-{rank}.jsonl"))


def settle(main: Path) -> None:
    """Put the parts of all processes together in ``main``. All of them come here, and none writes meanwhile."""
    if rank_and_world()[0] == 0:
        for other in sorted(main.parent.glob(f"{main.stem}.rank-*.jsonl")):
            with open_append(main) as file:
                for row in read_jsonl(other):
                    file.append(row)
            other.unlink()
    wait_for_everyone()
