"""What a run owes its readers about where it ran: packages, machine, memory. No host, user or home path."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = [
    "CORES",
    "Machine",
    "default_device",
    "in_parts",
    "machine",
    "machine_here",
    "peak_memory_bytes",
    "size",
    "versions",
]

#: Packages whose version can change a number in a scorecard.
PACKAGES = (
    "behavioral-cloning",
    "torch",
    "transformers",
    "tokenizers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "evaluate",
    "sacrebleu",
    "rouge-score",
    "rapidfuzz",
    "scikit-learn",
    "scipy",
    "numpy",
)


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cores,
        "memory_bytes": _memory_bytes(),
        "accelerator": accelerator,
    }


def _memory_bytes() -> int | None:
    """Physical memory, or less where a container is allowed less."""
    limits: list[int] = []
    with suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # control group of a container, version 2; "max" is no number
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits, default=None)


def peak_memory_bytes() -> int:
    """Most memory this process has held at once (resident set)."""
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
    with suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(next(int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable:")))
    with suppress(OSError, ValueError, StopIteration):  # a container's own limit; "max" is no number
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        rows = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = next(int(row.split()[1]) for row in rows if row.startswith("file "))
        found.append(limit - used + cached)
    return min(found, default=None)


def swap_bytes() -> int:
    """What the system can put onto disk; 0 where it does not say."""
    with suppress(OSError, ValueError, StopIteration):
        rows = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("SwapTotal:"))
    return 0


T = TypeVar("T")


#: Cores that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: Parts for each core: the last of them then ends little after the others.
_PARTS = 4


def in_parts(function: Callable[..., T], items: Sequence[Any], *fixed: Any, least: int, cores: int = CORES) -> list[T]:
    """``function(part, *fixed)`` for consecutive parts of ``items``, in their order.

    One part, done here, where there are fewer than ``least`` items or there is one core; ``least`` is what takes some
    seconds, for starting processes takes one. ``cores``: processes at a time. ``function``, ``fixed`` and the items
    must be picklable.
    """
    if len(items) < least or cores == 1:
        return [function(items, *fixed)]
    from joblib import Parallel, delayed

    size = -(-len(items) // (_PARTS * cores))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return list(Parallel(n_jobs=cores, backend="loky")(delayed(function)(part, *fixed) for part in parts))
