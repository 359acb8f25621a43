"""What the clone has unlearned: bits per byte on plain texts that the expert did not write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sft.fidelity.findings import Forgetting
from sft.fidelity.probes import Absent
from sft.metrics.estimate import Estimate
from sft.metrics.intervals import estimates
from sft.runs.records import ControlWindow

__all__ = ["forgetting"]


def forgetting(control: Mapping[str, Sequence[ControlWindow]]) -> tuple[Forgetting, ...]:
    """Both policies on each control text, and the rise from "base" to "tuned", paired by window.

    Only windows that both were scored on count. Raises ``Absent`` where there are none.
    """
    base, tuned = ({(w.text, w.window): w for w in control.get(name, ())} for name in ("base", "tuned"))
    by_text: dict[str, list[tuple[ControlWindow, ControlWindow]]] = {}
    for key, window in base.items():
        if key in tuned:
            by_text.setdefault(key[0], []).append((window, tuned[key]))
    if not by_text:
        raise Absent("no control text was given (fidelity.control)")
    return tuple(_one(text, pairs) for text, pairs in by_text.items())


def _one(text: str, pairs: Sequence[tuple[ControlWindow, ControlWindow]]) -> Forgetting:
    before, after = (np.array([pair[side].nats for pair in pairs]) / math.log(2) for side in (0, 1))
    sizes = np.array([pair[0].bytes for pair in pairs], dtype=np.float64)
    if (before <= 0).any() or (sizes <= 0).any():
        raise ValueError(f"{text}: a control window needs bytes, and nats above 0")
    return Forgetting(
        text=text,
        windows=len(pairs),
        base=_ratio(before, sizes),
        tuned=_ratio(after, sizes),
        rise=_ratio(after, before, minus=1.0),
    )


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64], minus: float = 0.0) -> Estimate:
    """Sum over sum, minus ``minus``; every window is on its own."""
    found = estimates.ratio(above - minus * below, below, range(above.size))
    return replace(found, method=found.method.replace("one cluster only", "one window only"))
