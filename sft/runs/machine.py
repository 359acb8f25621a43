"""The machine: what a run owes its readers about it, what is free of it, and what it refused, as one sentence.

Packages, cores, memory, accelerator go on record; no host, user or home path does.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sft.errors import RunError
from sft.runs import progress

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

#: Cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
#: Parts of a long list for each core: the last of them then ends little after the others.
_PARTS = 4
_GROUP = Path("/sys/fs/cgroup")  # of a container, version 2

#: Packages whose version can change a number in a scorecard.
PACKAGES = (
    "behavioral-cloning", "torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets", "evaluate",
    "sacrebleu", "rouge-score", "rapidfuzz", "scikit-learn", "scipy", "numpy",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Version of Python and of every installed package that can change a result; nothing is imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine(accelerator: str | None = None) -> dict[str, Any]:
    """The machine without its name: system, architecture, cores and memory this process may use.

    ``accelerator``: its name as the engine knows it; None where there is none.
    """
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": CORES,
        "memory_bytes": _memory_bytes(),
        "accelerator": accelerator,
    }


def _memory_bytes() -> int | None:
    """Physical memory, or less where a container is allowed less."""
    limits: list[int] = []
    with suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max" is no number
        limits.append(int((_GROUP / "memory.max").read_text(encoding="ascii")))
    return min(limits, default=None)


def _row(path: str | Path, name: str) -> int:
    """The number behind ``name`` in a file of the system. Raises ``OSError``, or ``ValueError`` where it has none."""
    found = re.search(rf"^{name}:?\s+(\d+)", Path(path).read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def peak_memory_bytes() -> int:
    """Most memory this process has held at once (resident set)."""
    with suppress(OSError, ValueError):  # where there is such a file: a parent's peak is not inherited
        return _row("/proc/self/status", "VmHWM") * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def default_device() -> torch.device:
    """This process's accelerator if there is one (``LOCAL_RANK`` picks it), else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the run will be: what there is and what is free of it. ``device``: where the weights will be.

    ``memory`` and ``available`` are of that device: the GPU's own, or the machine's.
    """

    device: str
    memory: int | None
    available: int | None
    disk_free: int | None


def size(count: float) -> str:
    """``1.5 GB``: bytes in decimal units, as disks and this package's documents have them."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= 0.9995 * scale:
            shown = count / scale
            return f"{shown:.0f} {unit}" if shown >= 99.5 or unit == "MB" else f"{shown:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def machine_here(folder: Path) -> Machine:
    """This process's device and its memory, and the disk of ``folder``, which need not exist yet."""
    there = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), Path("/"))
    disk = shutil.disk_usage(there).free
    device = default_device()
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return Machine("cuda", total, free, disk)
    memory = machine()["memory_bytes"]
    return Machine(device.type, memory, _available(memory), disk)


