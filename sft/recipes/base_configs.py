"""What a base model's ``config.json`` says of a recipe before torch is there: is it known, does it have those tokens.

Only a configuration that is on this machine is read: a folder's, or one in the hub's cache. Where there is none, the
same is found when the model itself is outlined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft.errors import PolicyError, SourceError, TrainingError
from sft.recipes import Recipe, sources
from sft.recipes.engine_choices import architectures
from sft.recipes.engine_fields import EngineNotReadable

__all__ = ["refuse_tokens", "refuse_unfit"]


def refuse_unfit(recipe: Recipe) -> None:
    """Raise ``PolicyError`` for a model that needs its own code run, ``TrainingError`` for tokens it does not have."""
    model = recipe.model
    config = _config_of(model.name, model.revision)
    if config is None:
        return
    kind = str(config.get("model_type"))
    if config.get("auto_map") and not model.trust_remote_code and not _known(kind):
        raise PolicyError(
            f"{model.name}: its architecture ({kind}) is Python code that comes with the model; read that code, and "
            "write model.trust_remote_code: true to run it"
        )
    part = config.get("text_config")
    vocabulary = (part if isinstance(part, Mapping) else config).get("vocab_size")
    if isinstance(vocabulary, int):
        refuse_tokens(recipe, vocabulary)


def refuse_tokens(recipe: Recipe, vocabulary: int) -> None:
    """Raise ``TrainingError`` where ``adapter.trainable_token_indices`` names no token of the ``vocabulary``."""
    given = (recipe.adapter.model_extra or {}).get("trainable_token_indices")
    for listed in given.values() if isinstance(given, Mapping) else [given] if given is not None else []:
        for token in listed if isinstance(listed, list) else [listed]:
            if type(token) is not int or not 0 <= token < vocabulary:
                raise TrainingError(
                    f"adapter.trainable_token_indices: {token!r:.40} is no token of {recipe.model.name}, which has "
                    f"{vocabulary}; give numbers from 0 to {vocabulary - 1}"
                )


def _known(kind: str) -> bool:
    try:
        return kind in architectures()
    except EngineNotReadable:
        return True


def _config_of(name: str, revision: str | None) -> dict[str, Any] | None:
    """The ``config.json`` of a model, where it lies on this machine."""
    try:
        source = sources.resolve_model(name, revision)
    except SourceError:
        return None  # said when the model is fetched
    path: Path | None = None
    if source.wheel is None and Path(source.name).is_dir():
        path = Path(source.name) / "config.json"
    elif source.hub_id is not None and source.wheel is None:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(source.name, "config.json", revision=revision)
        path = Path(cached) if isinstance(cached, str) else None
    if path is None or not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
