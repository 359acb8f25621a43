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
from sft.policies.weights import _loaded, base_folder, is_adapter, load_weights
from sft.recipes.sources import BaseSource
from sft.runs.machine import default_device

__all__ = [
    "Policy",
    "cloned",
    "load_policy",
    "load_renderer",
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


def load_renderer(base: BaseSource, template: str = "auto") -> Renderer:
    """The renderer alone, from the tokenizer of ``base``; no weights are read. Raises ``PolicyError``."""
    return renderer_for(_tokenizer(base), template)


def saved_renderer(folder: Path, template: str = "auto") -> Renderer | None:
    """The renderer of the tokenizer that was saved beside an adapter's or model's weights in ``folder``.

    None where there is no tokenizer, or none with a chat template and ``template`` is "auto": the base's then serves.
    """
    if not _holds_tokenizer(folder):
        return None
    tokenizer = _tokenizer(BaseSource(str(folder), None, None))
    return renderer_for(tokenizer, template) if tokenizer.chat_template or template != "auto" else None


def _holds_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    return any((folder / name).is_file() for name in names)


def _tokenizer(source: BaseSource) -> PreTrainedTokenizerBase:
    folder, _ = base_folder(source)
    path = Path(folder)
    if path.is_dir() and not _holds_tokenizer(path):
        raise PolicyError(
            f"{folder}: holds a model but no tokenizer; save one beside it with tokenizer.save_pretrained({folder!r})"
        )
    tokenizer: PreTrainedTokenizerBase = _loaded(
        "tokenizer",
        source,
        lambda: AutoTokenizer.from_pretrained(
            folder, revision=source.revision, trust_remote_code=source.trust_remote_code
        ),
    )
    return tokenizer


def load_policy(
    base: BaseSource,
    renderer: Renderer | None = None,
    *,
    dtype: str = "auto",
    tuned: Path | None = None,
    device: torch.device | None = None,
) -> Policy:
    """The base policy, or with ``tuned`` (an adapter or a full model's folder) the clone.

    An adapter is merged into the weights, so that the clone decodes at the base model's speed: into the plain
    weights also where it was fitted over a base in 4 bits, because that is what whoever loads the adapter by the
    name of its base gets, and no GPU is needed for it. ``renderer``: the base's own unless given.
    Raises ``PolicyError`` with one sentence.
    """
    renderer = renderer or load_renderer(base)
    adapter = tuned is not None and is_adapter(tuned)
    if tuned is not None and not adapter and not (tuned / "config.json").is_file():
        raise PolicyError(f"{tuned}: holds neither an adapter nor a model; has training finished?")
    own = BaseSource(str(tuned), None, None, trust_remote_code=base.trust_remote_code)
    model = load_weights(base if tuned is None or adapter else own, dtype)
    if adapter:
        model = _merged(model, Path(str(tuned)))
    # A plain one: repetition penalties and the like, which some models ship, are not the policy's choice of words.
    model.generation_config = GenerationConfig()
    stops_with(model, renderer)
    return Policy(model.to(device or default_device()).eval(), renderer, base)


def cloned(base: Policy, adapter: Path) -> Policy:
    """The clone of ``base``, with the adapter merged into the very weights of ``base``, which is base no longer.

    Saves reading and moving the weights a second time. Raises ``PolicyError``.
    """
    return replace(base, model=_merged(base.model, adapter).eval())


def stops_with(model: PreTrainedModel, renderer: Renderer) -> None:
    """Make the model's own defaults agree with the template: stop on the end of turn, pad with a real token."""
    model.generation_config.eos_token_id = list(renderer.stop_token_ids)
    model.generation_config.pad_token_id = renderer.pad_token_id
