"""What the installed trainer makes of a recipe: its arguments, its optimizer and its schedule, tried on a toy first.

A recipe's values are held to the trainer's names, types and choices when it is read. What only its own code knows (a
momentum above 1, an optimizer that wants another argument) is found here, before data or weights are read, and told
as one sentence about the key that it hangs on.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig
from pydantic import ValidationError
from transformers import get_scheduler
from trl import SFTConfig

from sft.errors import TrainingError, UserError
from sft.policies.precision import refuse_unless_quantisable
from sft.policies.weights import quiet_engine
from sft.recipes import Recipe, lora_arguments, training_arguments
from sft.runs.machine import default_device, not_built_for_gpu
from sft.runs.processes import sharing_rows_by_itself
from sft.training.trainer import CloningTrainer

Trained = TypeVar("Trained")

#: Optimizers whose states move between a GPU's memory and the machine's -> the same without.
_PAGED = {f"paged_{name}": name for name in ("adamw_8bit", "ademamix_8bit", "lion_32bit", "lion_8bit")}
_PAGED |= {"paged_adamw_32bit": "adamw_torch", "paged_ademamix_32bit": "ademamix"}


def arguments_for(recipe: Recipe, folder: Path, *, bf16: bool, validation: bool = True) -> SFTConfig:
    """The trainer's arguments, which write into ``folder``; see :func:`sft.recipes.training_arguments`.

    Raises ``TrainingError`` where the trainer refuses them.
    """

    def make(recipe: Recipe) -> SFTConfig:
        return SFTConfig(
            **training_arguments(recipe, bf16=bf16, validation=validation),
            output_dir=str(folder),
            disable_tqdm=True,
            use_cpu=default_device().type == "cpu",
        )

    return _tried("training", make, recipe)


def refuse_what_the_engine_refuses(recipe: Recipe) -> None:
    """Raise a ``UserError`` with one sentence where ``recipe`` cannot be fitted here; no data and no weights are read.

    For one process alone: the trainer's arguments start the processes' talk with each other.
    """
    if recipe.adapter.method == "qlora":
        refuse_unless_quantisable()
    optim = (recipe.training.model_extra or {}).get("optim")
    if optim in _PAGED and default_device().type == "cpu":
        raise TrainingError(
            f"training.optim: {optim} moves its states between a GPU's memory and the machine's, and there is no GPU "
            f"here; write {_PAGED[optim]}"
        )
    with tempfile.TemporaryDirectory(prefix="sft-toy-") as scratch, _as_it_was(), quiet_engine():
        arguments_for(recipe, Path(scratch), bf16=bool(recipe.training.bf16))
        _tried("adapter", lambda altered: LoraConfig(**(lora_arguments(altered) or {})), recipe)
        if not (recipe.training.model_extra or {}).get("optim_target_modules"):  # they are names of the real model
            _tried("training", lambda altered: _fit_a_toy(altered, Path(scratch)), recipe)


def built(kind: Callable[..., Trained], **parts: Any) -> Trained:
    """The trainer of ``kind`` from its ``parts``; raises ``TrainingError`` where these values do not make one."""
    try:
        with sharing_rows_by_itself():
            return kind(**parts)
    except (UserError, MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"training: the installed trainer cannot be built from these values ({type(error).__name__}: {reason}); "
            "correct the recipe's training section"
        ) from error


def _fit_a_toy(recipe: Recipe, folder: Path) -> None:
    """Two steps of the recipe's optimizer and schedule on one small matrix."""
    arguments = arguments_for(recipe, folder, bf16=False)
    torch.utils.data.DataLoader(  # starts no worker until it is read
        [0],  # type: ignore[arg-type]
        num_workers=arguments.dataloader_num_workers,
        persistent_workers=arguments.dataloader_persistent_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
    )
    toy = torch.nn.Sequential(torch.nn.Linear(64, 64)).to(default_device())
    kind, options = CloningTrainer.get_optimizer_cls_and_kwargs(arguments, toy)
    given = options.pop("model", None)
    optimizer = kind(list(toy.parameters()) if given is None else given, **options)
    schedule = get_scheduler(
        arguments.lr_scheduler_type, optimizer, arguments.get_warmup_steps(100), 100, arguments.lr_scheduler_kwargs
    )
    follows = str(recipe.training.lr_scheduler_type) in ("reduce_lr_on_plateau", "greedy")
    for _ in range(2):
        toy(torch.ones(1, 64, device=default_device())).sum().backward()
        optimizer.step()
        schedule.step(*([1.0] if follows else []))
        optimizer.zero_grad()


def _tried(section: str, attempt: Callable[[Recipe], Any], recipe: Recipe) -> Any:
    """``attempt(recipe)``, any refusal as a ``TrainingError`` about the key without which there is none."""
    try:
        return attempt(recipe)
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the trainer, peft and a dozen optimizers refuse with whatever comes to hand
        if not_built_for_gpu(error):
            raise
        key = next((key for key, altered in _without_one(section, recipe) if _passes(attempt, altered)), None)
        reason = " ".join(str(error).split())[:300]
        where = f"{section}.{key}" if key else section
        value = f" as {getattr(recipe, section).model_dump()[key]!r:.80}" if key else ""
        remedy = "correct it, or leave it out" if key else f"correct the recipe's {section} section"
        raise TrainingError(
            f"{where}: the installed trainer does not take it{value} ({type(error).__name__}: {reason}); {remedy}"
        ) from error


def _passes(attempt: Callable[[Recipe], Any], recipe: Recipe) -> bool:
    try:
        attempt(recipe)
    except Exception:
        return False
    return True


def _without_one(section: str, recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """The recipe without one of the keys it gives in ``section``, for each: forwarded ones first."""
    part = getattr(recipe, section)
    given = part.model_dump(exclude_unset=True)
    for key in sorted(given, key=lambda key: key not in (part.model_extra or {})):
        values = recipe.model_dump(exclude_unset=True)
        values[section] = {name: value for name, value in given.items() if name != key}
        try:
            yield key, Recipe.model_validate(values)
        except ValidationError:
            continue


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Inside, nothing is drawn from the global generator as far as those outside can tell, and nobody is warned."""
    debugged = torch.get_deterministic_debug_mode()
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_deterministic_debug_mode(debugged)
