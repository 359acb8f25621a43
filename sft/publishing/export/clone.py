"""The clone of a run in plain weights, with what the adapter on its base says as the measure of every export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from sft import recipes
from sft.demonstrations import stored
from sft.errors import PolicyError, RunError
from sft.policies.policy import load_renderer, saved_renderer, stops_with, with_adapter
from sft.policies.rendering import Renderer
from sft.policies.sameness import answers, deviation, questions
from sft.policies.weights import config_of, is_adapter, load_weights, quiet_engine, resolved_dtype
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs.run import Run, demand_trained

__all__ = ["Clone", "clone_of", "recipe_of", "stored_dtype"]


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
    renderer = saved_renderer(tuned) or load_renderer(base, recipe.model.template)
    _refuse_other_template(run, tuned, renderer)
    rows = _rows(run, renderer)
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


def stored_dtype(recipe: Recipe) -> torch.dtype:
    """The format that merged weights are stored in: the recipe's or, where that is "auto", the base's own."""
    if recipe.model.dtype != "auto":
        return resolved_dtype(recipe.model.dtype)
    own = getattr(config_of(source_of(recipe.model)).get_text_config(), "dtype", None)
    return own if isinstance(own, torch.dtype) else torch.float32


def _refuse_other_template(run: Run, tuned: Path, renderer: Renderer) -> None:
    recorded = run.manifest.get("template", {}).get("hash")
    if recorded is not None and not renderer.template_hash.is_of(recorded):
        raise RunError(
            f"{tuned}: its chat template is not the one that the run was trained with; restore {tuned} from a copy"
        )


def _rows(run: Run, renderer: Renderer) -> list[dict[str, Any]]:
    """Held-out demonstrations as questions: what the fit has not seen tells two models apart best."""
    held_out = stored.parts(run)["test"]
    return questions([rendered for _, rendered in renderer.render_all(held_out[:16])[0]])


def _settle(model: PreTrainedModel, renderer: Renderer, hub_id: str | None) -> None:
    """What goes along with the weights: greedy decoding up to the end of turn, and no path of this machine."""
    tokenizer = renderer.tokenizer
    model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id)
    stops_with(model, renderer)
    model.config._name_or_path = hub_id or ""
    model.config.eos_token_id = renderer.end_of_turn[-1]
    model.config.bos_token_id = tokenizer.bos_token_id
    model.config.pad_token_id = renderer.pad_token_id
