"""Work in pure Python on all cores: long lists in parts, each part in a process of its own.

Through joblib's loky, which starts fresh interpreters: nothing is forked beside running threads, and a script that
calls this library needs no guard around its main part. Below the size where it pays, nothing is started.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

__all__ = ["CORES", "in_parts"]

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
