"""What can be known of the staged folder without a network: that whoever loads it gets the clone that was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.errors import PublishError, UserError
from sft.fidelity.stored import read_scorecard
from sft.publishing.staging import Staged
from sft.runs.hashes import weights_hash
from sft.runs.run import Run, read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["check"]

_PREFIX = "base_model.model."
_A, _B = ("lora_A.weight", "lora_embedding_A"), ("lora_B.weight", "lora_embedding_B")
#: Further parts that peft's methods keep beside A and B.
_OTHER_PARTS = ("lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_A.bias", "lora_B.bias")
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "lm_head", "embed_out")


def check(staged: Staged, run: Run) -> list[str]:
    """Look at every file; notes for the plan. Raises ``PublishError``: file, what is wrong with it, and what to do."""
    folder = staged.folder
    fitted = run.adapter_path if (run.adapter_path / "adapter_config.json").is_file() else run.model_path
    tokenizer = _check_tokenizer(folder, run)
    notes: list[str] = []
    if staged.weights == "adapter":
        notes, shapes = _check_adapter(folder)
        _refuse_resized(shapes, len(tokenizer), staged.base.vocabulary if staged.base is not None else None)
    else:
        if fitted == run.adapter_path:
            # Once it is merged, nobody can tell an adapter that does nothing from one that was never there.
            notes, _ = _check_adapter(fitted)
        _check_model(folder, len(tokenizer))
    # Figures are of the weights that were measured, and of no others.
    if not weights_hash(fitted).is_of(read_scorecard(run).signature.get("weights_hash")):
        raise PublishError(
            f"{fitted}: the weights are not those that the scorecard is of; measure them with `sft evaluate {run.path}`"
        )
    return notes


def _words(error: Exception) -> str:
    """What a library says, in one line."""
    return " ".join(str(error).split())[:300]


# -- tokenizer and template -------------------------------------------------------------------------------


def _check_tokenizer(folder: Path, run: Run) -> PreTrainedTokenizerBase:
    """It loads, and renders as in training, with and without the prompt for an answer."""
    from sft.policies.policy import saved_renderer

    try:
        renderer = saved_renderer(folder)
    except UserError as error:
        raise PublishError(f"tokenizer: {str(error).replace(str(folder), run.path.name)}") from None
    if renderer is None:
        raise PublishError(
            f"{run.path}: its tokenizer has no chat template, so nobody could ask the clone as it was taught; "
            "restore tokenizer and template from a copy, or train again"
        )
    tokenizer = renderer.tokenizer
    turns = [{"role": "user", "content": "Hello"}]
    for ask in (False, True):
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
        except Exception as error:  # a template is a program of somebody else's
            raise PublishError(
                f"chat template: fails ({type(error).__name__}: {_words(error)}); restore it from a copy"
            ) from None
        if "Hello" not in text:
            raise PublishError("chat template: leaves out what the user says; restore it from a copy")
    recorded = run.manifest.get("template", {}).get("hash")
    if recorded is not None and not renderer.template_hash.is_of(recorded):
        raise PublishError(
            "chat template: is not the one that the clone was trained and measured with; restore tokenizer and "
            "template from a copy"
        )
    return tokenizer


# -- weights ----------------------------------------------------------------------------------------------


def _tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in ``file``, one at a time; what is not finite is refused."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                tensor = opened.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise PublishError(
                        f"{file.name}: {name} holds numbers that are not finite; train again with a lower rate"
                    )
                yield name, tensor
    except (SafetensorError, ValueError) as error:
        raise PublishError(
            f"{file.name}: is no safetensors file, or not a whole one ({_words(error)}); restore it from a copy"
        ) from None


def _check_adapter(folder: Path) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Notes for the plan, and the shape of every tensor."""
    config = _adapter_config(folder)
    file = folder / "adapter_model.safetensors"
    shapes: dict[str, tuple[int, ...]] = {}
    zero: list[str] = []
    for name, tensor in _tensors(file):
        shapes[name] = tuple(tensor.shape)
        if name.endswith(_B) and not bool(tensor.any()):
            zero.append(name)
    second = [name for name in shapes if name.endswith(_B)]
    _refuse_strangers(file, shapes, config)
    if not second:
        raise PublishError(f"{file.name}: holds no adapter matrices; train again")
    if len(zero) == len(second):
        raise PublishError(f"{file.name}: every B matrix is zero, so the clone would be its base; train again")
    for name in second:
        _check_pair(file, name, shapes, config)
    notes = [f"{len(zero)} of {len(second)} B matrices are zero ({zero[0]} for one)"] if zero else []
    return notes, shapes