def _available(memory: int | None) -> int | None:
    """Bytes that programs may still have, file caches given up; None where the system does not say."""
    found: list[int] = [] if memory is None else [memory]
    with suppress(OSError, ValueError):
        found.append(_row("/proc/meminfo", "MemAvailable") * 1024)
    with suppress(OSError, ValueError):  # a container's own limit; "max" is no number
        limit, used = (int((_GROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(limit - used + _row(_GROUP / "memory.stat", "file"))
    return min(found, default=None)


def swap_bytes() -> int:
    """What the system can put onto disk; 0 where it does not say."""
    with suppress(OSError, ValueError):
        return _row("/proc/meminfo", "SwapTotal") * 1024
    return 0


def in_parts(
    function: Callable[..., T], items: Sequence[Any], *fixed: Any, least: int, title: str = "parts", cores: int = CORES
) -> list[T]:
    """``function(part, *fixed)`` for consecutive parts of ``items``, in their order.

    One part, done here, where there are fewer than ``least`` items or there is one core; ``least`` is what takes some
    seconds, for starting processes takes one. ``title``: what is said to be under way, where it takes long.
    ``cores``: processes at a time. ``function``, ``fixed`` and the items must be picklable.
    """
    if len(items) < least or cores == 1:
        return [function(items, *fixed)]
    from joblib import Parallel, delayed

    some = -(-len(items) // (_PARTS * cores))
    parts = [items[start : start + some] for start in range(0, len(items), some)]
    made: list[T] = []
    with progress.bar(len(parts), title, "part", after=progress.PATIENCE) as bar:
        run = Parallel(n_jobs=cores, backend="loky", return_as="generator")
        for one in run(delayed(function)(part, *fixed) for part in parts):
            made.append(one)
            bar.update()
    return made


# -- what it refused ----------------------------------------------------------------------------------------------

#: errno -> what it means and what to do.
_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file is larger than the disk or `ulimit -f` allows; raise the limit, or use another disk",
    errno.EROFS: "the disk is read-only; use a folder on another one",
    errno.EACCES: "no permission; change the rights, or use another folder",
    errno.EPERM: "no permission; change the rights, or use another folder",
    errno.EIO: "the disk failed; check it, or use another one",
}


#: What torch says in place of MemoryError, on a CPU and on an accelerator.
_NO_MEMORY = (
    "can't allocate memory", "CUDA out of memory", "HIP out of memory", "MPS backend out of memory",
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip


#: What CUDA says where PyTorch has nothing to run on this GPU, which is too old or too new for it.
_NO_KERNEL = "no kernel image is available"


def not_built_for_gpu(error: BaseException) -> bool:
    """Whether ``error`` says that the installed PyTorch has no code for this GPU."""
    return _NO_KERNEL in str(error)


def ran_out(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, says that memory has run out, the machine's or a GPU's."""
    while error is not None:
        if _says_so(error):
            return True
        error = _before(error)
    return False


def _says_so(error: BaseException) -> bool:
    text = " ".join(str(error).split())
    return isinstance(error, MemoryError) or any(said in text for said in _NO_MEMORY)


def _before(error: BaseException) -> BaseException | None:
    """What ``error`` came from."""
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def system_refusal(error: BaseException) -> str | None:
    """What the operating system refused, as one sentence; None if ``error`` is not about that.

    Libraries that write with code of their own tell it in theirs: safetensors gives the number in its
    text, torch only finds that fewer bytes arrived than it wrote.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        number = re.search(r"\(os error (\d+)\)", text)
        if not_built_for_gpu(cause):
            return (
                "the installed PyTorch has no code for this GPU; install a release that has, or put "
                "CUDA_VISIBLE_DEVICES= before the command to use the CPU"
            )
        if isinstance(cause, OSError):
            where = f"{os.fspath(cause.filename)}: " if isinstance(cause.filename, str | os.PathLike) else ""
            why = f"{cause.strerror}; check the path" if cause.strerror else f"{type(cause).__name__}: {text[:300]}"
            return where + _REFUSALS.get(cause.errno or 0, why)
        if _says_so(cause):
            return "memory ran out; free some, or ask for less at once: fewer rows, smaller batches, shorter texts"
        if number and type(cause).__name__ == "SafetensorError":
            known = int(number[1])
            return f"weights cannot be written or read: {_REFUSALS.get(known, os.strerror(known))}"
        if "inline_container.cc" in text and (said := re.search("strerror: (.+)", text)):
            refused = {os.strerror(number): why for number, why in _REFUSALS.items()}
            return f"a checkpoint cannot be written: {refused.get(said[1], f'{said[1]}; check the disk')}"
        if re.fullmatch("Parent directory .+ does not exist.", text):
            return f"a checkpoint cannot be written: {text.removesuffix('.')[:200]}; check the disk"
        if "inline_container.cc" in text and ("unexpected pos" in text or "failed writing" in text):
            return f"a checkpoint cannot be written: {_REFUSALS[errno.ENOSPC]}"
        cause = _before(cause)
    return None


@contextmanager
def sentences(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a ``RunError`` of one sentence."""
    try:
        yield
    except OSError as error:
        verb = "read" if reading else "written"
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                why = "the disk is full; free some space and try again (a run goes on with --resume)"
            case errno.EFBIG:
                why = "the file is larger than the disk or `ulimit -f` allows; raise the limit, or name another disk"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                why = "no permission, or a read-only disk; name another folder, or change its permissions"
            case errno.EISDIR | errno.ENOTDIR:
                why = "a folder stands there, or a file where a folder should; name another file"
            case errno.ENOENT:
                why = "it is not there; check the folder's name, or redo the step that writes it"
            case _:
                why = f"{error.strerror or type(error).__name__}; check the disk and the folder's name"
        raise RunError(f"{path} cannot be {verb}: {why}") from error
