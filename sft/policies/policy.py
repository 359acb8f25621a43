"""Policies: a causal language model with its tokenizer and renderer, base or tuned, ready to act.

Weights are loaded by ``weights``. The base and the tuned policy share one renderer, so what differs
between them is the weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sft.errors import PolicyError
from sft.policies.adapters import _merged
from sft.policies.rendering import Renderer, renderer_for
from sft.policies.weights import _loaded, _weights, base_folder, is_adapter
from sft.recipes import Recipe
from sft.recipes.sources import BaseSource, resolve_model
from sft.runs.machine import default_device

__all__ = [
    "Policy",
    "cloned",
    "load_policy",
    "load_renderer",
    "policy_of",
    "renderer_of",
    "saved_renderer",
    "stops_with",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """A model on its device, in evaluation mode, with the renderer that speaks its template."""

    model: PreTrainedModel
    renderer: Renderer
    source: BaseSource

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device


def load_renderer(
    name: str, revision: str | None = None, template: str = "auto", trust_remote_code: bool = False
) -> Renderer:
    """The renderer alone, from the base model's tokenizer; no weights are read. Raises ``PolicyError``."""
    source = resolve_model(name, revision)
    return renderer_for(_tokenizer(source, trust_remote_code), template)


def saved_renderer(folder: Path, template: str = "auto") -> Renderer | None:
    """The renderer of the tokenizer that was saved beside an adapter's or model's weights in ``folder``.

    None where there is no tokenizer, or none with a chat template and ``template`` is "auto": the base's then serves.
    """
    if not _holds_tokenizer(folder):
        return None
    tokenizer = _tokenizer(BaseSource(str(folder), None, None), trust_remote_code=False)
    return renderer_for(tokenizer, template) if tokenizer.chat_template or template != "auto" else None


def _holds_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    return any((folder / name).is_file() for name in names)


def _tokenizer(source: BaseSource, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    folder, _ = base_folder(source)
    path = Path(folder)
    if path.is_dir() and not _holds_tokenizer(path):
        raise PolicyError(
            f"{folder}: holds a model but no tokenizer; save one beside it with tokenizer.save_pretrained({folder!r})"
        )
    tokenizer: PreTrainedTokenizerBase = _loaded(
        "tokenizer",
        source,
        lambda: AutoTokenizer.from_pretrained(folder, revision=source.revision, trust_remote_code=trust_remote_code),
    )
    return tokenizer


def load_policy(
    name: str,
    *,
    revision: str | None = None,
    template: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    tuned: Path | None = None,
    device: torch.device | None = None,
    renderer: Renderer | None = None,
) -> Policy:
    """The base policy ``name``, or with ``tuned`` (an adapter or a full model's folder) the clone.

    An adapter is merged into the weights, so that the clone decodes at the base model's speed: into the plain
    weights also where it was fitted over a base in 4 bits, because that is what whoever loads the adapter by the
    name of its base gets, and no GPU is needed for it. ``renderer``: one that is there already, in place of the
    tokenizer's under ``template``.
    Raises ``PolicyError`` or ``SourceError`` with one sentence.
    """
    source = resolve_model(name, revision)
    if renderer is None:
        renderer = renderer_for(_tokenizer(source, trust_remote_code), template)
    adapter = tuned is not None and is_adapter(tuned)
    if tuned is not None and not adapter and not (tuned / "config.json").is_file():
        raise PolicyError(f"{tuned}: holds neither an adapter nor a model; has training finished?")
    weights = BaseSource(str(tuned), None, None) if tuned is not None and not adapter else source
    model = _weights(weights, dtype, trust_remote_code)
    if adapter:
        model = _merged(model, Path(str(tuned)))
    # A plain one: repetition penalties and the like, which some models ship, are not the policy's choice of words.
    model.generation_config = GenerationConfig()
    stops_with(model, renderer)
    return Policy(model.to(device or default_device()).eval(), renderer, source)


def cloned(base: Policy, adapter: Path) -> Policy:
    """The clone of ``base``, with the adapter merged into the very weights of ``base``, which is base no longer.

    Saves reading and moving the weights a second time. Raises ``PolicyError``.
    """
    return replace(base, model=_merged(base.model, adapter).eval())


def stops_with(model: PreTrainedModel, renderer: Renderer) -> None:
    """Make the model's own defaults agree with the template: stop on the end of turn, pad with a real token."""
    model.generation_config.eos_token_id = list(renderer.stop_token_ids)
    model.generation_config.pad_token_id = renderer.pad_token_id


def renderer_of(recipe: Recipe) -> Renderer:
    """The recipe's renderer; no weights are read."""
    from sft.policies.policy import load_renderer

    model = recipe.model
    return load_renderer(model.name, model.revision, model.template, model.trust_remote_code)


def policy_of(recipe: Recipe, tuned: Path | None, renderer: Renderer | None = None) -> Policy:
    """The recipe's base policy, or its clone with the weights in ``tuned``."""
    model = recipe.model
    return load_policy(
        model.name,
        revision=model.revision,
        template=model.template,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        tuned=tuned,
        renderer=renderer,
    )
