"""Packages that a recipe needs beside what is always installed: looked for, not imported, when it is to be followed.

A run that is only opened (measured, reported, pushed) needs none of them, so they are asked for by the verbs that
fit, plan or check a recipe, and not by whoever loads one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sft.recipes.complaints import Complaint

if TYPE_CHECKING:
    from sft.recipes.fields import Recipe

__all__ = ["BITSANDBYTES", "Package", "complaints", "version_of"]


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
        if self.oldest and (found := version_of(self.modules[0])) and _numbers(found) < self.oldest:
            return f"{self.modules[0]} {found} is installed, older than {'.'.join(map(str, self.oldest))}"
        return ""


#: 4-bit bases, on a CPU too, and 8-bit optimizers, which need 0.50 for that.
BITSANDBYTES = Package(("bitsandbytes",), 'pip install "behavioral-cloning[qlora]"', (0, 46, 1))

_GALORE = Package(("galore_torch",), "pip install galore-torch")
_APOLLO = Package(("apollo_torch",), "pip install apollo-torch")
_TORCHAO = Package(("torchao",), "pip install torchao", (0, 4))

#: Beginning of an optimizer's name -> what it needs. The longest that fits counts.
_OPTIMIZERS = {
    "adamw_torch_xla": (Package(("torch_xla",), "pip install torch-xla"),),
    "adamw_torch_npu_fused": (Package(("torch_npu",), "pip install torch-npu"),),
    "adamw_torch_4bit": (_TORCHAO,),
    "adamw_torch_8bit": (_TORCHAO,),
    "adamw_anyprecision": (Package(("torchdistx",), "pip install git+https://github.com/pytorch/torchdistx"),),
    "ademamix": (BITSANDBYTES,),
    "adamw_bnb": (BITSANDBYTES,),
    "adamw_8bit": (BITSANDBYTES,),
    "lion": (BITSANDBYTES,),
    "paged": (BITSANDBYTES,),
    "rmsprop_bnb": (BITSANDBYTES,),
    "galore": (_GALORE,),
    "galore_adamw_8bit": (_GALORE, BITSANDBYTES),
    "grokadamw": (Package(("grokadamw",), "pip install grokadamw"),),
    "apollo": (_APOLLO,),
    "stable_adamw": (Package(("optimi",), "pip install torch-optimi"),),
}

_HOOKS = (
    "which changes weights inside the backward pass, where gradients are neither added up, clipped nor checked",
    "write adamw_torch",
)
#: Optimizers that are not offered, installed or not -> why, and what to write.
_NOT_OFFERED = {
    "schedule_free_radam": (
        "whose weights while it trains are not those it ends with, and the validation loss would be of the wrong ones",
        "write adamw_torch with lr_scheduler_type: constant_with_warmup",
    ),
    "lomo": _HOOKS,
    "adalomo": _HOOKS,
    "galore_adamw_layerwise": _HOOKS,
    "galore_adamw_8bit_layerwise": _HOOKS,
    "galore_adafactor_layerwise": _HOOKS,
    "apollo_adamw_layerwise": _HOOKS,
}
_NOT_OFFERED["schedule_free_adamw"] = _NOT_OFFERED["schedule_free_sgd"] = _NOT_OFFERED["schedule_free_radam"]

_MLFLOW = Package(("mlflow",), "pip install mlflow")
_TRACKERS = {
    "azure_ml": (Package(("azureml.core.run",), "pip install azureml-sdk"),),
    "comet_ml": (Package(("comet_ml",), "pip install comet-ml"),),
    "mlflow": (_MLFLOW,),
    "neptune": (Package(("neptune",), "pip install neptune"),),
    "tensorboard": (Package(("tensorboard", "tensorboardX"), "pip install tensorboard"),),
    "trackio": (Package(("trackio",), "pip install trackio"),),
    "wandb": (Package(("wandb.sdk",), "pip install wandb"),),
    "codecarbon": (Package(("codecarbon",), "pip install codecarbon"),),
    "clearml": (Package(("clearml",), "pip install clearml"),),
    "dagshub": (Package(("dagshub",), "pip install dagshub"), _MLFLOW),
    "flyte": (
        Package(("flytekit",), "pip install flytekit"),
        Package(("flytekitplugins.deck",), "pip install flytekitplugins-deck-standard"),
    ),
    "dvclive": (Package(("dvclive",), "pip install dvclive"),),
    "swanlab": (Package(("swanlab",), "pip install swanlab"),),
}


def complaints(recipe: Recipe) -> Iterator[Complaint]:
    """What ``recipe`` needs and this machine does not have, each with the command that installs it."""
    training, extra = recipe.training, recipe.training.model_extra or {}
    if recipe.adapter.method == "qlora":
        yield from _lacking(("adapter", "method"), "qlora", (BITSANDBYTES,), "write lora")
    optim = extra.get("optim")
    if optim in _NOT_OFFERED:
        why, instead = _NOT_OFFERED[optim]
        yield Complaint(("training", "optim"), f"is {optim}, {why}", instead)
    elif isinstance(optim, str):
        fitting = max((name for name in _OPTIMIZERS if optim.startswith(name)), key=len, default="")
        yield from _lacking(("training", "optim"), optim, _OPTIMIZERS.get(fitting, ()), "write adamw_torch")
    for name in (training.report_to,) if isinstance(training.report_to, str) else training.report_to:
        yield from _lacking(("training", "report_to"), name, _TRACKERS.get(name, ()), "write none")
        if name == "kubeflow" and not os.environ.get("KUBEFLOW_TRAINER_SERVER_URL"):
            yield Complaint(
                ("training", "report_to"),
                "is kubeflow, and this is no job of Kubeflow's trainer",
                "write none, or start it there, where KUBEFLOW_TRAINER_SERVER_URL is set",
            )


def version_of(distribution: str) -> str:
    """The installed version of a package; "" where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _lacking(loc: tuple[str, ...], value: str, packages: tuple[Package, ...], instead: str) -> Iterator[Complaint]:
    for package in packages:
        if why := package.missing():
            yield Complaint(loc, f"is {value}, and {why}", f"{package.install}, or {instead}")
            return


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the package that it is in is not there, or half of one
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())
