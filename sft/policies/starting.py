"""The adapter that a fit goes on from: found, held to the base model, and put on it to be fitted further.

It may be a run's, somebody's folder, or on a hub. Its rank, its layers, DoRA and parts that are fitted whole are kept
as they are; the optimizer begins anew, for whose states it had nobody knows.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from sft.errors import PolicyError, UserError
from sft.policies.weights import _loaded, fetch_weights, identity_of, quiet_engine, refuse_pickles
from sft.recipes import Recipe
from sft.recipes.adapters import AdapterSource, adapter_settings, resolve_adapter
from sft.recipes.sources import WEIGHTS, BaseSource
from sft.runs.hashes import Digest, weights_hash
from sft.runs.processes import say
from sft.runs.run import Run

__all__ = ["Start", "find_start", "goes_on_from", "outlined", "start_of"]


@dataclass(frozen=True, slots=True)
class Start:
    """An adapter that is there and belongs to the base. ``weights``: its hash; ``settings``: its configuration."""

    source: AdapterSource
    folder: Path
    weights: Digest
    settings: Mapping[str, Any]

    def facts(self, run: Path) -> dict[str, Any]:
        """Section ``start`` of the manifest of the run in the folder ``run``."""
        of_run = self.source.run
        where = {"run": os.path.relpath(of_run.resolve(), run.resolve())} if of_run is not None else {}
        return {"name": self.source.name, "weights_hash": self.weights, **where}


def find_start(recipe: Recipe, base: BaseSource) -> Start | None:
    """The adapter of ``adapter.start_from``, fetched where it is on a hub; None where the recipe names none.

    Raises ``SourceError`` or ``PolicyError``: it is not there, damaged, of another kind, or of another base model.
    """
    if recipe.adapter.start_from is None:
        return None
    source = resolve_adapter(recipe.adapter.start_from)
    folder = source.folder or fetch_weights(source.name)
    settings = adapter_settings(folder, source.name)
    refuse_pickles(folder, source.name)
    _refuse_other_base(source, settings, base)
    return Start(source, folder, weights_hash(folder), settings)


def start_of(run: Run, recipe: Recipe, base: BaseSource) -> Start | None:
    """The adapter that the clone of ``run`` was fitted on from; None where there is none, or, said on stderr, where it
    is not there any more or another one."""
    recorded = run.manifest.get("start")
    if not isinstance(recorded, dict):
        return None
    try:
        found = find_start(recipe, base)
    except UserError as error:
        say(f"evaluate  left out: the clone that was gone on from ({error})")
        return None
    if found is not None and not found.weights.is_of(recorded.get("weights_hash")):
        say(f"evaluate  left out: {found.source.name} is no longer the clone that was gone on from")
        return None
    return found


def _refuse_other_base(source: AdapterSource, settings: Mapping[str, Any], base: BaseSource) -> None:
    """Raise ``PolicyError`` where the adapter is known to have been fitted to another base model than ``base``."""
    named = str(settings.get("base_model_name_or_path") or "")
    other = named
    if source.run is not None and (recorded := Run.open(source.run).manifest.get("base")):
        present, other = identity_of(base), str(recorded.get("name") or named)
        keys = [key for key in ("weights", "sha256", "commit") if recorded.get(key) and present.get(key)]
        if keys:
            same = all(_equal(present[key], recorded[key]) for key in keys)
        else:
            same = recorded.get("hub_id") == base.hub_id if recorded.get("hub_id") else other == base.name
    elif Path(named).expanduser().is_dir() and base.wheel is None and Path(base.name).expanduser().is_dir():
        there = BaseSource(named, None, None)
        same = identity_of(there).get("weights") == identity_of(base).get("weights")
    elif named and base.hub_id is not None and not Path(named).is_absolute():
        same = named == base.hub_id
    else:  # nobody knows; that the shapes agree is seen when it is loaded
        return
    if not same:
        wheel = next((f"wheel:{name}" for name, known in WEIGHTS.items() if known.hub_id == other), other)
        raise PolicyError(
            f"adapter.start_from: {source.name} was fitted to {other}, and model.name is {base.name}, which has other "
            f"weights; write model.name: {wheel}"
        )


def _equal(present: Any, recorded: Any) -> bool:
    return present.is_of(recorded) if isinstance(present, Digest) else present == recorded


def goes_on_from(model: PreTrainedModel, start: Start) -> PeftModel:
    """``model`` with the adapter of ``start``, ready to be fitted further. Raises ``PolicyError`` if it is damaged."""

    def load() -> PeftModel:
        with warnings.catch_warnings():
            # peft only warns, and goes on with a part of the adapter at its initial values.
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(start.folder), is_trainable=True)

    named = BaseSource(f"adapter.start_from: {start.source.name}", None, None)
    made: PeftModel = _loaded("adapter", named, load)
    for name, parameter in made.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise PolicyError(
                f"adapter.start_from: {start.source.name} holds numbers that are not finite ({name}); copy the adapter "
                "again, or go on from another"
            )
    _settle(made, model)
    return made


def outlined(model: PreTrainedModel, start: Start) -> PeftModel:
    """``model`` with an adapter of the same shape as that of ``start``, none of whose weights are read."""

    def make() -> PeftModel:
        config = LoraConfig.from_pretrained(str(start.folder))
        config.init_lora_weights, config.inference_mode = True, False
        config.base_model_name_or_path = None  # which base it is has been seen to; peft warns of another name
        return get_peft_model(model, config)

    made: PeftModel = _loaded("adapter", BaseSource(f"adapter.start_from: {start.source.name}", None, None), make)
    return made


def _settle(made: PeftModel, model: PreTrainedModel) -> None:
    """The base's name is this run's, and sets are in an order, so that two equal runs write equal bytes."""
    with quiet_engine():
        for config in made.peft_config.values():
            config.base_model_name_or_path = model.name_or_path
            for key in ("target_modules", "exclude_modules"):
                if isinstance(names := getattr(config, key), set):
                    setattr(config, key, sorted(names))
