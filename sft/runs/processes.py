"""Several processes, one run: who is who, who speaks, and what happens when they are told to stop.

``accelerate launch`` and ``torchrun`` start the same command several times. The first process decides and writes,
the others follow; of all that end, one says why.

Told to stop is whoever gets Ctrl-C, SIGTERM or SIGUSR1 of a batch system, a container or a launcher, or loses its
terminal.
Work that is kept row by row stops at once: ``KeyboardInterrupt`` after Ctrl-C, :class:`Terminated` after the others.
A fit ends its step first (``training.resuming.Interruption``). One wish to stop may arrive more than once: a launcher
hands on what the terminal has sent to its processes as well, ``timeout`` and ``scancel`` tell a process and its group.
Such echoes are no second wish, which would stop a fit before it has saved its checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sft.errors import UserError
from sft.runs.network import INTERFACE, launchers_store, meet, noticing_an_end, word_key
from sft.runs.progress import is_quiet

if TYPE_CHECKING:
    from accelerate import PartialState

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


#: Ways to have several processes work at one row that are not offered, by the variable with which ``accelerate launch``
#: asks for each.
_ONE_ROW = {
    "PARALLELISM_CONFIG_TP_SIZE": "tensor parallelism",
    "PARALLELISM_CONFIG_CP_SIZE": "context parallelism",
}
#: With this ``accelerate launch`` says that its configuration has a section about parallelism.
_SECTION = "ACCELERATE_USE_PARALLELISM_CONFIG"


def _size(name: str) -> int:
    """A size in that section of the launcher's configuration; 1 where it has none."""
    if os.environ.get(_SECTION, "").lower() != "true":
        return 1
    return int(os.environ.get(name) or "1")


def processes_per_row() -> int:
    """How many processes share a row, each with a part of its tokens, as the launcher's configuration has it."""
    return _size("PARALLELISM_CONFIG_SP_SIZE")


def row_groups() -> int:
    """Among how many rows are dealt out: the processes, or groups of those that share rows."""
    return rank_and_world()[1] // processes_per_row()


@contextmanager
def sharing_rows_by_itself() -> Iterator[None]:
    """Inside, accelerate does not see that processes share rows: it would have DeepSpeed cut them once more."""
    hidden = os.environ.pop(_SECTION) if processes_per_row() > 1 else None
    try:
        yield
    finally:
        if hidden is not None:
            os.environ[_SECTION] = hidden


def refuse_one_row_for_several() -> None:
    """Raise ``UserError`` where the launcher's configuration would have several processes work at one row otherwise
    than by its tokens, or not all of them in groups of equal size.

    Rows are dealt out to processes, and counted, as if each had its own; the trainer would take them all the same.
    """
    kinds = [kind for name, kind in _ONE_ROW.items() if _size(name) > 1]
    if os.environ.get("ACCELERATE_USE_MEGATRON_LM", "").lower() == "true":
        kinds.append("Megatron-LM")
    if kinds:
        raise UserError(
            f"the configuration of accelerate launch asks for {' and '.join(kinds)}, which is not offered; take that "
            "out, and for rows too long for one GPU cut them by sp_size: recipes/accelerate/long-rows.yaml, which "
            "splits the weights too"
        )
    parts, world = processes_per_row(), rank_and_world()[1]
    if parts == 1:
        return
    if world % parts:
        raise UserError(
            f"the configuration of accelerate launch has {parts} processes share a row (sp_size), and {world} "
            f"{'was' if world == 1 else 'were'} launched; launch {parts}, or a multiple of that"
        )
    if _size("PARALLELISM_CONFIG_DP_SHARD_SIZE") > 1 or _size("PARALLELISM_CONFIG_DP_REPLICATE_SIZE") > 1:
        raise UserError(
            "the configuration of accelerate launch has sp_size beside dp_shard_size or dp_replicate_size; take these "
            "out: all processes hold the weights together, and those that share no row have rows of their own"
        )


def sharding() -> str:
    """Who holds weights or optimizer in parts by the launcher's configuration: ``FSDP``, ``ZeRO-3``, ``DeepSpeed`` with
    another stage, "" where nobody does."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        stage: object = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
        with suppress(KeyError, OSError, ValueError, TypeError):  # whoever reads the file says what is amiss with it
            stage = json.loads(Path(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"]).read_bytes())["zero_optimization"][
                "stage"
            ]
        return "ZeRO-3" if str(stage) == "3" else "DeepSpeed"
    return "FSDP" if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" else ""


def is_sharded() -> bool:
    """Whether the launcher's configuration asks for weights or optimizer in parts."""
    return bool(sharding())


def all_processes() -> PartialState:
    """The processes that a launcher started, as a group that can wait for each other.

    Without ``cpu`` accelerate makes no group where there is no accelerator, and waits for nobody.
    """
    import torch
    from accelerate import PartialState

    from sft.runs.machine import default_device

    on_cpus = default_device().type == "cpu"
    if torch.distributed.is_initialized():
        return PartialState(cpu=on_cpus)
    meet()
    with noticing_an_end():
        return PartialState(cpu=on_cpus)


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


def everyones(value: Any) -> list[Any]:
    """The values of all processes, in their order. All of them come here."""
    if rank_and_world()[1] == 1:
        return [value]
    from accelerate.utils import gather_object

    all_processes()
    return list(gather_object([value]))


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
    """One line of progress, on stderr, from the first process only; nothing with ``--quiet``."""
    if is_main() and not is_quiet():
        sys.stderr.write(text + "\n")


