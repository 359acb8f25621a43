"""A clone in plain weights, and a folder of them, which ``from_pretrained`` loads without peft and this package.

What the adapter on its base says is the measure of every export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from sft import recipes
from sft.demonstrations import stored
from sft.errors import PolicyError, RunError
from sft.policies.policy import load_renderer, saved_renderer, stops_with, with_adapter
from sft.policies.portable import as_both_majors_read
from sft.policies.rendering import Renderer
from sft.policies.sameness import answers, deviation, questions
from sft.policies.weights import config_of, is_adapter, load_weights, quiet_engine, resolved_dtype
from sft.recipes import Recipe
from sft.recipes.sources import resolve_model, source_of
from sft.runs.atomic_files import appear, making, refuse_taken
from sft.runs.run import Run, demand_trained

__all__ = ["Clone", "Merged", "clone_of", "export_merged", "recipe_of"]


@dataclass(frozen=True, slots=True)
class Clone:
    """A run's clone in memory, in float32, an adapter merged into its base.

    ``said``: what it said before merging, to the held-out ``rows`` of :func:`sft.policies.sameness.questions`.
    """

    model: PreTrainedModel
    renderer: Renderer
    rows: Sequence[dict[str, Any]]
    said: dict[str, torch.Tensor]

    def compare(self, model: Any, what: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """How far ``model``, which was read from ``what``, is from the clone; ``PolicyError`` if further than rounding.

        ``dtype``: the narrowest format that its weights have been through.
        """
        found, wrong = deviation(model, self.rows, self.said, narrow=dtype != torch.float32)
        if wrong:
            raise PolicyError(
                f"{what}: was not exported, for it {wrong}, compared with the run's own clone; "
                "install the versions of transformers, peft and gguf that constraints.txt names"
            )
        return found


def recipe_of(run: Run) -> Recipe:
    """The recipe that ``run`` was made by. Raises ``RunError`` for a measurement of what was trained elsewhere."""
    if not run.resolved_recipe_path.exists():
        raise RunError(f"{run.path}: was not made by a recipe, so it has no clone to export; name a run of `sft train`")
    return recipes.load_recorded(run.resolved_recipe_path)


def clone_of(run: Run) -> Clone:
    """Load the clone of ``run`` on the CPU, ask it, and merge it. Raises ``UserError``.

    Over the plain weights of its base also where it was fitted over 4 bits: those are what it is judged on.
    """
    recipe, tuned = recipe_of(run), demand_trained(run)
    base = source_of(recipe.model)
    renderer = saved_renderer(tuned) or load_renderer(base, recipe)
    recorded = run.manifest.get("template", {}).get("hash")
    if recorded is not None and not renderer.template_hash.is_of(recorded):
        raise RunError(
            f"{tuned}: its chat template is not the one that the run was trained with; restore {tuned} from a copy"
        )
    # Held-out demonstrations as questions: what the fit has not seen tells two models apart best.
    rows = questions([rendered for _, rendered in renderer.render_all(stored.parts(run)["test"][:16])[0]])
    if is_adapter(tuned):
        # With the adapter beside the weights first: that is what is published, and what merging must not change.
        beside = with_adapter(load_weights(base, "float32"), tuned).eval()
        said = answers(beside, rows)
        with quiet_engine():
            model = beside.merge_and_unload().eval()
    else:
        model = load_weights(replace(base, name=str(tuned), revision=None, wheel=None), "float32").eval()
        said = answers(model, rows)
    clone = Clone(model, renderer, rows, said)
    clone.compare(model, f"{run.path}, merged")
    _settle(model, renderer, base.hub_id)
    return clone


def _settle(model: PreTrainedModel, renderer: Renderer, hub_id: str | None) -> None:
    """What goes along with the weights: greedy decoding up to the end of turn, and no path of this machine."""
    tokenizer = renderer.tokenizer
    model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id)
    stops_with(model, renderer)
    model.config._name_or_path = hub_id or ""
    model.config.eos_token_id = renderer.end_of_turn[-1]
    model.config.bos_token_id = tokenizer.bos_token_id
    model.config.pad_token_id = renderer.pad_token_id


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
        return asdict(self) | {"folder": str(self.folder)}


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
    dtype = _stored_dtype(recipe_of(run))
    clone = clone_of(run)
    with making(folder) as scratch:
        with quiet_engine():
            clone.model.to(dtype).save_pretrained(scratch)
            clone.renderer.tokenizer.save_pretrained(scratch)
        as_both_majors_read(scratch)
        name = str(dtype).removeprefix("torch.")
        found = clone.compare(load_weights(resolve_model(str(scratch)), name).eval(), str(folder), dtype)
        again = saved_renderer(scratch)
        if again is None or again.template_hash != clone.renderer.template_hash:
            raise PolicyError(f"{folder}: was not exported, for its tokenizer came out with another chat template")
        size = sum(file.stat().st_size for file in scratch.iterdir())
        appear(scratch, folder)
    return Merged(folder, name, size, found)


def _stored_dtype(recipe: Recipe) -> torch.dtype:
    """The format that merged weights are stored in: the recipe's or, where that is "auto", the base's own."""
    if recipe.model.dtype != "auto":
        return resolved_dtype(recipe.model.dtype)
    own = getattr(config_of(source_of(recipe.model)).get_text_config(), "dtype", None)
    return own if isinstance(own, torch.dtype) else torch.float32
