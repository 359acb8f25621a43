"""Merged weights: a folder that ``from_pretrained`` loads without peft and without this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import PolicyError, RunError
from sft.policies.policy import saved_renderer
from sft.policies.weights import is_adapter, load_weights, quiet_engine
from sft.publishing.export.clone import clone_of, recipe_of, stored_dtype
from sft.recipes.sources import resolve_model
from sft.runs.atomic_files import appear, making, refuse_taken
from sft.runs.run import Run, demand_trained

__all__ = ["Merged", "export_merged"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written. ``dtype``: of the weights; ``deviation``: how far the clone as loaded from ``folder`` is.

    In ``deviation``: mean and largest difference of the logits from those of the adapter on its base at so many
    held-out ``positions``, the ``spread`` of those, and the share of likeliest tokens that is the same.
    """

    folder: Path
    dtype: str
    bytes: int
    deviation: dict[str, Any]

    def to_text(self) -> str:
        """For a person."""
        largest, positions = self.deviation["max"], self.deviation["positions"]
        return (
            f"{self.folder}: {self.bytes / 1e6:,.0f} MB, {self.dtype}; loaded again, its logits differ by "
            f"{largest:.1g} at most from the adapter's on its base, at {positions} held-out positions"
        )

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"folder": str(self.folder), "dtype": self.dtype, "bytes": self.bytes, "deviation": self.deviation}


def export_merged(run: Run, folder: Path) -> Merged:
    """Write the clone of ``run`` into ``folder``: weights (safetensors), tokenizer, chat template, generation config.

    The weights are in the format that the recipe names or, where that is "auto", in the base's own. The folder is
    loaded again before it appears, and its logits are those of the adapter on its base up to rounding; else nothing
    appears. Raises ``RunError`` for a run that is not trained, one of a full fine-tuning, whose weights
    are merged already, and a ``folder`` that holds something; ``PolicyError`` for a clone that does not come out.
    """
    tuned = demand_trained(run)
    if not is_adapter(tuned):
        raise RunError(f"{tuned}: there is nothing to merge, these are the clone's own weights; copy this folder")
    refuse_taken(folder, empty_folder_serves=True)
    dtype = stored_dtype(recipe_of(run))
    clone = clone_of(run)
    with making(folder) as scratch:
        with quiet_engine():
            clone.model.to(dtype).save_pretrained(scratch)
            clone.renderer.tokenizer.save_pretrained(scratch)
        name = str(dtype).removeprefix("torch.")
        found = clone.compare(load_weights(resolve_model(str(scratch)), name).eval(), str(folder), dtype)
        again = saved_renderer(scratch)
        if again is None or again.template_hash != clone.renderer.template_hash:
            raise PolicyError(f"{folder}: was not exported, for its tokenizer came out with another chat template")
        size = sum(file.stat().st_size for file in scratch.iterdir())
        appear(scratch, folder)
    return Merged(folder, name, size, found)
