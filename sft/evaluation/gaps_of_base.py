"""Knowledge gaps before training, from the base model alone: what ``sft check RECIPE --gaps`` asks it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sft.demonstrations.demonstration import Demonstration
from sft.errors import UserError
from sft.evaluation import probe_inputs
from sft.fidelity.findings import KnowledgeGaps
from sft.fidelity.probes import Absent
from sft.fidelity.probes.knowledge_gaps import knowledge_gaps
from sft.policies import rendering_cache
from sft.policies.policy import load_policy, load_renderer
from sft.policies.weights import config_of, context_length
from sft.recipes import Recipe
from sft.recipes.sources import source_of
from sft.runs import progress

__all__ = ["gaps_of_base"]


def gaps_of_base(recipe: Recipe, train: Sequence[Demonstration]) -> KnowledgeGaps:
    """The knowledge gaps of ``train`` as an evaluation would find them: the same completions, valued the same way.

    Raises ``UserError`` where no completion can be valued: fewer than two different prompts, or none that fits.
    """
    base = source_of(recipe.model)
    renderer = load_renderer(base, recipe)
    rendered = rendering_cache.render_all(renderer, train)[0]
    planned = probe_inputs.readings(rendered, context_length(config_of(base)) or sys.maxsize)
    policy = load_policy(base, renderer, dtype=recipe.model.dtype) if planned else None
    values = []
    if policy is not None:
        with progress.bar(len(planned), "value prompts", "prompt") as bar:
            for value in probe_inputs.prompt_values(policy, planned):
                values.append(value)
                bar.update()
    try:
        return knowledge_gaps(values, train)
    except Absent:
        raise UserError(
            "--gaps: no training completion can be valued; it takes two different prompts that fit into the model's "
            "context with their completions"
        ) from None