def _adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration, which peft can read."""
    from peft import PeftConfig

    config = read_json(folder / "adapter_config.json")
    try:
        PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # it tells of what is wrong with the file in many ways
        raise PublishError(
            f"adapter_config.json: peft does not take it ({type(error).__name__}: {_words(error)}); restore it"
        ) from None
    return dict(config)


def _refuse_strangers(file: Path, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> None:
    """Keys that belong to no adapter, and are not declared in its configuration either."""
    declared = {str(name) for name in config.get("modules_to_save") or ()}
    biases = config.get("bias", "none") != "none"
    for name in shapes:
        module = _module(name)
        known = (
            name.endswith((*_A, *_B, *_OTHER_PARTS))
            or module in declared
            or module in _EMBEDDINGS
            or (biases and name.endswith(".bias"))
            or ".token_adapter." in name
        )
        if not name.startswith(_PREFIX) or not known:
            raise PublishError(
                f"{file.name}: {name} is no part of an adapter, nor declared in adapter_config.json; restore both from "
                "one copy"
            )


def _check_pair(file: Path, name: str, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> None:
    """A and B of one layer: both there, and of the rank that the configuration gives to it."""
    first = name.replace("lora_B", "lora_A").replace("lora_embedding_B", "lora_embedding_A")
    if first not in shapes:
        raise PublishError(f"{file.name}: {name} has no A matrix beside it; restore the file from a copy")
    module = name.removeprefix(_PREFIX).partition(".lora_")[0]
    patterns = (config.get("rank_pattern") or {}).items()
    rank = next((r for key, r in patterns if re.match(rf"(.*\.)?({key})$", module)), config.get("r"))
    a, b = shapes[first], shapes[name]
    if len(a) < 2 or len(b) < 2 or a[0] != rank or b[1] != rank:
        raise PublishError(
            f"{file.name}: the matrices of {module} have the shapes {_by(a)} and {_by(b)}, and adapter_config.json "
            f"says rank {rank}; they are not of one training, so restore both from one copy"
        )
    targets = config.get("target_modules")
    if isinstance(targets, list) and not any(module == t or module.endswith(f".{t}") for t in targets):
        raise PublishError(f"{file.name}: {module} is no target in adapter_config.json; restore both from one copy")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _module(name: str) -> str:
    """The last module in the name of a tensor."""
    return name.rpartition(".")[0].rpartition(".")[2]


def _refuse_resized(shapes: Mapping[str, tuple[int, ...]], tokens: int, vocabulary: int | None) -> None:
    """An adapter for more tokens than its base has: plain peft refuses it, or its tokens have no embedding."""
    if vocabulary is None:
        return
    remedy = "the base's vocabulary was resized, and no adapter can carry that; push whole weights with --merged"
    if tokens > vocabulary:
        raise PublishError(f"tokenizer: has {tokens} tokens, the base model {vocabulary}: {remedy}")
    for name, shape in shapes.items():
        if _module(name) in _EMBEDDINGS and name.endswith(".weight") and shape[0] != vocabulary:
            raise PublishError(
                f"adapter_model.safetensors: {name} has {shape[0]} rows, the base {vocabulary}: {remedy}"
            )


def _check_model(folder: Path, tokens: int) -> None:
    config = read_json(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    found: dict[str, str] = {}
    for file in files:
        for name, tensor in _tensors(file):
            found[name] = file.name
            if _module(name) in _EMBEDDINGS and tensor.shape[0] < tokens:
                raise PublishError(
                    f"{file.name}: {name} has {tensor.shape[0]} rows, and the tokenizer {tokens} tokens; they are not "
                    "of one training, so restore both from one copy"
                )
    index = folder / "model.safetensors.index.json"
    if index.exists() and read_json(index).get("weight_map") != found:
        raise PublishError(f"{index.name}: names other weights than there are; restore all of them from one copy")
    if not isinstance(config, dict) or not config.get("model_type"):
        raise PublishError("config.json: says nothing of a model; restore it from a copy")
