"""Whether there is room on the disk for what a push needs there, asked before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from sft.errors import PublishError
from sft.publishing.staging import WEIGHTS, resolved_recipe
from sft.runs.run import Run

__all__ = ["demand_room"]

#: Tokenizer, card and scorecard, twice: as staged and as downloaded again.
_REST = 64 * 1024 * 1024


#: Of float32; of fewer bits it is less than a quarter.
_SHARES = {"f32": 1.0, "f16": 0.5, "bf16": 0.5, "q8_0": 0.27}


def demand_room(run: Run, *, merged: bool, gguf: Sequence[str] = ()) -> None:
    """Raise ``PublishError`` where the disk of ``run`` has no room for a push of it.

    That takes the weights' size once: merged weights are written there, sent and removed before they are downloaded
    again to be compared; an adapter is sent as it lies in the run. ``gguf``: kinds of GGUF files that go along; of few
    bits each is made from one in float32.
    """
    fitted = run.adapter_path if (run.adapter_path / "adapter_config.json").is_file() else run.model_path
    own = [path.stat().st_size for path in fitted.rglob("*") if path.suffix in WEIGHTS and path.is_file()]
    if merged and fitted == run.adapter_path:
        needed = _merged_bytes(run.manifest.get("base") or {}, resolved_recipe(run.manifest))
    else:
        needed = max(own, default=0)
    whole = _merged_bytes(run.manifest.get("base") or {}, {"model": {"dtype": "float32"}})
    needed += int(whole * (sum(_SHARES.get(kind, 0.25) for kind in gguf) + any(kind not in _SHARES for kind in gguf)))
    needed += _REST
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise PublishError(
            f"{run.path}: a push needs {needed / 1e6:,.0f} MB there for as long as it lasts, and {free / 1e6:,.0f} MB "
            "are free; make room, or move the run to another disk"
        )


def _merged_bytes(base: Mapping[str, Any], recipe: Mapping[str, Any]) -> int:
    """About the size of the base's weights, by its shape; 0 where that is not on record."""
    shape = base.get("architecture") or {}
    width, layers = int(shape.get("hidden_size") or 0), int(shape.get("num_hidden_layers") or 0)
    inner, words = int(shape.get("intermediate_size") or 4 * width), int(shape.get("vocab_size") or 0)
    weights = words * width + layers * (4 * width * width + 3 * width * inner)
    return weights * (4 if (recipe.get("model") or {}).get("dtype") == "float32" else 2)
