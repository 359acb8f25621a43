"""Policies: a causal language model with its tokenizer and renderer, base or tuned, ready to act; and adapters.

Weights are loaded by ``weights``. The base and the tuned policy share one renderer, so what differs
between them is the weights alone. An adapter is the recipe's, put on a model that is fitted or only counted, or one
that was saved, put on its base.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.utils import ModulesToSaveWrapper
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from sft.errors import PolicyError, TrainingError
from sft.policies.rendering import Renderer, renderer_for
from sft.policies.weights import (
    _loaded,
    base_folder,
    is_adapter,
    load_weights,
    onto,
    quiet_engine,
    vocabulary_size,
)
from sft.recipes import Recipe, lora_arguments
from sft.recipes.requirements import refuse_tokens
from sft.recipes.sources import BaseSource
from sft.runs.atomic_files import read_json, write_json
from sft.runs.machine import default_device


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


def load_renderer(base: BaseSource, recipe: Recipe | None = None) -> Renderer:
    """The renderer alone, from the tokenizer of ``base``; no weights are read. Raises ``PolicyError``.

    ``recipe``: which template, its options, and what becomes of thoughts and of special tokens.
    """
    if recipe is None:
        return renderer_for(_tokenizer(base))
    model, section = recipe.model, recipe.demonstrations
    return renderer_for(
        _tokenizer(base),
        model.template,
        options=model.template_options,
        thoughts=section.thoughts,
        special_tokens=section.special_tokens or "refuse",
    )


def saved_renderer(folder: Path, recipe: Recipe | None = None) -> Renderer | None:
    """The renderer of the tokenizer that was saved beside an adapter's or model's weights in ``folder``.

    None where there is no tokenizer, or none with a chat template and the recipe names none: the base's then serves.
    A saved template is settled already, so of ``recipe`` only another template and the special tokens count.
    """
    template = recipe.model.template if recipe is not None else "auto"
    if not _holds_tokenizer(folder):
        return None
    tokenizer = _tokenizer(BaseSource(str(folder), None, None))
    if not tokenizer.chat_template and template == "auto":
        return None
    spelled = (recipe.demonstrations.special_tokens or "refuse") if recipe is not None else "text"
    options = recipe.model.template_options if recipe is not None and template != "auto" else None
    return renderer_for(tokenizer, template, options=options, special_tokens=spelled)


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
        model = with_adapter(model, Path(str(tuned))).merge_and_unload()
    # A plain one: repetition penalties and the like, which some models ship, are not the policy's choice of words.
    model.generation_config = GenerationConfig()
    stops_with(model, renderer)
    return Policy(onto(device or default_device(), model, base.name).eval(), renderer, base)


def cloned(base: Policy, adapter: Path) -> Policy:
    """The clone of ``base``, with the adapter merged into the very weights of ``base``, which is base no longer.

    Saves reading and moving the weights a second time. Raises ``PolicyError``.
    """
    return replace(base, model=with_adapter(base.model, adapter).merge_and_unload().eval())


def stops_with(model: PreTrainedModel, renderer: Renderer) -> None:
    """Make the model's own defaults agree with the template: stop on the end of turn, pad with a real token."""
    model.generation_config.eos_token_id = list(renderer.stop_token_ids)
    model.generation_config.pad_token_id = renderer.pad_token_id


# -- adapters ---------------------------------------------------------------------------------------------------

#: How peft's warnings begin that a key was taken and changes nothing; it goes on.
_MATCHED_NOTHING = (
    "You have passed exclude_modules",
    r"target_(modules|parameters)=.* were set but no",
    "You have requested `ensure_weight_tying`, but no tied modules",
)


def with_new_adapter(model: PreTrainedModel, recipe: Recipe, **others: Any) -> PreTrainedModel | PeftModel:
    """``model`` with the recipe's adapter, or as it is where every weight is fitted.

    ``others``: fields of ``peft.LoraConfig`` that come before the recipe's. Raises ``TrainingError`` where peft
    cannot put this adapter on this model, or where a key of the recipe's adapter changes nothing in it.
    """
    lora = lora_arguments(recipe)
    if lora is None:
        return model
    refuse_tokens(recipe, vocabulary_size(model))
    try:
        with quiet_engine(), warnings.catch_warnings():
            for beginning in _MATCHED_NOTHING:
                warnings.filterwarnings("error", beginning)
            # Also of patterns that peft itself adds for experts; the recipe's are looked at below.
            warnings.filterwarnings("ignore", r"The following (rank|alpha)_pattern keys did not match")
            made = get_peft_model(model, LoraConfig(**(lora | others)))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # peft refuses with whatever comes to hand: a KeyError, an assertion, torch's own
        reason = " ".join(str(error).split())[:600] or type(error).__name__
        raise TrainingError(f"adapter: {reason}; correct the recipe's adapter section") from error
    for key, why in _without_effect(made, lora):
        raise TrainingError(f"adapter.{key}: would do nothing, because {why}; correct or remove it")
    for config in made.peft_config.values():
        # Sets are saved in an order that is another in every process, and two equal runs would write other bytes.
        for key in ("target_modules", "exclude_modules"):
            if isinstance(names := getattr(config, key), set):
                setattr(config, key, sorted(names))
    return made


def _without_effect(made: PeftModel, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of ``given`` that peft took without a word and that change nothing in ``made``, with the reason."""
    parts = dict(made.base_model.model.named_modules())
    layers = [
        f"{name}.{module.parameter_name}" if isinstance(module, ParamWrapper) else name
        for name, module in parts.items()
        if isinstance(module, LoraLayer)
    ]
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in given.get(key) or ():
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in layers):
                yield key, f"no layer with an adapter is called {pattern}"
    whole = [name for name, module in parts.items() if isinstance(module, ModulesToSaveWrapper)]
    for part in given.get("modules_to_save") or ():
        if not any(name.endswith(part) for name in whole):
            yield "modules_to_save", f"the model has no part called {part}"
    if given["bias"] != "none" and not any(
        parameter.requires_grad and name.endswith(".bias") and ".lora_" not in name
        for name, parameter in made.named_parameters()
    ):
        yield "bias", "the layers that it is about have none"
    chosen = given.get("layers_to_transform")
    for number in [chosen] if isinstance(chosen, int) else chosen or ():
        if not any(f".{number}." in name for name in layers):
            yield "layers_to_transform", f"no adapter is on a layer with the number {number}"


def with_adapter(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """``model`` with the adapter beside its weights, as peft loads it. Raises ``PolicyError`` if it lacks a part."""
    from peft import PeftModel

    def load() -> PeftModel:
        with warnings.catch_warnings():
            # peft only warns, and goes on with a part of the adapter at its initial values.
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(adapter))

    return _loaded("adapter", BaseSource(str(adapter), None, None), load)


def name_base(adapter: Path, source: BaseSource) -> None:
    """Write the base's hub id, where it has one, into the saved adapter: a local path is of use to nobody else.

    Only afterwards: while peft saves, it would ask the hub about the id.
    """
    path = adapter / "adapter_config.json"
    if source.hub_id is not None and path.is_file():
        named = {"base_model_name_or_path": source.hub_id, "revision": source.revision}
        write_json(path, read_json(path) | named)
