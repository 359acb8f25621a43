"""What a run owes its readers about where it ran: packages, machine, memory. No host, user or home path."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from sft.files import finite

__all__ = ["machine", "peak_memory_bytes", "presentable", "versions"]

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


def presentable(value: Any) -> Any:
    """JSON-ready ``value`` in which the user's home folder is written ``~``: a manifest may be published."""
    try:
        home = str(Path.home())
    except RuntimeError:  # no home
        home = "/"
    if home == "/":
        return finite(value)
    pattern = re.compile(rf"(?<![\w/.~-]){re.escape(home)}(?![\w.-])")

    def tidy(part: Any) -> Any:
        if isinstance(part, str):
            return pattern.sub("~", part)
        if isinstance(part, os.PathLike):
            return tidy(os.fspath(part))
        if isinstance(part, Mapping):
            return {str(key): tidy(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [tidy(item) for item in part]
        return part

    return finite(tidy(value))