def has_the_word() -> bool:
    """Whether this process is to say why the run has ended: the first that asks, of all that one launcher started.

    The launcher's own store keeps the count, for it outlives every process; without one, each says it itself.
    """
    if rank_and_world()[1] == 1:
        return True
    try:
        return launchers_store(STORE_SECONDS).add(word_key(), 1) == 1
    except (KeyError, ValueError, RuntimeError):  # no launcher any more; better said twice than never
        return True


def others_are_gone(error: BaseException) -> bool:
    """Whether ``error`` is what the processes' common library says when one of them has ended."""
    if rank_and_world()[1] == 1:
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def gone(error: BaseException | None = None) -> str:
    """What to say when another process of the run has ended, or the launcher has ended them all; or, by what their
    common library said, when they have met and do not reach each other."""
    rank, world = rank_and_world()
    if "connectFullMesh" in str(error):
        through = f"the network {os.environ[INTERFACE]}" if INTERFACE in os.environ else "the network of its own name"
        return (
            f"process {rank} of {world} does not reach the others through {through}; open all ports between the "
            f"machines, or name another network in {INTERFACE}"
        )
    return (
        f"another of the {world} processes has ended, or all were told to (process {rank} says so; the launcher says "
        "which one it was, and exit code -9 is mostly want of memory); what is saved is kept"
    )


# -- told to stop ------------------------------------------------------------------------------------------------

#: Seconds in which a signal that was heard already is taken for an echo.
ECHO_SECONDS = 3.0
#: Seconds that a process of several has to end in good order, and in a fit; torchrun kills after 30.
GRACE_SECONDS, FIT_GRACE_SECONDS = 5.0, 27.0
#: ``prctl(2)``: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
#: SIGUSR1 is what batch systems send before the time is up, where they are asked to (``sbatch --signal=USR1@120``).
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

_Handler = Callable[[int, FrameType | None], None]


class Terminated(SystemExit):
    """Ended by a signal other than Ctrl-C. ``number``: which; its text: what to say, "" for nothing in particular."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text)
        self.number, self.code = number, 128 + number  # should nobody catch it


@dataclass(slots=True)
class _Heard:
    """What this process was told: when last (seconds of the monotonic clock), and how long it may take to end."""

    moment: float | None = None
    grace: float = GRACE_SECONDS
    ending: bool = False


_heard = _Heard()


def ending(number: int, text: str = "") -> BaseException:
    """The exception that signal ``number`` ends the work with."""
    return KeyboardInterrupt(text) if number == signal.SIGINT else Terminated(number, text)


def status_of(stop: BaseException) -> int:
    """The exit status after ``stop``: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


def note() -> None:
    """Remember that a wish to stop was heard, or that the work has just stopped: what comes now may be its echo."""
    _heard.moment = time.monotonic()


def is_echo(number: int) -> bool:
    """Whether ``number`` only repeats what was heard. Ctrl-C twice is a wish, unless a launcher hands it on."""
    launched = rank_and_world()[1] > 1 or "TORCHELASTIC_RUN_ID" in os.environ
    if _heard.moment is None or (number == signal.SIGINT and not launched):
        return False
    return time.monotonic() - _heard.moment < ECHO_SECONDS


def write_at_once(text: str) -> None:
    """Write to stderr from a handler, which may have come in the middle of a write by the same thread."""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, text.encode())


@contextmanager
def handling(handler: _Handler, *, patient: bool = False) -> Iterator[None]:
    """Inside, ``handler`` hears every signal that asks to stop; elsewhere than in the main thread all stays as it is.

    A signal that the process was started to ignore (``nohup``) stays ignored. ``patient``: of several processes this
    one may take :data:`FIT_GRACE_SECONDS` to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before, grace = {number: signal.signal(number, handler) for number in numbers}, _heard.grace
    _heard.grace = FIT_GRACE_SECONDS if patient else grace
    try:
        yield
        _heard.grace = grace  # after an error the process is about to end, and may take as long for that
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _stop(number: int, frame: FrameType | None) -> None:
    if _heard.ending or is_echo(number):
        return
    note()
    # A launcher ends all processes when one has ended, so this one cannot know which it was.
    raise ending(number, gone() if number == signal.SIGTERM and rank_and_world()[1] > 1 else "")


def _end_with_the_launcher() -> None:
    """Have the system send SIGTERM here when ``accelerate launch`` of one process ends, for it hands no signal on.

    It starts one process without saying so in the environment of a group (``accelerate.commands.launch``,
    ``simple_launcher``); told to stop it is gone at once, and what it started would train on.
    """
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "WORLD_SIZE" not in os.environ and sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


@contextmanager
def listening(complaint: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Inside, a signal that asks to stop raises :func:`ending`; what it yields is called when all is over but words.

    Of several processes one may wait for a dead one, deep in a library, and not notice; when its grace is over,
    ``complaint`` gets its last words all the same, and it ends.
    """
    global _heard
    heard = _heard = _Heard()
    _end_with_the_launcher()

    def is_over() -> None:
        heard.ending = True

    with handling(_stop), _watching(complaint):
        yield is_over


@contextmanager
def _watching(complaint: Callable[[str], None]) -> Iterator[None]:
    """Inside, a thread ends the process when it was told to and its grace is over; only where there are several."""
    if rank_and_world()[1] == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    over, heard = threading.Event(), _heard
    told, wake = os.pipe()
    os.set_blocking(wake, False)

    def watch() -> None:
        while number := os.read(told, 1):
            if number[0] not in _SIGNALS:
                continue
            began = time.monotonic()
            while time.monotonic() < max(began, heard.moment or began) + heard.grace:
                if over.wait(0.1):
                    return
            if not heard.ending:  # or the main thread is saying why
                complaint(gone())
            os._exit(128 + number[0])

    waker = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(waker)
        os.close(wake)
